"""What a worker does for ``Local``: it visits the rows of one chunk, and tells what that has changed.

A chunk is a Problem of its own; its duals stay where it is. W, V and 1/λ of all features come as one array, (n_features + 1,
used + n_inverses), the columns of a table without its padding.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._kernels import _dual as kernels
from sksid._kernels._layout import COLUMNS_AHEAD
from sksid.problem import Problem
from sksid.rows import Rows
from sksid.solvers._dual_state import DualState, class_curvatures, or_zero, zeros_on_line


@dataclass(frozen=True, eq=False)
class News:
    """What visits have changed; of several chunks, the sum.

    Attributes
    ----------
    change : ndarray of shape (n_features + 1, used), or 0
        Of W and V.
    imbalance : ndarray of shape (n_sides, n_vectors)
    sums : ndarray of shape (n_splits, len(SUM)), or 0
        The kernels'.
    moved : float
        Σ of the squares by which each row's visit has moved its outputs, of a fit without an adjoint.
    curvatures : ndarray of shape (n_splits, n_outputs), or inf
        ``class_curvatures`` of the chunk's rows.
    """

    change: Any
    imbalance: Any
    sums: Any = 0.0
    moved: float = 0.0
    curvatures: Any = 0.0

    def __add__(self, other: "News") -> "News":
        pairs = ((getattr(self, name), getattr(other, name)) for name in vars(self))
        return News(*(one + two for one, two in pairs))

    @property
    def small(self) -> "News":
        """Without the large part."""
        return replace(self, change=0.0)


def without_rows(problem: Problem) -> Problem:
    """The same problem of no rows."""
    nothing = np.empty(0, dtype=np.intp)
    columns = np.zeros(COLUMNS_AHEAD, dtype=np.int32) if problem.rows.is_sparse else None
    rows = Rows(np.empty(0, problem.rows.dtype), columns, np.zeros(1, dtype=np.int64), nothing, problem.n_features)
    return replace(problem, rows=rows, roles=problem.roles.of_rows(nothing))


def part(rows: Rows, empty: Problem) -> Problem:
    """The problem of a chunk, from its rows and a problem of none, with its roles."""
    return replace(empty, rows=rows)


def zero_duals(problem: Problem, small: DualState) -> tuple[NDArray, NDArray]:
    """Duals and residuals of a chunk."""
    return np.zeros((problem.n_rows, *small.imbalance.shape), small.dtype), np.zeros((problem.n_rows, 2), small.dtype)


def visit(
    problem: Problem, kept: tuple, shared: NDArray, small: DualState, seed: int, piece: tuple, size: int, parts: int
) -> Any:
    """Visit a piece of a chunk's rows, as if each of the ``parts`` did what this one does: the duals, and the News.

    So 1/λ and 1/μ are ``parts`` times as large, and what W and V change counts for 1/``parts`` of it: the safe sum of CoCoA+.
    """
    visits = problem.rows.visits(np.random.RandomState(seed), size)
    begin, end = (round(share * visits.size) for share in piece)
    state = _state(problem, kept, shared, small, float(parts))
    sums = kernels.advance(problem, state, visits[begin:end], size)
    change = (state.table[:, : state.used] - shared[:, : state.used]) / state.dtype.type(parts)
    moved = float(state.residuals[:, 1].sum(dtype=np.float64)) if state.imbalance.shape[0] == 1 else 0.0
    news = News(change, state.imbalance - small.imbalance, sums, moved, class_curvatures(problem, state))
    return (state.duals, state.residuals), news


def implied(problem: Problem, kept: tuple, shared: NDArray, small: DualState) -> tuple[NDArray, NDArray]:
    """The duals that W and V imply: a visit with 1/λ = 0 sets them."""
    state = replace(_state(problem, kept, shared, small, 0.0), reference_step=0.0)
    kernels.advance(problem, state, np.arange(problem.n_rows), 1)
    return state.duals, state.residuals


def rebuild(problem: Problem, kept: tuple, shared: NDArray, small: DualState) -> News:
    """What the duals of a chunk make of W, V and the imbalance."""
    state = _state(problem, kept, shared, small)
    state.table[:, : state.used], state.imbalance[:] = 0, 0
    kernels.rebuild(problem, state, 0, problem.n_rows)
    return News(np.array(state.table[:, : state.used]), state.imbalance)


def evaluate(problem: Problem, kept: tuple, shared: NDArray, small: DualState, most: int, losses_only: bool) -> NDArray:
    """The kernels' sums over the first rows, ``most`` at most."""
    return kernels.evaluate(problem, _state(problem, kept, shared, small), 0, min(most, problem.n_rows), losses_only)


def forget(kept: tuple, side: int, vectors: NDArray) -> tuple[NDArray, NDArray]:
    """The duals without those of some vectors of a side."""
    duals = np.array(kept[0])
    duals[:, side, vectors] = 0
    return duals, kept[1]


def shrunk(kept: tuple, by: float, dtype: Any) -> tuple[NDArray, NDArray]:
    """The duals times a number, in another precision."""
    duals, residuals = (np.asarray(own, dtype=dtype) for own in kept)
    return duals * dtype.type(by), residuals


# ---- on W and V -----------------------------------------------------------------------------------------------------------


def table(log_penalties: NDArray, small: DualState, sides: Any = (), intercepts: Any = None) -> NDArray:
    """W, V and 1/λ: zeros, or ``sides``; ``intercepts``, where they are finite, are held."""
    used, logs = small.used, np.atleast_2d(log_penalties)
    shared = np.zeros((logs.shape[1] + 1, used + small.n_inverses), small.dtype)
    shared[:-1, used:] = np.exp(-or_zero(logs)).T
    n_vectors = small.imbalance.shape[1]
    for number, (coef, intercept) in enumerate(sides):
        own = slice(number * n_vectors, (number + 1) * n_vectors)
        shared[:-1, own], shared[-1, own] = np.concatenate(coef).T, np.concatenate(intercept)
    if intercepts is not None:
        shared[-1, :n_vectors] = np.where(np.isfinite(intercepts), intercepts, shared[-1, :n_vectors])
    return shared


def moved(shared: NDArray, news: News) -> NDArray:
    """W and V, and what has been changed."""
    shared = np.array(shared)
    shared[:, : news.change.shape[1]] += news.change
    return shared


def replaced(shared: NDArray, news: News, zeros: NDArray | None = None) -> NDArray:
    """W and V anew, with the intercepts as they are, but for zeros in some vectors."""
    shared, used = np.array(shared, dtype=news.change.dtype), news.change.shape[1]
    shared[:-1, :used] = news.change[:-1]
    if zeros is not None:
        shared[-1, zeros] = 0
    return shared


def rescaled(shared: NDArray, small: DualState, empty: Problem, penalties: NDArray, shrink: float) -> NDArray:
    """At other penalties, Eq. (14): (n_features,) or (n_splits, n_features)."""
    n_inverses = small.n_inverses
    wide = np.empty((shared.shape[0], small.used + n_inverses), small.dtype)
    wide[:, : small.used], wide[:, small.used :] = shared[:, : small.used], shared[:, small.used :][:, -1:]
    if shared.shape[1] == wide.shape[1]:
        wide[:, small.used :] = shared[:, small.used :]
    problem, state = _bare(wide, small, empty)
    kernels.rescale(problem, state, np.ascontiguousarray(penalties), shrink)
    wide[:] = state.table[:, : wide.shape[1]]
    wide[-1, : small.used] = shared[-1, : small.used]
    return wide


def contract(shared: NDArray, small: DualState, empty: Problem) -> NDArray:
    """⟨W_j, V_j⟩ of each penalty."""
    return kernels.contract(*_bare(shared, small, empty))


def _bare(shared, small, empty):
    """Problem and state of no rows."""
    return empty, _state(empty, zero_duals(empty, small), shared, small)


def _state(problem, kept, shared, small, parts=1.0):
    """The state of a chunk; the arrays are its own."""
    used, n_inverses = small.used, small.n_inverses
    own = zeros_on_line(problem.n_features + 1, used, small.dtype, n_inverses)
    own[:, :used], own[:, used : used + n_inverses] = shared[:, :used], shared[:, used:]
    own[-1, used : used + n_inverses] = small.table[-1, small.inverses]
    own[:, used : used + n_inverses] *= small.dtype.type(parts)
    duals, residuals = map(np.array, kept)
    reference, unpenalized = np.zeros((0, used), small.dtype), np.empty(0, dtype=np.int64)
    imbalance = np.array(small.imbalance)
    return replace(
        small, table=own, duals=duals, residuals=residuals, imbalance=imbalance, reference=reference, unpenalized=unpenalized
    )
