"""Intercept and unpenalized features in the dual solver: proximal points and their weights, Eq. (13)."""

import numpy as np

from sksid.problem import Problem
from sksid.solvers._dual_state import SUM, TINY, DualState, or_zero

SAMPLE = 1024  # rows from which the first weights, and the least, are estimated
RANGE = (0.005, 0.5)  # of the weight, as a share of the curvature along the intercept


def least_weight(problem: Problem, log_penalties, dtype) -> float:
    """1 / the weighted mean over rows of Σ_j x_ij²/λ_j, from the first rows, which are a sample since rows are shuffled."""
    rows = problem.rows.span(0, min(SAMPLE, problem.n_rows))
    inverse = np.where(np.isneginf(log_penalties), 0.0, np.exp(-or_zero(log_penalties)))
    weights = problem.roles.weights[: rows.n_rows]
    weights = weights / max(weights.sum(), TINY)
    here = slice(rows.indptr[0], rows.indptr[-1])
    with np.errstate(over="ignore"):
        entries = np.square(rows.values[here].astype(dtype, copy=False), dtype=np.float64)
    columns = np.tile(np.arange(rows.n_features), rows.n_rows) if rows.columns is None else rows.columns[here]
    mean = np.repeat(weights, np.diff(rows.indptr)) @ (entries * inverse[columns])
    return 1.0 / max(float(mean), 1.0 / problem.n_rows)


def set_weights(problem: Problem, state: DualState, sums) -> None:
    """Set 1/μ of the intercept and of the unpenalized features from the curvature that a pass has summed up."""
    at, visited = state.used, sums[:, SUM["train_weight"]]
    curvature = sums[:, SUM["curvature"]] / np.maximum(visited, TINY)
    total = problem.train_totals.mean() * curvature.mean()
    weight = max(state.proximal_weight * total, state.least_proximal_weight)
    state.table[-1, at] = 1.0 / weight
    if state.unpenalized.size:
        before, vectors = state.table[state.unpenalized, at], state.table[state.unpenalized, :at]
        state.table[state.unpenalized, at] = 1.0 / (weight * _moments(problem, state))
        ratio = (state.table[state.unpenalized, at] / before)[:, None]
        state.reference = vectors - (vectors - state.reference) * ratio


def adapt_weight(problem: Problem, state: DualState) -> None:
    """Halve the proximal weight where the imbalance falls slowly, double it where it changes sign, Eq. (13).

    The angle between successive imbalances decides. Imbalances at the level of rounding are ignored.
    """
    now, before = imbalance_of(problem, state), state.last_imbalance
    state.last_imbalance = now
    floor = 100 * np.finfo(state.dtype).eps * problem.train_totals.mean()
    if before is None or min(np.linalg.norm(now), np.linalg.norm(before)) <= floor:
        return
    ratio = np.linalg.norm(now) / np.linalg.norm(before)
    cosine = now @ before / (np.linalg.norm(now) * np.linalg.norm(before))
    if cosine > 0.5 and ratio > 0.4:
        state.proximal_weight = max(0.5 * state.proximal_weight, RANGE[0])
    elif cosine < -0.2:
        state.proximal_weight = min(2.0 * state.proximal_weight, RANGE[1])


def imbalance_of(problem: Problem, state: DualState):
    """Σ s β of the intercepts, if there are any, and Σ s x_j β of the unpenalized features, at unit second moments."""
    n_vectors = state.imbalance.shape[1]
    intercept = state.imbalance[0] if problem.fit_intercept else np.zeros(n_vectors)
    if not state.unpenalized.size:
        return intercept.copy()
    moved = (state.reference - state.table[state.unpenalized, : state.used])[:, :n_vectors].astype(np.float64)
    scale = state.table[state.unpenalized, state.used] * np.sqrt(_moments(problem, state))
    return np.append(intercept, moved / scale[:, None])


def _moments(problem, state):
    return np.maximum(problem.second_moments[state.unpenalized], TINY**0.5)
