"""The upper level's descent on one structure: an optimizer on θ, limited in log λ, with stopping rules and a history.

Few hyperparameters are driven by converged hypergradients and a quasi-Newton model, many by half an epoch between steps. How
many steps of many hyperparameters are good for new rows is another question: see ``sksid.crossfit``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksid._compact import compact, elementwise, is_compact
from sksid.logistic import Result, solve
from sksid.optimizers import Momentum, Optimizer, default_optimizer
from sksid.solvers import NotFiniteError, Solver
from sksid.structures import Structure

LOG_RANGE = 18.0  # log penalties are tried this far below and above what the data's units make of them, Eq. (32)
GRADIENT_TOL = 10.0  # error of ∂F/∂θ that is allowed anyway, in units of tol × F: a last step of 0.2 changes F by tol × F
NEAR = 4.0  # an end is possible where a rough hypergradient promises less than so many times tol
CLOSER = 25  # epochs of a closer look at a possible end, where there are many rows
FOR_SIGN, LOOK = 2.0, 40  # from this slack on, where a sign is all that is asked for, so many epochs at most
MUCH_LARGER = 1.3  # than the least F of a scan, so that there is no better one beyond
MANY_ROWS = 5000  # from so many on an epoch is long enough for a rougher hypergradient to save time


@dataclass(frozen=True, eq=False)
class Step:
    """One outer step, as the history keeps it.

    Attributes
    ----------
    structure : Structure
        The structure of the stage.
    theta : ndarray of shape (n_params,)
    log_penalties : ndarray of shape (n_features,) or (n_splits, n_features)
    losses : ndarray of shape (n_splits,)
        Mean validation loss of each split.
    gradient : ndarray of shape (n_params,)
        ∂F/∂θ.
    n_epochs : float
        Spent on this step.
    seconds : float
    scores : list of n_splits scores, or None
        What ``Bilevel.score`` has made of the splits' models.
    rough : bool
        Whether it was solved only as far as its hypergradient had to be known: its loss may be off by more than ``tol``.
    is_nested : bool
        Whether the losses are those of cross-fitting: of each split under penalties found without its validation rows.
    error, value_error : float
        Estimated errors of the gradient's largest entry and of F.
    shares : ndarray of shape (n_splits, n_params), or None
        What each split adds to the gradient, where each has a matrix of its own.
    """

    structure: Structure
    theta: NDArray
    log_penalties: NDArray
    losses: NDArray
    gradient: NDArray
    n_epochs: float
    seconds: float
    scores: list | None = None
    rough: bool = False
    is_nested: bool = False
    error: float = np.inf
    value_error: float = np.inf
    shares: NDArray | None = None

    @property
    def value(self) -> float:
        """F, the mean validation loss."""
        return float(np.mean(self.losses))

    @property
    def final_log_penalties(self) -> NDArray:
        """Log penalties of a fit on all rows, (n_features,): ``log_penalties``, unless those differ by split."""
        if self.log_penalties.ndim == 1:
            return self.log_penalties
        offset = (self.log_penalties - self.structure.change(self.theta)).mean(axis=0)
        return offset + self.structure.for_refit.change(self.theta)


def best_of(steps: Sequence[Step]) -> int:
    """The index of the step with the least loss, of those that are not ``rough``, where there are any.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.structures import shared
    >>> rough, close = (
    ...     Step(shared(1), np.zeros(1), np.zeros(1), np.array([loss]), np.zeros(1), 1.0, 0.1, rough=rough)
    ...     for loss, rough in [(0.29, True), (0.3, False)]
    ... )
    >>> best_of([rough, close])
    1
    """
    judged = [i for i, step in enumerate(steps) if not step.rough] or range(len(steps))
    return min(judged, key=lambda i: steps[i].value)


OnStep = Callable[[Step, Any], bool | None]


@dataclass(frozen=True, eq=False)
class Bilevel:
    """The bilevel problem of a descent, and its solver.

    Attributes
    ----------
    problem : Problem or Joint
    solver : Solver
    score : callable, or None
        ``score(coef, intercept) -> list of n_splits scores``, called at every step with what the solver's ``coefficients``
        returns; None where losses are enough.
    """

    problem: Any
    solver: Solver
    score: Callable[[Any, Any], list] | None = None

    @cached_property
    def log_range(self) -> tuple[float, float]:
        """The smallest and the largest log penalty that are tried, Eq. (32).

        The largest goes with whole rows, the smallest with their typical entry, so that features of very different size each
        have the penalties that they may need. Features times c move both by log c², weights times c by log c.
        """
        rows = self.problem.log_scale
        entries = min(self.problem.log_entry_scale, rows)
        return (entries if np.isfinite(entries) else rows) - LOG_RANGE, rows + LOG_RANGE

    def record(
        self,
        structure: Structure,
        theta: NDArray,
        log_penalties: NDArray,
        state: Any,
        result: Result,
        since: tuple[float, float],
        rough: bool = False,
    ) -> Step:
        """The Step that a solve has reached; ``since`` is the time and the number of epochs at which the step began."""
        losses, gradient = result.losses, structure.pull_back(result.log_gradient)
        if not (np.isfinite(losses).all() and np.isfinite(gradient).all()):
            raise NotFiniteError(f"solver: {type(self.solver).__name__} gave a loss or a hypergradient that is not finite.")
        seconds, epochs = time.perf_counter() - since[0], state.n_epochs - since[1]
        scores = self.score(*self.solver.coefficients(self.problem, state)) if self.score else None
        errors, shares = (result.error, result.value_error), structure.shares(result.log_gradient)
        return Step(structure, theta, log_penalties, losses, gradient, epochs, seconds, scores, rough, False, *errors, shares)


def within_range(log_penalties: ArrayLike, log_range: tuple[float, float]) -> NDArray:
    """Log penalties clipped to the range; −∞, no penalty, stays as it is. Equal ones are a read-only view of one number."""

    def clipped(logs):
        return np.where(np.isneginf(logs), -np.inf, np.clip(logs, *log_range))

    return compact(elementwise(clipped, np.asarray(log_penalties, dtype=np.float64)))


@dataclass(frozen=True)
class Descent:
    """Settings of the descent on one structure.

    Parameters
    ----------
    max_iter : int, default=100
        Outer steps at most.
    tol : float, default=1e-4
        Stop where the optimizer expects less than this relative decrease of F (few hyperparameters).
    n_iter_no_change : int, default=10
        Stop after so many outer steps without a smaller loss.
    inner_tol : float, default=0.2
        Relative accuracy of a converged hypergradient.
    max_change : float, default=2.5
        Largest change of any log λ_j in one step; a fifth of it where gradients are inexact.
    max_epochs : int, default=100
        Epochs of the solver for one hypergradient.
    optimizer : Optimizer, default=None
        One of ``sksid.optimizers``, or an object of one's own with their methods. None is ``default_optimizer``.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.descent import Bilevel, Descent
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Aid
    >>> from sksid.structures import shared
    >>> X, y = np.random.RandomState(0).randn(90, 4), np.arange(90) % 2
    >>> X[:, 0] += y
    >>> problem = make_problem(X, y, [(np.arange(60), np.arange(60, 90))], n_classes=2, dtype=np.float64)
    >>> bilevel = Bilevel(problem, Aid())
    >>> state = bilevel.solver.init(problem, np.zeros(4))
    >>> state, steps = Descent().run(bilevel, state, shared(4), np.zeros(4))
    >>> steps[-1].value < steps[0].value
    True
    """

    max_iter: int = 100
    tol: float = 1e-4
    n_iter_no_change: int = 10
    inner_tol: float = 0.2
    max_change: float = 2.5
    max_epochs: int = 100
    optimizer: Optimizer | None = None

    def run(
        self,
        bilevel: Bilevel,
        state: Any,
        structure: Structure,
        log_penalties: NDArray,
        on_step: OnStep | None = None,
        inexact: bool = False,
    ) -> tuple[Any, list[Step]]:
        """Descend from ``log_penalties``.

        Parameters
        ----------
        bilevel : Bilevel
        state
            The solver's state.
        structure : Structure
        log_penalties : ndarray of shape (n_features,)
        on_step : callable, default=None
            Called with every Step and the solver's state; a true return value ends the descent.
        inexact : bool, default=False
            Whether few hyperparameters are driven like many, by half an epoch a step.

        Returns
        -------
        state
            As it stands at the last step.
        steps : list of Step
        """
        optimizer = self.optimizer_for(structure, inexact)
        memory, steps = optimizer.init(structure.n_params), []
        theta, offset = structure.start(log_penalties)
        offset, result = compact(offset), None
        while True:
            since, rough = (time.perf_counter(), state.n_epochs), optimizer.slack(memory) > 1.0
            here = within_range(elementwise(np.add, offset, _change(structure, theta)), bilevel.log_range)
            state = bilevel.solver.rescale(bilevel.problem, state, here)
            state, result = self._evaluate(bilevel, state, structure, optimizer, memory, result)
            step, updated = self._next(optimizer, memory, structure, theta, result)
            if self._is_done(optimizer, updated, structure, step, result, NEAR if rough else 1.0):
                # the state may not have moved to the new penalties yet, and show a gradient of zero: solve more accurately
                closer = self if bilevel.problem.n_rows < MANY_ROWS else replace(self, max_epochs=min(self.max_epochs, CLOSER))
                settings = {"value_rtol": self.tol, "warm": True, "after": result}
                state, result = closer.solve(bilevel, state, structure, 0.1 * self.inner_tol, **settings)
                step, updated = self._next(optimizer, memory, structure, theta, result)
                rough = False
            memory = updated
            steps.append(bilevel.record(structure, theta, here, state, result, since, rough))
            stopped = bool(on_step and on_step(steps[-1], state))
            done = self._is_done(optimizer, memory, structure, step, result)
            if stopped or done or len(steps) >= self.max_iter or self._is_stuck(steps):
                return state, steps
            limited = self._limit(bilevel, structure, step, here, 0.2 if optimizer.inexact else 1.0)
            if not (optimizer.inexact or np.any(limited)):
                return state, steps
            theta = theta + limited

    def scan(
        self, bilevel: Bilevel, state: Any, structure: Structure, levels: Sequence[NDArray], on_step: OnStep | None = None
    ) -> tuple[Any, list[Step]]:
        """Look at log penalties one after the other, not more exactly than it takes to find the valley that ``run`` starts in.

        It ends early where F is much larger than the least one twice in a row.

        Parameters
        ----------
        bilevel : Bilevel
        state
        structure : Structure
        levels : sequence of ndarray of shape (n_features,)
            From strong to weak, as each solve starts from the last one.
        on_step : callable, default=None
            As for ``run``.

        Returns
        -------
        state
            As it stands at the last level.
        steps : list of Step
        """
        steps: list[Step] = []
        result = None
        for level in levels:
            since = time.perf_counter(), state.n_epochs
            state = bilevel.solver.rescale(bilevel.problem, state, level)
            look = replace(self, max_epochs=min(self.max_epochs, LOOK))
            state, result = look.solve(bilevel, state, structure, FOR_SIGN * self.inner_tol, after=result)
            steps.append(bilevel.record(structure, structure.start(level)[0], level, state, result, since, rough=True))
            least = min(step.value for step in steps)
            if on_step and on_step(steps[-1], state) or all(step.value > MUCH_LARGER * least for step in steps[-2:]):
                break
        return state, steps

    def solve(
        self,
        bilevel: Bilevel,
        state: Any,
        structure: Structure,
        rtol: float,
        value_rtol: float = np.inf,
        warm: bool = False,
        after: Result | None = None,
        share: float = 1.0,
    ) -> tuple[Any, Result]:
        """``logistic.solve`` with this descent's limits: the state, and a Result whose hypergradient is accurate to rtol.

        ``share`` multiplies the error that is allowed anyway.
        """
        return solve(
            bilevel.problem,
            bilevel.solver,
            state,
            rtol=rtol,
            value_tol=share * GRADIENT_TOL * self.tol,
            value_rtol=value_rtol,
            max_epochs=self.max_epochs,
            project=structure.pull_back,
            warm=warm,
            after=after,
        )

    def is_solved(self, step: Step, rtol: float, value_rtol: float) -> bool:
        """Whether the solve of a step has met already what ``solve`` would be asked for."""
        allowed = rtol * np.max(np.abs(step.gradient), initial=0.0) + GRADIENT_TOL * self.tol * step.value
        return bool(step.error <= allowed and step.value_error <= value_rtol * step.value)

    def optimizer_for(self, structure: Structure, inexact: bool = False) -> Optimizer:
        """The optimizer that ``run`` takes for a structure."""
        if self.optimizer is not None:
            return self.optimizer
        return Momentum() if inexact else default_optimizer(structure, longest=self.max_change, tol=self.tol)

    def _evaluate(self, bilevel, state, structure, optimizer, memory, after):
        """The solve at the state's penalties, to the accuracy that the optimizer needs."""
        solver, problem = bilevel.solver, bilevel.problem
        if optimizer.inexact:
            state = solver.advance(problem, state, 0.5)
            losses, gradient = solver.losses(problem, state), solver.log_gradient(problem, state)
            return state, Result(losses, gradient, np.inf, "max_epochs", 0.5)
        slack = optimizer.slack(memory)
        look = replace(self, max_epochs=min(self.max_epochs, LOOK)) if slack >= FOR_SIGN else self
        return look.solve(bilevel, state, structure, slack * self.inner_tol, after=after, share=min(1.0, slack))

    @staticmethod
    def _next(optimizer, memory, structure, theta, result):
        """The optimizer's step, and what it then remembers."""
        gradient = structure.pull_back(result.log_gradient)
        return optimizer.update(memory, theta, gradient, result.value, partial(reach, structure))

    def _is_done(self, optimizer, memory, structure, step, result, share=1.0):
        """Whether the optimizer expects no more than a relative decrease of ``share * tol``."""
        if not optimizer.may_end(memory):
            return False
        expected = 0.5 * abs(structure.pull_back(result.log_gradient) @ step)
        return expected <= share * self.tol * max(result.value, 1e-2)

    def _is_stuck(self, steps):
        """Whether none of the last steps was better, by a tenth of ``tol``, than the best one before them."""
        if len(steps) <= self.n_iter_no_change:
            return False
        before = min(step.value for step in steps[: -self.n_iter_no_change])
        lately = min(step.value for step in steps[-self.n_iter_no_change :])
        return lately >= before * (1 - 0.1 * self.tol)

    def _limit(self, bilevel, structure, step, here, share):
        """The step, shortened so that no log λ_j changes more than allowed; zero if all of them would leave the range."""
        change, (low, high) = _change(structure, step), bilevel.log_range
        if is_compact(here) and is_compact(change):
            here, change = here.flat[:1], change.flat[:1]  # what holds for one feature holds for all
        longest, penalized = np.max(np.abs(change), initial=0.0), np.isfinite(here)
        here, change = here[penalized], change[penalized]
        outward = np.all((here + change < low) & (here <= low)) or np.all((here + change > high) & (here >= high))
        if outward or not np.isfinite(longest):
            return np.zeros_like(step)
        return step * min(1.0, share * self.max_change / longest) if longest > 0 else step


def _change(structure, step):
    return compact(structure.change(step))


def reach(structure: Structure, step: NDArray) -> float:
    """The largest change of any log λ_j that a step in θ makes."""
    return np.max(elementwise(np.abs, _change(structure, step)), initial=0.0)
