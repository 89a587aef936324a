"""Numbers in prose are those of the stored results: the README's table and picture, the site's substitutions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sksid

ROOT = Path(sksid.__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="sksid is not imported from its repository")


@pytest.fixture(scope="module")
def measured():
    sys.path.insert(0, str(DOCS / "_ext"))
    import measured

    sys.path.pop(0)
    return measured


def test_the_readme_has_the_rows_of_the_stored_results(measured):
    text = README.read_text(encoding="utf-8")
    assert text.count("<!-- measured -->") == text.count("<!-- end -->") == 1
    assert measured.renewed(text) == text, "python docs/_ext/measured.py writes the table anew"
    assert measured.renewed(text.replace("| `everywhere.py` |", "| elsewhere |")) == text


def test_every_row_names_a_script_that_is_there(measured):
    scripts = {row[-1].strip("`") for row in measured.rows()}
    assert len(scripts) == len(measured.ROWS)
    assert [name for name in scripts if not (ROOT / "examples" / "benchmarks" / name).exists()] == []


def test_every_number_that_stands_for_a_result_is_used(measured):
    names = set(re.findall(r"\.\. \|([^|]+)\| replace::", measured.substitutions()))
    pages = "".join(page.read_text(encoding="utf-8") for page in [*DOCS.glob("*.rst"), *DOCS.glob("guide/*.rst")])
    assert {name for name in names if f"|{name}|" not in re.sub(r"\s+", " ", pages)} == set()


def test_the_landing_page_has_no_number_of_its_own_beside_what_was_measured(measured):
    """Its section of measurements: digits come from substitutions, but for the ten values and five folds."""
    page = (DOCS / "index.rst").read_text(encoding="utf-8")
    section = page.partition("\nMeasured\n")[2].partition("\nStart\n")[0]
    prose = re.sub(r"\|[^|]+\||``[^`]*``|5-fold|20 newsgroups", "", section.replace("\n", " "))
    assert re.findall(r"\d+", prose) == []


def test_the_picture_of_the_readme_and_that_of_the_site_are_of_the_stored_results(tmp_path):
    """A picture's description is a digest of the numbers that it was drawn of: ``tuners.py --draw`` draws it anew."""
    pytest.importorskip("matplotlib")
    kept, drawn = DOCS / "_static" / "tuners.svg", tmp_path / "tuners.svg"
    assert "](docs/_static/tuners.svg)" in README.read_text(encoding="utf-8")
    script = ROOT / "examples" / "benchmarks" / "tuners.py"
    subprocess.run([sys.executable, script, "--draw", drawn], check=True, capture_output=True)
    digests = [re.search(r"<dc:description>(\w{64})<", path.read_text(encoding="utf-8"))[1] for path in (kept, drawn)]
    assert digests[0] == digests[1]
