"""Approximate inverses of the lower levels' Hessians, kept over W and λ while they serve, Eqs. (17) and (34).

Each *kind* is nearer to the Hessian than the one before it, and dearer: its diagonal; XᵀD̄X + Λ with the mean curvature D̄ of
all splits and outputs; Λ and the strongest directions of rows; the whole Hessian at the splits' mean curvature; the whole
Hessian of each split. Which is built when is a ski rental: a dearer one once iterations have cost what building it does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack

from sksid._products import Products
from sksid.objective import Objective, Point
from sksid.solvers import _directions as directions

DIAGONAL, MEAN, ROWS, WHOLE, SPLITS = range(5)
USUAL = 4  # iterations of a solve that no better preconditioner would save
CREDIT = 12.0  # products that a first one may cost
LOOK = 3.0  # products after which the directions of rows are looked at first; then each time that twice as many are spent
MEMORY = 3e7  # numbers in all its matrices
CONDITION_IN_SINGLE = 1e5  # up to which the inverse of a matrix with a diagonal of 1 is applied in float32
ONE_INVERSE = 1000  # unknowns up to which the one whole Hessian of all splits is inverted
SMALL = 200  # unknowns up to which inverses are formed, which takes three times as long, and applied all at once
LIFTS = (1e-12, 1e-9, 1e-6, 1e-3)  # of a diagonal of 1, against rounding

# estimated nanoseconds of a multiply-add: in dense and in sparse products, in sparse ones of two classes, in a factorization in
# float64 and in float32; of an output's curvature; of a number that is read from memory; of the calls around a product
DENSE, SPARSE, ONE_PASS, FACTOR, SINGLE, CURVATURE, READ, CALL = 0.035, 1.0, 0.45, 0.05, 0.015, 1.5, 0.5, 1.5e5


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """One approximate inverse.

    Attributes
    ----------
    kind : int
    divide : callable
        M⁻¹ times an array in the shape of W.
    penalties : ndarray
        At which it was made.
    grams : ndarray, or None
        Its matrices without penalties, where they can be used again.
    """

    kind: int
    divide: Callable[[NDArray], NDArray]
    penalties: NDArray
    grams: Any = None


@dataclass(frozen=True)
class Costs:
    """What a product and the kinds of preconditioners cost, in estimated nanoseconds; a kind that cannot serve is not in it.

    Attributes
    ----------
    product : float
        One Hessian product of all splits.
    build, factorize : dict of int to float
        To make one at another W, and to make it from its ``grams`` at other penalties.
    """

    product: float
    build: dict[int, float]
    factorize: dict[int, float]


@dataclass(frozen=True)
class Spent:
    """What iterations have cost, in estimated nanoseconds, that a better preconditioner might have saved.

    Attributes
    ----------
    since_built : float
        Since the last one was made: pays for another one of its kind, at the W of the day.
    since_new : float
        Since one was made of a kind that there had not been: pays for a dearer kind.
    looked : float
        Of that, what was spent when the directions of rows were looked at last.
    """

    since_built: float = 0.0
    since_new: float = 0.0
    looked: float = 0.0

    def plus(self, cost: float) -> "Spent":
        """With what a solve has cost."""
        return replace(self, since_built=self.since_built + cost, since_new=self.since_new + cost)


def product_cost(rows: Any, n_splits: int, n_outputs: int) -> float:
    """Of the arithmetic of one Hessian product of all splits, in estimated nanoseconds."""
    n_vectors, add = n_splits * n_outputs, SPARSE if rows.is_sparse else DENSE
    if n_outputs == 1 and Products(rows, n_vectors).has_gram_products:
        return n_vectors * 2.0 * rows.n_entries * ONE_PASS
    return n_vectors * (2.0 * rows.n_entries * add + CURVATURE * rows.n_rows)


def direct_cost(rows: Any, n_splits: int, n_outputs: int) -> float:
    """To make and to factorize the best preconditioner there is, in estimated nanoseconds; infinite where it cannot serve."""
    unknowns, n_made = (rows.n_features + 1) * n_outputs, n_splits if n_outputs == 1 else 1
    if n_splits * unknowns**2 * READ > 3.0 * product_cost(rows, n_splits, n_outputs) or n_made * unknowns**2 > MEMORY:
        return np.inf
    products = Products(rows, n_splits * n_outputs)
    made = products.gram_cost(n_made) if n_outputs == 1 else products.softmax_cost(n_outputs)
    return made + n_made * unknowns**3 * FACTOR / 3.0


def costs_of(objective: Objective, max_direct: int) -> Costs:
    """Of every kind that fits the memory and whose use costs no more than a few products."""
    if not objective.at_hand:
        return Costs(1.0, {DIAGONAL: 1.0}, {})
    K, F, m = objective.n_outputs, objective.n_splits, objective.penalties.shape[-1]
    product = CALL + product_cost(objective.products.rows, F, K)
    third, unknowns, products = FACTOR / 3.0, K * m, objective.products
    build, factorize = {DIAGONAL: product}, {}
    if max_direct and 2 * m * m <= MEMORY and 2.0 * m * m * F * K * DENSE <= 3.0 * product:
        factorize[MEAN] = 3.0 * m**3 * third
        build[MEAN] = products.gram_cost(1) + factorize[MEAN]
    for kind, many in ((WHOLE, 1), (SPLITS, F)):
        use, numbers = F * unknowns**2 * READ, 2.0 * many * unknowns**2
        if unknowns <= max_direct and numbers <= MEMORY and use <= 3.0 * product and not (kind == WHOLE and K == 1):
            factorize[kind] = many * unknowns**3 * third
            grams = products.gram_cost(many) if K == 1 else many * objective.rows_hessian_cost
            build[kind] = grams + factorize[kind]
    return Costs(product, build, factorize)


def improve(
    now: Preconditioner | None, costs: Costs, objective: Objective, point: Point, W: NDArray, spent: Spent
) -> tuple[Preconditioner, Spent]:
    """The preconditioner to go on with, and what is spent from there."""
    if now is None:
        affordable = [kind for kind, cost in costs.build.items() if cost <= CREDIT * costs.product]
        return build(max(affordable, default=DIAGONAL), objective, point, W), Spent()
    dearer = [kind for kind, cost in costs.build.items() if kind > now.kind and cost <= spent.since_new]
    if dearer:
        return build(max(dearer), objective, point, W), Spent()
    paid = spent.since_built if now.kind == ROWS else spent.since_new
    if objective.at_hand and now.kind <= ROWS and paid > 2.0 * spent.looked + LOOK * costs.product:
        rows, spent = directions.strongest(objective, point, W), replace(spent, looked=paid)
        if rows is not None and rows.cost * SINGLE <= paid:
            return Preconditioner(ROWS, rows.divide(objective), objective.penalties), Spent()
    if costs.build.get(now.kind, np.inf) <= spent.since_built:
        return build(now.kind, objective, point, W), replace(spent, since_built=0.0)
    moved = now.grams is not None and not np.array_equal(now.penalties, objective.penalties)
    if moved and costs.factorize[now.kind] <= max(spent.since_built, 2.0 * costs.product):
        left = max(0.0, spent.since_built - costs.factorize[now.kind])
        return factorized(now.kind, now.grams, objective, W), replace(spent, since_built=left)
    return now, spent


def build(kind: int, objective: Objective, point: Point, W: NDArray) -> Preconditioner:
    """A preconditioner of that kind, at W."""
    if kind == DIAGONAL:
        diagonal = np.maximum(objective.hessian_diagonal(point, W), np.finfo(float).tiny ** 0.5)
        return Preconditioner(kind, lambda x: x / diagonal, objective.penalties)
    if kind == MEAN:
        K = objective.n_outputs
        curvatures = sum(objective.curvatures(point, c, c).mean(axis=0, keepdims=True) for c in range(K)) / K
        return factorized(kind, objective.gram(curvatures), objective, W)
    return factorized(kind, objective.rows_hessian(point, mean=kind == WHOLE), objective, W)


def factorized(kind: int, grams: NDArray, objective: Objective, W: NDArray) -> Preconditioner:
    """The same matrices at the objective's penalties."""
    own = np.broadcast_to(objective.penalty_curvature(W), W.shape)
    if kind == MEAN or kind == WHOLE and own[0].size <= ONE_INVERSE:
        mean = own.mean(axis=(0, 1))[None] if kind == MEAN else own.mean(axis=0)
        inverse = _inverse(_whole(grams[0], mean))
        return Preconditioner(kind, lambda x: inverse(x.reshape(-1, mean.size)).reshape(x.shape), objective.penalties, grams)
    own = own if kind == SPLITS else own.mean(axis=0, keepdims=True)
    matrices = (_whole(gram, part) for gram, part in zip(grams, own, strict=True))
    if own[0].size <= SMALL:
        multiply = _by_inverses(np.stack(list(matrices)))
    else:
        multiply = _by_factors([_cholesky(matrix) for matrix in matrices])

    def divide(x):
        return multiply(x.reshape(len(own), -1, own[0].size)).reshape(x.shape)

    return Preconditioner(kind, divide, objective.penalties, grams)


def _diagonal(H):
    """A view of the diagonals of matrices (…, m, m)."""
    return np.einsum("...jj->...j", H)


def _scaled(H):
    """What H, (…, m, m), is multiplied by from both sides to have a diagonal of 1; it is overwritten."""
    scale = 1.0 / np.sqrt(np.maximum(_diagonal(H), np.finfo(float).tiny ** 0.5))
    H *= scale[..., None]
    H *= scale[..., None, :]
    return scale


def _cholesky(H):
    """A lower factor of H, scaled to a diagonal of 1, the scale, and the norm of what is factorized; H is overwritten."""
    scale = _scaled(H)
    norm = float(np.abs(H).sum(axis=0).max())
    for lift in LIFTS:  # as much as rounding asks for
        _diagonal(H)[:] = 1.0 + lift
        factor, failed = lapack.dpotrf(H, lower=1)
        if not failed:
            break
    return factor, scale, norm


def _inverted(factor):
    """The inverse of the matrix that has this lower factor, which is overwritten."""
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse += np.tril(inverse, -1).T
    return inverse


def _inverse(H):
    """Multiplication of arrays (n, size) by H⁻¹, in float32 where that stays positive definite; H is overwritten."""
    factor, scale, norm = _cholesky(H)
    inverse = _inverted(factor)
    if norm * np.abs(inverse).sum(axis=0).max() < CONDITION_IN_SINGLE:
        inverse = inverse.astype(np.float32)
    return lambda x: ((x * scale).astype(inverse.dtype, copy=False) @ inverse) * scale


def _whole(gram, own):
    """Gram + diag(own), (n_outputs × (n_features + 1), the same)."""
    K, m = own.shape
    H = gram.copy()
    diagonal = _diagonal(H)
    diagonal += own.ravel()
    for feature in np.flatnonzero((own == 0).any(axis=0)) if K > 1 else ():
        at = feature + m * np.flatnonzero(own[:, feature] == 0)
        # one constant added to all of these outputs changes nothing: give it a curvature
        H[np.ix_(at, at)] += max(H[at, at].mean(), np.finfo(float).tiny)
    return H


def _by_inverses(H):
    """Multiplication of arrays (n, rows, size) by the inverse of each of n small matrices, in one call; H is overwritten."""
    scale = _scaled(H)
    for lift in LIFTS:
        _diagonal(H)[...] = 1.0 + lift
        try:
            factors = np.linalg.cholesky(H)
            break
        except np.linalg.LinAlgError:
            factors = np.broadcast_to(np.eye(H.shape[-1]), H.shape)
    roots = np.linalg.inv(factors)
    inverses = roots.swapaxes(1, 2) @ roots * scale[..., None] * scale[..., None, :]
    return lambda x: x @ inverses


def _by_factors(factors):
    """The same, matrix by matrix, from their factors."""

    def multiply(x):
        pairs = zip(factors, x, strict=True)
        return np.stack(
            [cho_solve((factor, True), (part * scale).T, check_finite=False).T * scale for (factor, scale, _), part in pairs]
        )

    return multiply
