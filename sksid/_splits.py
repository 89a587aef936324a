"""Splits of the samples: index arrays, or the same in a byte for each sample and split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._kernels._layout import TRAIN, VALIDATION

Splits = Sequence[tuple[NDArray, NDArray]]


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
