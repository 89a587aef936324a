"""Intercept and unpenalized features in the dual solver: proximal points and their weights, Eq. (13)."""

import numpy as np

from sksid._compact import elementwise
from sksid.problem import Problem
from sksid.solvers._dual_state import SUM, TINY, DualState, or_zero

SAMPLE = 1024  # rows from which the first weights, and the least, are estimated
LARGEST = 0.5  # weight, as a share of the curvature along the intercept
FARTHEST = 10.0  # that an intercept is from its reference, in log odds
BEHIND, AHEAD = 0.05, 0.02  # what is left of the intercept, beside what is left of the rows
SLOW, SWING = 0.4, -0.2  # an imbalance's decrease in an epoch; the cosine between it and the one before


def least_weight(problem: Problem, log_penalties, dtype) -> float:
    """1 / the weighted mean over rows of Σ_j x_ij²/λ_j, from the first rows, which are a sample since rows are shuffled."""
    rows = problem.rows.span(0, min(SAMPLE, problem.n_rows))
    inverse = elementwise(lambda logs: np.where(np.isneginf(logs), 0.0, np.exp(-or_zero(logs))), np.asarray(log_penalties))
    inverse = inverse if inverse.ndim == 1 else inverse.mean(axis=0)
    weights = problem.roles.weights[: rows.n_rows]
    weights = weights / max(weights.sum(), TINY)
    here = slice(rows.indptr[0], rows.indptr[-1])
    with np.errstate(over="ignore"):
        entries = np.square(rows.values[here].astype(dtype, copy=False), dtype=np.float64)
    if rows.columns is None:
        entries.reshape(-1, rows.n_features)[...] *= inverse
    else:
        entries *= inverse[rows.columns[here]]
    mean = np.repeat(weights, np.diff(rows.indptr)) @ entries
    return 1.0 / max(float(mean), 1.0 / problem.n_rows)


def set_weights(problem: Problem, state: DualState, sums) -> None:
    """Set 1/μ of the intercept and of the unpenalized features from the curvature that a pass has summed up.

    Rows whose probabilities are 0 or 1 have next to none: the imbalance over μ, by which an intercept moves, is limited.
    """
    at, inverses, visited = state.used, state.inverses, sums[:, SUM["train_weight"]]
    curvature = sums[:, SUM["curvature"]] / np.maximum(visited, TINY)
    total = problem.train_totals.mean() * curvature.mean()
    farthest = np.abs(state.imbalance[0]).max(initial=0.0) / FARTHEST if problem.fit_intercept else 0.0
    weight = max(state.proximal_weight * total, state.least_proximal_weight, farthest)
    state.table[-1, inverses] = 1.0 / weight
    if state.unpenalized.size:
        before, vectors = state.table[state.unpenalized, at], state.table[state.unpenalized, :at]
        state.table[state.unpenalized, inverses] = 1.0 / (weight * _moments(problem, state))[:, None]
        ratio = (state.table[state.unpenalized, at] / before)[:, None]
        state.reference = vectors - (vectors - state.reference) * ratio


def adapt_weight(problem: Problem, state: DualState, usual: float) -> None:
    """Lower the proximal weight where the intercept holds up the rows, raise it where it swings or is ahead, Eq. (33).

    The angle between successive imbalances tells a swing. Imbalances at the level of rounding are ignored. ``usual`` is the
    weight that it is raised to where nothing swings.
    """
    now, before = imbalance_of(problem, state), state.last_imbalance
    state.last_imbalance = now
    total = problem.train_totals.mean()
    size, size_before = np.linalg.norm(now), np.linalg.norm(before if before is not None else 0.0)
    if min(size, size_before) <= 100 * np.finfo(state.dtype).eps * total:
        return
    cosine, weight = now @ before / (size * size_before), state.proximal_weight
    curvature, of_rows = _of_mean_row(state)
    with np.errstate(over="ignore"):
        share = np.abs(now).max() / max(curvature * total * of_rows, TINY)
    if cosine < SWING:
        state.proximal_weight = min(2.0 * weight, LARGEST)
    elif share < AHEAD:
        state.proximal_weight = max(min(2.0 * weight, usual), weight)
    elif share > BEHIND and size > SLOW * size_before and cosine > 0.5:
        state.proximal_weight = min(max(0.25 * weight, state.least_proximal_weight / (curvature * total)), weight)


def _of_mean_row(state):
    """D/(1 + q D), and how far a visit will move the outputs, |q (p − e_y − β)/(1 + q D)|, root mean squares."""
    sums, q = dict(zip(SUM, state.recent_sums.sum(axis=0), strict=True)), 1.0 / state.least_proximal_weight
    weight = max(sums["train_weight"], TINY)
    curvature = max(sums["curvature"] / weight, TINY)
    return curvature, np.sqrt(sums["lower_residual"] / weight) * q * max(1.0 - q * curvature, 0.1)


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
