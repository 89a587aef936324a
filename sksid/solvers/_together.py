"""Any solver on several problems side by side, under the same penalties: one task a part, in threads where that pays.

To the solver, every part is a problem of its own, with its own state and random numbers. The problem alone decides which splits
form a part, so the result is the same, bit for bit, for any number of threads.
"""

from dataclasses import dataclass, replace

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from sksid._threads import single_blas_thread
from sksid.joint import Joint
from sksid.solvers._contract import Progress, Solver

WORK_FOR_A_THREAD = 2e7  # multiply-adds, about 5 ms: with less work, handing a part to a thread costs more than it saves
ERRORS = ("gradient_error", "value_error")
NEWTON_PASSES = 30  # over the data in one epoch of a deterministic solver
OF_THE_TABLE = 0.1  # what a pass over the coefficients of wide data costs, as a share of one over the rows


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
class Together:
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
    def threads_itself(self) -> bool:
        """It gives each part to a thread."""
        return True

    @property
    def precise(self) -> bool:
        """Whether it reaches the accuracy of a reported score."""
        return self.solver.precise

    @property
    def takes_unpenalized(self) -> bool:
        """Whether features without a penalty are taken."""
        return self.solver.takes_unpenalized

    @property
    def takes_any_objective(self) -> bool:
        """Whether other losses and penalties are taken."""
        return self.solver.takes_any_objective

    @property
    def takes_split_penalties(self) -> bool:
        """Whether penalties that differ by split are taken."""
        return self.solver.takes_split_penalties

    def init(self, problem: Joint, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> TogetherState:
        """Every part at W = 0, V = 0, or near its splits of ``start``, with a seed of its own."""
        log_penalties = np.array(log_penalties, dtype=np.float64)
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

    def rescale(self, problem: Joint, state: TogetherState, log_penalties: NDArray) -> TogetherState:
        """New penalties in every part."""
        log_penalties = np.array(log_penalties, dtype=np.float64)

        def rescale(k, part):
            return self.solver.rescale(part, state.states[k], problem.gather(k, log_penalties))

        return TogetherState(self._each(problem, rescale, OF_THE_TABLE), log_penalties)

    def losses(self, problem: Joint, state: TogetherState, rows: Joint | None = None) -> NDArray:
        """The validation loss of each split, part after part; of other rows, a Joint of as many parts, where given."""

        def losses(k, part):
            return self.solver.losses(part, state.states[k], None if rows is None else rows.parts[k])

        return np.concatenate(self._each(problem, losses, 0.0 if rows is None else 1.0))

    def log_gradient(self, problem: Joint, state: TogetherState) -> NDArray:
        """∂F/∂log λ of all features: the mean over splits, where a split counts as 0 for features that it lacks."""
        return _mean(problem, self._of_each("log_gradient", problem, state, OF_THE_TABLE), state.log_penalties.shape)

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

    def adjoint(self, problem: Joint, state: TogetherState) -> tuple[list, list]:
        """V and v in the same shapes."""
        return self._listed("adjoint", problem, state)

    def _of_each(self, method, problem, state, passes=0.0):
        call = getattr(self.solver, method)
        return self._each(problem, lambda k, part: call(part, state.states[k]), passes)

    def _each(self, problem, call, passes):
        """What ``call(k, part)`` returns for every part, in threads where so many passes over the data pay for them."""
        if not self._pays(problem, passes):
            return [call(k, part) for k, part in enumerate(problem.parts)]
        with single_blas_thread:
            # in threads whatever the backend: half an epoch is not worth sending the state to a process and back
            parallel = Parallel(n_jobs=self.n_jobs, require="sharedmem")
            return parallel(delayed(call)(k, part) for k, part in enumerate(problem.parts))

    def _pays(self, problem, passes):
        if effective_n_jobs(self.n_jobs) == 1 or len(problem.parts) == 1:
            return False
        return passes * np.mean([part.work for part in problem.parts]) >= WORK_FOR_A_THREAD

    def _listed(self, method, problem, state):
        pairs = self._of_each(method, problem, state)
        return [W for many, _ in pairs for W in many], [b for _, many in pairs for b in many]


def _mean(problem, gradients, shape):
    total = np.zeros(shape)
    for k, gradient in enumerate(gradients):
        problem.scatter(k, gradient * (problem.parts[k].n_splits / problem.n_splits), total)
    return total
