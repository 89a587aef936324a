"""Arrays of Python as pointers for the kernels, each checked first: its type, shape, layout, and whether it may be written."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t

import numpy as np

cdef extern from "_layout.h" nogil:
    enum:
        AHEAD

cdef extern from "_compiler.h" nogil:
    int HAS_VECTORS
    int use_avx2
    int processor_has_avx2()


cdef inline void *address(str name, array, dtype, tuple shape, bint writable=False) except? NULL:
    """Where the array's data begins, once it is what the kernels take for granted."""
    cdef Py_buffer view
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be an ndarray, got {type(array).__name__}.")
    if array.dtype != dtype:
        raise TypeError(f"{name} must be an array of {np.dtype(dtype)}, got {array.dtype}.")
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}.")
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"{name} must be C-contiguous and aligned. Pass np.ascontiguousarray of it.")
    if writable and not flags.writeable:
        raise ValueError(f"{name} is updated in place and must not be read-only.")
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    cdef void *data = view.buf
    PyBuffer_Release(&view)
    return data


cdef inline const double *numbers(str name, array, int64_t n, int *step) except? NULL:
    """Where ``n`` of float64 begin, and how far one is from the next: 0 where all of them are a view of one number."""
    step[0] = 1
    if isinstance(array, np.ndarray) and array.shape == (n,) and array.strides == (0,):
        array, n, step[0] = array[:1], min(n, 1), 0
    return <const double *>address(name, array, np.float64, (n,))


cdef inline int64_t length(str name, array) except -1:
    """Of an array's first axis."""
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise TypeError(f"{name} must be an ndarray, got {type(array).__name__}.")
    return array.shape[0]


cdef inline bint labels_differ(labels, int64_t n_rows) except -1:
    """Whether every split has labels of its own: (n_rows, n_splits) in the place of (n_rows, 1)."""
    length("labels", labels)
    return labels.size > n_rows


cdef inline real_type(str name, array):
    """The type of an array of float32 or float64."""
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
        found = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} must be an ndarray of float32 or float64, got {found}.")
    return array.dtype


cdef inline int bind_rows(
    values, columns, indptr, int64_t n_features, const void **entries, const int32_t **features, const int64_t **begins
) except -1:
    """The entries of the rows, by what takes no time whatever their number; ``_layout.check_rows`` looks at every one."""
    real, nnz, n_rows = real_type("values", values), values.size, length("indptr", indptr) - 1
    entries[0] = address("values", values, real, (nnz,))
    begins[0] = <const int64_t *>address("indptr", indptr, np.int64, (max(n_rows, 0) + 1,))
    features[0] = NULL
    if columns is not None:
        features[0] = <const int32_t *>address("columns", columns, np.int32, (max(length("columns", columns), nnz + AHEAD),))
    elif nnz != n_rows * n_features:
        raise ValueError(f"dense rows must have {n_rows} x {n_features} values, got {nnz}.")
    if begins[0][0] != 0 or begins[0][n_rows] != nnz:
        raise ValueError(f"indptr must begin at 0 and end at the number of values, {nnz}.")
    return 0


cdef inline tuple instruction_sets_here():
    """Those that the kernels are compiled for and this processor has, the fastest last."""
    return ("baseline", "avx2") if processor_has_avx2() else ("baseline",) if HAS_VECTORS else ("portable",)


cdef inline str instruction_set_of(name):
    """The one in use, once it is the one asked for; None asks for no other."""
    global use_avx2
    offered = instruction_sets_here()
    if name is not None and name not in offered:
        raise ValueError(f"instruction set {name!r} is not offered here. Choose from {', '.join(offered)}.")
    if name is not None:
        use_avx2 = name == "avx2"
    return "avx2" if use_avx2 else offered[0]
