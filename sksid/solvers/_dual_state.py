"""The dual solver's state: the layout of its arrays, how they are made and recomputed, and what is read from them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._compact import elementwise, own
from sksid._disk_rows import DiskRows
from sksid._kernels._layout import CACHE_LINE, SUMS, dual_width
from sksid.problem import TRAIN, Problem
from sksid.solvers import _passes as passes

TINY = np.finfo(float).tiny
REFERENCE_STEPS = 2.0  # of the proximal point method in an epoch
FAR = 1e6  # the adjoint restarts where (Σs) Σ s |u|² exceeds this and the residual is as large; about 1 at a solution
AT_ONCE = 4096  # rows
SUM = {name: column for column, name in enumerate(SUMS)}


@dataclass
class DualState:
    """Where the dual solver stands.

    A *vector* is one coefficient vector: one output of one split, vector = split * n_outputs + output. A *side* is the lower
    level or the adjoint; a final fit has the first only.

    Attributes
    ----------
    table : ndarray of shape (n_features + 1, width)
        Row j is W_j of all vectors, V_j of all vectors, 1/λ_j, padding up to a cache line. The last row is the intercept,
        1/μ in the place of 1/λ. Its dtype is the precision of the solve.
    n_inverses : int
        1/λ_j in a row: one of each split once penalties have differed by split, else 1.
    duals : ndarray of shape (n_rows, n_sides, n_vectors)
        β (in validation rows γ), and where there is an adjoint, u.
    residuals : ndarray of shape (n_rows, 2)
        Each row's part in the residuals of the lower level and of the adjoint when it was last visited; without an adjoint,
        by how much that visit changed its outputs, squared, in the second column.
    imbalance : ndarray of shape (n_sides, n_vectors)
        Σ s β and Σ s u − Σ γ s/Σs, which an unpenalized intercept drives to zero.
    reference_step : float
        The share of imbalance/μ by which the intercept's reference moves for each row visited: 2/n_rows.
    proximal_weight : float
        μ as a share of the lower level's curvature along the intercept; adapted from epoch to epoch, Eq. (33).
    least_proximal_weight : float
        The μ at which the intercept weighs as much in a row's curvature as all its features; it is kept above.
    log_penalties : ndarray of shape (n_features,) or (n_splits, n_features)
    unpenalized : ndarray of int64
        The features without a penalty, log λ = −∞: their rows of the table have 1/μ_j in the place of 1/λ_j.
    reference : ndarray of shape (n_unpenalized, n_sides * n_vectors)
        Where the proximal point of each of them stands.
    random : RandomState
        Draws the order of the blocks.
    pending : ndarray of int64
        The blocks of the current epoch that are still to be visited.
    recent : tuple of (fraction of an epoch, sums)
        What the passes of the last whole epoch summed up, newest first.
    last_imbalance : ndarray, or None
        That of the lower level, and the unpenalized features', at the end of the epoch before.
    moved : float
        How far the last whole epoch moved outputs before rows were revisited, which then stand still while others follow them.
    n_epochs : float
        All that has been spent on this state.
    curvatures : ndarray of shape (n_splits, n_outputs), or inf
        ``class_curvatures``, after the last whole epoch.
    """

    table: NDArray
    duals: NDArray
    residuals: NDArray
    imbalance: NDArray
    reference_step: float
    proximal_weight: float
    least_proximal_weight: float
    log_penalties: NDArray
    unpenalized: NDArray
    reference: NDArray
    random: np.random.RandomState
    pending: NDArray
    recent: tuple = ()
    last_imbalance: NDArray | None = None
    moved: float = np.inf
    n_epochs: float = 0.0
    n_inverses: int = 1
    curvatures: Any = np.inf

    @property
    def dtype(self):
        """The precision of the solve."""
        return self.table.dtype

    @property
    def used(self):
        """The columns of the table that hold W and V; the next ones are 1/λ."""
        return self.imbalance.size

    @property
    def inverses(self):
        """The columns of the table that hold 1/λ."""
        return slice(self.used, self.used + self.n_inverses)

    @property
    def recent_sums(self):
        """The kernels' sums over the last epoch, (n_splits, len(SUM))."""
        return np.sum([sums for _, sums in self.recent], axis=0)


def zeros_at(problem: Problem, log_penalties, *, proximal_weight, seed) -> DualState:
    """The state at W = 0, V = 0, in the precision that these penalties need; proximal weights are still to be set."""
    dtype = problem.precision(log_penalties)
    n_sides, n_vectors = 1 + problem.has_validation, problem.n_splits * problem.n_outputs
    log_penalties = np.asarray(log_penalties, dtype=np.float64)
    n_inverses, unpenalized = inverses_for(log_penalties), unpenalized_of(log_penalties)
    state = DualState(
        table=zeros_on_line(problem.n_features + 1, n_sides * n_vectors, dtype, n_inverses),
        n_inverses=n_inverses,
        duals=problem.rows.room((problem.n_rows, n_sides, n_vectors), dtype),
        residuals=problem.rows.room((problem.n_rows, 2), dtype),
        imbalance=np.zeros((n_sides, n_vectors)),
        reference_step=REFERENCE_STEPS / problem.n_rows,
        proximal_weight=proximal_weight,
        least_proximal_weight=0.0,
        log_penalties=own(log_penalties),
        unpenalized=unpenalized,
        reference=np.zeros((unpenalized.size, n_sides * n_vectors), dtype=dtype),
        random=np.random.RandomState(seed),
        pending=np.empty(0, dtype=np.int64),
    )
    state.table[:-1, state.inverses] = np.atleast_2d(elementwise(_inverse, state.log_penalties)).T
    return state


def inverses_for(log_penalties: NDArray) -> int:
    """How many 1/λ a feature has at these penalties, (n_features,) or (n_splits, n_features)."""
    return 1 if log_penalties.ndim == 1 else log_penalties.shape[0]


def unpenalized_of(log_penalties: NDArray) -> NDArray:
    """The features without a penalty, the same ones in all splits."""
    without = np.isneginf(np.atleast_2d(log_penalties))
    if (without != without[0]).any():
        raise ValueError("log_penalties: a feature without a penalty in one split must be without one in all.")
    return np.flatnonzero(without[0])


def by_split(problem: Problem, state: DualState) -> DualState:
    """The state with a 1/λ for each split, all of them as they were."""
    table = zeros_on_line(problem.n_features + 1, state.used, state.dtype, problem.n_splits)
    wide = replace(state, table=table, n_inverses=problem.n_splits)
    table[:, : state.used], table[:, wide.inverses] = state.table[:, : state.used], state.table[:, state.inverses]
    return wide


def widened(problem: Problem, state: DualState) -> DualState:
    """The state in float64, with W and V summed up in it; the old table is given up first, whose memory that takes."""
    at, columns = np.append(state.unpenalized, problem.n_features), slice(state.inverses.stop)
    kept, state.table = state.table[at, columns], np.empty(0)
    table = zeros_on_line(problem.n_features + 1, state.used, np.float64, state.n_inverses)
    table[:-1, state.inverses] = np.atleast_2d(elementwise(_inverse, state.log_penalties)).T
    table[at, columns] = kept
    wide = replace(state, table=table, reference=state.reference.astype(np.float64))
    wide.duals, wide.residuals = (problem.rows.room(part.shape, np.float64) for part in (state.duals, state.residuals))
    wide.duals[...], wide.residuals[...] = state.duals, state.residuals
    return rebuilt(problem, wide)


def rebuilt(problem: Problem, state: DualState) -> DualState:
    """W, V and the imbalance summed up from the duals alone, Eqs. (6) and (10)."""
    vectors = np.s_[state.unpenalized, : state.used]
    kept = state.table[vectors]
    state.table[:-1, : state.used] = 0
    state.imbalance[:] = 0
    for start, stop in ranges(problem, state):
        passes.rebuild(problem, state, start, stop)
    state.reference = kept - state.table[vectors]
    state.table[vectors] = kept
    return state


def outgrown(problem: Problem, state: DualState) -> NDArray:
    """The splits, (n_splits,) bool, whose adjoint has grown so large that V = 0 has the smaller residual.

    While W still changes much from visit to visit, as with badly scaled features, the curvatures D change by factors, and u
    and V may grow without bound. The duals of a solution are about 1/Σs.
    """
    if state.imbalance.shape[0] == 1:
        return np.zeros(problem.n_splits, dtype=bool)
    size, residual = (state.recent_sums[:, SUM[name]] for name in ("adjoint_size", "adjoint_residual"))
    return (residual > size) & (size * problem.train_totals > FAR)


def poor_starts(problem: Problem, sums: NDArray) -> tuple[NDArray, NDArray]:
    """The splits, (n_splits,) bool, of either side, where zeros are a better start than duals that W and V imply.

    If W was found with other rows or penalties, Λ⁻¹ X_trᵀ S β may lie far from it: then β = 0 has the smaller duality gap, and
    u = 0 the smaller residual.
    """
    useless = sums[:, SUM["gap"]] > np.log(problem.n_classes) * problem.train_totals
    return useless, useless | (sums[:, SUM["adjoint_residual"]] > sums[:, SUM["adjoint_size"]])


def class_curvatures(problem: Problem, state: DualState) -> Any:
    """The lower level's curvature along each class's intercept, as its duals tell, (n_splits, n_outputs).

    That is Σ s p (1 − p), where |β| stands for p or 1 − p. Infinite where the mean one tells all, or nobody asks.
    """
    if problem.n_outputs == 1 or not problem.fit_intercept or state.imbalance.shape[0] == 1:
        return np.inf
    roles, found = problem.roles, np.zeros((problem.n_splits, problem.n_outputs))
    for start in range(0, problem.n_rows, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        sizes = np.abs(state.duals[rows, 0]).reshape(-1, *found.shape)
        scale = roles.train_scale[roles.labels[rows], np.arange(problem.n_splits)]
        weights = roles.weights[rows, None] * scale * (roles.role[rows] == TRAIN)
        found += np.einsum("ik,ikc->kc", weights, sizes - sizes * sizes)
    return found


def side_of(problem: Problem, state: DualState, side: int):
    """Coefficients (n_splits, n_outputs, n_features) and intercepts (n_splits, n_outputs) of a side, float64."""
    n_vectors = state.imbalance.shape[1]
    vectors = state.table[:, side * n_vectors : (side + 1) * n_vectors].T
    shape = (problem.n_splits, problem.n_outputs)
    coef = np.array(vectors[:, :-1], dtype=np.float64, order="C")
    return coef.reshape(*shape, -1), vectors[:, -1].astype(np.float64).reshape(shape)


def or_zero(log_penalties):
    """Log λ with 0 in place of −∞ for features without a penalty; the caller sets their 1/λ afterwards."""
    return elementwise(lambda logs: np.where(np.isneginf(logs), 0.0, logs), log_penalties)


def _inverse(log_penalties):
    return np.exp(-or_zero(log_penalties))


def rows_per_call(problem: Problem, state: DualState, work: float = 2e8) -> int:
    """Rows for one kernel call of so many multiply-adds: some tenths of a second, so that Ctrl-C soon takes effect."""
    if isinstance(problem.rows, DiskRows):
        return problem.n_rows  # a call of a kernel for each block
    each = problem.rows.n_entries * state.table.shape[1] / problem.n_rows
    return max(1, int(work / (each + 1)))


def ranges(problem: Problem, state: DualState):
    """The rows in parts, (start, stop), for one kernel call each."""
    step = rows_per_call(problem, state)
    return [(start, min(start + step, problem.n_rows)) for start in range(0, problem.n_rows, step)]


def zeros_on_line(n_rows: int, n_used: int, dtype, n_inverses: int = 1) -> NDArray:
    """Zeros in rows padded to whole cache lines and aligned to them; made by ``empty``, for which numpy may use huge pages.

    Rows of two numbers, one vector and its 1/λ, are not padded: a table of them fits a nearer cache.
    """
    width, item = dual_width(n_used, dtype, n_inverses), np.dtype(dtype).itemsize
    raw = np.empty(n_rows * width * item + CACHE_LINE, dtype=np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    table = raw[start : start + n_rows * width * item].view(dtype).reshape(n_rows, width)
    table[:] = 0
    return table
