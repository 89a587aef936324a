# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Passes of the dual solver over the rows (method.md, section 3): the arrays go in, the interpreter is let go.

The mathematics stands in ``_dual_rows.h``. Here the arrays are bound to its structures and nothing is checked:
``sksid.solvers._dual`` owns them and keeps their shapes. Sums are per split, in the order of ``SUMS``.
"""

from libc.stdint cimport int8_t, int32_t, int64_t

import numpy as np

from sksid._kernels._arrays cimport address

cdef extern from "_dual.h" nogil:
    int N_SUMS, LOOK, MEASURE
    ctypedef struct dual_problem:
        const int64_t *indptr
        const int32_t *columns
        const void *values
        const int32_t *labels
        const int8_t *roles
        const void *weights
        const void *train_scale
        const void *val_scale
        int64_t n_features
        int n_splits, n_outputs, fit_intercept, real_size
    ctypedef struct dual_state:
        void *table
        void *duals
        double *residuals
        double *imbalance
        int64_t width
        int n_sides
        double drift
        const int64_t *free
        void *reference
        int64_t n_free
    void dual_advance(const dual_problem*, dual_state*, const int64_t*, int64_t, int64_t, int64_t, void*, double*)
    void dual_evaluate(const dual_problem*, dual_state*, int64_t, int64_t, int, void*, double*)
    void dual_rebuild(const dual_problem*, dual_state*, int64_t, int64_t, void*)
    void dual_rescale(const dual_problem*, dual_state*, const double*, double)
    void dual_contract(const dual_problem*, const dual_state*, double*)

SUMS = (
    "validation_loss", "validation_weight", "train_loss", "train_weight",
    "gap", "curvature", "lower_residual", "adjoint_residual",
    "lower_size", "adjoint_size",
)


cdef int bind(rows, state, dual_problem *problem, dual_state *bound) except -1:
    real = rows.values.dtype
    problem.indptr = <const int64_t *>address(rows.indptr, "int64")
    problem.columns = <const int32_t *>address(rows.columns, "int32")
    problem.values = address(rows.values, real)
    problem.labels = <const int32_t *>address(rows.labels, "int32")
    problem.roles = <const int8_t *>address(rows.roles, "int8")
    problem.weights = address(rows.weights, real)
    problem.train_scale = address(rows.train_scale, real)
    problem.val_scale = address(rows.val_scale, real)
    problem.n_features = rows.n_features
    problem.n_splits = rows.n_splits
    problem.n_outputs = rows.n_outputs
    problem.fit_intercept = rows.fit_intercept
    problem.real_size = real.itemsize
    bound.table = address(state.table, real)
    bound.duals = address(state.duals, real)
    bound.residuals = <double *>address(state.residuals, "float64")
    bound.imbalance = <double *>address(state.imbalance, "float64")
    bound.width = state.table.shape[1]
    bound.n_sides = state.duals.shape[1]
    bound.drift = state.drift
    bound.free = <const int64_t *>address(state.free, "int64")
    bound.reference = address(state.reference, real)
    bound.n_free = state.free.shape[0]
    return 0


def scratch_for(rows, state):
    return np.empty(
        4 * (state.table.shape[1] + 8) + (2 + N_SUMS) * (rows.n_splits + 8) + 12 * (rows.n_outputs + 8), rows.values.dtype
    )


def advance(rows, state, blocks, int64_t block_size):
    """Visit the blocks of rows in the order given, updating ``state`` in place; the sums (n_splits, N_SUMS)."""
    cdef dual_problem problem
    cdef dual_state bound
    bind(rows, state, &problem, &bound)
    sums, scratch = np.zeros((rows.n_splits, N_SUMS)), scratch_for(rows, state)
    cdef const int64_t *order = <const int64_t *>address(blocks, "int64")
    cdef int64_t n_blocks = blocks.shape[0], n_rows = rows.labels.shape[0]
    cdef double *out = <double *>address(sums, "float64")
    cdef void *room = address(scratch, scratch.dtype)
    with nogil:
        dual_advance(&problem, &bound, order, n_blocks, block_size, n_rows, room, out)
    return sums


def evaluate(rows, state, int64_t start, int64_t stop, bint losses_only=False):
    """The sums (n_splits, N_SUMS) of the rows ``start:stop`` at the state as it stands; or of validation losses only."""
    cdef dual_problem problem
    cdef dual_state bound
    bind(rows, state, &problem, &bound)
    sums, scratch = np.zeros((rows.n_splits, N_SUMS)), scratch_for(rows, state)
    cdef double *out = <double *>address(sums, "float64")
    cdef void *room = address(scratch, scratch.dtype)
    cdef int task = LOOK if losses_only else MEASURE
    with nogil:
        dual_evaluate(&problem, &bound, start, stop, task, room, out)
    return sums


def rebuild(rows, state, int64_t start, int64_t stop):
    """Add what the duals of the rows ``start:stop`` make of W and V to the table, and of the imbalance."""
    cdef dual_problem problem
    cdef dual_state bound
    bind(rows, state, &problem, &bound)
    scratch = scratch_for(rows, state)
    cdef void *room = address(scratch, scratch.dtype)
    with nogil:
        dual_rebuild(&problem, &bound, start, stop, room)


def rescale(rows, state, penalties, double shrink):
    """Set the penalties (n_features,); W and V follow them, and the duals' factor ``shrink``."""
    cdef dual_problem problem
    cdef dual_state bound
    bind(rows, state, &problem, &bound)
    cdef const double *new = <const double *>address(penalties, "float64")
    with nogil:
        dual_rescale(&problem, &bound, new, shrink)


def contract(rows, state):
    """The inner products (n_features,) of W_j and V_j over all splits and outputs."""
    cdef dual_problem problem
    cdef dual_state bound
    bind(rows, state, &problem, &bound)
    inner = np.empty(rows.n_features)
    cdef double *out = <double *>address(inner, "float64")
    with nogil:
        dual_contract(&problem, &bound, out)
    return inner
