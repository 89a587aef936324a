"""Stochastic dual coordinate ascent for the lower level, the adjoint and the validation of all splits (method.md, 3)."""

from dataclasses import dataclass, replace

import numpy as np

from sksid._kernels import _dual as kernels
from sksid.problem import TRAIN
from sksid.solvers._base import check_finite, is_count, is_positive, mean_model, require

CACHE_LINE = 64
FLOAT32_CURVATURE = 3e5  # s x²/λ above which float32 duals are too coarse: their rounding moves the row's output by 0.02
FLOAT32_REPORTED = 100.0  # the same for a reported score: by 1e-5
WORK_PER_CALL = 2e8  # multiply-adds in one kernel call: some tenths of a second, after which Ctrl-C is heard
REFIT_RATES = (0.5, 0.98)  # the rate by which a refit's moves shrink from epoch to epoch is trusted between these
TINY = np.finfo(float).tiny
SAMPLE = 1024  # rows that stand for all where the intercept's stiffness is set
STIFFNESS_RANGE = (0.005, 0.5)
SUM = {name: column for column, name in enumerate(kernels.SUMS)}


@dataclass
class DualState:
    """Where the dual solver stands.

    Attributes
    ----------
    table : ndarray of shape (n_features + 1, width)
        Row j is W_j of all lanes, V_j of all lanes, 1/λ_j, padding up to a cache line. The last row is the intercept,
        1/μ in the place of 1/λ. A lane is one output of one split.
    duals : ndarray of shape (n_rows, n_sides, n_lanes)
        β (in validation rows γ), and where there is an adjoint, u.
    residuals : ndarray of shape (n_rows, 2)
        Each row's part in the residuals of the lower level and of the adjoint when it was last visited; without an adjoint,
        by how much that visit changed its outputs, squared, in the second column.
    imbalance : ndarray of shape (n_sides, n_lanes)
        Σ s β and Σ s u − Σ γ s/Σs, which an unpenalised intercept drives to zero.
    drift : float
        The share of imbalance/μ by which the intercept's reference moves for each row visited: 1/n_rows.
    stiffness : float
        μ as a share of the lower level's curvature along the intercept; adapted from epoch to epoch.
    least_stiffness : float
        The μ at which the intercept weighs as much in a row's curvature as all its features; it is kept above.
    log_penalties : ndarray of shape (n_features,)
    free : ndarray of int64
        The features without a penalty, log λ = −∞: their rows of the table have 1/μ_j in the place of 1/λ_j.
    reference : ndarray of shape (n_free, n_sides * n_lanes)
        Where the proximal point of each of them stands.
    random : RandomState
        Draws the order of the blocks.
    pending : ndarray of int64
        The blocks of the current epoch that are still to be visited.
    recent : tuple of (fraction of an epoch, sums)
        What the passes of the last whole epoch summed up, newest first.
    last_imbalance : ndarray, or None
        That of the lower level, and the free features', at the end of the epoch before.
    n_epochs : float
        All that has been spent on this state.
    """

    table: np.ndarray
    duals: np.ndarray
    residuals: np.ndarray
    imbalance: np.ndarray
    drift: float
    stiffness: float
    least_stiffness: float
    log_penalties: np.ndarray
    free: np.ndarray
    reference: np.ndarray
    random: np.random.RandomState
    pending: np.ndarray
    recent: tuple = ()
    last_imbalance: np.ndarray | None = None
    n_epochs: float = 0.0


@dataclass(frozen=True)
class Dual:
    """The dual solver's settings.

    Parameters
    ----------
    with_adjoint : bool, default=True
        Whether the adjoint system is solved along. Without it, a state is half as wide: for a refit.
    block_size : int, default=16
        Rows that are visited in one go; the blocks come in a new random order each epoch.
    stiffness : float, default=0.05
        The proximal weight μ of the intercept at the start, as a share of the lower level's own curvature along it. It is
        halved after an epoch in which the imbalance has hardly fallen, doubled after one in which it has changed sign.
    refresh : int, default=16
        Epochs after which W and V are summed up anew from the duals, to be rid of accumulated rounding.
    hardest : float, default=0.01
        Share of the rows that may be revisited between epochs, where they hold most of the residual.
    revisits : int, default=1000
        How often each of them is, at most.
    warm : float, default=0.7
        How the duals follow falling penalties: 0 keeps the duals, 1 keeps W.
    """

    with_adjoint: bool = True
    block_size: int = 16
    stiffness: float = 0.05
    refresh: int = 16
    hardest: float = 0.01
    revisits: int = 1000
    warm: float = 0.7

    exact = False  # an epoch is one more pass

    def __post_init__(self):
        require(self, lambda x: isinstance(x, bool), "Set True or False.", "with_adjoint")
        require(self, is_count, "Set a whole number, at least 1.", "block_size", "refresh")
        require(self, is_positive, "Set a positive number.", "stiffness")
        require(self, lambda x: is_count(x, least=0), "Set a whole number; 0 revisits no row.", "revisits")
        require(self, lambda x: x == 0 or is_positive(x) and x <= 1, "Set a number from 0 to 1.", "hardest", "warm")

    def init(self, problem, log_penalties, seed=0, start=None):
        """W = 0, V = 0: all duals zero, or those that ``start`` implies.

        In the problem's precision, or in float64 where penalties are too weak for it.
        """
        problem = _in_precision(problem, log_penalties)
        n_sides, n_lanes = 1 + self.with_adjoint, problem.n_splits * problem.n_outputs
        free = np.flatnonzero(np.isneginf(log_penalties))
        state = DualState(
            table=_zeros_on_line((problem.n_features + 1, n_sides * n_lanes + 1), problem.dtype),
            duals=np.zeros((problem.n_rows, n_sides, n_lanes), dtype=problem.dtype),
            residuals=np.zeros((problem.n_rows, 2)),
            imbalance=np.zeros((n_sides, n_lanes)),
            drift=1.0 / problem.n_rows,
            stiffness=self.stiffness,
            least_stiffness=_least_stiffness(problem, log_penalties),
            log_penalties=np.asarray(log_penalties, dtype=np.float64),
            free=free,
            reference=np.zeros((free.size, n_sides * n_lanes), dtype=problem.dtype),
            random=np.random.RandomState(seed),
            pending=np.empty(0, dtype=np.int64),
        )
        state.table[:-1, n_sides * n_lanes] = np.exp(-_finite(state.log_penalties))
        sample = kernels.evaluate(problem, state, 0, min(problem.n_rows, SAMPLE))
        self._set_intercept_stiffness(problem, state, sample)
        return state if start is None else self._start_at(problem, state, start)

    def _start_at(self, problem, state, models):
        """The duals that W and V imply, β = p − e_y and u = D r; zero in splits where those are of no use.

        They are what a visit makes of a row where 1/λ = 0. But where rows or penalties are not those that W was found with,
        Λ⁻¹ X_trᵀ S β may lie far from it: then β = 0 leaves the smaller duality gap, u = 0 the smaller residual.
        """
        n_lanes, sides = state.imbalance.shape[1], models[: state.imbalance.shape[0]]
        used, inverse = state.imbalance.size, state.table[:, state.imbalance.size].copy()
        state.table[:-1, :used] = np.concatenate([np.concatenate(coef) for coef, _ in sides]).T
        state.table[-1, :used] = np.concatenate([np.concatenate(intercept) for _, intercept in sides])
        state.table[:, used] = 0
        for start, stop in _ranges(problem, state):
            kernels.advance(problem, replace(state, drift=0.0), np.arange(start, stop), 1)
        state.table[:, used] = inverse
        sums = self.evaluate(problem, self.rebuild(problem, state))
        useless = sums[:, SUM["gap"]] > np.log(problem.n_classes) * problem.train_totals
        astray = sums[:, SUM["adjoint_residual"]] > sums[:, SUM["adjoint_size"]]
        for side, splits in enumerate((useless, useless | astray)[: len(sides)]):
            lanes = np.flatnonzero(np.repeat(splits, problem.n_outputs))
            state.duals[:, side, lanes] = 0
            state.table[np.ix_(np.append(state.free, problem.n_features), side * n_lanes + lanes)] = 0
        return self.rebuild(problem, state) if (useless | astray).any() else state

    def advance(self, problem, state, n_epochs=1.0):
        """Visit ``n_epochs`` × all blocks, each epoch in a new order.

        Whole epochs begin with a new one, so that the losses of an epoch are of every row once.
        """
        problem = _as_state(problem, state)
        n_blocks = -(-problem.n_rows // self.block_size)
        todo = max(1, round(n_epochs * n_blocks))
        if todo >= n_blocks:
            state.pending = state.pending[:0]
        per_call = max(1, _rows_per_call(problem, state) // self.block_size)
        while todo:
            if not state.pending.size:
                state.pending = state.random.permutation(n_blocks)
            n = min(todo, per_call, state.pending.size)
            blocks, state.pending = state.pending[:n].copy(), state.pending[n:]
            sums = kernels.advance(problem, state, blocks, self.block_size)
            check_finite(sums, "dual")
            self._remember(problem, state, sums, n / n_blocks)
            todo -= n
            if not state.pending.size:
                _adapt_stiffness(problem, state)
                self._revisit(problem, state)
        return state

    def _revisit(self, problem, state):
        """Between epochs: many more visits to the few rows that hold most of either residual, if few do.

        Where penalties are weak, the residual of a whole data set comes to sit in a handful of rows in conflict (near
        duplicates of different classes) that need thousands of visits; that costs a fraction of an epoch.
        """
        cap = max(2, int(self.hardest * problem.n_rows))
        chosen = [_holders_of(residual, 0.9, cap) for residual in state.residuals.T[: state.imbalance.shape[0]]]
        rows = np.unique(np.concatenate(chosen))
        if not rows.size or self.revisits == 0:
            return
        rounds = min(self.revisits, int(0.5 * problem.n_rows / rows.size))
        visits = np.concatenate([state.random.permutation(rows) for _ in range(rounds)])
        per_call = _rows_per_call(problem, state)
        still = replace(state, drift=0.0)  # the intercept's reference waits for the rows that are not visited
        for start in range(0, visits.size, per_call):
            check_finite(kernels.advance(problem, still, visits[start : start + per_call], 1), "dual")
        state.n_epochs += visits.size / problem.n_rows

    def _remember(self, problem, state, sums, fraction):
        before, state.n_epochs = state.n_epochs, state.n_epochs + fraction
        recent, covered = [(fraction, sums)], fraction
        for older in state.recent:
            if covered >= 1.0 - 1e-9:
                break
            recent.append(older)
            covered += older[0]
        state.recent = tuple(recent)
        self._set_intercept_stiffness(problem, state, _total(state))
        if before // self.refresh != state.n_epochs // self.refresh:
            self.rebuild(problem, state)

    def _set_intercept_stiffness(self, problem, state, sums):
        n_sides, n_lanes = state.imbalance.shape
        visited = sums[:, SUM["train_weight"]]
        curvature = sums[:, SUM["curvature"]] / np.maximum(visited, TINY)
        total = problem.train_totals.mean() * curvature.mean()
        stiffness, at = max(state.stiffness * total, state.least_stiffness), n_sides * n_lanes
        state.table[-1, at] = 1.0 / stiffness
        if state.free.size:
            before, lanes = state.table[state.free, at], state.table[state.free, :at]
            state.table[state.free, at] = 1.0 / (stiffness * np.maximum(problem.second_moments[state.free], TINY**0.5))
            state.reference = lanes - (lanes - state.reference) * (state.table[state.free, at] / before)[:, None]

    def rescale(self, problem, state, log_penalties):
        """New penalties: W_j and V_j go with (1/λ_j) times what the duals are multiplied by.

        Duals that are merely kept make W jump with 1/λ, to a start worse than W = 0 where penalties fall by a decade: the
        residuals of a weaker penalty are smaller. So they shrink with the geometric mean of the penalties, to the power
        ``warm``; being convex combinations of β and 0, they stay feasible. Where penalties rise, duals are kept.
        """
        if _in_precision(problem, log_penalties).dtype != state.table.dtype == np.float32:
            state = self.convert(problem.wide, state)
        problem = _as_state(problem, state)
        if not np.array_equal(np.flatnonzero(np.isneginf(log_penalties)), state.free):
            raise ValueError("log_penalties: which features have no penalty cannot change. Begin anew, with init.")
        change = np.mean(_finite(log_penalties) - _finite(state.log_penalties))
        shrink = float(np.exp(min(0.0, self.warm * change)))
        state.log_penalties = np.array(log_penalties, dtype=np.float64)
        state.least_stiffness = _least_stiffness(problem, log_penalties)
        state.duals *= shrink
        state.imbalance *= shrink
        lanes = np.s_[state.free, : state.imbalance.size]
        kept, penalties = state.table[lanes], np.exp(state.log_penalties)
        penalties[state.free] = 1.0 / state.table[state.free, state.imbalance.size]
        kernels.rescale(problem, state, penalties, shrink)
        state.reference = kept - shrink * (kept - state.reference)
        state.table[lanes] = kept
        return state

    def rebuild(self, problem, state):
        """Sum up W, V and the imbalance from the duals alone."""
        problem = _as_state(problem, state)
        lanes = np.s_[state.free, : state.imbalance.size]
        kept = state.table[lanes]
        state.table[:-1, : state.imbalance.size] = 0
        state.imbalance[:] = 0
        for start, stop in _ranges(problem, state):
            kernels.rebuild(problem, state, start, stop)
        state.reference = kept - state.table[lanes]
        state.table[lanes] = kept
        return state

    def convert(self, problem, state):
        """The state in the precision of ``problem``, with W and V summed up in it; its settings may lack the adjoint."""
        n_sides = 1 + self.with_adjoint
        table = _zeros_on_line((problem.n_features + 1, n_sides * state.imbalance.shape[1] + 1), problem.dtype)
        lanes = n_sides * state.imbalance.shape[1]
        table[:-1, lanes] = np.exp(-_finite(state.log_penalties))
        unpenalised = np.append(state.free, problem.n_features)
        table[unpenalised, :lanes] = state.table[unpenalised, :lanes]
        table[unpenalised, lanes] = state.table[unpenalised, state.imbalance.size]
        converted = DualState(
            table=table,
            duals=np.ascontiguousarray(state.duals[:, :n_sides], dtype=problem.dtype),
            residuals=state.residuals,
            imbalance=state.imbalance[:n_sides].copy(),
            drift=state.drift,
            stiffness=state.stiffness,
            least_stiffness=state.least_stiffness,
            log_penalties=state.log_penalties,
            free=state.free,
            reference=state.reference[:, :lanes].astype(problem.dtype),
            random=state.random,
            pending=state.pending,
            recent=state.recent,
            last_imbalance=state.last_imbalance,
            n_epochs=state.n_epochs,
        )
        return self.rebuild(problem, converted)

    def reported(self, problem, log_penalties):
        """The problem itself, or in float64 where float32 is too coarse."""
        return _in_precision(problem, log_penalties, FLOAT32_REPORTED)

    def refit(self, problem, split_problem, state, log_penalties, tol, max_epochs, columns=None):
        """One fit on all rows, without an adjoint, from each row's mean β over the splits."""
        solver = replace(self, with_adjoint=False)
        own = solver.init(problem, log_penalties)
        own.duals[:, 0] = _mean_over_splits(problem, split_problem, state)
        coef, intercept = mean_model(*solver.coefficients(split_problem, state), columns, problem.n_features)
        own.table[-1, : problem.n_outputs] = intercept[0]
        own.table[own.free, : problem.n_outputs] = coef[0][:, own.free].T
        own = solver.rebuild(problem, own)
        converged, move, rounds = False, np.inf, 0
        while own.n_epochs < max_epochs and not converged:
            own = solver.advance(problem, own)
            before, move = move, _last_move(problem, own)
            rate = np.clip(move / before if before > 0 else 0.0, *REFIT_RATES)
            rounds += 1
            converged = rounds > 2 and move * rate / (1.0 - rate) <= tol
        coef, intercept = solver.coefficients(problem, own)
        return coef[0], intercept[0], own.n_epochs, converged

    def losses(self, problem, state):
        """The validation loss of each split, every row's taken when it was visited in the last epoch."""
        sums = _total(state)
        return sums[:, SUM["validation_loss"]] / np.maximum(sums[:, SUM["validation_weight"]], TINY)

    def log_gradient(self, problem, state):
        """−λ_j/n_splits Σ ⟨W_j, V_j⟩ over the splits."""
        return kernels.contract(_as_state(problem, state), state) * (-np.exp(state.log_penalties) / problem.n_splits)

    def recent_changes(self, problem, state):
        """Nothing: an epoch is one pass."""
        return []

    def residual(self, problem, state):
        """How far both solves were from done when the rows of the last epoch were visited.

        The root mean square over the training rows of p − e_y − β, a difference of probabilities, or, where β itself is
        small, as on separable data, a hundredth of it relative to β; for the adjoint, that of D r − u relative to u.
        """
        sums = dict(zip(kernels.SUMS, _total(state).sum(axis=0), strict=True))
        lower = _root_of_ratio(sums["lower_residual"], sums["train_weight"])
        relative = _root_of_ratio(sums["lower_residual"], sums["lower_size"])
        adjoint = _root_of_ratio(sums["adjoint_residual"], sums["adjoint_size"]) if self.with_adjoint else 0.0
        return float(max(lower, 0.01 * relative, 0.01 * adjoint))

    def losses_on(self, problem, state, rows):
        """The weighted mean loss of each split's model on other rows, a Problem of their own with one validation role."""
        rows = _as_state(rows, state)
        n_sides, n_lanes = state.imbalance.shape
        duals = np.zeros((rows.n_rows, n_sides, n_lanes), dtype=rows.dtype)
        bare = replace(state, duals=duals, residuals=np.zeros((rows.n_rows, 2)))
        return self._evaluate_in_parts(rows, bare, losses_only=True)[:, SUM["validation_loss"]]

    def evaluate(self, problem, state):
        """The kernels' sums (n_splits, len(SUM)) over all rows at the state as it stands: losses, gap, residuals."""
        return self._evaluate_in_parts(_as_state(problem, state), state)

    @staticmethod
    def _evaluate_in_parts(problem, state, losses_only=False):
        parts = [kernels.evaluate(problem, state, *part, losses_only) for part in _ranges(problem, state)]
        sums = np.sum(parts, axis=0)
        check_finite(sums, "dual")
        return sums

    def coefficients(self, problem, state):
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs), float64."""
        return self._side(problem, state, 0)

    def adjoint(self, problem, state):
        """V and v in the same shapes."""
        return self._side(problem, state, 1)

    @staticmethod
    def _side(problem, state, side):
        n_lanes = state.imbalance.shape[1]
        lanes = state.table[:, side * n_lanes : (side + 1) * n_lanes].astype(np.float64)
        shape = (problem.n_splits, problem.n_outputs)
        return np.ascontiguousarray(lanes[:-1].T).reshape(*shape, -1), lanes[-1].reshape(shape)


def _in_precision(problem, log_penalties, limit=FLOAT32_CURVATURE):
    """The problem, or its float64 copy where a row's curvature is too large for float32."""
    if problem.dtype == np.float64:
        return problem
    with np.errstate(over="ignore"):
        largest = problem.largest_row * np.exp(-np.min(_finite(log_penalties)))
    return problem.wide if largest > limit else problem


def _as_state(problem, state):
    """The problem in the state's precision."""
    if problem.dtype == state.table.dtype:
        return problem
    return problem.wide if state.table.dtype == np.float64 else problem.astype(np.float32)


def _rows_per_call(problem, state):
    work = problem.values.size * state.table.shape[1] / problem.n_rows
    return max(1, int(WORK_PER_CALL / (work + 1)))


def _ranges(problem, state):
    """The rows in parts, (start, stop), that take a kernel some tenths of a second."""
    step = _rows_per_call(problem, state)
    return [(start, min(start + step, problem.n_rows)) for start in range(0, problem.n_rows, step)]


def _least_stiffness(problem, log_penalties):
    """1 / the weighted mean over rows of Σ_j x_ij²/λ_j; the first rows stand for all, since they are shuffled."""
    n, end = min(SAMPLE, problem.n_rows), problem.indptr[min(SAMPLE, problem.n_rows)]
    inverse = np.where(np.isneginf(log_penalties), 0.0, np.exp(-_finite(log_penalties)))
    with np.errstate(over="ignore"):
        entries = np.square(problem.values[:end], dtype=np.float64)
    columns = np.tile(np.arange(problem.n_features), n) if problem.columns is None else problem.columns[:end]
    weights = problem.weights[:n].astype(np.float64) / max(problem.weights[:n].sum(dtype=np.float64), TINY)
    mean = np.repeat(weights, np.diff(problem.indptr[: n + 1])) @ (entries * inverse[columns])
    return 1.0 / max(float(mean), 1.0 / problem.n_rows)


def _finite(log_penalties):
    """Log λ with 0 for features without a penalty, where whatever stands for 1/λ is put in afterwards."""
    return np.where(np.isneginf(log_penalties), 0.0, log_penalties)


def _adapt_stiffness(problem, state):
    """Soften an intercept that lags behind, stiffen one that swings: by the angle between successive imbalances.

    Imbalances that are no more than rounding say nothing.
    """
    now, before = _unpenalised_imbalance(problem, state), state.last_imbalance
    state.last_imbalance = now
    floor = 100 * np.finfo(problem.dtype).eps * problem.train_totals.mean()
    if before is None or min(np.linalg.norm(now), np.linalg.norm(before)) <= floor:
        return
    ratio = np.linalg.norm(now) / np.linalg.norm(before)
    cosine = now @ before / (np.linalg.norm(now) * np.linalg.norm(before))
    if cosine > 0.5 and ratio > 0.4:
        state.stiffness = max(0.5 * state.stiffness, STIFFNESS_RANGE[0])
    elif cosine < -0.2:
        state.stiffness = min(2.0 * state.stiffness, STIFFNESS_RANGE[1])


def _unpenalised_imbalance(problem, state):
    """Σ s β of the intercepts, if there are any, and Σ s x_j β of the free features, at unit second moments."""
    n_sides, n_lanes = state.imbalance.shape
    intercept = state.imbalance[0] if problem.fit_intercept else np.zeros(n_lanes)
    if not state.free.size:
        return intercept.copy()
    moved = (state.reference - state.table[state.free, : n_sides * n_lanes])[:, :n_lanes].astype(np.float64)
    scale = state.table[state.free, n_sides * n_lanes] * np.sqrt(np.maximum(problem.second_moments[state.free], TINY**0.5))
    return np.append(intercept, moved / scale[:, None])


def _last_move(problem, state):
    """By how much the last epoch of a fit without an adjoint moved outputs: its rows' own, root mean square, or all.

    All are moved by an intercept and by features without a penalty. What is left to go is about as much, times rate/(1 − rate).
    (Residuals of β would not tell: where penalties are weak a small one moves outputs far, most of all those of other rows.)
    """
    curvature = max(_total(state)[:, SUM["curvature"]].sum(), TINY)
    unpenalised = np.abs(_unpenalised_imbalance(problem, state)).max(initial=0.0) / curvature
    return max(np.sqrt(state.residuals[:, 1].mean()), unpenalised)


def _holders_of(residual, mass, cap):
    """The rows that together hold this share of the residual; none if they are more than ``cap`` and hold little."""
    total, nobody = residual.sum(), np.empty(0, dtype=np.intp)
    if not 0 < 0.5 * total <= cap * residual.max(initial=0.0):
        return nobody
    top = np.argpartition(residual, -cap)[-cap:] if cap < residual.size else np.arange(residual.size)
    top = top[np.argsort(-residual[top], kind="stable")]
    held = np.cumsum(residual[top])
    return nobody if held[-1] < 0.5 * total else top[: 1 + np.searchsorted(held, mass * total)]


def _root_of_ratio(part, whole):
    if whole > 0:
        return np.sqrt(part) / np.sqrt(whole)
    return np.inf if part > 0 else 0.0


def _total(state):
    return np.sum([sums for _, sums in state.recent], axis=0)


def _zeros_on_line(shape, dtype):
    """Zeros in whole cache lines, the first on a line's beginning; by ``empty``, so that numpy may ask for huge pages.

    Rows of two numbers, one lane and its 1/λ, stay as they are: a table of them fits a nearer cache.
    """
    item = np.dtype(dtype).itemsize
    width = 2 if shape[1] == 2 else -(-shape[1] * item // CACHE_LINE) * CACHE_LINE // item
    raw = np.empty(shape[0] * width * item + CACHE_LINE, dtype=np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    table = raw[start : start + shape[0] * width * item].view(dtype).reshape(shape[0], width)
    table[:] = 0
    return table


def _mean_over_splits(problem, split_problem, state):
    """Each sample's β, averaged over the splits in which it was a training row: (n_rows, n_outputs), rows of ``problem``."""
    n_samples = 1 + max(problem.order.max(), split_problem.order.max())
    trained = (split_problem.roles == TRAIN).astype(np.float64)
    beta = state.duals[:, 0].reshape(split_problem.n_rows, split_problem.n_splits, split_problem.n_outputs)
    sums = np.zeros((n_samples, problem.n_outputs))
    np.add.at(sums, split_problem.order, np.einsum("ikc,ik->ic", beta, trained))
    counts = np.bincount(split_problem.order, weights=trained.sum(axis=1), minlength=n_samples)
    return (sums / np.maximum(counts, 1)[:, None])[problem.order]
