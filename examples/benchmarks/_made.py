"""Made data for the benchmarks: a click log."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def make_clicks(n_rows: int, seed: int) -> tuple[sp.csr_array, NDArray]:
    """A click log: 39 one-hot fields hashed into 2²⁰ columns, categories log-uniform, about 20% clicks of a logistic truth.

    Parameters
    ----------
    n_rows : int
    seed : int

    Returns
    -------
    X : csr_array of shape (n_rows, 2**20), float32
        39 ones a row, fewer where two categories of a row share a column.
    y : ndarray of shape (n_rows,), int64
    """
    random = np.random.RandomState(seed)
    columns = _columns_of(random, n_rows)
    truth = 0.25 * random.standard_normal(2**20).astype(np.float32)
    outputs = truth[columns].sum(axis=1)
    y = random.random_sample(n_rows) < 1.0 / (1.0 + np.exp(1.8 + outputs.mean() - outputs))
    return _one_hot(columns), y.astype(np.int64)


def click_blocks(
    n_rows: int, seed: int, size: int = 100_000, fresh: int | None = None
) -> Iterator[tuple[sp.csr_array, NDArray]]:
    """A click log of the same kind, with one truth, ``size`` rows at a time.

    Parameters
    ----------
    n_rows : int
    seed : int
    size : int, default=100,000
    fresh : int, default=None
        Seed of rows to test on, of the same truth, that the log does not have.

    Yields
    ------
    X : csr_array of shape (size, 2**20), float32
    y : ndarray of shape (size,), int64
    """
    random = np.random.RandomState(seed)
    truth, mean = 0.25 * random.standard_normal(2**20).astype(np.float32), None
    if fresh is not None:
        mean = truth[_columns_of(random, size)].sum(axis=1).mean()  # of the log's first rows
        random = np.random.RandomState(fresh)
    for start in range(0, n_rows, size):
        columns = _columns_of(random, min(size, n_rows - start))
        outputs = truth[columns].sum(axis=1)
        mean = outputs.mean() if mean is None else mean
        y = random.random_sample(outputs.size) < 1.0 / (1.0 + np.exp(1.8 + mean - outputs))
        yield _one_hot(columns), y.astype(np.int64)


def _columns_of(random, n_rows):
    """The column of each row's category in each field."""
    cardinalities, columns = np.logspace(1, 6, 39), np.empty((n_rows, 39), dtype=np.int32)
    for field, cardinality in enumerate(cardinalities):
        category = np.exp(random.random_sample(n_rows) * np.log(cardinality)).astype(np.uint64)
        hashed = (category * np.uint64(39) + np.uint64(field)) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing
        columns[:, field] = hashed >> np.uint64(44)
    return columns


def _one_hot(columns):
    columns.sort(axis=1)
    parts = np.ones(columns.size, np.float32), columns.ravel(), np.arange(len(columns) + 1) * columns.shape[1]
    X = sp.csr_array(parts, shape=(len(columns), 2**20))
    X.sum_duplicates()
    X.data[:] = 1.0
    return X
