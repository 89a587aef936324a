"""Callbacks for scikit-learn's own protocol (``sklearn.callback``), set with ``search.set_callbacks(...)``.

``sklearn.callback.ProgressBar`` and ``ScoringMonitor`` work on a search as they are.
"""

import time
from typing import Any


class TimeBudget:
    """End a search after so many seconds, and keep what it has found.

    The clock is looked at after each outer step. The step that is chosen is then solved to convergence and refitted as
    after any other search, which takes its own time; the first step is always done.

    Parameters
    ----------
    seconds : float
        From the beginning of ``fit``. An instance may be shared: every fit has a budget of its own.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from sksid import HypergradientSearchCV
    >>> from sksid.callbacks import TimeBudget
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> search = HypergradientSearchCV(LogisticRegression()).set_callbacks(TimeBudget(0.0)).fit(scale(X), y)
    >>> bool(search.score(scale(X), y) > -0.2)
    True
    """

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r} is no time. Give a number that is not negative.")
        self.seconds = seconds
        self._ends: dict[int, float] = {}

    def setup(self, estimator: Any, context: Any) -> None:
        """The clock of this fit starts."""
        self._ends[id(estimator)] = time.monotonic() + self.seconds

    def teardown(self, estimator: Any, context: Any) -> None:
        """The fit is over."""
        self._ends.pop(id(estimator), None)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to do."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._ends[id(estimator)]
