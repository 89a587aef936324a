"""Descriptors: numbers that describe each feature on some rows, of which a penalty is to depend.

Each is a function of ``(X, y, sample_weight)`` that gives a row for each feature. A search computes it on the training rows of
each split, and on all rows for the final fit, Eq. (36). Rows of weight 0 count as absent.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

__all__ = ["evidence", "moments", "second_moments"]

ROUNDING = 1e-5  # standard deviation of logarithms, or of any values as a share of the largest, that may be float32's rounding
PART = 1 << 22  # entries that are handled at once
CONSTANT = 1e-11  # share of its second moment below which a feature's variance is rounding


def evidence(X: NDArray | sp.sparray, y: ArrayLike, sample_weight: ArrayLike | None = None) -> NDArray[np.float64]:
    """What each feature alone says of the class: log(1 + t²), t² the score statistic, Eq. (37).

    t² is the squared correlation of the feature with the indicator of a class, times the number of rows (the sum of the
    weights, if there are any), the largest over the classes. It is about 1 where a feature says nothing.

    Parameters
    ----------
    X : ndarray or sparse array of shape (n_rows, n_features)
    y : array-like of shape (n_rows,)
        Class labels.
    sample_weight : array-like of shape (n_rows,), default=None
        Rows of weight 2 count as two rows.

    Returns
    -------
    ndarray of shape (n_features,)

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.descriptors import evidence
    >>> X = np.array([[1.0, 3.0, 1.0], [2.0, 3.0, 0.0], [8.0, 3.0, 1.0], [9.0, 3.0, 0.0]])
    >>> evidence(X, ["no", "no", "yes", "yes"]).round(2)
    array([1.59, 0.  , 0.  ])
    """
    classes, labels = np.unique(np.asarray(y), return_inverse=True)
    weight = np.ones(labels.size) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    indicators = np.zeros((labels.size, classes.size))
    indicators[np.arange(labels.size), labels] = weight
    sums, squares = weighted_sums(X, indicators)
    total, of_class = weight.sum(), indicators.sum(axis=0)
    spread = total * squares - sums.sum(axis=1) ** 2
    spread[spread <= CONSTANT * total * squares] = np.inf
    together = total * sums - sums.sum(axis=1)[:, None] * of_class
    scale = of_class * (total - of_class)
    squared = np.divide(together**2, scale, out=np.zeros_like(together), where=scale > 0).max(axis=1, initial=0.0)
    return np.log1p(total * squared / spread)


def moments(X: NDArray | sp.sparray, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> NDArray[np.float64]:
    """The logarithm t of each feature's second moment and its square, t standardized over the features, Eq. (31).

    Both columns are zero where second moments differ by rounding only.

    Parameters
    ----------
    X : ndarray or sparse array of shape (n_rows, n_features)
    y : array-like
        Not used.
    sample_weight : array-like of shape (n_rows,), default=None

    Returns
    -------
    ndarray of shape (n_features, 2)
        Rows of zeros for features that are zero everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.descriptors import moments
    >>> moments(np.array([[1.0, 2.0, 8.0], [1.0, -2.0, 8.0]])).round(2)
    array([[-1.07,  1.14],
           [-0.27,  0.07],
           [ 1.34,  1.79]])
    """
    return log_moments(second_moments(X, sample_weight))


def log_moments(second: NDArray[np.float64]) -> NDArray[np.float64]:
    """``moments`` of features with these second moments, (n_features, 2)."""
    seen = second > 0
    column = np.zeros(second.size)
    column[seen] = _standard(np.log(second[seen]), ROUNDING)
    return np.column_stack([column, column**2])


def second_moments(X: NDArray | sp.sparray, sample_weight: ArrayLike | None = None) -> NDArray[np.float64]:
    """The (weighted) mean of x_ij² over the rows.

    Parameters
    ----------
    X : ndarray or sparse array of shape (n_rows, n_features)
    sample_weight : array-like of shape (n_rows,), default=None

    Returns
    -------
    ndarray of shape (n_features,)

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.descriptors import second_moments
    >>> second_moments(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([ 5., 10.])
    >>> second_moments(np.array([[1.0, 2.0], [3.0, 4.0]]), [1.0, 0.0])
    array([1., 4.])
    """
    rows: Any = X
    if hasattr(rows, "parts"):  # blocks
        weight = np.ones(X.shape[0]) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        return weighted_sums(X, weight[:, None])[1] / max(weight.sum(), np.finfo(np.float64).tiny)
    squares = rows.multiply(rows) if sp.issparse(rows) else np.square(rows, dtype=np.float64)
    if sample_weight is None:
        return np.asarray(squares.mean(axis=0), dtype=np.float64).ravel()
    weight = np.asarray(sample_weight, dtype=np.float64)
    weight = weight / max(weight.sum(), np.finfo(np.float64).tiny)
    return np.asarray(squares.T @ weight, dtype=np.float64).ravel()


def standardized(column: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A column, (n_features,), centered and of unit variance over the features in ``seen``; 0 elsewhere.

    Zeros where those features differ by rounding only.
    """
    values, out = column[seen], np.zeros(column.size)
    values = np.ldexp(values, -np.frexp(np.abs(values).max(initial=0.0))[1])  # whose squares do not overflow
    out[seen] = _standard(values, ROUNDING * np.abs(values).max(initial=0.0))
    return out


def _standard(values, least):
    """Values centered and of unit variance; zeros where their standard deviation is not above ``least``."""
    spread = values.std() if values.size else 0.0
    return (values - values.mean()) / spread if spread > least else np.zeros_like(values)


def weighted_sums(X: Any, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Σ_i w_ic x_ij, (n_features, n_columns), and Σ_ic w_ic x_ij², (n_features,), in float64 and part by part."""
    sums, squares = np.zeros((X.shape[1], weights.shape[1])), np.zeros(X.shape[1])
    if hasattr(X, "parts"):  # blocks
        for place, part in X.parts():
            for total, own in zip((sums, squares), weighted_sums(part, weights[place]), strict=True):
                total += own
        return sums, squares
    X = sp.csr_array(X) if sp.issparse(X) else X
    step = max(1, int(PART * X.shape[0] / max(1, X.nnz if sp.issparse(X) else X.size)))
    for start in range(0, X.shape[0], step):
        rows, own = X[start : start + step].astype(np.float64), weights[start : start + step]
        sums += rows.T @ own
        squares += (rows.multiply(rows) if sp.issparse(rows) else np.square(rows)).T @ own.sum(axis=1)
    return sums, squares
