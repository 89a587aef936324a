"""What a search reports of its steps: scores of the splits' models, and the rows of ``cv_results_``."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed

from sksid import _estimators
from sksid._data import Data
from sksid._sklearn import BaseScorer, MultimetricScorer, check_method_params
from sksid.descent import FEW, LOG_PENALTY_RANGE


@dataclass(frozen=True, eq=False)
class SplitScorer:
    """Scores the model of every split on its validation rows with scikit-learn's scorers.

    A scorer of scikit-learn's asks the model for predictions and nothing else: it is given the final step and the rows as
    they reach it, transformed once. Any other callable is given the split's Pipeline and the rows as the user gave them.

    Attributes
    ----------
    estimator : estimator
        The final step, unfitted.
    scorers : callable
        A scorer, or scikit-learn's multimetric one.
    X, y : array-like
        As they were given to ``fit``.
    data : Data
    score_params : dict
        Of the scorer; arrays of n_samples are indexed.
    n_jobs : int or None
        Threads.
    """

    estimator: object
    scorers: object
    X: object
    y: object
    data: Data
    score_params: dict
    n_jobs: int | None

    def __call__(self, coef, intercept):
        """One score (a number, or a dict of numbers) for each split."""
        return Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(self._score_split)(k, coef[k], intercept[k]) for k in range(len(self.data.splits))
        )

    def _score_split(self, k, coef, intercept):
        train, val = self.data.splits[k]
        own = self.data.split_views[k] if self.data.split_views else None
        view = own.view if own else self.data.view
        transformed = view.pipeline is not None and self._only_predictions
        names = None if transformed else view.seen_names  # rows that were checked have lost their column names
        model = _estimators.build(self.estimator, {}, coef, intercept, self.data.classes, 1, train.size, names)
        if transformed:
            X = own.val if own else view.X[val]
        else:
            X, model = _safe_indexing(self.X, val), view.with_model(model)
        params = check_method_params(self.X, params=self.score_params, indices=val)
        return self.scorers(model, X, _safe_indexing(self.y, val), **params)

    @property
    def _only_predictions(self):
        scorers = self.scorers
        scorers = scorers._scorers.values() if isinstance(scorers, MultimetricScorer) else [scorers]
        return all(isinstance(scorer, BaseScorer) for scorer in scorers)


def block_params(structure, log_penalties, target, n_train):
    """``C`` or ``alpha`` of each block or group, by its name: the geometric mean of its features' penalties."""
    means = structure.mean(log_penalties)
    return {label: target.scaled(mean, n_train) for label, mean in zip(structure.labels, means, strict=True)}


def result_rows(steps, target, data):
    """The candidates' params, their outcomes and further columns, as BaseSearchCV._format_results takes them.

    Where steps were not scored, the score of a split is minus its validation loss.
    """
    params = [target.parameters(step.log_penalties[: data.n_own], data.n_train) for step in steps]
    outcomes = [
        {"fit_time": step.seconds / step.losses.size, "score_time": 0.0, "test_scores": score}
        for step in steps
        for score in (step.scores if step.scores is not None else -step.losses)
    ]
    more = {"structure": [step.structure for step in steps], "n_epochs": [step.n_epochs for step in steps]}
    if steps[0].monitor is not None:
        more["mean_monitor_score"] = [-float(np.mean(step.monitor)) for step in steps]
        more["std_monitor_score"] = [float(np.std(step.monitor)) for step in steps]
    if data.structure.name == "blocks":
        rows = [block_params(data.structure, step.log_penalties, target, data.n_train) for step in steps]
        more.update({f"{target.parameter}_{name}": [row[name] for row in rows] for name in data.structure.labels})
    return params, outcomes, more


def warn_at_edge(step, structure, target):
    """Warn where the search would have gone on but for the allowed range of penalties.

    One block says so for itself; where there are no blocks, only all features together.
    """
    penalties = step.log_penalties[np.isfinite(step.log_penalties)]
    some = np.any if structure.labels else np.all
    for edge, remedy in zip(LOG_PENALTY_RANGE, EDGE_REMEDIES, strict=True):
        at_edge = penalties <= edge if edge < 0 else penalties >= edge
        if some(at_edge):
            extreme = "largest" if (edge < 0) == (target.parameter == "C") else "smallest"
            warnings.warn(
                f"The {target.full_name} found for {_whose(step, structure, edge)} is the {extreme} that is tried. {remedy}",
                UserWarning,
                stacklevel=5,
            )


def warn_if_astray(step):
    """Warn where ``solver="sgd"`` has ended elsewhere than few hyperparameters have their optimum, as an exact solve tells."""
    slope = np.max(np.abs(step.gradient)) / step.value
    if step.theta.size <= FEW and step.monitor is None and step.scores is None and slope > ASTRAY:
        warnings.warn(
            "solver='sgd' was not accurate enough to find the optimum: where it ended, the criterion still changes by "
            f"{slope:.0%} for each unit of a log penalty. Set solver='auto', or max_iter higher.",
            ConvergenceWarning,
            stacklevel=5,
        )


ASTRAY = 0.01  # relative change of the criterion for each unit of log λ
EDGE_REMEDIES = (
    "The data ask for no penalty: list the features as unpenalized, or scale them.",
    "The data ask for no features: leave them out, or scale them.",
)


def _whose(step, structure, edge):
    if not structure.labels:
        return "the features"
    means = structure.mean(step.log_penalties)
    return ", ".join(repr(label) for label, mean in zip(structure.labels, means, strict=True) if abs(mean - edge) < 1e-6)
