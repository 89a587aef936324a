"""One solver after another: stochastic passes as long as they come nearer, then a deterministic solve from where they are."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid.joint import parts_of, whole
from sksid.problem import Problem
from sksid.solvers._aid import Aid
from sksid.solvers._contract import NotFiniteError, Progress, Solver, each_split, tighten
from sksid.solvers._directions import MOST
from sksid.solvers._dual import Dual
from sksid.solvers._preconditioner import direct_cost, product_cost

PATIENCE = 5  # epochs at the same penalties before their residuals tell a rate
SOLVE = 500.0  # products that a deterministic solve from its W and V may cost
SOLVE_DIRECT = 20.0  # one with the Hessian of each split, which is paid besides
SOLVE_FEW = 60.0  # one of the many of a search on rows so few that their strongest directions serve all of it
# nanoseconds of an epoch: of a multiply-add on dense and on sparse rows; of a row's output in a register, full or not, or alone
DENSE, SPARSE, OUTPUT, ONLY = 0.3, 0.8, 15.0, 30.0
REGISTER = 8  # outputs
ENOUGH, ENOUGH_ALONE = 1e-3, 1e-5  # of residuals in a search; of outputs in a fit without an adjoint


def epochs_left(left: list[float], enough: float) -> float:
    """How many more epochs it takes until ``enough`` is left, if it goes on as in the last ``PATIENCE`` epochs.

    Parameters
    ----------
    left : list of float
        What was left after each epoch.
    enough : float

    Examples
    --------
    >>> round(epochs_left([1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125], enough=1e-3), 1)
    5.0
    """
    if len(left) <= PATIENCE:
        return 0.0
    last, before = max(left[-1], np.finfo(float).tiny), left[-1 - PATIENCE]
    if last <= enough:
        return 0.0
    return float(np.log(last / enough) * PATIENCE / np.log(before / last)) if last < before else np.inf


def epochs_of_a_solve(problem: Any) -> float:
    """How many epochs of the dual solver are as dear as a deterministic solve of a Problem, by estimated nanoseconds.

    Parameters
    ----------
    problem : Problem, or Joint of problems with features of their own

    Examples
    --------
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4) + 1.0, [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2)
    >>> bool(epochs_of_a_solve(problem) > 1.0)
    True
    """
    solves = epochs = 0.0
    limit = SOLVE_FEW if problem.has_validation and problem.n_rows <= MOST else SOLVE
    for part in parts_of(problem):
        work = part.work if part.has_validation else 0.5 * part.work
        product = product_cost(part.rows, part.n_splits, part.n_outputs)
        solves += min(limit * product, SOLVE_DIRECT * product + direct_cost(part.rows, part.n_splits, part.n_outputs))
        output = ONLY if part.n_outputs == 1 else OUTPUT * REGISTER * -(-part.n_outputs // REGISTER)
        epochs += (SPARSE if part.rows.is_sparse else DENSE) * work + output * part.n_rows * part.n_splits
    return solves / epochs


@dataclass
class RelayState:
    """The state of the solver whose turn it is, what was left after each epoch at these penalties, and epochs before this turn.

    After the second solver has failed it is the first one's turn for good: ``failed``.
    """

    own: Any
    patience: float
    handed_over: bool = False
    failed: bool = False
    left: list = field(default_factory=list)
    n_before: float = 0.0

    @property
    def n_epochs(self) -> float:
        """All that has been spent."""
        return self.n_before + self.own.n_epochs

    @property
    def log_penalties(self) -> NDArray:
        """Those of the solver whose turn it is."""
        return self.own.log_penalties


@dataclass(frozen=True)
class Relay:
    """A solver that hands W and V over to another one where it stalls: what ``solver="auto"`` is on larger data.

    The dual solver needs a number of epochs that grows where penalties are weak and features alike. It hands over where the
    residuals of its last epochs tell that more than ``patience`` epochs are still to come, which is what the deterministic
    solver costs from there. It is not taken back.

    Parameters
    ----------
    first : Solver, default=Dual()
    then : Solver, default=Aid()
    patience : float, default=None
        Epochs of the first solver that are as dear as the second one; None for ``epochs_of_a_solve``.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid import hypergradient
    >>> from sksid.solvers import Relay
    >>> X, y = np.eye(6) + 1.0, np.array([0, 1, 0, 1, 0, 1])
    >>> splits = [(np.arange(4), np.arange(4, 6))]
    >>> hypergradient(X, y, splits, log_penalties=0.0, solver=Relay()).converged
    True
    """

    first: Solver = Dual()
    then: Solver = Aid()
    patience: float | None = None

    takes_any_objective = False
    takes_split_penalties = True

    @property
    def threads_itself(self) -> bool:
        """Whether the first one does."""
        return self.first.threads_itself

    @property
    def precise(self) -> bool:
        """Whether both are."""
        return self.first.precise and self.then.precise

    @property
    def takes_unpenalized(self) -> bool:
        """Whether both do."""
        return self.first.takes_unpenalized and self.then.takes_unpenalized

    def init(self, problem: Problem, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> RelayState:
        """The first solver's."""
        own = self.first.init(problem, log_penalties, seed=seed, start=start)
        return RelayState(own, epochs_of_a_solve(whole(problem)) if self.patience is None else self.patience)

    def _turn(self, problem, state):
        """Whose turn it is, and the problem as this solver takes it: not in groups of splits, if it threads itself."""
        return (self.then, whole(problem)) if state.handed_over else (self.first, problem)

    def advance(self, problem: Problem, state: RelayState, n_epochs: float = 1.0) -> RelayState:
        """Advance; hand over where the first solver would take too long, and start it anew where the second one overflows."""
        try:
            return self._advance(problem, state, n_epochs)
        except NotFiniteError:
            if not state.handed_over:
                raise
        own = self.first.init(problem, state.log_penalties)
        return self._advance(problem, RelayState(own, state.patience, failed=True, n_before=state.n_epochs), n_epochs)

    def _advance(self, problem, state, n_epochs):
        solver, own = self._turn(problem, state)
        state.own = solver.advance(own, state.own, n_epochs)
        if state.handed_over or state.failed:
            return state
        progress, alone = solver.progress(own, state.own), not problem.has_validation
        left = progress.moved if np.isfinite(progress.moved) else progress.residual
        state.left = [*state.left, left] if n_epochs >= 1.0 else []  # part of an epoch tells no rate
        if epochs_left(state.left, ENOUGH_ALONE if alone else ENOUGH) > state.patience:
            return self._handed_over(problem, state)
        return state

    def _handed_over(self, problem, state):
        sides = (self.first.coefficients, self.first.adjoint)[: 1 + problem.has_validation]
        start = tuple(side(problem, state.own) for side in sides)
        own = self.then.init(whole(problem), state.log_penalties, start=start)
        try:
            return RelayState(self.then.advance(whole(problem), own), state.patience, handed_over=True, n_before=state.n_epochs)
        except NotFiniteError:
            state.failed = True
            return state

    def tighten(self, state: RelayState, lower: float, adjoint: float) -> RelayState:
        """Ask the next epoch of the second solver for these shares of the errors of W and of V."""
        state.own = tighten(self.then, state.own, lower, adjoint)
        return state

    def rescale(self, problem: Problem, state: RelayState, log_penalties: NDArray) -> RelayState:
        """New penalties, and a new look at how fast the first solver is there."""
        if not np.array_equal(log_penalties, state.log_penalties):
            state.left = []
        solver, own = self._turn(problem, state)
        state.own = solver.rescale(own, state.own, log_penalties)
        return state

    def losses(self, problem: Problem, state: RelayState, rows: Problem | None = None) -> NDArray:
        """The validation loss of each split."""
        solver, own = self._turn(problem, state)
        return solver.losses(own, state.own, whole(rows) if state.handed_over else rows)

    def log_gradient(self, problem: Problem, state: RelayState) -> NDArray:
        """∂F/∂log λ, Eq. (4)."""
        solver, own = self._turn(problem, state)
        return solver.log_gradient(own, state.own)

    def progress(self, problem: Problem, state: RelayState) -> Progress:
        """That of the solver whose turn it is."""
        solver, own = self._turn(problem, state)
        return solver.progress(own, state.own)

    def coefficients(self, problem: Problem, state: RelayState) -> tuple[NDArray, NDArray]:
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs)."""
        solver, own = self._turn(problem, state)
        return solver.coefficients(own, state.own)

    def each_split(self, problem: Problem, state: RelayState) -> Iterator[tuple[NDArray, NDArray]]:
        """W and b of one split after the other."""
        solver, own = self._turn(problem, state)
        return each_split(solver, own, state.own)

    def adjoint(self, problem: Problem, state: RelayState) -> tuple[NDArray, NDArray]:
        """V and v in the same shapes."""
        solver, own = self._turn(problem, state)
        return solver.adjoint(own, state.own)
