"""The final fit: on all rows, from the mean of the splits' models."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sksid import logistic, solvers
from sksid._data import Data
from sksid._solve import OF_ALL
from sksid.joint import parts_of
from sksid.rows import Rows
from sksid.solvers import Solver
from sksid.stages import Path

TOL = 1e-5  # of the fitted probabilities
MAX_EPOCHS = 400  # also of the solve that a reported score comes from


def final_fit(data: Data, solver: Solver, start: tuple, log_penalties: NDArray) -> tuple[NDArray, NDArray, float]:
    """Fit all rows at given penalties; warn if that does not converge.

    Parameters
    ----------
    data : Data
    solver : Solver
        Where it is not ``precise``, the one that ``solver="auto"`` stands for takes its place; where it stalls, ``Aid``. A
        ``Relay`` begins with its second solver where that suits a single fit.
    start : pair of ndarrays
        Where it begins: ``mean_model``.
    log_penalties : ndarray of shape (n_own,)
        In the scale of all rows.

    Returns
    -------
    coef : ndarray of shape (n_outputs, n_own), float64
    intercept : ndarray of shape (n_outputs,), float64
    n_epochs : float
    """
    problem = data.final_problem()
    alone = solvers.choose(problem)
    if isinstance(solver, solvers.Relay) and isinstance(alone, solvers.Aid):
        solver = solver.then
    solver = solver if solver.precise else alone
    in_memory = isinstance(problem.rows, Rows)
    solver = at_once(solvers.Relay(solver) if isinstance(solver, solvers.Dual) and in_memory else solver, TOL)
    solve = partial(logistic.fit, problem, solver, log_penalties, tol=TOL, max_epochs=MAX_EPOCHS, seed=data.seed)
    state, result = solve(start=(start,))
    if result.reason == "stalled":  # where the splits' models have led it; it may not from W = 0
        state, result = solve()
    logistic.warn_unless_converged(result, "The final fit")
    coef, intercept = solver.coefficients(problem, state)
    return coef[0], intercept[0], result.n_epochs


def at_once(solver: Solver, tol: float) -> Solver:
    """The solver where nothing is to be learned on the way: a deterministic one solves to the accuracy ``tol`` at once."""

    def change(one):
        return replace(one, first_tol=None, tol=max(one.tol, OF_ALL * tol)) if isinstance(one, solvers.Aid) else one

    return solvers.on_each(solver, change)


def mean_model(path: Path, data: Data) -> tuple[NDArray, NDArray]:
    """The splits' mean W, (1, n_outputs, n_own), and b, (1, n_outputs); a split adds 0 for features that it lacks."""
    problem, n_features = path.bilevel.problem, data.n_own
    models = solvers.each_split(path.bilevel.solver, problem, path.state)
    mean, intercepts = np.zeros((1, problem.n_outputs, n_features)), []
    for part, columns in zip(parts_of(problem), getattr(problem, "columns", (None,)), strict=True):
        columns, kept = _places(part, columns, n_features)
        for W, b in islice(models, part.n_splits):
            for total, own in zip(mean[0], W, strict=True):
                total[columns] += np.divide(own[kept], problem.n_splits, dtype=np.float64)
            intercepts.append(b)
    return mean, np.array(finite_intercepts(intercepts, data), dtype=np.float64).mean(axis=0, keepdims=True)


def finite_intercepts(intercepts: Sequence[NDArray], data: Data) -> list[NDArray]:
    """The splits' intercepts; those of classes without training rows, which have no end, as small as the least of the others.

    A fit to rows of these classes can start there.
    """
    absent = [data.samples.absent(k) for k in range(len(intercepts))]
    return [_finite(b, mask) if mask.any() else b for b, mask in zip(intercepts, absent, strict=True)]


def _finite(intercept, absent):
    return np.zeros_like(intercept) if intercept.size == 1 else np.where(absent, intercept[~absent].min(), intercept)


def _places(part, columns, n_features):
    """Where a part's features stand among the first ``n_features``, and which of them do; slices where all are in order."""
    if columns is None:
        kept = slice(min(part.n_features, n_features))
        return kept, kept
    kept = columns < n_features
    return columns[kept], kept
