"""Whatever is given, the result is right, or an error names the parameter and says what to do: drawn by hypothesis.

The profile ``default`` draws the same few hundred cases each time; ``pytest tests/test_inputs.py --hypothesis-profile=long
--hypothesis-seed=…`` draws ten thousand. ``--hypothesis-show-statistics`` says how they ended.
"""

import re
import signal
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from hostile import AXES, Case, cases
from hypothesis import event, given, target
from oracles import Lower
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils.class_weight import compute_class_weight

from sksid import HypergradientSearchCV

SECONDS = 60  # after which a fit of so few rows is taken for one that never ends
NAMES = "X|y|sample_weight|groups|cv|structure|unpenalized|solver|estimator|early_stopping|split"
REMEDIES = "Use|Set|Give|Leave|Scale|Return|Put|Clean|Drop|Hash|Fit|List|Rename|Divide|Name|Do that|must be"


@contextmanager
def limited(seconds):
    """Raise TimeoutError where the block takes longer."""

    def stop(number, frame):
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- what a result must be ----------------------------------------------------------------------------------------------


def dense(X):
    return np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)


class Reference:
    """The case as a dense problem in float64: what the search is to solve."""

    def __init__(self, case, search):
        self.case, self.search = case, search
        final = search.estimator.steps[-1][1] if isinstance(search.estimator, Pipeline) else search.estimator
        self.classes, self.codes = np.unique(np.asarray(case.y).ravel(), return_inverse=True)
        given_weights = [value for name, value in case.params.items() if name.endswith("sample_weight") and value is not None]
        self.weights = np.broadcast_to(np.asarray(given_weights[0] if given_weights else 1.0, dtype=float), self.codes.shape)
        self.class_weight, self.fit_intercept = final.class_weight, final.fit_intercept
        self.by_mean = isinstance(final, SGDClassifier)

    def features(self, train):
        """What reaches the final step where the preprocessing is fitted on some rows: of all rows."""
        if not isinstance(self.search.estimator, Pipeline):
            return self.case.meant
        before = clone(self.search.estimator)[:-1]
        X, y = self.case.X, np.asarray(self.case.y).ravel()
        before.fit(X.iloc[train] if hasattr(X, "iloc") else X[train], y[train])
        return dense(before.transform(X))

    def lower(self, rows, log_penalties, X):
        weights = self.weights[rows]
        if self.class_weight is not None:
            counted = None if self.by_mean else weights
            factors = compute_class_weight(
                self.class_weight, classes=self.classes, y=self.classes[self.codes[rows]], sample_weight=counted
            )
            weights = weights * factors[self.codes[rows]]
        return Lower(X[rows], self.codes[rows], weights, log_penalties, self.classes.size, self.fit_intercept)

    @property
    def splits(self):
        np.random.seed(0)
        rows, case = np.arange(self.codes.size), self.case
        y = np.asarray(case.y).ravel()
        made = check_cv(case.cv(), y, classifier=True).split(np.zeros((y.size, 1)), y, case.params.get("groups"))
        return [(rows[np.asarray(train)] if not isinstance(train, slice) else rows[train], rows[np.asarray(val)] if not isinstance(val, slice) else rows[val]) for train, val in made]

    def split_loss(self, k, train, val, log_penalties):
        X = self.features(train)
        scaled = log_penalties + (np.log(train.size / self.codes.size) if self.by_mean else 0.0)
        lower = self.lower(train, scaled, X)
        judge = Lower(X[val], self.codes[val], self.weights[val], scaled, self.classes.size, self.fit_intercept)
        return np.average(judge.losses(lower.solution()), weights=self.weights[val])


def is_right(case, search, said):
    """Assert that everything the search has left behind is what a dense solver finds."""
    numbers = [search.penalties_, search.theta_, search.hypergradient_, search.best_score_, *search.best_params_.values()]
    model = search.best_estimator_[-1] if isinstance(search.best_estimator_, Pipeline) else search.best_estimator_
    numbers += [model.coef_, model.intercept_, *(v for k, v in search.cv_results_.items() if "test" in k or "theta" in k)]
    assert all(np.isfinite(np.asarray(part, dtype=float)).all() for part in numbers)
    assert (search.penalties_ >= 0).all()
    reference = Reference(case, search)
    assert list(search.classes_) == list(reference.classes)
    rows = np.arange(reference.codes.size)
    X = reference.features(rows)
    if reference.codes.size < 2 or X.shape[1] * reference.classes.size > 300:
        return "finite"
    with np.errstate(divide="ignore"):
        logs = np.log(search.penalties_)
    lower = reference.lower(rows, logs, X)
    own, best = lower.coordinates(model.coef_, model.intercept_), lower.solution()
    off = np.abs(lower.probabilities(own) - lower.probabilities(best)).max()
    excess = (lower.value(own) - lower.value(best)) / (1e-12 + lower.value(best))
    if any(issubclass(one.category, ConvergenceWarning) for one in said):
        return "said to be inaccurate"
    assert off < 2e-3 or excess < 1e-6, f"the model's probabilities are off by {off}, its objective by {excess:.0%}"
    nested = search.cv_results_.get("is_nested", np.zeros(search.n_iter_, dtype=bool))[search.best_index_]
    if nested or not np.isfinite(logs).all():
        return "right"
    of_splits = search.structure_.per_split and search.structure_.change(search.theta_)
    shared = search.structure_.name == "shared"
    losses = []
    for k, (train, val) in enumerate(reference.splits):
        own_logs = logs if of_splits is None else of_splits[k]
        width = reference.features(train).shape[1]
        if width != own_logs.size and not shared:
            return "right"
        own_logs = np.full(width, logs[0]) if shared else own_logs
        losses.append(reference.split_loss(k, train, val, own_logs))
    score = -np.mean(losses)
    assert abs(search.best_score_ - score) <= 2e-3 * abs(score) + 1e-6, f"score {search.best_score_}, but it is {score}"
    return "right"


# ---- what a refusal must say --------------------------------------------------------------------------------------------


def says_what_to_do(error):
    text = " ".join([str(error), *getattr(error, "__notes__", [])])
    return re.search(rf"\b({NAMES})\b", text) and re.search(rf"\b({REMEDIES})\b", text)


def is_scikit_learns(error):
    """Whether scikit-learn has raised it, in words of its own."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(sklearn.__file__).parent}" in frames[-1].filename


def verdict(case):
    """How a case ended; AssertionError where that is wrong."""
    np.random.seed(0)
    search = case.search()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with limited(SECONDS):
                search.fit(case.X, case.y, **case.params)
        except (ValueError, TypeError) as error:
            if says_what_to_do(error):
                return "refused with a sentence"
            if is_scikit_learns(error):
                return "refused in scikit-learn's words"
            raise AssertionError(f"no sentence: {type(error).__name__}: {error}") from error
    wrong = [one for one in said if issubclass(one.category, RuntimeWarning)]
    assert not wrong, f"{wrong[0].message} at {wrong[0].filename}:{wrong[0].lineno}"
    with np.errstate(all="ignore"):
        return is_right(case, search, said)
