"""Products of the rows with the coefficients of all splits and outputs at once, piece by piece, in threads where that pays.

A piece is so few rows that what is computed of them stays in the processor's cache. Pieces are added up in sections, and
sections in their order; both depend on the rows alone, so that results do not depend on the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from sksid._kernels._gram import MATRICES, Entries

PIECE = 50_000  # outputs of a piece: half a megabyte
LEAST_ROWS = 128  # of a piece, for products of matrices to be fast
MANY_VECTORS = 16  # from which the conversion of entries is a small part of a product
FEW_VECTORS = 3  # fewer leave most of a register empty
FEW_ENTRIES = 2_000_000  # dense ones, of which a copy in float64 takes little memory
SECTIONS = 8  # at most; so many threads can be used
SECTION_WORK = 1e7  # multiply-adds from which a section is worth a thread
MOST_PAIRED = 1000  # features whose Gram matrices are summed pair by pair of a row's entries: 64 MB
SQUARE_ROWS = 256  # whose squares are summed at a time
# estimated nanoseconds of a Gram matrix: of a multiply-add in a product and in a square, of a dense entry, of a pair of entries
# in all matrices, which is further away where these do not fit the nearer caches
DENSE, SQUARE, ENTRY, PAIR, FAR = 0.05, 0.03, 2.5, 3.5, 4.0
NEAR = 150  # features whose matrices do


@dataclass(frozen=True, eq=False)
class Products:
    """X W and Xᵀ R for vectors side by side, those of all splits and outputs.

    Attributes
    ----------
    rows : Rows or RowBlocks
    n_vectors : int
    dtype : numpy dtype, default=numpy.float64
        Of the results; the entries of a piece are converted when it is its turn.
    pool : ThreadPoolExecutor, or None
        Set by ``threads``.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid._products import Products
    >>> from sksid.rows import lay_out
    >>> products = Products(lay_out(np.eye(3), [(np.arange(2), np.arange(2, 3))]), n_vectors=2)
    >>> products.outputs(np.ones((2, 3))).shape, products.pull(np.ones((2, 3))).shape
    ((2, 3), (2, 3))
    """

    rows: Any
    n_vectors: int
    dtype: Any = np.float64
    pool: ThreadPoolExecutor | None = field(default=None, repr=False)

    @cached_property
    def sections(self) -> list[list[tuple[slice, Any]]]:
        """Pieces (which rows, their matrix) in sections of about equal size."""
        pieces, first = [], 0
        for block in self.rows.blocks:
            size = self._piece_size(block)
            for start in range(0, block.n_rows, size):
                stop = min(start + size, block.n_rows)
                matrix = _matrix_of(block, start, stop)
                pieces.append((slice(first + start, first + stop), self._cast(matrix) if self._casts_once else matrix))
            first += block.n_rows
        n_sections = int(np.clip(self.work / SECTION_WORK, 1, min(SECTIONS, max(1, len(pieces)))))
        return [[pieces[i] for i in part] for part in np.array_split(np.arange(len(pieces)), n_sections)]

    @property
    def _casts_once(self):
        """Whether few dense entries are converted for good; ``in_single`` reads those of many vectors as they are."""
        return self.n_vectors < MANY_VECTORS and self.rows.n_entries <= FEW_ENTRIES

    def _piece_size(self, block):
        """Rows of a piece; of sparse rows so many that their entries outnumber the features, whose sums each piece clears."""
        size = max(LEAST_ROWS, PIECE // self.n_vectors)
        if block.is_sparse:
            size = max(16 * size, int(4 * block.n_features * block.n_rows / max(block.n_entries, 1)))
        return size

    @property
    def work(self) -> float:
        """Multiply-adds of one product."""
        return float(self.rows.n_entries) * self.n_vectors

    @contextmanager
    def threads(self, n_jobs: int | None) -> Any:
        """The same products, in so many threads as long as the context lasts."""
        n_threads = min(effective_n_jobs(n_jobs), len(self.sections))
        if n_threads <= 1:
            yield self
            return
        with ThreadPoolExecutor(n_threads) as pool:
            yield self._like(pool=pool)

    def in_single(self) -> "Products":
        """The same products in float32, where that is faster: of dense rows with many vectors."""
        pays = self.n_vectors >= MANY_VECTORS and not self.rows.is_sparse
        return self._like(dtype=np.float32) if pays else self

    def _like(self, **changes):
        other = replace(self, **changes)
        other.__dict__.update({name: self.__dict__[name] for name in ("sections", "_entries") if name in self.__dict__})
        return other

    def outputs(self, W: NDArray) -> NDArray:
        """W Xᵀ, (n_vectors, n_rows), of W (n_vectors, n_features)."""
        out = np.empty((self.n_vectors, self.rows.n_rows), dtype=self.dtype)
        W = self._ready(W)

        def fill(section):
            for where, matrix in section:
                out[:, where] = _outputs(self._cast(matrix), W)

        self._map(fill)
        return out

    def pull(self, R: NDArray) -> NDArray:
        """R X, (n_vectors, n_features), of R (n_vectors, n_rows)."""
        return self._sum(lambda where, matrix: _pull(self._cast(matrix), R[:, where].astype(self.dtype, copy=False)))

    def curved(self, W: NDArray, bend: Callable[[NDArray, slice], NDArray]) -> tuple[NDArray, NDArray]:
        """bend(W Xᵀ) X, (n_vectors, n_features), and the sums of bend(W Xᵀ) over rows, (n_vectors,), in one pass.

        ``bend(outputs, where)`` takes the outputs of a piece, (n_vectors, …), and which rows these are.
        """
        W = self._ready(W)

        def both(where, matrix):
            matrix = self._cast(matrix)
            bent = bend(_outputs(matrix, W), where)
            return _pull(matrix, bent), bent.sum(axis=1)

        return self._sum(both)

    def by_rows(self, function: Callable[..., NDArray], shape: tuple, *arrays: NDArray) -> NDArray:
        """function(*arrays), of that shape, where the rows are the last axis of all and each has a result of its own."""
        if self.pool is None:
            return function(*arrays)
        out = np.empty(shape)

        def fill(section):
            rows = slice(section[0][0].start, section[-1][0].stop)
            out[..., rows] = function(*(values[..., rows] for values in arrays))

        self._map(fill)
        return out

    def gram(self, curvatures: NDArray) -> NDArray:
        """[X 1]ᵀ diag(c) [X 1] of each row c of ``curvatures``, (n, n_features + 1, n_features + 1)."""
        n, m = curvatures.shape[0], self.rows.n_features + 1
        if self._pair_cost(n) < self._dense_cost(n):
            return self._sum(lambda where, _: self._entries[where.start].grams(np.ascontiguousarray(curvatures[:, where])))

        def one(where, matrix):
            gram, step = np.zeros((n, m, m)), max(LEAST_ROWS, PIECE // m)
            for start in range(0, matrix.shape[0], step):
                X = matrix[start : start + step]
                X = np.column_stack([X.toarray() if sp.issparse(X) else X, np.ones(X.shape[0])])
                for total, c in zip(gram, curvatures[:, where][:, start : start + step], strict=True):
                    total += (X.T * c) @ X
            return gram

        return self._sum(one)

    @property
    def has_gram_products(self) -> bool:
        """Whether ``gram_products`` is faster than two products one after the other."""
        return self.rows.is_sparse and self.n_vectors >= FEW_VECTORS

    def gram_products(self, curvatures: NDArray, U: NDArray) -> NDArray:
        """[X 1]ᵀ diag(c) [X 1] u of each row c of ``curvatures`` and u of U, (n, n_features + 1): sparse rows, one pass."""
        return self._sum(lambda where, _: self._entries[where.start].products(np.ascontiguousarray(curvatures[:, where]), U))

    @cached_property
    def _entries(self):
        """Of the pieces, as the kernel takes them, by their first row."""
        return {where.start: _entries_of(matrix) for section in self.sections for where, matrix in section}

    def square(self, factors: NDArray) -> NDArray:
        """Σ_i (f_i ⊗ [x_i 1]) (f_i ⊗ [x_i 1])ᵀ of the columns f_i of ``factors``, (n, n_rows): of n (n_features + 1) rows."""
        m = len(factors) * (self.rows.n_features + 1)

        def one(where, matrix):
            square, f = np.zeros((m, m), order="F"), factors[:, where].T
            for start in range(0, matrix.shape[0], SQUARE_ROWS):
                X = matrix[start : start + SQUARE_ROWS]
                X = np.column_stack([X.toarray() if sp.issparse(X) else X, np.ones(X.shape[0])])
                A = (f[start : start + SQUARE_ROWS, :, None] * X[:, None]).reshape(-1, m)
                square = dsyrk(1.0, A.T, beta=1.0, c=square, lower=1, overwrite_c=1)
            return square

        half = self._sum(one)
        return half + np.tril(half, -1).T

    def square_cost(self, n: int) -> float:
        """Of the square of n factors for each row, in estimated nanoseconds."""
        return SQUARE * self.rows.n_rows * (n * (self.rows.n_features + 1)) ** 2

    def gram_cost(self, n: int) -> float:
        """Of the Gram matrices of n curvatures, in estimated nanoseconds."""
        return min(self._pair_cost(n), self._dense_cost(n))

    def softmax_cost(self, n_classes: int) -> float:
        """Of the Hessian of so many outputs, by the square of their probabilities or pair by pair, in estimated nanoseconds."""
        squared = self.square_cost(n_classes) + self.gram_cost(n_classes)
        return min(squared, self.gram_cost(n_classes * (n_classes + 1) // 2))

    def _dense_cost(self, n):
        m = self.rows.n_features + 1
        return n * self.rows.n_rows * m * (m * DENSE + ENTRY)

    def _pair_cost(self, n):
        cost = PAIR + (FAR if self.rows.n_features > NEAR else 0.0)
        return cost * self._n_pairs * -(-n // MATRICES)

    @cached_property
    def _n_pairs(self):
        """Of entries in the same row; infinite where there are too many features for them to be summed one by one."""
        if not self.rows.is_sparse or self.rows.n_features > MOST_PAIRED:
            return np.inf
        return 0.5 * sum(float(np.square(np.diff(block.indptr) + 1.0).sum()) for block in self.rows.blocks)

    def pull_squares(self, R: NDArray) -> NDArray:
        """R (X ∘ X), (n_vectors, n_features)."""
        return self._sum(lambda where, matrix: _pull(matrix * matrix, R[:, where]))

    def square_outputs(self, W: NDArray) -> NDArray:
        """W (X ∘ X)ᵀ, (n, n_rows), of W (n, n_features)."""
        W = W.T
        return np.concatenate(self._each(lambda where, matrix: ((matrix * matrix) @ W).T), axis=1)

    def column_squares(self, weights: NDArray, columns: NDArray) -> NDArray:
        """Σ_i weights_i x_ij² of some columns, (n,); the last column, n_features, is one of ones."""
        sums = np.append(self.pull_squares(weights[None])[0], weights.sum())
        return sums[columns]

    def take(self, rows: NDArray) -> NDArray:
        """Some rows, dense, (n, n_features) float64."""
        return _dense(self.rows.take(rows))

    def _each(self, task):
        return [part for section in self._map(lambda pieces: [task(*piece) for piece in pieces]) for part in section]

    def _ready(self, W):
        """Dense products read W as it is; sparse ones its transpose, which is made contiguous once."""
        W = W.astype(self.dtype, copy=False)
        return np.ascontiguousarray(W.T) if self.rows.is_sparse else np.ascontiguousarray(W).T

    def _cast(self, matrix):
        return matrix if sp.issparse(matrix) else matrix.astype(self.dtype, copy=False)

    def _map(self, task):
        return list((self.pool.map if self.pool else map)(task, self.sections))

    def _sum(self, task):
        """The sum of ``task(where, matrix)``, an array or a tuple of arrays, over all pieces."""

        def add_up(section):
            total = None
            for piece in section:
                part = task(*piece)
                total = part if total is None else _add(total, part)
            return total

        first, *others = self._map(add_up)
        for other in others:
            first = _add(first, other)
        return first


def _dense(rows):
    matrices = [block.matrix for block in rows.blocks]
    return np.concatenate([matrix.toarray() if sp.issparse(matrix) else matrix for matrix in matrices])


def _add(total, part):
    if isinstance(total, tuple):
        return tuple(map(_add, total, part))
    total += part
    return total


def _matrix_of(block, start, stop):
    """Rows of a block as a matrix, their entries shared."""
    if not block.is_sparse:
        return block.matrix[start:stop]
    begin, end = block.indptr[start], block.indptr[stop]
    parts = block.values[begin:end], block.columns[begin:end], block.indptr[start : stop + 1] - begin
    return sp.csr_array(parts, shape=(stop - start, block.n_features))


def _outputs(matrix, W):
    """(n_vectors, n_rows of the piece), of W (n_features, n_vectors)."""
    return np.ascontiguousarray((matrix @ W).T) if sp.issparse(matrix) else W.T @ matrix.T


def _pull(matrix, R):
    return (matrix.T @ np.ascontiguousarray(R.T)).T if sp.issparse(matrix) else R @ matrix


def _entries_of(matrix):
    arrays = matrix.data, matrix.indices.astype(np.int32, copy=False), matrix.indptr.astype(np.int64, copy=False)
    return Entries(*arrays, matrix.shape[1])
