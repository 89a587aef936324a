"""The two levels' objectives as objects: a loss of rows, a penalty of coefficients, their sum over some rows in every split.

The logistic loss of rows is computed by a kernel, ``_kernels/_loss_block.h``; the L2 penalty's formulas are here.
Another loss or penalty is another class with these methods.

Shapes: outputs Z are (…, n_outputs, n_rows), with n_outputs = 1 for two classes (the second is positive), else the number of
classes. Coefficients W are (n_splits, n_outputs, n_features + 1): the last of each vector is the intercept. Rows come last, so
that sums over outputs run over long vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sksid._compact import elementwise
from sksid._kernels import _loss as kernels
from sksid._products import Products

Array = NDArray[np.floating]


class Loss(Protocol):
    """A twice differentiable convex loss of each row's outputs."""

    def values(self, outputs: Array, labels: NDArray) -> Array:
        """ℓ(y_i, z_i) of each row, (…, n_rows), of outputs (…, n_outputs, n_rows) and labels that broadcast to (…, n_rows)."""

    def predictions(self, outputs: Array) -> Array:
        """The predictions from which gradient and curvature are computed, in the shape of the outputs: once for each Z."""

    def gradient(self, predictions: Array, labels: NDArray) -> Array:
        """∂ℓ/∂z of each row, in the shape of the predictions, for labels that broadcast to (…, n_rows)."""

    def hessian_product(self, predictions: Array, directions: Array) -> Array:
        """∂²ℓ/∂z² times a direction for each row, in the shape of the predictions."""

    def curvature(self, predictions: Array, first: int, second: int) -> Array:
        """∂²ℓ/∂z_first ∂z_second of each row, (…, n_rows)."""

    def bounds(self, n_outputs: int) -> tuple[float, float, float]:
        """The largest ‖∂ℓ/∂z‖², curvature and third derivative in z, for ``sksid.bounds``; infinite where there is none."""


class Penalty(Protocol):
    """A penalty Σ_j λ_j Σ_c r(W_jc), r convex and twice differentiable, on arrays (…, n_features), to which λ broadcasts."""

    def value(self, W: Array, penalties: Array) -> Array:
        """λ_j r(W_jc) of every coefficient."""

    def gradient(self, W: Array, penalties: Array) -> Array:
        """λ_j r'(W_jc)."""

    def curvature(self, W: Array, penalties: Array) -> Array:
        """λ_j r''(W_jc): the diagonal of the Hessian, which has nothing beside it; in a shape that broadcasts to that of W."""

    def inner(self, W: Array, V: Array) -> Array:
        """r'(W_jc) V_jc of every coefficient."""


@dataclass(frozen=True)
class LogisticLoss:
    """The log loss: ℓ(y, z) = log Σ_c exp(z_c) − z_y, or log(1 + exp(∓z)) with one output.

    Examples
    --------
    >>> import numpy as np
    >>> loss = LogisticLoss()
    >>> loss.values(np.array([[0.0, 2.0]]), np.array([0, 1])).round(4)
    array([0.6931, 0.1269])
    >>> loss.predictions(np.zeros((3, 1))).round(4).ravel()
    array([0.3333, 0.3333, 0.3333])
    """

    def values(self, outputs: Array, labels: NDArray) -> Array:
        """ℓ(y_i, z_i) of each row, (…, n_rows), float64."""
        Z = _by_split(outputs, np.float64)
        return kernels.values(Z, _labels_of(labels)).reshape(outputs.shape[:-2] + outputs.shape[-1:])

    def predictions(self, outputs: Array) -> Array:
        """Probabilities: of the second class where there are two; else of every class."""
        return kernels.predictions(_by_split(outputs)).reshape(outputs.shape)

    def gradient(self, predictions: Array, labels: NDArray) -> Array:
        """P − e_y; with several outputs, that of the row's own class is summed from the others, exact where it is nearly 0."""
        return kernels.slopes(_by_split(predictions), _labels_of(labels)).reshape(predictions.shape)

    def hessian_product(self, predictions: Array, directions: Array) -> Array:
        """(diag p − p pᵀ) t of each row; p(1 − p) t with one output."""
        P = _by_split(predictions)
        return kernels.curved(P, _by_split(directions, P.dtype)).reshape(predictions.shape)

    def curvature(self, predictions: Array, first: int, second: int) -> Array:
        """p_first ((first = second) − p_second) of each row, (…, n_rows)."""
        return predictions[..., first, :] * ((first == second) - predictions[..., second, :])

    def bounds(self, n_outputs: int) -> tuple[float, float, float]:
        """The largest ‖∂ℓ/∂z‖², curvature and third derivative in z: (1, ¼, 1/(6√3)); more classes (2, ½, √2/(3√3))."""
        third = 1.0 / (6.0 * 3.0**0.5)
        return (1.0, 0.25, third) if n_outputs == 1 else (2.0, 0.5, 2.0**1.5 * third)


def _by_split(array, dtype=None):
    """(…, n_outputs, n_rows) as the kernels take it: (n_splits, n_outputs, n_rows), a row beside the next."""
    array = _beside(array, array.dtype if dtype is None else dtype)
    return array if array.ndim == 3 else array.reshape(-1, *array.shape[-2:])


def _labels_of(labels):
    """Labels that broadcast to (…, n_rows) as the kernels take them: (n_splits or 1, n_rows)."""
    return _beside(np.atleast_2d(labels), np.int32)


def _beside(array, dtype):
    """The array in that type, its last axis without gaps; itself where it is so already."""
    if array.strides[-1] == array.itemsize:
        return array.astype(dtype, copy=False)
    return np.ascontiguousarray(array, dtype=dtype)


@dataclass(frozen=True)
class L2Penalty:
    """½ Σ_j λ_j ‖W_j‖².

    Examples
    --------
    >>> import numpy as np
    >>> L2Penalty().value(np.array([1.0, 2.0]), penalties=np.array([1.0, 0.5]))
    array([0.5, 1. ])
    """

    def value(self, W: Array, penalties: Array) -> Array:
        """½ λ_j W_jc² of every coefficient."""
        return 0.5 * penalties * W**2

    def gradient(self, W: Array, penalties: Array) -> Array:
        """λ_j W_jc."""
        return penalties * W

    def curvature(self, W: Array, penalties: Array) -> Array:
        """λ_j, in the shape of ``penalties``: it does not depend on W."""
        return penalties

    def inner(self, W: Array, V: Array) -> Array:
        """W_jc V_jc of every coefficient."""
        return W * V


def log_gradient(log_penalties: Array, inner: Array, n_splits: int, out: Array | None = None) -> Array:
    """∂F/∂log λ_j = −λ_j/n_splits · inner_j, Eq. (4): F is a mean over splits, ``inner`` a sum.

    Parameters
    ----------
    log_penalties : ndarray of shape (n_features,) or (n_splits, n_features)
    inner : ndarray of that shape
        ``Penalty.inner`` of all splits' W and V, summed: ⟨W_j, V_j⟩ for the L2 penalty.
    n_splits : int
    out : ndarray of that shape, default=None
        Where the result is written: ``inner`` itself, for instance.

    Examples
    --------
    >>> import numpy as np
    >>> log_gradient(np.log([1.0, 2.0]), np.array([3.0, 5.0]), n_splits=5).round(6)
    array([-0.6, -2. ])
    """
    return np.multiply(elementwise(lambda logs: np.exp(logs) * (-1.0 / n_splits), log_penalties), inner, out=out)


@dataclass(frozen=True)
class Point:
    """The rows at one W: their outputs Z, (n_splits, n_outputs, n_rows), and their predictions (``Loss.predictions``)."""

    outputs: Array
    predictions: Array


@dataclass(frozen=True, eq=False)
class Objective:
    """Σ s_i ℓ(y_i, x_iᵀW + b) + Σ_j λ_j r(W_j) in every split: a *sum* over some rows, Eq. (1).

    Attributes
    ----------
    products : Products
        With the rows, for n_splits × n_outputs vectors.
    labels : ndarray of shape (1, n_rows) or (n_splits, n_rows), int
    weights : ndarray of shape (n_splits, n_rows)
        Zero for rows that are not counted.
    penalties : ndarray of shape (1, 1, n_features + 1) or (n_splits, 1, n_features + 1)
        λ_j; zero for the intercept.
    n_outputs : int
    fit_intercept : bool
    loss : Loss
    penalty : Penalty
    held : ndarray of bool, (n_splits, n_outputs), default=None
        The outputs that a solver holds where they are, because their class has no rows.
    """

    products: Products
    labels: NDArray
    weights: Array
    penalties: Array
    n_outputs: int
    fit_intercept: bool
    loss: Loss
    penalty: Penalty
    held: NDArray | None = None

    at_hand = True  # whether rows can be taken one by one

    @property
    def n_splits(self) -> int:
        return self.weights.shape[0]

    def in_single(self) -> "Objective":
        """The same in float32 where that is faster, for products that need not be accurate."""
        products = self.products.in_single()
        return self if products is self.products else replace(self, products=products, weights=self.weights.astype(np.float32))

    def outputs(self, W: Array) -> Array:
        """X W + b, (n_splits, n_outputs, n_rows)."""
        flat = W.reshape(-1, W.shape[-1])
        Z = self.products.outputs(flat[:, :-1])
        Z += flat[:, -1:]
        return Z.reshape(self.n_splits, self.n_outputs, -1)

    def at(self, W: Array) -> Point:
        """The rows' outputs and predictions at W."""
        return self.point(self.outputs(W))

    def point(self, outputs: Array) -> Point:
        """The same, where the outputs are known."""
        return Point(outputs, self.products.by_rows(self.loss.predictions, outputs.shape, outputs))

    def losses(self, outputs: Array) -> Array:
        """The weighted sum of the rows' losses in each split, (n_splits,)."""
        values = self.products.by_rows(self.loss.values, self.weights.shape, outputs, self.labels)
        return np.einsum("ki,ki->k", self.weights, values)

    def values(self, outputs: Array, W: Array) -> Array:
        """Of each split, (n_splits,)."""
        return self.losses(outputs) + self.penalty.value(W, self.penalties).sum(axis=(1, 2))

    def gradient(self, point: Point, W: Array) -> Array:
        """∂/∂W, in the shape of W."""
        return self.rows_gradient(point) + self.penalty.gradient(W, self.penalties)

    def rows_gradient(self, point: Point) -> Array:
        """The rows' part of it."""
        P = point.predictions
        return self.pull(self.products.by_rows(self._slopes, P.shape, P, self.labels, self.weights))

    def _slopes(self, predictions, labels, weights):
        slopes = self.loss.gradient(predictions, labels)
        slopes *= weights[:, None]
        return slopes

    def pull(self, R: Array) -> Array:
        """Xᵀ R of (n_splits, n_outputs, n_rows), and its sums in the intercept's place."""
        flat = R.reshape(-1, R.shape[-1])
        return self._with_intercept(self.products.pull(flat), flat.sum(axis=1))

    def hessian_product(self, point: Point, W: Array, U: Array) -> Array:
        """The Hessian at W times U, in the shape of W."""
        return self.hessian_operator(point, W)(U)

    def hessian_operator(self, point: Point, W: Array) -> Callable[[Array], Array]:
        """The same as a function of U, for many of them: what does not depend on U is computed once."""
        penalties = self.penalty_curvature(W)
        if self.n_outputs == 1 and self.products.has_gram_products:
            rows = partial(self._by_gram, self.curvatures(point, 0, 0))
        else:
            rows = partial(self._by_outputs, point.predictions)
        return lambda U: rows(U) + penalties * U

    def _by_gram(self, curvatures, U):
        U = U[:, 0] if self.fit_intercept else np.column_stack([U[:, 0, :-1], np.zeros(len(U))])
        found = self.products.gram_products(curvatures, np.ascontiguousarray(U, dtype=np.float64))[:, None]
        if not self.fit_intercept:
            found[..., -1] = 0.0
        return found

    def _by_outputs(self, predictions, U):
        shape, flat = (self.n_splits, self.n_outputs, -1), U.reshape(-1, U.shape[-1])
        return self._with_intercept(*self.products.curved(flat[:, :-1], partial(self._bend, predictions, flat[:, -1:], shape)))

    def _bend(self, predictions, intercept, shape, outputs, where):
        outputs += intercept.astype(outputs.dtype, copy=False)
        bent = self.loss.hessian_product(predictions[..., where], outputs.reshape(shape))
        bent *= self.weights[:, None, where]
        return bent.reshape(outputs.shape)

    def _with_intercept(self, pulled, sums):
        stacked = np.column_stack([pulled, sums if self.fit_intercept else np.zeros_like(sums)])
        return stacked.reshape(self.n_splits, self.n_outputs, -1)

    def penalty_curvature(self, W: Array) -> Array:
        """The penalty's part of the Hessian's diagonal; 1 where there is none and a coefficient is held.

        That is the intercept where there is none, and what has no penalty in the outputs that are held.
        """
        curvature = np.array(self.penalty.curvature(W, self.penalties), dtype=np.float64)
        if not self.fit_intercept:
            curvature[..., -1] += 1.0
        return curvature if self.held is None else np.where(self.held[..., None] & (curvature == 0), 1.0, curvature)

    def curvatures(self, point: Point, first: int, second: int) -> Array:
        """The weighted ∂²ℓ/∂z_first ∂z_second of every row, (n_splits, n_rows)."""
        return self.weights * self.loss.curvature(point.predictions, first, second)

    def hessian_diagonal(self, point: Point, W: Array) -> Array:
        """In the shape of W."""
        D = np.stack([self.curvatures(point, c, c) for c in range(self.n_outputs)], axis=1)
        flat = D.reshape(-1, D.shape[-1])
        return self._with_intercept(self.products.pull_squares(flat), flat.sum(axis=1)) + self.penalty_curvature(W)

    def hessian(self, point: Point, W: Array) -> Array:
        """(n_splits, m, m) with m = n_outputs (n_features + 1): of each split, a block for each pair of outputs."""
        H = self.rows_hessian(point)
        diagonal = np.arange(H.shape[1])
        H[:, diagonal, diagonal] += np.broadcast_to(self.penalty_curvature(W), W.shape).reshape(self.n_splits, -1)
        return H

    def rows_hessian(self, point: Point, mean: bool = False) -> Array:
        """The rows' part of it, (n_splits, m, m); or one that stands for all splits, (1, m, m)."""
        if self.n_outputs == 1 and not mean:
            return self.gram(self.curvatures(point, 0, 0))
        if not self._is_softmax:
            return self._of_pairs(self._pair_curvatures(point, mean))
        P, weights = point.predictions, self.weights
        if mean:  # at the mean probabilities
            total = np.maximum(weights.sum(axis=0), np.finfo(float).tiny)
            P, weights = np.einsum("ki,kci->ci", weights, P)[None] / total, total[None] / self.n_splits
        return np.stack([self._of_softmax(p, w) for p, w in zip(P, weights, strict=True)])

    @property
    def rows_hessian_cost(self) -> float:
        """Of one split, in estimated nanoseconds."""
        softmax = type(self.loss) is LogisticLoss and self.n_outputs > 1
        return self.products.softmax_cost(self.n_outputs) if softmax else self.products.gram_cost(len(self._pairs))

    @property
    def _is_softmax(self):
        """Whether the curvature diag p − p pᵀ of each row is one square, but for the blocks on the diagonal, and that pays."""
        if type(self.loss) is not LogisticLoss or self.n_outputs == 1:
            return False
        own = self.products.square_cost(self.n_outputs) + self.products.gram_cost(self.n_outputs)
        return own < self.products.gram_cost(len(self._pairs))

    def _of_softmax(self, P, weights):
        K, size = self.n_outputs, self.penalties.shape[-1]
        H = self.products.square(np.sqrt(weights) * P).reshape(K, size, K, size)
        np.negative(H, out=H)
        if not self.fit_intercept:
            H[:, -1] = H[:, :, :, -1] = 0.0
        for c, gram in enumerate(self.gram(np.stack([weights * self.loss.curvature(P, c, c) for c in range(K)]))):
            H[c, :, c] = gram
        return H.reshape(K * size, K * size)

    @property
    def _pairs(self):
        """The pairs of outputs, the first not behind the second."""
        return [(c, d) for c in range(self.n_outputs) for d in range(c, self.n_outputs)]

    def _pair_curvatures(self, point, mean):
        """The weighted curvatures of every pair of outputs, (n_splits, n_pairs, n_rows); or their mean over the splits."""
        n_splits, n_rows = self.weights.shape
        found = np.empty((1 if mean else n_splits, len(self._pairs), n_rows))
        for k, (c, d) in enumerate(self._pairs):
            own = self.curvatures(point, c, d)
            found[:, k] = own.mean(axis=0, keepdims=True) if mean else own
        return found

    def _of_pairs(self, curvatures):
        """XᵀDX of all outputs, (n, m, m), for curvatures (n, n_pairs, n_rows) of every pair."""
        K, size = self.n_outputs, self.penalties.shape[-1]
        grams = np.empty((len(curvatures), K, size, K, size))
        for whole, of_pairs in zip(grams, curvatures, strict=True):
            for (c, d), gram in zip(self._pairs, self.gram(of_pairs), strict=True):
                whole[c, :, d] = whole[d, :, c] = gram
        return grams.reshape(len(curvatures), K * size, K * size)

    def gram(self, curvatures: Array) -> Array:
        """[X 1]ᵀ diag(c) [X 1] of each row c of ``curvatures``; without intercept, zeros in its row and column."""
        grams = self.products.gram(curvatures)
        if not self.fit_intercept:
            grams[:, -1] = grams[:, :, -1] = 0.0
        return grams
