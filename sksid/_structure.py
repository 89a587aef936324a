"""The structure: how hyperparameters make penalties, which stages lead there, and its words in a report.

A structure answers for itself: no other module asks for its name or its labels. ``sksid.structures`` makes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sksid._matrices import Matrix, entries, without_rows
from sksid.descriptors import log_moments, standardized

FEW = 5
FEW_LABELED = 30
LEVEL = "level"
MOMENTS = ("moments", "moments_squared")


@dataclass(frozen=True, eq=False, repr=False)
class Structure:
    """The linear map from hyperparameters to log penalties, Eq. (5).

    Structures are equal, and hash alike, where they have the same content: name, size, matrices (dense or sparse), labels,
    shift, terms. Make one with ``shared``, ``groups``, ``blocks``, ``per_feature``, ``moments`` or ``matrix``.

    Parameters
    ----------
    name : str
        ``"shared"``, ``"groups"``, ``"blocks"``, ``"per_feature"``, ``"scaled"``, ``"matrix"``, or of descriptors, such as
        ``"moments+evidence"``.
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
    per_split : tuple of n_splits matrices, or None
        The A of each split, each of the shape of ``matrix``, which is then the A of the final fit alone.
    terms : tuple of n_params str
        The names of the columns where they are descriptors, ``"level"`` first: a column of ones. Then θ starts at what comes
        nearest to the penalties that the descent starts from, and the offset is 0.

    Examples
    --------
    >>> from sksid.structures import groups
    >>> structure = groups(["left", "right", "left"])
    >>> structure
    Structure('groups', n_features=3, n_params=2)
    >>> structure.change([1.0, 5.0])
    array([1., 5., 1.])
    >>> structure.pull_back([0.1, 0.2, 0.3])
    array([0.4, 0.2])
    >>> structure == groups(["left", "right", "left"])
    True
    """

    name: str
    matrix: Matrix | None
    n_features: int
    levels: bool
    labels: tuple = ()
    shift: NDArray[np.float64] | None = None
    per_split: tuple[Matrix, ...] | None = None
    terms: tuple[str, ...] = ()

    def __repr__(self) -> str:
        splits = "" if self.per_split is None else f", n_splits={self.n_splits}"
        return f"Structure({self.name!r}, n_features={self.n_features}, n_params={self.n_params}{splits})"

    def __eq__(self, other: object) -> bool:
        return self._content() == other._content() if isinstance(other, Structure) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple:
        matrices = (self.matrix, *(self.per_split or ()))
        shift = None if self.shift is None else (np.asarray(self.shift, dtype=np.float64) + 0.0).tobytes()
        return self.name, self.n_features, self.levels, self.labels, self.terms, shift, tuple(map(entries, matrices))

    # ---- the map --------------------------------------------------------------------------------------------------------

    @property
    def n_params(self) -> int:
        """The number of hyperparameters."""
        return self.n_features if self.matrix is None else self.matrix.shape[1]

    @property
    def n_splits(self) -> int | None:
        """The number of splits that have an A of their own; None where one A serves any number."""
        return None if self.per_split is None else len(self.per_split)

    @property
    def for_refit(self) -> "Structure":
        """The structure of the final fit: the same θ, without the matrices of the splits."""
        return self if self.per_split is None else replace(self, per_split=None)

    def start(self, log_penalties: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """θ and the offset from which these log penalties are reached, or come nearest.

        With one-hot rows, θ is the mean of the log penalties in each group and the offset 0; with descriptors, θ is that of
        the least squares. Otherwise θ = 0 and the offset holds the log penalties themselves. Where there is no penalty,
        log λ = −∞, the offset is −∞ too.

        Parameters
        ----------
        log_penalties : array-like of shape (n_features,) or (n_splits, n_features)

        Returns
        -------
        theta : ndarray of shape (n_params,)
        offset : ndarray of the shape of ``log_penalties``
        """
        log_penalties = np.asarray(log_penalties, dtype=np.float64) + (0.0 if self.shift is None else self.shift)
        if not (self.levels or self.terms):
            return np.zeros(self.n_params), log_penalties
        nearest = self.mean if self.levels else self._least_squares
        return nearest(log_penalties), np.where(np.isneginf(log_penalties), -np.inf, 0.0)

    def _least_squares(self, log_penalties):
        matrices = self.per_split if self.per_split and log_penalties.ndim == 2 else (self.matrix,)
        rows = log_penalties.reshape(len(matrices), -1, self.n_features).mean(axis=1)
        products = [A.T @ A for A in matrices]
        targets = [A.T @ np.where(np.isfinite(row), row, 0.0) for A, row in zip(matrices, rows, strict=True)]
        return np.linalg.lstsq(np.sum(products, axis=0), np.sum(targets, axis=0))[0]

    def mean(self, log_penalties: ArrayLike) -> NDArray[np.float64]:
        """The mean of the log penalties of each column's features, (n_params,), where the rows of A are one-hot."""
        log_penalties = np.asarray(log_penalties, dtype=np.float64)
        penalized = np.isfinite(log_penalties)
        total = self.for_refit.pull_back
        return total(np.where(penalized, log_penalties, 0.0)) / total(penalized.astype(np.float64))

    def change(self, step: ArrayLike) -> NDArray[np.float64]:
        """A step in θ as the change of each log penalty, A step.

        Parameters
        ----------
        step : array-like of shape (n_params,)

        Returns
        -------
        ndarray of shape (n_features,), or (n_splits, n_features) where each split has an A of its own
        """
        step = np.array(step, dtype=np.float64)
        if self.per_split is not None:
            return np.stack([np.asarray(A @ step) for A in self.per_split])
        return step if self.matrix is None else np.asarray(self.matrix @ step)

    def pull_back(self, log_gradient: ArrayLike) -> NDArray[np.float64]:
        """∂F/∂θ = Aᵀ ∂F/∂log λ, the adjoint of ``change``.

        Parameters
        ----------
        log_gradient : array-like of shape (n_features,) or (n_splits, n_features)
            The gradient of F, itself a mean over the splits. With a row for each split, row k is ∂F/∂log λ of split k,
            and ∂F/∂θ is the *sum* of Aᵀ times each row. It needs the rows where each split has an A of its own.

        Returns
        -------
        ndarray of shape (n_params,)
        """
        gradient: NDArray[np.float64] = np.asarray(log_gradient, dtype=np.float64)
        if self.per_split is not None:
            return np.sum([A.T @ row for A, row in zip(self.per_split, gradient, strict=True)], axis=0)
        if gradient.ndim == 2:
            gradient = gradient.sum(axis=0)
        return gradient.copy() if self.matrix is None else self.matrix.T @ gradient

    def shares(self, log_gradient: ArrayLike) -> NDArray[np.float64] | None:
        """What each split adds to ``pull_back``, (n_splits, n_params); None where one A serves all splits."""
        if self.per_split is not None:
            return np.stack([A.T @ row for A, row in zip(self.per_split, np.asarray(log_gradient), strict=True)])
        return None

    def for_each_split(self, n_splits: int) -> "Structure":
        """The same structure with an A for each split, so that ``shares`` tells the splits apart."""
        is_one = self.per_split is None and self.matrix is not None
        return replace(self, per_split=(self.matrix,) * n_splits) if is_one else self

    # ---- what the search asks -------------------------------------------------------------------------------------------

    @property
    def is_few(self) -> bool:
        """Whether it has few hyperparameters: at most 5, or at most 30 that are penalties of labeled groups or blocks.

        Few are driven by converged hypergradients and a quasi-Newton model, and judged by the rows they are fitted to. Many are
        driven by inexact hypergradients, and cross-fitted. For a quasi-Newton model each hyperparameter costs about one more
        converged hypergradient; a penalty of a whole group is determined by so many features at once that up to 30 of them are
        worth it, and do not follow the noise of the validation rows.
        """
        return self.n_params <= (FEW_LABELED if self.labels else FEW)

    @property
    def starts_over(self) -> bool:
        """Whether its descent starts where the first stage started, instead of at the best penalties of the stage before.

        True if the structure shifts the penalties itself (``scaled``): the shared penalty may have ended where the gradient
        vanishes.
        """
        return self.shift is not None

    def stages(self, second_moments: NDArray[np.float64] | None = None) -> "tuple[Structure, ...]":
        """The structures to descend on in turn, from one shared penalty up to and including this one.

        For groups and blocks whose features differ in scale, ``scaled`` comes between these two.

        Parameters
        ----------
        second_moments : ndarray of shape (n_features,), default=None
            Of the features. None leaves out the stage in between.

        Returns
        -------
        tuple of Structure
            A feature without a penalty here has none in any of them.
        """
        if self.name == "shared":
            return (self,)
        scaled = self.scaled(second_moments) if self.labels and second_moments is not None else None
        if scaled is None:
            return shared(self.n_features), self
        return shared(self.n_features), scaled.without(self.for_refit.change(np.ones(self.n_params)) == 0), self

    def scaled(self, second_moments: NDArray[np.float64]) -> "Structure | None":
        """One hyperparameter, added to log penalties that follow the mean second moment of each group or block.

        This is as if the blocks were scaled. At the penalty that suits a block of small features, the loss of a block of large
        features is flat, so that no gradient leads away from it.

        Parameters
        ----------
        second_moments : ndarray of shape (n_features,)

        Returns
        -------
        Structure, or None where the blocks' scales are alike.
        """
        members = self.pull_back(np.ones(self.n_features))
        means = self.pull_back(second_moments) / members
        if not (means > 0).all():
            return None
        shift = self.change(np.log(means) - members @ np.log(means) / members.sum())
        if np.ptp(shift) < 1.0:
            return None
        return Structure("scaled", np.ones((self.n_features, 1)), self.n_features, levels=False, shift=shift)

    def without(self, unpenalized: NDArray[np.bool_]) -> "Structure":
        """The structure with rows of zeros where a feature has no penalty, and without the columns that this leaves empty.

        Parameters
        ----------
        unpenalized : ndarray of bool, (n_features,)

        Returns
        -------
        Structure

        Raises
        ------
        ValueError
            If no feature with a penalty is left.
        """
        if not unpenalized.any():
            return self
        matrices = [without_rows(A, unpenalized, self.n_features) for A in (self.matrix, *(self.per_split or ()))]
        kept = np.any([np.diff(A.indptr) > 0 for A in matrices], axis=0)
        if not kept.any():
            raise ValueError("unpenalized leaves no feature with a penalty to tune. Fit the estimator alone, or list fewer.")
        matrices = [A[:, np.flatnonzero(kept)] for A in matrices]
        matrices = [A.toarray() if isinstance(self.matrix, np.ndarray) else sp.csr_array(A) for A in matrices]
        labels, terms = (tuple(np.array(names, dtype=object)[kept]) if names else () for names in (self.labels, self.terms))
        per_split = tuple(matrices[1:]) if self.per_split else None
        return replace(self, matrix=matrices[0], labels=labels, per_split=per_split, terms=terms)

    # ---- its words in a report ------------------------------------------------------------------------------------------

    def columns(self, parameter: str) -> tuple[str, ...]:
        """Names of the columns of ``cv_results_`` with each block's ``parameter``: ``("C_text", "C_numbers")``."""
        return tuple(f"{parameter}_{label}" for label in self.labels) if self.name == "blocks" else ()

    def slopes(self, theta: ArrayLike) -> dict[str, float]:
        """What one standard deviation of each descriptor adds to log λ, by its name; empty without descriptors."""
        return dict(zip(self.terms[1:], np.asarray(theta, dtype=np.float64)[1:].tolist(), strict=False))

    def by_label(self, log_penalties: ArrayLike) -> dict:
        """The mean log penalty of each group or block, by its label; empty where there are none."""
        return dict(zip(self.labels, self.mean(log_penalties).tolist(), strict=True)) if self.labels else {}

    def whose(self, is_so: NDArray[np.bool_], log_penalties: NDArray[np.float64]) -> str:
        """The groups or blocks all of whose penalties satisfy a condition, as words for a message: ``"'text', 'numbers'"``.

        Without groups or blocks, ``"the features"`` if all penalties satisfy it; ``""`` if none of these applies.

        Parameters
        ----------
        is_so : ndarray of bool, (n_features,) or (n_splits, n_features)
            Whether each penalty satisfies it, such as being at the edge of the range.
        log_penalties : ndarray of the same shape
            Features without a penalty, log λ = −∞, are ignored.
        """
        others = np.any(np.reshape(~is_so & np.isfinite(log_penalties), (-1, self.n_features)), axis=0)
        if not self.labels:
            return "" if others.any() else "the features"
        others = self.for_refit.pull_back(others)
        return ", ".join(repr(label) for label, other in zip(self.labels, others, strict=True) if other == 0)

    def distinct(self, penalties: NDArray[np.float64], names: Sequence[str]) -> tuple[NDArray[np.float64], list[str], NDArray]:
        """Each penalty once, with the name and the size of what it applies to: all features, a group or block, or a feature.

        Parameters
        ----------
        penalties : ndarray of shape (n,)
            Of the first n features; 0 where there is none.
        names : sequence of n str
            Of those features.

        Returns
        -------
        penalties : ndarray of shape (n_distinct,)
        names : list of str
        sizes : ndarray of int, (n_distinct,)
            How many features share each.
        """
        if self.labels:
            members = sp.csc_array(self.matrix)[: len(penalties)]
            counts = np.diff(members.indptr)
            firsts = members.indices[members.indptr[:-1][counts > 0]]
            labels = [str(label) for label, count in zip(self.labels, counts, strict=True) if count]
            return penalties[firsts], labels, counts[counts > 0]
        if self.name == "shared":
            return penalties[penalties > 0][:1], ["all features"], np.array([np.count_nonzero(penalties)])
        return penalties, list(names), np.ones(len(penalties), dtype=int)


def shared(n_features: int) -> Structure:
    """One penalty for all features.

    Parameters
    ----------
    n_features : int

    Returns
    -------
    Structure

    Examples
    --------
    >>> from sksid.structures import shared
    >>> shared(3).change([0.5])
    array([0.5, 0.5, 0.5])
    """
    return Structure("shared", np.ones((n_features, 1)), n_features, levels=True)


def moments_of(second: NDArray[np.float64]) -> Structure:
    """``moments`` of features with these second moments.

    Parameters
    ----------
    second : ndarray of shape (n_features,)

    Returns
    -------
    Structure

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.structures import moments_of
    >>> moments_of(np.array([1.0, 10.0, 1000.0])).matrix.round(2)
    array([[ 1.  , -1.07,  0.2 ],
           [ 1.  , -0.27, -1.31],
           [ 1.  ,  1.34,  1.11]])
    """
    columns = dict(zip(MOMENTS, log_moments(second).T, strict=True))
    return described("moments", second.size, {name: standardized(column, second > 0) for name, column in columns.items()})


def described(name: str, n_features: int, whole: Mapping, splits: Sequence[Mapping] = ()) -> Structure:
    """A common level and a hyperparameter for each descriptor; ``shared`` if none is left.

    ``whole`` has their standardized columns on all rows by name, ``splits`` the same on the training rows of each split. One
    that is zero in any of these is left out of all.
    """
    tables = [whole, *splits]
    terms = [term for term in whole if all(table[term].any() for table in tables)]
    if not terms:
        return shared(n_features)
    matrices = [np.column_stack([np.ones(n_features), *(table[term] for term in terms)]) for table in tables]
    differ = any(table[term] is not whole[term] for term in terms for table in splits)
    return Structure(name, matrices[0], n_features, False, (), None, tuple(matrices[1:]) if differ else None, (LEVEL, *terms))
