"""mlflow's autologging: it gets the score that a search has found, and no run of the preprocessing of each split."""

import sys
from contextlib import AbstractContextManager, nullcontext

from sksid._warn import warn


def unlogged() -> AbstractContextManager:
    """A context without autologging, where mlflow is imported and logs; it changes nothing elsewhere.

    Examples
    --------
    >>> from sksid._autolog import unlogged
    >>> with unlogged():
    ...     pass
    """
    logging = _autologging()
    return nullcontext() if logging is None else logging.disable_autologging()


def log_score(score: float) -> None:
    """Log ``best_cv_score``, as of scikit-learn's searches, where mlflow logs these by itself and a run is active.

    What keeps mlflow from it is a warning: the search is done.

    Examples
    --------
    >>> from sksid._autolog import log_score
    >>> log_score(-0.1)
    """
    logging = _autologging()
    if logging is None or logging.autologging_is_disabled("sklearn"):
        return
    mlflow = sys.modules["mlflow"]
    if mlflow.active_run() is None:
        return
    try:
        mlflow.log_metric("best_cv_score", score)
    except (OSError, mlflow.MlflowException) as error:
        warn(f"mlflow has not logged best_cv_score: {error}")


def _autologging():
    """The module in which mlflow has it; None where mlflow is not imported, or kept from logging."""
    logging = sys.modules.get("mlflow.utils.autologging_utils")
    return None if logging is None or getattr(logging, "_AUTOLOGGING_GLOBALLY_DISABLED", False) else logging
