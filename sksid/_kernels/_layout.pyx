# cython: language_level=3, cdivision=True
"""The layout that kernels and Python share, read from ``_layout.h``, and the checks that look at every number once.

``check_rows`` and ``check_roles`` are called when rows and roles are made: with what they have let pass, no kernel reads or
writes out of bounds. What takes no time, types and shapes, the kernels check themselves at every call.
"""

from libc.stdint cimport int8_t, int32_t, int64_t

import numpy as np

from sksid._kernels._arrays cimport address, bind_rows, length

cdef extern from "_layout.h" nogil:
    cdef int N_SUMS
    cdef const char **dual_sum_names
    int _UNUSED "UNUSED"
    int _TRAIN "TRAIN"
    int _VALIDATION "VALIDATION"
    int _CACHE_LINE "CACHE_LINE"
    int AHEAD
    int64_t layout_dual_width(int64_t, int64_t, int64_t)
    int64_t layout_sgd_outputs(int64_t)
    int64_t layout_sgd_width(int64_t)

UNUSED = _UNUSED
TRAIN = _TRAIN
VALIDATION = _VALIDATION
CACHE_LINE = _CACHE_LINE
COLUMNS_AHEAD = AHEAD
SUMS = tuple([(<bytes>dual_sum_names[j]).decode() for j in range(N_SUMS)])


def dual_width(int64_t n_used, dtype, int64_t n_inverses=1):
    """Numbers in a row of the dual solver's table, ``n_used`` of W_j and V_j, then of 1/λ_j: whole cache lines, or a pair."""
    return layout_dual_width(n_used, n_inverses, np.dtype(dtype).itemsize)


def sgd_outputs(int64_t n_outputs):
    """Numbers that W_j takes in a row of sgd's table: the outputs, padded."""
    return layout_sgd_outputs(n_outputs)


def sgd_width(int64_t n_outputs):
    """Numbers in a row of sgd's table."""
    return layout_sgd_width(n_outputs)


def as_columns(indices, int64_t n_features):
    """The features of all entries, (nnz,) of any int, as the kernels read them: (nnz + COLUMNS_AHEAD,) int32.

    Raises ValueError where there are more features than an int32 can count.
    """
    if n_features > np.iinfo(np.int32).max:
        raise ValueError(
            f"X has {n_features} features; at most {np.iinfo(np.int32).max} can be told apart. Hash them into fewer."
        )
    columns = np.zeros(indices.shape[0] + AHEAD, dtype=np.int32)
    columns[: indices.shape[0]] = indices
    return columns


def check_rows(values, columns, indptr, int64_t n_features):
    """Raise unless the rows are whole: every entry in a row, every feature from 0 to ``n_features - 1``.

    Parameters
    ----------
    values : ndarray of shape (nnz,), float32 or float64
    columns : ndarray of shape (at least nnz + COLUMNS_AHEAD,), int32, or None
        None for dense rows, of ``n_features`` entries each.
    indptr : ndarray of shape (n_rows + 1,), int64
    n_features : int

    Raises
    ------
    TypeError
        If an array has another type.
    ValueError
        If a shape or a number is out of range.
    """
    cdef const void *entries
    cdef const int32_t *features
    cdef const int64_t *begins
    cdef int64_t i, n_rows, nnz
    cdef bint fine = True
    if n_features < 0 or n_features > 2147483647:
        raise ValueError(f"n_features must be from 0 to {np.iinfo(np.int32).max}, got {n_features}.")
    bind_rows(values, columns, indptr, n_features, &entries, &features, &begins)
    n_rows, nnz = indptr.shape[0] - 1, values.size
    with nogil:
        for i in range(n_rows):
            fine = fine and begins[i] <= begins[i + 1] and (features != NULL or begins[i + 1] - begins[i] == n_features)
    if not fine:
        raise ValueError("indptr must not decrease, and for dense rows go on by n_features.")
    if features == NULL:
        return
    cdef int32_t least = 0, most = -1
    with nogil:
        for i in range(nnz):
            least = features[i] if features[i] < least else least
            most = features[i] if features[i] > most else most
    if least < 0 or most >= n_features:
        raise ValueError(f"columns must be from 0 to {n_features - 1}, got {least if least < 0 else most}.")


def check_roles(labels, role, int64_t n_classes):
    """Raise unless every label is from 0 to ``n_classes - 1``, and every role is UNUSED, TRAIN or VALIDATION.

    Parameters
    ----------
    labels : ndarray of shape (n_rows, 1) or (n_rows, n_splits), int32
    role : ndarray of shape (n_rows, n_splits), int8
    n_classes : int

    Raises
    ------
    TypeError
        If an array has another type.
    ValueError
        If a shape or a number is out of range.
    """
    length("labels", labels)
    n_rows, n_splits = length("role", role), role.shape[-1]
    cdef int64_t i, n_labels = labels.size, n_roles = role.size
    shape = (n_rows, n_splits) if labels.shape != (n_rows, 1) else labels.shape
    cdef const int32_t *label = <const int32_t *>address("labels", labels, np.int32, shape)
    cdef const int8_t *part = <const int8_t *>address("role", role, np.int8, (n_rows, n_splits))
    cdef int32_t least = 0, most = -1
    cdef bint fine = True
    with nogil:
        for i in range(n_labels):
            least = label[i] if label[i] < least else least
            most = label[i] if label[i] > most else most
        for i in range(n_roles):
            fine = fine and part[i] >= _UNUSED and part[i] <= _VALIDATION
    if least < 0 or most >= n_classes:
        raise ValueError(f"labels must be from 0 to {n_classes - 1}, got {least if least < 0 else most}.")
    if not fine:
        raise ValueError(f"role must be UNUSED, TRAIN or VALIDATION ({_UNUSED}, {_TRAIN}, {_VALIDATION}).")
