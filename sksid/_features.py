"""The features that reach the model: which of them a user means, which share a penalty, which have none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sksid._describe import FeatureRows, Training, as_descriptors, describe
from sksid.structures import Structure, blocks, groups, matrix, per_feature, shared

REST = "rest"  # the block of the features that a dict of blocks does not list


@dataclass(frozen=True, eq=False)
class Features:
    """The features that reach the model: their number, names, transformers and values.

    Attributes
    ----------
    rows : sequence of FeatureRows
        Rows with their values, all rows first. The second moment of a feature is that in the first of these that has it.
    n_features : int
    names : ndarray of str, (n_features,), or None
    blocks : sequence of str, (n_features,), or None
        The transformer that each came from; None where that is unknown.
    n_own : int, or None
        How many of them, the first ones, are features of the final fit; a user can name these by position. The others
        appear in some split only. None means all.
    splits : sequence of (FeatureRows, index array or None)
        The training rows of each split, from which descriptors are computed; empty before splits are known.
    """

    rows: Sequence[FeatureRows]
    n_features: int
    names: NDArray[np.object_] | None = None
    blocks: Sequence[str] | None = None
    n_own: int | None = None
    splits: Sequence[Training] = ()

    @property
    def n_positions(self) -> int:
        """How many features can be given by position."""
        return self.n_features if self.n_own is None else self.n_own

    @cached_property
    def second_moments(self) -> NDArray[np.float64]:
        """The weighted mean square of each feature, (n_features,)."""
        second = np.zeros(self.n_features)
        for rows in reversed(self.rows):
            second[rows.place] = rows.second_moments
        return second

    def mask(self, columns: str | slice | ArrayLike, parameter: str) -> NDArray[np.bool_]:
        """The features that ``columns`` selects.

        Parameters
        ----------
        columns : str, slice or array-like
            Names (of features, or of transformers), positions, a slice or a mask.
        parameter : str
            The name of the parameter that they come from, for error messages.

        Returns
        -------
        ndarray of bool, (n_features,)

        Raises
        ------
        ValueError
            Naming ``parameter``, where a name or position is unknown.
        """
        chosen = np.zeros(self.n_features, dtype=bool)
        own = chosen[: self.n_positions]
        if isinstance(columns, slice):
            own[columns] = True
            return chosen
        columns = np.atleast_1d(np.asarray(columns))
        if columns.size == 0:
            return chosen
        if columns.dtype.kind in "UO":
            for name in columns.tolist():
                chosen |= self._named(name, parameter)
        elif columns.dtype.kind == "b" and columns.shape != own.shape:
            raise ValueError(
                f"{parameter} has a mask of {columns.size} entries, but there are {own.size} features. Give one for each."
            )
        elif columns.dtype.kind == "b" or columns.dtype.kind in "iu" and (np.abs(columns + 0.5) < own.size).all():
            own[columns] = True
        else:
            raise ValueError(
                f"{parameter} has columns {columns.tolist()!r:.80}, but features go from 0 to {own.size - 1}. "
                "Give names, positions, a slice or a mask of the features that reach the final step."
            )
        return chosen

    def _named(self, name: str, parameter: str) -> NDArray[np.bool_]:
        if self.names is None:
            raise ValueError(f"{parameter} names {name!r}, but the features have no names. Give positions, a slice or a mask.")
        found = self.names == name
        if not found.any() and self.blocks is not None:
            found = np.array([block == name for block in self.blocks])
        if not found.any():
            raise ValueError(
                f"{parameter} names {name!r}, which is no feature that reaches the final step, nor a transformer. "
                f"Give one of {', '.join(map(repr, self.names[:5]))}, ..."
            )
        return found


def make_structure(
    structure: str | Mapping | ArrayLike | sp.sparray | Structure | Callable | list, features: Features | NDArray | sp.sparray
) -> Structure:
    """The Structure that the ``structure`` parameter of a search names.

    Parameters
    ----------
    structure : str, dict, array-like, sparse array, Structure, or descriptors: a name, function or object, or a list of such
    features : Features, or ndarray or sparse array of shape (n_rows, n_features)

    Returns
    -------
    Structure

    Raises
    ------
    ValueError
        If the name is unknown, or the labels or the matrix do not have one row for each feature, or are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid._features import make_structure
    >>> make_structure({"first": [0], "others": [1, 2]}, np.ones((5, 3)))
    Structure('blocks', n_features=3, n_params=2)
    """
    if not isinstance(features, Features):
        features = Features([FeatureRows(features)], features.shape[1])
    if asked := as_descriptors(structure):
        return describe(asked, features.rows[0], features.splits, features.n_features)
    if isinstance(structure, str):
        return _made_of_name(structure, features)
    if isinstance(structure, Mapping):
        return _made_of_dict(structure, features)
    made = structure if isinstance(structure, Structure) else _made_of_array(structure)
    if made.n_features != features.n_positions:
        raise ValueError(
            f"structure has {made.n_features} rows, but X has {features.n_positions} features. "
            "Give one group label, or one row of the matrix, for each feature; or descriptors: 'moments', 'evidence', "
            "functions."
        )
    if made.n_features != features.n_features:
        raise ValueError(
            f"structure has {made.n_features} rows, one for each feature of a fit on all rows, but the splits have "
            f"{features.n_features - made.n_features} features of their own. Use 'blocks', 'shared', 'per_feature' or a dict "
            "of feature names, or preprocessing that makes the same features of every split."
        )
    return made


def _made_of_name(name: str, features: Features) -> Structure:
    if name == "shared":
        return shared(features.n_features)
    if name in ("per_feature", "auto"):
        return per_feature(features.n_features)
    if name == "blocks":
        if features.blocks is None:
            raise ValueError(
                "structure='blocks' needs features that tell which transformer they came from: a ColumnTransformer or "
                "FeatureUnion in the pipeline, with verbose_feature_names_out=True, or names such as 'text__word'. Give a dict "
                "{name: columns} instead."
            )
        return blocks(features.blocks)
    raise ValueError(
        f"structure={name!r} is unknown. Use 'shared', 'moments', 'evidence', 'blocks', 'per_feature', 'auto', an array of "
        "group labels (n_features,), a dict {name: columns}, a matrix (n_features, n_params), or a function that describes "
        "features."
    )


def _made_of_dict(given: Mapping, features: Features) -> Structure:
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
    return blocks(labels.tolist(), list(dict.fromkeys([*given, REST])))


def _made_of_array(given: ArrayLike | sp.sparray) -> Structure:
    array: Any = given if sp.issparse(given) else np.asarray(given)
    if array.ndim not in (1, 2):
        raise ValueError(f"structure must be an array of 1 or 2 dimensions, got {array.ndim}.")
    if array.ndim == 1:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("structure has group labels that are not finite. Give each feature an int or a string.")
        return groups(array)
    if array.shape[1] == 0 or array.dtype.kind not in "biuf":
        raise ValueError("structure must be a numeric matrix with at least one column.")
    made = matrix(array)
    A: Any = made.matrix
    if not np.isfinite(A.data if sp.issparse(A) else A).all():
        raise ValueError("structure has entries that are not finite. Clean the matrix before the search.")
    return made
