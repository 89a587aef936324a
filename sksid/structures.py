"""How hyperparameters make penalties: log λ = offset + A θ, one linear map for every structure (method.md, section 1).

Shared: A is a column of ones. Groups and blocks: one-hot columns. Per feature: the identity. Moments: ones, log m and
(log m)², m the second moment of a feature. Or any matrix of one's own. A feature without a penalty has log λ = −∞, which no θ
moves, and a row of zeros in A.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Structure:
    """The linear map from hyperparameters to log penalties.

    Parameters
    ----------
    name : str
        ``"shared"``, ``"groups"``, ``"blocks"``, ``"per_feature"``, ``"moments"`` or ``"matrix"``.
    matrix : ndarray or csr_array of shape (n_features, n_params), or None
        A. None stands for the identity.
    n_features : int
        The number of penalties.
    levels : bool
        Whether each hyperparameter is itself a log penalty (the rows of A are one-hot). Then θ starts at the level the
        penalties start from and the offset is 0; otherwise θ starts at 0 and the offset is that level.
    labels : tuple
        The labels of groups or blocks in the order of θ, where there are any.
    shift : ndarray of shape (n_features,), or None
        Added to the log penalties that the descent starts from.
    """

    name: str
    matrix: object
    n_features: int
    levels: bool
    labels: tuple = ()
    shift: np.ndarray | None = None

    @property
    def n_params(self):
        """The number of hyperparameters."""
        return self.n_features if self.matrix is None else self.matrix.shape[1]

    def start(self, log_penalties):
        """θ and the offset from which these log penalties, (n_features,), are reached, or come nearest.

        With one-hot rows, θ is the mean of the log penalties in each group and the offset 0. Otherwise θ = 0 and the
        offset holds the log penalties themselves. Where there is no penalty, log λ = −∞, the offset is −∞ too.
        """
        log_penalties = np.asarray(log_penalties, dtype=np.float64) + (0.0 if self.shift is None else self.shift)
        if not self.levels:
            return np.zeros(self.n_params), log_penalties
        return self.mean(log_penalties), np.where(np.isneginf(log_penalties), -np.inf, 0.0)

    def mean(self, log_penalties):
        """The mean of the log penalties of each column's features, (n_params,), where the rows of A are one-hot."""
        penalized = np.isfinite(log_penalties)
        return self.pull_back(np.where(penalized, log_penalties, 0.0)) / self.pull_back(penalized.astype(np.float64))

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
    return Structure("groups", _one_hot(codes, values.size), codes.size, levels=True, labels=tuple(values.tolist()))


def matrix(A):
    """Log penalties A θ above the level at which the search starts; the rows of A are the features."""
    A = sp.csr_array(A, dtype=np.float64) if sp.issparse(A) else np.array(A, dtype=np.float64)
    return Structure("matrix", A, A.shape[0], levels=False)


def blocks(labels, names=None):
    """One penalty for each block of features: groups with names, in the order in which they first appear.

    Parameters
    ----------
    labels : sequence of str, (n_features,)
        The block of each feature.
    names : sequence of str, default=None
        The order of the blocks.
    """
    names = list(dict.fromkeys(labels)) if names is None else [name for name in names if name in set(labels)]
    place = {name: column for column, name in enumerate(names)}
    codes = np.array([place[label] for label in labels])
    return Structure("blocks", _one_hot(codes, len(names)), codes.size, levels=True, labels=tuple(names))


def _one_hot(codes, n_columns):
    return sp.csr_array((np.ones(codes.size), codes, np.arange(codes.size + 1)), shape=(codes.size, n_columns))


def scaled(structure, second):
    """One level for all features, above penalties that go with the mean second moment of each block: as if it were scaled.

    A block whose features are large has a flat loss where its penalty is that of a block whose features are small, and no
    gradient leads away from there.

    Parameters
    ----------
    structure : Structure
        Of blocks or groups.
    second : ndarray of shape (n_features,)
        The features' second moments.

    Returns
    -------
    Structure, or None where the blocks' scales are alike.
    """
    members = structure.pull_back(np.ones(structure.n_features))
    means = structure.pull_back(second) / members
    if not (means > 0).all():
        return None
    shift = structure.change(np.log(means) - members @ np.log(means) / members.sum())
    if np.ptp(shift) < 1.0:
        return None
    return Structure("scaled", np.ones((structure.n_features, 1)), structure.n_features, levels=False, shift=shift)


def moments(X):
    """Three hyperparameters: the columns 1, log m and (log m)², m_j the second moment of feature j.

    For text that is the document frequency and a little more; for dense features, their scale: so the search learns how
    much to standardise (method.md, section 4). The last two columns are centred and scaled to unit variance over the
    features that are not zero everywhere.
    """
    return _of_moments(second_moments(X))


def second_moments(X):
    """The mean of x_ij² over the rows, (n_features,)."""
    squares = X.multiply(X) if sp.issparse(X) else np.square(X, dtype=np.float64)
    return np.asarray(squares.mean(axis=0), dtype=np.float64).ravel()


def _of_moments(second):
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


def without(structure, unpenalized):
    """The structure with rows of zeros where a feature has no penalty, and without the columns that this leaves empty.

    Parameters
    ----------
    structure : Structure
    unpenalized : ndarray of bool, (n_features,)
    """
    if not unpenalized.any():
        return structure
    A = sp.identity(structure.n_features, format="csr") if structure.matrix is None else sp.csr_array(structure.matrix)
    A = sp.csc_array(sp.diags_array((~unpenalized).astype(np.float64)) @ A)
    A.eliminate_zeros()
    kept = np.diff(A.indptr) > 0
    if not kept.any():
        raise ValueError("unpenalized leaves no feature with a penalty to tune. Fit the estimator alone, or list fewer.")
    labels = tuple(label for label, keep in zip(structure.labels, kept, strict=True) if keep) if structure.labels else ()
    A = A[:, np.flatnonzero(kept)]
    dense = isinstance(structure.matrix, np.ndarray)
    return replace(structure, matrix=A.toarray() if dense else sp.csr_array(A), labels=labels)


# ---- what a user may say ------------------------------------------------------------------------------------------------

REST = "rest"  # the block of the features that a dict of blocks does not list


@dataclass(frozen=True, eq=False)
class Features:
    """What there is to know of the features that reach the model.

    Attributes
    ----------
    X : list of (matrix, columns)
        Matrices that have them, and where each one's features stand among all (None: it has all, in order); for the second
        moment of a feature, the first that has it counts.
    n_features : int
    names : ndarray of str, (n_features,), or None
    blocks : sequence of str, (n_features,), or None
        Which transformer each came from, where that is known.
    n_own : int, or None
        So many of the first are features of the final fit, and can be meant by position; the others are of some split only.
        None for all.
    """

    X: list
    n_features: int
    names: np.ndarray | None = None
    blocks: list | None = None
    n_own: int | None = None

    @property
    def n_positions(self):
        """How many features can be meant by position."""
        return self.n_features if self.n_own is None else self.n_own

    @cached_property
    def second_moments(self):
        """Of each feature."""
        second = np.zeros(self.n_features)
        for matrix_, columns in reversed(self.X):
            columns = slice(matrix_.shape[1]) if columns is None else columns
            second[columns] = second_moments(matrix_)
        return second

    def mask(self, columns, parameter):
        """Which features ``columns`` means: names (of features, or of transformers), positions, a slice or a mask.

        Raises
        ------
        ValueError
            Naming ``parameter``, where a name or position is unknown.
        """
        chosen = np.zeros(self.n_features, dtype=bool)
        if isinstance(columns, slice):
            chosen[: self.n_positions][columns] = True
            return chosen
        columns = np.atleast_1d(np.asarray(columns))
        if columns.size == 0:
            return chosen
        if columns.dtype.kind in "UO":
            for name in columns.tolist():
                chosen |= self._named(name, parameter)
        elif columns.dtype.kind == "b":
            if columns.shape != (self.n_positions,):
                raise ValueError(
                    f"{parameter} has a mask of {columns.size} entries, but there are {self.n_positions} features."
                )
            chosen[: self.n_positions] = columns
        elif columns.dtype.kind in "iu" and (np.abs(columns + 0.5) < self.n_positions).all():
            chosen[: self.n_positions][columns] = True
        else:
            raise ValueError(
                f"{parameter} has columns {columns.tolist()!r:.80}, but features go from 0 to {self.n_positions - 1}. "
                "Give names, positions, a slice or a mask of the features that reach the final step."
            )
        return chosen

    def _named(self, name, parameter):
        if self.names is None:
            raise ValueError(f"{parameter} names {name!r}, but the features have no names. Give positions, a slice or a mask.")
        found = self.names == name
        if not found.any() and self.blocks is not None:
            found = np.array([block == name for block in self.blocks])
        if not found.any():
            raise ValueError(
                f"{parameter} names {name!r}, which is no feature that reaches the final step, nor a transformer. "
                f"There are {', '.join(map(repr, self.names[:5]))}, ..."
            )
        return found


def make_structure(structure, features):
    """The Structure that the estimator's ``structure`` parameter names.

    Parameters
    ----------
    structure : str, dict, array-like, sparse array or Structure
    features : Features, or ndarray or sparse array of shape (n_rows, n_features)

    Raises
    ------
    ValueError
        If the name is unknown, or the labels or the matrix do not have one row for each feature, or are not finite.
    """
    if not isinstance(features, Features):
        features = Features([(features, None)], features.shape[1])
    if isinstance(structure, Structure):
        made = structure
    elif isinstance(structure, str):
        return _made_of_name(structure, features)
    elif isinstance(structure, Mapping):
        return _made_of_dict(structure, features)
    else:
        array = structure if sp.issparse(structure) else np.asarray(structure)
        if array.ndim not in (1, 2):
            raise ValueError(f"structure must be an array of 1 or 2 dimensions, got {array.ndim}.")
        made = _made_of_array(array)
    if made.n_features != features.n_positions:
        raise ValueError(
            f"structure has {made.n_features} rows, but X has {features.n_positions} features. "
            "Give one group label, or one row of the matrix, for each feature."
        )
    if made.n_features != features.n_features:
        raise ValueError(
            f"structure has {made.n_features} rows, one for each feature of a fit on all rows, but the splits have "
            f"{features.n_features - made.n_features} features of their own. Use 'blocks', 'shared', 'per_feature' or a dict "
            "of feature names, or preprocessing that makes the same features of every split."
        )
    return made


def _made_of_name(name, features):
    if name == "shared":
        return shared(features.n_features)
    if name == "per_feature":
        return per_feature(features.n_features)
    if name == "moments":
        return _of_moments(features.second_moments)
    if name == "blocks":
        if features.blocks is None:
            raise ValueError(
                "structure='blocks' needs features that tell which transformer they came from: a ColumnTransformer or "
                "FeatureUnion in the pipeline, with verbose_feature_names_out=True, or names such as 'text__word'. Give a dict "
                "{name: columns} instead."
            )
        return blocks(features.blocks)
    raise ValueError(
        f"structure={name!r} is unknown. Use 'shared', 'moments', 'blocks', 'per_feature', an array of group labels "
        "(n_features,), a dict {name: columns} or a matrix (n_features, n_params)."
    )


def _made_of_dict(given, features):
    if not given:
        raise ValueError("structure is an empty dict. Name a block of columns, or use 'shared'.")
    labels = np.full(features.n_features, REST, dtype=object)
    taken = np.zeros(features.n_features, dtype=bool)
    for name, columns in given.items():
        chosen = features.mask(columns, f"structure[{name!r}]")
        if not chosen.any():
            raise ValueError(f"structure[{name!r}] has no column. Leave the block out.")
        if (chosen & taken).any():
            raise ValueError(f"structure[{name!r}] has columns of another block too. Put each column in one block.")
        labels[chosen], taken = name, taken | chosen
    return blocks(labels.tolist(), dict.fromkeys([*given, REST]))


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
