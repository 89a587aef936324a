"""Rows on the workers of a Dask cluster, and their part in the objective of each level: a map over chunks, a sum in pairs.

Workers keep their chunks, roles, outputs and predictions; W goes to them, and sums come back. Chunks, not workers, decide in
which order parts are added up, so that results are the same, bit for bit, whatever workers there are. Everything that a worker
holds is a Dask future that tells how it was made: where a worker is lost, Dask makes its chunks anew on another one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sksid._checks import check_size
from sksid._cluster import aligned, check_numeric, client_in_use, delayed_parts, fetched, numbers_of, submitted
from sksid._products import Products
from sksid._sources import as_matrix
from sksid.objective import Array, Objective, Point
from sksid.rows import Rows, as_rows

LITTLE = 50_000  # numbers that go along with every task, or come from every one: a way more through Dask takes longer


@dataclass(frozen=True, eq=False)
class Spread:
    """An array whose last axis is the rows, in one part for each chunk; arithmetic is done where the parts are.

    Attributes
    ----------
    client : distributed.Client
    parts : list of distributed.Future
    homes : list of str, or None
        The worker of each part: otherwise Dask moves a chunk to where W is, if that is larger.
    """

    client: Any
    parts: list
    homes: list | None = None

    __array_ufunc__ = None  # so that numpy leaves a product to ``__rmul__``

    def __add__(self, other: "Spread") -> "Spread":
        return self.map(np.add, other)

    def __rmul__(self, scale: NDArray) -> "Spread":
        return self.map(np.multiply, scale)

    def __setitem__(self, splits: Any, value: float) -> None:
        self.parts[:] = self.map(_with, splits, value).parts

    def __deepcopy__(self, memo: dict) -> "Spread":
        return replace(self, parts=list(self.parts))

    @property
    def first(self) -> "Spread":
        """Of its first part alone."""
        return replace(self, parts=self.parts[:1], homes=self.homes and self.homes[:1])

    def map(self, function: Callable, *others: Any) -> "Spread":
        """``function`` of each part and of the parts of the others, or of these themselves where they are no Spread."""
        each = [other.parts if isinstance(other, Spread) else [other] * len(self.parts) for other in others]
        homes = self.homes or [None] * len(self.parts)
        made = [submitted(self.client, function, *own, home=home) for home, *own in zip(homes, self.parts, *each, strict=True)]
        return replace(self, parts=made)

    def there(self, value: Any) -> Any:
        """A value on some worker, as a future that can be made anew; little is taken along by each task instead."""
        little = isinstance(value, np.ndarray) and self._is_little(value.size)
        return value if little else submitted(self.client, _same, value)

    def sum(self, n_numbers: float = np.inf) -> Any:
        """The sum of the parts, of so many numbers each, at the client."""
        if self._is_little(n_numbers):
            return in_pairs(_add, fetched(self.client, self.parts))
        return fetched(self.client, self.total())

    def total(self) -> Any:
        """The sum of the parts where they are: a future."""
        return in_pairs(lambda *pair: submitted(self.client, _add, *pair), self.parts)

    def _is_little(self, n_numbers):
        return n_numbers * len(self.parts) <= LITTLE


def in_pairs(add: Callable, parts: list) -> Any:
    """The sum of the parts: neighbors are added, then neighbors among these sums, and so on."""
    while len(parts) > 1:
        pairs = [add(*parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


@dataclass(frozen=True, eq=False)
class SpreadRows:
    """Chunks of rows on workers, in their order: row i is sample i.

    Attributes
    ----------
    chunks : Spread of Rows
    starts : ndarray of shape (n_chunks + 1,), int64
    n_features : int
    dtype : numpy dtype
    is_sparse : bool
    n_entries : int
    squared_norms : ndarray of shape (n_rows,), float64
    mean_log_square : float
    """

    chunks: Spread
    starts: NDArray
    n_features: int
    dtype: Any
    is_sparse: bool
    n_entries: int
    squared_norms: NDArray
    mean_log_square: float

    def __deepcopy__(self, memo: dict) -> "SpreadRows":
        return self

    @property
    def n_rows(self) -> int:
        return int(self.starts[-1])

    @property
    def samples(self) -> NDArray:
        """The sample of each row, which is its number, (n_rows,)."""
        return np.arange(self.n_rows)

    @property
    def places(self) -> list[slice]:
        """Which of all rows each chunk has."""
        return [slice(int(a), int(b)) for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def each(self) -> Iterator[tuple[slice, Rows]]:
        """The chunks, one after the other at the client, and which of all rows they are."""
        for place, part in zip(self.places, self.chunks.parts, strict=True):
            yield place, fetched(self.chunks.client, part)

    def mean_squares(self, weights: NDArray) -> NDArray:
        """Σ_i weights_i x_ij², (n_features,), for weights that sum to 1."""
        own = Spread(self.chunks.client, [self.chunks.there(weights[place]) for place in self.places])
        return self.chunks.map(_mean_squares, own).sum()

    def objective(self, whole: Objective) -> Objective:
        """The same objective, its rows on the workers."""
        labels, weights = np.broadcast_to(whole.labels, (len(whole.labels), self.n_rows)), whole.weights
        nowhere, here = cast(Any, None), cast(Any, SpreadProducts(self))
        empty = replace(whole, products=nowhere, labels=labels[:, :0], weights=weights[:, :0])
        own = [replace(empty, labels=labels[:, place], weights=weights[:, place]) for place in self.places]
        roles = Spread(self.chunks.client, [self.chunks.there(one) for one in own])
        return SpreadObjective(
            products=here,
            labels=labels[:, :0],
            weights=weights.sum(axis=1, keepdims=True),
            penalties=whole.penalties,
            n_outputs=whole.n_outputs,
            fit_intercept=whole.fit_intercept,
            loss=whole.loss,
            penalty=whole.penalty,
            local=self.chunks.map(_local, roles),
        )


@dataclass(frozen=True, eq=False)
class SpreadProducts:
    """What solvers ask of an objective's ``products`` whose rows are elsewhere."""

    rows: SpreadRows

    @contextmanager
    def threads(self, n_jobs: int | None) -> Any:
        """Themselves: workers are where the work is done."""
        yield self

    def in_single(self) -> "SpreadProducts":
        return self


@dataclass(frozen=True, eq=False)
class SpreadObjective(Objective):
    """An objective whose rows, outputs and predictions are on workers; its weights are their sums, (n_splits, 1).

    Attributes
    ----------
    local : Spread of Objective
        Of each chunk, with penalties of zero.
    """

    local: Any = None

    at_hand = False

    def __deepcopy__(self, memo: dict) -> "SpreadObjective":
        return self

    def outputs(self, W: Array) -> Any:
        """X W + b, a Spread of (n_splits, n_outputs, n_rows of the chunk)."""
        return self.local.map(_outputs, self.local.there(W))

    def point(self, outputs: Any) -> Point:
        """The rows' outputs and predictions."""
        return Point(outputs, self.local.map(_predictions, outputs))

    def losses(self, outputs: Any) -> Array:
        """The weighted sum of the rows' losses in each split, (n_splits,)."""
        return self.local.map(_losses, outputs).sum(self.n_splits)

    def rows_gradient(self, point: Point) -> Array:
        """The rows' part of ∂/∂W, in the shape of W."""
        return self.local.map(_gradient, point.predictions).sum(self._size)

    def hessian_operator(self, point: Point, W: Array) -> Callable[[Array], Array]:
        """The Hessian at W as a function of U."""
        penalties = self.penalty_curvature(W)
        return lambda U: self.local.map(_curved, point.predictions, self.local.there(U)).sum(U.size) + penalties * U

    def hessian_diagonal(self, point: Point, W: Array) -> Array:
        """In the shape of W."""
        return self.local.map(_diagonal, point.predictions).sum(W.size) + self.penalty_curvature(W)

    @property
    def _size(self):
        return self.n_splits * self.n_outputs * self.penalties.shape[-1]


# ---- what is done on a worker --------------------------------------------------------------------------------------------


def _same(value):
    return value


def _add(first, second):
    return first + second


def _with(values, splits, value):
    changed = values.copy()
    changed[splits] = value
    return changed


def _outputs(objective, W):
    return objective.outputs(W)


def _local(rows, empty):
    products = Products(rows, len(empty.weights) * empty.n_outputs)
    return replace(empty, products=products)


def _mean_squares(rows, weights):
    return rows.mean_squares(weights)


def _predictions(objective, outputs):
    return objective.point(outputs).predictions


def _losses(objective, outputs):
    return objective.losses(outputs)


def _gradient(objective, predictions):
    return objective.rows_gradient(_point(predictions))


def _point(predictions):
    nothing: Any = None
    return Point(nothing, predictions)


def _curved(objective, predictions, U):
    return _rows_only(objective.hessian_product(_point(predictions), U, U), objective, U)


def _diagonal(objective, predictions):
    point = _point(predictions)
    empty = np.zeros((*predictions.shape[:2], objective.penalties.shape[-1]))
    return _rows_only(objective.hessian_diagonal(point, empty), objective, np.ones_like(empty))


def _rows_only(value, objective, U):
    """Without what stands for penalties where there are none, the curvature of an intercept that is held at zero."""
    return value - objective.penalty_curvature(U) * U


def as_chunk(part: Any, transformer: Any = None) -> Rows:
    """A chunk of a Dask array, or a partition of a frame, as rows, perhaps of what a transformer makes of it."""
    X = as_matrix(numbers_of(part if transformer is None else transformer.transform(part)), "a chunk")
    if sp.issparse(X):
        X.data = aligned(X.data)
    else:
        X = aligned(X)
    return as_rows(X, np.arange(X.shape[0]))


def _look(rows):
    """What is kept of a chunk at the client, or why it cannot be used."""
    bad = np.flatnonzero(~np.isfinite(rows.values))
    if bad.size:
        row = int(np.searchsorted(rows.indptr, bad[0], side="right")) - 1
        return f"row {row} of it has {rows.values[bad[0]]}. Impute or drop such rows."
    try:
        check_size(rows.values, "its entries", "Scale the features.")
    except ValueError as error:
        return str(error)
    return rows.n_rows, rows.n_features, rows.dtype, rows.is_sparse, rows.n_entries, rows.squared_norms, rows.mean_log_square


def spread_rows(X: Any, transformer: Any = None) -> SpreadRows:
    """The chunks of a Dask array or frame as rows on the workers of the client that is in use, each of which is looked at once.

    Parameters
    ----------
    X : dask array, DataFrame or Series
    transformer : fitted transformer, default=None
        Of each chunk, by itself.

    Raises
    ------
    TypeError, ValueError
        Where there is no client, or the array is in chunks of columns, or not of numbers, or not finite.
    """
    from dask import delayed

    client = client_in_use()
    if transformer is None:
        check_numeric(X)
    else:
        transformer = delayed(transformer, traverse=False)
    chunks = Spread(client, client.compute([delayed(as_chunk)(part, transformer) for part in delayed_parts(X)]))
    looks = [fetched(client, look) for look in chunks.map(_look).parts]
    held = client.who_has(chunks.parts)
    chunks = replace(chunks, homes=[next(iter(held.get(part.key, ())), None) for part in chunks.parts])
    for number, look in enumerate(looks):
        if isinstance(look, str):
            raise ValueError(f"X: chunk {number} cannot be used: {look}")
    sizes, widths, dtypes, sparse, entries, norms, logs = zip(*looks, strict=True)
    if len(set(widths)) > 1 or len(set(dtypes)) > 1:
        raise ValueError(f"X has chunks of {set(widths)} columns and types {set(map(str, dtypes))}. Give all chunks alike.")
    weights = np.where(np.isfinite(logs), entries, 0.0)
    mean = float(weights @ np.where(weights > 0, logs, 0.0) / weights.sum()) if weights.any() else -np.inf
    starts = np.cumsum([0, *sizes], dtype=np.int64)
    return SpreadRows(chunks, starts, widths[0], dtypes[0], any(sparse), sum(entries), np.concatenate(norms), mean)


def predicted(method: Callable, X: Any) -> NDArray:
    """What a method of a fitted model makes of the rows of a Dask array or frame, chunk by chunk."""
    import dask

    return np.concatenate(dask.compute(*(dask.delayed(method)(part) for part in delayed_parts(X))))
