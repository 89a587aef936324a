"""What a search reports of its steps: scores of the splits' models, and the rows of ``cv_results_``."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed

from sksid import _estimators
from sksid._sklearn import check_method_params


@dataclass(frozen=True, eq=False)
class SplitScorer:
    """Scores the model of every split on its validation rows with scikit-learn's scorers.

    Attributes
    ----------
    estimator : estimator
        The search's, unfitted.
    scorers : callable
        A scorer, or scikit-learn's multimetric one.
    X, y : array-like
        As they were given to ``fit``.
    splits : list of (train, validation)
    classes, feature_names : ndarray, and ndarray or None
    score_params : dict
        Of the scorer; arrays of n_samples are indexed.
    n_jobs : int or None
        Threads.
    """

    estimator: object
    scorers: object
    X: object
    y: object
    splits: list
    classes: np.ndarray
    feature_names: np.ndarray | None
    score_params: dict
    n_jobs: int | None

    def __call__(self, coef, intercept):
        """One score (a number, or a dict of numbers) for each split."""
        return Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(self._score_split)(coef[k], intercept[k], train.size, val) for k, (train, val) in enumerate(self.splits)
        )

    def _score_split(self, coef, intercept, n_train, val):
        model = _estimators.build(self.estimator, {}, coef, intercept, self.classes, 1, n_train, self.feature_names)
        params = check_method_params(self.X, params=self.score_params, indices=val)
        return self.scorers(model, _safe_indexing(self.X, val), _safe_indexing(self.y, val), **params)


def result_rows(steps, target, n_train):
    """The candidates' params, their outcomes and further columns, as BaseSearchCV._format_results takes them.

    Where steps were not scored, the score of a split is minus its validation loss.
    """
    params = [target.parameters(step.log_penalties, n_train) for step in steps]
    outcomes = [
        {"fit_time": step.seconds / step.losses.size, "score_time": 0.0, "test_scores": score}
        for step in steps
        for score in (step.scores if step.scores is not None else -step.losses)
    ]
    more = {"structure": [step.structure for step in steps], "n_epochs": [step.n_epochs for step in steps]}
    if steps[0].monitor is not None:
        more["mean_monitor_score"] = [-float(np.mean(step.monitor)) for step in steps]
        more["std_monitor_score"] = [float(np.std(step.monitor)) for step in steps]
    return params, outcomes, more
