"""Splits of the samples: index arrays, or the same in a byte for each sample and split; which of them have a loss."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._kernels._layout import TRAIN, VALIDATION
from sksid._warn import warn

Splits = Sequence[tuple[NDArray, NDArray]]
STRATIFY = "Use a stratified splitter such as StratifiedKFold, fewer splits, or drop classes with too few rows."


@dataclass(frozen=True, eq=False)
class PackedSplits(Sequence):
    """Splits in a byte for each sample and split, where index arrays would take four or eight for each sample in a part.

    Attributes
    ----------
    roles : ndarray of shape (n_splits, n_samples), int8
        UNUSED, TRAIN or VALIDATION.
    """

    roles: NDArray

    def __len__(self) -> int:
        return self.roles.shape[0]

    def __getitem__(self, split: Any) -> Any:
        return tuple(np.flatnonzero(self.roles[split] == part) for part in (TRAIN, VALIDATION))


def as_indices(splits: Iterable, n_rows: int) -> list[tuple[NDArray, NDArray]]:
    """Splits as arrays of row numbers; slices, masks and numbers from the end are taken, too.

    Raises
    ------
    ValueError
        Where a split is anything else than a pair of these.
    """
    numbers = np.arange(n_rows, dtype=np.int32 if n_rows <= np.iinfo(np.int32).max else np.int64)
    return [_pair(k, split, numbers) for k, split in enumerate(splits)]


def _pair(k, split, numbers):
    why = "arrays of row numbers have one axis"
    try:
        train, val = (_numbered(part, numbers) for part in split)
        if train.ndim == val.ndim == 1:
            return train, val
    except (IndexError, TypeError, ValueError) as error:
        why = str(error)
    raise ValueError(
        f"cv: split {k} is no pair of training and validation rows: {why}. Give two arrays of row numbers, from 0 to "
        f"{numbers.size - 1}, or two masks of {numbers.size} entries."
    )


def _numbered(part, numbers):
    if np.size(part) == 0:
        return numbers[:0]
    return numbers[part if isinstance(part, slice) else np.asarray(part)]


def packed(splits: Splits, n_samples: int) -> Splits:
    """The same splits in less memory, where the rows of each part ascend and none is in both; else as they are.

    Examples
    --------
    >>> import numpy as np
    >>> splits = packed([(np.array([0, 2]), np.array([1, 3]))], 4)
    >>> type(splits).__name__, splits[0][1]
    ('PackedSplits', array([1, 3]))
    """
    roles = np.zeros((len(splits), n_samples), dtype=np.int8)
    for own, (train, val) in zip(roles, splits, strict=True):
        own[train] = TRAIN
        if own[val].any() or any((part[1:] <= part[:-1]).any() for part in (train, val)):
            return splits
        own[val] = VALIDATION
    return PackedSplits(roles)


def check_splits(
    splits: Splits,
    labels: NDArray,
    classes: NDArray,
    sample_weight: NDArray | None = None,
    fit_intercept: bool = True,
    train_mass: NDArray | None = None,
) -> Splits:
    """The splits with those validation rows whose log loss is finite; as they are where that is all of them.

    With an intercept, a class without a training row has the probability zero. Validation rows of that class have an infinite
    loss, whatever the penalties are; they are left out, with a warning.

    Parameters
    ----------
    splits : sequence of (train, validation) index arrays
    labels : ndarray of shape (n_samples,), int
        Counted from 0.
    classes : ndarray of shape (n_classes,)
    sample_weight : ndarray of shape (n_samples,), default=None
    fit_intercept : bool, default=True
    train_mass : ndarray of shape (n_splits, n_classes), default=None
        What the training rows of each class weigh, where that is not the weight of the samples of ``splits``.

    Raises
    ------
    ValueError
        Naming the split and the remedy, where a loss is not defined.
    """
    weights = np.ones(labels.shape[0]) if sample_weight is None else sample_weight
    if not splits:
        raise ValueError("cv gave no split. Use a splitter with at least one split.")
    weightless = ~(class_mass(labels, classes, weights) > 0)
    if weightless.any():
        raise ValueError(f"y: {_named(classes, weightless)} has no row with a positive sample_weight. Leave its rows out.")
    absent = [~(mass > 0) for mass in _train_masses(splits, labels, classes, weights, train_mass)]
    if all(classes.size - np.count_nonzero(mask) < 2 for mask in absent):
        raise ValueError(
            f"cv: split 0 has no training row of {_named(classes, absent[0])} with a positive sample_weight, and no split has "
            f"training rows of two classes. {STRATIFY}"
        )
    counted, left_out = [], []
    for k, ((train, val), mask) in enumerate(zip(splits, absent, strict=True)):
        finite = _finite(k, val, mask, labels, classes, weights, fit_intercept)
        counted.append((train, finite))
        if finite.size < val.size:
            left_out.append(f"split {k} ({val.size - finite.size} of {_named(classes, mask)})")
    if not left_out:
        return splits
    warn(
        "cv: a class without a training row in a split has the probability zero there, and the log loss leaves out its "
        f"validation rows: {', '.join(left_out[:5])}{' and others' if len(left_out) > 5 else ''}. {STRATIFY}"
    )
    return counted


def class_mass(labels: NDArray, classes: NDArray, weights: NDArray | None = None) -> NDArray:
    """The sum of the weights of each class, (n_classes,)."""
    return np.bincount(labels, weights=weights, minlength=classes.size)


def _train_masses(splits, labels, classes, weights, given):
    if given is not None:
        return given
    return [class_mass(labels[train], classes, weights[train]) for train, _ in splits]


def _finite(k, val, absent, labels, classes, weights, fit_intercept):
    """The validation rows of split k whose log loss is finite."""
    if not weights[val].sum() > 0:
        raise ValueError(
            f"cv: split {k} has no validation row with a positive sample_weight. Use a splitter whose test sets are not empty."
        )
    finite = val[~absent[labels[val]]] if fit_intercept and absent.any() else val
    if not weights[finite].sum() > 0:
        raise ValueError(
            f"cv: split {k} has validation rows of {_named(classes, absent)} only, and no training row of it. {STRATIFY}"
        )
    return finite


def _named(classes, chosen):
    names = classes[chosen].tolist()
    return f"class {', '.join(map(repr, names[:3]))}{', ...' if len(names) > 3 else ''}"
