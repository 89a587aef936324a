"""The site: its code runs, its tables are complete, and it builds without a warning."""

import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import GridSearchCV

import sksid

DOCS = Path(sksid.__file__).parents[1] / "docs"
NEEDED = (
    *("sphinx", "sphinx_gallery", "numpydoc", "pydata_sphinx_theme", "sphinx_copybutton", "sphinx_design", "matplotlib"),
    *("sphinx-mathjax-offline", "sphinxcontrib.bibtex"),
)

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="sksid is not imported from its repository")


# ---- the code -----------------------------------------------------------------------------------------------------------


def pages():
    """What is written by hand, by its name below docs/."""
    made = ("auto_examples", "generated", "_build")
    found = (path.relative_to(DOCS) for path in sorted(DOCS.rglob("*.rst")))
    return {path.with_suffix("").as_posix(): DOCS / path for path in found if path.parts[0] not in made}


WITH_CODE = [name for name, path in pages().items() if ">>> " in path.read_text(encoding="utf-8")] if DOCS.exists() else []
CHAPTERS = """problem structures text tables genes pipelines weights watching solvers speed own_loop limits questions""".split()
WITHOUT_CODE = {"speed"}  # what its page says takes a cluster, or is measured


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs(page):
    result = doctest.testfile(str(pages()[page]), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > (50 if page == "contributing" else 8)
    assert not result.failed


def test_every_chapter_of_the_guide_has_code_that_runs():
    assert {f"guide/{chapter}" for chapter in CHAPTERS} | {"guide/index"} == {name for name in pages() if name[:6] == "guide/"}
    assert {f"guide/{chapter}" for chapter in set(CHAPTERS) - WITHOUT_CODE} <= set(WITH_CODE)
    assert {"index", "honest_scores", "contributing"} <= set(WITH_CODE)


def test_the_script_for_a_csv_runs_on_a_table_with_gaps_and_categories(tmp_path):
    """As it stands, but for what it says of its file."""
    pd = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    numbers = pd.DataFrame(random.normal(size=(300, 3)), columns=["age", "income", "debt"])
    numbers.loc[::17, "income"] = np.nan
    table = numbers.assign(
        town=random.choice(["Bonn", "Turin", None, "Oslo"], 300),
        plan=random.choice(["basic", "premium"], 300),
        target=np.where(numbers["age"] + random.normal(size=300) > 0, "stays", "leaves"),
    )
    table.to_csv(tmp_path / "my.csv", index=False)
    command = [sys.executable, "-W", "error", DOCS / "guide" / "own_csv.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "'pipeline'" in done.stdout and "'onehotencoder'" in done.stdout
    assert float(re.search(r"test accuracy: (\S+)", done.stdout)[1]) > 0.6


@pytest.mark.parametrize("door", ["structure", "optimizer", "penalty", "solver"])
def test_each_recipe_for_an_addition_is_short(door):
    page = (DOCS / "contributing.rst").read_text(encoding="utf-8")
    _, title, recipe = page.partition(f"\nAdd a{'n' if door[0] in 'aeiou' else ''} {door}\n")
    assert title
    code = re.findall(r">>> (?:class|def) .*\n(?:\s*\.\.\. .*\n)+", recipe)
    assert 0 < len(code[0].splitlines()) < 40


def test_what_the_page_of_honest_scores_says_was_measured():
    """Its prose and the stored numbers beside it."""
    path = DOCS.parent / "examples" / "benchmarks" / "results" / "honest_score.json"
    numbers = json.loads(path.read_text(encoding="utf-8"))["numbers"]
    rows = {(row["data"], row["search"]): row for row in numbers["rows"]}
    errors = {key: row["optimism"] / row["standard error"] for key, row in rows.items()}
    for data in ("four features matter", "coins"):  # what is too good to be true
        for search in ("moments, evidence", "per feature, CV score", "per feature, held-out rows"):
            assert errors[data, search] > 2
    assert all(errors["coins", search] > 2 for _, search in errors)
    for search in ("one penalty", "moments, evidence, cross-fitted", "per feature, cross-fitted", "auto"):
        assert abs(errors["four features matter", search]) < 2
    for search in ("moments, evidence, cross-fitted", "per feature, cross-fitted", "auto"):
        row = rows["four features matter", search]
        assert abs(row["optimism"]) < row["of one score"] / 5
    assert 1.2 < rows["coins", "auto"]["optimism"] / rows["coins", "one penalty"]["optimism"] < 1.4
    for data, sign in (("four features matter", 1), ("coins", -1)):
        assert sign * (rows[data, "moments, evidence, cross-fitted"]["fresh"] - rows[data, "moments, evidence"]["fresh"]) > 0
    free, crossed = numbers["course"].values()
    assert np.argmin(free["reported"]) == len(free["steps"]) - 1 > 2 * np.argmin(free["fresh"])
    assert abs(np.argmin(crossed["reported"]) - np.argmin(crossed["fresh"])) <= 1
    leaking = [row for row in numbers["leak"] if row["evidence of"] == "all rows"]
    assert (np.diff([row["reported"] for row in leaking]) < 0).all()
    assert min(row["fresh"] for row in leaking) > np.log(2)


# ---- the tables ---------------------------------------------------------------------------------------------------------


def table_below(page, title):
    """The rows of the list-table in the section of a title: the names in the first cell, and the text of the second."""
    lines = page.splitlines()
    (begin,) = [n for n, line in enumerate(lines) if title in line and set(lines[n + 1]) == {"-"}]
    ends = [n for n, line in enumerate(lines) if n > begin + 1 and re.fullmatch(r"[-=~]{3,}", line)]
    section = "\n".join(lines[begin + 2 : ends[0] - 1 if ends else len(lines)])
    rows = re.findall(r"^   \* - (.*)\n     - ((?:.*\n?(?!   \* ))*)", section, flags=re.MULTILINE)
    return [(re.findall(r"``(\w+)``", names), text.strip()) for names, text in rows]


@pytest.mark.parametrize("search", [GridSearchCV, LogisticRegressionCV])
def test_the_table_for_moving_has_every_parameter_in_a_row(search):
    rows = table_below((DOCS / "moving.rst").read_text(encoding="utf-8"), f".{search.__name__}`")
    named = [name for names, _ in rows for name in names]
    assert [name for name in inspect.signature(search).parameters if named.count(name) != 1] == []
    assert [names for names, text in rows if len(text) < 5] == []


@pytest.mark.parametrize("search", [GridSearchCV, LogisticRegressionCV])
def test_the_table_for_moving_has_no_name_that_is_unknown(search):
    rows = table_below((DOCS / "moving.rst").read_text(encoding="utf-8"), f".{search.__name__}`")
    known = (
        set(inspect.signature(search).parameters) | set(dir(search)) | set(re.findall(r"(?m)^ {4}(\w+_) : ", search.__doc__))
    )
    assert [name for names, _ in rows for name in names if name not in known] == []


def api():
    """What docs/api.rst lists, by the name there; None where there is nothing of that name."""
    found, module = {}, "sksid"
    for line in (DOCS / "api.rst").read_text(encoding="utf-8").splitlines() if DOCS.exists() else ():
        if line.startswith(".. currentmodule:: "):
            module = line.removeprefix(".. currentmodule:: ")
        elif re.fullmatch(r"   \w[\w.]*", line):
            home, _, name = f"{module}.{line.strip()}".rpartition(".")
            found[f"{home}.{name}"] = getattr(importlib.import_module(home), name, None)
    return found


def documented(value, section):
    """The names that a section of a numpydoc docstring describes."""
    lines = inspect.getdoc(value).splitlines()
    titles = [n for n, line in enumerate(lines[:-1]) if line and re.fullmatch(r"-{3,}", lines[n + 1])]
    for begin, end in pairwise([*titles, len(lines)]):
        if lines[begin] == section:
            heads = [line.partition(" : ")[0] for line in lines[begin + 2 : end] if line and not line.startswith(" ")]
            return {name.strip(" *") for head in heads for name in head.split(",")}
    return set()


def test_every_public_name_is_in_the_api():
    assert [name for name in sksid.__all__ if f"sksid.{name}" not in api()] == []


@pytest.mark.parametrize("name", api())
def test_every_parameter_is_in_its_own_section_of_the_docstring(name):
    value = api()[name]
    assert value is not None, "there is nothing of that name"
    if getattr(value, "_is_protocol", False) or (inspect.isclass(value) and issubclass(value, Exception)):
        pytest.skip("has no parameters of its own")
    parameters = [parameter for parameter in inspect.signature(value).parameters if not parameter.startswith("_")]
    described = documented(value, "Parameters")
    if dataclasses.is_dataclass(value):
        described |= documented(value, "Attributes")
    assert [parameter for parameter in parameters if parameter not in described] == []
    assert documented(value, "Parameters") <= set(parameters)


# ---- the site -----------------------------------------------------------------------------------------------------------


def findable(name):
    """Whether a module is installed; its package may not be, either."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_the_site_builds_without_a_warning(tmp_path):
    absent = [name for name in NEEDED if not findable(name)]
    if absent:
        pytest.skip(f"building the site needs {', '.join(absent)}: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-E", "-D", "plot_gallery=0", DOCS, tmp_path / "site"]
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    link = sksid.HypergradientSearchCV(None)._get_doc_link()
    assert (tmp_path / "site" / "generated" / link.rpartition("/")[2]).exists()
