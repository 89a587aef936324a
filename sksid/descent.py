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

from sksid.optimizers import Momentum, Optimizer, default_optimizer
from sksid.sid import Result, solve
from sksid.solvers import NotFiniteError, Solver
from sksid.structures import Structure

LOG_RANGE = 18.0  # log penalties are tried this far below and above what the data's units make of them, Eq. (32)
GRADIENT_TOL = 10.0  # error of ∂F/∂θ that is allowed anyway, in units of tol × F: a last step of 0.2 changes F by tol × F
NEAR = 4.0  # an end is possible where a rough hypergradient promises less than so many times tol
CLOSER = 25  # epochs of a closer look at a possible end, where there are many rows
FOR_SIGN, LOOK = 2.0, 40  # from this slack on, where a sign is all that is asked for, so many epochs at most
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
        losses: NDArray,
        gradient: NDArray,
        since: tuple[float, float],
        rough: bool = False,
    ) -> Step:
        """The Step that ``state`` has reached; ``since`` is the time and the number of epochs at which the step began."""
        if not (np.isfinite(losses).all() and np.isfinite(gradient).all()):
            raise NotFiniteError(f"solver: {type(self.solver).__name__} gave a loss or a hypergradient that is not finite.")
        seconds, epochs = time.perf_counter() - since[0], state.n_epochs - since[1]
        scores = self.score(*self.solver.coefficients(self.problem, state)) if self.score else None
        return Step(structure, theta, log_penalties, losses, gradient, epochs, seconds, scores, rough)


def within_range(log_penalties: ArrayLike, log_range: tuple[float, float]) -> NDArray:
    """Log penalties clipped to the range; −∞, no penalty, stays as it is. Equal ones are a read-only view of one number."""
    clipped = np.clip(log_penalties, *log_range)
    clipped[np.isneginf(np.asarray(log_penalties, dtype=np.float64))] = -np.inf
    return compact(clipped)


def compact(values: NDArray) -> NDArray:
    """The same array, or if all its values are equal, a read-only view of one number: it takes no memory in a history."""
    same = values.size and (values == values.flat[0]).all()
    return np.broadcast_to(values.flat[0], values.shape) if same else values


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
        offset = compact(offset)
        while True:
            since, rough = (time.perf_counter(), state.n_epochs), optimizer.slack(memory) > 1.0
            here = within_range(offset + structure.change(theta), bilevel.log_range)
            state = bilevel.solver.rescale(bilevel.problem, state, here)
            state, losses, gradient = self._evaluate(bilevel, state, structure, optimizer, memory)
            reach = partial(_reach, structure)
            step, updated = optimizer.update(memory, theta, gradient, float(np.mean(losses)), reach)
            if self._is_done(optimizer, updated, step, gradient, losses, NEAR if rough else 1.0):
                # the state may not have moved to the new penalties yet, and show a gradient of zero: solve more accurately
                closer = self if bilevel.problem.n_rows < MANY_ROWS else replace(self, max_epochs=min(self.max_epochs, CLOSER))
                state, result = closer.solve(bilevel, state, structure, 0.1 * self.inner_tol, value_rtol=self.tol, warm=True)
                losses, gradient, rough = result.losses, structure.pull_back(result.log_gradient), False
                step, updated = optimizer.update(memory, theta, gradient, result.value, reach)
            memory = updated
            steps.append(bilevel.record(structure, theta, here, state, losses, gradient, since, rough))
            stopped = bool(on_step and on_step(steps[-1], state))
            done = self._is_done(optimizer, memory, step, gradient, losses)
            if stopped or done or len(steps) >= self.max_iter or self._is_stuck(steps):
                return state, steps
            limited = self._limit(bilevel, structure, step, here, 0.2 if optimizer.inexact else 1.0)
            if not (optimizer.inexact or np.any(limited)):
                return state, steps
            theta = theta + limited

    def solve(
        self, bilevel: Bilevel, state: Any, structure: Structure, rtol: float, value_rtol: float = np.inf, warm: bool = False
    ) -> tuple[Any, Result]:
        """``sid.solve`` with this descent's limits: the state, and a Result whose hypergradient is accurate to rtol."""
        return solve(
            bilevel.problem,
            bilevel.solver,
            state,
            rtol=rtol,
            value_tol=GRADIENT_TOL * self.tol,
            value_rtol=value_rtol,
            max_epochs=self.max_epochs,
            project=structure.pull_back,
            warm=warm,
        )

    def optimizer_for(self, structure: Structure, inexact: bool = False) -> Optimizer:
        """The optimizer that ``run`` takes for a structure."""
        if self.optimizer is not None:
            return self.optimizer
        return Momentum() if inexact else default_optimizer(structure, longest=self.max_change, tol=self.tol)

    def _evaluate(self, bilevel, state, structure, optimizer, memory):
        """The losses and ∂F/∂θ at the state's penalties, to the accuracy that the optimizer needs."""
        solver, problem = bilevel.solver, bilevel.problem
        if optimizer.inexact:
            state = solver.advance(problem, state, 0.5)
            return state, solver.losses(problem, state), structure.pull_back(solver.log_gradient(problem, state))
        slack = optimizer.slack(memory)
        look = replace(self, max_epochs=min(self.max_epochs, LOOK)) if slack >= FOR_SIGN else self
        state, result = look.solve(bilevel, state, structure, slack * self.inner_tol)
        return state, result.losses, structure.pull_back(result.log_gradient)

    def _is_done(self, optimizer, memory, step, gradient, losses, share=1.0):
        """Whether the optimizer expects no more than a relative decrease of ``share * tol``."""
        expected = 0.5 * abs(gradient @ step)
        return optimizer.may_end(memory) and expected <= share * self.tol * max(float(np.mean(losses)), 1e-2)

    def _is_stuck(self, steps):
        """Whether none of the last steps was better, by a tenth of ``tol``, than the best one before them."""
        if len(steps) <= self.n_iter_no_change:
            return False
        before = min(step.value for step in steps[: -self.n_iter_no_change])
        lately = min(step.value for step in steps[-self.n_iter_no_change :])
        return lately >= before * (1 - 0.1 * self.tol)

    def _limit(self, bilevel, structure, step, here, share):
        """The step, shortened so that no log λ_j changes more than allowed; zero if all of them would leave the range."""
        change, (low, high) = structure.change(step), bilevel.log_range
        longest, penalized = np.max(np.abs(change), initial=0.0), np.isfinite(here)
        here, change = here[penalized], change[penalized]
        outward = np.all((here + change < low) & (here <= low)) or np.all((here + change > high) & (here >= high))
        if outward or not np.isfinite(longest):
            return np.zeros_like(step)
        return step * min(1.0, share * self.max_change / longest) if longest > 0 else step


def _reach(structure, step):
    return np.max(np.abs(structure.change(step)), initial=0.0)
