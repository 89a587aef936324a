# cython: language_level=3, cdivision=True
"""Steps of the paper's stochastic iterations on sparse minibatches: the arrays go in, the interpreter is let go.

The mathematics stands in ``_sgd_row.h``. Types, shapes, rows and steps are checked at every call, entries and labels when rows
and roles are made (``_layout.check_rows``, ``check_roles``).
"""

from libc.stdint cimport int32_t, int64_t

import numpy as np

from sksid._kernels._arrays cimport (
    address,
    bind_rows,
    instruction_set_of,
    instruction_sets_here,
    labels_differ,
    length,
    processor_has_avx2,
    real_type,
    use_avx2,
)

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
        int64_t n_features, width, label_step
        int n_outputs, fit_intercept, value_size, real_size
    ctypedef struct sgd_steps:
        const int64_t *rows
        const int64_t *starts
        const double *eta
        const double *powers
        int64_t n_steps
    void sgd_descend(const sgd_level*, const sgd_steps*, void*)
    int64_t layout_sgd_outputs(int64_t)
    int64_t layout_sgd_width(int64_t)

MAX_STEPS = MOST_STEPS
INSTRUCTION_SETS = instruction_sets_here()
use_avx2 = processor_has_avx2()


def instruction_set(name=None):
    """The one in use, of INSTRUCTION_SETS; with a name, that one from now on (tests compare them)."""
    return instruction_set_of(name)


cdef int bind_problem(problem, int64_t split, sgd_level *level) except -1:
    rows, roles = problem.rows, problem.roles
    n_rows, n_splits, n_outputs = length("indptr", rows.indptr) - 1, problem.n_splits, problem.n_outputs
    if not 0 <= split < n_splits:
        raise ValueError(f"split must be from 0 to {n_splits - 1}, got {split}.")
    n_classes = length("train_scale", roles.train_scale)
    if n_outputs < 1 or n_outputs > 1 and n_classes != n_outputs:
        raise ValueError(f"train_scale is of {n_classes} classes, the problem has {n_outputs} outputs.")
    level.n_features, level.n_outputs, level.fit_intercept = rows.n_features, n_outputs, bool(problem.fit_intercept)
    bind_rows(rows.values, rows.columns, rows.indptr, level.n_features, &level.values, &level.columns, &level.indptr)
    level.label_step = n_splits if labels_differ(roles.labels, n_rows) else 1
    level.labels = <const int32_t *>address("labels", roles.labels, np.int32, (n_rows, level.label_step))
    if level.label_step > 1:
        level.labels += split
    level.value_size = rows.values.itemsize
    return 0


cdef int bind_table(n_rows, table, weights, proba, offset, sgd_level *level) except -1:
    real = real_type("table", table)
    padded, level.width = layout_sgd_outputs(level.n_outputs), layout_sgd_width(level.n_outputs)
    if (proba is None) != (offset is None):
        raise ValueError("the linear system has both proba and offset, the lower level neither.")
    level.table = address("table", table, real, (level.n_features + 1, level.width), True)
    level.weights = address("weights", weights, real, (n_rows,))
    level.proba = level.offset = NULL
    if proba is not None:
        level.proba = address("proba", proba, real, (n_rows, padded))
        level.offset = address("offset", offset, real, (level.n_features + 1, padded))
    level.real_size = real.itemsize
    return 0


cdef int check_steps(rows, starts, eta, n_rows) except -1:
    """That minibatches are of rows that there are, one behind the other, and few enough to be counted."""
    if eta.size > MOST_STEPS:
        raise ValueError(f"at most {MOST_STEPS} steps can be taken in one call, got {eta.size}.")
    if starts[0] < 0 or starts[-1] > rows.size or (np.diff(starts) < 0).any():
        raise ValueError(f"starts must not decrease and lie among the {rows.size} rows of the minibatches.")
    taken = rows[starts[0] : starts[-1]]
    if taken.size and not 0 <= taken.min() <= taken.max() < n_rows:
        raise ValueError(f"rows must be from 0 to {n_rows - 1}.")
    if not (eta[:-1] >= eta[1:]).all() or not (eta > 0).all():
        raise ValueError("step sizes must be positive and not increase.")
    return 0


def descend(problem, split, table, weights, rows, starts, eta, proba=None, offset=None):
    """Take steps on ``table``, in place: of the lower level, Eq. (18), or, with ``proba``, of the linear system, Eq. (19).

    Parameters
    ----------
    problem : Problem
        Its entries and the split's labels.
    split : int
    table : ndarray of shape (n_features + 1, width), float32 or float64
    weights : ndarray of shape (n_rows,), of the table's type
        By which each row's gradient is multiplied.
    rows : ndarray of int64
    starts : ndarray of shape (n_steps + 1,), int64
        The minibatch of step i is ``rows[starts[i]:starts[i + 1]]``.
    eta : ndarray of shape (n_steps,), float64
        The step sizes, α included; they do not increase.
    proba : ndarray of shape (n_rows, padded outputs), of the table's type, default=None
        The probabilities at w.
    offset : ndarray of shape (n_features + 1, padded outputs), of the table's type, default=None
        The right-hand side over λ, and for the intercept over S.
    """
    cdef sgd_level level
    cdef sgd_steps steps
    bind_problem(problem, split, &level)
    n_rows, n_steps = problem.rows.indptr.shape[0] - 1, length("eta", eta)
    bind_table(n_rows, table, weights, proba, offset, &level)
    steps.n_steps = n_steps
    steps.rows = <const int64_t *>address("rows", rows, np.int64, (length("rows", rows),))
    steps.starts = <const int64_t *>address("starts", starts, np.int64, (n_steps + 1,))
    steps.eta = <const double *>address("eta", eta, np.float64, (n_steps,))
    if not eta.size:
        return
    check_steps(rows, starts, eta, n_rows)
    powers = np.zeros((eta.size + 1, TERMS))
    np.cumsum((eta / eta[0])[:, None] ** np.arange(1, TERMS + 1), axis=0, out=powers[1:])
    scratch = np.empty((1 + np.diff(starts).max(initial=0), layout_sgd_outputs(level.n_outputs)), dtype=table.dtype)
    steps.powers = <const double *>address("powers", powers, np.float64, powers.shape)
    cdef void *room = address("scratch", scratch, table.dtype, scratch.shape)
    with nogil:
        sgd_descend(&level, &steps, room)
