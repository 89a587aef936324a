"""The samples of a search: labels, weights, splits, and splits of the splits' training rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import check_cv
from sklearn.utils.multiclass import check_classification_targets

from sksid._checks import encoded
from sksid._estimators import Target, check_classes
from sksid._splits import PackedSplits, Splits, as_indices, check_splits, class_mass, packed
from sksid.blocks import Blocks

MAX_INNER = 2  # splits of the training rows of a split, in cross-fitting: four cost more and found nothing better
FEW_ROWS = 100  # with fewer, "auto" stays at one penalty
FEW_OTHERS = 30  # the same with fewer rows outside of the largest class


@dataclass(frozen=True, eq=False)
class Samples:
    """Labels and weights of all samples, and their splits.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,), int
        Counted from 0.
    classes : ndarray of shape (n_classes,)
    sample_weight : ndarray of shape (n_samples,), or None
    splits : sequence of (train, validation) index arrays
    judged : sequence of (train, validation) index arrays
        The same with those validation rows that the log loss counts: ``check_splits``.
    resampled : sequence of ndarray, or None
        The labels of the rows that samplers make of the training rows of each split, and of all rows; None without samplers.
    """

    labels: NDArray
    classes: NDArray
    sample_weight: NDArray | None
    splits: Splits
    judged: Splits
    resampled: Sequence[NDArray] | None = None

    @property
    def n_samples(self) -> int:
        return self.labels.size

    @property
    def n_train(self) -> float:
        """The mean number of training rows."""
        return float(np.mean(self._train_sizes))

    @property
    def n_final(self) -> int:
        """How many rows the fit on all of them has."""
        return self.final_labels.size

    @property
    def final_labels(self) -> NDArray:
        """Of the rows of the fit on all of them, (n_final,)."""
        return self.labels if self.resampled is None else self.resampled[-1]

    @property
    def _train_sizes(self):
        if self.resampled is not None:
            return [labels.size for labels in self.resampled[:-1]]
        return [train.size for train, _ in self.splits]

    def train_rows(self, k: int) -> tuple[NDArray, NDArray | None]:
        """Labels and weights of the training rows of split ``k``."""
        if self.resampled is not None:
            return self.resampled[k], None
        train = self.splits[k][0]
        return self.labels[train], None if self.sample_weight is None else self.sample_weight[train]

    def absent(self, k: int) -> NDArray:
        """Which classes have no training row of positive weight in split ``k``, (n_classes,)."""
        labels, weights = self.train_rows(k)
        return ~(class_mass(labels, self.classes, weights) > 0)

    def train_scale(self, target: Target, n_train: float | None = None) -> NDArray:
        """The factor on the weight of a training row, by class and split: (n_classes, n_splits).

        ``n_train`` is the number of training rows for which λ is meant, by default their mean number.
        """
        weights = [self._class_weights(target, *self.train_rows(k)) for k in range(len(self.splits))]
        scales = target.split_scales(self._train_sizes, self.n_train if n_train is None else n_train)
        return np.ascontiguousarray(np.transpose(weights) * scales)

    def inner_splits(self, m: int) -> list[tuple[NDArray, NDArray]]:
        """Splits of the training rows of split ``m``: what the splits that follow it, in turn, have in common with them.

        At most ``MAX_INNER``; those that leave out all training rows of a class, or have no validation row, do not count.
        There are none of rows that samplers have made: these are made of rows of all inner splits.
        """
        if self.resampled is not None:
            return []
        others = [k % len(self.splits) for k in range(m + 1, m + len(self.splits))]
        own = np.zeros(self.n_samples, dtype=bool)
        own[self.splits[m][0]], own[self.splits[m][1]] = True, False
        pairs, absent = (tuple(rows[own[rows]] for rows in self.splits[k]) for k in others), self.absent(m)
        return list(islice((pair for pair in pairs if self._is_split(pair, absent)), MAX_INNER))

    def _is_split(self, pair, absent):
        train, val = pair
        weight = np.ones(self.n_samples) if self.sample_weight is None else self.sample_weight
        mass = class_mass(self.labels[train], self.classes, weight[train])
        return bool((absent | (mass > 0)).all() and weight[val].sum() > 0)

    @property
    def bears_many(self) -> bool:
        """Whether the rows are enough to judge more than one hyperparameter."""
        labels = self.labels if self.sample_weight is None else self.labels[self.sample_weight > 0]
        return labels.size >= FEW_ROWS and labels.size - np.bincount(labels).max() >= FEW_OTHERS

    def final_scale(self, target: Target) -> NDArray:
        """The same factor in a fit on all rows, (n_classes, 1)."""
        return self._class_weights(target, self.final_labels, self.sample_weight)[:, None]

    def _class_weights(self, target, labels, weights):
        return target.class_weights(self.classes[labels], self.classes, weights)

    def with_resampled(self, made: Sequence[NDArray], fit_intercept: bool) -> "Samples":
        """The samples, where samplers have made training rows with these labels, of each split and of all rows.

        Raises
        ------
        ValueError
            Where they leave a class out of all rows, or make a label of their own.
        """
        for labels in made:
            if not np.isin(labels, self.classes).all():
                raise ValueError("estimator: a sampler makes labels that are not in y. Give y as the sampler returns it.")
        resampled = [np.searchsorted(self.classes, labels).astype(np.int32) for labels in made]
        *mass, final = [class_mass(labels, self.classes) for labels in resampled]
        if not final.all():
            missing = self.classes[final == 0].tolist()[0]
            raise ValueError(f"estimator: its samplers leave no row of class {missing!r}. Leave that class out of y.")
        judged = check_splits(self.judged, self.labels, self.classes, None, fit_intercept, np.array(mass))
        return replace(self, judged=packed(judged, self.n_samples), resampled=resampled)


def make_samples(
    X: Any,
    y: Any,
    given: NDArray,
    final: BaseEstimator,
    sample_weight: NDArray | None,
    cv: Any,
    target: Target,
    split_params: dict,
) -> Samples:
    """Draw the splits, and check that each has a loss.

    Parameters
    ----------
    X, y : array-like
        As they were given to ``fit``.
    given : ndarray of shape (n_samples,)
        ``y`` as an array.
    final : estimator
        The final step.
    sample_weight : ndarray of shape (n_samples,), or None
    cv : int, cross-validation generator or iterable
    target : Target
    split_params : dict
        Of the splitter.
    """
    classes, labels = encoded(given)
    check_classification_targets(given)
    labels = labels.astype(np.int32)
    check_classes(final, classes)
    seen = np.broadcast_to(0.0, X.shape) if isinstance(X, Blocks) else X
    splits = as_indices(check_cv(cv, given, classifier=True).split(seen, y, **split_params), labels.size)
    if isinstance(X, Blocks):
        splits = _in_order(splits, labels.size)
    judged = check_splits(splits, labels, classes, sample_weight, target.fit_intercept)
    own = packed(splits, labels.size)
    return Samples(labels, classes, sample_weight, own, own if judged is splits else packed(judged, labels.size))


def _in_order(splits, n_samples):
    """The splits of rows on disk, which are read in their order and have one part in a split."""
    found = packed([(np.sort(train), np.sort(val)) for train, val in splits], n_samples)
    if not isinstance(found, PackedSplits):
        raise ValueError("cv: a row is drawn twice in a split, which rows on disk do not allow. Use KFold or the like.")
    return found
