"""A class without a training row in some split: its probability is zero there, and the search goes on."""

import warnings

import numpy as np
import pytest
from oracles import central_differences, split_losses
from searches import search_for
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, LeaveOneOut, StratifiedKFold
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from sksid import hypergradient
from sksid.solvers import Aid

X, WINES = load_wine(return_X_y=True)
X, y = scale(X), np.array(["barbera", "barolo", "grignolino"])[WINES]
y[0] = "rare"  # one row, in the first fold
FOLDS = [(train, val) for train, val in KFold(3, shuffle=True, random_state=0).split(X)]
FOLDS.sort(key=lambda pair: 0 not in pair[1])
WITHOUT = [(train, val[val != 0]) for train, val in FOLDS]

pytestmark = pytest.mark.filterwarnings("ignore:cv. a class without a training row:UserWarning")
SAID = r"cv: .* probability zero there.* split 0 \(1 of class 'rare'\)\. Use a stratified"


@pytest.mark.parametrize("log_penalty", [-4.0, 0.0, 3.0])
def test_the_splits_fit_the_classes_that_they_have(log_penalty):
    """Multinomial regression of the three others, in split 0."""
    found = hypergradient(X, y, FOLDS, log_penalty, solver=Aid(tol=1e-10, first_tol=None))
    expected = split_losses(X, y, WITHOUT[1:], log_penalty)
    train, val = WITHOUT[0]
    model = LogisticRegression(C=np.exp(-log_penalty), solver="newton-cholesky", tol=1e-12).fit(X[train], y[train])
    own = log_loss(y[val], model.predict_proba(X[val]), labels=model.classes_)
    np.testing.assert_allclose(found.losses, [own, *expected], rtol=1e-7)
    np.testing.assert_allclose(found.coef[0, :3], model.coef_, atol=1e-6)
    np.testing.assert_allclose(found.coef[0, 3], 0.0, atol=1e-8)
    np.testing.assert_allclose(found.adjoint[0, 3], 0.0, atol=1e-8)


@pytest.mark.parametrize("solver", ["dual", "sgd"])
def test_all_solvers_find_the_same(solver):
    expected = hypergradient(X, y, FOLDS, 2.0, structure="shared", solver=Aid(tol=1e-10, first_tol=None))
    found = hypergradient(X, y, FOLDS, 2.0, structure="shared", solver=solver, max_epochs=2000)
    rtol = {"dual": 2e-4, "sgd": 3e-2}[solver]
    assert found.value == pytest.approx(expected.value, rel=rtol)
    assert found.theta_gradient[0] == pytest.approx(expected.theta_gradient[0], rel=rtol)


def test_the_hypergradient_is_that_of_finite_differences():
    solver, at = Aid(tol=1e-11, first_tol=None), np.linspace(-1.0, 2.0, X.shape[1])
    found = hypergradient(X, y, FOLDS, at, solver=solver)
    expected = central_differences(lambda logs: hypergradient(X, y, FOLDS, logs, solver=solver).value, at)
    np.testing.assert_allclose(found.gradient, expected, rtol=1e-3, atol=1e-7)


def test_features_without_a_penalty_are_solved_for():
    free = np.where(np.arange(X.shape[1]) < 2, -np.inf, 0.0)
    found = hypergradient(X, y, FOLDS, free, solver=Aid(first_tol=None))
    nearly = hypergradient(X, y, FOLDS, np.maximum(free, -18.0), solver=Aid(first_tol=None))
    np.testing.assert_allclose(found.losses, nearly.losses, rtol=1e-4)


@pytest.mark.parametrize("structure", ["shared", "auto", "evidence"])
@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), LogisticRegression(class_weight="balanced"), make_pipeline(StandardScaler(), LogisticRegression())],
    ids=["plain", "balanced", "pipeline"],
)
def test_a_search_says_so_once_and_goes_on(structure, estimator):
    with pytest.warns(UserWarning, match=SAID) as said:
        search = search_for(structure, estimator=estimator, cv=FOLDS).fit(X, y)
    assert sum("probability zero" in str(warning.message) for warning in said) == 1
    assert search.classes_.tolist() == ["barbera", "barolo", "grignolino", "rare"]
    assert search.best_estimator_.score(X, y) > 0.98
    assert np.isfinite(search.best_score_)


def test_the_score_is_that_of_the_rows_that_have_one():
    search = search_for(cv=FOLDS).fit(X, y)
    model = LogisticRegression(C=search.best_params_["C"], tol=1e-10, max_iter=10_000)
    scores = []
    for train, val in WITHOUT:
        model.fit(X[train], y[train])
        scores.append(-log_loss(y[val], model.predict_proba(X[val]), labels=model.classes_))
    assert search.best_score_ == pytest.approx(np.mean(scores), rel=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_other_scores_are_those_of_logistic_regression_cv():
    search = search_for(cv=FOLDS, scoring=["accuracy", "neg_log_loss"], refit="accuracy").fit(X, y)
    reference = LogisticRegressionCV(Cs=[search.best_params_["C"]], cv=FOLDS, scoring="accuracy", tol=1e-8, max_iter=10_000)
    expected = reference.fit(X, y).scores_["rare"].ravel()
    row = [search.cv_results_[f"split{k}_test_accuracy"][search.best_index_] for k in range(3)]
    np.testing.assert_array_equal(row, expected)
    # scikit-learn's log loss counts a probability of zero as the smallest number
    size, zero = FOLDS[0][1].size, -np.log(np.finfo(np.float64).eps)
    others = search_for(cv=FOLDS).fit(X, y).cv_results_["split0_test_score"][search.best_index_]
    counted = search.cv_results_["split0_test_neg_log_loss"][search.best_index_]
    assert counted == pytest.approx((others * (size - 1) - zero) / size, rel=1e-3)


def test_probabilities_are_scored_where_validation_rows_lack_a_class():
    """The other way round: every split is trained on all classes."""
    everywhere = [(np.union1d(train, [0]), val[val != 0]) for train, val in FOLDS]
    search = search_for(cv=everywhere, scoring=["neg_log_loss", "neg_brier_score"], refit="neg_log_loss").fit(X, y)
    plain = search_for(cv=everywhere).fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_neg_log_loss"], plain.cv_results_["mean_test_score"], rtol=5e-3)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_without_intercepts_all_rows_have_a_finite_loss():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = search_for(estimator=LogisticRegression(fit_intercept=False), cv=FOLDS).fit(X, y)
    reference = LogisticRegressionCV(
        Cs=[search.best_params_["C"]], cv=FOLDS, scoring="neg_log_loss", fit_intercept=False, tol=1e-8, max_iter=10_000
    )
    assert search.best_score_ == pytest.approx(reference.fit(X, y).scores_["rare"].mean(), rel=1e-4)


@pytest.mark.parametrize("scoring", [None, "accuracy"])
@pytest.mark.parametrize("seed", range(4))
def test_an_intercept_that_falls_does_not_carry_others_away(scoring, seed):
    """Unscaled, so that Newton's steps have the shape that rounding likes."""
    raw = load_wine().data[:, :4]
    search = search_for(cv=FOLDS, scoring=scoring, random_state=seed).fit(raw, y)
    reference = LogisticRegression(C=search.best_params_["C"], solver="newton-cholesky", tol=1e-10, max_iter=1000)
    np.testing.assert_allclose(search.predict_proba(raw), reference.fit(raw, y).predict_proba(raw), atol=2e-3)


def test_a_warm_start_meets_the_class_again():
    search = search_for(cv=FOLDS, warm_start=True).fit(X, y)
    others = search.set_params(cv=[(val, train) for train, val in FOLDS[1:]]).fit(X, y)  # other splits, other absences
    fresh = search_for(cv=others.cv).fit(X, y)
    assert others.best_score_ == pytest.approx(fresh.best_score_, rel=1e-3)


def test_no_split_with_two_classes_is_refused():
    one = np.flatnonzero(y == "barolo")
    with pytest.raises(ValueError, match="split 0 has no training row of class 'barbera', 'grignolino', 'rare'"):
        search_for(cv=[(one, np.arange(100))]).fit(X, y)
    two = np.where(y == "rare", y, "barolo")
    with pytest.raises(ValueError, match="split 0 has no training row of class 'rare'"):
        search_for(cv=FOLDS[:1]).fit(X, two)


@pytest.mark.parametrize("solver", ["auto", "dual", "aid"])
@pytest.mark.parametrize("structure", ["shared", "auto", "evidence", "per_feature"])
@pytest.mark.parametrize("rare", [0, 1])
def test_a_split_of_one_class_has_nothing_to_say(rare, structure, solver):
    """One row against the rest, as a label of many may have it: the split's model is that class, and its loss is zero."""
    labels = np.where(y == "rare", rare, 1 - rare)
    labels[FOLDS[1][1][:1]] = labels[FOLDS[2][1][:1]] = rare
    labels[0] = 1 - rare
    folds = [(np.setdiff1d(np.arange(len(y)), rows), rows) for rows in (np.flatnonzero(labels == rare), *(f[1] for f in FOLDS))]
    folds[0] = folds[0][0], np.append(folds[0][1], FOLDS[0][1])
    with pytest.warns(UserWarning, match=rf"split 0 \(2 of class {rare}\)"):
        search = search_for(structure, solver=solver, cv=folds, max_iter=8).fit(X, labels)
    assert np.allclose(search.cv_results_["split0_test_score"], 0.0, atol=1e-8)
    if structure == "shared":
        others = search_for(solver=solver, cv=folds[1:], max_iter=8).fit(X, labels)
        assert search.best_score_ * 4 == pytest.approx(others.best_score_ * 3, rel=1e-3)


def test_labels_of_a_row_or_two_do_not_stop_the_others():
    labels = np.column_stack([y == "barolo", y == "rare", y == "barbera"])
    with pytest.warns(UserWarning):
        found = MultiOutputClassifier(search_for(cv=5)).fit(X, labels)
    assert found.score(X, labels) > 0.98


def test_a_split_that_judges_unknown_classes_only_is_refused():
    with pytest.raises(ValueError, match="split 0 has validation rows of class 'rare' only"):
        search_for(cv=LeaveOneOut()).fit(X, y)


def test_a_class_without_weight_is_refused():
    with pytest.raises(ValueError, match="y: class 'rare' has no row with a positive sample_weight"):
        search_for(cv=FOLDS).fit(X, y, sample_weight=(y != "rare").astype(float))


def test_a_class_is_absent_where_its_rows_have_no_weight():
    weights, twice = np.ones(len(y) + 1), np.append(y, "rare")
    weights[-1] = 0.0
    rows = np.vstack([X, X[:1] + 0.1])
    folds = [(np.append(train, len(y)), val) for train, val in FOLDS]
    with pytest.warns(UserWarning, match=SAID):
        search = search_for(cv=folds).fit(rows, twice, sample_weight=weights)
    assert search.best_score_ == pytest.approx(search_for(cv=FOLDS).fit(X, y).best_score_, rel=1e-4)


def test_stratified_folds_with_a_rare_class_are_taken():
    with pytest.warns(UserWarning) as said:
        search = search_for(cv=StratifiedKFold(5)).fit(X, y)
    assert sorted(str(warning.message)[:20] for warning in said) == ["The least populated ", "cv: a class without "]
    assert search.best_score_ > -0.2
