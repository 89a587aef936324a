"""The data of both levels: rows in visiting order, their classes, weights and their role in each split. Immutable.

Conventions, kept by every solver: the lower level of split k is a *sum*, Σ_{i in train_k} s_ik ℓ_i + ½ Σ_j λ_j ‖W_j‖², the
upper level the mean over splits of the weighted *mean* validation loss (method.md, section 1). ``n_outputs`` is 1 for two
classes (the second is positive), else the number of classes.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

UNUSED, TRAIN, VALIDATION = 0, 1, 2

# The kernels fetch the features of the entries behind a row's end; so the column indices go on a little.
COLUMNS_AHEAD = 16

# A dense matrix with a smaller share of non-zeros than this is faster as CSR (measured by
# examples/benchmarks/kernel.py).
DENSE_FROM = 0.8

# Multiply-adds of one pass from which splits are taken apart: some 0.05 seconds. Below, a thread's start costs as much.
WORK_FOR_GROUPS = 5e7


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows, labels, weights and roles; what the kernels read.

    Attributes
    ----------
    values : ndarray of shape (nnz,), float32 or float64
        The entries, row after row.
    columns : ndarray of shape (nnz + COLUMNS_AHEAD,), int32, or None
        Their features; None for dense rows.
    indptr : ndarray of shape (n_rows + 1,), int64
        Where each row begins.
    labels : ndarray of shape (n_rows,), int32
        The class of each row, from 0.
    roles : ndarray of shape (n_rows, n_splits), int8
        UNUSED, TRAIN or VALIDATION.
    weights : ndarray of shape (n_rows,)
        Sample weights, without class weights.
    train_scale : ndarray of shape (n_classes, n_splits)
        What multiplies the weight of a training row: class weights, and the split's scale.
    val_scale : ndarray of shape (n_splits,)
        1 / (sum of the weights of the validation rows); 0 where there are none.
    order : ndarray of shape (n_rows,), int64
        The sample that each row was made of.
    n_features, n_classes : int
    fit_intercept : bool
    """

    values: np.ndarray
    columns: np.ndarray | None
    indptr: np.ndarray
    labels: np.ndarray
    roles: np.ndarray
    weights: np.ndarray
    train_scale: np.ndarray
    val_scale: np.ndarray
    order: np.ndarray
    n_features: int
    n_classes: int
    fit_intercept: bool

    @property
    def n_rows(self):
        return self.labels.shape[0]

    @property
    def n_splits(self):
        return self.roles.shape[1]

    @property
    def n_outputs(self):
        return 1 if self.n_classes == 2 else self.n_classes

    @property
    def dtype(self):
        return self.values.dtype

    @property
    def work(self):
        """Multiply-adds of one pass over the rows, for both levels."""
        return self.values.size * 2 * self.n_splits * self.n_outputs

    @cached_property
    def matrix(self):
        """The rows as a CSR array or an ndarray, without a copy."""
        shape = (self.n_rows, self.n_features)
        if self.columns is None:
            return self.values.reshape(shape)
        return sp.csr_array((self.values, self.columns[: self.values.size], self.indptr), shape=shape)

    @cached_property
    def wide(self):
        """The same problem in float64."""
        return self.astype(np.float64)

    @cached_property
    def squared_norms(self):
        """Σ_j x_ij² of every row, (n_rows,), float64; infinite where it overflows."""
        norms, filled = np.zeros(self.n_rows), np.diff(self.indptr) > 0
        if filled.any():
            with np.errstate(over="ignore"):
                norms[filled] = np.add.reduceat(np.square(self.values, dtype=np.float64), self.indptr[:-1][filled])
        return norms

    @cached_property
    def largest_row(self):
        """The largest s_i Σ_j x_ij² of a training row: over λ, it is the row's curvature in the lower level."""
        with np.errstate(over="ignore"):
            return float(np.max(self.squared_norms * self.weights * self.train_scale.max(axis=1)[self.labels], initial=0.0))

    @cached_property
    def second_moments(self):
        """The weighted mean of x_ij² over all rows, (n_features,)."""
        weights = self.weights.astype(np.float64) / max(self.weights.sum(dtype=np.float64), np.finfo(float).tiny)
        with np.errstate(over="ignore"):
            squares = np.square(self.values, dtype=np.float64)
            if self.columns is None:
                return weights @ squares.reshape(self.matrix.shape)
            squares *= np.repeat(weights, np.diff(self.indptr))
            return np.bincount(self.columns[: squares.size], weights=squares, minlength=self.n_features)

    @cached_property
    def train_totals(self):
        """The sum of the weights in the lower level of each split, (n_splits,)."""
        return np.array([self.train_weights(k).sum(dtype=np.float64) for k in range(self.n_splits)])

    def train_weights(self, split):
        """The weight of every row in the lower level of a split, (n_rows,); 0 where it is not a training row."""
        return self.weights * self.train_scale[self.labels, split] * (self.roles[:, split] == TRAIN)

    def val_weights(self, split):
        """The weight of every row in the upper level of a split, (n_rows,); they sum to 1."""
        return self.weights * self.val_scale[split] * (self.roles[:, split] == VALIDATION)

    def of_splits(self, splits):
        """The same rows in some of the splits only, an array of int; the entries are shared, not copied."""
        roles, scale = self.roles[:, splits], self.train_scale[:, splits]
        return replace(
            self,
            roles=np.ascontiguousarray(roles),
            train_scale=np.ascontiguousarray(scale),
            val_scale=self.val_scale[splits],
        )

    def astype(self, dtype):
        """The same problem with its reals in another precision."""
        if self.dtype == dtype:
            return self
        reals = {name: getattr(self, name).astype(dtype) for name in ("values", "weights", "train_scale", "val_scale")}
        return replace(self, **reals)


def make_problem(
    X, labels, splits, *, n_classes, sample_weight=None, train_scale=None, fit_intercept=True, dtype=np.float32, seed=0
):
    """Lay out the rows for the solvers: shuffled once, contiguous, with their roles.

    A sample that has more than one part in a split (drawn twice by a bootstrap, or both training and validation row)
    becomes several rows; one that has no part in any split becomes none.

    Parameters
    ----------
    X : ndarray or sparse array of shape (n_samples, n_features)
        Finite; sparse in any format.
    labels : ndarray of shape (n_samples,), int
        Classes from 0 to n_classes - 1.
    splits : list of (train, validation) index arrays
        A validation part may be empty.
    n_classes : int
    sample_weight : ndarray of shape (n_samples,), default=None
        Non-negative.
    train_scale : ndarray of shape (n_classes, n_splits), default=None
        Multiplies the weights in the lower level only: class weights, for instance.
    fit_intercept : bool, default=True
    dtype : numpy dtype, default=float32
        Precision of the problem, and so of the solver's state.
    seed : int, default=0
        Of the shuffle.
    """
    order, roles = _lay_out_rows(splits, X.shape[0], seed)
    weights = np.ones(X.shape[0]) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    weights = weights[order]
    labels = np.asarray(labels, dtype=np.int32)[order]
    val_sums = ((roles == VALIDATION) * weights[:, None]).sum(axis=0)
    val_scale = np.divide(1.0, val_sums, out=np.zeros(len(splits)), where=val_sums > 0)
    if train_scale is None:
        train_scale = np.ones((n_classes, len(splits)))
    values, columns, indptr = _lay_out_entries(X, order, dtype)
    return Problem(
        values=values,
        columns=columns,
        indptr=indptr,
        labels=labels,
        roles=roles,
        weights=weights.astype(dtype),
        train_scale=np.ascontiguousarray(train_scale, dtype=dtype),
        val_scale=val_scale.astype(dtype),
        order=order,
        n_features=X.shape[1],
        n_classes=n_classes,
        fit_intercept=bool(fit_intercept),
    )


def _lay_out_rows(splits, n_samples, seed):
    """The sample of each row, shuffled, and its role in each split."""
    train = np.column_stack([np.bincount(train, minlength=n_samples) for train, _ in splits])
    parts = train + np.column_stack([np.bincount(val, minlength=n_samples) for _, val in splits])
    copies = parts.max(axis=1)
    order = np.repeat(np.arange(n_samples), copies)
    copy = np.arange(order.size) - np.repeat(np.cumsum(copies) - copies, copies)
    roles = np.where(copy[:, None] < train[order], TRAIN, np.where(copy[:, None] < parts[order], VALIDATION, UNUSED)).astype(
        np.int8
    )
    shuffle = np.random.RandomState(seed).permutation(order.size)
    return order[shuffle], np.ascontiguousarray(roles[shuffle])


def _lay_out_entries(X, order, dtype):
    if not sp.issparse(X) and np.count_nonzero(X) >= DENSE_FROM * X.size:
        values = np.ascontiguousarray(X[order], dtype=dtype).reshape(-1)
        return values, None, np.arange(order.size + 1, dtype=np.int64) * X.shape[1]
    rows = sp.csr_array(X)[order]
    rows.sum_duplicates()
    ahead = np.zeros(COLUMNS_AHEAD, dtype=np.int32)
    columns = np.concatenate([rows.indices.astype(np.int32, copy=False), ahead])
    return rows.data.astype(dtype, copy=False), columns, rows.indptr.astype(np.int64)


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
        For each part, where its features stand among all; None where its features are the first of all.
    n_features : int
        Of all parts together: the number of penalties.
    """

    parts: tuple
    columns: tuple
    n_features: int

    @property
    def n_rows(self):
        """Of the largest part."""
        return max(part.n_rows for part in self.parts)

    @property
    def n_splits(self):
        return sum(part.n_splits for part in self.parts)

    @property
    def n_outputs(self):
        return self.parts[0].n_outputs

    @property
    def dtype(self):
        return self.parts[0].dtype

    def astype(self, dtype):
        """The same parts with their reals in another precision."""
        return replace(self, parts=tuple(part.astype(dtype) for part in self.parts))

    def gather(self, k, values):
        """Values of all features, (n_features,), as those of part ``k``'s."""
        columns = self.columns[k]
        return values[: self.parts[k].n_features] if columns is None else values[columns]

    def scatter(self, k, values, out):
        """Add values of part ``k``'s features to those of all."""
        columns = self.columns[k]
        if columns is None:
            out[: values.shape[0]] += values
        else:
            out[columns] += values  # no feature stands twice in a part
        return out


def groups_of_splits(problem):
    """Which splits go together, a list of int arrays: two halves for two threads, where that pays; else all.

    It depends on the problem alone, so that results do not depend on the number of threads. The splits of two classes
    stay together: all of them are in one register, and half of them would take as long.
    """
    pays = problem.n_outputs > 1 and problem.n_splits > 1 and problem.work >= WORK_FOR_GROUPS
    return np.array_split(np.arange(problem.n_splits), 2 if pays else 1)


def in_groups(problem, groups):
    """The problem as a Joint with a part for each of these groups of splits; the problem itself where there is but one."""
    if len(groups) == 1:
        return problem
    return Joint(tuple(problem.of_splits(group) for group in groups), (None,) * len(groups), problem.n_features)


def parts_of(problem):
    """The parts of a Joint problem; another is its own only part."""
    return problem.parts if isinstance(problem, Joint) else (problem,)
