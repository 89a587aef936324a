"""The samples of a search: labels, weights, splits, and splits of the splits' training rows."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sksid._estimators import Target
from sksid._splits import Splits

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
    """

    labels: NDArray
    classes: NDArray
    sample_weight: NDArray | None
    splits: Splits

    @property
    def n_samples(self) -> int:
        return self.labels.size

    @property
    def n_train(self) -> float:
        """The mean number of training rows."""
        return float(np.mean([train.size for train, _ in self.splits]))

    def train_scale(self, target: Target, n_train: float | None = None) -> NDArray:
        """The factor on the weight of a training row, by class and split: (n_classes, n_splits).

        ``n_train`` is the number of training rows for which λ is meant, by default their mean number.
        """
        weights = [self._class_weights(target, train) for train, _ in self.splits]
        scales = target.split_scales([train.size for train, _ in self.splits], self.n_train if n_train is None else n_train)
        return np.ascontiguousarray(np.transpose(weights) * scales)

    def inner_splits(self, m: int) -> list[tuple[NDArray, NDArray]]:
        """Splits of the training rows of split ``m``: what the splits that follow it, in turn, have in common with them.

        At most ``MAX_INNER``; those that leave a class without a training row, or no validation row, do not count.
        """
        others = [k % len(self.splits) for k in range(m + 1, m + len(self.splits))]
        own = np.zeros(self.n_samples, dtype=bool)
        own[self.splits[m][0]], own[self.splits[m][1]] = True, False
        pairs = (tuple(rows[own[rows]] for rows in self.splits[k]) for k in others)
        return list(islice((pair for pair in pairs if self._is_split(*pair)), MAX_INNER))

    def _is_split(self, train, val):
        weight = np.ones(self.n_samples) if self.sample_weight is None else self.sample_weight
        counts = np.bincount(self.labels[train], weights=weight[train], minlength=self.classes.size)
        return bool((counts > 0).all() and weight[val].sum() > 0)

    @property
    def bears_many(self) -> bool:
        """Whether the rows are enough to judge more than one hyperparameter."""
        labels = self.labels if self.sample_weight is None else self.labels[self.sample_weight > 0]
        return labels.size >= FEW_ROWS and labels.size - np.bincount(labels).max() >= FEW_OTHERS

    def final_scale(self, target: Target) -> NDArray:
        """The same factor in a fit on all rows, (n_classes, 1)."""
        return self._class_weights(target, slice(None))[:, None]

    def _class_weights(self, target, rows):
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        return target.class_weights(self.classes[self.labels[rows]], self.classes, weight)
