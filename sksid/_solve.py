"""How far a solver is driven: until its hypergradient, or a fit's outputs, stand still; and how the solve ended."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from sksid._warn import warn
from sksid.solvers import Solver, tighten

LATEST = 3  # changes that tell what is left
RATES = (0.5, 0.98)  # limits of the estimated rate at which changes shrink from epoch to epoch
FIRST_RATE = 0.7  # this rate where there has been one change only
MOVE_RATES = (0.5, 0.98)  # limits of the rate at which the moves of a fit's outputs shrink
NOISE, SECOND_NOISE = 0.6, 1.8  # error of a stochastic iteration, by its two estimates; after its second budget
FALLEN = 0.3  # where a bound has fallen to less than this share of the last one, the change tells what it was worth
UNKNOWN = 0.6  # an error's share of its bound, while a bound's worth is unknown
SAFE, LOOSE = 4.0, 0.05  # factor on the share that changes have told, for safety, and the least share
LEAST, MOST = 0.01, 30.0  # limits of the share of its errors that a solver may be asked to leave
LEAST_UNKNOWN = 0.1  # the least, while a bound's worth is unknown
SOLVED = 1e-7  # the relative error at which a deterministic solver has done what it can, whatever was asked
OF_ALL = 0.1  # of the error that is allowed in any row, that in the root mean square


@dataclass(frozen=True)
class Result:
    """The result of a solve at some log penalties.

    Attributes
    ----------
    losses : ndarray of shape (n_splits,)
        Weighted mean validation loss of each split.
    log_gradient : ndarray of shape (n_features,)
        ∂F/∂log λ of their mean.
    error : float
        Estimated error: of the (projected) hypergradient in its largest entry, or of a fit's outputs.
    reason : {"converged", "max_epochs", "stalled"}
        Why it has ended: the error met the tolerance, the epochs ran out, or a deterministic solver could get no further.
    n_epochs : float
        Spent on it.
    value_error : float, default=inf
        Estimated error of F.
    watch : default=None
        What another solve at the same penalties goes on with.
    """

    losses: NDArray
    log_gradient: NDArray
    error: float
    reason: str
    n_epochs: float
    value_error: float = np.inf
    watch: Any = field(default=None, repr=False)

    @property
    def value(self) -> float:
        """F, the mean of the losses."""
        return float(np.mean(self.losses))

    @property
    def converged(self) -> bool:
        """Whether the error met the tolerance."""
        return self.reason == "converged"

    def sentence(self, what: str) -> str:
        """How the solve ended, as a sentence that begins with ``what``, such as "The final fit"."""
        if self.converged:
            return f"{what} has converged in {self.n_epochs:.0f} epochs, to an estimated error of {self.error:.1g}."
        how = f"has not converged in {self.n_epochs:.0f} epochs" if self.reason == "max_epochs" else "got no further"
        return f"{what} {how}: its estimated error is {self.error:.1g}. Scale the features, or set another solver."


def warn_unless_converged(result: Result, what: str) -> None:
    """Raise a ConvergenceWarning if a solve ended before it met its tolerance.

    Parameters
    ----------
    result : Result
    what : str
        What was solved, the beginning of the sentence.

    Examples
    --------
    >>> import numpy as np
    >>> result = Result(np.array([0.3]), np.zeros(4), error=1e-9, reason="converged", n_epochs=12)
    >>> warn_unless_converged(result, "The final fit")
    >>> result.sentence("The final fit")
    'The final fit has converged in 12 epochs, to an estimated error of 1e-09.'
    """
    if not result.converged:
        warn(result.sentence(what), ConvergenceWarning)


def solve(
    problem: Any,
    solver: Solver,
    state: Any,
    *,
    rtol: float,
    value_tol: float = 0.0,
    value_rtol: float = np.inf,
    max_epochs: float = 100,
    project: Callable[[NDArray], NDArray] | None = None,
    warm: bool = False,
    after: Result | None = None,
) -> tuple[Any, Result]:
    """Advance both solves until the hypergradient stands still, Eq. (25).

    Parameters
    ----------
    problem, solver, state
        As in sksid.solvers; the state is at the log penalties in question.
    rtol, value_tol : float
        Stop where the estimated error of the largest entry of ``project(∂F/∂log λ)`` is at most
        ``rtol * max|entry| + value_tol * F``.
    value_rtol : float, default=inf
        And where the estimated relative error of F is at most this as well.
    max_epochs : float
        Stop here at the latest.
    project : callable, default=None
        ``Structure.pull_back``; the gradient itself without it.
    warm : bool, default=False
        Whether the state has spent its last epoch at these very penalties, so that the first change counts.
    after : Result, default=None
        Of the last solve, from which this one learns what the solver's bounds on its errors are worth. With ``warm``, this one
        goes on with it, and ends at once where a solver that tells its errors has met the tolerances already.

    Returns
    -------
    state, Result

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Dual
    >>> problem = make_problem(np.eye(8), np.arange(8) % 2, [(np.arange(4), np.arange(4, 8))], n_classes=2)
    >>> state = Dual().init(problem, np.zeros(8))
    >>> state, result = solve(problem, Dual(), state, rtol=1e-3)
    >>> result.reason
    'converged'
    """
    watch, reason, start = _Watch(problem, project or (lambda gradient: gradient), after), "max_epochs", state.n_epochs
    if warm and after is not None and after.watch is not None:
        watch = after.watch
        if watch.progress.tells_errors:
            if watch.is_near(rtol, value_tol, value_rtol):
                return state, replace(after, reason="converged", n_epochs=0.0)
            state = tighten(solver, state, *watch.missing(rtol, value_tol, value_rtol))
    elif warm:
        watch.begin(solver.log_gradient(problem, state), float(np.mean(solver.losses(problem, state))))
    while state.n_epochs - start < max_epochs:
        state = solver.advance(problem, state, 1.0)
        losses = solver.losses(problem, state)
        watch.look(solver.log_gradient(problem, state), float(np.mean(losses)), solver.progress(problem, state))
        if watch.progress.tells_errors:
            state = tighten(solver, state, *watch.missing(rtol, value_tol, value_rtol))
        if watch.is_near(rtol, value_tol, value_rtol):
            reason = "converged"
            break
        if watch.stalls():
            reason = "converged" if watch.residuals[-1] <= SOLVED else "stalled"
            break
    return state, Result(losses, watch.gradient, float(watch.error), reason, state.n_epochs - start, watch.value_error, watch)


class _Watch:
    """What is left to solve, by the solver's own estimates where it gives them, else by the changes from epoch to epoch.

    ``history`` has of each epoch the largest entry of the projected gradient's change, the norm of the whole one's, and the
    change of F; ``residuals`` the relative residual of the adjoint system; ``bounds`` the solver's bound on the error.
    """

    def __init__(self, problem, project, after):
        self.problem, self.project, self.gradient, self.value = problem, project, None, np.nan
        self.share = after.watch.share if after is not None and after.watch is not None else None
        self.history, self.residuals, self.bounds = [], [np.inf], []
        self.error = np.inf

    def begin(self, gradient, value):
        """What the first change is counted from."""
        self.gradient, self.value = np.array(gradient), value

    def look(self, gradient, value, progress):
        """Take note of an epoch, and estimate the error of the largest entry of the projected gradient: ``error``."""
        self.progress, self.size = progress, _largest(self.project(gradient))
        self.residuals.append(progress.accuracy)
        room = np.empty_like(gradient) if self.gradient is None else self.gradient  # one array for all that is as large
        if self.gradient is not None:
            change = np.subtract(gradient, self.gradient, out=room)
            self.history.append((_largest(self.project(change)), float(np.linalg.norm(change)), abs(value - self.value)))
        self._estimate(np.abs(gradient, out=room), progress)
        room[...], self.gradient, self.value = gradient, room, value

    def _estimate(self, parts, progress):
        """The error, from what there is of it, and the sizes of the gradient's entries."""
        if not parts.any():  # no feature weighs anything: what is left to solve, the intercept, is in F alone
            self.bounds.append(0.0)
            self.error = 0.0
        elif progress.tells_errors:
            self.bounds.append(progress.gradient_error * _largest(self.project(parts)) / parts.sum())
            self.share = _share_of_bounds(self.bounds, self.history, self.share)
            self.error = self.bounds[-1] * (UNKNOWN if self.share is None else np.clip(SAFE * self.share, LOOSE, 1.0))
        elif progress.changes:
            thirds = [_largest(self.project(part)) for part in progress.changes]
            bound = self.residuals[-1] * parts.sum()
            self.error = _left_of_noise([change for change, *_ in self.history], thirds, bound)
        else:
            rounding = np.finfo(self.problem.dtype).eps * _largest(self.project(parts))
            left = _left_of_changes(self.history, self.residuals, 0) if self.residuals[-1] < np.inf else np.inf
            self.error = max(left, rounding)

    def is_near(self, rtol, value_tol, value_rtol):
        """Whether the errors of gradient and F are known, and small enough."""
        allowed = rtol * self.size + value_tol * self.value
        if self.progress.tells_errors:
            return self.error <= allowed and self.value_error <= min(value_rtol, rtol) * self.value
        known = self.history and (self.progress.changes or self.residuals[-1] * self.residuals[-1] * self.size <= 4.0 * allowed)
        return bool(known) and self.error <= allowed and self.value_error <= value_rtol * self.value

    def missing(self, rtol, value_tol, value_rtol):
        """The shares of their errors that W and V may keep; above 1 where they have less than was asked for."""
        allowed, least = rtol * self.size + value_tol * self.value, LEAST_UNKNOWN if self.share is None else LEAST
        gradient = float(allowed / self.error) if MOST * self.error > allowed else MOST
        value = min(value_rtol, rtol) * self.value / max(self.value_error, np.finfo(float).tiny)
        adjoint = min(MOST, gradient) if gradient >= 1 else max(least, 0.5 * gradient)
        lower = adjoint if value >= 1 else max(least, 0.5 * min(value, gradient))
        return lower, adjoint

    @property
    def value_error(self):
        """The estimated error of F."""
        if self.progress.tells_errors:
            return self.progress.value_error
        return _left_of_changes(self.history, self.residuals, 2) if self.residuals[-1] < np.inf else np.inf

    def stalls(self):
        """Whether the solver's own bounds fall no more: what is left is rounding, or beyond it."""
        if not self.progress.tells_errors or len(self.bounds) < 3:
            return False
        lost = self.progress.value_error == np.inf or not np.isfinite(self.bounds[-3:]).any()
        return lost or self.bounds[-1] > 0.5 * self.bounds[-3]


def _share_of_bounds(bounds, history, known):
    """What bounds on the error are worth: the share of them that changes have shown to be real; ``known`` where none has.

    A bound by Cauchy and Schwarz may be hundreds of times too large. Where it has fallen, the change is what it was off before.
    """
    falls = zip(history[-len(bounds) + 1 :], bounds, bounds[1:], strict=False)
    shares = [change / before for (change, *_), before, after in falls if after < FALLEN * before]
    return max(shares) if shares else known


def _largest(values):
    return float(np.max(np.abs(values), initial=0.0))


def _left_of_changes(history, residuals, what):
    """The error of a sequence whose changes shrink geometrically: change · rate / (1 − rate), Eq. (25).

    A projection may stand still by chance, so its change counts as the largest of the last few, each as far shrunk as the
    norm of the whole gradient's change since; and the rate is that of this norm, or of the adjoint system's residual where
    that falls more slowly.

    Parameters
    ----------
    history : list of (float, float, float)
        Of each epoch, the largest entry of the projected gradient's change, the norm of the whole one's, the change of F.
    residuals : list of float
        The relative residual of the adjoint system after each epoch.
    what : {0, 2}
        Whether the error of the projected gradient is asked for, or that of F.
    """
    if not history:
        return np.inf
    latest = history[-LATEST:]
    norms = [norm for _, norm, _ in latest]
    if norms[-1] > 0.0:
        change = max(epoch[what] * (norms[-1] / norm) for epoch, norm in zip(latest, norms, strict=True) if norm > 0)
    else:  # no feature moves, but the intercept may, and F with it
        norms = [epoch[what] for epoch in latest]
        change = max(norms) if what else 0.0
    rates = [FIRST_RATE]
    if len(history) > 1:
        n = min(LATEST, len(history)) - 1
        rates = [(norms[-1] / norms[0]) ** (1 / n) if norms[0] else np.inf]
        if 0 < residuals[-3] < np.inf:
            rates.append(np.sqrt(residuals[-1] / residuals[-3]))
    rate = float(np.clip(max(rates), *RATES))
    return change * rate / (1.0 - rate)


def _left_of_noise(changes, parts, bound):
    """The error of a stochastic iteration: between what an error that falls like 1/t leaves, and a bound by the residuals.

    After n budgets, an error a/t is what the last has changed, times n − 1; what its last third has changed, times 3n − 1. But
    an iteration that hardly moves has no such changes, and the bound, ‖δW‖ ≤ ‖Λ⁻¹ residual‖ and the same for V, is a hundred
    times too large where it does. Their geometric mean, times 0.6, was less than a third of the error after none of 1,000
    budgets, the first two aside; after the second, when a solve may end by one change, it is times three.

    Parameters
    ----------
    changes : list of float
        From budget to budget.
    parts : list of two floats
        In the second and in the last third of the last budget.
    bound : float
        On the sum of the errors of all entries.
    """
    n, (before, last) = len(changes) + 1, ([0.0, 0.0] + changes)[-2:]
    thirds = 0.5 * ((3 * n - 2) * (n - 1 / 3) / n * parts[0] + (3 * n - 1) * parts[1])
    left = max(thirds, (n - 1) * last, (n - 1) * (n - 2) / n * before)
    return (SECOND_NOISE if n == 2 else NOISE) * float(np.sqrt(left * bound))


def fit(
    problem: Any,
    solver: Solver,
    log_penalties: NDArray,
    *,
    tol: float,
    max_epochs: float,
    start: Any = None,
    seed: int = 0,
    state: Any = None,
) -> tuple[Any, Result]:
    """One level only, for a problem without validation rows: a final fit, solved until its outputs stand still.

    Parameters
    ----------
    problem : Problem
    solver : Solver
    log_penalties : array-like of shape (n_features,) or (n_splits, n_features)
    tol : float
        What the outputs, or the residual where those are not known, may still be off.
    max_epochs : float
    start : ((coef, intercept),), default=None
        Arrays (n_splits, n_outputs, n_features) and (n_splits, n_outputs) to begin at.
    seed : int, default=0
    state : default=None
        Of an earlier fit of the same problem, from which this one goes on.

    Returns
    -------
    state, Result
        Losses and gradient are those of no rows: NaN and empty.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Dual
    >>> whole = make_problem(np.eye(8), np.arange(8) % 2, [(np.arange(8), np.arange(0))], n_classes=2)
    >>> state, result = fit(whole, Dual(), np.zeros(8), tol=1e-6, max_epochs=100)
    >>> Dual().coefficients(whole, state)[0].shape, result.converged
    ((1, 1, 8), True)
    """
    if state is None:
        state = solver.init(problem, log_penalties, seed=seed, start=start)
    else:
        state = solver.rescale(problem, state, log_penalties)
    moved, n_rounds, error, told, reason, before_it = np.inf, 0, np.inf, False, "max_epochs", state.n_epochs
    while reason == "max_epochs" and state.n_epochs - before_it < max_epochs:
        state = solver.advance(problem, state)
        progress, before, n_rounds = solver.progress(problem, state), moved, n_rounds + 1
        moved, last, told = progress.moved, error if told else np.inf, progress.tells_errors
        if np.isfinite(moved):
            rate = float(np.clip(moved / before if before > 0 else 0.0, *MOVE_RATES))
            error = moved * rate / (1.0 - rate)
        else:
            error = progress.residual
        if error <= (OF_ALL * tol if told else tol) and (told or n_rounds > 2):
            reason = "converged"
        elif told and error > 0.5 * last:
            reason = "converged" if error <= tol else "stalled"
    return state, Result(np.full(problem.n_splits, np.nan), np.empty(0), error, reason, state.n_epochs - before_it)
