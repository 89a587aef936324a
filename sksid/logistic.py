"""Logistic regression: value and hypergradient of the cross-validated loss, by stochastic implicit differentiation.

The solvers advance both levels; ``solve`` decides how far. (Grazzi, Pontil, Salzo, AISTATS 2021; Eqs. (3), (4) and (25).)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import column_or_1d

from sksid import solvers
from sksid._checks import check_size, encoded
from sksid._describe import FeatureRows
from sksid._features import Features, make_structure
from sksid._solve import Result, fit, solve, warn_unless_converged
from sksid._splits import as_indices, check_splits
from sksid.problem import make_problem
from sksid.structures import per_feature

__all__ = ["Hypergradient", "Result", "fit", "hypergradient", "solve", "warn_unless_converged"]

FARTHEST = 100.0  # a log penalty; products of penalties farther out overflow


@dataclass(frozen=True)
class Hypergradient:
    """What ``hypergradient`` returns.

    Attributes
    ----------
    value : float
        F(λ), the mean over splits of the weighted mean validation log loss.
    gradient : ndarray in the shape of the log penalties
        ∂F/∂log λ_j.
    theta_gradient : ndarray of shape (n_params,)
        ∂F/∂θ = Aᵀ gradient, for log λ = A θ + offset; the same as ``gradient`` where no structure was given.
    losses : ndarray of shape (n_splits,)
        The validation loss of each split; ``value`` is their mean.
    coef, adjoint : ndarray of shape (n_splits, n_outputs, n_features)
        W_k and V_k of each split; ``n_outputs`` is 1 for two classes, else their number.
    intercept, adjoint_intercept : ndarray of shape (n_splits, n_outputs)
    error : float
        Estimated absolute error of the largest entry of ``theta_gradient``: from the changes of the last epochs and what is
        left of the two systems, not a bound (for bounds see ``sksid.bounds``).
    converged : bool
        Whether ``error`` met the tolerance within ``max_epochs``; with ``Aid``, whether it has solved its systems.
    n_epochs : float
        Epochs spent.
    """

    value: float
    gradient: NDArray
    theta_gradient: NDArray
    losses: NDArray
    coef: NDArray
    adjoint: NDArray
    intercept: NDArray
    adjoint_intercept: NDArray
    error: float
    converged: bool
    n_epochs: float


def hypergradient(
    X: Any,
    y: ArrayLike,
    splits: Iterable,
    log_penalties: ArrayLike,
    *,
    structure: Any = None,
    sample_weight: ArrayLike | None = None,
    fit_intercept: bool = True,
    solver: Any = "dual",
    tol: float = 1e-4,
    max_epochs: float = 500,
    dtype: DTypeLike = np.float64,
    random_state: int = 0,
) -> Hypergradient:
    """Value and gradient of the cross-validated log loss with respect to the log penalties.

    For every split k, with s the sample weights,

        W_k, b_k = argmin  Σ_train s_i ℓ(y_i, x_iᵀW + b) + ½ Σ_j λ_j ‖W_j‖²
        F(λ) = mean over k of  Σ_val s_i ℓ(y_i, x_iᵀW_k + b_k) / Σ_val s_i
        H_k (V_k, v_k) = gradient of split k's validation loss in (W, b)
        ∂F/∂log λ_j = −λ_j · mean over k of ⟨W_kj, V_kj⟩

    so λ_j = 1/C_j in scikit-learn's terms: the lower level is a sum, the upper level a mean.

    Parameters
    ----------
    X : {array-like, sparse array} of shape (n_samples, n_features)
        Finite features.
    y : array-like of shape (n_samples,)
        Class labels, two classes or more.
    splits : iterable of (train, validation) index arrays
        What ``cv.split(X, y)`` yields.
    log_penalties : float or array-like of shape (n_features,) or (n_splits, n_features)
        log λ_j, of each split its own where they differ (not with ``Sgd``); a number stands for all features, −∞ for no
        penalty (not with ``Sgd``).
    structure : {"shared", "moments", "evidence", "per_feature"}, array-like, callable, list or Structure, default=None
        What θ is, as in HypergradientSearchCV: group labels of shape (n_features,), a matrix A of shape (n_features,
        n_params), or descriptors of the features, computed from each split's training rows. None is one θ for each feature.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights, in both levels.
    fit_intercept : bool, default=True
        Whether each output has an unpenalized intercept.
    solver : {"dual", "aid", "sgd"} or Solver, default="dual"
        The solver's name, its settings, such as ``Sgd(lower_epochs=15, adjoint_epochs=5)``, or one of your own that fulfills
        ``sksid.solvers.Solver``.
    tol : float, default=1e-4
        Accuracy asked of ∂F/∂θ, relative to its largest entry.
    max_epochs : int, default=500
        Epochs after which the solver stops even so. ``Sgd`` spends them in budgets of ``lower_epochs + adjoint_epochs``: with
        ``max_epochs`` of one budget this is the paper's Algorithm 1.
    dtype : {numpy.float64, numpy.float32}, default=numpy.float64
        Precision of the solver's state.
    random_state : int, default=0
        Seed of the order of visits.

    Returns
    -------
    Hypergradient
        Value, gradient, coefficients and adjoint, with an error estimate.

    Raises
    ------
    ValueError
        If the data are not finite, shapes do not agree, or the training rows of a split have fewer than two classes.
    NotFiniteError
        If the solver's state leaves the finite numbers.

    References
    ----------
    R. Grazzi, M. Pontil, S. Salzo, "Convergence Properties of Stochastic Hypergradients", AISTATS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import StratifiedKFold
    >>> from sklearn.preprocessing import scale
    >>> from sksid import hypergradient
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = scale(X)
    >>> result = hypergradient(X, y, StratifiedKFold(5).split(X, y), log_penalties=0.0)
    >>> result.gradient.shape, bool(result.converged)
    ((30,), True)
    """
    X = check_array(X, accept_sparse="csr", accept_large_sparse=True, dtype=[np.float64, np.float32])
    check_size(X, "X", "Scale the features.")
    labels, classes, weights = _check_rows(X, y, sample_weight)
    splits = as_indices(splits, labels.size)
    splits = check_splits(splits, labels, classes, weights, fit_intercept)
    logs = _check_log_penalties(log_penalties, len(splits), X.shape[1])
    _check_settings(tol, max_epochs, dtype)
    solver, theta = solvers.resolve(solver), _structure_of(structure, FeatureRows(X, None, weights, classes[labels]), splits)
    if theta.n_splits is not None:
        logs = np.broadcast_to(logs, (len(splits), X.shape[1]))
    roles = {"n_classes": classes.size, "sample_weight": weights, "fit_intercept": fit_intercept}
    problem = make_problem(X, labels, splits, dtype=dtype, seed=random_state, **roles)
    solvers.check_supported(solver, problem, logs)
    state = solver.init(problem, logs, seed=random_state)
    state, result = solve(problem, solver, state, rtol=tol, max_epochs=max_epochs, project=theta.pull_back)
    losses = solver.losses(problem, state, problem)
    (coef, intercept), (adjoint, adjoint_intercept) = solver.coefficients(problem, state), solver.adjoint(problem, state)
    return Hypergradient(
        value=float(losses.mean()),
        gradient=result.log_gradient,
        theta_gradient=theta.pull_back(result.log_gradient),
        losses=losses,
        coef=coef,
        adjoint=adjoint,
        intercept=intercept,
        adjoint_intercept=adjoint_intercept,
        error=result.error,
        converged=result.converged,
        n_epochs=result.n_epochs,
    )


def _check_rows(X, y, sample_weight):
    """Labels from 0, the classes, and weights as float64."""
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    if sample_weight is not None:
        settings = {"dtype": np.float64, "ensure_non_negative": True, "input_name": "sample_weight"}
        sample_weight = check_array(sample_weight, ensure_2d=False, **settings)
        if sample_weight.shape != (X.shape[0],):
            raise ValueError(f"sample_weight has shape {sample_weight.shape}, but X has {X.shape[0]} rows. Give one for each.")
        check_size(sample_weight, "sample_weight", "Divide the weights by their mean.")
    classes, labels = encoded(y)
    if classes.size < 2:
        raise ValueError("y has one class only. Give labels of two classes or more.")
    return labels, classes, sample_weight


def _check_log_penalties(given, n_splits, n_features):
    """Of each feature, (n_features,), or of each split and feature."""
    log_penalties = np.asarray(given, dtype=np.float64)
    shape = (n_splits, n_features) if log_penalties.ndim == 2 else (n_features,)
    log_penalties = np.broadcast_to(log_penalties, shape)
    if not (np.isneginf(log_penalties) | (np.abs(log_penalties) <= FARTHEST)).all():
        raise ValueError(
            f"log_penalties must be numbers between {-FARTHEST:g} and {FARTHEST:g}, or -inf for no penalty. Leave out "
            "a feature that is to weigh nothing."
        )
    return log_penalties


def _check_settings(tol, max_epochs, dtype):
    if not tol >= 0:
        raise ValueError(f"tol is {tol!r}. Set a positive number, or 0 to spend all of max_epochs.")
    if not max_epochs > 0:
        raise ValueError(f"max_epochs is {max_epochs!r}. Set a positive number.")
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype is {dtype!r}. Set numpy.float64 or numpy.float32.")


def _structure_of(given, rows, splits):
    """The map from θ to log λ; the identity where none is given."""
    features = Features([rows], rows.X.shape[1], splits=[(rows, train) for train, _ in splits])
    return per_feature(features.n_features) if given is None else make_structure(given, features)
