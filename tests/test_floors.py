"""The house's order: a module imports from lower floors only, and scikit-learn's private names live in one of them."""

import ast
import graphlib
import inspect
from pathlib import Path

import pytest

import sksid
from sksid import _sklearn

PACKAGE = Path(sksid.__file__).parent
MODULES = {
    ".".join(("sksid", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FLOORS = {
    "sksid._kernels": 0,
    "sksid.structures": 1,
    "sksid.losses": 1,
    "sksid.problem": 2,
    "sksid.bounds": 2.5,
    "sksid.solvers": 3,
    "sksid.sid": 4,
    "sksid.descent": 5,
    "sksid._sklearn": 6,
    "sksid._estimators": 6,
    "sksid._pipeline": 6,
    "sksid._data": 6,
    "sksid._report": 6,
    "sksid._selection": 6,
    "sksid._tasks": 6,
    "sksid._warm_start": 6,
    "sksid.callbacks": 6,
    "sksid._search": 6,
    "sksid._display": 7,
    "sksid": 8,
}
SHARED_FLOORS = {3, 6}  # rooms of the same floor may use each other, in one direction
PUBLIC_ENOUGH = {"sklearn.base._fit_context", "sklearn.utils._safe_indexing"}


def floor_of(module):
    """The floor of the longest known name that ``module`` begins with."""
    while module not in FLOORS:
        assert "." in module, f"{module} has no floor"
        module = module.rpartition(".")[0]
    return FLOORS[module]


def imports_of(path):
    """Full names of all that a file imports, also inside functions: ``a.b`` of ``from a import b``."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def module_of(name):
    """The sksid module that an imported name is, or stands in."""
    return name if name in MODULES or name.startswith("sksid._kernels") else name.rpartition(".")[0]


def own_imports(module):
    return {module_of(name) for name in imports_of(MODULES[module]) if name.split(".")[0] == "sksid"}


def test_every_module_has_a_floor_of_its_own():
    unknown = {module for module in MODULES if module != "sksid" and floor_of(module) == FLOORS["sksid"]}
    assert not unknown


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_lower_floors_only(module):
    floor = floor_of(module)
    allowed = floor + 1 if floor in SHARED_FLOORS else floor
    above = {name for name in own_imports(module) if floor_of(name) >= allowed}
    assert not above


def test_imports_have_no_cycle():
    graph = {module: own_imports(module) for module in MODULES}
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)


def test_private_names_of_scikit_learn_are_in_one_module():
    private = {
        (module, name)
        for module, path in MODULES.items()
        for name in imports_of(path)
        if name.startswith("sklearn.") and any(part.startswith("_") for part in name.split("."))
    }
    elsewhere = {(module, name) for module, name in private if module != "sksid._sklearn" and name not in PUBLIC_ENOUGH}
    assert not elsewhere


@pytest.mark.parametrize("name", _sklearn.PRIVATE_METHODS)
def test_the_private_methods_of_the_search_are_still_there(name):
    arguments = {
        "_get_scorers": ["self"],
        "_get_routed_params_for_fit": ["self", "params"],
        "_format_results": ["self", "candidate_params", "n_splits", "out", "more_results"],
        "_select_best_index": ["refit", "refit_metric", "results"],
        "_check_refit_for_multimetric": ["self", "scores"],
        "_init_callback_context": ["self", "task_name", "task_id", "max_subtasks", "sequential_subtasks"],
    }
    method = getattr(_sklearn.BaseSearchCV, name)
    assert list(inspect.signature(method).parameters) == arguments[name]


def test_the_private_functions_still_take_what_they_are_given():
    inspect.signature(_sklearn.check_method_params).bind("X", params={}, indices=None)
    inspect.signature(_sklearn.check_sample_weight).bind("weight", "X", dtype=float, ensure_non_negative=True)
    inspect.signature(_sklearn.validate_data).bind(
        "estimator", "X", "y", accept_sparse="csr", accept_large_sparse=True, dtype=[float], order="C"
    )
    assert hasattr(_sklearn.MultimetricScorer(scorers={"a": None}), "_scorers")


def test_lower_floors_know_nothing_of_the_search_estimators():
    for module in MODULES:
        if floor_of(module) < FLOORS["sksid._search"]:
            assert not [name for name in imports_of(MODULES[module]) if name.startswith("sklearn.model_selection")]
