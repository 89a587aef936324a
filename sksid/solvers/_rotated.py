"""Any solver on as many features as there are rows, whatever the penalties, Eqs. (35) and (45).

With the features divided by the square roots of their penalties and K = X Λ⁻¹ Xᵀ = L Lᵀ, the rows of L make the same problem
under a penalty of 1, and W = Λ⁻¹ Xᵀ L⁻ᵀ U of its solution U. Features without a penalty stand beside L as they are. With many
rows and penalties that differ, K costs more than it saves: the solver goes on with the features.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, solve_triangular

from sksid._threads import single_blas_thread
from sksid.joint import Joint
from sksid.objective import log_gradient
from sksid.problem import VALIDATION, Problem
from sksid.rows import as_rows
from sksid.solvers._contract import Progress, Solver, Wrapper, tighten
from sksid.solvers._together import Together

SIDES = "coefficients", "adjoint"
MOST_ROWS = 150  # for penalties that differ: measured on gene expression and made data
CHUNK = 1 << 16  # entries of X that are scaled at a time
LIFTS = (1e-15, 1e-13, 1e-11, 1e-9, 1e-7)  # of a mean diagonal of 1, times the number of rows, against rounding


@dataclass(frozen=True, eq=False)
class Turned:
    """A problem on rows of few features, which stands for one at log penalties that may differ from these by a constant.

    Attributes
    ----------
    problem : Problem or Joint
        A Joint with a part for each split where penalties differ by split.
    rows : ndarray of int
        Those that have a role in some split.
    factors : ndarray of shape (1 or n_splits, n_rows, n_rows)
        L, lower triangular.
    log_penalties : ndarray of shape (1 or n_splits, n_features)
    """

    problem: Any
    rows: NDArray
    factors: NDArray
    log_penalties: NDArray

    @property
    def free(self) -> NDArray:
        """The features without a penalty."""
        return np.flatnonzero(np.isneginf(self.log_penalties[0]))


@dataclass
class RotatedState:
    """The state ``own`` of the solver below on ``turned``, or on the features where that is None; epochs spent before it."""

    own: Any
    log_penalties: NDArray
    turned: Turned | None
    n_before: float = 0.0

    @property
    def n_epochs(self) -> float:
        """All that has been spent."""
        return self.n_before + self.own.n_epochs


@dataclass(frozen=True)
class Rotated(Wrapper):
    """A solver for dense rows of more features than there are rows.

    Parameters
    ----------
    solver : Solver
        For the problem of n_rows features.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid import hypergradient
    >>> from sksid.solvers import Aid, Rotated
    >>> X, y = np.random.RandomState(0).randn(12, 300), np.arange(12) % 2
    >>> splits = [(np.arange(8), np.arange(8, 12))]
    >>> settings = {"log_penalties": np.linspace(-1.0, 1.0, 300), "tol": 1e-8}
    >>> one, other = (hypergradient(X, y, splits, solver=solver, **settings) for solver in (Rotated(Aid()), "aid"))
    >>> bool(np.allclose(one.gradient, other.gradient, atol=1e-7))
    True
    """

    solver: Solver

    takes_any_objective = False
    takes_split_penalties = True

    def init(self, problem: Problem, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> RotatedState:
        """The solver's own start, on the rows that stand for these penalties."""
        log_penalties = np.asarray(log_penalties, dtype=np.float64)
        turned = _turned(problem, log_penalties)
        if start is not None and turned is not None:
            start = tuple(_in_rows(problem, turned, *side) for side in start)
        return RotatedState(self._start(problem, turned, log_penalties, seed, start), log_penalties, turned)

    def _start(self, problem, turned, log_penalties, seed, start):
        if turned is None:
            return self.solver.init(problem, log_penalties, seed=seed, start=start)
        logs = _logs(turned, np.zeros(len(turned.factors)))
        return self._solver(turned).init(turned.problem, logs, seed=seed, start=start)

    def _solver(self, turned):
        return Together(self.solver) if turned is not None and isinstance(turned.problem, Joint) else self.solver

    @staticmethod
    def _problem(problem, state):
        """What the solver below works on."""
        return problem if state.turned is None else state.turned.problem

    def advance(self, problem: Problem, state: RotatedState, n_epochs: float = 1.0) -> RotatedState:
        """Advance the solver below."""
        state.own = self._solver(state.turned).advance(self._problem(problem, state), state.own, n_epochs)
        return state

    def tighten(self, state: RotatedState, lower: float, adjoint: float) -> RotatedState:
        """Ask the next epoch for these shares of the errors of W and of V."""
        state.own = tighten(self._solver(state.turned), state.own, lower, adjoint)
        return state

    def rescale(self, problem: Problem, state: RotatedState, log_penalties: NDArray) -> RotatedState:
        """New penalties: the same rows where all change alike, else new ones, and the same outputs."""
        log_penalties = np.asarray(log_penalties, dtype=np.float64)
        if state.turned is None:
            return replace(state, own=self.solver.rescale(problem, state.own, log_penalties), log_penalties=log_penalties)
        shifts = _shifts(state.turned, log_penalties)
        if shifts is not None:
            own = self._solver(state.turned).rescale(state.turned.problem, state.own, _logs(state.turned, shifts))
            return replace(state, own=own, log_penalties=log_penalties)
        turned, start = _turned(problem, log_penalties), []
        if turned is None:
            sides = (self.coefficients, self.adjoint)[: 1 + problem.has_validation]
            own = self.solver.init(problem, log_penalties, start=tuple(side(problem, state) for side in sides))
            return RotatedState(own, log_penalties, None, state.n_epochs)
        for coef, intercept in map(partial(self._side, state), SIDES[: 1 + problem.has_validation]):
            n = len(turned.rows)
            outputs = coef[..., :n] @ state.turned.factors.transpose(0, 2, 1)
            start.append((np.concatenate([_divided(turned.factors, outputs), coef[..., n:]], axis=2), intercept))
        return RotatedState(self._start(problem, turned, None, 0, tuple(start)), log_penalties, turned, state.n_epochs)

    def _side(self, state, name):
        """U and its intercepts, of ``coefficients`` or ``adjoint``, as arrays."""
        method = getattr(self._solver(state.turned), name)
        return tuple(map(np.asarray, method(state.turned.problem, state.own)))

    def losses(self, problem: Problem, state: RotatedState, rows: Problem | None = None) -> NDArray:
        """The validation loss of each split, (n_splits,); of other rows, where given."""
        if rows is None or state.turned is None:
            return self._solver(state.turned).losses(self._problem(problem, state), state.own, rows)
        coef, intercept = self.coefficients(problem, state)
        upper = rows.objective(VALIDATION)
        return upper.losses(upper.outputs(np.concatenate([coef, intercept[..., None]], axis=2)))

    def log_gradient(self, problem: Problem, state: RotatedState) -> NDArray:
        """∂F/∂log λ, in the shape of the log penalties, Eq. (4)."""
        if state.turned is None:
            return self.solver.log_gradient(problem, state.own)
        U = np.concatenate([self._side(state, name)[0] for name in SIDES], axis=1)
        W, V = np.split(_in_features(problem, state.turned, U), 2, axis=1)  # in one pass over the rows
        inner = problem.penalty.inner(W, V).sum(axis=1)
        logs = state.log_penalties
        return log_gradient(logs, inner if logs.ndim == 2 else inner.sum(axis=0), problem.n_splits)

    def progress(self, problem: Problem, state: RotatedState) -> Progress:
        """That of the solver below."""
        return self._solver(state.turned).progress(self._problem(problem, state), state.own)

    def coefficients(self, problem: Problem, state: RotatedState) -> tuple[NDArray, NDArray]:
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs)."""
        if state.turned is None:
            return self.solver.coefficients(problem, state.own)
        coef, intercept = self._side(state, "coefficients")
        return _in_features(problem, state.turned, coef), intercept

    def adjoint(self, problem: Problem, state: RotatedState) -> tuple[NDArray, NDArray]:
        """V and v in the same shapes."""
        if state.turned is None:
            return self.solver.adjoint(problem, state.own)
        coef, intercept = self._side(state, "adjoint")
        return _in_features(problem, state.turned, coef), intercept


def _turned(problem, log_penalties):
    """The problem on the rows of L, and of the features without a penalty, at these log penalties; None where that is dear."""
    logs, used = np.atleast_2d(log_penalties), np.flatnonzero(problem.roles.role.any(axis=1))
    penalized = logs[np.isfinite(logs)]
    if used.size > MOST_ROWS and penalized.size and np.ptp(penalized) > 0:
        return None
    with single_blas_thread:
        factors = np.array([_factor(_gram(problem.rows, used, own)) for own in logs])
    free = np.flatnonzero(np.isneginf(logs[0]))
    beside = _entries(problem.rows, used, free)
    roles = problem.roles
    roles = replace(roles, labels=roles.labels[used], weights=roles.weights[used], role=np.ascontiguousarray(roles.role[used]))
    problems = []
    for k, factor in enumerate(factors):
        rows = as_rows(np.column_stack([factor, beside]), problem.rows.samples[used])
        own = roles if len(factors) == 1 else roles.of_splits(np.array([k]))
        problems.append(replace(problem, rows=rows, roles=own, dtype=np.dtype(np.float64)))
    joint = problems[0] if len(problems) == 1 else Joint(tuple(problems), (None,) * len(problems), problems[0].n_features)
    return Turned(joint, used, factors, logs)


def _entries(rows, used, columns):
    return np.concatenate([block.matrix[:, columns] for block in rows.blocks])[used]


def _gram(rows, used, log_penalties):
    """X Λ⁻¹ Xᵀ of the penalized features."""
    gram = np.zeros((used.size, used.size))
    scales = np.where(np.isneginf(log_penalties), 0.0, np.exp(-0.5 * np.where(np.isneginf(log_penalties), 0.0, log_penalties)))
    step = max(64, CHUNK // used.size)
    for start in range(0, rows.n_features, step):
        own = slice(start, start + step)
        part = _entries(rows, used, own) * scales[own]
        gram += part @ part.T
    return gram


def _factor(gram):
    """L of gram + a lift against rounding, L Lᵀ."""
    n = len(gram)
    unit = n * max(gram.diagonal().mean(), np.finfo(float).tiny)
    for lift in LIFTS:
        lifted = gram + lift * unit * np.eye(n)
        factor, failed = lapack.dpotrf(lifted, lower=1, clean=1)
        if not failed:
            break
    return factor


def _logs(turned, shifts):
    """The log penalties on the features of L, and on those without a penalty, (n_features,) or (n_splits, n_features)."""
    n, free = len(turned.rows), turned.free.size
    logs = np.column_stack([np.repeat(shifts[:, None], n, axis=1), np.full((len(shifts), free), -np.inf)])
    return logs if len(logs) > 1 else logs[0]


def _shifts(turned, log_penalties):
    """By what log penalties, of each split, are above those of the factors; None if that differs between features."""
    logs = np.atleast_2d(log_penalties)
    if logs.shape != turned.log_penalties.shape:
        return None
    penalized = np.isfinite(logs[0])
    changes = logs[:, penalized] - turned.log_penalties[:, penalized]
    if not changes.size:
        return np.zeros(len(logs))
    return changes[:, 0] if (np.ptp(changes, axis=1) <= 1e-12).all() else None


def _divided(factors, U, transposed=False):
    """L⁻¹ of the vectors of every split, or L⁻ᵀ, (n_splits, n, n_rows)."""
    factors = np.broadcast_to(factors, (len(U), *factors.shape[1:]))
    with single_blas_thread:
        settings = {"lower": True, "trans": int(transposed), "check_finite": False}
        return np.array([solve_triangular(L, u.T, **settings).T for L, u in zip(factors, U, strict=True)])


def _in_rows(problem, turned, coef, intercept):
    """U of W: the same outputs of all rows."""
    coef = np.array(coef)
    free = coef[..., turned.free]
    coef[..., turned.free] = 0.0
    flat = coef.reshape(-1, coef.shape[-1])
    with single_blas_thread:
        outputs = problem.products.outputs(flat)[:, turned.rows].reshape(*coef.shape[:2], -1)
    return np.concatenate([_divided(turned.factors, outputs), free], axis=2), np.asarray(intercept)


def _in_features(problem, turned, U):
    """Λ⁻¹ Xᵀ L⁻ᵀ U of every split."""
    n = len(turned.rows)
    duals = np.zeros((U.shape[0] * U.shape[1], problem.n_rows))
    duals[:, turned.rows] = _divided(turned.factors, U[..., :n], transposed=True).reshape(-1, n)
    with single_blas_thread:
        W = problem.products.pull(duals).reshape(*U.shape[:2], -1)
    logs = np.where(np.isneginf(turned.log_penalties), 0.0, turned.log_penalties)
    W *= np.exp(-logs)[:, None]
    W[..., turned.free] = U[..., n:]
    return W
