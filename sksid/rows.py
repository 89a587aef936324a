"""Rows of features: laid out once in visiting order, in the dtype of X, and read in place by everything else.

Solvers in Python ask rows for products only, so that a list of blocks (``RowBlocks``) serves as well as one block; the kernels
read the arrays of one block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import DTypeLike, NDArray

from sksid._kernels._layout import COLUMNS_AHEAD, as_columns, check_rows

# A dense matrix with a smaller share of non-zeros than this is faster as CSR (measured by
# examples/benchmarks/kernel.py).
DENSE_FROM = 0.8

SAMPLE = 100_000  # entries that stand for all where their typical size is asked for
PART = 1 << 16  # entries that are handled at once
LONG_PART = 1 << 19  # of dense rows, where sums are rounded as these parts have it


@dataclass(frozen=True, eq=False)
class Rows:
    """One block of rows, in visiting order.

    Attributes
    ----------
    values : ndarray of shape (n_values,), float32 or float64
        The entries, row after row.
    columns : ndarray of shape (n_values + COLUMNS_AHEAD,), int32, or None
        Their features, and a few more numbers, since the kernels fetch ahead; None for dense rows.
    indptr : ndarray of shape (n_rows + 1,), int64
        Where each row begins in ``values``.
    samples : ndarray of shape (n_rows,), int32, or int64 where there are too many
        The sample of X that each row was made of.
    n_features : int
    """

    values: NDArray
    columns: NDArray | None
    indptr: NDArray
    samples: NDArray
    n_features: int

    def __post_init__(self):
        check_rows(self.values, self.columns, self.indptr, self.n_features)

    @property
    def n_rows(self) -> int:
        return self.samples.shape[0]

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def n_entries(self) -> int:
        """Entries that are stored: all of them in dense rows, else the non-zeros."""
        return self.values.size

    @property
    def is_sparse(self) -> bool:
        """Whether only non-zeros are stored."""
        return self.columns is not None

    @property
    def blocks(self) -> tuple["Rows", ...]:
        """The one block there is."""
        return (self,)

    @cached_property
    def matrix(self) -> Any:
        """The rows as a CSR array or an ndarray, (n_rows, n_features), without a copy of the entries."""
        shape = (self.n_rows, self.n_features)
        if self.columns is None:
            return self.values.reshape(shape)
        return sp.csr_array((self.values, self.columns[: self.values.size], self.indptr), shape=shape)

    @property
    def squared_norms(self) -> NDArray:
        """Σ_j x_ij² of every row, (n_rows,), float64; infinite where it overflows. Computed anew each time."""
        norms, filled = np.zeros(self.n_rows), np.diff(self.indptr) > 0
        for rows, entries in self._parts(PART):
            begins = self.indptr[rows][filled[rows]] - entries.start
            if begins.size:
                with np.errstate(over="ignore"):
                    squares = np.square(self.values[entries], dtype=np.float64)
                    norms[rows][filled[rows]] = np.add.reduceat(squares, begins)
        return norms

    def _parts(self, size):
        """Slices of rows, and of their entries, a few at a time, so that what is computed of them takes little memory."""
        start = 0
        while start < self.n_rows:
            stop = int(np.searchsorted(self.indptr, self.indptr[start] + size, side="right")) - 1
            stop = min(max(stop, start + 1), self.n_rows)
            yield slice(start, stop), slice(int(self.indptr[start]), int(self.indptr[stop]))
            start = stop

    @cached_property
    def mean_log_square(self) -> float:
        """The mean of log x_ij² over entries that are not zero, of some 100,000 that stand for all; −∞ if there is none."""
        some = np.abs(self.values[:: max(1, self.n_entries // SAMPLE)]).astype(np.float64)
        some = some[some > 0]
        return 2.0 * float(np.mean(np.log(some))) if some.size else -np.inf

    def outputs(self, W: NDArray) -> NDArray:
        """X W, (n_rows, n_outputs)."""
        return self.matrix @ W

    def pull(self, R: NDArray) -> NDArray:
        """Xᵀ R, (n_features, n_outputs)."""
        return self.matrix.T @ R

    def mean_squares(self, weights: NDArray) -> NDArray:
        """Σ_i weights_i x_ij², (n_features,), float64, for weights that sum to 1."""
        means = np.zeros(self.n_features)
        for rows, entries in self._parts(PART if self.is_sparse else LONG_PART):
            with np.errstate(over="ignore"):
                squares = np.square(self.values[entries], dtype=np.float64)
                if self.columns is None:
                    means += weights[rows] @ squares.reshape(-1, self.n_features)
                else:
                    lengths = np.diff(self.indptr[rows.start : rows.stop + 1])
                    np.add.at(means, self.columns[entries], squares * np.repeat(weights[rows], lengths))
        return means

    def span(self, start: int, stop: int) -> "Rows":
        """The rows ``start:stop``; their entries are shared, not copied."""
        if start == 0 and stop == self.n_rows:
            return self
        indptr = self.indptr[start : stop + 1]
        values = self.values[indptr[0] : indptr[-1]]
        columns = None if self.columns is None else self.columns[indptr[0] : indptr[-1] + COLUMNS_AHEAD]
        return Rows(values, columns, indptr - indptr[0], self.samples[start:stop], self.n_features)

    def take(self, chosen: NDArray) -> "Rows":
        """Some rows, copied as float64."""
        return as_rows(self.matrix[chosen].astype(np.float64, copy=False), self.samples[chosen])

    def some(self, chosen: NDArray) -> "Rows":
        """Some rows, copied."""
        return as_rows(self.matrix[chosen], self.samples[chosen])

    def visits(self, random: np.random.RandomState, size: int) -> NDArray:
        """All groups of ``size`` rows in a random order, an int64 array."""
        return random.permutation(self.n_visits(size))

    def n_visits(self, size: int) -> int:
        """How many groups of ``size`` rows there are."""
        return -(-self.n_rows // size)

    def room(self, shape: tuple, dtype: DTypeLike) -> NDArray:
        """Zeros of that shape, a row for each row of X."""
        return np.zeros(shape, dtype=dtype)


@dataclass(frozen=True, eq=False)
class RowBlocks:
    """Blocks of rows, one after the other: the products of ``Rows``, as sums over the blocks or stacked.

    Attributes
    ----------
    blocks : tuple of Rows
        With the same features.
    """

    blocks: tuple[Rows, ...]

    @property
    def n_rows(self) -> int:
        return sum(block.n_rows for block in self.blocks)

    @property
    def dtype(self) -> np.dtype:
        return self.blocks[0].dtype

    @property
    def n_entries(self) -> int:
        """Entries that are stored in all blocks."""
        return sum(block.n_entries for block in self.blocks)

    @property
    def n_features(self) -> int:
        return self.blocks[0].n_features

    @property
    def is_sparse(self) -> bool:
        """Whether some block stores only non-zeros."""
        return any(block.is_sparse for block in self.blocks)

    @property
    def samples(self) -> NDArray:
        """The sample of each row, (n_rows,)."""
        return np.concatenate([block.samples for block in self.blocks])

    @property
    def squared_norms(self) -> NDArray:
        """Σ_j x_ij² of every row, (n_rows,)."""
        return np.concatenate([block.squared_norms for block in self.blocks])

    @property
    def mean_log_square(self) -> float:
        """The mean over the blocks' entries of log x_ij²."""
        return float(np.average([b.mean_log_square for b in self.blocks], weights=[b.n_entries for b in self.blocks]))

    def outputs(self, W: NDArray) -> NDArray:
        """X W, (n_rows, n_outputs)."""
        return np.concatenate([block.outputs(W) for block in self.blocks])

    def pull(self, R: NDArray) -> NDArray:
        """Xᵀ R, (n_features, n_outputs)."""
        return sum(block.pull(part) for block, part in self._with_parts(R))

    def mean_squares(self, weights: NDArray) -> NDArray:
        """Σ_i weights_i x_ij², (n_features,), for weights that sum to 1."""
        return sum(block.mean_squares(part) for block, part in self._with_parts(weights))

    def take(self, chosen: NDArray) -> "RowBlocks":
        """Some rows in ascending order, copied as float64, block by block."""
        parts = np.split(chosen, np.searchsorted(chosen, self._starts[1:]))
        pairs = zip(self.blocks, parts, self._starts, strict=True)
        return RowBlocks(tuple(block.take(part - start) for block, part, start in pairs))

    @property
    def _starts(self) -> NDArray:
        return np.cumsum([0, *(block.n_rows for block in self.blocks[:-1])])

    def _with_parts(self, of_rows: NDArray) -> zip:
        return zip(self.blocks, np.split(of_rows, self._starts[1:]), strict=True)


def lay_out(X: Any, splits: Sequence[tuple[NDArray, NDArray]], seed: int = 0) -> Rows:
    """The samples as rows in visiting order: shuffled once, contiguous.

    Those that have a part in some split come first, the others, which the final fit may want, behind them. A
    sample that has more than one part in a split (drawn twice by a bootstrap, or both training and validation row) becomes
    several rows.

    Parameters
    ----------
    X : ndarray or sparse array of shape (n_samples, n_features)
        Finite; sparse in any format.
    splits : list of (train, validation) index arrays
    seed : int, default=0
        Of the shuffle.

    Returns
    -------
    Rows
        In X's dtype, or float64 where that is neither float32 nor float64.

    Raises
    ------
    ValueError
        If X has 2³¹ features or more, which the kernels' column indices cannot tell apart.

    Examples
    --------
    >>> import numpy as np
    >>> rows = lay_out(np.eye(4), [(np.array([0, 1]), np.array([2]))])
    >>> rows.n_rows, sorted(rows.samples[:3].tolist()), rows.samples[3].item()
    (4, [0, 1, 2], 3)
    """
    samples = _visiting_order(X.shape[0], splits, np.random.RandomState(seed))
    X = X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)
    if sp.issparse(X) or np.count_nonzero(X) < DENSE_FROM * X.size:
        return _sparse_in_order(sp.csr_array(X), samples)
    return as_rows(np.ascontiguousarray(X[samples]), samples)


def _visiting_order(n_samples, splits, random):
    """The sample of each row."""
    copies = np.zeros(n_samples, dtype=np.int64)
    for split in splits:
        np.maximum(copies, np.bincount(np.concatenate(split), minlength=n_samples), out=copies)
    order = np.repeat(np.arange(n_samples, dtype=np.int32 if n_samples <= np.iinfo(np.int32).max else np.int64), copies)
    others = np.flatnonzero(copies == 0).astype(order.dtype)
    return np.concatenate([random.permutation(order), random.permutation(others)])


def _sparse_in_order(X, samples):
    """These rows of a CSR array, in one copy of its entries: part after part, without entries that stand twice."""
    columns = as_columns(np.empty(0, dtype=np.int32), X.shape[1])  # no further where there are too many
    ends = np.cumsum(np.diff(X.indptr)[samples], dtype=np.int64)
    n_values = int(ends[-1]) if ends.size else 0
    values, columns = np.empty(n_values, X.dtype), np.zeros(n_values + COLUMNS_AHEAD, dtype=np.int32)
    indptr, start, filled = np.zeros(samples.size + 1, dtype=np.int64), 0, 0
    while start < samples.size:
        stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + PART, side="right")))
        part = X[samples[start:stop]]
        part.sum_duplicates()
        values[filled : filled + part.nnz], columns[filled : filled + part.nnz] = part.data, part.indices
        indptr[start + 1 : stop + 1] = filled + part.indptr[1:]
        start, filled = stop, filled + part.nnz
    columns[filled:] = 0
    return Rows(values[:filled], columns[: filled + COLUMNS_AHEAD], indptr, samples, X.shape[1])


def as_rows(X: Any, samples: NDArray) -> Rows:
    """A CSR array or a C-contiguous ndarray as Rows."""
    if not sp.issparse(X):
        indptr = np.arange(X.shape[0] + 1, dtype=np.int64) * X.shape[1]
        return Rows(np.ascontiguousarray(X).reshape(-1), None, indptr, samples, X.shape[1])
    columns = as_columns(X.indices, X.shape[1])
    return Rows(X.data, columns, X.indptr.astype(np.int64, copy=False), samples, X.shape[1])
