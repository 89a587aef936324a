"""scikit-learn's private names, one test for each: where a new version has moved one, it is the one that is named.

This file imports nothing of sksid, which may not be importable then.
"""

import ast
import importlib
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import pytest

SOURCE = Path(find_spec("sksid").origin).with_name("_sklearn.py")
TREE = ast.parse(SOURCE.read_text(encoding="utf-8"))
IMPORTED = [
    (node.module, name.name)
    for node in ast.walk(TREE)
    if isinstance(node, ast.ImportFrom) and node.module.startswith("sklearn")
    for name in node.names
]
METHODS = {
    "_get_scorers": ["self"],
    "_get_routed_params_for_fit": ["self", "params"],
    "_format_results": ["self", "candidate_params", "n_splits", "out", "more_results"],
    "_select_best_index": ["refit", "refit_metric", "results"],
    "_check_refit_for_multimetric": ["self", "scores"],
    "_init_callback_context": ["self", "task_name", "task_id", "max_subtasks", "sequential_subtasks"],
}
CALLS = {
    "utils.validation._check_method_params": (["X"], ["params", "indices"]),
    "utils.validation._check_sample_weight": (["weight", "X"], ["dtype", "ensure_non_negative"]),
    "utils.validation.validate_data": (["estimator", "X", "y"], ["accept_sparse", "accept_large_sparse", "dtype", "order"]),
    "linear_model.LogisticRegression._validate_params": (["self"], []),
    "linear_model.SGDClassifier._validate_params": (["self"], []),
    "linear_model.SGDClassifier._more_validate_params": (["self"], []),
}


def found(path):
    """What stands at ``module.name`` or ``module.Class.name`` of scikit-learn."""
    head, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(f"sklearn.{head}"), name)
    except ModuleNotFoundError:
        return getattr(found(head), name)


@pytest.mark.parametrize(("module", "name"), IMPORTED, ids=[".".join(pair) for pair in IMPORTED])
def test_the_name_is_there(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", METHODS)
def test_the_method_of_the_search_is_there(name):
    assert list(signature(found(f"model_selection._search.BaseSearchCV.{name}")).parameters) == METHODS[name]


def test_the_list_of_methods_is_complete():
    (listed,) = [
        ast.literal_eval(node.value)
        for node in TREE.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "PRIVATE_METHODS"
    ]
    assert set(listed) == set(METHODS)


@pytest.mark.parametrize("path", CALLS)
def test_the_function_takes_what_it_is_given(path):
    positional, named = CALLS[path]
    signature(found(path)).bind(*positional, **dict.fromkeys(named))


@pytest.mark.parametrize("name", ["_score_func", "_kwargs", "_response_method"])
def test_a_scorer_has_the_attribute(name):
    assert hasattr(found("metrics.get_scorer")("neg_log_loss"), name)


def test_several_scorers_have_a_dict_of_them():
    assert found("metrics._scorer._MultimetricScorer")(scorers={"a": None})._scorers == {"a": None}
