"""Whatever is given, the result is right, or an error names the parameter and says what to do: drawn by hypothesis.

The profile ``default`` draws the same few hundred cases each time; ``pytest tests/test_inputs.py --hypothesis-profile=long
--hypothesis-seed=…`` draws ten thousand. ``--hypothesis-show-statistics`` says how they ended.
"""

import re
import signal
import traceback
import warnings
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from hostile import AXES, SPLITS, Case, cases
from hypothesis import event, given
from hypothesis import strategies as st
from oracles import Lower
from searches import search_for
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.class_weight import compute_class_weight

from sksid import hypergradient
from sksid.logistic import fit
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual

SECONDS = 60  # of computation, after which a fit of so few rows is taken for one that never ends
IDLE = 600  # the same by the clock, as on a busy machine a minute may be little
NAMES = "X|y|sample_weight|groups|cv|structure|unpenalized|solver|estimator|early_stopping|scoring|refit|n_jobs|max_iter|tol"
REMEDIES = "Use|Set|Give|Leave|Scale|Return|Put|Clean|Drop|Hash|Fit|List|Rename|Divide|Name|Do that|must be|must return"


@contextmanager
def limited():
    """Raise TimeoutError where the block takes longer."""

    def stop(number, frame):
        raise TimeoutError(f"not done after {SECONDS} s of computation, or {IDLE} s by the clock")

    limits = [(signal.SIGPROF, signal.ITIMER_PROF, SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, IDLE)]
    before = [signal.signal(number, stop) for number, _, _ in limits]
    try:
        for _, timer, seconds in limits:
            signal.setitimer(timer, seconds)
        yield
    finally:
        for (number, timer, _), handler in zip(limits, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


# ---- what a result must be ----------------------------------------------------------------------------------------------


def dense(X):
    return np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)


def final_of(estimator):
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


class Reference:
    """The case as dense problems in float64: what the search is to solve."""

    def __init__(self, case, search):
        self.case, self.search, final = case, search, final_of(search.estimator)
        self.y = np.asarray(case.y).ravel()
        self.classes, self.codes = np.unique(self.y, return_inverse=True)
        weights = [value for name, value in case.params.items() if name.endswith("sample_weight") and value is not None]
        self.weights = np.broadcast_to(np.asarray(weights[0] if weights else 1.0, dtype=float), self.codes.shape)
        self.class_weight, self.fit_intercept = final.class_weight, final.fit_intercept
        self.by_mean = isinstance(final, SGDClassifier)

    def features(self, train):
        """What reaches the final step, of all rows, where the preprocessing is fitted on some."""
        if not isinstance(self.search.estimator, Pipeline):
            return self.case.meant
        X, steps = self.case.X, clone(self.search.estimator)[:-1]
        return dense(steps.fit(_safe_indexing(X, train), self.y[train]).transform(X))

    def lower(self, rows, log_penalties):
        """The lower level on some rows, whose class weights are their own."""
        weights, X = self.weights[rows], self.features(rows)
        if self.class_weight is not None:
            balance = {"classes": self.classes, "y": self.y[rows], "sample_weight": None if self.by_mean else weights}
            weights = weights * compute_class_weight(self.class_weight, **balance)[self.codes[rows]]
        return Lower(X[rows], self.codes[rows], weights, log_penalties, self.classes.size, self.fit_intercept)

    def splits(self):
        np.random.seed(0)
        rows, cv = np.arange(self.codes.size), check_cv(self.case.cv(), self.y, classifier=True)
        for train, val in cv.split(np.zeros((rows.size, 1)), self.y, self.case.params.get("groups")):
            yield tuple(rows[part if isinstance(part, slice) else np.asarray(part)] for part in (train, val))

    def score(self, log_penalties):
        """What ``best_score_`` is to be; None where the splits' penalties are not known, or their score is nested."""
        search, shared = self.search, self.search.structure_.name == "shared"
        nested = search.cv_results_.get("is_nested", np.zeros(search.n_iter_, dtype=bool))[search.best_index_]
        if nested or not np.isfinite(log_penalties).all():
            return None
        of_splits = search.structure_.per_split and search.structure_.change(search.theta_)
        losses, splits = [], list(self.splits())
        n_train = np.mean([train.size for train, _ in splits])
        for k, (train, val) in enumerate(splits):
            logs, X = log_penalties if of_splits is None else of_splits[k], self.features(train)
            if X.shape[1] != logs.size and not shared:
                return None
            logs = logs[0] + np.zeros(X.shape[1]) if shared else logs
            if np.unique(self.codes[train[self.weights[train] > 0]]).size < self.classes.size:
                return None  # it has no such class, and no part in the descent
            size = self.codes.size if of_splits is None else n_train  # of the rows that a log penalty is meant for
            logs = logs + (np.log(train.size / size) if self.by_mean else 0.0)
            judge = Lower(X[val], self.codes[val], self.weights[val], logs, self.classes.size, self.fit_intercept)
            losses.append(np.average(judge.losses(self.lower(train, logs).solution()), weights=self.weights[val]))
        return -np.mean(losses)


def is_right(case, search, said):
    """Assert that what the search has left behind is what a dense solver finds; how far that could be asked."""
    assert_finite(search)
    if search.refit is False:
        return "finite"
    reference, model = Reference(case, search), final_of(search.best_estimator_)
    assert list(search.classes_) == list(reference.classes)
    if search.penalties_.size * reference.classes.size > 300:
        return "finite"
    with np.errstate(divide="ignore"):
        logs = np.log(search.penalties_)
    lower = reference.lower(np.arange(reference.codes.size), logs)
    own, best = lower.coordinates(model.coef_, model.intercept_), lower.solution()
    inaccurate = [str(one.message) for one in said if issubclass(one.category, ConvergenceWarning)]
    outcome = "said to be inaccurate" if inaccurate else "right"
    off = np.abs(lower.probabilities(own) - lower.probabilities(best)).max()
    excess = (lower.value(own) - lower.value(best)) / (1e-12 + lower.value(best))
    close = off < 2e-3 or excess < 1e-6 or any(text.startswith("The final fit") for text in inaccurate)
    assert close, f"the model's probabilities are off by {off}, its objective by {excess:.0%}"
    score, named = reference.score(logs), search.solver not in ("auto", "aid")
    unasked = search.scoring is not None or callable(search.refit) or any(text.startswith("The score") for text in inaccurate)
    if score is None or unasked:
        return outcome
    off = abs(search.best_score_ - score) / (1e-3 + abs(score))
    assert off < (0.02 if named else 2e-3), f"best_score_ is {search.best_score_}, but {score} is right"
    return outcome


def assert_finite(search):
    results = [column for name, column in search.cv_results_.items() if "test" in name or "theta" in name]
    numbers = [search.penalties_, search.theta_, search.hypergradient_, *search.best_params_.values()]
    if search.refit is not False:
        numbers += [final_of(search.best_estimator_).coef_, final_of(search.best_estimator_).intercept_]
    judged = [] if callable(search.scoring) or search.scoring == "roc_auc" else results
    assert all(np.isfinite(np.asarray(part, dtype=float)).all() for part in [*numbers, *judged])
    assert (search.penalties_ >= 0).all()


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
            with limited(), redirect_stdout(StringIO()):
                search.fit(case.X, case.y, **case.params)
        except (ValueError, TypeError) as error:
            if says_what_to_do(error):
                return "refused with a sentence"
            if is_scikit_learns(error):
                return "refused in scikit-learn's words"
            raise AssertionError(f"no sentence: {type(error).__name__}: {error}") from error
    own = [one for one in said if str(Path(sklearn.__file__).parent) not in one.filename]  # a step may divide by zero
    wrong = [one for one in own if issubclass(one.category, RuntimeWarning)]
    assert not wrong, f"{wrong[0].message} at {wrong[0].filename}:{wrong[0].lineno}"
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of splitters and steps that are asked again
        return is_right(case, search, said)


@pytest.mark.parametrize("axis", [*AXES, "any two"])
@given(data=st.data())
def test_any_search_ends_in_a_right_result_or_a_sentence(axis, data):
    event(verdict(data.draw(cases(*([] if axis == "any two" else [axis])))))


# ---- what this has found ------------------------------------------------------------------------------------------------

X, Y = np.random.RandomState(0).standard_normal((60, 4)), np.arange(60) % 2


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({"cv": [(np.arange(40), np.array([60]))]}, {}, "cv: split 0 is no pair.*Give two arrays"),
        ({"cv": [(np.ones(59, dtype=bool), np.arange(9))]}, {}, "cv: split 0 is no pair"),
        ({"cv": [(np.array(["a"]), np.array(["b"]))]}, {}, "cv: split 0 is no pair"),
        ({"cv": [(np.arange(60)[:, None], np.arange(9))]}, {}, "cv: split 0 is no pair.*one axis"),
        ({}, {"X": 1e200 * X}, "X: the largest number in it is 3e.200.*Scale"),
        ({}, {"X": 1e-200 * X}, "X: the largest number in it is 3e-200.*Scale"),
        ({}, {"sample_weight": np.full(60, 1e300)}, "sample_weight: the largest number.*Divide"),
        ({"estimator": LogisticRegression(class_weight={0: 1.0, 1: 1e300})}, {}, "class_weight: the largest number"),
        ({}, {"y": np.array(["a", 1] * 30, dtype=object)}, "y: its labels cannot be sorted"),
        ({"scoring": lambda *of: "good"}, {}, "scoring must return a number"),
        ({"structure": lambda X: X[0]}, {}, "positional argument"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(settings, data, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        search_for(**{"structure": "shared", **settings}).fit(**{"X": X, "y": Y, **data})
    assert says_what_to_do(error.value)


@pytest.mark.parametrize(("name", "given"), [("X", {"X": 1e200 * X}), ("sample_weight", {"sample_weight": np.full(60, 1e300)})])
def test_numbers_without_squares_are_no_hypergradient(name, given):
    with pytest.raises(ValueError, match=f"{name}: the largest number"):
        hypergradient(**{"X": X, "y": Y, "splits": [(np.arange(40), np.arange(40, 60))], "log_penalties": 0.0, **given})


def test_splits_may_be_slices_ranges_and_lists():
    one, two, three = (
        search_for(cv=[(kind(0, 40), kind(40, 60))]).fit(X, Y) for kind in (np.arange, slice, lambda *of: [*range(*of)])
    )
    assert one.best_score_ == two.best_score_ == three.best_score_


def test_a_fit_of_equal_rows_of_different_classes_is_not_judged_by_rows_that_were_visited_last():
    """Of two such rows one was visited again and again, and then both stood still, each where the other had left it."""
    rows = np.eye(7)[[0, 0, 5, 1, 3, 3, 6, 4]]
    labels = np.array([2, 1, 2, 0, 2, 1, 0, 1])
    everything = [(np.arange(8), np.arange(0))]
    problem = make_problem(rows, labels, everything, n_classes=3, dtype=np.float64, fit_intercept=False)
    fits = [fit(problem, solver, np.full(7, -3.0), tol=1e-5, max_epochs=1000) for solver in (Dual(), Aid())]
    one, two = (solver.coefficients(problem, state)[0] for solver, (state, _) in zip((Dual(), Aid()), fits, strict=True))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_split_that_is_solved_to_rounding_does_not_hold_up_the_others():
    """The second split's solution is W = 0; without an end to its rounding all splits stood still, for a minute."""
    counts = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 2, 0, 1.0])[:, None]
    classes = np.array([2, 2, 0, 0, 2, 1, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 0, 1, 2, 2, 0, 1, 2, 1, 2, 0, 1, 0, 0, 0])
    splitter = RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)
    case = Case(counts, counts, classes, lambda: splitter, LogisticRegression(), {}, {"structure": "shared", "random_state": 0})
    assert verdict(case) == "right"


def test_newton_steps_begin_anew_where_no_row_has_any_curvature():
    """Weights of a million for one class: the dual solver hands over coefficients at which all probabilities are 0 or 1."""
    rows = np.zeros((12, 3))
    rows[[0, 1, 2, 3, 4, 6, 8, 9, 11], [0, 0, 1, 1, 2, 1, 2, 1, 2]] = 2.7, -0.1, -0.04, -0.6, 1.5, 0.9, 1.4, 0.3, 0.06
    classes, settings = (
        np.array([0, 0, 2, 1, 1, 2, 0, 1, 1, 2, 0, 2]),
        {"structure": "shared", "max_iter": 1, "random_state": 0},
    )
    heavy = LogisticRegression(class_weight={0: 1.0, 1: 1e6})
    assert verdict(Case(rows, rows, classes, lambda: 3, heavy, {}, settings)) == "right"


# Weights that differ by a factor of 10¹²: row, column and value of the entries, labels, weights
FAR_APART = {
    "first": (
        ([0, 1, 2, 4, 5, 6, 8, 10, 10], [2, 2, 1, 1, 1, 2, 0, 1, 2]),
        [0.75, 1.44, 0.63, 0.13, 0.42, 0.36, 0.44, -0.20, 1.33],
        [1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0],
        [8.7e3, 8.4e-5, 6.1e-3, 1.5e5, 1.8e-6, 1.6e3, 1.7e-6, 5.0e-4, 1.4e-2, 1.4e5, 5.3e-3, 2.4e-2],
    ),
    "second": (
        ([1, 6, 7, 7, 9, 10, 10], [0, 0, 0, 2, 0, 0, 1]),
        [-1.51, 1.00, 1.49, 1.18, -1.43, -0.26, -2.80],
        [0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1],
        [2.9e2, 8.8e5, 1.9e-2, 1.4e3, 13.0, 2.0e2, 6.5e-5, 6.1e-2, 7.8e-4, 1.3e-2, 1.4, 1.0e2],
    ),
}


@pytest.mark.parametrize("cv", [2, 3, StratifiedKFold(2, shuffle=True, random_state=0)], ids=["2", "3", "shuffled"])
@pytest.mark.parametrize("kind", FAR_APART)
@pytest.mark.parametrize("solver", ["auto", "dual", "aid"])
def test_an_intercept_that_is_lost_is_no_solution(solver, kind, cv):
    """All probabilities are 0 or 1, or a split weighs nothing beside the others: its dual variables stood still, or nearly."""
    places, values, classes, weights = FAR_APART[kind]
    rows = sp.coo_array((values, places), shape=(12, 3)).toarray()
    settings, weights = {"structure": "shared", "solver": solver, "max_iter": 1, "random_state": 0}, np.array(weights)
    case = Case(rows, rows, np.array(classes), lambda: cv, LogisticRegression(), {"sample_weight": weights}, settings)
    assert verdict(case) in ("right", "said to be inaccurate")


FIRST = [1.76, 0.40, 0.98, 2.24, 1.87, -0.98, 0.95, 1e5], [0, 1, 0, 2, 1, 2, 1, 0]
SECOND = [0.65, 0.27, -0.58, 0.23, 0.74, -0.04, 1.54, 1e5], [1, 0, 0, 1, 2, 0, 1, 2]
THIRD = [0.47, 0.11, -0.37, -0.16, -0.13, -2.84, 1.62, 1e5], [1, 1, 1, 0, 1, 0, 0, 0]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:The least populated class")
@pytest.mark.parametrize("cv", ["2", "3", "shuffled"])
@pytest.mark.parametrize(("column", "classes"), [FIRST, SECOND, THIRD], ids=["first", "second", "two classes"])
def test_an_intercept_that_flies_off_is_caught_or_told(column, classes, cv):
    """Beside a row 100,000 times as large all probabilities were soon 0 or 1; a score of −72 was taken for −14."""
    rows, classes = np.array(column)[:, None], np.array(classes)
    settings = {"structure": "shared", "solver": "dual", "max_iter": 1, "random_state": 0}
    case = Case(rows, rows, classes, lambda: SPLITS[cv](8, None), LogisticRegression(C=1e-3), {}, settings)
    assert verdict(case) in ("right", "said to be inaccurate")
    search = case.search().fit(rows, classes)
    score = Reference(case, search).score(np.log(search.penalties_))
    assert abs(search.best_score_ - score) < 0.2 * abs(score)


def test_a_solve_that_gets_no_further_begins_anew():
    """From where the search had led it, one in four stood still far from its end, by rounding; from W = 0 nearly none does."""
    ends = []
    for seed in range(600, 620):
        rows = np.random.RandomState(seed).standard_normal((15, 1))
        rows[-1] = 1e5
        classes = np.random.RandomState(seed + 1).permutation(np.arange(15) % 3)
        settings = {"structure": "shared", "max_iter": 30, "random_state": 0}
        ends.append(verdict(Case(rows, rows, classes, lambda: 2, LogisticRegression(C=1e-3), {}, settings)))
    assert ends.count("right") >= len(ends) - 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # one row out leaves others unequal
@pytest.mark.parametrize("cv", ["2", "shuffled", "leave one out"])
def test_a_solution_of_zeros_ends_a_solve(cv):
    """A constant column has no coefficient beside an intercept: its rounding was taken for a Hessian without curvature."""
    rows, classes = np.ones((40, 1)), np.random.RandomState(0).randint(3, size=40)
    settings = {"structure": "shared", "solver": "aid", "max_iter": 1, "random_state": 0}
    case = Case(rows, rows, classes, lambda: SPLITS[cv](40, None), LogisticRegression(), {}, settings)
    assert verdict(case) in ("right", "said to be inaccurate")
    assert case.search().fit(rows, classes).cv_results_["n_epochs"].sum() < 50


@pytest.mark.parametrize("solver", ["auto", "dual"])
def test_a_million_features_and_four_rows(solver):
    rows = sp.random_array((4, 10**6), density=1e-4, format="csr", rng=np.random.default_rng(0))
    search = search_for("shared", cv=2, solver=solver, max_iter=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # four rows ask for any penalty
        search.fit(rows, [0, 0, 1, 1])
    assert np.isfinite(search.best_estimator_.coef_).all() and np.isfinite(search.best_score_)


def test_descriptors_may_be_huge():
    huge = search_for([lambda X, y, w: 1e300 * np.arange(4)]).fit(X, Y)
    plain = search_for([lambda X, y, w: 1.0 * np.arange(4)]).fit(X, Y)
    np.testing.assert_allclose(huge.penalties_, plain.penalties_, rtol=1e-9)
