"""The site: its code runs, its tables are complete, and it builds without a warning."""

import doctest
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import GridSearchCV

import sksid
from sksid import callbacks

DOCS = Path(sksid.__file__).parents[1] / "docs"
NEEDED = ("sphinx", "sphinx_gallery", "numpydoc", "pydata_sphinx_theme", "sphinx_copybutton", "matplotlib")

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="sksid is not imported from its repository")


def test_the_user_guides_code_runs():
    result = doctest.testfile(str(DOCS / "user_guide.rst"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 30
    assert not result.failed


@pytest.mark.parametrize("search", [GridSearchCV, LogisticRegressionCV])
def test_the_table_for_moving_has_every_parameter(search):
    page = (DOCS / "moving.rst").read_text(encoding="utf-8")
    _, _, part = page.partition(f"From :sklearn:`{search.__module__.rpartition('._')[0].removeprefix('sklearn.')}.")
    missing = [name for name in inspect.signature(search).parameters if f"``{name}``" not in page]
    assert part
    assert not missing


def test_every_public_name_is_in_the_api():
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    names = [*sksid.__all__, "callbacks.TimeBudget"]
    assert [name for name in names if f"   {name}\n" not in page] == []
    assert [name for name, value in vars(callbacks).items() if inspect.isclass(value)] == ["TimeBudget"]


def test_the_site_builds_without_a_warning(tmp_path):
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"building the site needs {', '.join(absent)}: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-E", "-D", "plot_gallery=0", DOCS, tmp_path / "site"]
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    link = sksid.HypergradientSearchCV(None)._get_doc_link()
    assert (tmp_path / "site" / "generated" / link.rpartition("/")[2]).exists()
