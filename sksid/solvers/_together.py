"""Any solver on several problems side by side, under the same penalties: one task a part, in threads where that pays.

To the solver, every part is a problem of its own, with its own state and random numbers. The problem alone decides which splits
form a part, so the result is the same, bit for bit, for any number of threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray

from sksid._compact import own
from sksid._threads import single_blas_thread
from sksid.joint import Joint
from sksid.solvers._contract import Progress, Solver, Wrapper, each_split, tighten

WORK_FOR_A_THREAD = 2e7  # multiply-adds, about 5 ms: with less work, handing a part to a thread costs more than it saves
ERRORS = ("gradient_error", "value_error")
NEWTON_PASSES = 30  # over the data in one epoch of a deterministic solver
OF_THE_TABLE = 2.0  # multiply-adds that a number of W or V costs where all of them are passed over


@dataclass
class TogetherState:
    """The parts' states, in the order of the parts, and the penalties of all features."""

    states: list
    log_penalties: NDArray

    @property
    def n_epochs(self) -> float:
        """Epochs spent on a part, on average: all parts advance by the same epochs, but each revisits rows of its own."""
        return float(np.mean([state.n_epochs for state in self.states]))


@dataclass(frozen=True)
class Together(Wrapper):
    """A solver for every part of a ``Joint`` problem.

    Parameters
    ----------
    solver : Solver
        For each part.
    n_jobs : int, default=None
        Parts that are advanced at the same time, as scikit-learn reads it.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.joint import Joint
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Aid
    >>> part = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2)
    >>> joint, together = Joint((part, part), (None, None), n_features=4), Together(Aid())
    >>> together.losses(joint, together.advance(joint, together.init(joint, np.zeros(4)))).shape
    (2,)
    """

    solver: Solver
    n_jobs: int | None = None

    @property
    def takes_any_objective(self) -> bool:
        """Whether other losses and penalties are taken."""
        return self.solver.takes_any_objective

    def init(self, problem: Joint, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> TogetherState:
        """Every part at W = 0, V = 0, or near its splits of ``start``, with a seed of its own."""
        log_penalties = own(log_penalties)
        ends = np.cumsum([0, *(part.n_splits for part in problem.parts)])

        def begin(k, part):
            own = start and [[of_all[ends[k] : ends[k + 1]] for of_all in side] for side in start]
            return self.solver.init(part, problem.gather(k, log_penalties), seed + k, own)

        return TogetherState(self._each(problem, begin, 1.0 if start else 0.0), log_penalties)

    def advance(self, problem: Joint, state: TogetherState, n_epochs: float = 1.0) -> TogetherState:
        """Advance every part by so many epochs."""

        def advance(k, part):
            return self.solver.advance(part, state.states[k], n_epochs)

        return replace(state, states=self._each(problem, advance, NEWTON_PASSES if self.solver.threads_itself else n_epochs))

    def tighten(self, state: TogetherState, lower: float, adjoint: float) -> TogetherState:
        """Ask the next epoch of every part for these shares of the errors of W and of V."""
        return replace(state, states=[tighten(self.solver, own, lower, adjoint) for own in state.states])

    def rescale(self, problem: Joint, state: TogetherState, log_penalties: NDArray) -> TogetherState:
        """New penalties in every part."""
        log_penalties = own(log_penalties)

        def rescale(k, part):
            return self.solver.rescale(part, state.states[k], problem.gather(k, log_penalties))

        return TogetherState(self._each(problem, rescale, over_table=True), log_penalties)

    def losses(self, problem: Joint, state: TogetherState, rows: Joint | None = None) -> NDArray:
        """The validation loss of each split, part after part; of other rows, a Joint of as many parts, where given."""

        def losses(k, part):
            return self.solver.losses(part, state.states[k], None if rows is None else rows.parts[k])

        return np.concatenate(self._each(problem, losses, 0.0 if rows is None else 1.0))

    def log_gradient(self, problem: Joint, state: TogetherState) -> NDArray:
        """∂F/∂log λ of all features: the mean over splits, where a split counts as 0 for features that it lacks."""
        return _mean(problem, self._of_each("log_gradient", problem, state, over_table=True), state.log_penalties.shape)

    def progress(self, problem: Joint, state: TogetherState) -> Progress:
        """The largest of the parts', and the mean over splits of their changes."""
        parts = self._of_each("progress", problem, state)
        if parts[0].tells_errors:
            shares = [part.n_splits / problem.n_splits for part in problem.parts]
            errors = [sum(share * getattr(part, name) for share, part in zip(shares, parts, strict=True)) for name in ERRORS]
            return Progress(max(part.residual for part in parts), gradient_error=errors[0], value_error=errors[1])
        changes = zip(*(part.changes for part in parts), strict=True)
        return Progress(
            residual=max(part.residual for part in parts),
            relative_residual=max(part.accuracy for part in parts),
            moved=max(part.moved for part in parts),
            changes=tuple(_mean(problem, change, problem.n_features) for change in changes),
        )

    def coefficients(self, problem: Joint, state: TogetherState) -> tuple[list, list]:
        """Lists with W (n_outputs, n_features of the part) and b (n_outputs,) of each split."""
        return self._listed("coefficients", problem, state)

    def each_split(self, problem: Joint, state: TogetherState) -> Iterator[tuple[NDArray, NDArray]]:
        """W and b of one split after the other."""
        return chain.from_iterable(map(partial(each_split, self.solver), problem.parts, state.states))

    def adjoint(self, problem: Joint, state: TogetherState) -> tuple[list, list]:
        """V and v in the same shapes."""
        return self._listed("adjoint", problem, state)

    def _of_each(self, method, problem, state, **cost):
        call = getattr(self.solver, method)
        return self._each(problem, lambda k, part: call(part, state.states[k]), **cost)

    def _each(self, problem, call, passes=0.0, over_table=False):
        """What ``call(k, part)`` returns for every part, in threads where passes over rows, or one over W and V, pay."""
        if not self._pays(problem, passes, over_table):
            return [call(k, part) for k, part in enumerate(problem.parts)]
        with single_blas_thread:
            # in threads whatever the backend: half an epoch is not worth sending the state to a process and back
            parallel = Parallel(n_jobs=self.n_jobs, require="sharedmem")
            return parallel(delayed(call)(k, part) for k, part in enumerate(problem.parts))

    def _pays(self, problem, passes, over_table=False):
        if effective_n_jobs(self.n_jobs) == 1 or len(problem.parts) == 1:
            return False
        numbers = [2 * part.n_features * part.n_splits * part.n_outputs for part in problem.parts]
        work = passes * np.mean([part.work for part in problem.parts]) + OF_THE_TABLE * over_table * np.mean(numbers)
        return work >= WORK_FOR_A_THREAD

    def _listed(self, method, problem, state):
        pairs = self._of_each(method, problem, state)
        return [W for many, _ in pairs for W in many], [b for _, many in pairs for b in many]


def _mean(problem, gradients, shape):
    total = np.zeros(shape)
    for k, gradient in enumerate(gradients):
        problem.scatter(k, gradient * (problem.parts[k].n_splits / problem.n_splits), total)
    return total
