"""The matrix of a structure, dense or sparse."""

from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.float64] | sp.csr_array


def without_rows(A: Matrix | None, rows: NDArray[np.bool_], n_features: int) -> sp.csc_array:
    """The matrix with these rows zero; None stands for the identity."""
    whole = sp.identity(n_features, format="csr") if A is None else sp.csr_array(A)
    rest = sp.csc_array(sp.diags_array((~rows).astype(np.float64)) @ whole)
    rest.eliminate_zeros()
    return rest


def entries(A: Matrix | None) -> tuple | None:
    """The entries of a matrix, dense or sparse, as something to compare and to hash."""
    if A is None:
        return None
    own = sp.csr_array(A, dtype=np.float64, copy=True)
    own.sum_duplicates()
    own.eliminate_zeros()
    return own.shape, own.data.tobytes(), own.indices.astype(np.int64).tobytes(), own.indptr.astype(np.int64).tobytes()
