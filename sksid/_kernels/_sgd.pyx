# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Steps of the paper's stochastic iterations on sparse minibatches: the arrays go in, the interpreter is let go.

The mathematics stands in ``_sgd_rows.h``. Nothing is checked here: ``sksid.solvers._sgd`` owns the arrays.
"""

from libc.stdint cimport int32_t, int64_t

import numpy as np

from sksid._kernels._arrays cimport address

cdef extern from "_sgd.h" nogil:
    int TERMS
    int MOST_STEPS
    ctypedef struct sgd_level:
        const int64_t *indptr
        const int32_t *columns
        const void *values
        const int32_t *labels
        const void *weights
        const void *proba
        const void *offset
        void *table
        int64_t n_features, width
        int n_outputs, fit_intercept, real_size
    ctypedef struct sgd_steps:
        const int64_t *rows
        const int64_t *starts
        const double *eta
        const double *powers
        int64_t n_steps
    void sgd_descend(const sgd_level*, const sgd_steps*, void*)


MAX_STEPS = MOST_STEPS


def descend(problem, table, weights, rows, starts, eta, proba=None, offset=None):
    """Take the steps on ``table`` (n_features + 1, width), in place: of the lower level, or, with ``proba``, of the adjoint.

    Step i has the minibatch ``rows[starts[i]:starts[i + 1]]`` and the step size ``eta[i]``, its α included.
    """
    cdef sgd_level level
    cdef sgd_steps steps
    real = problem.values.dtype
    powers = np.zeros((eta.size + 1, TERMS))
    np.cumsum((eta / eta[0])[:, None] ** np.arange(1, TERMS + 1), axis=0, out=powers[1:])
    lanes = 1 if problem.n_outputs == 1 else -(-problem.n_outputs // 8) * 8
    scratch = np.empty((1 + np.diff(starts).max(initial=0), lanes), dtype=real)
    level.indptr = <const int64_t *>address(problem.indptr, "int64")
    level.columns = <const int32_t *>address(problem.columns, "int32")
    level.values = address(problem.values, real)
    level.labels = <const int32_t *>address(problem.labels, "int32")
    level.weights = address(weights, real)
    level.proba = address(proba, real)
    level.offset = address(offset, real)
    level.table = address(table, real)
    level.n_features = problem.n_features
    level.width = table.shape[1]
    level.n_outputs = problem.n_outputs
    level.fit_intercept = problem.fit_intercept
    level.real_size = real.itemsize
    steps.rows = <const int64_t *>address(rows, "int64")
    steps.starts = <const int64_t *>address(starts, "int64")
    steps.eta = <const double *>address(eta, "float64")
    steps.powers = <const double *>address(powers, "float64")
    steps.n_steps = eta.size
    cdef void *room = address(scratch, real)
    with nogil:
        sgd_descend(&level, &steps, room)
