"""The two levels' objective as objects: a loss of rows, a penalty of coefficients, and their sum over some rows.

All Python formulas of the logistic loss and the L2 penalty are here; the kernels have their own form of them in ``_kernels``.
Another loss or penalty is another class with these methods.

Shapes: outputs Z are (n_rows, n_outputs), with n_outputs = 1 for two classes (the second is positive), else the number of
classes. Coefficients W are (n_features + 1, n_outputs): their last row is the intercept.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

Array = NDArray[np.floating]


class Loss(Protocol):
    """A twice differentiable convex loss of each row's outputs."""

    def values(self, outputs: Array, labels: NDArray) -> Array:
        """ℓ(y_i, z_i) of each row, (n_rows,)."""

    def predictions(self, outputs: Array) -> Array:
        """The predictions from which gradient and curvature are computed, (n_rows, n_outputs): once for each Z."""

    def gradient(self, predictions: Array, targets: Array) -> Array:
        """∂ℓ/∂z of each row, (n_rows, n_outputs)."""

    def targets(self, labels: NDArray, n_outputs: int) -> Array:
        """The labels in the form that ``gradient`` takes, (n_rows, n_outputs)."""

    def hessian_product(self, predictions: Array, directions: Array) -> Array:
        """∂²ℓ/∂z² times a direction for each row, (n_rows, n_outputs)."""

    def curvature(self, predictions: Array, first: int, second: int) -> Array:
        """∂²ℓ/∂z_first ∂z_second of each row, (n_rows,)."""

    def bounds(self, n_outputs: int) -> tuple[float, float, float]:
        """The largest ‖∂ℓ/∂z‖², curvature and third derivative in z, for ``sksid.bounds``; infinite where there is none."""


class Penalty(Protocol):
    """A penalty Σ_j λ_j Σ_c r(W_jc) with r twice differentiable. Arrays are (n_features, n_outputs), λ broadcasts to them."""

    def value(self, W: Array, penalties: Array) -> float:
        """Σ λ_j r(W_jc)."""

    def gradient(self, W: Array, penalties: Array) -> Array:
        """λ_j r'(W_jc)."""

    def curvature(self, W: Array, penalties: Array) -> Array:
        """λ_j r''(W_jc): the diagonal of the Hessian, which has nothing beside it."""

    def inner(self, W: Array, V: Array) -> Array:
        """Σ r'(W_jc) V_jc over splits and outputs, (n_features,), of arrays (n_splits, n_features, n_outputs)."""


@dataclass(frozen=True)
class LogisticLoss:
    """The log loss: ℓ(y, z) = log Σ_c exp(z_c) − z_y, or log(1 + exp(∓z)) with one output.

    Examples
    --------
    >>> import numpy as np
    >>> loss = LogisticLoss()
    >>> loss.values(np.array([[0.0], [2.0]]), np.array([0, 1])).round(4)
    array([0.6931, 0.1269])
    >>> loss.predictions(np.zeros((1, 3))).round(4)
    array([[0.3333, 0.3333, 0.3333]])
    """

    def values(self, outputs: Array, labels: NDArray) -> Array:
        """ℓ(y_i, z_i) of each row, (n_rows,), float64."""
        outputs = outputs.astype(np.float64, copy=False)
        if outputs.shape[1] == 1:
            return np.logaddexp(0.0, np.where(labels == 1, -outputs[:, 0], outputs[:, 0]))
        top = outputs.max(axis=1)
        return top + np.log(np.exp(outputs - top[:, None]).sum(axis=1)) - outputs[np.arange(labels.size), labels]

    def predictions(self, outputs: Array) -> Array:
        """Probabilities: of the second class, (n_rows, 1), where there are two; else of every class, (n_rows, n_classes)."""
        return expit(outputs) if outputs.shape[1] == 1 else softmax(outputs, axis=1)

    def targets(self, labels: NDArray, n_outputs: int) -> Array:
        """What the probabilities ought to be: whether the row is of that class, (n_rows, n_outputs), float64."""
        classes = np.arange(n_outputs) if n_outputs > 1 else np.ones(1)
        return (labels[:, None] == classes).astype(np.float64)

    def gradient(self, predictions: Array, targets: Array) -> Array:
        """P − e_y, (n_rows, n_outputs)."""
        return predictions - targets

    def hessian_product(self, predictions: Array, directions: Array) -> Array:
        """(diag p − p pᵀ) t of each row, (n_rows, n_outputs); p(1 − p) t with one output."""
        P, T = predictions, directions
        return P * (1 - P) * T if P.shape[1] == 1 else P * (T - (P * T).sum(axis=1, keepdims=True))

    def curvature(self, predictions: Array, first: int, second: int) -> Array:
        """p_first ((first = second) − p_second) of each row, (n_rows,)."""
        return predictions[:, first] * ((first == second) - predictions[:, second])

    def bounds(self, n_outputs: int) -> tuple[float, float, float]:
        """The largest ‖∂ℓ/∂z‖², curvature and third derivative in z: (1, ¼, 1/(6√3)); more classes (2, ½, √2/(3√3))."""
        third = 1.0 / (6.0 * 3.0**0.5)
        return (1.0, 0.25, third) if n_outputs == 1 else (2.0, 0.5, 2.0**1.5 * third)


@dataclass(frozen=True)
class L2Penalty:
    """½ Σ_j λ_j ‖W_j‖².

    Examples
    --------
    >>> import numpy as np
    >>> L2Penalty().value(np.array([[1.0], [2.0]]), penalties=np.array([[1.0], [0.5]]))
    1.5
    """

    def value(self, W: Array, penalties: Array) -> float:
        """½ Σ λ_j W_jc²."""
        return float(0.5 * (penalties * W**2).sum())

    def gradient(self, W: Array, penalties: Array) -> Array:
        """λ_j W_jc."""
        return penalties * W

    def curvature(self, W: Array, penalties: Array) -> Array:
        """λ_j, in the shape of ``penalties``: it does not depend on W."""
        return penalties

    def inner(self, W: Array, V: Array) -> Array:
        """Σ W_jc V_jc over splits and outputs, (n_features,), float64."""
        return np.einsum("kjc,kjc->j", W, V, dtype=np.float64)


def log_gradient(log_penalties: Array, inner: Array, n_splits: int) -> Array:
    """∂F/∂log λ_j = −λ_j/n_splits · inner_j, Eq. (4): F is a mean over splits, ``inner`` a sum.

    Parameters
    ----------
    log_penalties : ndarray of shape (n_features,)
    inner : ndarray of shape (n_features,)
        ``Penalty.inner`` of all splits' W and V: ⟨W_j, V_j⟩ for the L2 penalty.
    n_splits : int

    Examples
    --------
    >>> import numpy as np
    >>> log_gradient(np.log([1.0, 2.0]), np.array([3.0, 5.0]), n_splits=5).round(6)
    array([-0.6, -2. ])
    """
    return -np.exp(log_penalties) / n_splits * inner


@dataclass(frozen=True)
class Point:
    """The rows at one W: their outputs, their predictions (of ``Loss.predictions``) and their losses."""

    outputs: Array
    predictions: Array
    losses: Array


@dataclass(frozen=True, eq=False)
class Objective:
    """Σ s_i ℓ(y_i, x_iᵀW + b) + Σ_j λ_j r(W_j) over some rows: a *sum*, Eq. (1).

    Attributes
    ----------
    rows : Rows or RowBlocks
        float64.
    labels : ndarray of shape (n_rows,), int
    targets : ndarray of shape (n_rows, n_outputs)
        ``loss.targets(labels, n_outputs)``.
    weights : ndarray of shape (n_rows,)
    penalties : ndarray of shape (n_features + 1, 1)
        λ_j; zero for the intercept.
    fit_intercept : bool
    loss : Loss
    penalty : Penalty
    """

    rows: Any
    labels: NDArray
    targets: Array
    weights: Array
    penalties: Array
    fit_intercept: bool
    loss: Loss
    penalty: Penalty

    @property
    def n_outputs(self) -> int:
        return self.targets.shape[1]

    def outputs(self, W: Array) -> Array:
        """X W + b, (n_rows, n_outputs)."""
        return self.rows.outputs(W[:-1]) + W[-1]

    def at(self, W: Array) -> Point:
        """The rows' losses and predictions at W."""
        return self.point(self.outputs(W))

    def point(self, outputs: Array) -> Point:
        """The same, where the outputs are known."""
        return Point(outputs, self.loss.predictions(outputs), self.loss.values(outputs, self.labels))

    def pull(self, R: Array) -> Array:
        """Xᵀ R, the intercept's row below."""
        last = R.sum(axis=0) if self.fit_intercept else np.zeros(self.n_outputs)
        return np.vstack([self.rows.pull(R), last])

    def value(self, point: Point, W: Array) -> float:
        return float(self.weights @ point.losses + self.penalty.value(W, self.penalties))

    def gradient(self, point: Point, W: Array) -> Array:
        """∂/∂W, (n_features + 1, n_outputs)."""
        slopes = self.weights[:, None] * self.loss.gradient(point.predictions, self.targets)
        return self.pull(slopes) + self.penalty.gradient(W, self.penalties)

    def hessian_product(self, point: Point, W: Array, U: Array) -> Array:
        """The Hessian at W times U, (n_features + 1, n_outputs)."""
        bent = self.weights[:, None] * self.loss.hessian_product(point.predictions, self.outputs(U))
        return self.pull(bent) + self.penalty_curvature(W) * U

    def penalty_curvature(self, W: Array) -> Array:
        """The penalty's part of the Hessian's diagonal; without an intercept, 1 in its row, which holds it at zero."""
        curvature = np.array(self.penalty.curvature(W, self.penalties), dtype=np.float64)
        if not self.fit_intercept:
            curvature[-1] += 1.0
        return curvature

    def hessian_diagonal(self, point: Point, W: Array) -> Array:
        """(n_features + 1, n_outputs)."""
        curvatures = [self.loss.curvature(point.predictions, c, c) for c in range(self.n_outputs)]
        D = self.weights[:, None] * np.column_stack(curvatures)
        return np.vstack([self.rows.pull_squares(D), D.sum(axis=0)]) + self.penalty_curvature(W)

    def hessian(self, point: Point, W: Array) -> Array:
        """(n_outputs (n_features + 1)) squared, one block for each pair of outputs."""
        K, m = self.n_outputs, self.penalties.shape[0]
        blocks = np.zeros((K, m, K, m))
        for c in range(K):
            for d in range(c, K):
                blocks[c, :, d] = self._gram(self.weights * self.loss.curvature(point.predictions, c, d))
                blocks[d, :, c] = blocks[c, :, d].T
        H = blocks.reshape(K * m, K * m)
        own = np.broadcast_to(self.penalty_curvature(W), (m, K))
        H[np.diag_indices_from(H)] += own.T.ravel()
        return H

    def _gram(self, curvature: Array) -> Array:
        """[X 1]ᵀ diag(curvature) [X 1], without the last row and column if there is no intercept."""
        block, sums = self.rows.gram(curvature)
        gram = np.zeros((block.shape[0] + 1,) * 2)
        gram[:-1, :-1] = block
        if self.fit_intercept:
            gram[-1, :-1] = gram[:-1, -1] = sums
            gram[-1, -1] = curvature.sum()
        return gram
