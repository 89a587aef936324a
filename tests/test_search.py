"""HypergradientSearchCV finds, scores and refits what scikit-learn would at the same penalties."""

import numpy as np
import pytest
from oracles import fit_reference, relative_error, split_losses
from scipy.optimize import minimize_scalar
from searches import search_for
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)

from sksid import HypergradientSearchCV, joint
from sksid.solvers import Aid, Dual, _together

CONVERGED = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 200}


def same_point_in_a_grid(search, X, y, **params):
    """GridSearchCV's mean test score at the penalty that was found, with scikit-learn's solver run to convergence."""
    model = clone(search.estimator).set_params(**CONVERGED)
    grid = GridSearchCV(model, {"C": [search.best_params_["C"]]}, cv=search.cv, scoring=search.scoring or "neg_log_loss")
    return grid.fit(X, y, **params).best_score_


def some_weights(y):
    return np.random.RandomState(0).uniform(0.1, 3.0, len(y))


@pytest.fixture(scope="module")
def per_feature(cancer):
    return search_for("per_feature").fit(*cancer)


# ---- the score is GridSearchCV's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cv",
    [
        5,
        StratifiedKFold(4, shuffle=True, random_state=1),
        ShuffleSplit(3, test_size=0.3, train_size=0.5, random_state=1),
        RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=1),
        PredefinedSplit(np.arange(569) % 4 - 1),
    ],
    ids=lambda cv: type(cv).__name__,
)
@pytest.mark.parametrize("solver", ["dual", "aid"])
def test_score_is_that_of_grid_search_at_the_same_penalty(solver, cv, cancer):
    search = search_for(cv=cv, solver=solver).fit(*cancer)
    assert search.best_score_ == pytest.approx(same_point_in_a_grid(search, *cancer), rel=1e-3)
    assert len(search.cv_results_["params"]) > 1


def test_splits_may_be_an_iterable_of_pairs(cancer):
    X, y = cancer
    pairs = list(StratifiedKFold(3, shuffle=True, random_state=2).split(X, y))
    search = search_for(cv=pairs).fit(X, y)
    assert search.n_splits_ == 3
    assert search.best_score_ == pytest.approx(same_point_in_a_grid(search, X, y), rel=1e-3)
    consumed = search_for(cv=iter(pairs)).fit(X, y)
    assert consumed.best_score_ == search.best_score_


def test_several_classes_are_scored_like_grid_search(digits):
    X, y = digits[0][:200], digits[1][:200]
    search = search_for().fit(X, y)
    assert search.best_score_ == pytest.approx(same_point_in_a_grid(search, X, y), rel=1e-3)


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1.0, 1: 5.0}], ids=["none", "balanced", "dict"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_weights_mean_what_they_mean_in_grid_search(weighted, class_weight, cancer):
    X, y = cancer
    params = {"sample_weight": some_weights(y)} if weighted else {}
    search = search_for(estimator=LogisticRegression(class_weight=class_weight)).fit(X, y, **params)
    assert search.best_score_ == pytest.approx(same_point_in_a_grid(search, X, y, **params), rel=1e-3)
    model = clone(search.estimator).set_params(**search.best_params_, **CONVERGED).fit(X, y, **params)
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X), atol=1e-4)


def test_groups_go_to_the_splitter(cancer):
    X, y = cancer
    groups = np.arange(len(y)) // 20
    search = search_for(cv=GroupKFold(4)).fit(X, y, groups=groups)
    assert search.best_score_ == pytest.approx(same_point_in_a_grid(search, X, y, groups=groups), rel=1e-3)


def test_weights_count_like_repeated_rows(cancer):
    X, y = cancer
    times = np.random.RandomState(3).randint(0, 3, len(y))
    fold = np.arange(len(y)) % 3
    exactly = {"estimator": LogisticRegression(C=2.0), "solver": Aid(first_tol=None), "tol": 1e-6}
    weighted = search_for(cv=PredefinedSplit(fold), **exactly).fit(X, y, sample_weight=times)
    rows = np.arange(len(y)).repeat(times)
    plain = search_for(cv=PredefinedSplit(fold[rows]), **exactly).fit(X[rows], y[rows])
    assert weighted.best_params_["C"] == pytest.approx(plain.best_params_["C"], rel=1e-3)
    assert weighted.best_score_ == pytest.approx(plain.best_score_, rel=1e-4)
    np.testing.assert_allclose(weighted.predict_proba(X), plain.predict_proba(X), atol=1e-4)


def test_groups_of_features_are_scored_like_scikit_learn(cancer):
    X, y = cancer
    search = search_for(np.repeat(["mean", "error", "worst"], 10)).fit(X, y)
    splits = list(StratifiedKFold(3).split(X, y))
    losses = split_losses(X, y, splits, np.log(search.penalties_))
    assert search.best_score_ == pytest.approx(-losses.mean(), rel=1e-3)
    reported = [search.cv_results_[f"split{k}_test_score"][search.best_index_] for k in range(3)]
    np.testing.assert_allclose(reported, -losses, rtol=1e-3)
    np.testing.assert_allclose(np.unique(search.penalties_), np.sort(np.exp(search.theta_)), rtol=1e-10)


# ---- the refit is scikit-learn's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "no_intercept"])
@pytest.mark.parametrize("structure", ["shared", "moments", "per_feature"])
@pytest.mark.parametrize("data", ["cancer", "digits"])
def test_best_estimator_is_the_solution_at_the_penalties(data, structure, fit_intercept, request):
    X, y = request.getfixturevalue(data)
    if data == "digits":
        X, y = X[:200], y[:200]
    search = search_for(structure, estimator=LogisticRegression(fit_intercept=fit_intercept), max_iter=15).fit(X, y)
    model, factors = fit_reference(X, y, np.log(search.penalties_), fit_intercept=fit_intercept)
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X * factors), atol=1e-4)
    assert search.best_params_["C"] == pytest.approx(np.exp(-np.log(search.penalties_).mean()), rel=1e-9)


def test_per_feature_refit_by_the_dual_solver_is_the_solution(cancer):
    X, y = cancer
    search = search_for("per_feature", solver="dual").fit(X, y)
    model, factors = fit_reference(X, y, np.log(search.penalties_))
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X * factors), atol=1e-4)


def test_hypergradient_is_that_of_the_result(cancer):
    X, y = cancer
    search = search_for("shared").fit(X, y)
    splits = list(StratifiedKFold(3).split(X, y))
    low, high = (split_losses(X, y, splits, search.theta_[0] + step).mean() for step in (-1e-2, 1e-2))
    assert search.hypergradient_[0] == pytest.approx((high - low) / 2e-2, abs=1e-4)


# ---- the search finds the optimum ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("solver", ["dual", "aid"])
def test_shared_search_reaches_the_optimum_from_any_start(solver, C, cancer, cancer_optimum):
    search = search_for(estimator=LogisticRegression(C=C), solver=solver).fit(*cancer)
    assert -search.best_score_ <= cancer_optimum * (1 + 1e-3)


def test_few_hyperparameters_do_better_than_one_on_the_criterion(cancer):
    X, y = cancer
    shared = search_for().fit(X, y)
    groups = search_for(np.repeat([0, 1, 2], 10)).fit(X, y)
    assert groups.best_score_ > shared.best_score_
    assert groups.structure_.name == "groups"
    assert np.abs(groups.hypergradient_).max() <= 0.01 * -groups.best_score_


# ---- the paper's solver -------------------------------------------------------------------------------------------------


def test_shared_search_by_stochastic_iterations_ends_where_the_exact_one_does(cancer):
    X, y = cancer
    search, exact = (search_for(solver=solver).fit(X, y) for solver in ("sgd", "aid"))
    assert search.best_score_ == pytest.approx(same_point_in_a_grid(search, X, y), rel=1e-3)
    assert search.best_score_ == pytest.approx(exact.best_score_, rel=1e-3)
    model, factors = fit_reference(X, y, np.log(search.penalties_))
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X * factors), atol=1e-4)


def test_search_by_stochastic_iterations_says_where_it_missed_the_optimum(digits):
    """With a weak best penalty, 100 epochs leave both systems far from their solutions; still the score is the models' own."""
    X, y = digits[0][:200], digits[1][:200]
    with pytest.warns(ConvergenceWarning, match="Sgd was not accurate enough"):
        search = search_for(estimator=LogisticRegression(C=100.0), solver="sgd", max_iter=3).fit(X, y)
    assert search.best_score_ == pytest.approx(same_point_in_a_grid(search, X, y), rel=1e-3)
    assert search.best_score_ < search_for(solver="aid").fit(X, y).best_score_ * (1 + 1e-3)


def test_per_feature_search_by_stochastic_iterations_is_judged_by_a_precise_solver(cancer):
    X, y = cancer
    search = search_for("per_feature", solver="sgd", max_iter=15).fit(X, y)
    precise = search_for("per_feature", max_iter=15).fit(X, y)
    assert search.cv_results_["is_nested"].any()
    assert search.best_score_ == pytest.approx(precise.best_score_, abs=0.01)


# ---- many penalties ---------------------------------------------------------------------------------------------------


def test_per_feature_search_on_noise_is_no_worse_than_the_shared_penalty():
    random = np.random.RandomState(0)
    X, y = random.randn(1200, 60), random.randint(0, 2, 1200)
    search = search_for("per_feature").fit(X[:600], y[:600])
    shared = search_for("shared").fit(X[:600], y[:600])
    own, other = (log_loss(y[600:], model.predict_proba(X[600:])) for model in (search, shared))
    assert own <= other * 1.01
    assert own <= np.log(2) * 1.03


def test_per_feature_search_finds_the_features_that_matter():
    X, y = make_classification(3000, 100, n_informative=5, n_redundant=0, shuffle=False, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, train_size=800, random_state=0)
    search, shared = (search_for(structure).fit(X, y) for structure in ("per_feature", "shared"))
    assert search.structure_.name in ("moments+evidence", "per_feature")
    assert np.median(search.penalties_[5:]) > 3 * np.median(search.penalties_[:5])
    own, other = (log_loss(y_test, model.predict_proba(X_test)) for model in (search, shared))
    assert own < other


# ---- determinism --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["dual", "aid"])
def test_random_state_decides_every_bit(solver, cancer):
    one, two = (search_for("per_feature", solver=solver, max_iter=10, random_state=7).fit(*cancer) for _ in range(2))
    np.testing.assert_array_equal(one.penalties_, two.penalties_)
    np.testing.assert_array_equal(one.best_estimator_.coef_, two.best_estimator_.coef_)
    other = search_for("per_feature", solver=solver, max_iter=10, random_state=8).fit(*cancer)
    assert not np.array_equal(one.penalties_, other.penalties_)


def test_any_number_of_jobs_gives_the_same_bits(cancer):
    one, two = (search_for("per_feature", max_iter=8, scoring="accuracy", n_jobs=n_jobs).fit(*cancer) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one.penalties_, two.penalties_)
    np.testing.assert_array_equal(one.best_estimator_.coef_, two.best_estimator_.coef_)
    for k in range(3):
        np.testing.assert_array_equal(one.cv_results_[f"split{k}_test_score"], two.cv_results_[f"split{k}_test_score"])


def take_first(results):
    return 0


@pytest.mark.parametrize("solver", ["dual", "aid"])
def test_groups_of_the_splits_in_threads_give_the_same_bits_as_one_after_the_other(solver, digits, monkeypatch):
    X, y = digits[0][:200], digits[1][:200]
    settings = {"solver": solver, "max_iter": 2, "refit": take_first}  # which is then solved precisely
    whole = search_for("shared", **settings).fit(X, y)
    monkeypatch.setattr(joint, "WORK_FOR_GROUPS", 0.0)
    monkeypatch.setattr(joint, "OUTPUTS_FOR_GROUPS", 0)
    monkeypatch.setattr(_together, "WORK_FOR_A_THREAD", 0.0)
    one, two = (search_for("shared", n_jobs=n_jobs, **settings).fit(X, y) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one.penalties_, two.penalties_)
    np.testing.assert_array_equal(one.best_estimator_.coef_, two.best_estimator_.coef_)
    for k in range(3):
        ours, theirs, unbroken = (search.cv_results_[f"split{k}_test_score"] for search in (one, two, whole))
        np.testing.assert_array_equal(ours, theirs)
        assert ours[0] == pytest.approx(unbroken[0], rel=1e-3)


# ---- other scores -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc", "neg_log_loss"])
def test_scoring_reports_scikit_learns_score(scoring, cancer):
    X, y = cancer
    search = search_for(scoring=scoring).fit(X, y)
    model = LogisticRegression(**CONVERGED, **search.best_params_)
    assert search.best_score_ == pytest.approx(cross_val_score(model, X, y, cv=3, scoring=scoring).mean(), rel=1e-3)
    assert search.best_score_ == search.cv_results_["mean_test_score"][search.best_index_]


def test_the_descent_is_on_the_log_loss_whatever_the_score(cancer):
    X, y = cancer
    by_loss, by_accuracy = search_for().fit(X, y), search_for(scoring="accuracy").fit(X, y)
    np.testing.assert_allclose(by_loss.cv_results_["param_C"], by_accuracy.cv_results_["param_C"], rtol=1e-10)
    assert relative_error(by_accuracy.best_score_, by_accuracy.cv_results_["mean_test_score"].max()) <= 5e-3


@pytest.mark.parametrize("log_start", [-14.0, 0.1, 12.0])
def test_the_start_does_not_matter_to_one_penalty(log_start, cancer):
    """Penalties so weak, or so strong, that the start is far out on the plateau of the loss."""
    X, y = cancer
    splits = list(StratifiedKFold(5).split(X, y))
    exact = minimize_scalar(lambda level: split_losses(X, y, splits, level).mean(), bounds=(-2, 3), method="bounded")
    start = LogisticRegression(C=np.exp(-log_start))
    found = HypergradientSearchCV(start, structure="shared", random_state=0).fit(X, y)
    assert found.cv_results_["param_C"][0] == pytest.approx(start.C)
    assert -found.best_score_ == pytest.approx(exact.fun, rel=3e-4)
    assert np.log(found.best_params_["C"]) == pytest.approx(-exact.x, abs=0.1)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_a_default_penalty_leaves_the_start_to_the_data(scale, cancer):
    """C = 1 says nothing of the features' units: the first penalty goes with their squares."""
    X, y = cancer
    found = search_for(max_iter=1).fit(scale * X, y)
    np.testing.assert_allclose(found.cv_results_["param_C"][0] * (scale**2 * X**2).sum(axis=1).mean(), np.exp(3), rtol=0.01)


def test_the_solve_of_the_chosen_step_adds_to_its_row(cancer):
    """The table's epochs are all that were spent, the final solve included."""
    spent = []

    class Counted(Dual):
        def advance(self, problem, state, n_epochs=1.0):
            before = state.n_epochs
            state = super().advance(problem, state, n_epochs)
            if problem.has_validation:
                spent.append(state.n_epochs - before)
            return state

    for structure in ("shared", "moments"):
        spent.clear()
        search = search_for(structure, solver=Counted(), max_iter=6).fit(*cancer)
        assert search.cv_results_["n_epochs"].sum() == pytest.approx(sum(spent))


@pytest.mark.parametrize("structure", ["moments", "per_feature"])
def test_rows_of_weight_zero_change_nothing(structure, cancer):
    X, y = cancer
    X = X * np.random.RandomState(0).uniform(0.3, 3.0, 30)
    rows = np.random.RandomState(1).permutation(len(y))
    weights, held_out, fold = np.where(rows < 450, 1.0, 0.0), np.arange(len(y)) % 7 == 0, np.arange(len(y)) % 3
    pairs = [(np.flatnonzero((fold != k) & ~held_out), np.flatnonzero((fold == k) & ~held_out)) for k in range(3)]
    spoilt = np.where(weights[:, None] > 0, X, 100.0 * X[rows])
    settings = {"cv": pairs, "max_iter": 6, "solver": "aid", "early_stopping": False}
    one, two = (search_for(structure, **settings).fit(data, y, sample_weight=weights) for data in (X, spoilt))
    np.testing.assert_allclose(one.penalties_, two.penalties_, rtol=1e-6)
