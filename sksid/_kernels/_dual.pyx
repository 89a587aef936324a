# cython: language_level=3, cdivision=True
"""Passes of the dual solver over the rows (docs/method.rst, the dual solver): arrays go in, the interpreter is let go.

The mathematics stands in ``_dual_row.h``. Here the arrays of a ``Problem`` and of a ``DualState`` are bound to its structures,
types and shapes checked at every call; ``_layout.check_rows`` and ``check_roles`` have looked at the entries, labels and roles.
Sums are per split, in the order of ``_layout.SUMS``.
"""

from libc.stdint cimport int8_t, int32_t, int64_t

import numpy as np

from sksid._kernels._arrays cimport (
    address,
    bind_rows,
    instruction_set_of,
    instruction_sets_here,
    labels_differ,
    length,
    numbers,
    processor_has_avx2,
    real_type,
    use_avx2,
)

cdef extern from "_dual.h" nogil:
    int N_SUMS, LOOK, MEASURE
    ctypedef struct dual_problem:
        const int64_t *indptr
        const int32_t *columns
        const void *values
        const int32_t *labels
        const int8_t *roles
        const double *weights
        const double *train_scale
        const double *val_scale
        int64_t n_rows, n_features
        int n_classes, n_splits, n_outputs, fit_intercept, label_step, weight_step, value_size, real_size
    ctypedef struct dual_state:
        void *table
        void *duals
        void *residuals
        double *imbalance
        int64_t width
        int n_sides, n_inverses
        double reference_step
        const int64_t *unpenalized
        void *reference
        int64_t n_unpenalized
    void dual_advance(const dual_problem*, dual_state*, const int64_t*, int64_t, int64_t, void*, double*)
    void dual_evaluate(const dual_problem*, dual_state*, int64_t, int64_t, int, void*, double*)
    void dual_rebuild(const dual_problem*, dual_state*, int64_t, int64_t, void*)
    void dual_rescale(const dual_problem*, dual_state*, const double*, int, double)
    void dual_contract(const dual_problem*, const dual_state*, double*)
    int64_t layout_dual_width(int64_t, int64_t, int64_t)
    int64_t layout_dual_scratch(int64_t, int64_t, int64_t, int64_t)

INSTRUCTION_SETS = instruction_sets_here()
use_avx2 = processor_has_avx2()


def instruction_set(name=None):
    """The one in use, of INSTRUCTION_SETS; with a name, that one from now on (tests compare them)."""
    return instruction_set_of(name)


cdef int bind_problem(problem, dual_problem *bound) except -1:
    rows, roles = problem.rows, problem.roles
    bound.n_features, bound.n_rows = rows.n_features, length("indptr", rows.indptr) - 1
    bind_rows(rows.values, rows.columns, rows.indptr, bound.n_features, &bound.values, &bound.columns, &bound.indptr)
    n_rows, n_splits, n_outputs = bound.n_rows, problem.n_splits, problem.n_outputs
    n_classes = length("train_scale", roles.train_scale)
    if n_outputs < 1 or n_outputs > 1 and n_classes != n_outputs:
        raise ValueError(f"train_scale is of {n_classes} classes, the problem has {n_outputs} outputs.")
    bound.label_step = labels_differ(roles.labels, n_rows)
    bound.labels = <const int32_t *>address("labels", roles.labels, np.int32, (n_rows, n_splits if bound.label_step else 1))
    bound.roles = <const int8_t *>address("role", roles.role, np.int8, (n_rows, n_splits))
    bound.weights = numbers("weights", roles.weights, n_rows, &bound.weight_step)
    bound.train_scale = <const double *>address("train_scale", roles.train_scale, np.float64, (n_classes, n_splits))
    bound.val_scale = <const double *>address("val_scale", roles.val_scale, np.float64, (n_splits,))
    bound.n_classes, bound.n_splits, bound.n_outputs = n_classes, n_splits, n_outputs
    bound.fit_intercept, bound.value_size = bool(problem.fit_intercept), rows.values.itemsize
    return 0


cdef int bind(problem, state, dual_problem *rows, dual_state *bound) except -1:
    """The arrays of both, each of the shape that the others have it; scratch space is to be had of ``scratch_of``."""
    bind_problem(problem, rows)
    real = real_type("table", state.table)
    n_vectors, n_sides = rows.n_splits * rows.n_outputs, length("imbalance", state.imbalance)
    if n_sides not in (1, 2):
        raise ValueError(f"imbalance must have a row of the lower level and at most one of the adjoint, got {n_sides}.")
    used, n_unpenalized = n_sides * n_vectors, length("unpenalized", state.unpenalized)
    rows.real_size, bound.n_sides, bound.n_unpenalized = real.itemsize, n_sides, n_unpenalized
    bound.n_inverses = state.n_inverses
    if bound.n_inverses not in (1, rows.n_splits):
        raise ValueError(f"n_inverses must be 1 or the {rows.n_splits} splits, got {bound.n_inverses}.")
    bound.width = layout_dual_width(used, bound.n_inverses, real.itemsize)
    bound.reference_step = state.reference_step
    bound.table = address("table", state.table, real, (rows.n_features + 1, bound.width), True)
    bound.duals = address("duals", state.duals, real, (rows.n_rows, n_sides, n_vectors), True)
    bound.residuals = address("residuals", state.residuals, real, (rows.n_rows, 2), True)
    bound.imbalance = <double *>address("imbalance", state.imbalance, np.float64, (n_sides, n_vectors), True)
    bound.unpenalized = <const int64_t *>address("unpenalized", state.unpenalized, np.int64, (n_unpenalized,))
    bound.reference = address("reference", state.reference, real, (n_unpenalized, used), True)
    if not within(bound.unpenalized, n_unpenalized, rows.n_features):
        raise ValueError(f"unpenalized must be features, from 0 to {rows.n_features - 1}.")
    return 0


cdef bint within(const int64_t *values, int64_t n, int64_t stop) noexcept nogil:
    """Whether all of them are from 0 to ``stop - 1``."""
    cdef bint fine = True
    cdef int64_t i
    for i in range(n):
        fine = fine and values[i] >= 0 and values[i] < stop
    return fine


cdef tuple shape_of(const dual_problem *rows, const dual_state *state):
    """Of penalties."""
    if state.n_inverses == 1:
        return (rows.n_features,)
    return (state.n_inverses, rows.n_features)


cdef scratch_of(const dual_problem *rows, const dual_state *state):
    """Room to work in; with entries of another type than the state's, room for those of the longest row."""
    cdef int64_t i, longest = 0, reals = layout_dual_scratch(state.width, rows.n_classes, rows.n_splits, rows.n_outputs)
    if rows.value_size != rows.real_size:
        for i in range(rows.n_rows):
            longest = max(longest, rows.indptr[i + 1] - rows.indptr[i])
    return np.empty((reals + longest) * rows.real_size, np.uint8)


cdef void *room_of(scratch) except NULL:
    return address("scratch", scratch, np.uint8, scratch.shape, True)


cdef int check_range(const dual_problem *rows, int64_t start, int64_t stop) except -1:
    if not 0 <= start <= stop <= rows.n_rows:
        raise ValueError(f"rows {start}:{stop} are not among the {rows.n_rows} rows.")
    return 0


def advance(problem, state, blocks, int64_t block_size):
    """Visit the blocks of rows in the order given, updating ``state`` in place; the sums (n_splits, len(SUMS)).

    ``blocks`` (n_blocks,) int64: block b is the rows ``b * block_size:(b + 1) * block_size``, as far as there are any.
    """
    cdef dual_problem rows
    cdef dual_state bound
    bind(problem, state, &rows, &bound)
    cdef int64_t n_blocks = length("blocks", blocks)
    cdef const int64_t *order = <const int64_t *>address("blocks", blocks, np.int64, (n_blocks,))
    if block_size < 1 or not within(order, n_blocks, (rows.n_rows - 1) // block_size + 1 if rows.n_rows else 0):
        raise ValueError(f"blocks of {block_size} rows must begin within the {rows.n_rows} rows.")
    sums, scratch = np.zeros((rows.n_splits, N_SUMS)), scratch_of(&rows, &bound)
    cdef double *out = <double *>address("sums", sums, np.float64, sums.shape)
    cdef void *room = room_of(scratch)
    with nogil:
        dual_advance(&rows, &bound, order, n_blocks, block_size, room, out)
    return sums


def evaluate(problem, state, int64_t start, int64_t stop, bint losses_only=False):
    """The sums (n_splits, len(SUMS)) of the rows ``start:stop`` at the state as it stands; or of validation losses only."""
    cdef dual_problem rows
    cdef dual_state bound
    bind(problem, state, &rows, &bound)
    check_range(&rows, start, stop)
    sums, scratch = np.zeros((rows.n_splits, N_SUMS)), scratch_of(&rows, &bound)
    cdef double *out = <double *>address("sums", sums, np.float64, sums.shape)
    cdef void *room = room_of(scratch)
    cdef int task = LOOK if losses_only else MEASURE
    with nogil:
        dual_evaluate(&rows, &bound, start, stop, task, room, out)
    return sums


def rebuild(problem, state, int64_t start, int64_t stop):
    """Add what the duals of the rows ``start:stop`` make of W and V, Eqs. (6) and (10), to the table, and of the imbalance."""
    cdef dual_problem rows
    cdef dual_state bound
    bind(problem, state, &rows, &bound)
    check_range(&rows, start, stop)
    scratch = scratch_of(&rows, &bound)
    cdef void *room = room_of(scratch)
    with nogil:
        dual_rebuild(&rows, &bound, start, stop, room)


def rescale(problem, state, penalties, double shrink):
    """Set the penalties, (n_features,) or (n_splits, n_features), Eq. (14); W and V follow, and the factor ``shrink``."""
    cdef dual_problem rows
    cdef dual_state bound
    bind(problem, state, &rows, &bound)
    cdef int step = 1
    cdef const double *new
    if bound.n_inverses == 1:
        new = numbers("penalties", penalties, rows.n_features, &step)
    else:
        new = <const double *>address("penalties", penalties, np.float64, shape_of(&rows, &bound))
    with nogil:
        dual_rescale(&rows, &bound, new, step, shrink)


def contract(problem, state):
    """The inner products of W_j and V_j over all vectors of a penalty, of which Eq. (4) is made, in the shape of penalties."""
    cdef dual_problem rows
    cdef dual_state bound
    bind(problem, state, &rows, &bound)
    if bound.n_sides != 2:
        raise ValueError("the state is of the lower level alone: there is no V.")
    inner = np.empty(shape_of(&rows, &bound))
    cdef double *out = <double *>address("inner", inner, np.float64, inner.shape)
    with nogil:
        dual_contract(&rows, &bound, out)
    return inner
