"""Approximate implicit differentiation, deterministic: Newton for the lower level, then the adjoint system.

Both systems are solved by conjugate gradient (HOAG: Pedregosa, ICML 2016). Its preconditioner is a Cholesky factor of the
Hessian where that is small, kept over W and λ for as long as it serves; elsewhere the Hessian's diagonal.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg
from threadpoolctl import threadpool_limits

from sksid.losses import probabilities, row_losses, targets
from sksid.problem import TRAIN, VALIDATION
from sksid.solvers._base import check_finite, is_count, is_positive, mean_model, require

MAX_HALVINGS = 40
DENSE_FROM = 0.1  # share of non-zeros from which BLAS on all entries beats sparse products
SUFFICIENT_DECREASE = 1e-4


@dataclass
class AidState:
    """Where the deterministic solver stands.

    ``coef`` and ``adjoint`` are (n_splits, n_features + 1, n_outputs): the last row is the intercept, zero without one.
    ``levels`` holds the training and the validation rows of each split, with penalties of zero, ``factors`` its latest
    Cholesky factor, or None; ``tol`` is the accuracy of the next solves.
    """

    coef: np.ndarray
    adjoint: np.ndarray
    losses: np.ndarray
    residuals: np.ndarray
    log_penalties: np.ndarray
    levels: list
    factors: list
    tol: float
    n_epochs: float = 0.0


@dataclass(frozen=True)
class Aid:
    """The deterministic solver's settings.

    Parameters
    ----------
    with_adjoint : bool, default=True
        Whether the adjoint system is solved along; not for a refit.
    max_direct : int, default=1000
        Unknowns (n_features + 1) × n_outputs up to which a Hessian is formed and factorised.
    tol : float, default=1e-8
        Accuracy of every solve: the largest entry of the lower level's gradient per unit of weight, and the relative
        residual of the adjoint system.
    first_tol, tightening : float, default=None and 0.3
        HOAG's decreasing accuracy: the first solve is to ``first_tol``, each further one ``tightening`` times as accurate, down
        to ``tol``. Summable, so that an outer descent converges (Pedregosa 2016, Theorem 2). None is ``tol`` throughout.
    max_newton : int, default=50
        Newton steps in one epoch at most.
    cg_max_iter : int, default=1000
        Longest run of conjugate gradient.
    refactor_after : int, default=12
        Iterations of conjugate gradient after which a factor has served its time.
    """

    with_adjoint: bool = True
    max_direct: int = 1000
    tol: float = 1e-8
    first_tol: float | None = None
    tightening: float = 0.3
    max_newton: int = 50
    cg_max_iter: int = 1000
    refactor_after: int = 12

    def __post_init__(self):
        require(self, lambda x: isinstance(x, bool), "Set True or False.", "with_adjoint")
        require(self, lambda x: is_count(x, least=0), "Set a whole number of unknowns; 0 forms no Hessian.", "max_direct")
        require(self, is_positive, "Set a positive number.", "tol")
        remedy = f"Set at least tol, {self.tol}, or None for tol throughout."
        require(self, lambda x: x is None or is_positive(x) and x >= self.tol, remedy, "first_tol")
        require(self, lambda x: is_positive(x) and x < 1, "Set a number between 0 and 1.", "tightening")
        require(self, is_count, "Set a whole number, at least 1.", "max_newton", "cg_max_iter", "refactor_after")

    @property
    def exact(self):
        """An epoch ends with both solves converged, unless they are to become so by and by."""
        return self.first_tol is None

    def init(self, problem, log_penalties, seed=0, start=None):
        """W = 0, V = 0, or at ``start``. Nothing is random: ``seed`` has no effect."""
        coef, adjoint = np.zeros((2, problem.n_splits, problem.n_features + 1, problem.n_outputs))
        if start is not None:
            coef, adjoint = (_stack_intercept(*side) for side in start)
        return AidState(
            coef=coef,
            adjoint=adjoint,
            losses=np.full(problem.n_splits, np.nan),
            residuals=np.full(problem.n_splits, np.inf),
            log_penalties=np.array(log_penalties, dtype=np.float64),
            levels=[(_level(problem, k, TRAIN), _level(problem, k, VALIDATION)) for k in range(problem.n_splits)],
            factors=[None] * problem.n_splits,
            tol=self.tol if self.exact else self.first_tol,
        )

    def advance(self, problem, state, n_epochs=1.0):
        """Solve both systems of every split; any ``n_epochs`` is one epoch."""
        with threadpool_limits(limits=1, user_api="blas"):
            for split in range(problem.n_splits):
                self._advance_split(state, split)
        state.n_epochs += 1.0
        state.tol = max(self.tol, self.tightening * state.tol)
        check_finite(state.coef, "aid")
        check_finite(state.adjoint, "aid")
        return state

    def _advance_split(self, state, split):
        lower, upper = state.levels[split]
        level = replace(lower, penalties=np.append(np.exp(state.log_penalties), 0.0)[:, None])
        W, scale = state.coef[split], 1.0 / max(level.weights.sum(), np.finfo(float).tiny)
        for _ in range(self.max_newton):
            point = level.at(W)
            gradient = level.gradient(point, W)
            state.residuals[split] = np.abs(gradient).max(initial=0.0) * scale
            if state.residuals[split] <= state.tol:
                break
            step = self._solve(state, split, level, point, -gradient, np.zeros_like(W), rtol=1e-3)
            W = level.line_search(point, W, step)
        state.coef[split] = W
        if self.with_adjoint:
            seen = upper.at(W)
            state.losses[split] = upper.weights @ seen.losses
            right = upper.gradient(seen, W)
            state.adjoint[split] = self._solve(state, split, level, point, right, state.adjoint[split], rtol=state.tol)

    def _solve(self, state, split, level, point, right, start, rtol):
        """H x = right, from ``start``, to a residual of rtol × |right|."""
        if state.factors[split] is None and right.size <= self.max_direct:
            state.factors[split] = level.factorise(point)
        precondition = state.factors[split] or level.diagonal_inverse(point)
        n_iterations = 0

        def count(_):
            nonlocal n_iterations
            n_iterations += 1

        size = (right.size, right.size)
        product = LinearOperator(size, lambda x: level.hessian_product(point, x.reshape(right.shape)).ravel(), dtype=float)
        inverse = LinearOperator(size, lambda x: precondition(x.reshape(right.shape)).ravel(), dtype=float)
        atol = rtol * np.linalg.norm(right)
        x, _ = cg(
            product, right.ravel(), start.ravel(), rtol=0.0, atol=atol, maxiter=self.cg_max_iter, M=inverse, callback=count
        )
        if n_iterations > self.refactor_after:
            state.factors[split] = None
        return x.reshape(right.shape)

    def rescale(self, problem, state, log_penalties):
        """Keep W and V as the next start."""
        state.log_penalties = np.array(log_penalties, dtype=np.float64)
        return state

    def convert(self, problem, state):
        """Nothing to do: the state is float64 whatever the problem is."""
        return state

    def reported(self, problem, log_penalties):
        """The problem itself: nothing here is in float32."""
        return problem

    def refit(self, problem, split_problem, state, log_penalties, tol, max_epochs, columns=None):
        """One fit on all rows, without an adjoint, from the splits' mean W."""
        start = mean_model(*self.coefficients(split_problem, state), columns, problem.n_features)
        return self.refit_from(problem, start, log_penalties, tol)

    def refit_from(self, problem, start, log_penalties, tol):
        """What ``refit`` returns, from W (1, n_outputs, n_features) and b (1, n_outputs)."""
        solver = replace(self, with_adjoint=False, first_tol=None)
        own = solver.init(problem, log_penalties)
        own.coef = _stack_intercept(*start)
        own = solver.advance(problem, own)
        coef, intercept = solver.coefficients(problem, own)
        return coef[0], intercept[0], own.n_epochs, solver.residual(problem, own) <= tol

    def losses(self, problem, state):
        """The validation loss of each split at W."""
        return state.losses.copy()

    def losses_on(self, problem, state, rows):
        """The weighted mean loss of each split's model on other rows, a Problem of their own with one validation role."""
        levels = [_level(rows, k, VALIDATION) for k in range(rows.n_splits)]
        return np.array([level.weights @ level.at(state.coef[k]).losses for k, level in enumerate(levels)])

    def log_gradient(self, problem, state):
        """−λ_j/n_splits Σ ⟨W_j, V_j⟩ over the splits."""
        inner = np.einsum("kjc,kjc->j", state.coef[:, :-1], state.adjoint[:, :-1])
        return -np.exp(state.log_penalties) / problem.n_splits * inner

    def recent_changes(self, problem, state):
        """Nothing: an epoch is a whole solve."""
        return []

    def residual(self, problem, state):
        """The largest entry of the lower levels' gradients, per unit of weight."""
        return float(state.residuals.max())

    def coefficients(self, problem, state):
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs)."""
        return _split_intercept(state.coef)

    def adjoint(self, problem, state):
        """V and v in the same shapes."""
        return _split_intercept(state.adjoint)


def _stack_intercept(coef, intercept):
    return np.concatenate([np.transpose(coef, (0, 2, 1)), np.asarray(intercept)[:, None]], axis=1, dtype=np.float64)


def _split_intercept(stacked):
    return np.ascontiguousarray(stacked[:, :-1].transpose(0, 2, 1)), stacked[:, -1].copy()


def _level(problem, split, role):
    """The loss of one role's rows in a split, with penalties of zero."""
    rows = np.flatnonzero(problem.roles[:, split] == role)
    weights = problem.train_weights(split) if role == TRAIN else problem.val_weights(split)
    labels = problem.labels[rows]
    X = problem.matrix[rows].astype(np.float64, copy=False)
    if problem.columns is not None and X.nnz >= DENSE_FROM * X.shape[0] * X.shape[1]:
        X = X.toarray()
    return _Level(
        X=X,
        labels=labels,
        targets=targets(labels, problem.n_outputs),
        weights=weights[rows].astype(np.float64),
        penalties=np.zeros((problem.n_features + 1, 1)),
        n_outputs=problem.n_outputs,
        fit_intercept=problem.fit_intercept,
    )


@dataclass(frozen=True)
class _Point:
    """The loss at one W: outputs, probabilities, and the loss of every row."""

    outputs: np.ndarray
    probabilities: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True, eq=False)
class _Level:
    """Σ s_i ℓ(y_i, x_iᵀW + b) + ½ Σ λ_j ‖W_j‖² over some rows; W is (n_features + 1, n_outputs), b its last row."""

    X: object
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    penalties: np.ndarray
    n_outputs: int
    fit_intercept: bool

    def outputs(self, W):
        return self.X @ W[:-1] + W[-1]

    def at(self, W):
        return self._point(self.outputs(W))

    def _point(self, Z):
        return _Point(Z, probabilities(Z), row_losses(Z, self.labels))

    def pull(self, R):
        """Xᵀ R, the intercept's row below."""
        last = R.sum(axis=0) if self.fit_intercept else np.zeros(self.n_outputs)
        return np.vstack([self.X.T @ R, last])

    def gradient(self, point, W):
        return self.pull(self.weights[:, None] * (point.probabilities - self.targets)) + self.penalties * W

    def hessian_product(self, point, U):
        P, T = point.probabilities, self.outputs(U)
        DT = P * (1 - P) * T if self.n_outputs == 1 else P * (T - (P * T).sum(axis=1, keepdims=True))
        return self.pull(self.weights[:, None] * DT) + self._curvature_beside_loss() * U

    def _curvature_beside_loss(self):
        """Penalties; where there is no intercept, 1 in its row, which holds it at zero."""
        extra = np.zeros_like(self.penalties)
        extra[-1] = 0.0 if self.fit_intercept else 1.0
        return self.penalties + extra

    def diagonal_inverse(self, point):
        """Division by the Hessian's diagonal."""
        P = point.probabilities
        squares = self.X * self.X
        D = self.weights[:, None] * P * (1 - P)
        diagonal = np.vstack([squares.T @ D, D.sum(axis=0)]) + self._curvature_beside_loss()
        diagonal = np.maximum(diagonal, np.finfo(float).tiny ** 0.5)
        return lambda x: x / diagonal

    def factorise(self, point):
        """Multiplication by the Hessian's inverse, by Cholesky; class by class, as its blocks stand."""
        H = self._hessian(point)
        scale = 1.0 / np.sqrt(np.maximum(np.diag(H), np.finfo(float).tiny))
        scaled = H * scale[:, None] * scale
        scaled[np.diag_indices_from(scaled)] += 1e-12
        factor = cho_factor(scaled, overwrite_a=True, check_finite=False)

        def solve(x):
            y = scale * cho_solve(factor, scale * x.T.ravel(), check_finite=False)
            return y.reshape(x.T.shape).T

        return solve

    def _hessian(self, point):
        """(n_outputs (n_features + 1)) squared, one block for each pair of classes."""
        P, K, m = point.probabilities, self.n_outputs, self.penalties.shape[0]
        H = np.zeros((K, m, K, m))
        for c in range(K):
            for d in range(c, K):
                curvature = self.weights * (P[:, c] * ((c == d) - P[:, d]))
                H[c, :, d] = self._gram(curvature)
                H[d, :, c] = H[c, :, d].T
        H = H.reshape(K * m, K * m)
        H[np.diag_indices_from(H)] += np.tile(self._curvature_beside_loss()[:, 0], K)
        if K > 1:
            # a constant added to a row without penalty, in all classes, changes nothing: give that direction some curvature
            for row in np.flatnonzero(self._curvature_beside_loss()[:, 0] == 0):
                classes = np.arange(row, K * m, m)
                own = self.weights.sum() / K**2 if row == m - 1 else H[classes, classes].mean()
                H[np.ix_(classes, classes)] += own
        return H

    def _gram(self, curvature):
        """[X 1]ᵀ diag(curvature) [X 1], without the last row and column if there is no intercept."""
        weighted = self.X * curvature[:, None]
        weighted = weighted.tocsr() if sp.issparse(weighted) else weighted
        block = weighted.T @ self.X
        block = block.toarray() if sp.issparse(block) else block
        gram = np.zeros((block.shape[0] + 1,) * 2)
        gram[:-1, :-1] = block
        if self.fit_intercept:
            gram[-1, :-1] = gram[:-1, -1] = np.asarray(weighted.sum(axis=0)).ravel()
            gram[-1, -1] = curvature.sum()
        return gram

    def line_search(self, point, W, step):
        """W + t step with t halved until the objective has sufficiently decreased."""
        value, slope = self._objective(point, W), float((self.gradient(point, W) * step).sum())
        along, t = self.outputs(step), 1.0
        for _ in range(MAX_HALVINGS):
            trial = self._objective(self._point(point.outputs + t * along), W + t * step)
            if trial <= value + SUFFICIENT_DECREASE * t * slope + 1e-12 * abs(value):
                return W + t * step
            t *= 0.5
        return W

    def _objective(self, point, W):
        return float(self.weights @ point.losses + 0.5 * (self.penalties * W**2).sum())
