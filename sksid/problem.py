"""The two levels on laid-out rows: roles, what every row is in each split, and the problem they make. Immutable.

Conventions, kept by every solver: the lower level of split k is a *sum*, Σ_{i in train_k} s_ik ℓ_i + ½ Σ_j λ_j ‖W_j‖², Eq. (1),
the upper level the mean over splits of the weighted *mean* validation loss, Eq. (2). ``n_outputs`` is 1 for two classes (the
second is positive), else the number of classes. Splits, their parts, groups of splits for threads and the final fit
are roles over the same rows.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sksid._disk_rows import DiskRows
from sksid._kernels._layout import TRAIN, UNUSED, VALIDATION, check_roles
from sksid._products import Products
from sksid._splits import PackedSplits, Splits
from sksid._spread import SpreadRows
from sksid.objective import L2Penalty, LogisticLoss, Loss, Objective, Penalty
from sksid.rows import Rows, lay_out

# s_i Σ_j x_ij²/λ_j of a row above which float32 duals are too coarse: their rounding moves the row's output by 0.02.
FLOAT32_CURVATURE = 3e5
FLOAT32_REPORTED = 100.0  # the same for a reported score: by 1e-5
IN_ORDER = DiskRows, SpreadRows  # rows that are not laid out: row i is sample i
IMPOSSIBLE = -50.0  # the intercept of a class without a training row; the outputs of the others sum to about zero
FLOAT32_FROM = 1e6  # entries × splits from which float32, which is twice as fast, is worth it


@dataclass(frozen=True, eq=False)
class Roles:
    """What every row is in each split, and what it weighs.

    Attributes
    ----------
    labels : ndarray of shape (n_rows, 1) or (n_rows, n_splits), int32
        The class of each row, from 0: the same in all splits, or one for each.
    weights : ndarray of shape (n_rows,), float64
        Sample weights, without class weights; a view of one number where all are 1.
    role : ndarray of shape (n_rows, n_splits), int8
        UNUSED, TRAIN or VALIDATION.
    train_scale : ndarray of shape (n_classes, n_splits), float64
        What multiplies the weight of a training row: class weights, and the split's scale.
    val_scale : ndarray of shape (n_splits,), float64
        1 / (sum of the weights of the validation rows); 0 where there are none.
    """

    labels: NDArray
    weights: NDArray
    role: NDArray
    train_scale: NDArray
    val_scale: NDArray

    def __post_init__(self):
        check_roles(self.labels, self.role, self.train_scale.shape[0])

    @property
    def n_splits(self) -> int:
        return self.role.shape[1]

    def labels_of(self, split: int) -> NDArray:
        """The class of each row in a split, (n_rows,)."""
        return self.labels[:, split if self.labels.shape[1] > 1 else 0]

    def train_weights(self, split: int) -> NDArray:
        """The weight of every row in the lower level of a split, (n_rows,); 0 where it is not a training row."""
        return self.weights * self.train_scale[self.labels_of(split), split] * (self.role[:, split] == TRAIN)

    def val_weights(self, split: int) -> NDArray:
        """The weight of every row in the upper level of a split, (n_rows,); they sum to 1."""
        return self.weights * self.val_scale[split] * (self.role[:, split] == VALIDATION)

    def of_rows(self, rows: Any) -> "Roles":
        """The roles of some rows only: a slice, or an array of int."""
        return Roles(self.labels[rows], self.weights[rows], self.role[rows], self.train_scale, self.val_scale)

    def of_splits(self, splits: NDArray) -> "Roles":
        """The roles in some of the splits only, an array of int."""
        return Roles(
            labels=self.labels if self.labels.shape[1] == 1 else np.ascontiguousarray(self.labels[:, splits]),
            weights=self.weights,
            role=np.ascontiguousarray(self.role[:, splits]),
            train_scale=np.ascontiguousarray(self.train_scale[:, splits]),
            val_scale=self.val_scale[splits],
        )


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows in their roles, and the loss and penalty that make two levels of them; what solvers read.

    Attributes
    ----------
    rows : Rows, RowBlocks, DiskRows or SpreadRows
        Stored once, shared by all problems that are made of them.
    roles : Roles
    n_classes : int
    fit_intercept : bool
    dtype : numpy dtype
        The precision of a solver's state, float32 or float64; the rows keep their own.
    loss : Loss, default=LogisticLoss()
        The kernels' solvers take no other.
    penalty : Penalty, default=L2Penalty()
        Likewise.
    """

    rows: Any
    roles: Roles
    n_classes: int
    fit_intercept: bool
    dtype: Any
    loss: Loss = field(default_factory=LogisticLoss)
    penalty: Penalty = field(default_factory=L2Penalty)

    @property
    def n_rows(self) -> int:
        return self.rows.n_rows

    @property
    def n_features(self) -> int:
        return self.rows.n_features

    @property
    def n_splits(self) -> int:
        return self.roles.n_splits

    @property
    def n_outputs(self) -> int:
        return 1 if self.n_classes == 2 else self.n_classes

    @property
    def work(self) -> float:
        """Multiply-adds of one pass over the rows, for both levels."""
        return self.rows.n_entries * 2 * self.n_splits * self.n_outputs

    @property
    def has_validation(self) -> bool:
        """Whether any split has an upper level; a final fit has none, and so no adjoint."""
        return bool((self.roles.val_scale > 0).any())

    @cached_property
    def held(self) -> NDArray | None:
        """The intercepts, (n_splits, n_outputs), that would grow without end, at values where solvers hold them; else NaN.

        They are those of classes without a training row in a split that has others. None where there are none.
        """
        if not self.fit_intercept:
            return None
        found = np.full((self.n_splits, self.n_outputs), np.nan)
        for k, values in enumerate(found):
            weights = self.roles.train_weights(k)
            absent = ~(np.bincount(self.roles.labels_of(k), weights=weights, minlength=self.n_classes) > 0)
            if absent.all() or not absent.any():
                continue
            if np.count_nonzero(~absent) == 1:
                values[:] = 0.0
            values[absent if values.size > 1 else slice(None)] = IMPOSSIBLE if values.size > 1 or absent[1] else -IMPOSSIBLE
        return None if np.isnan(found).all() else found

    @cached_property
    def train_totals(self) -> NDArray:
        """The sum of the weights in the lower level of each split, (n_splits,)."""
        return np.array([self.roles.train_weights(k).sum() for k in range(self.n_splits)])

    @cached_property
    def second_moments(self) -> NDArray:
        """The weighted mean of x_ij² over all rows, (n_features,)."""
        weights = self.roles.weights
        return self.rows.mean_squares(weights / max(weights.sum(), np.finfo(float).tiny))

    @cached_property
    def log_scale(self) -> float:
        """Log of the mean over training rows of s_i Σ_j x_ij², and over splits: the unit of penalties, Eq. (32).

        Features times c take it to log c² more, weights times c to log c more, and the optimal log λ with it.
        """
        means, norms = [], self.rows.squared_norms
        for k in range(self.n_splits):
            weights = self.roles.train_weights(k)
            with np.errstate(over="ignore"):
                means.append(weights @ norms / max(np.count_nonzero(weights), 1))
        mean = float(np.mean(means))
        return float(np.log(mean)) if 0.0 < mean < np.inf else 0.0

    @cached_property
    def log_entry_scale(self) -> float:
        """The mean over entries that are not zero of log x_ij², and the log of the mean weight of training rows."""
        roles = self.roles
        counted = np.count_nonzero((roles.role == TRAIN) & (roles.weights[:, None] > 0))
        mean_weight = max(float(self.train_totals.sum()) / max(int(counted), 1), float(np.finfo(float).tiny))
        return self.rows.mean_log_square + float(np.log(mean_weight))

    @cached_property
    def largest_row(self) -> float:
        """The largest s_i Σ_j x_ij² of a row: over λ, it is the row's curvature in the lower level."""
        weights = self.roles.weights * self.roles.train_scale.max(axis=1)[self.roles.labels].max(axis=1)
        with np.errstate(over="ignore"):
            return float(np.max(self.rows.squared_norms * weights, initial=0.0))

    def objective(self, role: int) -> Objective:
        """The loss of one role's rows in every split, in float64, with penalties of zero.

        Parameters
        ----------
        role : TRAIN or VALIDATION
            With the weights of that level: training weights are as they are, validation weights sum to 1.
        """
        roles = self.roles
        weights = roles.train_weights if role == TRAIN else roles.val_weights
        made = Objective(
            products=self.products,
            labels=np.ascontiguousarray(roles.labels.T),
            weights=np.array([weights(k) for k in range(self.n_splits)]),
            penalties=np.zeros((1, 1, self.n_features + 1)),
            n_outputs=self.n_outputs,
            fit_intercept=self.fit_intercept,
            loss=self.loss,
            penalty=self.penalty,
        )
        return self.rows.objective(made) if isinstance(self.rows, SpreadRows) else made

    @cached_property
    def products(self) -> Products:
        """Of the rows, for the vectors of all splits and outputs."""
        return Products(self.rows, self.n_splits * self.n_outputs)

    def of_splits(self, splits: NDArray) -> "Problem":
        """The same rows in some of the splits only, an array of int."""
        return replace(self, roles=self.roles.of_splits(splits))

    def astype(self, dtype: DTypeLike) -> "Problem":
        """The same problem, solved in another precision. The rows are shared, not copied."""
        return self if self.dtype == dtype else replace(self, dtype=np.dtype(dtype))

    def precision(self, log_penalties: NDArray, limit: float = FLOAT32_CURVATURE) -> Any:
        """The dtype that a state needs at these log penalties: float64 where a row's curvature is too large for float32."""
        if self.dtype == np.float64:
            return self.dtype
        least = np.min(log_penalties, initial=np.inf, where=np.isfinite(log_penalties))
        with np.errstate(over="ignore"):
            largest = self.largest_row * np.exp(-least)
        return np.dtype(np.float64) if largest > limit else self.dtype

    def reported(self, log_penalties: NDArray) -> "Problem":
        """The problem in the precision that a reported score needs."""
        return self.astype(self.precision(log_penalties, FLOAT32_REPORTED))


def problem_of(
    rows: Any,
    labels: NDArray,
    splits: Splits,
    *,
    n_classes: int,
    sample_weight: NDArray | None = None,
    train_scale: NDArray | None = None,
    fit_intercept: bool = True,
    dtype: DTypeLike = np.float64,
) -> Problem:
    """Give laid-out rows their roles. Only the span of rows that has any is visited.

    Parameters
    ----------
    rows : Rows or RowBlocks
        Of ``lay_out``; labels, weights and splits are those of its samples.
    labels : ndarray of shape (n_samples,) or (n_samples, n_splits), int
        Classes from 0 to n_classes - 1; of each split its own, where they differ.
    splits : list of (train, validation) index arrays
        Either may be empty: a final fit has training rows only.
    n_classes : int
    sample_weight : ndarray of shape (n_samples,), default=None
        Non-negative.
    train_scale : ndarray of shape (n_classes, n_splits), default=None
        Multiplies the weights in the lower level only: class weights, for instance.
    fit_intercept : bool, default=True
    dtype : numpy dtype, default=numpy.float64
        Precision of the solver's state.

    Examples
    --------
    >>> import numpy as np
    >>> y, splits = np.array([0, 1, 0, 1]), [(np.array([0, 1]), np.array([2, 3]))]
    >>> rows = lay_out(np.eye(4), splits)
    >>> final = problem_of(rows, y, [(np.arange(4), np.arange(0))], n_classes=2)
    >>> final.has_validation, final.train_totals
    (False, array([4.]))
    """
    role = _roles_in_order(rows.n_rows, splits) if isinstance(rows, IN_ORDER) else _roles_of(rows.samples, splits)
    if isinstance(rows, Rows):
        used = np.flatnonzero(role.any(axis=1))
        start, stop = (used[0], used[-1] + 1) if used.size else (0, 0)
        rows, role = rows.span(start, stop), np.ascontiguousarray(role[start:stop])
    weights = np.broadcast_to(1.0, rows.n_rows)
    samples = slice(None) if isinstance(rows, IN_ORDER) else rows.samples
    if sample_weight is not None:
        weights = np.asarray(sample_weight, dtype=np.float64)[samples]
    val_sums = np.array([weights[role[:, k] == VALIDATION].sum() for k in range(len(splits))])
    labels = np.asarray(labels, dtype=np.int32)[samples]
    roles = Roles(
        labels=np.ascontiguousarray(labels.reshape(rows.n_rows, 1 if labels.ndim == 1 else labels.shape[1])),
        weights=weights,
        role=role,
        train_scale=np.ones((n_classes, len(splits))) if train_scale is None else np.array(train_scale, dtype=np.float64),
        val_scale=np.divide(1.0, val_sums, out=np.zeros(len(splits)), where=val_sums > 0),
    )
    return Problem(rows, roles, n_classes, bool(fit_intercept), np.dtype(dtype))


def _roles_of(samples, splits):
    """The role of every row in each split, (n_rows, n_splits): of a sample's copies, the first are its training rows."""
    n_samples, copy = 1 + samples.max(initial=-1), _copies(samples)
    role = np.empty((samples.size, len(splits)), dtype=np.int8)
    for k, (train, val) in enumerate(splits):
        times = np.bincount(train, minlength=n_samples)
        role[:, k] = np.where(copy < (times + np.bincount(val, minlength=n_samples))[samples], VALIDATION, UNUSED)
        role[copy < times[samples], k] = TRAIN
    return role


def _roles_in_order(n_rows, splits):
    """The same where row i is sample i, and no sample has two parts in a split."""
    if isinstance(splits, PackedSplits):
        return np.ascontiguousarray(splits.roles.T)
    role = np.full((n_rows, len(splits)), UNUSED, dtype=np.int8)
    for k, (train, val) in enumerate(splits):
        role[val, k] = VALIDATION
        role[train, k] = TRAIN
    return role


def _copies(samples):
    """How many of the rows before each one are the same sample, (n_rows,)."""
    if np.bincount(samples).max(initial=0) <= 1:
        return np.zeros_like(samples)
    order = np.argsort(samples, kind="stable")
    ascending = samples[order]
    copies = np.empty_like(samples)
    copies[order] = np.arange(samples.size) - np.searchsorted(ascending, ascending)
    return copies


def make_problem(
    X: Any, labels: ArrayLike, splits: Splits, *, dtype: DTypeLike = np.float32, seed: int = 0, **roles: Any
) -> Problem:
    """Lay out rows and give them their roles: ``problem_of(lay_out(X, splits, seed), …)``.

    Parameters
    ----------
    X : ndarray or sparse array of shape (n_samples, n_features)
        Finite; sparse in any format.
    labels, splits
        As for ``problem_of``.
    dtype : numpy dtype, default=numpy.float32
        Precision of the solver's state.
    seed : int, default=0
        Of the shuffle.
    **roles
        ``n_classes`` and what else ``problem_of`` takes.

    Examples
    --------
    >>> import numpy as np
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2)
    >>> problem.n_rows, problem.n_splits, problem.n_outputs
    (4, 1, 1)
    """
    splits = [(np.asarray(train, dtype=np.intp), np.asarray(val, dtype=np.intp)) for train, val in splits]
    return problem_of(lay_out(X, splits, seed), np.asarray(labels), splits, dtype=dtype, **roles)


def search_dtype(rows: Any, n_splits: int) -> Any:
    """float32 where there is enough data for its speed to matter, else float64."""
    return np.float32 if rows.n_entries * n_splits > FLOAT32_FROM else np.float64
