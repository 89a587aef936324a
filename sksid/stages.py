"""The continuation from the shared penalty to the structure that is asked for, stage by stage.

Few hyperparameters are descended on with all splits; many, and the descriptors on the way to them, are cross-fitted.
"""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._compact import compact
from sksid._structure import FEW
from sksid.crossfit import Descents, Nested, gain_of
from sksid.descent import Bilevel, Descent, OnStep, Step, best_of, reach
from sksid.optimizers import QuasiNewton, metric_of
from sksid.structures import Structure

FEW_ROWS = 1000  # with fewer, what all splits find together is found anew to be judged
LONGEST = 2.5  # step on all splits, in the root mean square of the changes of log λ


@dataclass(frozen=True)
class Stage:
    """What a stage has gained over the best step before it.

    Attributes
    ----------
    structure : str
    n_steps : int
        Outer steps to the stage's best one; of many hyperparameters that are cross-fitted, those that were judged.
    gain, standard_error : float
        By how much the mean loss has fallen, and the standard error of that, over the splits; NaN in the first stage.
    kept : bool
        Whether the search went on from there.

    Examples
    --------
    >>> from sksid.stages import Stage
    >>> Stage("per_feature", 3, gain=0.02, standard_error=0.01, kept=True).gain
    0.02
    """

    structure: str
    n_steps: int
    gain: float
    standard_error: float
    kept: bool


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
    stages : tuple of Stage
        What each stage has gained.
    stopped : bool
        Whether ``on_step`` has ended it.
    """

    bilevel: Bilevel
    state: Any
    steps: list[Step]
    best: int
    stages: tuple[Stage, ...] = ()
    stopped: bool = False

    @property
    def chosen(self) -> Step:
        """The best step itself."""
        return self.steps[self.best]

    @property
    def kept(self) -> list[int]:
        """The steps of the stages that were kept; all of them where no stage has ended."""
        left_out = {stage.structure for stage in self.stages if not stage.kept}
        return [i for i, step in enumerate(self.steps) if step.structure.name not in left_out]


def continuation(
    bilevel: Bilevel,
    state: Any,
    stages: Sequence[Structure],
    descent: Descent,
    on_step: OnStep | None = None,
    top: NDArray | None = None,
    margin: float = 0.0,
    levels: Sequence[NDArray] = (),
) -> Path:
    """Descend on each stage in turn, from the best step so far; a stage counts only if it makes the loss smaller.

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
    margin : float, default=0.0
        By how many of its standard errors a stage must make the loss smaller.
    levels : sequence of ndarray of shape (n_features,), default=()
        Log penalties that are looked at first; the first stage starts from the best of them.

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
    gained: list[Stage] = []
    best: int | None = None
    stopped, origin = False, compact(state.log_penalties.copy())

    def record(step: Step, state: Any) -> bool:
        nonlocal stopped
        steps.append(step)
        stopped = bool(on_step and on_step(step, state)) or stopped
        return stopped

    levels = levels[: descent.max_iter - 1]
    for number, structure in enumerate(stages):
        last = number == len(stages) - 1
        inexact = 0 < number and not last and not stages[-1].is_few
        start = origin if best is None or structure.starts_over else steps[best].log_penalties
        start = top if last and top is not None else start
        first, here = len(steps), descent
        if number == 0 and levels:
            state, own = descent.scan(bilevel, state, structure, levels, record)
            start, here = own[best_of(own)].log_penalties, replace(descent, max_iter=descent.max_iter - len(own))
        if not stopped:
            state, _ = here.run(bilevel, state, structure, start, record, inexact)
        chosen = first + best_of(steps[first:])
        if descent.optimizer_for(structure, inexact).inexact:
            state, confirmed = _confirm(bilevel, state, steps[chosen], descent)
            record(confirmed, state)
            chosen = len(steps) - 1
        gained.append(_stage(None if best is None else steps[best], steps[chosen], chosen - first + 1, margin))
        best = chosen if gained[-1].kept else best
        if stopped:
            break
    return Path(bilevel, state, steps, best or 0, tuple(gained), stopped)


def cross_fitted(
    path: Path,
    stages: Sequence[tuple[Structure, Callable[[], Nested]]],
    descents: Descents,
    descent: Descent | None = None,
    on_step: OnStep | None = None,
    margin: float = 0.0,
    until_kept: bool = False,
) -> Path:
    """A path with further stages, which are cross-fitted from the best step before them.

    At most five hyperparameters are found on all splits together, and confirmed if that looks like a gain. More are found to
    each split on its inner splits; so are all of them where the rows are very few, since what all splits find there goes
    farther than what is judged.

    Parameters
    ----------
    path : Path
        Of the stages before.
    stages : sequence of (Structure, callable)
        The callable gives what ``Descents.run`` takes as ``nested``; it is called where that is needed.
    descents : Descents
    descent : Descent, default=None
        On all splits together. None where there are too few rows for that.
    on_step, margin
        As for ``continuation``.
    until_kept : bool, default=False
        Whether the first stage that is kept is the last one.

    Returns
    -------
    Path
        With the steps and stages of both. Its best step is a new one, and nested, where a further stage was kept.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.crossfit import CrossFit, Descents, Nest
    >>> from sksid.descent import Bilevel, Descent
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Aid
    >>> from sksid.stages import continuation, cross_fitted
    >>> from sksid.structures import per_feature, shared
    >>> X, y = np.random.RandomState(0).randn(90, 8), np.arange(90) % 2
    >>> X[:, 0] += y
    >>> thirds, none = np.split(np.arange(90), 3), np.arange(0)
    >>> splits = [(np.r_[thirds[0], thirds[1]], thirds[2])]
    >>> nested = [(thirds[0], thirds[1])], [(splits[0][0], none)], [(none, thirds[2])]
    >>> make = lambda splits: make_problem(X, y, splits, n_classes=2, dtype=np.float64)
    >>> bilevel, (inner, rest, judge) = Bilevel(make(splits), Aid()), map(make, nested)
    >>> state = bilevel.solver.init(bilevel.problem, np.zeros(8))
    >>> path = continuation(bilevel, state, [shared(8)], Descent())
    >>> nest = Nest(Bilevel(inner, Aid()), np.array([1]), Bilevel(rest, Aid()), judge)
    >>> descents = Descents(CrossFit(), nest, path.chosen.log_penalties, bilevel.log_range)
    >>> one = per_feature(8)
    >>> path = cross_fitted(path, [(one, lambda: [(one, one)])], descents, Descent())
    >>> [stage.structure for stage in path.stages]
    ['shared', 'per_feature']
    """
    for number, (structure, nested) in enumerate(stages):
        together = descent is not None and structure.n_params <= FEW and path.bilevel.solver.takes_split_penalties
        add = partial(_on_all, descent=descent, is_last=number == len(stages) - 1 or until_kept) if together else _on_each
        path = add(path, structure, nested, descents, on_step=on_step, margin=margin)
        if path.stopped or (until_kept and path.stages[-1].kept):
            break
    return path


def _on_each(path, structure, nested, descents, on_step, margin):
    """The path with a stage whose hyperparameters are found to each split on its inner splits."""
    before, own, stopped = path.chosen, [], False
    for step in descents.run(structure, nested(), before.value):
        own.append(step)
        if on_step and on_step(step, path.state):
            stopped = True
            break
    chosen = min(range(len(own)), key=lambda i: own[i].value)
    stage, best = _stage(before, own[chosen], chosen + 1, margin), path.best
    if stage.kept:
        best = len(path.steps) + chosen
        descents.keep(own[chosen], chosen)
    return replace(path, steps=path.steps + own, best=best, stages=(*path.stages, stage), stopped=stopped)


def _on_all(path, structure, nested, descents, descent, is_last, on_step, margin):
    """The path with a stage found on all splits. The steps that lead there are rough: their losses are no judgment."""
    before, bilevel, own, stopped = path.chosen, path.bilevel, [], False
    solved, structure = deepcopy(path.state), structure.for_each_split(bilevel.problem.n_splits)
    metric = metric_of(structure, bilevel.solver.log_gradient(bilevel.problem, path.state))
    optimizer = QuasiNewton(longest=LONGEST, tol=descent.tol, metric=metric)
    descent = replace(descent, optimizer=descent.optimizer or optimizer)

    def record(step: Step, state: Any) -> bool:
        nonlocal stopped
        own.append(replace(step, rough=not step.is_nested))
        stopped = bool(on_step and on_step(own[-1], state)) or stopped
        return stopped

    state, found = descent.run(bilevel, path.state, structure, before.log_penalties, record)
    best = found[best_of(found)]
    stage = _stage(before, best, len(found), margin)
    if stage.kept and stage.gain > descent.tol * before.value and not stopped:
        memory, models = _memory_of(optimizer, structure, found), bilevel.solver.coefficients(bilevel.problem, state)
        if bilevel.problem.n_rows < FEW_ROWS:
            judged = descents.confirm_anew(best, nested(), memory, models)
        else:
            judged = descents.confirm(best, memory, models, descent.max_change)
        record(judged, state)
        stage = _stage(before, judged, len(own), margin)
    stage = replace(stage, kept=stage.kept and own[-1].is_nested)
    if stage.kept and not is_last:
        descents.keep_confirmed(judged, nested())
    if not stage.kept:
        state = solved
    chosen = len(path.steps) + len(own) - 1 if stage.kept else path.best
    return replace(path, state=state, steps=path.steps + own, best=chosen, stages=(*path.stages, stage), stopped=stopped)


def _memory_of(optimizer, structure, steps):
    """What an optimizer remembers after these steps."""
    memory = optimizer.init(structure.n_params)
    for step in steps:
        _, memory = optimizer.update(memory, step.theta, step.gradient, step.value, partial(reach, structure))
    return memory


def path_of(bilevel: Bilevel, state: Any, steps: list[Step], margin: float = 0.0) -> Path:
    """The path of a continuation that was interrupted, from the steps that it has taken: ``margin`` as it had."""
    stages: list[Stage] = []
    best: int | None = None
    for _, group in groupby(range(len(steps)), key=lambda i: steps[i].structure.name):
        own = list(group)
        if best is not None and all(steps[i].rough for i in own):
            continue  # of a stage that nobody has judged
        chosen = own[best_of([steps[i] for i in own])]
        stages.append(_stage(None if best is None else steps[best], steps[chosen], chosen - own[0] + 1, margin))
        best = chosen if stages[-1].kept else best
    return Path(bilevel, state, steps, best or 0, tuple(stages))


def _stage(before, after, n_steps, margin):
    if before is None:
        return Stage(after.structure.name, n_steps, np.nan, np.nan, True)
    gain, error = gain_of(before.losses, after.losses)
    return Stage(after.structure.name, n_steps, gain, error, gain > max(0.0, margin * error))


def _confirm(bilevel, state, step, descent):
    since = time.perf_counter(), state.n_epochs
    state = bilevel.solver.rescale(bilevel.problem, state, step.log_penalties)
    state, result = descent.solve(bilevel, state, step.structure, descent.inner_tol, value_rtol=descent.tol)
    return state, bilevel.record(step.structure, step.theta, step.log_penalties, state, result, since)
