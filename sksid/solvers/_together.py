"""Any solver on several problems side by side, under the same penalties: one task a part, in threads where that pays.

Every part is a problem of its own to the solver. Which splits make a part is for the problem to say, and each part has its
own state and its own random numbers: so the result is the same, bit for bit, for any number of threads.
"""

from dataclasses import dataclass, replace

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

WORK_FOR_A_THREAD = 2e7  # multiply-adds, some 20 ms: below that, handing a part to a thread costs as much
EXACT_PASSES = 30  # over the data in one epoch of an exact solver


@dataclass
class TogetherState:
    """The parts' states, in the order of the parts, and the penalties of all features."""

    states: list
    log_penalties: np.ndarray

    @property
    def n_epochs(self):
        """Spent on a part, on average: parts go on by the same epochs, and revisit rows on their own account."""
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
    """

    solver: object
    n_jobs: int | None = None

    @property
    def exact(self):
        """Whether one epoch ends with both solves converged."""
        return self.solver.exact

    def init(self, problem, log_penalties, seed=0, start=None):
        """Every part at W = 0, V = 0, or near its splits of ``start``, with a seed of its own."""
        log_penalties, states, first = np.array(log_penalties, dtype=np.float64), [], 0
        for k, part in enumerate(problem.parts):
            own = start and [[of_all[first : first + part.n_splits] for of_all in side] for side in start]
            states.append(self.solver.init(part, problem.gather(k, log_penalties), seed + k, own))
            first += part.n_splits
        return TogetherState(states, log_penalties)

    def advance(self, problem, state, n_epochs=1.0):
        """Go on with every part by so many epochs."""
        if not self._pays(problem, n_epochs):
            states = [_advance(self.solver, part, own, n_epochs) for part, own in zip(problem.parts, state.states, strict=True)]
            return replace(state, states=states)
        with threadpool_limits(limits=1, user_api="blas"):  # once, outside: tasks that set it together may not restore it
            # in threads whatever the backend: half an epoch is not worth sending the state to a process and back
            states = Parallel(n_jobs=self.n_jobs, require="sharedmem")(
                delayed(_advance)(self.solver, part, own, n_epochs)
                for part, own in zip(problem.parts, state.states, strict=True)
            )
        return replace(state, states=states)

    def _pays(self, problem, n_epochs):
        if effective_n_jobs(self.n_jobs) == 1 or len(problem.parts) == 1:
            return False
        passes = EXACT_PASSES if self.solver.exact else n_epochs
        return passes * np.mean([part.work for part in problem.parts]) >= WORK_FOR_A_THREAD

    def rescale(self, problem, state, log_penalties):
        """New penalties in every part."""
        log_penalties = np.array(log_penalties, dtype=np.float64)
        states = [
            self.solver.rescale(part, own, problem.gather(k, log_penalties))
            for k, (part, own) in enumerate(zip(problem.parts, state.states, strict=True))
        ]
        return TogetherState(states, log_penalties)

    def convert(self, problem, state):
        """Every part's state in the precision of its problem."""
        return replace(state, states=self._each("convert", problem, state))

    def reported(self, problem, log_penalties):
        """The parts in the precision that a reported score needs; the problem itself where that is theirs."""
        parts = tuple(self.solver.reported(part, problem.gather(k, log_penalties)) for k, part in enumerate(problem.parts))
        same = all(part is own for part, own in zip(parts, problem.parts, strict=True))
        return problem if same else replace(problem, parts=parts)

    def refit(self, problem, split_problem, state, log_penalties, tol, max_epochs, columns=None):
        """One fit on all rows, from the first part's state: its rows are most of them."""
        part, own, columns = split_problem.parts[0], state.states[0], split_problem.columns[0]
        return self.solver.refit(problem, part, own, log_penalties, tol, max_epochs, columns)

    def losses(self, problem, state):
        """The validation loss of each split, part after part."""
        return np.concatenate(self._each("losses", problem, state))

    def losses_on(self, problem, state, rows):
        """The mean loss of each split's model on other rows: a Joint of as many parts, each in its part's features."""
        pairs = zip(problem.parts, state.states, rows.parts, strict=True)
        return np.concatenate([self.solver.losses_on(part, own, other) for part, own, other in pairs])

    def log_gradient(self, problem, state):
        """∂F/∂log λ of all features: the mean over splits, to which a split adds nothing for features that it lacks."""
        return self._mean(problem, self._each("log_gradient", problem, state))

    def recent_changes(self, problem, state):
        """What parts of the last ``advance`` have changed in ``log_gradient``, the latest last; may be empty."""
        return [self._mean(problem, changes) for changes in zip(*self._each("recent_changes", problem, state), strict=True)]

    @staticmethod
    def _mean(problem, gradients):
        total = np.zeros(problem.n_features)
        for k, gradient in enumerate(gradients):
            problem.scatter(k, gradient * (problem.parts[k].n_splits / problem.n_splits), total)
        return total

    def residual(self, problem, state):
        """The largest of the parts'."""
        return max(self._each("residual", problem, state))

    def coefficients(self, problem, state):
        """Lists with W (n_outputs, n_features of the part) and b (n_outputs,) of each split."""
        return self._listed("coefficients", problem, state)

    def adjoint(self, problem, state):
        """V and v in the same shapes."""
        return self._listed("adjoint", problem, state)

    def _each(self, method, problem, state):
        return [getattr(self.solver, method)(part, own) for part, own in zip(problem.parts, state.states, strict=True)]

    def _listed(self, method, problem, state):
        pairs = self._each(method, problem, state)
        return [W for many, _ in pairs for W in many], [b for _, many in pairs for b in many]


def _advance(solver, problem, state, n_epochs):
    return solver.advance(problem, state, n_epochs)
