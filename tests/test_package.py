"""The package's face, and what is shipped."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import sksid

PYPROJECT = Path(sksid.__file__).parents[1] / "pyproject.toml"
NOT_SHIPPED = (".ci/", ".git", ".pre-commit-config.yaml")


def test_importing_sksid_imports_no_matplotlib_and_works_without_pandas():
    code = "import sys; sys.modules['pandas'] = None; import sksid; print(sksid.__version__, 'matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [sksid.__version__, "False"]


def modules_after(code):
    """What a new process has imported after some code."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_names_are_imported_when_they_are_asked_for():
    own = {module for module in modules_after("import sksid; assert sksid.__version__") if module.startswith("sksid")}
    assert own == {"sksid"}
    searching = modules_after("from sksid import HypergradientSearchCV") - modules_after("import sklearn.linear_model")
    rarely = {"sksid._display", "sklearn.compose", "sklearn.feature_extraction", "sklearn.kernel_approximation"}
    assert "sksid._search" in searching
    assert not searching & rarely
    assert "sksid.structures" in modules_after("import sksid; sksid.structures")


def test_an_unknown_name_is_no_attribute():
    assert {"HypergradientSearchCV", "solvers"} <= set(dir(sksid))
    with pytest.raises(AttributeError, match="has no attribute 'GridSearchCV'"):
        sksid.GridSearchCV  # noqa: B018


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the files that the repository tracks, in which a build may leave what it likes."""
    if not PYPROJECT.exists() or shutil.which("git") is None:
        pytest.skip("sksid is not imported from its repository")
    listed = subprocess.run(["git", "ls-files"], cwd=PYPROJECT.parent, capture_output=True, text=True)
    if listed.returncode or "pyproject.toml" not in listed.stdout.split():
        pytest.skip("sksid is not imported from a clone")
    if importlib.util.find_spec("setuptools") is None or int(version("setuptools").partition(".")[0]) < 80:
        pytest.skip("building needs setuptools 80 or newer: pip install -e '.[test]'")
    copy = tmp_path_factory.mktemp("sources")
    for name in listed.stdout.splitlines():
        if (PYPROJECT.parent / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PYPROJECT.parent / name, copy / name)
    return copy


def tracked(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_sdist_holds_all_that_its_tests_and_its_build_need(sources):
    wanted = {name for name in tracked(sources) if not name.startswith(NOT_SHIPPED)}
    code = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=sources, capture_output=True, check=True)
    with tarfile.open(next((sources / "dist").glob("*.tar.gz"))) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    assert wanted - shipped == set()
    assert not [name for name in shipped if name.endswith((".so", ".pyc")) or name.startswith(NOT_SHIPPED)]


def test_a_wheel_holds_all_modules_and_the_mark_that_they_are_annotated(sources):
    wanted = {name for name in tracked(sources / "sksid") if name.endswith((".py", ".pyi", "py.typed"))}
    code = "import setuptools; setuptools.setup()"
    command = [sys.executable, "-c", code, "build_py", "--build-lib", "wheel"]
    subprocess.run(command, cwd=sources, capture_output=True, check=True)
    shipped = tracked(sources / "wheel" / "sksid")
    assert "py.typed" in shipped
    assert wanted - shipped == set()
    assert not [name for name in shipped if name.startswith("tests")]


def test_what_is_imported_is_among_the_dependencies():
    if not PYPROJECT.exists():
        pytest.skip("sksid is not imported from its repository")
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    allowed = {name.partition(">")[0].replace("scikit-learn", "sklearn") for name in project["dependencies"]}
    optional = {"dask", "distributed", "matplotlib", "pandas"}  # imported where they are asked for
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (PYPROJECT.parent / "sksid").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {node.module.partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert imported - allowed - optional - {"sksid"} - sys.stdlib_module_names == set()


def test_version_is_that_of_pyproject():
    if not PYPROJECT.exists():
        pytest.skip("sksid is not imported from its repository")
    assert tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"] == sksid.__version__
    citation = (PYPROJECT.parent / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {sksid.__version__}" in citation


def test_every_package_folder_and_extension_is_listed():
    if not PYPROJECT.exists():
        pytest.skip("sksid is not imported from its repository")
    root = PYPROJECT.parent
    setuptools = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {".".join(path.parent.relative_to(root).parts) for path in (root / "sksid").rglob("__init__.py")}
    assert set(setuptools["packages"]) == folders
    sources = {source for module in setuptools["ext-modules"] for source in module["sources"]}
    assert sources == {str(path.relative_to(root)) for path in (root / "sksid").rglob("*.pyx")}


def included_by(path, seen=()):
    """The headers that a kernel's source includes, directly or not."""
    text = path.read_text(encoding="utf-8")
    names = set(re.findall(r'"(\w+\.h)"', text))
    names |= {f"{name}.pxd" for name in re.findall(r"from sksid\._kernels\.(\w+) cimport", text)}
    here = {path.parent / name for name in names if (path.parent / name).exists()} - set(seen)
    return here.union(*(included_by(header, {*seen, *here}) for header in here))


def test_every_extension_is_compiled_again_after_an_edit_of_its_headers():
    if not PYPROJECT.exists():
        pytest.skip("sksid is not imported from its repository")
    root = PYPROJECT.parent
    for module in tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["setuptools"]["ext-modules"]:
        (source,) = module["sources"]
        included = {str(header.relative_to(root)) for header in included_by(root / source)}
        assert included == set(module["depends"]), module["name"]


def test_public_names_are_there_and_documented():
    assert {"HypergradientSearchCV", "hypergradient", "Hypergradient"} <= set(sksid.__all__)
    for name in sksid.__all__:
        assert getattr(sksid, name).__doc__


def test_public_modules_can_be_imported_first():
    code = """
import importlib, sys
for name in ("structures", "solvers", "optimizers", "descent", "stages", "sid", "bounds", "callbacks", "objective", "problem"):
    for module in [module for module in sys.modules if module.partition(".")[0] == "sksid"]:
        del sys.modules[module]
    importlib.import_module(f"sksid.{name}")
    print(name)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[-1] == "problem"
