"""Any solver on as many features as there are rows: under one penalty for all features, a rotation of them changes nothing.

With the rows' scalar products XXᵀ = QSQᵀ, rows QS^(1/2) of at most n features make the same problem, Eq. (35), and W = UB of
its solution U, with the orthonormal rows of B = S^(−1/2)QᵀX. Where penalties differ, the solver goes on with the features.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._threads import single_blas_thread
from sksid.objective import log_gradient
from sksid.problem import VALIDATION, Problem
from sksid.rows import as_rows
from sksid.solvers._contract import Progress, Solver, Wrapper, tighten

ROUNDING = 1e-14  # of the largest eigenvalue, times the number of rows: smaller ones are rounding


@dataclass
class RotatedState:
    """The state of the solver below, on ``problem`` where ``back`` is given: (rank, n_rows), with which B is ``back`` X."""

    own: Any
    log_penalties: NDArray
    problem: Problem | None = None
    back: NDArray | None = None
    n_before: float = 0.0

    @property
    def n_epochs(self) -> float:
        """Spent by the solver below."""
        return self.n_before + self.own.n_epochs


@dataclass(frozen=True)
class Rotated(Wrapper):
    """A solver for dense rows of more features than there are rows.

    Parameters
    ----------
    solver : Solver
        For the problem of at most n_rows features, and, where penalties differ, for the problem itself.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid import hypergradient
    >>> from sksid.solvers import Aid, Rotated
    >>> X, y = np.random.RandomState(0).randn(12, 300), np.arange(12) % 2
    >>> splits = [(np.arange(8), np.arange(8, 12))]
    >>> settings = {"log_penalties": 0.0, "tol": 1e-8}
    >>> one, other = (hypergradient(X, y, splits, solver=solver, **settings) for solver in (Rotated(Aid()), "aid"))
    >>> bool(np.allclose(one.gradient, other.gradient, atol=1e-7))
    True
    """

    solver: Solver

    takes_any_objective = False

    def init(self, problem: Problem, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> RotatedState:
        """The solver's own start, on rotated rows if all penalties are equal."""
        log_penalties = np.asarray(log_penalties, dtype=np.float64)
        if not _are_equal(log_penalties):
            return RotatedState(self.solver.init(problem, log_penalties, seed=seed, start=start), log_penalties)
        rotated, back = _rotated(problem)
        if start is not None:
            basis = problem.rows.pull(back.T)
            start = tuple((np.asarray(coef) @ basis, intercept) for coef, intercept in start)
        own = self.solver.init(rotated, _of(rotated, log_penalties), seed=seed, start=start)
        return RotatedState(own, log_penalties, rotated, back)

    def advance(self, problem: Problem, state: RotatedState, n_epochs: float = 1.0) -> RotatedState:
        """Advance the solver below."""
        state.own = self.solver.advance(state.problem or problem, state.own, n_epochs)
        return state

    def tighten(self, state: RotatedState, lower: float, adjoint: float) -> RotatedState:
        """Ask the next epoch for these shares of the errors of W and of V."""
        state.own = tighten(self.solver, state.own, lower, adjoint)
        return state

    def rescale(self, problem: Problem, state: RotatedState, log_penalties: NDArray) -> RotatedState:
        """New penalties; where they differ for the first time, the solver goes on from W and V in the features."""
        log_penalties = np.asarray(log_penalties, dtype=np.float64)
        if state.problem is None:
            own = self.solver.rescale(problem, state.own, log_penalties)
            return replace(state, own=own, log_penalties=log_penalties)
        if _are_equal(log_penalties):
            own = self.solver.rescale(state.problem, state.own, _of(state.problem, log_penalties))
            return replace(state, own=own, log_penalties=log_penalties)
        sides = (self.coefficients, self.adjoint)[: 1 + problem.has_validation]
        own = self.solver.init(problem, log_penalties, start=tuple(side(problem, state) for side in sides))
        return RotatedState(own, log_penalties, n_before=state.n_epochs)

    def losses(self, problem: Problem, state: RotatedState, rows: Problem | None = None) -> NDArray:
        """The validation loss of each split, (n_splits,); of other rows, where given."""
        if rows is None or state.problem is None:
            return self.solver.losses(state.problem or problem, state.own, rows)
        coef, intercept = self.coefficients(problem, state)
        upper = rows.objective(VALIDATION)
        return upper.losses(upper.outputs(np.concatenate([coef, intercept[..., None]], axis=2)))

    def log_gradient(self, problem: Problem, state: RotatedState) -> NDArray:
        """∂F/∂log λ, (n_features,), Eq. (4)."""
        if state.problem is None:
            return self.solver.log_gradient(problem, state.own)
        sides = [side(state.problem, state.own)[0] for side in (self.solver.coefficients, self.solver.adjoint)]
        W, V = np.split(_in_features(problem, state, np.concatenate(sides), None)[0], 2)  # in one pass over the rows
        return log_gradient(state.log_penalties, problem.penalty.inner(W, V).sum(axis=(0, 1)), problem.n_splits)

    def progress(self, problem: Problem, state: RotatedState) -> Progress:
        """That of the solver below."""
        return self.solver.progress(state.problem or problem, state.own)

    def coefficients(self, problem: Problem, state: RotatedState) -> tuple[NDArray, NDArray]:
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs)."""
        return _in_features(problem, state, *self.solver.coefficients(state.problem or problem, state.own))

    def adjoint(self, problem: Problem, state: RotatedState) -> tuple[NDArray, NDArray]:
        """V and v in the same shapes."""
        return _in_features(problem, state, *self.solver.adjoint(state.problem or problem, state.own))


def _are_equal(log_penalties):
    return log_penalties.ndim == 1 and np.ptp(log_penalties) == 0.0


def _of(problem, log_penalties):
    """The one penalty, for the features of the rotated problem."""
    return np.full(problem.n_features, log_penalties[0])


def _rotated(problem):
    """The problem with rows QS^(1/2), and S^(−1/2)Qᵀ."""
    X = problem.rows.matrix.astype(np.float64, copy=False)
    with single_blas_thread:
        eigenvalues, Q = np.linalg.eigh(X @ X.T)
    kept = eigenvalues > max(ROUNDING * len(Q) * eigenvalues[-1], np.finfo(float).tiny)
    kept[-1] = True
    lengths = np.sqrt(np.maximum(eigenvalues[kept], np.finfo(float).tiny))
    rows = as_rows(Q[:, kept] * lengths, problem.rows.samples)
    return replace(problem, rows=rows, dtype=np.dtype(np.float64)), (Q[:, kept] / lengths).T


def _in_features(problem, state, coef, intercept):
    """U S^(−1/2) Qᵀ X of every split, in one product; as it is, where the features are not rotated."""
    if state.problem is None:
        return coef, intercept
    coef = np.asarray(coef)
    with single_blas_thread:
        W = problem.rows.pull((coef.reshape(-1, coef.shape[-1]) @ state.back).T).T
    return np.ascontiguousarray(W).reshape(*coef.shape[:2], -1), intercept
