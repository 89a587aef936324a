# cython: language_level=3, cdivision=True
"""The log loss of rows whose outputs stand output by output: the arrays go in, the interpreter is let go.

The mathematics stands in ``_loss_block.h``. Arrays are (n_splits, n_outputs, n_rows), float32 or float64, a row beside the
next; they may be parts of larger ones. With one output there are two classes. Types, shapes and labels are checked at every
call.
"""

from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t

import numpy as np

from sksid._kernels._arrays cimport (
    address,
    instruction_set_of,
    instruction_sets_here,
    processor_has_avx2,
    real_type,
    use_avx2,
)

cdef extern from "_loss.h" nogil:
    ctypedef struct loss_rows:
        const void *first
        const void *second
        const int32_t *labels
        void *out
        int64_t n_splits, n_rows, first_split, first_output, second_split, second_output, label_split
        int n_outputs, real_size
    void loss_predictions(const loss_rows*) noexcept
    void loss_values(const loss_rows*) noexcept
    void loss_slopes(const loss_rows*) noexcept
    void loss_curved(const loss_rows*) noexcept

ctypedef void (*loss_kernel)(const loss_rows*) noexcept nogil

INSTRUCTION_SETS = instruction_sets_here()
use_avx2 = processor_has_avx2()


def instruction_set(name=None):
    """The one in use, of INSTRUCTION_SETS; with a name, that one from now on (tests compare them)."""
    return instruction_set_of(name)


cdef const void *part_of(str name, array, dtype, tuple shape, int64_t *steps) except? NULL:
    """Where a part of an array begins, and its steps along all axes but the last one, in items."""
    cdef Py_buffer view
    cdef int axis
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise TypeError(f"{name} must be an array of {np.dtype(dtype)}, got {getattr(array, 'dtype', type(array).__name__)}.")
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}.")
    if not array.flags.aligned or shape[-1] > 1 and array.strides[-1] != array.itemsize:
        raise ValueError(f"{name} must have a row beside the next, aligned. Pass np.ascontiguousarray of it.")
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    for axis in range(len(shape) - 1):
        steps[axis] = view.strides[axis] // view.itemsize
    cdef const void *data = view.buf
    PyBuffer_Release(&view)
    return data


cdef int bind(str name, first, loss_rows *P) except -1:
    """Outputs or predictions, and how many there are."""
    cdef int64_t steps[2]
    real = real_type(name, first)
    if first.ndim != 3 or 0 in first.shape[:2]:
        raise ValueError(f"{name} must have the shape (n_splits, n_outputs, n_rows), got {first.shape}.")
    P.n_splits, P.n_outputs, P.n_rows = first.shape
    P.first = part_of(name, first, real, first.shape, steps)
    P.first_split, P.first_output, P.real_size = steps[0], steps[1], real.itemsize
    P.second = P.labels = NULL
    return 0


cdef int bind_labels(labels, loss_rows *P) except -1:
    """Labels (n_splits, n_rows), or (1, n_rows) of all splits."""
    cdef int64_t steps[1]
    n_labelled = 1 if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.shape[0] == 1 else P.n_splits
    P.labels = <const int32_t *>part_of("labels", labels, np.int32, (n_labelled, P.n_rows), steps)
    P.label_split = steps[0] if n_labelled > 1 else 0
    if labels.size and not 0 <= labels.min() <= labels.max() < max(2, P.n_outputs):
        raise ValueError(f"labels must be from 0 to {max(2, P.n_outputs) - 1}.")
    return 0


cdef made(loss_kernel kernel, loss_rows *P, tuple shape, dtype):
    """What a kernel makes of the rows, in an array of that shape."""
    out = np.empty(shape, dtype=dtype)
    P.out = address("out", out, dtype, shape, True)
    with nogil:
        kernel(P)
    return out


def predictions(outputs):
    """The probabilities softmax(z), or σ(z) of the second class, in the shape of ``outputs``."""
    cdef loss_rows P
    bind("outputs", outputs, &P)
    return made(loss_predictions, &P, outputs.shape, outputs.dtype)


def values(outputs, labels):
    """The losses log Σ exp(z) − z_label, (n_splits, n_rows)."""
    cdef loss_rows P
    bind("outputs", outputs, &P)
    bind_labels(labels, &P)
    return made(loss_values, &P, (P.n_splits, P.n_rows), outputs.dtype)


def slopes(predictions, labels):
    """P − e_label, in the shape of ``predictions``."""
    cdef loss_rows P
    bind("predictions", predictions, &P)
    bind_labels(labels, &P)
    return made(loss_slopes, &P, predictions.shape, predictions.dtype)


def curved(predictions, directions):
    """The product (diag p − p pᵀ) t, or p (1 − p) t, of each row, in the shape of ``predictions``."""
    cdef loss_rows P
    cdef int64_t steps[2]
    bind("predictions", predictions, &P)
    P.second = part_of("directions", directions, predictions.dtype, predictions.shape, steps)
    P.second_split, P.second_output = steps[0], steps[1]
    return made(loss_curved, &P, predictions.shape, predictions.dtype)
