"""The only module that touches scikit-learn's private names; a contract test watches them."""

from copy import copy
from inspect import signature
from types import SimpleNamespace
from typing import Any

from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics._scorer import _BaseScorer as BaseScorer
from sklearn.metrics._scorer import _MultimetricScorer as MultimetricScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_method_params as check_method_params
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import validate_data

# of BaseSearchCV, which the search calls or overrides
PRIVATE_METHODS = (
    "_get_scorers",
    "_get_routed_params_for_fit",
    "_format_results",
    "_select_best_index",
    "_check_refit_for_multimetric",
    "_init_callback_context",
)

__all__ = [
    "PRIVATE_METHODS",
    "BaseScorer",
    "BaseSearchCV",
    "HasMethods",
    "Interval",
    "LogisticRegression",
    "MultimetricScorer",
    "SGDClassifier",
    "StrOptions",
    "check_matplotlib_support",
    "check_method_params",
    "check_refit_for_multimetric",
    "check_sample_weight",
    "format_results",
    "select_best_index",
    "validate_data",
    "validate_parameters",
    "with_labels",
]

select_best_index = BaseSearchCV._select_best_index


def format_results(params: list[dict], n_splits: int, outcomes: list[dict], more: dict) -> dict:
    """``cv_results_`` of candidates, as GridSearchCV makes it: outcomes are those of each candidate's splits in turn."""
    return BaseSearchCV._format_results(SimpleNamespace(return_train_score=False), params, n_splits, outcomes, more)


def check_refit_for_multimetric(refit: Any, scores: dict) -> None:
    """Raise where ``refit`` names none of several scores and is no callable nor False."""
    BaseSearchCV._check_refit_for_multimetric(SimpleNamespace(refit=refit), scores)


def validate_parameters(estimator: LogisticRegression | SGDClassifier) -> None:
    """Validate an estimator's parameters as its own ``fit`` does at its beginning.

    Raises
    ------
    sklearn.utils._param_validation.InvalidParameterError
        Both a ValueError and a TypeError; it names the parameter.
    ValueError
        Where parameters of SGDClassifier do not go together.
    """
    estimator._validate_params()
    if isinstance(estimator, SGDClassifier):
        estimator._more_validate_params()


def with_labels(scorer: Any, classes: Any) -> Any:
    """A scorer whose scores of probabilities know all classes, where its rows may lack some; else as it is.

    As LogisticRegressionCV has it: without ``labels``, the log loss of such rows is an error.
    """
    if isinstance(scorer, MultimetricScorer):
        made = copy(scorer)
        made._scorers = {name: with_labels(one, classes) for name, one in scorer._scorers.items()}
        return made
    if not isinstance(scorer, BaseScorer) or scorer._response_method == "predict" or "labels" in scorer._kwargs:
        return scorer
    if "labels" not in signature(scorer._score_func).parameters:
        return scorer
    made = copy(scorer)
    made._kwargs = {**scorer._kwargs, "labels": classes}
    return made
