"""The report of a search: scores of the splits' models, the rows of ``cv_results_``, the best step, warnings."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed

from sksid import _estimators
from sksid._data import Data
from sksid._estimators import Target
from sksid._sklearn import (
    BaseScorer,
    MultimetricScorer,
    check_method_params,
    check_refit_for_multimetric,
    format_results,
    select_best_index,
    with_labels,
)
from sksid._warn import warn
from sksid.descent import Step
from sksid.stages import Path

LOG_LOSS = (None, "neg_log_loss")
NEVER = -1e30  # an intercept that makes the probability of its class zero, whatever the other outputs are
SLOPE_LIMIT = 0.01  # relative change of the criterion for each unit of log λ
EDGE_REMEDIES = (
    "The data ask for no penalty: list the features as unpenalized, or scale them.",
    "The data ask for no features: leave them out, or scale them.",
)


@dataclass(frozen=True, eq=False)
class SplitScorer:
    """Scores the model of every split on its validation rows with scikit-learn's scorers.

    A scorer of scikit-learn only asks the model for predictions: it gets the final step and the transformed rows. Any other
    callable gets the split's Pipeline and the rows as the user gave them.

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

    estimator: Any
    scorers: Any
    X: Any
    y: Any
    data: Data
    score_params: dict
    n_jobs: int | None

    def __call__(self, coef: Any, intercept: Any) -> list:
        """One score (a number, or a dict of numbers) for each split."""
        return Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(self._score_split)(k, coef[k], intercept[k]) for k in range(len(self.data.samples.splits))
        )

    def _score_split(self, k, coef, intercept):
        train, val = self.data.samples.splits[k]
        own = self.data.split_views[k] if self.data.split_views else None
        view = own.view if own else self.data.view
        transformed = view.pipeline is not None and self._only_predictions
        names = None if transformed else view.seen_names  # rows that were checked have lost their column names
        classes, absent = self.data.samples.classes, self.data.samples.absent(k)
        if self.data.target.fit_intercept and absent.any():
            intercept = np.where(absent, NEVER, intercept) if classes.size > 2 else NEVER * (1.0 - 2.0 * absent[:1])
        model = _estimators.build(self.estimator, {}, coef, intercept, classes, 1, train.size, names)
        if transformed:
            X = own.val if own else view.X[val]
        else:
            X, model = _safe_indexing(self.X, val), view.with_model(model)
        params = check_method_params(self.X, params=self.score_params, indices=val)
        return _checked(with_labels(self.scorers, classes)(model, X, _safe_indexing(self.y, val), **params))

    @property
    def _only_predictions(self):
        scorers = self.scorers
        scorers = scorers._scorers.values() if isinstance(scorers, MultimetricScorer) else [scorers]
        return all(isinstance(scorer, BaseScorer) for scorer in scorers)


def _checked(score):
    for one in score.values() if isinstance(score, dict) else [score]:
        if not isinstance(one.item() if hasattr(one, "item") else one, Number):
            raise ValueError(f"scoring must return a number, or a dict of numbers by name, got {one!r:.80}.")
    return score


# ---- the table and its best row ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of ``cv_results_``, and the rule that chooses between them.

    Attributes
    ----------
    data : Data
    scoring : str, callable, list, tuple, dict or None
    refit : bool, str or callable
        As HypergradientSearchCV has them.
    tol : float
        Relative accuracy of the steps' losses.
    scorers : callable
        The scorer, or scikit-learn's multimetric one, that ``scoring`` stands for.
    """

    data: Data
    scoring: Any
    refit: Any
    tol: float
    scorers: Any

    def results(self, steps: Sequence[Step]) -> dict:
        """``cv_results_`` of these steps; where they were not scored, a split's score is minus its validation loss."""
        target, samples = self.data.target, self.data.samples
        params = [target.parameters(step.final_log_penalties[: self.data.n_own], samples.n_train) for step in steps]
        outcomes = [
            {"fit_time": step.seconds / step.losses.size, "score_time": 0.0, "test_scores": score}
            for step in steps
            for score in (step.scores if step.scores is not None else -step.losses)
        ]
        if callable(self.scoring) and isinstance(outcomes[0]["test_scores"], dict):
            check_refit_for_multimetric(self.refit, outcomes[0]["test_scores"])
        return format_results(params, len(samples.splits), outcomes, self._further_columns(steps))

    def _further_columns(self, steps):
        target, structure = self.data.target, self.data.structure
        more = {"structure": [step.structure.name for step in steps], "n_epochs": [step.n_epochs for step in steps]}
        if self.data.cross_fits:
            more["is_nested"] = [step.is_nested for step in steps]
        if columns := structure.columns(target.parameter):
            rows = [self.block_params(step).values() for step in steps]
            more.update(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
        for term in structure.terms[1:]:
            more[f"theta_{term}"] = [step.structure.slopes(step.theta).get(term, 0.0) for step in steps]
        return more

    def block_params(self, step: Step) -> dict:
        """``C`` or ``alpha`` of each block or group, by its name: the geometric mean of its features' penalties."""
        means = self.data.structure.by_label(step.final_log_penalties)
        return {label: self.data.target.scaled(mean, self.data.samples.n_train) for label, mean in means.items()}

    def score_name(self, step: Step) -> str | None:
        """The score that decides, as ``cv_results_`` names it; None where several were asked for and none was named."""
        if step.scores is None or not isinstance(step.scores[0], dict):
            return "score"
        return self.refit if isinstance(self.refit, str) else None

    def best(self, path: Path, polished: Sequence[int]) -> int:
        """The best step: that of the stages where one is cross-fitted; by the scorer, where there is one; else by the loss.

        Steps of stages that were not kept do not count.
        Losses of rough steps do not count where there are others. Among losses that differ by less than their accuracy, the
        latest step wins: its hypergradient has converged. A callable ``refit`` decides instead once ``polished``, the indices
        of the steps solved to convergence, is not empty.
        """
        steps = path.steps
        if callable(self.refit) and polished:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "One or more of the test scores", UserWarning)  # the report says so
                results = self.results(steps)
            return int(select_best_index(self.refit, None, results))
        if self.data.cross_fits:
            return path.best
        kept = path.kept
        if steps[0].scores is not None and (name := self.score_name(steps[0])):
            return kept[self._best_score([steps[i] for i in kept], name)]
        judged = [i for i in kept if not steps[i].rough] or kept
        candidates = judged if len(polished) < 3 else polished
        least = min(steps[i].value for i in candidates)
        return max(i for i in candidates if steps[i].value <= least * (1 + 3 * self.tol))

    def _best_score(self, steps, name):
        """The first of the rows with rank 1; NaN ranks last."""
        if callable(self.scoring) and isinstance(steps[0].scores[0], dict):
            check_refit_for_multimetric(self.refit, steps[0].scores[0])
        scores = [[score[name] if isinstance(score, dict) else score for score in step.scores] for step in steps]
        return int(np.argmax(np.nan_to_num(np.average(scores, axis=1), nan=-np.inf)))

    def attributes(self, path: Path) -> dict:
        """The fitted attributes that describe the search, by name; those that GridSearchCV has mean the same."""
        results, step, name = self.results(path.steps), path.chosen, self.score_name(path.chosen)
        found = {
            "cv_results_": results,
            "multimetric_": step.scores is not None and isinstance(step.scores[0], dict),
            "scorer_": self.scorers._scorers if isinstance(self.scorers, MultimetricScorer) else self.scorers,
            "n_splits_": len(self.data.samples.splits),
            "n_iter_": len(path.steps),
            "structure_": step.structure,
            "stages_": path.stages,
            "theta_": step.theta,
            "hypergradient_": step.gradient,
            "penalties_": np.exp(self.final_log_penalties(step)),
        }
        if self.refit is not False or not found["multimetric_"]:
            found |= {"best_index_": path.best, "best_params_": results["params"][path.best]}
            if name and not callable(self.refit):
                found["best_score_"] = float(results[f"mean_test_{name}"][path.best])
        if by_block := self.block_params(step):
            found["block_params_"] = by_block
        if slopes := step.structure.slopes(step.theta):
            found["descriptor_params_"] = slopes
        return found

    def final_log_penalties(self, step: Step) -> NDArray:
        """Log penalties in the scale of all rows, (n_own,), at the same ``C`` or ``alpha``; −∞ where there is none."""
        scale = self.data.target.refit_scale(self.data.samples.n_final, self.data.samples.n_train)
        return step.final_log_penalties[: self.data.n_own] + np.log(scale)


# ---- warnings ----------------------------------------------------------------------------------------------------------


def warn_at_edge(step: Step, log_range: tuple[float, float], target: Target) -> None:
    """Warn if penalties have ended at an edge of the range that is tried.

    With blocks or groups, if all penalties of one of them have; otherwise only if the penalties of all features have.
    """
    low, high = log_range
    for at_edge, remedy in zip((step.log_penalties <= low, step.log_penalties >= high), EDGE_REMEDIES, strict=True):
        if whose := step.structure.whose(at_edge, step.log_penalties):
            extreme = "largest" if (remedy is EDGE_REMEDIES[0]) == (target.parameter == "C") else "smallest"
            warn(f"The {target.full_name} found for {whose} is the {extreme} that is tried. {remedy}")


def warn_if_not_optimal(step: Step, solver: Any) -> None:
    """Warn if the exact hypergradient is not near zero at the step that a solver without ``precise`` has chosen."""
    slope = np.max(np.abs(step.gradient)) / step.value
    if step.structure.is_few and not step.is_nested and step.scores is None and slope > SLOPE_LIMIT:
        warn(
            f"solver: {type(solver).__name__} was not accurate enough to find the optimum: where it ended, the criterion still "
            f"changes by {slope:.0%} for each unit of a log penalty. Set solver='auto', or max_iter higher.",
            ConvergenceWarning,
        )
