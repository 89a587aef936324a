"""scikit-learn's own tests, read from the installed package and run on HypergradientSearchCV instead of its searches.

A module of tests is executed a second time, while names that it imports stand for others. Nothing is copied; what another
version tests is tested then.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FunctionType, ModuleType
from typing import Any
from unittest import mock

import pytest
from sklearn.linear_model import LogisticRegression

from sksid import HypergradientSearchCV


class Stand(LogisticRegression):
    """A LogisticRegression in place of whatever classifier; parameters that it has not are forgotten."""

    def __init__(self, C=1.0, foo_param=0, **forgotten):
        super().__init__(C=C, max_iter=10_000)
        self.foo_param = foo_param


class Consuming(Stand):
    """The same with a metadata request, in place of a classifier that notes what it gets."""

    __metadata_request__fit = {"metadata": None}

    def __init__(self, registry=None, C=1.0, **forgotten):
        super().__init__(C=C)
        self.registry = registry


class Search(HypergradientSearchCV):
    """A search of one penalty, called like scikit-learn's: there is no grid, and the default score is accuracy."""

    def __init__(
        self, estimator, param_grid=None, *, scoring=None, refit=True, cv=None, n_jobs=None, verbose=0, max_iter=10, **forgotten
    ):
        scoring = "accuracy" if scoring is None else scoring
        own = {"scoring": scoring, "refit": refit, "cv": cv, "n_jobs": n_jobs, "verbose": verbose, "max_iter": max_iter}
        super().__init__(estimator, structure="shared", random_state=0, **own)
        self.param_grid = param_grid


class RegressionSearch(Search):
    """The same, called like LogisticRegressionCV."""

    def __init__(self, Cs=10, *, fit_intercept=True, class_weight=None, cv=None, scoring=None, **forgotten):
        super().__init__(LogisticRegression(fit_intercept=fit_intercept, class_weight=class_weight), scoring=scoring, cv=cv)
        self.Cs, self.fit_intercept, self.class_weight = Cs, fit_intercept, class_weight

    @property
    def coef_(self):
        return self.best_estimator_.coef_

    @property
    def intercept_(self):
        return self.best_estimator_.intercept_

    @property
    def C_(self):
        return self.best_params_["C"]


def adapted(name: str, replaced: dict[str, object], **own: object) -> ModuleType:
    """The test module ``name``, executed with other objects under the names ``package.module.name`` of ``replaced``.

    ``own`` replaces names of the module itself, once it is executed.
    """
    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        importlib.import_module(name)  # and what it imports, before names are replaced
        for target, instead in replaced.items():
            stack.enter_context(mock.patch(target, instead))
        stack.enter_context(mock.patch.dict(sys.modules, {name: module}))
        spec.loader.exec_module(module)
    vars(module).update(own)
    return module


def those_of(module: ModuleType, about: Callable[[Any], bool] = lambda case: True) -> Iterator[tuple[str, FunctionType]]:
    """The module's tests by name; of those with parameters, the cases that ``about`` chooses."""
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue
        marks = [_chosen(mark, about) for mark in getattr(test, "pytestmark", [])]
        if None not in marks:
            test.pytestmark = marks
            yield name, test


def _chosen(mark, about):
    """A mark with those of its cases; None where none is left."""
    if mark.name != "parametrize":
        return mark
    names, cases = mark.args
    kept = [case for case in cases if about(case)]
    settings = {key: value for key, value in mark.kwargs.items() if key != "ids"}
    return pytest.mark.parametrize(names, kept, **settings).mark if kept else None
