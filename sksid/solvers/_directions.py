"""The strongest directions of rows in the Hessian, and the inverse of Λ and those, Eq. (34).

The curvature of a row, diag p − p pᵀ, is a sum of K − 1 squares. With p₁ the largest probability and q = p/(1 − p₁) those of
the other classes, it is p₁(1 − p₁) v vᵀ with v = e₁ − q, and (1 − p₁)(diag q − q qᵀ) on the others, of which the same holds.
Where probabilities are sharp, few of these count beside Λ: with their vectors as columns of U, by Woodbury's identity,
(Λ + UUᵀ)⁻¹ = Λ⁻¹ − Λ⁻¹U (I + UᵀΛ⁻¹U)⁻¹ UᵀΛ⁻¹, and UᵀΛ⁻¹U are scalar products of rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from sksid.objective import LogisticLoss, Objective, Point

LEVELS = 3  # squares of a row at most
STRONG = 1.0  # curvature along a direction, in units of the penalties' part
WEAK = 0.3  # of their sum, what all others may add
MOST = 2500  # directions of a split
FREE = 1 / 32  # of the data's curvature, in the place of a penalty where there is none
# the largest sums of these curvatures with which the difference in Woodbury's identity is positive, about 1/√eps: in float32,
# and in float64, where a larger sum is met by a larger base
SINGLE, DOUBLE = 3e3, 3e7
TINY = np.finfo(float).tiny ** 0.5


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions √ω (v ⊗ x_i) of each split.

    Attributes
    ----------
    base : ndarray of shape (n_splits, 1, n_features + 1)
        The diagonal to which they are added: λ_j, and the curvature of what has no penalty.
    rows : list of list of ndarray
        Of each split and level, the rows; each row once in a level.
    vectors : list of list of ndarray of shape (n, n_outputs)
        √ω v of each of them.
    total : float
        The largest sum over a split of the curvatures along them, in units of the base.
    """

    base: NDArray
    rows: list[list[NDArray]]
    vectors: list[list[NDArray]]
    total: float

    @property
    def dtype(self) -> Any:
        """In which the inverse is applied."""
        return np.float32 if self.total < SINGLE else np.float64

    @property
    def cost(self) -> float:
        """Multiply-adds of its factorizations and of the scalar products of rows."""
        p, sizes = self.base.shape[-1], [sum(map(len, levels)) for levels in self.rows]
        return sum(size**3 + 0.5 * size**2 * p for size in sizes) * (1.0 if self.dtype == np.float32 else 2.5)

    def divide(self, objective: Objective) -> Callable[[NDArray], NDArray]:
        """Multiplication by the inverse, of arrays in the shape of W."""
        inverses = [self._inverse(objective, k) for k in range(len(self.rows))]
        stacked = [(np.concatenate(rows), np.concatenate(v).T) for rows, v in zip(self.rows, self.vectors, strict=True)]
        (symv,) = get_blas_funcs(("symv",), dtype=self.dtype)
        base, products = self.base, objective.products
        if self.dtype == np.float32:
            products = products.in_single()

        def divide(x):
            scaled = x / base
            flat = scaled.reshape(-1, x.shape[-1])
            outputs = products.outputs(flat[:, :-1])
            outputs += flat[:, -1:].astype(outputs.dtype)
            outputs = outputs.reshape(*x.shape[:2], -1)
            back = np.zeros_like(outputs)
            for k, inverse in enumerate(inverses):
                if inverse.size:
                    self._through(symv, inverse, self.rows[k], *stacked[k], outputs[k], back[k])
            flat = back.reshape(-1, back.shape[-1])
            sums = flat.sum(axis=1) if objective.fit_intercept else np.zeros(len(flat))
            return scaled - np.column_stack([products.pull(flat), sums]).reshape(x.shape) / base

        return divide

    @staticmethod
    def _through(symv, inverse, levels, rows, vectors, outputs, back):
        """Back = A (I + UᵀΛ⁻¹U)⁻¹ Aᵀ outputs in the rows of a split, with the vectors √ω v as columns of A."""
        solved = vectors * symv(1.0, inverse, (outputs[:, rows] * vectors).sum(axis=0), lower=1)
        end = 0
        for level in levels:  # in which each row is once
            start, end = end, end + level.size
            back[:, level] += solved[:, start:end]

    def _inverse(self, objective, k):
        """(I + UᵀΛ⁻¹U)⁻¹ of a split, its lower triangle."""
        rows, vectors = np.concatenate(self.rows[k]), np.concatenate(self.vectors[k])
        scale = 1.0 / np.sqrt(self.base[k, 0])
        X = (objective.products.take(rows) * scale[:-1]).astype(self.dtype)
        T = X @ X.T
        if objective.fit_intercept:
            T += T.dtype.type(scale[-1] ** 2)
        T *= (vectors @ vectors.T).astype(self.dtype)
        if not T.size:
            return T
        T[np.diag_indices_from(T)] += 1.0 + 10 * np.finfo(T.dtype).eps * len(T) * T.diagonal().max()
        potrf, potri = get_lapack_funcs(("potrf", "potri"), dtype=self.dtype)
        factor, _ = potrf(T, lower=1, overwrite_a=1)
        return potri(factor, lower=1, overwrite_c=1)[0]


def strongest(objective: Objective, point: Point, W: NDArray) -> Directions | None:
    """Those that count beside the penalties; None if they are too many, the others count too, or the loss is another one."""
    if type(objective.loss) is not LogisticLoss:
        return None
    P, weights = point.predictions, objective.weights
    base = _base(objective, P, W)
    with np.errstate(over="ignore"):
        lengths = objective.products.square_outputs(1.0 / base[:, 0, :-1]) + objective.fit_intercept / base[:, :, -1]
    rows: list[list[NDArray]] = []
    vectors: list[list[NDArray]] = []
    totals, left = [], 0.0
    for p, weight, length in zip(P, weights, lengths, strict=True):
        rows.append([])
        vectors.append([])
        totals.append(0.0)
        for strength, v in _levels(p, weight):
            along = strength * length * np.einsum("ci,ci->i", v, v)
            chosen = np.flatnonzero(along > STRONG)
            rows[-1].append(chosen)
            vectors[-1].append((np.sqrt(strength[chosen]) * v[:, chosen]).T)
            totals[-1] += along[chosen].sum()
            left += along.sum() - along[chosen].sum()
        if sum(chosen.size for chosen in rows[-1]) > MOST or not np.isfinite(totals[-1]):
            return None
    if left > WEAK * sum(totals):
        return None
    excess = max(1.0, max(totals) / DOUBLE)
    return Directions(base * excess, rows, vectors, max(totals) / excess)


def _base(objective, P, W):
    """The penalties' curvature; where there is none, a part of that of the data, in the mean.

    Only a part, as features that sum up to the intercept leave the Hessian little beside the penalties along both together.
    """
    base = np.array(np.broadcast_to(objective.penalty_curvature(W), W.shape).mean(axis=1, keepdims=True))
    free = np.flatnonzero((base == 0).any(axis=(0, 1)))
    if free.size:
        curvature = np.einsum("ki,kci->i", objective.weights, P * (1 - P)) / P[..., 0].size
        base[..., free] += np.maximum(FREE * objective.products.column_squares(curvature, free), TINY)
    return base


def _levels(p, weight):
    """Of each level, ω (n_rows,) and v (n_outputs, n_rows)."""
    if p.shape[0] == 1:
        yield weight * p[0] * (1.0 - p[0]), np.ones_like(p)
        return
    rest, mass = p.copy(), weight.copy()  # of the classes that are left
    every = np.arange(p.shape[1])
    for _ in range(min(LEVELS, p.shape[0] - 1)):
        top = rest.argmax(axis=0)
        first = rest[top, every]
        rest[top, every] = 0.0
        left = rest.sum(axis=0)
        share = first / np.maximum(first + left, TINY)
        v = -rest / np.maximum(left, TINY)
        v[top, every] = 1.0
        yield mass * share * (1.0 - share), v
        mass = mass * (1.0 - share)
