"""The only module that touches scikit-learn's private names; a contract test watches them."""

from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_method_params, _check_sample_weight, validate_data

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
    "LogisticRegressionCV",
    "MultimetricScorer",
    "SGDClassifier",
    "StrOptions",
    "check_matplotlib_support",
    "check_method_params",
    "check_sample_weight",
    "validate_data",
]

BaseScorer = _BaseScorer
MultimetricScorer = _MultimetricScorer
check_method_params = _check_method_params
check_sample_weight = _check_sample_weight
