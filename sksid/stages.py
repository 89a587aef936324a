"""The continuation from the shared penalty to the structure that is asked for, stage by stage."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sksid._compact import compact
from sksid.descent import Bilevel, Descent, OnStep, Step, best_of
from sksid.structures import Structure


@dataclass(frozen=True, eq=False)
class Path:
    """The result of a continuation.

    Attributes
    ----------
    bilevel : Bilevel
        The problem and its solver.
    state
        The solver's state at the penalties that were tried last.
    steps : list of Step
        The history of all stages.
    best : int
        The best step.
    """

    bilevel: Bilevel
    state: Any
    steps: list[Step]
    best: int

    @property
    def chosen(self) -> Step:
        """The best step itself."""
        return self.steps[self.best]


def continuation(
    bilevel: Bilevel,
    state: Any,
    stages: Sequence[Structure],
    descent: Descent,
    on_step: OnStep | None = None,
    top: NDArray | None = None,
) -> Path:
    """Descend on each stage in turn, from the best step so far; a stage counts only if it makes the criterion better.

    At the end of a stage with inexact gradients its best step is solved once more, to convergence, and recorded as the
    stage's last step, so that a stage is judged by converged losses.

    Parameters
    ----------
    bilevel : Bilevel
    state
        The solver's state at the log penalties to start from.
    stages : sequence of Structure
        From the coarsest to the one that was asked for.
    descent : Descent
    on_step : callable, default=None
        Called with every Step and the solver's state at it; a true return value ends the continuation.
    top : ndarray of shape (n_features,), default=None
        Log penalties from which the last stage starts, where they are not those of the best step before it.

    Returns
    -------
    Path

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.descent import Bilevel, Descent
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Aid
    >>> from sksid.stages import continuation
    >>> from sksid.structures import per_feature, shared
    >>> X, y = np.random.RandomState(0).randn(90, 8), np.arange(90) % 2
    >>> X[:, 0] += y
    >>> problem = make_problem(X, y, [(np.arange(60), np.arange(60, 90))], n_classes=2, dtype=np.float64)
    >>> bilevel = Bilevel(problem, Aid())
    >>> state = bilevel.solver.init(problem, np.zeros(8))
    >>> path = continuation(bilevel, state, [shared(8), per_feature(8)], Descent(max_iter=5))
    >>> [path.steps[0].structure.name, path.chosen.structure.name]
    ['shared', 'per_feature']
    """
    steps: list[Step] = []
    best: int | None = None
    stopped, origin = False, compact(state.log_penalties.copy())

    def record(step: Step, state: Any) -> bool:
        nonlocal stopped
        steps.append(step)
        stopped = bool(on_step and on_step(step, state)) or stopped
        return stopped

    for number, structure in enumerate(stages):
        last = number == len(stages) - 1
        inexact = 0 < number and not last and not stages[-1].is_few
        start = origin if best is None or structure.starts_over else steps[best].log_penalties
        first = len(steps)
        state, own = descent.run(bilevel, state, structure, top if last and top is not None else start, record, inexact)
        chosen = first + best_of(own)
        if descent.optimizer_for(structure, inexact).inexact:
            state, confirmed = _confirm(bilevel, state, steps[chosen], descent)
            record(confirmed, state)
            chosen = len(steps) - 1
        if best is None or steps[chosen].criterion < steps[best].criterion:
            best = chosen
        if stopped:
            break
    return Path(bilevel, state, steps, best or 0)


def _confirm(bilevel, state, step, descent):
    since = time.perf_counter(), state.n_epochs
    state = bilevel.solver.rescale(bilevel.problem, state, step.log_penalties)
    state, result = descent.solve(bilevel, state, step.structure, descent.inner_tol, value_rtol=descent.tol)
    return state, bilevel.record(step.structure, step.theta, step.log_penalties, state, result, since)
