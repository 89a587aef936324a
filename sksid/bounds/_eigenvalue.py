"""Training rows as weights, and a bound on the largest eigenvalue of their weighted second moments."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh_tridiagonal

from sksid.problem import TRAIN, Problem

LANCZOS_STEPS = 64
LANCZOS_FAILURE = 1e-9  # chance, over the start vector, that the result is not a bound
EXHAUSTED = 1e-12  # a new Lanczos direction that is shorter than this, for a matrix of trace 1, ends the iteration


def training(problem: Problem, split: int) -> tuple[NDArray, NDArray, int]:
    """s_i/S of the training rows and 0 of others, (n_rows,); ‖x_i‖², (n_rows,); n."""
    share = problem.roles.train_weights(split) / problem.train_totals[split]
    return share, squared_norms(problem), int(np.count_nonzero(problem.roles.role[:, split] == TRAIN))


def squared_norms(problem: Problem) -> NDArray:
    """‖x_i‖², (n_rows,), with 1 for an intercept's constant feature."""
    if not np.isfinite(problem.rows.squared_norms).all():
        raise ValueError("The squares of the features overflow. Scale the features (StandardScaler, MaxAbsScaler).")
    return problem.rows.squared_norms + problem.fit_intercept


def largest_eigenvalue(problem: Problem, weights: NDArray) -> float:
    """A bound from above on the largest eigenvalue of Σ_i weights_i x_i x_iᵀ, x_i with a 1 for an intercept."""
    trace = float(weights @ squared_norms(problem))
    if trace == 0.0:
        return 0.0
    rows, root = problem.rows, np.sqrt(weights / trace)
    n_rows, n_features = problem.n_rows, problem.n_features

    def right(u):
        return root * (rows.outputs(u[:n_features].astype(rows.dtype)) + u[n_features:].sum())

    def left(u):
        u = root * u
        return np.append(rows.pull(u.astype(rows.dtype)), [u.sum()] * problem.fit_intercept)

    if n_rows <= n_features:
        return trace * min(1.0, _lanczos(lambda u: right(left(u)), n_rows))
    return trace * min(1.0, _lanczos(lambda u: left(right(u)), n_features + problem.fit_intercept))


def _lanczos(product, size):
    """A bound from above on the largest eigenvalue of a positive semi-definite matrix of that size and of trace 1.

    The largest Ritz value θ of k steps from a uniformly random direction falls short of (1 − ε) times the eigenvalue only if
    the start's share in the eigenvector is at most 1/cosh((2k − 1) artanh √ε) (take the Chebyshev polynomial of the second
    kind of degree 2k − 2 in √x), which has a chance of at most √(2·size/π) times that. So θ/(1 − ε) is returned, and θ
    itself where the space is exhausted.
    """
    basis, diagonal, beside = np.zeros((min(LANCZOS_STEPS, size), size)), [], []
    new = np.random.default_rng(0).standard_normal(size)
    for step in range(len(basis)):
        basis[step] = new / np.linalg.norm(new)
        new = product(basis[step])
        diagonal.append(basis[step] @ new)
        for _ in range(2):
            new = new - (basis[: step + 1] @ new) @ basis[: step + 1]
        beside.append(np.linalg.norm(new))
        if beside[-1] < EXHAUSTED:
            break
    ritz = float(eigvalsh_tridiagonal(diagonal, beside[:-1])[-1])
    if beside[-1] < EXHAUSTED or step + 1 == size:
        return ritz
    angle = np.arccosh(np.sqrt(2.0 * size / np.pi) / LANCZOS_FAILURE) / (2 * step + 1)
    return ritz / (1.0 - float(np.tanh(angle)) ** 2)
