"""A second ``fit`` with ``warm_start=True``: its penalties, and the splits' models."""

import pickle

import numpy as np
import pytest
from searches import search_for
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksid import one_standard_error
from sksid.joint import in_groups
from sksid.logistic import solve
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual, Sgd, Together

# ---- the penalties ------------------------------------------------------------------------------------------------------


def test_a_warm_start_begins_at_the_last_penalties(cancer):
    X, y = cancer
    search = search_for(warm_start=True, estimator=LogisticRegression(C=1e-4)).fit(X, y)
    first, n_iter = search.penalties_, search.n_iter_
    search.fit(X, y)
    assert 1.0 / search.cv_results_["param_C"][0] == pytest.approx(first[0])
    assert search.n_iter_ < n_iter
    np.testing.assert_allclose(search.penalties_, first, rtol=0.05)
    cold = search.set_params(warm_start=False).fit(X, y)
    assert cold.n_iter_ == n_iter


@pytest.mark.parametrize("estimator", [LogisticRegression(), SGDClassifier(loss="log_loss", alpha=0.01)], ids=["C", "alpha"])
def test_a_warm_start_of_many_penalties_begins_at_each_of_them(estimator, cancer):
    X, y = cancer
    search = search_for("per_feature", warm_start=True, estimator=estimator, max_iter=15, early_stopping=False).fit(X, y)
    assert search.structure_.name == "per_feature"
    before = search.penalties_
    search.set_params(max_iter=1, refit=lambda results: len(results["params"]) - 1).fit(X, y)
    assert list(dict.fromkeys(search.cv_results_["structure"])) == ["shared", "per_feature"]
    np.testing.assert_allclose(search.penalties_, before, rtol=1e-9)


def test_a_warm_start_needs_the_same_number_of_features(cancer):
    X, y = cancer
    search = search_for(warm_start=True, estimator=LogisticRegression(C=0.5)).fit(X, y)
    search.fit(X[:, :20], y)
    assert search.cv_results_["param_C"][0] == pytest.approx(0.5)
    assert clone(search).fit(X, y).cv_results_["param_C"][0] == pytest.approx(0.5)


def test_a_warm_start_survives_pickling_and_takes_new_data(cancer):
    X, y = cancer
    rows = next(StratifiedKFold(2, shuffle=True, random_state=0).split(X, y))
    search = search_for("per_feature", warm_start=True, max_iter=15).fit(X[rows[0]], y[rows[0]])
    stored = pickle.dumps(search)
    assert len(stored) < 100_000
    one, two = pickle.loads(stored).fit(X[rows[1]], y[rows[1]]), search.fit(X[rows[1]], y[rows[1]])
    np.testing.assert_array_equal(one.penalties_, two.penalties_)


def test_a_warm_start_leaves_features_unpenalized(cancer):
    X, y = cancer
    search = search_for("per_feature", warm_start=True, unpenalized=[0, 1], max_iter=4, early_stopping=False).fit(X, y)
    search.set_params(max_iter=1).fit(X, y)
    np.testing.assert_array_equal(search.penalties_[:2], 0.0)
    freed = search.set_params(unpenalized=None).fit(X, y)
    assert (freed.penalties_ > 0).all()


def test_pipelines_take_rules_and_warm_starts(cancer):
    X, y = cancer
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3))
    search = search_for(estimator=pipeline, warm_start=True, refit=one_standard_error, cv=5).fit(X, y)
    first = search.best_params_["logisticregression__C"]
    assert search.best_estimator_[-1].C == first
    search.fit(X, y)
    assert search.cv_results_["param_logisticregression__C"][0] == pytest.approx(first)


# ---- the models ---------------------------------------------------------------------------------------------------------


def problem_of(X, y, **settings):
    return make_problem(X, y, list(StratifiedKFold(3).split(X, y)), n_classes=y.max() + 1, dtype=np.float64, **settings)


def solved(problem, log_penalties):
    """Both levels of all splits by the exact solver, as a start, and their estimate."""
    aid = Aid(tol=1e-11, first_tol=None)
    state, estimate = solve(problem, aid, aid.init(problem, log_penalties), rtol=1e-9)
    return (aid.coefficients(problem, state), aid.adjoint(problem, state)), estimate


@pytest.mark.parametrize("data", ["cancer", "digits"])
@pytest.mark.parametrize("solver", [Dual(), Aid(first_tol=None), Sgd()], ids=["dual", "aid", "sgd"])
def test_a_solver_begins_at_the_models_it_is_given(solver, data, request):
    X, y = (part[:200] for part in request.getfixturevalue(data))
    problem, log_penalties = problem_of(X, y), np.zeros(X.shape[1])
    start, expected = solved(problem, log_penalties)
    again = problem_of(X, y, seed=1)  # the rows in another order
    halves = in_groups(again, [np.array([0, 1]), np.array([2])])
    for own, rows in ((solver, again), (Together(solver), halves)):
        state = own.init(rows, log_penalties, start=start)
        np.testing.assert_allclose(own.losses(rows, state, rows), expected.losses, rtol=1e-6)
        np.testing.assert_allclose(own.log_gradient(rows, state), expected.log_gradient, atol=1e-6)


def test_the_dual_solver_begins_at_zero_where_the_models_are_of_no_use(cancer):
    problem, dual = problem_of(*cancer), Dual()
    (coef, intercept), adjoint = solved(problem, np.zeros(30))[0]
    coef[1] += 10.0
    state = dual.init(problem, np.full(30, -3.0), start=((coef, intercept), adjoint))
    for side in (dual.coefficients(problem, state), dual.adjoint(problem, state)):
        np.testing.assert_array_equal(side[1][1], 0.0)
    np.testing.assert_array_equal(dual.coefficients(problem, state)[0][1], 0.0)


@pytest.mark.parametrize("solver", ["dual", "aid"])
def test_unpenalized_features_begin_at_the_models_too(solver, cancer):
    problem, log_penalties = problem_of(*cancer), np.where(np.arange(30) < 2, -np.inf, 1.0)
    start, _ = solved(problem, log_penalties)
    own = {"dual": Dual(), "aid": Aid(first_tol=None)}[solver]
    state = own.init(problem, log_penalties, start=start)
    np.testing.assert_allclose(own.coefficients(problem, state)[0], start[0][0], atol=1e-6)
    np.testing.assert_allclose(own.adjoint(problem, state)[0], start[1][0], atol=1e-6)


def test_a_second_search_has_less_to_solve(cancer):
    search = search_for(solver="dual", warm_start=True).fit(*cancer)
    first = search.best_score_
    search.fit(*cancer)
    assert search.best_score_ == pytest.approx(first, rel=1e-3)
    with_models = search.cv_results_["n_epochs"][0]
    del search._split_models
    assert with_models < 0.5 * search.fit(*cancer).cv_results_["n_epochs"][0]


def test_models_of_other_shapes_are_let_go(cancer):
    X, y = cancer
    search = search_for(warm_start=True).fit(X, y)
    for changed in ({"cv": 4}, {"cv": 3}):
        search.set_params(**changed).fit(X, y)
        fresh = clone(search).fit(X, y)
        assert search.best_score_ == pytest.approx(fresh.best_score_, rel=1e-3)
    assert search.fit(X, np.arange(len(y)) % 3).classes_.size == 3
