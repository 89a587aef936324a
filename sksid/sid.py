"""SID: the value and the hypergradient of the cross-validated loss, by stochastic implicit differentiation.

The solvers advance both levels; here it is decided how far. (Grazzi, Pontil, Salzo, AISTATS 2021; method.md, section 2.)
"""

from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import column_or_1d

from sksid import solvers
from sksid.problem import make_problem
from sksid.structures import make_structure

# With fewer rows than this an epoch is cheap and its changes erratic: the tolerance must be met twice running, and the
# residuals be small.
MANY_ROWS = 5000

# The rate by which the hypergradient's changes shrink from epoch to epoch is trusted between these.
RATES = (0.1, 0.98)
FIRST_RATE = 0.7  # where there has been one change only

FARTHEST = 100.0  # a log penalty; products of penalties farther out overflow


@dataclass(frozen=True)
class Estimate:
    """What the two solves have come to at some log penalties.

    Attributes
    ----------
    losses : ndarray of shape (n_splits,)
        Weighted mean validation loss of each split.
    log_gradient : ndarray of shape (n_features,)
        ∂F/∂log λ of their mean.
    error : float
        Estimated error of the (projected) hypergradient in its largest entry.
    converged : bool
        Whether that error met the tolerance before the epochs ran out.
    n_epochs : float
        Spent on it.
    """

    losses: np.ndarray
    log_gradient: np.ndarray
    error: float
    converged: bool
    n_epochs: float

    @property
    def value(self):
        """F, the mean of the losses."""
        return float(np.mean(self.losses))


def solve(problem, solver, state, *, rtol, value_tol=0.0, value_rtol=np.inf, max_epochs=100, project=None, warm=False):
    """Advance both solves until the hypergradient stands still.

    Parameters
    ----------
    problem, solver, state
        As in sksid.solvers; the state is at the log penalties in question.
    rtol, value_tol : float
        Stop where the estimated error of the largest entry of ``project(∂F/∂log λ)`` is at most
        ``rtol * max|entry| + value_tol * F``.
    value_rtol : float, default=inf
        And where the relative change of F from epoch to epoch is at most this as well.
    max_epochs : float
        Stop here at the latest.
    project : callable, default=None
        ``Structure.pull_back``; the gradient itself without it.
    warm : bool, default=False
        Whether the state has spent its last epoch at these very penalties, so that the first change counts.

    Returns
    -------
    state, Estimate
    """
    project = project or (lambda gradient: gradient)
    before, value, changes, error, converged = None, None, [], np.inf, False
    if warm and not solver.exact:
        before, value = project(solver.log_gradient(problem, state)), np.mean(solver.losses(problem, state))
    met, start = 0, state.n_epochs
    while state.n_epochs - start < max_epochs and not converged:
        state = solver.advance(problem, state, 1.0)
        log_gradient = solver.log_gradient(problem, state)
        gradient, losses = project(log_gradient), solver.losses(problem, state)
        if solver.exact:
            return state, Estimate(losses, log_gradient, 0.0, True, state.n_epochs - start)
        if before is None and (parts := solver.recent_changes(problem, state)):
            error = _extrapolate([float(np.max(np.abs(project(part)), initial=0.0)) for part in parts])
        if before is not None:
            changes.append(float(np.max(np.abs(gradient - before), initial=0.0)))
            error = _extrapolate(changes)
            allowed = rtol * np.max(np.abs(gradient), initial=0.0) + value_tol * np.mean(losses)
            settled = abs(np.mean(losses) - value) <= value_rtol * np.mean(losses)
            few = problem.n_rows < MANY_ROWS
            settled = settled and (not few or solver.residual(problem, state) <= 0.01 * rtol)
            met = met + 1 if error <= allowed and settled else 0
            converged = met >= 1 + few
        before, value = gradient, np.mean(losses)
    return state, Estimate(losses, log_gradient, error, bool(converged), state.n_epochs - start)


def _extrapolate(changes):
    """What is left of a sequence whose changes shrink geometrically: change · rate / (1 − rate).

    The rate is that of the last two epochs, or of one where there are no more.
    """
    change = changes[-1]
    if change == 0.0:
        return 0.0
    if len(changes) == 1:
        rate = FIRST_RATE
    elif len(changes) == 2:
        rate = change / changes[-2] if changes[-2] else RATES[1]
    else:
        rate = np.sqrt(change / changes[-3]) if changes[-3] else RATES[1]
    rate = float(np.clip(rate, *RATES))
    return change * rate / (1.0 - rate)


@dataclass(frozen=True)
class Hypergradient:
    """What ``hypergradient`` returns.

    Attributes
    ----------
    value : float
        F(λ), the mean over splits of the weighted mean validation log loss.
    gradient : ndarray of shape (n_features,)
        ∂F/∂log λ_j.
    theta_gradient : ndarray of shape (n_params,)
        ∂F/∂θ = Aᵀ gradient, for log λ = A θ + offset; the same as ``gradient`` where no structure was given.
    losses : ndarray of shape (n_splits,)
        The validation loss of each split; ``value`` is their mean.
    coef, adjoint : ndarray of shape (n_splits, n_outputs, n_features)
        W_k and V_k of each split; ``n_outputs`` is 1 for two classes, else their number.
    intercept, adjoint_intercept : ndarray of shape (n_splits, n_outputs)
    error : float
        Estimated absolute error of the largest entry of ``theta_gradient``: from the changes of the last epochs, not a bound
        (for bounds see ``sksid.bounds``); 0 where the solver goes on to convergence by itself.
    converged : bool
        Whether ``error`` met the tolerance within ``max_epochs``.
    n_epochs : float
        Epochs spent.
    """

    value: float
    gradient: np.ndarray
    theta_gradient: np.ndarray
    losses: np.ndarray
    coef: np.ndarray
    adjoint: np.ndarray
    intercept: np.ndarray
    adjoint_intercept: np.ndarray
    error: float
    converged: bool
    n_epochs: float


def hypergradient(
    X,
    y,
    splits,
    log_penalties,
    *,
    structure=None,
    sample_weight=None,
    fit_intercept=True,
    solver="dual",
    tol=1e-4,
    max_epochs=500,
    dtype=np.float64,
    random_state=0,
):
    """Value and gradient of the cross-validated log loss with respect to the log penalties.

    For every split k, with s the sample weights,

        W_k, b_k = argmin  Σ_{train} s_i ℓ(y_i, x_iᵀW + b) + ½ Σ_j λ_j ‖W_j‖²
        F(λ) = mean over k of  Σ_{val} s_i ℓ(y_i, x_iᵀW_k + b_k) / Σ_{val} s_i
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
    log_penalties : float or array-like of shape (n_features,)
        log λ_j; a number stands for all features, −∞ for no penalty (not with ``Sgd``).
    structure : {"shared", "moments", "per_feature"}, array-like or Structure, default=None
        What θ is, as in HypergradientSearchCV: group labels of shape (n_features,), or a matrix A of shape (n_features,
        n_params). None is one θ for each feature.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights, in both levels.
    fit_intercept : bool, default=True
        Whether each output has an unpenalised intercept.
    solver : {"dual", "aid", "sgd"}, Dual, Aid or Sgd, default="dual"
        The solver, or its settings, such as ``Sgd(lower_epochs=15, adjoint_epochs=5)``.
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
        If the data are not finite, shapes do not agree, or a class has no training row in a split.
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
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    if sample_weight is not None:
        sample_weight = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, ensure_non_negative=True, input_name="sample_weight"
        )
        if sample_weight.shape != (X.shape[0],):
            raise ValueError(f"sample_weight has shape {sample_weight.shape}, but X has {X.shape[0]} rows. Give one for each.")
    classes, labels = np.unique(y, return_inverse=True)
    if classes.size < 2:
        raise ValueError("y has one class only. Give labels of two classes or more.")
    splits = as_indices(splits, labels.size)
    check_splits(splits, labels, classes, sample_weight)
    log_penalties = np.broadcast_to(np.asarray(log_penalties, dtype=np.float64), (X.shape[1],))
    if not (np.isneginf(log_penalties) | (np.abs(log_penalties) <= FARTHEST)).all():
        raise ValueError(
            f"log_penalties must be numbers between {-FARTHEST:g} and {FARTHEST:g}, or -inf for no penalty. Leave out "
            "a feature that is to weigh nothing."
        )
    if not tol >= 0:
        raise ValueError(f"tol is {tol!r}. Set a positive number, or 0 to spend all of max_epochs.")
    if not max_epochs > 0:
        raise ValueError(f"max_epochs is {max_epochs!r}. Set a positive number.")
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype is {dtype!r}. Set numpy.float64 or numpy.float32.")
    solver, project = _solver_of(solver), (lambda gradient: gradient)
    if structure is not None:
        project = make_structure(structure, X).pull_back
    problem = make_problem(
        X,
        labels,
        splits,
        n_classes=classes.size,
        sample_weight=sample_weight,
        fit_intercept=fit_intercept,
        dtype=dtype,
        seed=random_state,
    )
    state = solver.init(problem, log_penalties, seed=random_state)
    state, estimate = solve(problem, solver, state, rtol=tol, max_epochs=max_epochs, project=project)
    losses = solver.losses_on(problem, state, problem)
    coef, intercept = solver.coefficients(problem, state)
    adjoint, adjoint_intercept = solver.adjoint(problem, state)
    return Hypergradient(
        value=float(losses.mean()),
        gradient=estimate.log_gradient,
        theta_gradient=project(estimate.log_gradient),
        losses=losses,
        coef=coef,
        adjoint=adjoint,
        intercept=intercept,
        adjoint_intercept=adjoint_intercept,
        error=estimate.error,
        converged=estimate.converged,
        n_epochs=estimate.n_epochs,
    )


def as_indices(splits, n_rows):
    """The splits as pairs of arrays of row numbers; masks and numbers from the end are taken, too."""
    return [tuple(np.arange(n_rows)[np.asarray(rows)] for rows in split) for split in splits]


def _solver_of(solver):
    if isinstance(solver, str):
        if solver not in solvers.NAMES:
            raise ValueError(f"solver={solver!r} is none of {sorted(solvers.NAMES)}. Use one of these, or a solver's settings.")
        return solvers.NAMES[solver]()
    if not isinstance(solver, tuple(solvers.NAMES.values())):
        raise TypeError(f"solver={solver!r} is no solver. Use one of {sorted(solvers.NAMES)}, or Dual(), Aid() or Sgd().")
    if not getattr(solver, "with_adjoint", True):
        raise ValueError(f"solver={solver!r} has no adjoint, and so no hypergradient. Set with_adjoint=True.")
    return solver


def check_splits(splits, labels, classes, sample_weight=None):
    """Refuse splits with which a loss would not be defined: every class in training, some weight in validation.

    Raises
    ------
    ValueError
        Naming the split and the remedy.
    """
    weights = np.ones(labels.shape[0]) if sample_weight is None else sample_weight
    if not splits:
        raise ValueError("cv gave no split. Use a splitter with at least one split.")
    for k, (train, val) in enumerate(splits):
        mass = np.bincount(labels[train], weights=weights[train], minlength=classes.size)
        if not (mass > 0).all():
            missing = classes.tolist()[np.flatnonzero(~(mass > 0))[0]]
            raise ValueError(
                f"cv: split {k} has no training row of class {missing!r} with a positive sample_weight. Use a stratified "
                "splitter such as StratifiedKFold, fewer splits, or drop classes with too few rows."
            )
        if not weights[val].sum() > 0:
            raise ValueError(
                f"cv: split {k} has no validation row with a positive sample_weight. "
                "Use a splitter whose test sets are not empty."
            )
