"""Approximate implicit differentiation, deterministic: Newton for the lower level, then the adjoint system.

Both systems are solved by conjugate gradient (HOAG: Pedregosa, ICML 2016), Eqs. (16) and (17). Its preconditioner is a Cholesky
factor of the Hessian where that is small, kept over W and λ for as long as it serves; elsewhere the Hessian's diagonal.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from sksid._threads import single_blas_thread
from sksid.objective import log_gradient
from sksid.problem import TRAIN, VALIDATION, Problem
from sksid.solvers._contract import Progress, check_finite, is_count, is_positive, require

MAX_HALVINGS = 40
DENSE_FROM = 0.1  # share of non-zeros from which BLAS on all entries beats sparse products
SUFFICIENT_DECREASE = 1e-4
USUAL_NORMS = (0.1, 1e4)  # of rows; accuracies are taken in units of the norm where it lies outside


@dataclass
class AidState:
    """Where the deterministic solver stands.

    ``coef`` and ``adjoint`` are (n_splits, n_features + 1, n_outputs): the last row is the intercept, zero without one.
    ``objectives`` are, for each split, the objectives of its training and validation rows, with penalties of zero; ``factors``
    its latest Cholesky factor, or None; ``tol`` is the accuracy of the next solves. ``residuals`` are the largest entries of
    the lower levels' gradients per unit of weight; ``lower_residuals`` and ``adjoint_residuals`` are the residuals of the two
    systems relative to the penalties' terms in them; all three are (n_splits,). ``log_penalties`` are (n_features,), or
    (n_splits, n_features) where they differ by split. ``units``, (n_features + 1, 1), multiply gradients before they are
    compared with an accuracy.
    """

    coef: NDArray
    adjoint: NDArray
    losses: NDArray
    residuals: NDArray
    lower_residuals: NDArray
    adjoint_residuals: NDArray
    log_penalties: NDArray
    objectives: list
    factors: list
    tol: float
    units: NDArray
    n_epochs: float = 0.0

    def penalties(self, split):
        """λ_j of one split, and the intercept's zero, (n_features + 1, 1)."""
        logs = self.log_penalties if self.log_penalties.ndim == 1 else self.log_penalties[split]
        return np.append(np.exp(logs), 0.0)[:, None]


@dataclass(frozen=True)
class Aid:
    """The deterministic solver's settings.

    Parameters
    ----------
    max_direct : int, default=1000
        Unknowns (n_features + 1) × n_outputs up to which a Hessian is formed and factorized.
    tol : float, default=1e-8
        Accuracy of every solve: the largest entry of the lower level's gradient per unit of weight, and the relative
        residual of the adjoint system.
    first_tol, tightening : float, default=None and 0.3
        HOAG's decreasing accuracy: the first solve is to ``first_tol``, each further one ``tightening`` times as accurate, down
        to ``tol``. Summable, so that an outer descent converges (Pedregosa 2016, Theorem 2). None is ``tol`` throughout.
    max_newton : int, default=50
        Newton steps in one epoch at most.
    cg_max_iter : int, default=1000
        Longest run of conjugate gradient.
    refactor_after : int, default=12
        A factor is dropped after a solve that took more iterations of conjugate gradient than this.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid import hypergradient
    >>> from sksid.solvers import Aid
    >>> X, y = np.eye(6) + 1.0, np.array([0, 1, 0, 1, 0, 1])
    >>> splits = [(np.arange(4), np.arange(4, 6))]
    >>> hypergradient(X, y, splits, log_penalties=0.0, solver=Aid(tol=1e-12)).converged
    True
    """

    max_direct: int = 1000
    tol: float = 1e-8
    first_tol: float | None = None
    tightening: float = 0.3
    max_newton: int = 50
    cg_max_iter: int = 1000
    refactor_after: int = 12

    precise = True
    takes_unpenalized = True
    takes_any_objective = True

    def __post_init__(self):
        require(self, lambda x: is_count(x, least=0), "Set a whole number of unknowns; 0 forms no Hessian.", "max_direct")
        require(self, is_positive, "Set a positive number.", "tol")
        remedy = f"Set at least tol, {self.tol}, or None for tol throughout."
        require(self, lambda x: x is None or is_positive(x) and x >= self.tol, remedy, "first_tol")
        require(self, lambda x: is_positive(x) and x < 1, "Set a number between 0 and 1.", "tightening")
        require(self, is_count, "Set a whole number, at least 1.", "max_newton", "cg_max_iter", "refactor_after")

    @property
    def exact(self) -> bool:
        """Whether both solves have converged after one epoch: not with the decreasing accuracy of ``first_tol``."""
        return self.first_tol is None

    def init(self, problem: Problem, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> AidState:
        """W = 0, V = 0, or at ``start``. Nothing is random: ``seed`` has no effect."""
        sides = np.zeros((2, problem.n_splits, problem.n_features + 1, problem.n_outputs))
        for side, models in zip(sides, start or (), strict=False):
            side[:] = _stack_intercept(*models)
        roles = (TRAIN, VALIDATION) if problem.has_validation else (TRAIN,)
        return AidState(
            coef=sides[0],
            adjoint=sides[1],
            losses=np.full(problem.n_splits, np.nan),
            residuals=np.full(problem.n_splits, np.inf),
            lower_residuals=np.full(problem.n_splits, np.inf),
            adjoint_residuals=np.full(problem.n_splits, np.inf if problem.has_validation else 0.0),
            log_penalties=np.array(log_penalties, dtype=np.float64),
            objectives=[[problem.objective(k, role, DENSE_FROM) for role in roles] for k in range(problem.n_splits)],
            factors=[None] * problem.n_splits,
            tol=self.tol if self.first_tol is None else self.first_tol,
            units=_units(problem),
        )

    def advance(self, problem: Problem, state: AidState, n_epochs: float = 1.0) -> AidState:
        """Solve both systems of every split; any ``n_epochs`` is one epoch."""
        with single_blas_thread:
            for split in range(problem.n_splits):
                self._advance_split(state, split)
        state.n_epochs += 1.0
        state.tol = max(self.tol, self.tightening * state.tol)
        check_finite(state.coef, "aid")
        check_finite(state.adjoint, "aid")
        return state

    def _advance_split(self, state, split):
        train, *validation = state.objectives[split]
        lower = replace(train, penalties=state.penalties(split))
        W, point = self._descend(state, split, lower)
        state.coef[split] = W
        for upper in validation:
            seen = upper.at(W)
            state.losses[split] = upper.weights @ seen.losses
            right, V = upper.gradient(seen, W), state.adjoint[split]
            for rtol in state.tol * np.array([1.0, 1e-3, 1e-6]):
                V = self._solve(state, split, lower, point, W, right, V, rtol=rtol)
                left, beside = lower.hessian_product(point, W, V) - right, lower.penalty_curvature(W) * V
                state.adjoint_residuals[split] = _relative(*(state.units * part for part in (left, beside, right)))
                if state.adjoint_residuals[split] <= 10 * state.tol:
                    break
            state.adjoint[split] = V

    def _descend(self, state, split, lower):
        """Newton steps until the gradient is small per unit of weight and relative to the penalties' term, or is rounding."""
        W, total, best, stalls = state.coef[split], max(lower.weights.sum(), np.finfo(float).tiny), np.inf, 0
        for iteration in range(self.max_newton + 1):
            point = lower.at(W)
            gradient = lower.gradient(point, W)
            left, beside = state.units * gradient, state.units * lower.penalty.gradient(W, lower.penalties)
            residual = state.residuals[split] = np.abs(left).max(initial=0.0) / total
            state.lower_residuals[split] = _relative(left, beside, np.array([total]))
            stalls, best = (stalls + 1, best) if residual > 0.5 * best else (0, residual)
            solved = residual <= state.tol and (state.lower_residuals[split] <= 10 * state.tol or stalls > 2)
            if solved or iteration == self.max_newton:
                break
            step = self._solve(state, split, lower, point, W, -gradient, np.zeros_like(W), rtol=1e-3)
            W = _line_search(lower, point, W, step)
        return W, point

    def _solve(self, state, split, lower, point, W, right, start, rtol):
        """H x = right, from ``start``, to a residual of rtol × |right|, Eq. (17)."""
        if state.factors[split] is None and right.size <= self.max_direct:
            state.factors[split] = _factorize(lower, point, W)
        precondition = state.factors[split] or _diagonal_inverse(lower, point, W)
        iterations = []

        def multiply(x):
            return (units * lower.hessian_product(point, W, units * x.reshape(shape))).ravel()

        def divide(x):
            return (precondition(x.reshape(shape) / units) / units).ravel()

        size, shape, units = (right.size, right.size), right.shape, state.units
        product, inverse = LinearOperator(size, multiply, dtype=float), LinearOperator(size, divide, dtype=float)
        right, start = (units * right).ravel(), (start / units).ravel()
        settings = {"rtol": 0.0, "atol": rtol * np.linalg.norm(right), "maxiter": self.cg_max_iter, "M": inverse}
        x, _ = cg(product, right, start, callback=lambda _: iterations.append(1), **settings)
        if len(iterations) > self.refactor_after:
            state.factors[split] = None
        return units * x.reshape(shape)

    def rescale(self, problem: Problem, state: AidState, log_penalties: NDArray) -> AidState:
        """Keep W and V as the next start."""
        state.log_penalties = np.array(log_penalties, dtype=np.float64)
        return state

    def losses(self, problem: Problem, state: AidState, rows: Problem | None = None) -> NDArray:
        """The validation loss of each split at W, (n_splits,); of other rows, where given."""
        if rows is None:
            return state.losses.copy()
        uppers = [rows.objective(k, VALIDATION, DENSE_FROM) for k in range(rows.n_splits)]
        return np.array([upper.weights @ upper.at(state.coef[k]).losses for k, upper in enumerate(uppers)])

    def log_gradient(self, problem: Problem, state: AidState) -> NDArray:
        """∂F/∂log λ, Eq. (4): (n_features,), or (n_splits, n_features) where penalties differ by split."""
        W, V = state.coef[:, :-1], state.adjoint[:, :-1]
        if state.log_penalties.ndim == 1:
            return log_gradient(state.log_penalties, problem.penalty.inner(W, V), problem.n_splits)
        inner = np.array([problem.penalty.inner(W[k : k + 1], V[k : k + 1]) for k in range(problem.n_splits)])
        return log_gradient(state.log_penalties, inner, problem.n_splits)

    def progress(self, problem: Problem, state: AidState) -> Progress:
        """The largest entry of the lower levels' gradients, per unit of weight; and what is left of both systems."""
        return Progress(float(state.residuals.max()), float(np.max(state.lower_residuals + state.adjoint_residuals)))

    def coefficients(self, problem: Problem, state: AidState) -> tuple[NDArray, NDArray]:
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs)."""
        return _split_intercept(state.coef)

    def adjoint(self, problem: Problem, state: AidState) -> tuple[NDArray, NDArray]:
        """V and v in the same shapes."""
        return _split_intercept(state.adjoint)


def _relative(left, penalized, otherwise):
    """The largest entry of a residual, relative to that of the penalties' term; where that is zero, to ``otherwise``.

    The Hessian is at least Λ, so ‖δW‖ ≤ ‖residual‖/λ: this is the relative error of W in directions where only the penalties
    have curvature.
    """
    size = np.abs(penalized).max(initial=0.0) or np.abs(otherwise).max(initial=0.0)
    left = np.abs(left).max(initial=0.0)
    return left / size if size > 0 else (np.inf if left > 0 else 0.0)


def _units(problem):
    """1 / the norm of a row for features, where that is unusual, and 1 for the intercept."""
    units, norm = np.ones((problem.n_features + 1, 1)), float(np.sqrt(np.mean(problem.rows.squared_norms)))
    if not USUAL_NORMS[0] <= norm <= USUAL_NORMS[1] and 0.0 < norm < np.inf:
        units[:-1] = 1.0 / norm
    return units


def _stack_intercept(coef, intercept):
    return np.concatenate([np.transpose(coef, (0, 2, 1)), np.asarray(intercept)[:, None]], axis=1, dtype=np.float64)


def _split_intercept(stacked):
    return np.ascontiguousarray(stacked[:, :-1].transpose(0, 2, 1)), stacked[:, -1].copy()


def _diagonal_inverse(objective, point, W):
    """Division by the Hessian's diagonal."""
    diagonal = np.maximum(objective.hessian_diagonal(point, W), np.finfo(float).tiny ** 0.5)
    return lambda x: x / diagonal


def _factorize(objective, point, W):
    """Multiplication by the Hessian's inverse, by Cholesky; its rows and columns go output by output."""
    H = _lift_common_part(objective.hessian(point, W), objective, W)
    scale = 1.0 / np.sqrt(np.maximum(np.diag(H), np.finfo(float).tiny))
    scaled = H * scale[:, None] * scale
    scaled[np.diag_indices_from(scaled)] += 1e-12
    factor = cho_factor(scaled, overwrite_a=True, check_finite=False)

    def solve(x):
        y = scale * cho_solve(factor, scale * x.T.ravel(), check_finite=False)
        return y.reshape(x.T.shape).T

    return solve


def _lift_common_part(H, objective, W):
    """Give curvature to the directions that change nothing: one constant added to all outputs of a row without penalty."""
    K, m = objective.n_outputs, W.shape[0]
    own = np.broadcast_to(objective.penalty_curvature(W), W.shape)
    for row in np.flatnonzero((own == 0).all(axis=1)) if K > 1 else ():
        outputs = np.arange(row, K * m, m)
        lift = objective.weights.sum() / K**2 if row == m - 1 else H[outputs, outputs].mean()
        H[np.ix_(outputs, outputs)] += lift
    return H


def _line_search(objective, point, W, step):
    """W + t step with t halved until the objective has sufficiently decreased, Eq. (16)."""
    value, slope = objective.value(point, W), float((objective.gradient(point, W) * step).sum())
    along, t = objective.outputs(step), 1.0
    for _ in range(MAX_HALVINGS):
        trial = objective.value(objective.point(point.outputs + t * along), W + t * step)
        if trial <= value + SUFFICIENT_DECREASE * t * slope + 1e-12 * abs(value):
            return W + t * step
        t *= 0.5
    return W
