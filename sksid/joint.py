"""Problems side by side, each with its own splits, under penalties that they share."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sksid.problem import IN_ORDER, Problem

# Multiply-adds of one pass from which splits are taken apart: some 0.05 seconds. Below, a thread's start costs as much.
WORK_FOR_GROUPS = 5e7
OUTPUTS_FOR_GROUPS = 40  # of all splits together; with fewer, two groups take a single thread 1.3 times as long
OUTPUTS_OF_TWO_GROUPS = 128  # about: 512 bytes of W and V for each group in single precision
SPLITS_OF_A_LINE = 7  # of two classes: W, V and 1/λ


@dataclass(frozen=True, eq=False)
class Joint:
    """Problems side by side, each with its own splits and features, under penalties that they share.

    Where preprocessing is fitted on the training rows of a split, every split has features of its own: one part each. Where
    they share their features but there is much to do, each part has some of them (``in_groups``).

    Attributes
    ----------
    parts : tuple of Problem
        Their splits, one part after the other, are the splits of the whole.
    columns : tuple of ndarray of int, or None
        For each part, which of all features its columns are; None where they are the first ones, in order.
    n_features : int
        Of all parts together: the number of penalties.
    grouped : Problem, default=None
        That of which the parts are groups of splits.
    """

    parts: tuple[Problem, ...]
    columns: tuple[NDArray | None, ...]
    n_features: int
    grouped: Problem | None = None

    @property
    def n_rows(self) -> int:
        """Of the largest part."""
        return max(part.n_rows for part in self.parts)

    @property
    def n_splits(self) -> int:
        return sum(part.n_splits for part in self.parts)

    @property
    def n_outputs(self) -> int:
        return self.parts[0].n_outputs

    @property
    def has_validation(self) -> bool:
        """Whether any split has an upper level."""
        return any(part.has_validation for part in self.parts)

    @property
    def dtype(self) -> Any:
        return self.parts[0].dtype

    @property
    def log_scale(self) -> float:
        """The mean over the parts' splits."""
        return float(np.average([part.log_scale for part in self.parts], weights=[part.n_splits for part in self.parts]))

    @property
    def log_entry_scale(self) -> float:
        """The mean over the parts' splits."""
        parts = self.parts
        return float(np.average([part.log_entry_scale for part in parts], weights=[part.n_splits for part in parts]))

    def astype(self, dtype: DTypeLike) -> "Joint":
        """The same parts, solved in another precision."""
        grouped = self.grouped and self.grouped.astype(dtype)
        return replace(self, parts=tuple(part.astype(dtype) for part in self.parts), grouped=grouped)

    def reported(self, log_penalties: NDArray) -> "Joint":
        """The parts in the precision that a reported score needs; the problem itself where that is theirs."""
        parts = tuple(part.reported(self.gather(k, log_penalties)) for k, part in enumerate(self.parts))
        same = all(part is own for part, own in zip(parts, self.parts, strict=True))
        return self if same else replace(self, parts=parts)

    def gather(self, k: int, values: NDArray) -> NDArray:
        """From values of all features, (n_features,) or (n_splits, n_features), those of part ``k``."""
        return values[self._place(k, values.ndim)]

    def scatter(self, k: int, values: NDArray, out: NDArray) -> None:
        """Add values of the features, or of the splits and features, of part ``k`` to ``out``, which has all of them."""
        out[self._place(k, out.ndim)] += values  # no feature stands twice in a part

    def _place(self, k, ndim):
        columns = slice(self.parts[k].n_features) if self.columns[k] is None else self.columns[k]
        first = sum(part.n_splits for part in self.parts[:k])
        return columns if ndim == 1 else (slice(first, first + self.parts[k].n_splits), columns)


def groups_of_splits(problem: Any) -> list[NDArray]:
    """Which splits go together, a list of int arrays: groups that cost a single thread little, where threads pay.

    They depend on the problem alone, so that results do not depend on the number of threads. An even number of groups, each of
    which fills some cache lines of its table. Up to seven splits of two classes stay together: all of them are in one cache
    line and in one register, and half of them would take as long.
    """
    n_splits, n_outputs = problem.n_splits, problem.n_splits * problem.n_outputs
    elsewhere = isinstance(problem, Problem) and isinstance(problem.rows, IN_ORDER)  # which are read once for all splits
    if not isinstance(problem, Problem) or elsewhere or problem.work < WORK_FOR_GROUPS:
        n_groups = 1
    elif problem.n_outputs == 1:
        n_groups = -(-n_splits // SPLITS_OF_A_LINE)
    else:
        n_groups = 1 if n_outputs < OUTPUTS_FOR_GROUPS else 2 * -(-n_outputs // OUTPUTS_OF_TWO_GROUPS)
    return np.array_split(np.arange(n_splits), min(n_groups, n_splits))


def in_groups(problem: Any, groups: list[NDArray]) -> Any:
    """The problem as a Joint with one part for each group of splits; the problem itself where there is only one group."""
    if len(groups) == 1:
        return problem
    return Joint(tuple(problem.of_splits(group) for group in groups), (None,) * len(groups), problem.n_features, problem)


def like(problem: Any, grouped: Any) -> Any:
    """A problem with as many splits, in the same groups as ``grouped``, where that is in groups."""
    if not isinstance(grouped, Joint) or grouped.grouped is None:
        return problem
    ends = np.cumsum([0, *(part.n_splits for part in grouped.parts)])
    return in_groups(problem, [np.arange(first, end) for first, end in pairwise(ends)])


def whole(problem: Any) -> Any:
    """The problem before its splits were put in groups; any other problem as it is."""
    return problem.grouped if isinstance(problem, Joint) and problem.grouped is not None else problem


def parts_of(problem: Any) -> tuple[Problem, ...]:
    """The parts of a Joint; a Problem is its own only part."""
    return problem.parts if isinstance(problem, Joint) else (problem,)
