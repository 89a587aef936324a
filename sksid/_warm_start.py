"""Where a second ``fit`` may start."""

import numpy as np

from sksid.descent import within_range
from sksid.problem import parts_of


def last_log_penalties(search, target, data):
    """The log penalties, (n_features,), of the last fit; None if there was none, it had other features, or none is asked for.

    Features that had no penalty, or are those of a split only, start in the middle of the others.
    """
    penalties = getattr(search, "penalties_", None) if search.warm_start else None
    if penalties is None or penalties.shape != (data.n_own,):
        return None
    bounded = np.isfinite(penalties) & (penalties > 0)
    if not bounded.any():
        return None
    logs = np.log(penalties[bounded]) - np.log(target.refit_scale(data.labels.size, data.n_train))
    start = data.start(logs.mean())
    start[: data.n_own][bounded] = logs
    return within_range(np.where(data.unpenalized, -np.inf, start))


def last_models(search, problem):
    """Where each split's lower level and adjoint ended, for ``Solver.init``; None if not known, or of other shapes."""
    models = getattr(search, "_split_models", None) if search.warm_start else None
    shapes = [(problem.n_outputs, part.n_features) for part in parts_of(problem) for _ in range(part.n_splits)]
    if models is None or [W.shape for W in models[0][0]] != shapes:
        return None
    return models
