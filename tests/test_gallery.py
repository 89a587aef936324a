"""The gallery's pages: they run without a warning and draw something, and read well as cards and in a narrow column."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PAGES = sorted(EXAMPLES.glob("plot_*.py"))
OWN = [page for page in PAGES if "paper" not in page.name]  # the paper's take long, and test_paper_orderings.py has their point
CODE = """
import runpy, sys
import matplotlib.pyplot as plt
shown = []
plt.show = lambda: (shown.extend(plt.get_fignums()), plt.close("all"))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(len(shown), "figures")
"""

pytestmark = pytest.mark.skipif(not PAGES, reason="the examples are not beside the tests")


@pytest.mark.parametrize("page", OWN, ids=lambda page: page.stem)
def test_a_page_runs_without_a_warning_and_draws(page):
    for module in ("matplotlib", "pandas"):
        pytest.importorskip(module)
    environment = {**os.environ, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", CODE, str(page)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-2]) > 0
    assert [line for line in done.stdout.splitlines() if len(line) > 86] == []  # what a column of the site holds


def test_the_first_page_shows_its_numbers_without_matplotlib():
    code = "import runpy, sys; sys.modules['matplotlib'] = None; runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-c", code, str(EXAMPLES / "plot_quickstart.py")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert "CV loss" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_a_short_title_and_says_what_it_is_about(page):
    first, title, line, blank, *text = page.read_text(encoding="utf-8").splitlines()
    assert (first, set(line), len(line), blank) == ('"""', {"="}, len(title), "")
    assert len(title) <= 52
    assert len(" ".join(text[: text.index('"""')])) > 60


def test_every_page_stands_once_in_a_section_of_the_gallery():
    text = (EXAMPLES.parent / "docs" / "gallery.rst").read_text(encoding="utf-8")
    named = re.findall(r"^   \.\./examples/(\S+)$", text, flags=re.MULTILINE)
    assert sorted(named) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_needs_no_network(page):
    assert not re.search(r"\bfetch_|https?://", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_fits_into_a_column_of_the_site(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [f"{number}: {line}" for number, line in enumerate(lines, 1) if len(line) > 79] == []
