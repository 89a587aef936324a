"""The method page: its equations keep their numbers, and what the code cites is there."""

import re
from pathlib import Path

import pytest

import sksid

ROOT = Path(sksid.__file__).parents[1]
PAGE = ROOT / "docs" / "method.rst"
SOURCES = (".py", ".pyx", ".pxd", ".h")
PLUMBING = {"_compiler.h", "_layout.h", "_precisions.h", "_variants.h", "_vectors.h"}  # headers without formulas

# in the order of their numbers, from 1: comments cite the numbers, so a new equation goes to the end or moves them all
EQUATIONS = """
    lower upper adjoint hypergradient structure primal-from-duals dual-step-two dual-step-many sherman-morrison
    adjoint-from-duals adjoint-dual-step validation-step intercept rescale gap newton cg sid-lower sid-linear map step-sizes
    lazy-decay momentum quasi-newton error theorem-4-1 theorem-4-2 theorem-4-3 theorem-3-4 corollary-4-1 moments range
    answer directions rotation descriptors evidence inner-splits judges gain theorem-3-1 theorem-3-2 theorem-3-3
    structure-constants scaled-rotation
""".split()

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="sksid is not imported from its repository")


def read(path):
    return path.read_text(encoding="utf-8")


def sources():
    return [path for path in sorted((ROOT / "sksid").rglob("*")) if path.suffix in SOURCES]


def cited(text):
    """The numbers that a text cites, as in "Eq. (7)", "Eqs. (7), (11) and (12)" and "Eqs. (18) to (20)", over line ends too."""
    text = re.sub(r"\s+(?:[*#]\s+)?", " ", text)
    lists = re.findall(r"\bEqs?\. ?(\(\d+\)(?:(?:,| and| or| to|-|–|, and) ?\(\d+\))*)", text)
    return [int(number) for group in lists for number in re.findall(r"\d+", group)]


def test_citations_are_found_in_their_forms():
    assert cited("Eq. (7); see Eqs. (8), (11) and\n * (12), not (3)") == [7, 8, 11, 12]
    assert cited("# by Eqs. (18)–(20)") == [18, 20]


def test_equations_keep_their_numbers():
    assert re.findall(r"^   :label: eq-(\S+)$", read(PAGE), flags=re.MULTILINE) == EQUATIONS


def test_what_the_code_cites_is_on_the_page():
    wrong = [(path.name, n) for path in sources() for n in cited(read(path)) if not 1 <= n <= len(EQUATIONS)]
    assert wrong == []


def test_every_kernel_header_with_formulas_cites_its_equations():
    headers = [path for path in sources() if path.suffix == ".h" and path.name not in PLUMBING]
    assert headers
    assert [path.name for path in headers if not cited(read(path))] == []


def test_every_equation_that_is_referred_to_on_the_page_is_there():
    assert set(re.findall(r":eq:`eq-([^`]+)`", read(PAGE))) <= set(EQUATIONS)


def test_nothing_refers_to_documents_that_a_clone_does_not_hold():
    below = [path for name in ("sksid", "tests", "docs", "examples", ".github") for path in (ROOT / name).rglob("*")]
    kinds, built = {*SOURCES, ".rst", ".md", ".toml", ".yml", ".yaml", ".cff", ".in"}, {"_build", "generated", "auto_examples"}
    written = [path for path in [*ROOT.iterdir(), *below] if path.suffix in kinds and not built & set(path.parts)]
    assert len(written) > 50
    assert [path.name for path in written if re.search(r"\b(method|paper|house|ecosystem)\.md\b", read(path))] == []
