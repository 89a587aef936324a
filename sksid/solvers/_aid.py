"""Approximate implicit differentiation, deterministic: Newton for the lower level, then the adjoint system, all splits at once.

Both systems are solved by preconditioned conjugate gradient (HOAG: Pedregosa, ICML 2016), Eqs. (16) and (17), as accurately as
it is asked for: one product of the rows serves all splits and outputs, one preconditioner all splits.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._threads import single_blas_thread
from sksid.objective import Objective, Point, log_gradient
from sksid.problem import TRAIN, VALIDATION, Problem
from sksid.solvers import _preconditioner as preconditioners
from sksid.solvers._conjugate import conjugate_gradient
from sksid.solvers._contract import Progress, check_finite, is_count, is_positive, require

SHARES = np.array([0.3, 1.0])  # of the first tolerance: W's and V's, which would have to follow where W still moves
MAX_HALVINGS = 40
SUFFICIENT_DECREASE = 1e-4
FORCING = (1e-4, 0.3)  # relative accuracy of a Newton step: the square of what the last one has left (Eisenstat and Walker)
EXTRAPOLATE = 1.0  # farthest, in units of the last change of log λ
CLOSE = 1e-3  # the relative error from which Newton's gradients fall unless they are rounding
AT_LEAST = 2  # iterations of the first solves at new penalties
IN_SINGLE = 100  # iterations in float32, before rounding may be what is in the way
REMEMBERED = 0.01  # the least eigenvalue that a preconditioner made anew is reckoned with
ROUNDING = 1e-14  # of a gradient, beside the penalties' part of it
EPS = np.finfo(float).eps


@dataclass
class AidState:
    """Where the deterministic solver stands.

    ``coef`` and ``adjoint`` are (n_splits, n_outputs, n_features + 1): the last entry is the intercept, zero without one;
    ``outputs``, (n_splits, n_outputs, n_rows), those of all rows at ``coef``. ``lower`` and ``upper`` are the objectives of
    training and validation rows, with penalties of zero. ``lower_errors`` and ``adjoint_errors``, (n_splits,), are the
    estimated errors of both solves in the norm of the Hessian; ``gradient`` is the lower levels' gradient. ``least`` are the
    smallest known eigenvalues of the preconditioned Hessians, ``spent`` what iterations have cost that a better preconditioner
    might have saved. ``tols`` are the accuracies of W and V in the next epoch, ``unit`` 1 / the norm of a row, by which
    gradients are multiplied where they are compared with rounding. ``before`` are the log penalties, W and V of the last
    solution but one. ``is_new`` tells that W and V are not those of these penalties yet: each is to move, however near it
    seems.
    """

    coef: NDArray
    adjoint: NDArray
    outputs: NDArray | None
    losses: NDArray
    gradient: NDArray
    lower_errors: NDArray
    adjoint_errors: NDArray
    log_penalties: NDArray
    lower: Objective
    upper: Objective
    costs: Any
    tols: NDArray
    unit: float
    least: NDArray
    spent: preconditioners.Spent = preconditioners.Spent()
    preconditioner: Any = None
    before: Any = None
    is_new: bool = True
    n_epochs: float = 0.0

    @property
    def penalties(self) -> NDArray:
        """λ_j, and the intercept's zero, (n_splits or 1, 1, n_features + 1)."""
        logs = np.atleast_2d(self.log_penalties)
        return np.column_stack([np.exp(logs), np.zeros(logs.shape[0])])[:, None]


@dataclass(frozen=True)
class Aid:
    """The deterministic solver's settings.

    Parameters
    ----------
    max_direct : int, default=3000
        Unknowns (n_features + 1) × n_outputs up to which whole Hessians may be formed; 0 forms no matrix at all.
    tol : float, default=1e-8
        The best accuracy of a solve: the error of W in the norm of the Hessian, relative to the penalties' part of it, and
        the same of V.
    first_tol, tightening : float, default=0.1 and 0.1
        HOAG's decreasing accuracy: the first epoch solves to ``first_tol``, or to what has sufficed at the last penalties, each
        further one ``tightening`` times as accurately, or as ``tighten`` says, down to ``tol`` (Pedregosa 2016, Theorem 2).
        None is ``tol`` at once.
    max_newton : int, default=50
        Newton steps in one epoch at most.
    cg_max_iter : int, default=1000
        Longest run of conjugate gradient.
    n_jobs : int, default=None
        Threads for products, as scikit-learn reads it; the results do not depend on it.

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

    max_direct: int = 3000
    tol: float = 1e-8
    first_tol: float | None = 0.1
    tightening: float = 0.1
    max_newton: int = 50
    cg_max_iter: int = 1000
    n_jobs: int | None = None

    threads_itself = True
    precise = True
    takes_unpenalized = True
    takes_any_objective = takes_split_penalties = True

    def __post_init__(self):
        require(self, lambda x: is_count(x, least=0), "Set a whole number of unknowns; 0 forms no Hessian.", "max_direct")
        require(self, is_positive, "Set a positive number.", "tol")
        remedy = f"Set at least tol, {self.tol}, or None for tol throughout."
        require(self, lambda x: x is None or is_positive(x) and x >= self.tol, remedy, "first_tol")
        require(self, lambda x: is_positive(x) and x < 1, "Set a number between 0 and 1.", "tightening")
        require(self, is_count, "Set a whole number, at least 1.", "max_newton", "cg_max_iter")
        jobs = "Set a whole number other than 0, or None."
        require(self, lambda x: x is None or is_count(x) or is_count(-x if isinstance(x, int) else x), jobs, "n_jobs")

    @property
    def _first(self):
        return np.full(2, self.tol) if self.first_tol is None else np.maximum(self.tol, self.first_tol * SHARES)

    def init(self, problem: Problem, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> AidState:
        """W = 0, V = 0, or at ``start``. Nothing is random: ``seed`` has no effect."""
        F, K = problem.n_splits, problem.n_outputs
        sides = np.zeros((2, F, K, problem.n_features + 1))
        for side, (coef, intercept) in zip(sides, start or (), strict=False):
            side[..., :-1], side[..., -1] = coef, intercept
        lower, held = problem.objective(TRAIN), problem.held
        if held is not None:
            mask = np.isfinite(held)
            sides[:, mask], lower = 0.0, replace(lower, held=mask)
            sides[0, mask, -1] = held[mask]
        costs = preconditioners.costs_of(lower, self.max_direct)
        return AidState(
            coef=sides[0],
            adjoint=sides[1],
            outputs=None,
            losses=np.full(F, np.nan),
            gradient=np.zeros_like(sides[0]),
            lower_errors=np.full(F, np.inf),
            adjoint_errors=np.zeros(F),
            log_penalties=np.array(log_penalties, dtype=np.float64),
            lower=lower,
            upper=problem.objective(VALIDATION),
            costs=costs,
            tols=self._first,
            unit=float(np.exp(-0.5 * problem.log_scale)),
            least=np.ones(F),
        )

    def advance(self, problem: Problem, state: AidState, n_epochs: float = 1.0) -> AidState:
        """Solve both systems of every split to the accuracy that is next; any ``n_epochs`` is one epoch."""
        with single_blas_thread, state.lower.products.threads(self.n_jobs) as products:
            lower = replace(state.lower, products=products, penalties=state.penalties)
            point = self._descend(state, lower)
            if problem.has_validation:
                self._adjoint(state, lower, replace(state.upper, products=products), point)
        state.n_epochs, state.is_new = state.n_epochs + 1.0, False
        check_finite(state.coef, "aid")
        check_finite(state.adjoint, "aid")
        return self.tighten(state, self.tightening, self.tightening)

    def tighten(self, state: AidState, lower: float, adjoint: float) -> AidState:
        """Ask the next epoch for these shares of the errors of W and of V; the first one at other penalties begins with V's."""
        reached = _relative_errors(state, _sizes(state)).max(axis=1)
        state.tols = np.clip(reached * (lower, adjoint), self.tol, self._first.max())
        return state

    def _descend(self, state, lower):
        """Newton steps, Eq. (16), until the error is small beside the penalties' part of the curvature, or is rounding."""
        if state.outputs is None:
            state.outputs = lower.outputs(state.coef)
        before = np.zeros(state.coef.shape[0])
        totals, stalls, idle, best = np.maximum(lower.weights.sum(axis=1), np.finfo(float).tiny), 0, 0, np.inf
        units = np.append(np.full(state.coef.shape[-1] - 1, state.unit), 1.0)
        for iteration in range(self.max_newton + 1):
            W, point = state.coef, lower.point(state.outputs)
            state.gradient = gradient = lower.gradient(point, W)
            residuals = np.abs(units * gradient).max(axis=(1, 2)) / totals
            residual = float(np.max(residuals))
            size, error = _slope_size(lower, W), self._error(state, lower, point, gradient)
            state.lower_errors = error
            close = (error <= CLOSE * size).all()
            stalls, best = (stalls + 1, best) if close and residual > 0.5 * best else (0, residual)
            penalized = np.abs(units * lower.penalty.gradient(W, lower.penalties)).max(axis=(1, 2)) / totals
            rounded = residual <= ROUNDING * (penalized.max() or 1.0)
            solved = (error <= state.tols[0] * size).all() and (iteration > 0 or not state.is_new)
            done = solved or rounded or stalls > 2 or idle > 1
            if done or iteration == self.max_newton:
                return point
            forcing = np.clip(np.square(np.divide(error, before, out=np.ones_like(error), where=before > 0)), *FORCING)
            tol, before = np.maximum(forcing * error, 0.3 * state.tols[0] * size), error
            left = residuals > ROUNDING * np.where(penalized > 0, penalized, 1.0)
            solved = self._solve(state, lower, point, np.where(left[:, None, None], -gradient, 0.0), np.zeros_like(W), tol)
            state.coef, state.outputs = _line_search(lower, state.outputs, W, solved.x, gradient)
            _start_over(state, np.isinf(solved.errors) & (residuals > EPS))  # below that, what looks so is rounding
            idle = idle + 1 if np.array_equal(state.coef, W) else 0

    def _adjoint(self, state, lower, upper, point):
        """V of the validation losses at W, Eq. (3), to an error that is small beside the penalties' part of the curvature."""
        W = state.coef
        state.losses = upper.losses(state.outputs)
        right = upper.gradient(point, W)
        for _ in range(3):
            # what V's norm will be is not known before: begin with that of the last one, and look again
            guess = state.adjoint if state.adjoint.any() else state.preconditioner.divide(right)
            tol = 0.5 * state.tols[1] * _size(lower, guess, W)
            solved = self._solve(state, lower, point, right, state.adjoint, tol)
            state.adjoint, state.adjoint_errors = solved.x, solved.errors
            if (solved.errors <= state.tols[1] * _size(lower, state.adjoint, W)).all():
                break

    def _error(self, state, lower, point, gradient):
        """The error of W in the norm of the Hessian, as its gradient and the preconditioner tell, (n_splits,)."""
        self._precondition(state, lower, point)
        rho = np.einsum("kcj,kcj->k", gradient, state.preconditioner.divide(gradient))
        return np.sqrt(np.maximum(rho, 0.0) / state.least)

    def _precondition(self, state, lower, point):
        before = state.preconditioner
        state.preconditioner, state.spent = preconditioners.improve(before, state.costs, lower, point, state.coef, state.spent)
        if before is None or state.preconditioner.kind != before.kind:
            state.least = np.ones_like(state.least)
        elif state.preconditioner is not before:  # few iterations see no small eigenvalue: keep what was seen, in bounds
            state.least = np.maximum(state.least, REMEMBERED)

    def _solve(self, state, lower, point, right, start, tol):
        W, costs = state.coef, state.costs
        self._precondition(state, lower, point)
        x, single = start, lower.in_single()
        stages = [(lower, point.predictions, self.cg_max_iter)] * 2
        if single is not lower:
            stages.insert(0, (single, point.predictions.astype(np.float32), min(IN_SINGLE, self.cg_max_iter)))
        for objective, P, max_iter in stages:
            left = right - lower.hessian_product(point, W, x) if x.any() else right
            multiply = objective.hessian_operator(Point(point.outputs, P), W)
            settings = {"max_iter": max_iter, "min_iter": AT_LEAST if state.is_new else 0}
            solved = conjugate_gradient(multiply, state.preconditioner.divide, left, tol, state.least, **settings)
            x = x + solved.x
            if not np.isfinite(solved.errors).all():
                state.preconditioner = preconditioners.build(preconditioners.DIAGONAL, lower, point, W)
            elif solved.n_iter < max_iter:
                break
        solved = replace(solved, x=x)
        state.least = np.minimum(np.minimum(1.3 * state.least, 1.0), solved.least)
        state.spent = state.spent.plus(max(0, solved.n_iter - preconditioners.USUAL) * costs.product)
        return solved

    def rescale(self, problem: Problem, state: AidState, log_penalties: NDArray) -> AidState:
        """The next start: W and V as they are, or on the line through the last two solutions, where log λ goes along a line."""
        log_penalties = np.array(log_penalties, dtype=np.float64)
        now = state.log_penalties, state.coef, state.adjoint
        if not np.array_equal(log_penalties, state.log_penalties):
            share = 0.0 if state.before is None else _share(log_penalties, now[0], state.before[0])
            if share:
                state.coef = now[1] + share * (now[1] - state.before[1])
                state.adjoint = now[2] + share * (now[2] - state.before[2])
                state.outputs = None
            state.before, state.is_new = now, True
            state.tols = np.clip(state.tols[1] * SHARES, self.tol, self._first)
        state.log_penalties = log_penalties
        return state

    def losses(self, problem: Problem, state: AidState, rows: Problem | None = None) -> NDArray:
        """The validation loss of each split at W, (n_splits,); of other rows, where given."""
        if rows is None:
            return state.losses.copy()
        upper = rows.objective(VALIDATION)
        return upper.losses(upper.outputs(state.coef))

    def log_gradient(self, problem: Problem, state: AidState) -> NDArray:
        """∂F/∂log λ, Eq. (4): (n_features,), or (n_splits, n_features) where penalties differ by split."""
        inner = problem.penalty.inner(state.coef[..., :-1], state.adjoint[..., :-1]).sum(axis=1)
        return log_gradient(
            state.log_penalties, inner if state.log_penalties.ndim == 2 else inner.sum(axis=0), problem.n_splits
        )

    def progress(self, problem: Problem, state: AidState) -> Progress:
        """What is off in the probabilities, root mean square, and the errors that both solves leave.

        By Cauchy and Schwarz, an error δV leaves ⟨ΛW, δV⟩ ≤ ‖W‖_Λ ‖δV‖_H in the hypergradient, since H ≥ Λ; δW likewise. F is
        off by ⟨V, ∇f⟩ and a square.
        """
        sizes = _sizes(state)
        errors = np.array([state.adjoint_errors, state.lower_errors])
        left = np.multiply(sizes, errors, out=np.zeros_like(sizes), where=sizes > 0).sum(axis=0)
        first_order = np.abs(np.einsum("kcj,kcj->k", state.adjoint, state.gradient))
        totals = np.maximum(state.lower.weights.sum(axis=1), np.finfo(float).tiny)
        return Progress(
            float(np.max(state.lower_errors / np.sqrt(totals))),
            relative_residual=float(_relative_errors(state, sizes).sum(axis=0).max()),
            gradient_error=float(left.mean()),
            value_error=float((first_order + state.lower_errors**2 / totals).mean()),
        )

    def coefficients(self, problem: Problem, state: AidState) -> tuple[NDArray, NDArray]:
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs)."""
        return state.coef[..., :-1].copy(), state.coef[..., -1].copy()

    def adjoint(self, problem: Problem, state: AidState) -> tuple[NDArray, NDArray]:
        """V and v in the same shapes."""
        return state.adjoint[..., :-1].copy(), state.adjoint[..., -1].copy()


def _start_over(state, splits):
    """Set W of these splits to 0, where every row has curvature, if they were so far out that Newton's system has none."""
    if splits.any():
        state.coef[splits], state.outputs[splits] = 0.0, 0.0
        state.preconditioner, state.least = None, np.ones_like(state.least)


def _sizes(state):
    """The penalties' norms of W and of V, (2, n_splits)."""
    lower = replace(state.lower, penalties=state.penalties)
    return np.array([_slope_size(lower, state.coef), _size(lower, state.adjoint, state.coef)])


def _relative_errors(state, sizes):
    """Of W and of V, (2, n_splits)."""
    errors = np.array([state.lower_errors, state.adjoint_errors])
    return np.divide(errors, sizes, out=np.where(errors > 0, np.inf, 0.0), where=sizes > 0)


def _size(lower, V, W):
    """‖V‖ in the penalties' part of the Hessian at W, of every split."""
    return np.sqrt((lower.penalty.curvature(W, lower.penalties) * V**2).sum(axis=(1, 2)))


def _slope_size(lower, W):
    """(Σ (λ r'(W))²/(λ r''(W)))^½ of every split: ‖W‖ in that part, where the penalty is quadratic."""
    slope = lower.penalty.gradient(W, lower.penalties)
    curvature = np.broadcast_to(lower.penalty.curvature(W, lower.penalties), W.shape)
    return np.sqrt(np.divide(slope**2, curvature, out=np.zeros_like(W), where=curvature > 0).sum(axis=(1, 2)))


def _share(new, now, before):
    """Where ``new`` lies on the line from ``before`` through ``now``, in units of their distance; 0 if it lies beside it."""
    with np.errstate(invalid="ignore"):  # of features without a penalty both are infinite
        ahead, behind = (np.where(np.isfinite(now), change, 0.0) for change in (new - now, now - before))
    along = np.sum(ahead * behind)
    if along == 0 or along**2 < 0.98 * np.sum(ahead**2) * np.sum(behind**2):
        return 0.0
    return float(np.clip(along / np.sum(behind**2), -EXTRAPOLATE, EXTRAPOLATE))


def _line_search(objective, outputs, W, step, gradient):
    """W + t step and its outputs, with t of each split halved until its objective has sufficiently decreased, Eq. (16)."""
    values, slopes = objective.values(outputs, W), np.einsum("kcj,kcj->k", gradient, step)
    along, t = objective.outputs(step), np.ones(W.shape[0])
    for _ in range(MAX_HALVINGS):
        scale = t[:, None, None]
        trial, new = outputs + scale * along, W + scale * step
        with np.errstate(over="ignore", invalid="ignore"):
            bad = ~(objective.values(trial, new) <= values + SUFFICIENT_DECREASE * t * slopes + 1e-12 * np.abs(values))
        if not bad.any():
            return new, trial
        t = np.where(bad, 0.5 * t, t)
    return W + np.where(bad, 0.0, t)[:, None, None] * step, outputs + np.where(bad, 0.0, t)[:, None, None] * along
