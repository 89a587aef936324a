# cython: language_level=3, cdivision=True
"""Weighted Gram matrices of sparse rows, and their products: the arrays go in, the interpreter is let go.

The sums stand in ``_gram_pass.h``. Entries are checked once, when ``Entries`` is made of them, all else at every call.
"""

from libc.stdint cimport int32_t, int64_t

import numpy as np

from sksid._kernels._arrays cimport (
    address,
    instruction_set_of,
    instruction_sets_here,
    length,
    processor_has_avx2,
    real_type,
    use_avx2,
)

cdef extern from "_gram.h" nogil:
    int VEC
    ctypedef struct gram_rows:
        const int64_t *indptr
        const int32_t *columns
        const void *values
        const double *weights
        const double *v
        double *out
        int64_t n_rows, n_features, step
        int n_matrices, real_size
    void gram_sums(const gram_rows*) noexcept
    void gram_products(const gram_rows*) noexcept

MATRICES = VEC
INSTRUCTION_SETS = instruction_sets_here()
use_avx2 = processor_has_avx2()


def instruction_set(name=None):
    """The one in use, of INSTRUCTION_SETS; with a name, that one from now on (tests compare them)."""
    return instruction_set_of(name)


cdef class Entries:
    """The entries of sparse rows, [X 1] with a column of ones behind them; not to be changed from now on.

    Parameters
    ----------
    values : ndarray of shape (nnz,), float32 or float64
    columns : ndarray of shape (nnz,), int32
        No feature twice in a row.
    indptr : ndarray of shape (n_rows + 1,), int64
    n_features : int
    """

    cdef gram_rows rows
    cdef tuple arrays

    def __init__(self, values, columns, indptr, int64_t n_features):
        cdef gram_rows *P = &self.rows
        self.arrays = values, columns, indptr
        real, nnz = real_type("values", values), values.size
        P.n_rows, P.n_features, P.real_size = length("indptr", indptr) - 1, n_features, real.itemsize
        P.values = address("values", values, real, (nnz,))
        P.columns = <const int32_t *>address("columns", columns, np.int32, (nnz,))
        P.indptr = <const int64_t *>address("indptr", indptr, np.int64, (max(P.n_rows, 0) + 1,))
        if nnz and not 0 <= columns.min() <= columns.max() < n_features:
            raise ValueError(f"columns must be from 0 to {n_features - 1}.")
        if indptr[0] != 0 or indptr[-1] != nnz or (np.diff(indptr) < 0).any():
            raise ValueError(f"indptr must rise from 0 to the number of values, {nnz}.")

    def __reduce__(self):
        return Entries, (*self.arrays, self.rows.n_features)

    def grams(self, weights):
        """[X 1]ᵀ diag(c) [X 1] of each row c of ``weights``, (n, n_rows) float64: (n, n_features + 1, n_features + 1)."""
        cdef gram_rows P = self.rows
        cdef int64_t m = P.n_features + 1, first
        n = length("weights", weights)
        P.weights = <const double *>address("weights", weights, np.float64, (n, P.n_rows))
        P.step = P.n_rows
        found = np.empty((n, m, m))
        for first in range(0, n, VEC):
            P.n_matrices = min(VEC, n - first)
            sums = np.zeros((m, m, VEC))
            P.out = <double *>address("sums", sums, np.float64, (m, m, VEC), True)
            with nogil:
                gram_sums(&P)
            P.weights += VEC * P.step
            half = sums[..., : P.n_matrices].transpose(2, 0, 1)
            part = np.add(half, half.swapaxes(1, 2), out=found[first : first + P.n_matrices])
            diagonal = np.arange(m)
            part[:, diagonal, diagonal] -= half[:, diagonal, diagonal]
        return found

    def products(self, weights, vectors):
        """[X 1]ᵀ diag(c) [X 1] v of each row c of ``weights``, (n, n_rows), v of ``vectors``, (n, n_features + 1); float64."""
        cdef gram_rows P = self.rows
        cdef int64_t m = P.n_features + 1, first
        n = length("weights", weights)
        P.weights = <const double *>address("weights", weights, np.float64, (n, P.n_rows))
        address("vectors", vectors, np.float64, (n, m))
        P.step = P.n_rows
        found = np.empty((n, m))
        for first in range(0, n, VEC):
            P.n_matrices = min(VEC, n - first)
            v, sums = np.zeros((m, VEC)), np.zeros((m, VEC))
            v[:, : P.n_matrices] = vectors[first : first + VEC].T
            P.v = <const double *>address("v", v, np.float64, (m, VEC))
            P.out = <double *>address("sums", sums, np.float64, (m, VEC), True)
            with nogil:
                gram_products(&P)
            P.weights += VEC * P.step
            found[first : first + P.n_matrices] = sums[:, : P.n_matrices].T
        return found
