"""What the tests compare with: scikit-learn's own solver run to convergence, and finite differences of the whole map."""

import numpy as np
import scipy.sparse as sp
from scipy.special import expit, logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from sksid.logistic import fit
from sksid.solvers import Aid, Together


def fit_reference(X, y, log_penalties, sample_weight=None, fit_intercept=True):
    """LogisticRegression with one penalty for each feature: at C = 1, on features multiplied by λ^(-1/2).

    Returns the fitted model and the features' factors.
    """
    factors = np.exp(-0.5 * np.broadcast_to(log_penalties, X.shape[1:]))
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=200, fit_intercept=fit_intercept)
    return model.fit(scale_columns(X, factors), y, sample_weight=sample_weight), factors


def scale_columns(X, factors):
    """Dense, whatever X is: on data as small as a test's, that is the faster."""
    return (X.toarray() if sp.issparse(X) else X) * factors


def split_losses(X, y, splits, log_penalties, sample_weight=None, fit_intercept=True):
    """The weighted mean validation log loss of every split, (n_splits,)."""
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    labels, losses = np.unique(y), []
    for train, val in splits:
        model, factors = fit_reference(X[train], y[train], log_penalties, weights[train], fit_intercept)
        proba = model.predict_proba(scale_columns(X[val], factors))
        losses.append(log_loss(y[val], proba, sample_weight=weights[val], labels=labels))
    return np.array(losses)


def solve_directly(problem, log_penalties):
    """W and b of one split by Newton steps to convergence, from zero."""
    solver = Aid(tol=1e-12, first_tol=None)
    coef, intercept = solver.coefficients(problem, solver.advance(problem, solver.init(problem, log_penalties)))
    return coef[0], intercept[0]


def fit_from_splits(solver, problem, splits, state, log_penalties, tol, max_epochs=1000):
    """A final fit from the splits' mean model: coef (n_outputs, n_features), intercept (n_outputs,), and how it ended."""
    coef, intercept = (np.mean(part, axis=0)[None] for part in solver.coefficients(splits, state))
    solver = solver.solver if isinstance(solver, Together) else solver
    start = ((coef, intercept),)
    state, result = fit(problem, solver, log_penalties, start=start, tol=tol, max_epochs=max_epochs)
    coef, intercept = solver.coefficients(problem, state)
    return coef[0], intercept[0], result


def central_differences(value, theta, step=1e-2):
    """∂value/∂θ by central differences, (n_params,): an error of order step²."""
    shifts = step * np.eye(len(theta))
    return np.array([(value(theta + shift) - value(theta - shift)) / (2 * step) for shift in shifts])


def relative_error(actual, desired):
    """The largest deviation, as a share of the largest entry."""
    return np.max(np.abs(actual - desired)) / np.max(np.abs(desired))


class Lower:
    """The lower level of one split, dense and in float64, in coordinates u_j = w_j √λ_j, where every penalty is 1.

    Coefficients U are (n_outputs, n_features + 1), the intercept last; there is one output for two classes.
    """

    def __init__(self, X, codes, weights, log_penalties, n_classes, fit_intercept=True):
        logs, self.n_outputs = np.asarray(log_penalties, dtype=float), 1 if n_classes == 2 else n_classes
        self.roots = np.exp(np.where(np.isfinite(logs), -0.5 * logs, 0.0))
        self.rows = np.column_stack([X * self.roots, np.full(len(X), float(fit_intercept))])
        self.penalized = np.append(np.isfinite(logs), False).astype(float)
        self.targets = np.eye(n_classes)[codes][:, -self.n_outputs :]
        self.weights = weights

    def coordinates(self, coef, intercept):
        return np.column_stack([coef / self.roots, np.broadcast_to(intercept, self.n_outputs)])

    def losses(self, U):
        """The log loss of every row."""
        Z = self.rows @ U.T
        whole = np.column_stack([np.zeros(len(Z)), Z]) if self.n_outputs == 1 else Z
        return logsumexp(whole, axis=1) - (Z * self.targets).sum(axis=1)

    def value(self, U):
        return self.weights @ self.losses(U) + 0.5 * (self.penalized * U**2).sum()

    def probabilities(self, U):
        """Of the second of two classes, (n_rows, 1), else of each."""
        Z = self.rows @ U.T
        return expit(Z) if self.n_outputs == 1 else softmax(Z, axis=1)

    def solution(self, n_steps=300):
        """U by damped Newton steps, from zero."""
        U, m = np.zeros((self.n_outputs, self.rows.shape[1])), self.rows.shape[1]
        damping = 0.0
        for _ in range(n_steps):
            P = self.probabilities(U)
            gradient = (self.weights[:, None] * (P - self.targets)).T @ self.rows + self.penalized * U
            curved = self.weights[:, None, None] * (
                np.einsum("ia,ab->iab", P, np.eye(self.n_outputs)) - P[:, :, None] * P[:, None]
            )
            hessian = np.einsum("iab,ij,il->ajbl", curved, self.rows, self.rows, optimize=True).reshape(U.size, U.size)
            hessian += np.diag(np.tile(self.penalized + damping, self.n_outputs))
            units = np.sqrt(np.diag(hessian)) + np.finfo(float).tiny
            step = np.linalg.lstsq(hessian / units / units[:, None], gradient.ravel() / units, rcond=1e-15)[0] / units
            step = step.reshape(-1, m)
            before, size = self.value(U), 1.0
            while not self.value(U - size * step) <= before and size > 1e-12:
                size /= 2
            U = U - size * step if size > 1e-12 else U
            if abs((gradient * step).sum()) <= 1e-13 * (1e-30 + before):
                break
            damping = 0.0 if size == 1.0 else max(1e-10, 10 * damping) if size < 0.1 else damping
        return U
