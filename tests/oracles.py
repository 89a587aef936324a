"""What the tests compare with: scikit-learn's own solver run to convergence, and finite differences of the whole map."""

import numpy as np
import scipy.sparse as sp
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
