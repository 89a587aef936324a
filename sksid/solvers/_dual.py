"""Stochastic dual coordinate ascent for the lower level, the adjoint and the validation of all splits, Eqs. (6) to (15)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sksid._compact import elementwise, own
from sksid.objective import log_gradient
from sksid.problem import Problem
from sksid.solvers import _passes as passes
from sksid.solvers._contract import Progress, check_finite, is_count, is_positive, require
from sksid.solvers._dual_state import (
    SUM,
    TINY,
    DualState,
    by_split,
    class_curvatures,
    inverses_for,
    or_zero,
    outgrown,
    poor_starts,
    ranges,
    rebuilt,
    rows_per_call,
    side_of,
    unpenalized_of,
    widened,
    zeros_at,
)
from sksid.solvers._proximal import SAMPLE, adapt_weight, imbalance_of, least_weight, set_weights

LOST = 0.1  # what a Newton step would move an intercept by, in log odds, where a solve is not near its end


@dataclass(frozen=True)
class Dual:
    """The dual solver's settings.

    Parameters
    ----------
    block_size : int, default=16
        Rows that are visited in one go; the blocks come in a new random order each epoch.
    proximal_weight : float, default=0.05
        The proximal weight μ of the intercept at the start, as a share of the lower level's own curvature along it. It is
        lowered where the intercept holds up the rows, and doubled after an epoch in which the imbalance has changed sign.
    refresh : int, default=16
        Epochs after which W and V are recomputed from the duals, which removes accumulated rounding.
    hardest : float, default=0.01
        The largest share of the rows that may be revisited between epochs, where they hold most of the residual.
    revisits : int, default=1000
        Visits to each of them at most.
    keep_coef : float, default=0.7
        How the duals follow falling penalties, Eq. (14): 0 keeps the duals, 1 keeps W.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid import hypergradient
    >>> from sksid.solvers import Dual
    >>> X, y = np.eye(6) + 1.0, np.array([0, 1, 0, 1, 0, 1])
    >>> splits = [(np.arange(4), np.arange(4, 6))]
    >>> hypergradient(X, y, splits, log_penalties=0.0, solver=Dual(block_size=1)).gradient.shape
    (6,)
    """

    block_size: int = 16
    proximal_weight: float = 0.05
    refresh: int = 16
    hardest: float = 0.01
    revisits: int = 1000
    keep_coef: float = 0.7

    threads_itself = False
    precise = True
    takes_unpenalized = True
    takes_any_objective = False
    takes_split_penalties = True

    def __post_init__(self):
        require(self, is_count, "Set a whole number, at least 1.", "block_size", "refresh")
        require(self, is_positive, "Set a positive number.", "proximal_weight")
        require(self, lambda x: is_count(x, least=0), "Set a whole number; 0 revisits no row.", "revisits")
        require(self, lambda x: x == 0 or is_positive(x) and x <= 1, "Set a number from 0 to 1.", "hardest", "keep_coef")

    def init(self, problem: Problem, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> DualState:
        """W = 0, V = 0: all duals zero, or those that ``start`` implies.

        In the problem's precision, or in float64 where penalties are too weak for it.
        """
        state = zeros_at(problem, log_penalties, proximal_weight=self.proximal_weight, seed=seed)
        state.least_proximal_weight = least_weight(problem, log_penalties, state.dtype)
        _hold(problem, state)
        set_weights(problem, state, passes.evaluate(problem, state, 0, min(problem.n_rows, SAMPLE)))
        return state if start is None else self._start_at(problem, state, start)

    def _start_at(self, problem, state, models):
        """The duals that W and V imply, β = p − e_y and u = D r; zero in splits where zero is the better start.

        A visit with 1/λ = 0 sets exactly these duals.
        """
        n_sides, n_vectors = state.imbalance.shape
        used, inverse, sides = state.used, state.table[:, state.inverses].copy(), models[:n_sides]
        state.table[:-1, :used] = np.concatenate([np.concatenate(coef) for coef, _ in sides]).T
        state.table[-1, :used] = np.concatenate([np.concatenate(intercept) for _, intercept in sides])
        state.table[:, state.inverses] = 0
        for start, stop in ranges(problem, state):
            passes.advance(problem, replace(state, reference_step=0.0), np.arange(start, stop), 1)
        state.table[:, state.inverses] = inverse
        rebuilt(problem, state)
        if n_sides == 1:
            return state  # a final fit goes on from the splits' models, at the same penalties
        poor = poor_starts(problem, self.evaluate(problem, state))
        for side, splits in enumerate(poor[: len(sides)]):
            vectors = np.flatnonzero(np.repeat(splits, problem.n_outputs))
            state.duals[:, side, vectors] = 0
            state.table[np.ix_(np.append(state.unpenalized, problem.n_features), side * n_vectors + vectors)] = 0
        _hold(problem, state)
        return rebuilt(problem, state) if poor[1].any() else state

    def advance(self, problem: Problem, state: DualState, n_epochs: float = 1.0) -> DualState:
        """Visit ``n_epochs`` × all blocks, each epoch in a new order.

        A call for whole epochs drops what is left of an unfinished one, so that its losses count every row once.
        """
        n_blocks = problem.rows.n_visits(self.block_size)
        todo = max(1, round(n_epochs * n_blocks))
        if todo >= n_blocks:
            state.pending = state.pending[:0]
        per_call = max(1, rows_per_call(problem, state) // self.block_size)
        while todo:
            if not state.pending.size:
                state.pending = problem.rows.visits(state.random, self.block_size)
            n = min(todo, per_call, state.pending.size)
            blocks, state.pending = state.pending[:n].copy(), state.pending[n:]
            sums = passes.advance(problem, state, blocks, self.block_size)
            check_finite(sums, "dual")
            self._remember(problem, state, sums, n / n_blocks)
            todo -= n
            if not state.pending.size:
                adapt_weight(problem, state, self.proximal_weight)
                state.moved = last_move(problem, state, state.residuals[:, 1].mean(dtype=np.float64))
                self._revisit(problem, state)
                state = _restart_adjoint(problem, state)
                state.curvatures = class_curvatures(problem, state)
        return state

    def _revisit(self, problem, state):
        """Between epochs, visit the few rows that hold most of either residual many more times, if a few rows do.

        Where penalties are weak, almost the whole residual ends up in a handful of conflicting rows (near duplicates of
        different classes) that need thousands of visits; these cost a fraction of an epoch.
        """
        cap = max(2, int(self.hardest * problem.n_rows))
        chosen = [_holders_of(residual, 0.9, cap) for residual in state.residuals.T[: state.imbalance.shape[0]]]
        rows = np.unique(np.concatenate(chosen))
        rounds = min(self.revisits, int(0.5 * problem.n_rows / rows.size)) if rows.size else 0
        if rounds == 0:
            return
        still = replace(state, reference_step=0.0)  # the intercept's reference waits for the rows that are not visited
        own, still, places = passes.at_hand(problem, still, rows)
        visits = np.concatenate([state.random.permutation(places) for _ in range(rounds)])
        per_call = rows_per_call(problem, state)
        for start in range(0, visits.size, per_call):
            check_finite(passes.advance(own, still, visits[start : start + per_call], 1), "dual")
        passes.put_back(state, still, rows)
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
        set_weights(problem, state, state.recent_sums)
        if before // self.refresh != state.n_epochs // self.refresh:
            self._rebuild(problem, state)

    def _rebuild(self, problem, state):
        rebuilt(problem, state)

    def rescale(self, problem: Problem, state: DualState, log_penalties: NDArray) -> DualState:
        """New penalties, Eq. (14): W_j and V_j go with (1/λ_j) times what the duals are multiplied by.

        If duals were kept while penalties fall by a factor of ten, W would grow with 1/λ to a start worse than W = 0, because
        the duals of a weaker penalty are smaller. So duals shrink with the geometric mean of the penalties, to the power
        ``keep_coef``; as convex combinations of β and 0 they stay feasible. Where penalties rise, duals are kept.
        """
        log_penalties = np.asarray(log_penalties, dtype=np.float64)
        if inverses_for(log_penalties) > state.n_inverses:
            state = by_split(problem, state)
        if problem.precision(log_penalties) != state.dtype == np.float32:
            state = widened(problem, state)
        if not np.array_equal(unpenalized_of(log_penalties), state.unpenalized):
            raise ValueError("log_penalties: which features have no penalty cannot change. Begin anew, with init.")
        change = np.mean(elementwise(np.subtract, or_zero(log_penalties), or_zero(state.log_penalties)))
        shrink = float(np.exp(min(0.0, self.keep_coef * change)))
        state.log_penalties = own(log_penalties)
        state.least_proximal_weight = least_weight(problem, log_penalties, state.dtype)
        if shrink != 1.0:  # duals may lie on disk
            state.duals *= shrink
        state.imbalance *= shrink
        vectors = np.s_[state.unpenalized, : state.used]
        kept, penalties = state.table[vectors], elementwise(np.exp, state.log_penalties)
        if state.unpenalized.size:
            penalties = np.array(penalties)
            penalties[..., state.unpenalized] = 1.0 / state.table[state.unpenalized, state.used]
        if state.n_inverses > 1:
            penalties = np.ascontiguousarray(np.broadcast_to(penalties, (state.n_inverses, problem.n_features)))
        elif penalties.ndim > 1:
            penalties = penalties[0]
        passes.rescale(problem, state, penalties, shrink)
        state.reference = kept - shrink * (kept - state.reference)
        state.table[vectors] = kept
        return state

    def losses(self, problem: Problem, state: DualState, rows: Problem | None = None) -> NDArray:
        """The validation loss of each split, every row's taken when it was visited in the last epoch; or of other rows."""
        if rows is None:
            sums = state.recent_sums
            return sums[:, SUM["validation_loss"]] / np.maximum(sums[:, SUM["validation_weight"]], TINY)
        room = rows.rows.room
        duals, residuals = (room((rows.n_rows, *shape), state.dtype) for shape in (state.imbalance.shape, (2,)))
        bare = replace(state, duals=duals, residuals=residuals)
        return _evaluate(rows, bare, losses_only=True)[:, SUM["validation_loss"]]

    def log_gradient(self, problem: Problem, state: DualState) -> NDArray:
        """∂F/∂log λ, in the shape of the log penalties, Eq. (4)."""
        inner = self._inner(problem, state)
        if inner.ndim > state.log_penalties.ndim:
            inner = inner.sum(axis=0)
        inner = inner.reshape(-1, inner.shape[-1]) if state.log_penalties.ndim == 2 else inner
        return log_gradient(state.log_penalties, inner, problem.n_splits, out=inner)

    def _inner(self, problem, state):
        return passes.contract(problem, state)

    def progress(self, problem: Problem, state: DualState) -> Progress:
        """The residuals of both solves, as they were when the rows of the last epoch were visited.

        For the lower level, the root mean square over the training rows of p − e_y − β, a difference of probabilities, or,
        where β itself is small, as on separable data, a hundredth of it relative to β; for the adjoint, that of D r − u
        relative to u.
        """
        sums = dict(zip(SUM, state.recent_sums.sum(axis=0), strict=True))
        lower = _root_of_ratio(sums["lower_residual"], sums["train_weight"])
        relative = _root_of_ratio(sums["lower_residual"], sums["lower_size"])
        if state.imbalance.shape[0] == 1:
            pull = np.abs(imbalance_of(problem, state)).max(initial=0.0) / max(sums["train_weight"], TINY)
            return Progress(float(max(lower, 0.01 * relative, pull)), moved=state.moved)
        adjoint = float(_root_of_ratio(sums["adjoint_residual"], sums["adjoint_size"]))
        if _intercepts_are_lost(problem, state):
            lower = adjoint = np.inf
        return Progress(float(max(lower, 0.01 * relative, 0.01 * adjoint)), relative_residual=adjoint)

    def evaluate(self, problem: Problem, state: DualState) -> NDArray:
        """The kernels' sums (n_splits, len(SUM)) over all rows at the state as it stands: losses, gap, residuals."""
        return _evaluate(problem, state)

    def coefficients(self, problem: Problem, state: DualState) -> tuple[NDArray, NDArray]:
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs), float64."""
        return side_of(problem, state, 0)

    def each_split(self, problem: Problem, state: DualState) -> Iterator[tuple[NDArray, NDArray]]:
        """W and b of one split after the other, as views of the state."""
        for vectors in np.split(state.table[:, : state.imbalance.shape[1]].T, problem.n_splits):
            yield vectors[:, :-1], vectors[:, -1]

    def adjoint(self, problem: Problem, state: DualState) -> tuple[NDArray, NDArray]:
        """V and v in the same shapes."""
        return side_of(problem, state, 1)


def _evaluate(problem, state, losses_only=False):
    sums = np.sum([passes.evaluate(problem, state, *part, losses_only) for part in ranges(problem, state)], axis=0)
    check_finite(sums, "dual")
    return sums


def _hold(problem, state):
    """Begin with the intercepts of classes without training rows where no row pulls at them."""
    if problem.held is not None:
        held = problem.held.ravel()
        state.table[-1, np.flatnonzero(np.isfinite(held))] = held[np.isfinite(held)]


def _restart_adjoint(problem, state):
    """Restart the adjoint at u = 0 in splits that it has outgrown."""
    splits = outgrown(problem, state)
    if not splits.any():
        return state
    vectors = np.flatnonzero(np.repeat(splits, problem.n_outputs))
    state.duals[:, 1, vectors] = 0
    state.table[np.ix_(np.append(state.unpenalized, problem.n_features), state.imbalance.shape[1] + vectors)] = 0
    return rebuilt(problem, state)


def last_move(problem: Problem, state: DualState, square: float) -> float:
    """How far an epoch of a fit without an adjoint, of which the revisits are still to come, moved outputs, root mean square.

    The larger of two moves: of a row's outputs by its own visit, whose mean square is given, and of all outputs by the
    unpenalized coefficients. (The residuals of β do not tell: where penalties are weak, a small one moves outputs far, above
    all those of other rows.)
    """
    curvature = max(state.recent_sums[:, SUM["curvature"]].sum(), TINY)
    with np.errstate(over="ignore"):
        unpenalized = np.abs(imbalance_of(problem, state)).max(initial=0.0) / curvature
    return float(max(np.sqrt(square), unpenalized))


def _intercepts_are_lost(problem, state):
    """Whether an intercept is far from its equation, though little may move: its rows have next to no curvature, or no weight.

    Where all probabilities are 0 or 1 the duals have nothing to say of it; and in a split that weighs next to nothing beside
    others, its steps, which are of the mean row's size, are too short. The mean curvature hides a class that all rows have
    lost.
    """
    if not problem.fit_intercept:
        return False
    pulls = np.abs(state.imbalance[0]).reshape(problem.n_splits, -1)
    if problem.held is not None:
        pulls = np.where(np.isfinite(problem.held), 0.0, pulls)
    curvatures = np.minimum(state.curvatures, state.recent_sums[:, SUM["curvature"]][:, None])
    return bool((pulls > LOST * curvatures).any())


def _holders_of(residual, mass, cap):
    """The rows that together hold this share of the residual; none if they are more than ``cap`` and hold little."""
    total, nobody = residual.sum(dtype=np.float64), np.empty(0, dtype=np.intp)
    if not 0 < 0.5 * total <= cap * residual.max(initial=0.0):
        return nobody
    top = np.argpartition(residual, -cap)[-cap:] if cap < residual.size else np.arange(residual.size)
    top = top[np.argsort(-residual[top], kind="stable")]
    held = np.cumsum(residual[top], dtype=np.float64)
    return nobody if held[-1] < 0.5 * total else top[: 1 + np.searchsorted(held, mass * total)]


def _root_of_ratio(part, whole):
    if whole > 0:
        return np.sqrt(part) / np.sqrt(whole)
    return np.inf if part > 0 else 0.0
