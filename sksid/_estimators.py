"""What each base estimator means: which parameter is tuned, how it scales, and what is refused."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_class_weight

from sksid._checks import check_size
from sksid._sklearn import LogisticRegression, SGDClassifier, validate_parameters


@dataclass(frozen=True)
class Target:
    """An estimator read as the lower level, Eq. (1).

    Attributes
    ----------
    parameter : str
        ``"C"`` (λ = 1/C, the loss a sum) or ``"alpha"`` (λ = alpha × number of training rows, the loss a mean).
    value : float
        Its value, from which the search starts.
    fit_intercept : bool
    class_weight : dict, ``"balanced"`` or None
    path : str
        Where a Pipeline has the estimator, such as ``"logisticregression"`` or ``"pipeline__logisticregression"``; empty
        where there is no Pipeline.
    """

    parameter: str
    value: float
    fit_intercept: bool
    class_weight: object
    path: str = ""

    @property
    def is_default(self) -> bool:
        """Whether the value is the one that scikit-learn sets, which says nothing about the data."""
        return self.value == (LogisticRegression().C if self.parameter == "C" else SGDClassifier().alpha)

    @property
    def full_name(self) -> str:
        """The parameter's name for ``set_params`` of the whole estimator."""
        return f"{self.path}__{self.parameter}" if self.path else self.parameter

    def log_penalty(self, n_train: float) -> float:
        """Log λ of the start, for so many training rows."""
        return -np.log(self.value) if self.parameter == "C" else np.log(self.value * n_train)

    def scaled(self, log_penalty: float, n_train: float) -> float:
        """A penalty as ``C`` or ``alpha``."""
        return float(np.exp(-log_penalty) if self.parameter == "C" else np.exp(log_penalty) / n_train)

    def parameters(self, log_penalties: NDArray[np.float64], n_train: float) -> dict[str, float]:
        """``{full_name: value}`` for ``set_params``: the geometric mean of the penalties, unpenalized features left out."""
        return {self.full_name: self.scaled(float(np.mean(log_penalties[np.isfinite(log_penalties)])), n_train)}

    def split_scales(self, n_trains: ArrayLike, n_train: float) -> NDArray[np.float64]:
        """What multiplies the weights of each split, so that one λ means the same parameter in all: (n_splits,).

        ``C`` weighs a sum and is the same λ for any number of rows. ``alpha`` weighs a mean: λ_k = alpha n_k is brought to
        the λ of the size n = ``n_train`` by weights n / n_k.
        """
        n_trains = np.asarray(n_trains, dtype=np.float64)
        return np.ones_like(n_trains) if self.parameter == "C" else n_train / n_trains

    def refit_scale(self, n_rows: int, n_train: float) -> float:
        """What the search's λ is multiplied by in a fit on all rows, at the same ``C`` or ``alpha``."""
        return 1.0 if self.parameter == "C" else n_rows / n_train

    def class_weights(self, y: NDArray, classes: NDArray, sample_weight: NDArray | None = None) -> NDArray[np.float64]:
        """The weight of each class in a fit on ``y``: (n_classes,)."""
        weights = np.ones(classes.size)
        if self.class_weight is None:
            return weights
        if self.parameter == "alpha":
            sample_weight = None  # SGDClassifier balances by counts, LogisticRegression by weighted counts
        here = np.ones(classes.size, dtype=bool)
        if isinstance(self.class_weight, str):  # it balances the classes that there are
            here = np.isin(classes, y if sample_weight is None else y[sample_weight > 0])
            rows = np.isin(y, classes[here])
            y, sample_weight = y[rows], None if sample_weight is None else sample_weight[rows]
        weights[here] = compute_class_weight(self.class_weight, classes=classes[here], y=y, sample_weight=sample_weight)
        if not (weights > 0).all():
            without = classes[~(weights > 0)].tolist()[0]
            raise ValueError(
                f"estimator: class_weight={self.class_weight!r} gives class {without!r} no positive weight. Set positive "
                "weights, or leave its rows out."
            )
        check_size(weights, "estimator: class_weight", "Set smaller weights.")
        return weights


def final_step(estimator: BaseEstimator) -> tuple[str, BaseEstimator]:
    """The last step of a Pipeline, nested or not, after its path; without a Pipeline ``""`` and the estimator itself."""
    path = []
    while isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        path.append(name)
    return "__".join(path), estimator


def read(estimator: BaseEstimator) -> Target:
    """The Target that an unfitted estimator, or a Pipeline that ends in one, stands for.

    Raises
    ------
    TypeError
        If that is not LogisticRegression or SGDClassifier, or overrides their ``fit`` or ``decision_function``.
    ValueError
        If one of its parameters is not valid, as scikit-learn checks it, or cannot be honored; the message names it.
    """
    path, final = final_step(estimator)
    if isinstance(final, LogisticRegression) and not isinstance(final, LogisticRegressionCV):
        return _read_logistic_regression(final, path)
    if isinstance(final, SGDClassifier):
        return _read_sgd_classifier(final, path)
    raise TypeError(
        f"estimator={final!r} has no penalty that HypergradientSearchCV can tune. Use LogisticRegression() or "
        "SGDClassifier(loss='log_loss', penalty='l2'), or a Pipeline that ends in one."
    )


def _refuse_overridden(estimator: BaseEstimator, base: type) -> None:
    for method in ("fit", "decision_function"):
        if getattr(type(estimator), method) is not getattr(base, method):
            raise TypeError(
                f"estimator: {type(estimator).__name__} has a {method} of its own, which the search would not call: it "
                f"tunes the model of {base.__name__}. Use {base.__name__}(), or a search that fits the estimator itself."
            )


def _has_no_start(value: Any) -> bool:
    """Whether C or alpha is a number that stands for no penalty or for an infinite one."""
    return isinstance(value, Real) and not 0 < float(value) < np.inf


def _read_logistic_regression(estimator: LogisticRegression, path: str) -> Target:
    _refuse_overridden(estimator, LogisticRegression)
    if estimator.penalty not in ("l2", "deprecated"):
        raise ValueError(f"estimator: penalty={estimator.penalty!r} is not the L2 penalty. Leave penalty out.")
    if estimator.l1_ratio not in (0, None):
        raise ValueError(f"estimator: l1_ratio={estimator.l1_ratio!r} is not the L2 penalty. Set l1_ratio=0.")
    if _has_no_start(estimator.C):
        raise ValueError(f"estimator: C={estimator.C!r} leaves no penalty to start from. Set a positive, finite C such as 1.0.")
    validate_parameters(estimator)
    if estimator.dual and estimator.solver != "liblinear":
        raise ValueError(f"estimator: solver={estimator.solver!r} does not support dual=True. Set dual=False.")
    if estimator.solver == "liblinear" and estimator.fit_intercept:
        raise ValueError(
            "estimator: solver='liblinear' penalizes the intercept, which the search does not. Set solver='lbfgs', or "
            "fit_intercept=False."
        )
    return Target("C", float(estimator.C), bool(estimator.fit_intercept), estimator.class_weight, path)


def _read_sgd_classifier(estimator: SGDClassifier, path: str) -> Target:
    _refuse_overridden(estimator, SGDClassifier)
    if estimator.loss != "log_loss":
        raise ValueError(f"estimator: loss={estimator.loss!r} is not logistic. Set loss='log_loss'.")
    if estimator.penalty != "l2":
        raise ValueError(f"estimator: penalty={estimator.penalty!r} is not the L2 penalty. Set penalty='l2'.")
    if _has_no_start(estimator.alpha):
        raise ValueError(f"estimator: alpha={estimator.alpha!r} leaves no penalty to start from. Set a positive, finite alpha.")
    validate_parameters(estimator)
    return Target("alpha", float(estimator.alpha), bool(estimator.fit_intercept), estimator.class_weight, path)


def check_classes(estimator: BaseEstimator, classes: NDArray) -> None:
    """Refuse a number of classes for which the estimator does not fit the model that is tuned.

    Raises
    ------
    ValueError
        For one class; for three or more with an estimator that fits one class against the rest, or two only.
    """
    if classes.size < 2:
        raise ValueError(
            f"y has {classes.size} class: a classifier can't train when only one class is present. Give labels of two "
            "classes or more."
        )
    if classes.size > 2 and isinstance(estimator, SGDClassifier):
        raise ValueError(
            f"Only binary classification is supported. estimator: SGDClassifier fits {classes.size} models, one class "
            "against the rest, and not the one model whose loss is tuned. Use LogisticRegression()."
        )
    if classes.size > 2 and estimator.solver == "liblinear":
        raise ValueError("estimator: solver='liblinear' takes two classes only. Set solver='lbfgs'.")


def build(
    estimator: BaseEstimator,
    parameters: dict[str, float],
    coef: NDArray[np.floating],
    intercept: NDArray[np.floating],
    classes: NDArray,
    n_iter: int,
    n_rows: int,
    feature_names: NDArray | None = None,
) -> BaseEstimator:
    """A plain fitted estimator with these coefficients, as its own ``fit`` would have left it.

    Parameters
    ----------
    estimator : LogisticRegression or SGDClassifier
        Cloned.
    parameters : dict
        Set on the clone.
    coef, intercept : ndarray of shape (n_outputs, n_features) and (n_outputs,)
        In the original feature space.
    classes : ndarray of shape (n_classes,)
    n_iter : int
        Passes over the data, for ``n_iter_``.
    n_rows : int
        Training rows, for SGDClassifier's ``t_``.
    feature_names : ndarray of shape (n_features,), default=None
    """
    fitted = clone(estimator).set_params(**parameters)
    fitted.classes_ = classes
    fitted.coef_ = np.ascontiguousarray(coef)
    fitted.intercept_ = np.ascontiguousarray(intercept)
    fitted.n_features_in_ = coef.shape[1]
    if feature_names is not None:
        fitted.feature_names_in_ = feature_names
    if isinstance(estimator, SGDClassifier):
        fitted.n_iter_ = int(n_iter)
        fitted.t_ = 1.0 + n_iter * n_rows
    else:
        fitted.n_iter_ = np.array([n_iter], dtype=np.int32)
    return fitted
