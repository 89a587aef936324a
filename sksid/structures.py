"""How hyperparameters make penalties: log λ = offset + A θ, one linear map for every structure (method.md, section 1).

Shared: A is a column of ones. Groups: one-hot columns. Per feature: the identity. Moments: ones, log m and (log m)², m the
second moment of a feature. Or any matrix of one's own.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Structure:
    """The linear map from hyperparameters to log penalties.

    Parameters
    ----------
    name : str
        ``"shared"``, ``"groups"``, ``"per_feature"``, ``"moments"`` or ``"matrix"``.
    matrix : ndarray or csr_array of shape (n_features, n_params), or None
        A. None stands for the identity.
    n_features : int
        The number of penalties.
    levels : bool
        Whether each hyperparameter is itself a log penalty (the rows of A are one-hot). Then θ starts at the level the
        penalties start from and the offset is 0; otherwise θ starts at 0 and the offset is that level.
    labels : tuple
        The groups' labels in the order of θ, where there are groups.
    """

    name: str
    matrix: object
    n_features: int
    levels: bool
    labels: tuple = ()

    @property
    def n_params(self):
        """The number of hyperparameters."""
        return self.n_features if self.matrix is None else self.matrix.shape[1]

    def start(self, log_penalties):
        """θ and the offset from which these log penalties, (n_features,), are reached, or come nearest.

        With one-hot rows, θ is the mean of the log penalties in each group and the offset 0. Otherwise θ = 0 and the
        offset holds the log penalties themselves.
        """
        if not self.levels:
            return np.zeros(self.n_params), np.asarray(log_penalties, dtype=np.float64)
        members = self.pull_back(np.ones(self.n_features))
        return self.pull_back(log_penalties) / members, np.zeros(self.n_features)

    def change(self, step):
        """A step in θ as the change of each log penalty: A step, of shape (n_features,)."""
        return np.array(step, dtype=np.float64) if self.matrix is None else np.asarray(self.matrix @ step)

    def pull_back(self, log_gradient):
        """∂F/∂θ = Aᵀ ∂F/∂log λ, of shape (n_params,)."""
        return np.array(log_gradient, dtype=np.float64) if self.matrix is None else self.matrix.T @ log_gradient


def shared(n_features):
    """One penalty for all features."""
    return Structure("shared", np.ones((n_features, 1)), n_features, levels=True)


def per_feature(n_features):
    """One penalty for each feature."""
    return Structure("per_feature", None, n_features, levels=True)


def groups(labels):
    """One penalty for each distinct label.

    Parameters
    ----------
    labels : array-like of shape (n_features,)
        The group of each feature: ints or strings. θ is in the order of the sorted labels.
    """
    values, codes = np.unique(np.asarray(labels), return_inverse=True)
    n_features = codes.shape[0]
    one_hot = sp.csr_array((np.ones(n_features), codes, np.arange(n_features + 1)), shape=(n_features, len(values)))
    return Structure("groups", one_hot, n_features, levels=True, labels=tuple(values.tolist()))


def matrix(A):
    """Log penalties A θ above the level at which the search starts; the rows of A are the features."""
    A = sp.csr_array(A, dtype=np.float64) if sp.issparse(A) else np.array(A, dtype=np.float64)
    return Structure("matrix", A, A.shape[0], levels=False)


def moments(X):
    """Three hyperparameters: the columns 1, log m and (log m)², m_j the second moment of feature j.

    For text that is the document frequency and a little more; for dense features, their scale: so the search learns how
    much to standardise (method.md, section 4). The last two columns are centred and scaled to unit variance over the
    features that are not zero everywhere.
    """
    squares = X.multiply(X) if sp.issparse(X) else np.square(X, dtype=np.float64)
    second = np.asarray(squares.mean(axis=0), dtype=np.float64).ravel()
    seen = second > 0
    log_m = np.zeros(second.shape)
    log_m[seen] = _standardise(np.log(second[seen]))
    square = np.zeros(second.shape)
    square[seen] = _standardise(log_m[seen] ** 2)
    A = np.column_stack([np.ones_like(log_m), log_m, square])
    return Structure("moments", A, A.shape[0], levels=False)


def _standardise(values):
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def make_structure(structure, X):
    """The Structure that the estimator's ``structure`` parameter names, for the features of ``X``.

    Raises
    ------
    ValueError
        If the name is unknown, or the labels or the matrix do not have one row for each feature, or are not finite.
    """
    n_features = X.shape[1]
    if isinstance(structure, Structure):
        made = structure
    elif isinstance(structure, str):
        known = {"shared": shared, "per_feature": per_feature}
        if structure == "moments":
            return moments(X)
        if structure not in known:
            raise ValueError(
                f"structure={structure!r} is unknown. Use 'shared', 'moments', 'per_feature', an array of group labels "
                "(n_features,) or a matrix (n_features, n_params)."
            )
        return known[structure](n_features)
    else:
        array = structure if sp.issparse(structure) else np.asarray(structure)
        if array.ndim not in (1, 2):
            raise ValueError(f"structure must be an array of 1 or 2 dimensions, got {array.ndim}.")
        made = _made_of_array(array)
    if made.n_features != n_features:
        raise ValueError(
            f"structure has {made.n_features} rows, but X has {n_features} features. "
            "Give one group label, or one row of the matrix, for each feature."
        )
    return made


def _made_of_array(array):
    if array.ndim == 1:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("structure has group labels that are not finite. Give each feature an int or a string.")
        return groups(array)
    if array.shape[1] == 0 or array.dtype.kind not in "biuf":
        raise ValueError("structure must be a numeric matrix with at least one column.")
    made = matrix(array)
    values = made.matrix.data if sp.issparse(made.matrix) else made.matrix
    if not np.isfinite(values).all():
        raise ValueError("structure has entries that are not finite. Clean the matrix before the search.")
    return made
