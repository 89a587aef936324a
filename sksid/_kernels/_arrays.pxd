from libc.stdint cimport uintptr_t


cdef inline void *address(array, dtype) except? NULL:
    """Where the array's data begins, once it is what the kernels take for granted; NULL for None."""
    if array is None:
        return NULL
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise TypeError(f"expected a C-contiguous array of {dtype}, got {array.dtype} with {array.flags}")
    return <void *><uintptr_t>array.ctypes.data
