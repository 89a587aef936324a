"""How hyperparameters make penalties: log λ = offset + A θ, one linear map for every structure, Eq. (5).

Shared: A is a column of ones. Groups and blocks: one-hot columns. Per feature: the identity. Moments: ones, log m and
(log m)², m being the second moment of a feature. Or a matrix of one's own, which may differ from split to split. A feature
without a penalty has log λ = −∞, which no θ moves, and a row of zeros in A.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sksid._matrices import Matrix
from sksid._structure import Structure, moments_of, shared
from sksid.descriptors import second_moments

__all__ = ["Structure", "blocks", "groups", "matrix", "moments", "moments_of", "per_feature", "second_moments", "shared"]


def per_feature(n_features: int) -> Structure:
    """One penalty for each feature.

    Parameters
    ----------
    n_features : int

    Returns
    -------
    Structure

    Examples
    --------
    >>> from sksid.structures import per_feature
    >>> per_feature(3).n_params
    3
    """
    return Structure("per_feature", None, n_features, levels=True)


def groups(labels: ArrayLike) -> Structure:
    """One penalty for each distinct label.

    Parameters
    ----------
    labels : array-like of shape (n_features,)
        The group of each feature: ints or strings. θ is in the order of the sorted labels.

    Returns
    -------
    Structure

    Examples
    --------
    >>> from sksid.structures import groups
    >>> groups([7, 3, 7]).labels
    (3, 7)
    """
    values, codes = np.unique(np.asarray(labels), return_inverse=True)
    return Structure("groups", _one_hot(codes, values.size), codes.size, levels=True, labels=tuple(values.tolist()))


def blocks(labels: Sequence[str], names: Sequence[str] | None = None) -> Structure:
    """One penalty for each block of features: groups with names, in the order in which they first appear.

    Parameters
    ----------
    labels : sequence of str, (n_features,)
        The block of each feature.
    names : sequence of str, default=None
        The order of the blocks.

    Returns
    -------
    Structure

    Examples
    --------
    >>> from sksid.structures import blocks
    >>> blocks(["text", "text", "numbers"]).columns("C")
    ('C_text', 'C_numbers')
    """
    names = list(dict.fromkeys(labels)) if names is None else [name for name in names if name in set(labels)]
    place = {name: column for column, name in enumerate(names)}
    codes = np.array([place[label] for label in labels])
    return Structure("blocks", _one_hot(codes, len(names)), codes.size, levels=True, labels=tuple(names))


def _one_hot(codes: NDArray[np.integer], n_columns: int) -> sp.csr_array:
    return sp.csr_array((np.ones(codes.size), codes, np.arange(codes.size + 1)), shape=(codes.size, n_columns))


def matrix(A: ArrayLike | sp.sparray, per_split: Sequence | None = None) -> Structure:
    """Log penalties A θ above the level at which the search starts; the rows of A are the features.

    Parameters
    ----------
    A : array-like or sparse array of shape (n_features, n_params)
        Copied. For all splits and the final fit, or for the final fit alone where ``per_split`` is given.
    per_split : sequence of n_splits matrices like ``A``, default=None
        The A of each split, such as one computed from the split's training rows.

    Returns
    -------
    Structure

    Raises
    ------
    ValueError
        If the matrices of the splits are not of the shape of ``A``.

    Examples
    --------
    >>> from sksid.structures import matrix
    >>> matrix([[1, 0], [1, 1], [1, 2]]).change([0.5, 1.0])
    array([0.5, 1.5, 2.5])
    >>> matrix([[1], [1]], per_split=([[1], [2]], [[1], [3]])).change([0.5])
    array([[0.5, 1. ],
           [0.5, 1.5]])
    """
    A = _own_matrix(A)
    matrices = None if per_split is None else tuple(map(_own_matrix, per_split))
    if matrices is not None and any(own.shape != A.shape for own in matrices):
        raise ValueError(f"per_split has matrices of shape {[own.shape for own in matrices]}, but A has {A.shape}.")
    return Structure("matrix", A, A.shape[0], levels=False, per_split=matrices)


def _own_matrix(A: ArrayLike | sp.sparray) -> Matrix:
    return sp.csr_array(A, dtype=np.float64, copy=True) if sp.issparse(A) else np.array(A, dtype=np.float64)


def moments(X: NDArray | sp.sparray, sample_weight: ArrayLike | None = None) -> Structure:
    """Up to three hyperparameters: the columns 1, log m and (log m)², m_j being the second moment of feature j, Eq. (31).

    For text that is the document frequency and a little more; for dense features, their scale: so the search learns how
    much to standardize. The last two columns are centered and scaled to unit variance over the features that are not zero
    everywhere. A column that differs between features by rounding only is left out, as both are for standardized features;
    with none left the structure is ``shared``.

    Parameters
    ----------
    X : ndarray or sparse array of shape (n_rows, n_features)
    sample_weight : array-like of shape (n_rows,), default=None
        Rows of weight 0 count as absent.

    Returns
    -------
    Structure

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.structures import moments
    >>> moments(np.array([[1.0, 2.0, 5.0], [1.0, -3.0, 8.0]]))
    Structure('moments', n_features=3, n_params=3)
    >>> moments(np.array([[1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]]))
    Structure('shared', n_features=3, n_params=1)
    """
    return moments_of(second_moments(X, sample_weight))
