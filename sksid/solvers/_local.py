"""Stochastic dual coordinate ascent on a cluster: each chunk's rows are visited where they are, all chunks at the same time.

A round is an epoch of each chunk from the same W and V, with steps so short that all of them together are none too long: the
safe sum of CoCoA+ (Ma et al. 2015). What the chunks have changed is added up in pairs, on the workers, and W and V stay there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._cluster import fetched, submitted
from sksid._compact import elementwise
from sksid._spread import Spread
from sksid.problem import Problem
from sksid.solvers import _visits as visits
from sksid.solvers._contract import check_finite
from sksid.solvers._dual import Dual, last_move
from sksid.solvers._dual_state import (
    REFERENCE_STEPS,
    SUM,
    DualState,
    inverses_for,
    or_zero,
    outgrown,
    poor_starts,
    side_of,
    zeros_on_line,
)
from sksid.solvers._proximal import SAMPLE, adapt_weight, least_weight, set_weights

ALL = np.iinfo(np.int64).max
SEEDS = 2**31 - 1


@dataclass
class LocalState(DualState):
    """Where the solver stands; of the table, the client has the intercept's row alone, and no duals.

    Attributes
    ----------
    parts : Spread of Problem
        The chunks.
    kept : Spread of (duals, residuals)
    shared : Spread of one part
        W, V and 1/λ, the columns of the table in use.
    empty : Problem
        Without rows.
    seed, place : int and float
        Of the order of visits of the present epoch, and how much of it is done.
    inner : ndarray, or None
        ⟨W_j, V_j⟩ of each penalty, where they are known.
    """

    parts: Any = None
    kept: Any = None
    shared: Any = None
    empty: Any = None
    seed: int = 0
    place: float = 0.0
    inner: Any = None

    @property
    def small(self) -> DualState:
        """What a worker is told of it."""
        own = {field.name: getattr(self, field.name) for field in fields(DualState)}
        return DualState(**own | {"random": None, "recent": (), "last_imbalance": None, "log_penalties": None})


@dataclass(frozen=True)
class Local(Dual):
    """The solver of a search on a cluster; settings as ``Dual`` has them, without revisits.

    It comes near a solution in a few rounds, and then goes slowly on: what one chunk is to take over from another has to go
    through W, a little in each round. So it is to steer by, and the more chunks, the shorter are its steps.
    """

    threads_itself = True
    precise = takes_unpenalized = False

    def init(self, problem: Problem, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> LocalState:
        """W = 0, V = 0, or the duals that ``start`` implies, where they are the better start."""
        state = self._zeros(problem, np.asarray(log_penalties, dtype=np.float64), seed, start)
        state.least_proximal_weight = _least_weight(state)
        set_weights(problem, state, _evaluated(state, SAMPLE, first=True))
        return state if start is None else self._from(problem, state, len(start))

    def _zeros(self, problem, log_penalties, seed, start):
        dtype, rows = problem.precision(log_penalties), problem.rows
        n_sides, n_vectors = 1 + problem.has_validation, problem.n_splits * problem.n_outputs
        n_inverses, used = inverses_for(log_penalties), n_sides * n_vectors
        state = LocalState(
            table=zeros_on_line(1, used, dtype, n_inverses),
            n_inverses=n_inverses,
            duals=np.empty(0),
            residuals=np.empty(0),
            imbalance=np.zeros((n_sides, n_vectors)),
            reference_step=REFERENCE_STEPS / problem.n_rows,
            proximal_weight=self.proximal_weight,
            least_proximal_weight=0.0,
            log_penalties=np.array(log_penalties),
            unpenalized=np.empty(0, dtype=np.int64),
            reference=np.zeros((0, used), dtype=dtype),
            random=np.random.RandomState(seed),
            pending=np.empty(0, dtype=np.int64),
            parts=_parts(problem),
            empty=visits.without_rows(problem),
        )
        state.kept = state.parts.map(visits.zero_duals, state.small)
        held = None if problem.held is None else problem.held.ravel()
        client, values = rows.chunks.client, (state.log_penalties, state.small, (start or ())[:n_sides], held)
        state.shared = Spread(client, [submitted(client, visits.table, *values)])
        return state

    def _from(self, problem, state, n_given):
        state.kept = state.parts.map(visits.implied, state.kept, state.shared.parts[0], state.small)
        _rebuild(state)
        if state.imbalance.shape[0] == 1:
            return state
        for side, splits in enumerate(poor_starts(problem, _evaluated(state))[:n_given]):
            _forget(problem, state, side, splits)
        return state

    def advance(self, problem: Problem, state: Any, n_epochs: float = 1.0) -> LocalState:
        """So many rounds; a part of one visits as large a part of each chunk."""
        if n_epochs >= 1.0:
            state.place = 0.0
        left = n_epochs
        while left > 1e-9:
            if state.place == 0.0:
                state.seed = int(state.random.randint(SEEDS))
            share = min(left, 1.0 - state.place)
            end = state.place + share if state.place + share < 1.0 - 1e-9 else 1.0
            self._visit(problem, state, (state.place, end))
            left, state.place = left - share, end % 1.0
            if state.place == 0.0:
                adapt_weight(problem, state, self.proximal_weight)
                _forget(problem, state, 1, outgrown(problem, state))
        return state

    def _visit(self, problem, state, piece):
        client, n = state.parts.client, len(state.parts.parts)
        seeds = Spread(client, [(state.seed + number) % SEEDS for number in range(n)])
        own = state.kept, state.shared.parts[0], state.small, seeds, piece, self.block_size, n
        visited = state.parts.map(visits.visit, *own)
        state.kept, total = visited.map(_first), visited.map(_second).total()
        state.shared = Spread(client, [submitted(client, visits.moved, state.shared.parts[0], total)])
        inner = _contracted(state) if state.imbalance.shape[0] == 2 else None
        news, state.inner = fetched(client, submitted(client, _small_with, total, inner))
        check_finite(news.sums, "dual")
        state.imbalance += news.imbalance
        self._remember(problem, state, news.sums, piece[1] - piece[0])
        state.moved = last_move(problem, state, news.moved / problem.n_rows)
        state.curvatures = news.curvatures

    def _rebuild(self, problem, state):
        _rebuild(state)

    def rescale(self, problem: Problem, state: Any, log_penalties: NDArray) -> LocalState:
        """New penalties, Eq. (14), and duals that follow them where they fall."""
        log_penalties = np.array(log_penalties, dtype=np.float64)
        dtype = np.dtype(np.float64) if problem.precision(log_penalties) != state.dtype == np.float32 else state.dtype
        change = np.mean(elementwise(np.subtract, or_zero(log_penalties), or_zero(state.log_penalties)))
        shrink = float(np.exp(min(0.0, self.keep_coef * change)))
        n_inverses = max(state.n_inverses, inverses_for(log_penalties))
        weights = state.table[0, state.inverses][0]
        state.n_inverses, state.table = n_inverses, zeros_on_line(1, state.used, dtype, n_inverses)
        state.table[0, state.inverses] = weights
        state.imbalance *= shrink
        penalties = np.exp(or_zero(log_penalties))
        if n_inverses > 1:
            penalties = np.broadcast_to(penalties, (n_inverses, problem.n_features))
        client = state.parts.client
        own = state.shared.parts[0], state.small, state.empty, penalties.reshape(-1, problem.n_features).squeeze(), shrink
        state.shared = Spread(client, [submitted(client, visits.rescaled, *own)])
        state.kept = state.kept.map(visits.shrunk, shrink, dtype)
        state.log_penalties, state.inner = log_penalties, None
        state.least_proximal_weight = _least_weight(state)
        return state

    def losses(self, problem: Problem, state: Any, rows: Problem | None = None) -> NDArray:
        """The validation loss of each split, every row's taken when it was visited in the last epoch; or of other rows."""
        if rows is None:
            return super().losses(problem, state)
        parts = _parts(rows)
        bare = replace(state, parts=parts, kept=parts.map(visits.zero_duals, state.small))
        return _evaluated(bare, losses_only=True)[:, SUM["validation_loss"]]

    def _inner(self, problem, state):
        return np.array(fetched(state.parts.client, _contracted(state)) if state.inner is None else state.inner)

    def coefficients(self, problem: Problem, state: Any) -> tuple[NDArray, NDArray]:
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs), float64."""
        return side_of(problem, _with_table(state), 0)

    def each_split(self, problem: Problem, state: Any) -> Iterator[tuple[NDArray, NDArray]]:
        """W and b of one split after the other."""
        return super().each_split(problem, _with_table(state))

    def adjoint(self, problem: Problem, state: Any) -> tuple[NDArray, NDArray]:
        """V and v in the same shapes."""
        return side_of(problem, _with_table(state), 1)


def _parts(problem):
    """The chunks of a problem, each with its own roles."""
    rows, empty = problem.rows, visits.without_rows(problem)
    own = [replace(empty, roles=problem.roles.of_rows(place)) for place in rows.places]
    return rows.chunks.map(visits.part, Spread(rows.chunks.client, [rows.chunks.there(one) for one in own]))


def _least_weight(state):
    return state.parts.first.map(least_weight, state.parts.there(state.log_penalties), state.dtype).sum()


def _evaluated(state, most=ALL, losses_only=False, first=False):
    """The kernels' sums at the state as it stands, of all chunks or the first one."""
    parts, kept = (spread.first if first else spread for spread in (state.parts, state.kept))
    sums = parts.map(visits.evaluate, kept, state.shared.parts[0], state.small, most, losses_only).sum()
    check_finite(sums, "dual")
    return sums


def _rebuild(state, zeros=None):
    """W, V and the imbalance summed up from the duals alone."""
    client, shared = state.parts.client, state.shared.parts[0]
    total = state.parts.map(visits.rebuild, state.kept, shared, state.small).total()
    state.shared = Spread(client, [submitted(client, visits.replaced, shared, total, zeros)])
    news, state.inner = fetched(client, submitted(client, _small_with, total, None))
    state.imbalance = np.array(news.imbalance)


def _forget(problem, state, side, splits):
    """Begin anew with a side of these splits at zero, but for intercepts that are held."""
    if splits.any():
        vectors = np.flatnonzero(np.repeat(splits, problem.n_outputs))
        state.kept = state.kept.map(visits.forget, side, vectors)
        free = vectors if side or problem.held is None else vectors[np.isnan(problem.held.ravel()[vectors])]
        _rebuild(state, side * state.imbalance.shape[1] + free)


def _contracted(state):
    """⟨W_j, V_j⟩ of each penalty, a future."""
    return submitted(state.parts.client, visits.contract, state.shared.parts[0], state.small, state.empty)


def _with_table(state):
    """The state, with all of the table."""
    return replace(state, table=fetched(state.parts.client, state.shared.parts[0]))


def _first(pair):
    return pair[0]


def _second(pair):
    return pair[1]


def _small_with(news, other):
    return news.small, other
