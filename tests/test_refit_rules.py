"""A callable ``refit``, and the one-standard-error rule."""

import pickle
from functools import partial

import numpy as np
import pytest
from oracles import fit_reference
from searches import search_for
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

from sksid import one_standard_error

# ---- a callable refit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["shared", "per_feature"])
@pytest.mark.parametrize("scoring", [None, "accuracy", ["accuracy", "neg_log_loss"]])
def test_a_callable_chooses_the_step_that_is_reported_and_refitted(structure, scoring, cancer):
    X, y = cancer
    search = search_for(structure, scoring=scoring, max_iter=6, refit=lambda results: 1).fit(X, y)
    assert search.best_index_ == 1
    assert search.best_params_ == search.cv_results_["params"][1]
    assert not hasattr(search, "best_score_")
    assert search.penalties_.mean() == pytest.approx(1.0 / search.cv_results_["param_C"][1])
    model, factors = fit_reference(X, y, np.log(search.penalties_))
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X * factors), atol=1e-4)


def test_a_callable_may_choose_a_step_with_penalties_of_their_own(cancer):
    X, y = cancer
    search = search_for("per_feature", max_iter=6, refit=lambda results: len(results["params"]) - 1).fit(X, y)
    assert search.structure_.name == "per_feature"
    assert np.ptp(search.penalties_) > 0
    model, factors = fit_reference(X, y, np.log(search.penalties_))
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X * factors), atol=1e-4)


def test_the_chosen_step_is_solved_to_convergence(cancer):
    X, y = cancer
    search = search_for(solver="dual", refit=lambda results: 0, max_iter=4).fit(X, y)
    model = LogisticRegression(C=search.best_params_["C"], solver="newton-cholesky", tol=1e-10)
    scores = cross_val_score(model, X, y, cv=3, scoring="neg_log_loss")
    np.testing.assert_allclose([search.cv_results_[f"split{k}_test_score"][0] for k in range(3)], scores, rtol=1e-3)


def test_a_callable_that_changes_its_mind_has_the_last_word(cancer):
    """The row that it comes back to has been solved before the other one."""
    answers = iter([0, 1, 0])
    search = search_for(refit=lambda results: next(answers), max_iter=4).fit(*cancer)
    assert search.best_index_ == 0
    assert search.best_params_ == search.cv_results_["params"][0]
    assert search.best_estimator_.C == search.best_params_["C"]


@pytest.mark.parametrize(("index", "error"), [("0", TypeError), (1.0, TypeError), (-1, IndexError), (10**6, IndexError)])
def test_what_is_no_row_is_refused(index, error, cancer):
    with pytest.raises(error, match="best_index_"):
        search_for(refit=lambda results: index, max_iter=2).fit(*cancer)


def test_a_score_that_is_not_a_number_ranks_last(cancer):
    calls = []

    def scorer(model, X, y):
        calls.append(1)
        return np.nan if len(calls) <= 3 else model.score(X, y)

    with pytest.warns(UserWarning, match="non-finite") as caught:
        search = search_for(scoring=scorer).fit(*cancer)
    assert len(caught) == 1
    assert search.best_index_ != 0
    assert search.cv_results_["rank_test_score"][0] == search.n_iter_


def test_several_scores_of_a_callable_need_a_name_to_refit_by(cancer):
    def scorer(model, X, y):
        return {"hits": np.mean(model.predict(X) == y), "misses": -np.mean(model.predict(X) != y)}

    search = search_for(scoring=scorer, refit="hits").fit(*cancer)
    assert search.multimetric_
    assert search.best_score_ == search.cv_results_["mean_test_hits"].max()
    with pytest.raises(ValueError, match="refit"):
        search_for(scoring=scorer).fit(*cancer)
    with pytest.raises(ValueError, match="refit"):
        search_for(scoring=scorer, refit="others").fit(*cancer)


def test_several_scores_without_refit_leave_what_grid_search_leaves(cancer):
    settings = {"scoring": ["accuracy", "roc_auc"], "refit": False, "cv": 3}
    search = search_for(**settings).fit(*cancer)
    grid = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, **settings).fit(*cancer)
    assert search.multimetric_
    for name in ("best_index_", "best_params_", "best_score_", "best_estimator_", "predict"):
        assert not hasattr(search, name), name
        assert not hasattr(grid, name), name


def test_a_callable_refit_sees_scores_that_are_not_numbers_with_one_warning(cancer):
    with pytest.warns(UserWarning, match="non-finite") as caught:
        search_for(scoring=lambda model, X, y: np.nan, refit=lambda results: 0, max_iter=2).fit(*cancer)
    assert len(caught) == 1


# ---- one standard error -------------------------------------------------------------------------------------------------


def table(means, C, std=0.2, n_splits=5, metric="score", **more):
    splits = {f"split{k}_test_{metric}": np.asarray(means) for k in range(n_splits)}
    std = np.full(len(means), std)
    return {**splits, f"mean_test_{metric}": np.asarray(means), f"std_test_{metric}": std, "param_C": np.asarray(C), **more}


def test_the_strongest_within_one_standard_error_is_taken():
    results = table([-1.0, -0.59, -0.52, -0.5, -0.55], [0.01, 0.1, 1.0, 10.0, 100.0])  # a standard error of 0.1
    assert one_standard_error(results) == 1
    assert one_standard_error(table([-1.0, -0.61, -0.52, -0.5, -0.55], [0.01, 0.1, 1.0, 10.0, 100.0])) == 2
    assert one_standard_error(table([-0.5, -0.45, np.nan], [1.0, 1.0, 0.1])) == 1
    assert type(one_standard_error(results)) is int
    by_alpha = {key: value for key, value in results.items() if key != "param_C"} | {"param_sgd__alpha": [5, 4, 3, 2, 1]}
    assert one_standard_error(by_alpha) == 1
    named = table([-1.0, -0.59, -0.5], [0.01, 0.1, 1.0], metric="auc")
    assert one_standard_error(named, metric="auc") == 1


def test_scores_by_the_rows_that_chose_do_not_count_where_others_are_nested():
    results = table([-0.6, -0.5, -0.2, -0.1, -0.45], [1.0, 2.0, 0.5, 1.0, 3.0])
    structures, nested = ["shared", "shared", "evidence", "evidence", "evidence"], [False] * 4 + [True]
    assert one_standard_error({**results, "structure": structures, "is_nested": nested}) == 1


def test_the_rule_needs_one_parameter_to_order_by():
    results = table([-1.0, -0.5], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"named C or alpha, and found \[\]"):
        one_standard_error({key: value for key, value in results.items() if key != "param_C"})
    with pytest.raises(ValueError, match="param_svc__C"):
        one_standard_error({**results, "param_svc__C": np.ones(2)})


def test_the_rule_serves_both_searches(cancer):
    X, y = cancer
    X = X[:, :10]
    grid = GridSearchCV(LogisticRegression(), {"C": np.logspace(-3, 3, 13)}, cv=5, scoring="neg_log_loss")
    best = grid.fit(X, y).best_params_["C"]
    stronger = clone(grid).set_params(refit=one_standard_error).fit(X, y).best_params_["C"]
    assert stronger < best
    ours = search_for(cv=5, refit=one_standard_error).fit(X, y)
    free = search_for(cv=5).fit(X, y)
    lost = free.best_score_ - ours.cv_results_["mean_test_score"][ours.best_index_]
    assert ours.best_params_["C"] < free.best_params_["C"]
    assert 0 < lost <= free.cv_results_["std_test_score"][free.best_index_] / 2


def test_the_rule_takes_the_name_of_a_score(cancer):
    rule = partial(one_standard_error, metric="roc_auc")
    search = search_for(scoring=["accuracy", "roc_auc"], refit=rule).fit(*cancer)
    assert search.best_index_ == rule(search.cv_results_)
    assert pickle.loads(pickle.dumps(search)).best_index_ == search.best_index_
