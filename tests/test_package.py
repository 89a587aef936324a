"""The package's face."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sksid

PYPROJECT = Path(sksid.__file__).parents[1] / "pyproject.toml"


def test_importing_sksid_imports_no_matplotlib_and_works_without_pandas():
    code = "import sys; sys.modules['pandas'] = None; import sksid; print(sksid.__version__, 'matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [sksid.__version__, "False"]


def test_version_is_that_of_pyproject():
    if not PYPROJECT.exists():
        pytest.skip("sksid is not imported from its repository")
    assert tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"] == sksid.__version__


def test_every_package_folder_and_extension_is_listed():
    if not PYPROJECT.exists():
        pytest.skip("sksid is not imported from its repository")
    root = PYPROJECT.parent
    setuptools = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {".".join(path.parent.relative_to(root).parts) for path in (root / "sksid").rglob("__init__.py")}
    assert set(setuptools["packages"]) == folders
    sources = {source for module in setuptools["ext-modules"] for source in module["sources"]}
    assert sources == {str(path.relative_to(root)) for path in (root / "sksid").rglob("*.pyx")}


def test_public_names_are_there_and_documented():
    assert {"HypergradientSearchCV", "hypergradient", "Hypergradient"} <= set(sksid.__all__)
    for name in sksid.__all__:
        assert getattr(sksid, name).__doc__


def test_public_modules_can_be_imported_first():
    code = """
import importlib, sys
for name in ("structures", "solvers", "descent", "sid", "bounds", "callbacks", "problem"):
    for module in [module for module in sys.modules if module.partition(".")[0] == "sksid"]:
        del sys.modules[module]
    importlib.import_module(f"sksid.{name}")
    print(name)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[-1] == "problem"
