"""Preconditioned conjugate gradient for the systems of all splits at once, with an estimate of what is left, Eq. (17)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

REDUCE = 1e-4  # of the error at most: the rest is for another run, from an accurate residual
DIVERGED = 1e8  # growth of a residual's square


@dataclass(frozen=True, eq=False)
class Solution:
    """What ``conjugate_gradient`` returns.

    Attributes
    ----------
    x : ndarray of shape (n_splits, …)
    errors : ndarray of shape (n_splits,)
        The estimated error ‖x − x*‖_H of each split; infinite where H or M has turned out not to be positive definite.
    least : ndarray of shape (n_splits,)
        The smallest eigenvalue of M⁻¹H that has been seen, at most 1.
    n_iter : int
    """

    x: NDArray
    errors: NDArray
    least: NDArray
    n_iter: int


@np.errstate(over="ignore", invalid="ignore")  # what overflows ends the iteration as diverged
def conjugate_gradient(
    multiply: Callable[[NDArray], NDArray],
    divide: Callable[[NDArray], NDArray],
    right: NDArray,
    tol: NDArray,
    least: NDArray,
    max_iter: int,
    min_iter: int = 0,
) -> Solution:
    """H x = right in every split, from x = 0, until the error ‖x − x*‖_H of each is at most its ``tol``.

    A residual r leaves the error (rᵀH⁻¹r)^½ ≤ (rᵀM⁻¹r/θ)^½ with θ the smallest eigenvalue of M⁻¹H, for which the smallest Ritz
    value of the iteration stands. A split that is done waits for the others.

    Parameters
    ----------
    multiply, divide : callable
        H and M⁻¹, on arrays of the shape of ``right``, of which the first axis is the splits.
    right : ndarray of shape (n_splits, …)
    tol, least : ndarray of shape (n_splits,)
        ``least`` is θ as it is known from before.
    max_iter, min_iter : int
    """
    x, r = np.zeros_like(right), right.copy()
    z = divide(r)
    rho, direction = _inner(r, z), z
    tol = np.maximum(tol, REDUCE * np.sqrt(np.maximum(rho, 0.0) / least))
    alphas: list[NDArray] = []
    betas: list[NDArray] = []
    n_iter, first = 0, np.maximum(rho, least * np.square(tol))  # below that, residuals are rounding, and may grow
    while True:
        if not ((rho >= 0) & (rho <= DIVERGED * first)).all():  # H or M is not positive definite: rounding
            return Solution(np.zeros_like(x), np.full(rho.shape, np.inf), least, n_iter)
        allowed = np.square(tol) if n_iter >= min_iter else np.zeros_like(tol)
        waiting = rho > least * allowed
        if not waiting.any() and alphas:  # all seem to be done: look at their Ritz values
            least = np.minimum(least, _smallest_ritz(np.array(alphas), np.array(betas)))
            waiting = rho > least * allowed
        if not waiting.any() or n_iter == max_iter:
            return Solution(x, np.sqrt(rho / least), least, n_iter)
        product = multiply(direction)
        curvature = _inner(direction, product)
        alpha = np.divide(rho, curvature, out=np.zeros_like(rho), where=waiting & (curvature > 0))
        if not alpha.any():
            return Solution(x, np.sqrt(rho / least), least, n_iter)
        x += _each(alpha, x) * direction
        r -= _each(alpha, x) * product
        z = divide(r)
        before, rho = rho, np.where(alpha > 0, _inner(r, z), rho)
        beta = np.divide(rho, before, out=np.zeros_like(rho), where=(alpha > 0) & (before > 0))
        direction = z + _each(beta, x) * direction
        alphas.append(alpha)
        betas.append(beta)
        n_iter += 1


def _inner(a, b):
    return np.einsum("ki,ki->k", a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1))


def _each(scalars, like):
    return scalars.reshape(-1, *(1,) * (like.ndim - 1))


def _smallest_ritz(alphas, betas):
    """Of every split, from the coefficients of its iteration, arrays (n_iter, n_splits); 1 where there is none."""
    smallest = np.ones(alphas.shape[1])
    if len(alphas) == 1:
        return np.clip(np.divide(1.0, alphas[0], out=smallest, where=alphas[0] > 0), 1e-12, 1.0)
    for split, (alpha, beta) in enumerate(zip(alphas.T, betas.T, strict=True)):
        n = int(np.argmin(alpha > 0)) if not alpha.all() else alpha.size  # those before the split was done
        if n == 0:
            continue
        alpha, beta = alpha[:n], beta[:n]
        diagonal = 1.0 / alpha
        diagonal[1:] += beta[:-1] / alpha[:-1]
        beside = np.sqrt(beta[:-1]) / alpha[:-1]
        smallest[split] = lapack.dsterf(diagonal, beside)[0][0] if n > 1 else diagonal[0]
    return np.clip(smallest, 1e-12, 1.0)
