"""mlflow's autologging, which would take each fit of a split's preprocessing for a run of its own."""

import sys
from contextlib import AbstractContextManager, nullcontext


def unlogged() -> AbstractContextManager:
    """A context without autologging, where mlflow is imported and logs; it changes nothing elsewhere.

    Examples
    --------
    >>> from sksid._autolog import unlogged
    >>> with unlogged():
    ...     pass
    """
    logging = sys.modules.get("mlflow.utils.autologging_utils")
    if logging is None or getattr(logging, "_AUTOLOGGING_GLOBALLY_DISABLED", False):
        return nullcontext()
    return logging.disable_autologging()
