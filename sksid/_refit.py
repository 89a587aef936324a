"""The final fit: on all rows, from the mean of the splits' models."""

import numpy as np
from numpy.typing import NDArray

from sksid import sid, solvers
from sksid._data import Data
from sksid.joint import parts_of
from sksid.solvers import Solver
from sksid.stages import Path

TOL = 2e-5  # of the fitted probabilities
MAX_EPOCHS = 400  # also of the solve that a reported score comes from


def final_fit(data: Data, solver: Solver, path: Path, log_penalties: NDArray) -> tuple[NDArray, NDArray, float]:
    """Fit all rows at given penalties; warn if that does not converge.

    Parameters
    ----------
    data : Data
    solver : Solver
        Where it is not ``precise``, the one that ``solver="auto"`` stands for takes its place.
    path : Path
        Whose splits' models are a start.
    log_penalties : ndarray of shape (n_own,)
        In the scale of all rows.

    Returns
    -------
    coef : ndarray of shape (n_outputs, n_own), float64
    intercept : ndarray of shape (n_outputs,), float64
    n_epochs : float
    """
    problem = data.final_problem()
    solver = solver if solver.precise else solvers.choose(problem)
    start = (mean_model(path, problem.n_features),)
    state, result = sid.fit(problem, solver, log_penalties, start=start, tol=TOL, max_epochs=MAX_EPOCHS, seed=data.seed)
    sid.warn_unless_converged(result, "The final fit")
    coef, intercept = solver.coefficients(problem, state)
    return coef[0], intercept[0], result.n_epochs


def mean_model(path: Path, n_features: int) -> tuple[NDArray, NDArray]:
    """The splits' mean W, (1, n_outputs, n_features), and b, (1, n_outputs); a split adds 0 for features that it lacks."""
    problem = path.bilevel.problem
    coef, intercept = path.bilevel.solver.coefficients(problem, path.state)
    mean, first = np.zeros((1, problem.n_outputs, n_features)), 0
    for part, columns in zip(parts_of(problem), getattr(problem, "columns", (None,)), strict=True):
        columns = np.arange(part.n_features) if columns is None else columns
        kept = columns < n_features
        total = np.sum(coef[first : first + part.n_splits], axis=0)
        mean[0][:, columns[kept]] += total[:, kept] / problem.n_splits
        first += part.n_splits
    return mean, np.mean(intercept, axis=0)[None]
