"""From what a user gives as descriptors of the features to the structure that they make, Eq. (36)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from sksid._structure import LEVEL, MOMENTS, Structure, described
from sksid.descriptors import evidence, log_moments, moments, second_moments, standardized

NAMED: Mapping[str, Callable] = {"moments": moments, "evidence": evidence}


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Some rows, and which of all features their columns are.

    Attributes
    ----------
    X : ndarray or sparse array of shape (n_rows, n_columns)
    columns : ndarray of int, (n_columns,), or None
        The feature that each column is; None where they are the first ones, in order.
    sample_weight : ndarray of shape (n_rows,), or None
    y : ndarray of shape (n_rows,), or None
        Class labels.
    """

    X: Any
    columns: NDArray[np.integer] | None = None
    sample_weight: NDArray[np.float64] | None = None
    y: NDArray | None = None

    @property
    def place(self) -> Any:
        """Where the columns stand among all features."""
        return slice(self.X.shape[1]) if self.columns is None else self.columns

    @cached_property
    def second_moments(self) -> NDArray[np.float64]:
        """The weighted mean square of each column, (n_columns,)."""
        return second_moments(self.X, self.sample_weight)

    def weights_of(self, train: NDArray[np.integer] | None) -> NDArray[np.float64]:
        """The weights of the rows ``train``, 0 for the others, (n_rows,)."""
        n_rows = self.X.shape[0]
        counts = np.ones(n_rows) if train is None else np.bincount(train, minlength=n_rows).astype(np.float64)
        return counts if self.sample_weight is None else counts * self.sample_weight


Training = tuple[FeatureRows, NDArray[np.integer] | None]  # some rows, and which of them a split trains on; None for all


@dataclass(frozen=True, eq=False)
class Descriptor:
    """A descriptor that a user has named or given.

    Attributes
    ----------
    name : str
    function : callable, or object with ``fit`` and ``transform``
    """

    name: str
    function: Any

    def table(self, training: Training, n_features: int, where: str) -> dict[str, NDArray]:
        """Its columns on these rows by their names, each (n_features,) and standardized over the features that are not empty.

        Moments, which do not look at the labels, are those of all the rows that splits share.
        """
        rows, train = training
        if self.function is moments:
            second = rows.second_moments
            seen, columns = second > 0, dict(zip(MOMENTS, log_moments(second).T, strict=True))
        else:
            weight = rows.weights_of(train)
            seen = second_moments(rows.X, weight) > 0
            columns = self._columns(rows, train, weight, seen, where)
        made = {}
        for name, column in columns.items():
            made[name] = np.zeros(n_features)
            made[name][rows.place] = standardized(column, seen)
        return made

    def _columns(self, rows, train, weight, seen, where):
        if self.function is evidence:
            return {self.name: evidence(rows.X, rows.y, weight)}
        given = self._ask(*_taken(rows, train), where)
        if given.ndim not in (1, 2) or given.shape[0] != seen.size or given.size == 0 or given.dtype.kind not in "biuf":
            raise ValueError(
                f"structure: the descriptor {self.name!r} gave an array of shape {given.shape} and type {given.dtype} for "
                f"{where}, which has {seen.size} features. Return numbers of shape (n_features,) or (n_features, n_columns)."
            )
        columns = given.reshape(seen.size, -1).astype(np.float64).T
        bad = np.flatnonzero(seen & ~np.isfinite(columns).all(axis=0))
        if bad.size:
            raise ValueError(
                f"structure: the descriptor {self.name!r} is not finite for feature {bad[0]} of {where}. Return a finite "
                "number for every feature that is not zero in all rows."
            )
        many = len(columns) > 1
        return {f"{self.name}_{number}" if many else self.name: column for number, column in enumerate(columns)}

    def _ask(self, X, y, sample_weight, where):
        try:
            if not _is_transformer(self.function):
                given = self.function(X, y, sample_weight)
            else:
                weighted = sample_weight is not None and has_fit_parameter(self.function, "sample_weight")
                params = {"sample_weight": sample_weight} if weighted else {}
                given = clone(self.function).fit(X, y, **params).transform(X)
        except Exception as error:
            error.add_note(
                f"This was raised by the descriptor {self.name!r} of the parameter structure, for {where}. Give a function of "
                "(X, y, sample_weight), or an object whose fit takes (X, y)."
            )
            raise
        return given.toarray() if sp.issparse(given) else np.asarray(given)


def _taken(rows, train):
    if train is None:
        return rows.X, rows.y, rows.sample_weight
    return rows.X[train], rows.y[train], None if rows.sample_weight is None else rows.sample_weight[train]


def _is_transformer(given: Any) -> bool:
    return hasattr(given, "fit") and hasattr(given, "transform")


def as_descriptors(given: Any) -> tuple[Descriptor, ...] | None:
    """What the ``structure`` parameter gives as descriptors: a name, function or object, or a list of such; else None.

    Raises
    ------
    TypeError, ValueError
        If a list has descriptors and other things, or a class stands for an object.
    """
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    known = [_is_name(one) or callable(one) or _is_transformer(one) for one in several]
    if not any(known) or all(isinstance(one, str) for one in several) and not all(known):
        return None
    for one, is_known in zip(several, known, strict=True):
        if not is_known:
            raise ValueError(
                f"structure: {one!r} is no descriptor. Use 'moments', 'evidence', a function or an object with fit."
            )
        if isinstance(one, type):
            raise TypeError(f"structure: the descriptor {one.__name__} is a class. Give an object, {one.__name__}().")
    names: list[str] = []
    for one in several:
        name, number = _name_of(one), 1 + sum(_name_of(other) == _name_of(one) for other in several[: len(names)])
        names.append(name if number == 1 else f"{name}-{number}")
    return tuple(
        Descriptor(name, NAMED.get(one, one) if isinstance(one, str) else one) for name, one in zip(names, several, strict=True)
    )


def _is_name(given: Any) -> bool:
    return isinstance(given, str) and given in NAMED


def _name_of(given: Any) -> str:
    if isinstance(given, str):
        return given
    given = getattr(given, "func", given)  # of functools.partial
    return getattr(given, "__name__", type(given).__name__)


def describe(asked: Sequence[Descriptor], whole: FeatureRows, splits: Sequence[Training], n_features: int) -> Structure:
    """The structure that descriptors make.

    Parameters
    ----------
    asked : sequence of Descriptor
    whole : FeatureRows
        All rows, those of the final fit.
    splits : sequence of (FeatureRows, index array or None)
        The training rows of each split; empty where only the number of hyperparameters is asked for.
    n_features : int
        Of the final fit and all splits together.
    """
    of_whole: dict = {}
    of_splits: list[dict] = [{} for _ in splits]
    for descriptor in asked:
        table = descriptor.table((whole, None), n_features, "all rows")
        if taken := table.keys() & {LEVEL, *of_whole}:
            raise ValueError(
                f"structure: two columns have the name {taken.pop()!r}. Rename the descriptor {descriptor.name!r}."
            )
        of_whole |= table
        for number, (rows, train) in enumerate(splits):
            same = descriptor.function is moments and rows is whole
            own = table if same else descriptor.table((rows, train), n_features, f"split {number}")
            if len(own) != len(table):
                raise ValueError(
                    f"structure: the descriptor {descriptor.name!r} gave {len(table)} columns for all rows, and {len(own)} for "
                    f"split {number}. Return the same columns for any rows."
                )
            of_splits[number] |= own
    return described("+".join(descriptor.name for descriptor in asked), n_features, of_whole, of_splits)
