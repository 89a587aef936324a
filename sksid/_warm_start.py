"""Where a second ``fit`` may start."""

import numpy as np

from sksid.descent import LOG_PENALTY_RANGE


def last_log_penalties(search, target, data):
    """The log penalties, (n_features,), of the last fit; None if there was none, X had other features, or none is asked for.

    Penalties beyond all bounds, as of columns that are left unpenalised, start in the middle of the others.
    """
    penalties = getattr(search, "penalties_", None) if search.warm_start else None
    if penalties is None or penalties.shape != (data.X.shape[1],):
        return None
    bounded = np.isfinite(penalties) & (penalties > 0)
    if not bounded.any():
        return None
    logs = np.log(penalties, out=np.zeros(penalties.shape), where=bounded)
    logs -= np.log(target.refit_scale(data.labels.size, data.n_train))
    return np.clip(np.where(bounded, logs, logs[bounded].mean()), *LOG_PENALTY_RANGE)
