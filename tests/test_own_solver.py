"""Doors of the search: solvers by their settings, and one of a user's own; a matrix of penalties for each split."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from oracles import fit_reference, split_losses
from searches import search_for
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from sksid.problem import TRAIN, VALIDATION
from sksid.solvers import Aid, Dual, NotFiniteError, Progress, Sgd
from sksid.structures import matrix


class FullNewton:
    """A toy: Newton steps with the whole Hessian, and the adjoint from the last one; W and V have the intercept below."""

    threads_itself = precise = takes_unpenalized = takes_any_objective = takes_split_penalties = True

    def init(self, problem, log_penalties, seed=0, start=None):
        W, V = np.zeros((2, problem.n_splits, problem.n_outputs, problem.n_features + 1))
        return SimpleNamespace(log_penalties=np.array(log_penalties), W=W, V=V, n_epochs=0.0)

    def advance(self, problem, state, n_epochs=1.0):
        penalties = np.pad(np.exp(np.atleast_2d(state.log_penalties)), ((0, 0), (0, 1)))[:, None]
        lower, upper = replace(problem.objective(TRAIN), penalties=penalties), problem.objective(VALIDATION)
        for _ in range(30):
            point = lower.at(state.W)
            state.W -= solve(lower.hessian(point, state.W), lower.gradient(point, state.W))
        if problem.has_validation:
            state.V = solve(lower.hessian(point, state.W), upper.gradient(upper.at(state.W), state.W))
        state.n_epochs += 1.0
        return state

    def rescale(self, problem, state, log_penalties):
        state.log_penalties = np.array(log_penalties)
        return state

    def losses(self, problem, state, rows=None):
        upper = (rows or problem).objective(VALIDATION)
        return upper.losses(upper.outputs(state.W))

    def log_gradient(self, problem, state):
        products = (state.W * state.V)[..., :-1].sum(axis=1) / problem.n_splits
        return -np.exp(state.log_penalties) * (products.sum(axis=0) if state.log_penalties.ndim == 1 else products)

    def progress(self, problem, state):
        return Progress(residual=0.0, gradient_error=0.0, value_error=0.0)

    def coefficients(self, problem, state):
        return state.W[..., :-1], state.W[..., -1]

    def adjoint(self, problem, state):
        return state.V[..., :-1], state.V[..., -1]


def solve(H, right):
    """H⁻¹ right of every split."""
    return np.linalg.solve(H, right.reshape(*H.shape[:2], 1)).reshape(right.shape)


@pytest.mark.parametrize("structure", ["shared", "per_feature"])
def test_a_search_takes_a_solver_of_ones_own(structure, cancer):
    X, y = cancer
    own, ours = (search_for(structure, solver=solver, max_iter=5).fit(X, y) for solver in (FullNewton(), Aid(first_tol=None)))
    np.testing.assert_allclose(own.penalties_, ours.penalties_, rtol=1e-4)
    np.testing.assert_allclose(own.predict_proba(X), ours.predict_proba(X), atol=1e-6)


def test_a_solver_of_ones_own_serves_splits_with_features_of_their_own():
    random = np.random.RandomState(0)
    texts = [" ".join(f"w{j}" for j in random.randint(0, 30 + 10 * (i % 2), 12)) for i in range(120)]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    own, ours = (
        search_for("shared", solver=solver, estimator=pipeline).fit(texts, np.arange(120) % 2)
        for solver in (FullNewton(), Aid(first_tol=None))
    )
    np.testing.assert_allclose(own.penalties_, ours.penalties_, rtol=1e-4)


# three steps are few for sgd, which says so
@pytest.mark.filterwarnings("ignore:solver. Sgd:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("settings", "name"), [(Dual(), "dual"), (Aid(), "aid"), (Sgd(), "sgd")], ids=["dual", "aid", "sgd"])
def test_default_settings_are_what_the_name_stands_for(settings, name, cancer):
    by_settings, by_name = (search_for(solver=solver, max_iter=3).fit(*cancer) for solver in (settings, name))
    np.testing.assert_array_equal(by_settings.penalties_, by_name.penalties_)
    assert clone(by_settings).solver == settings


@pytest.mark.filterwarnings("ignore:solver. Sgd:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("settings", "name"), [(Dual(block_size=8), "dual"), (Sgd(lower_epochs=15), "sgd")], ids=["dual", "sgd"]
)
def test_settings_reach_the_solver(settings, name, cancer):
    changed, default = (search_for(solver=solver, max_iter=3).fit(*cancer) for solver in (settings, name))
    assert changed.cv_results_["n_epochs"].tolist() != default.cv_results_["n_epochs"].tolist() or not np.array_equal(
        changed.cv_results_["mean_test_score"], default.cv_results_["mean_test_score"]
    )
    np.testing.assert_allclose(changed.best_score_, default.best_score_, rtol=0.02)


@pytest.mark.parametrize("solver", ["newton", object(), Dual, 3])
def test_what_is_no_solver_is_refused_before_any_work(solver, cancer):
    calls = []

    class Cv:
        def split(self, X, y, groups=None):
            calls.append(1)
            yield np.arange(300), np.arange(300, 569)

    with pytest.raises((TypeError, ValueError), match="solver"):
        search_for(solver=solver, cv=Cv()).fit(*cancer)
    assert not calls


@pytest.mark.parametrize("structure", ["shared", "per_feature"])
def test_what_a_solver_gives_must_be_finite(structure, cancer):
    class Lost(FullNewton):
        def log_gradient(self, problem, state):
            return np.full(problem.n_features, np.nan)

    with pytest.raises(NotFiniteError, match="Lost gave a loss or a hypergradient that is not finite"):
        search_for(structure, solver=Lost(), max_iter=3).fit(*cancer)


def test_what_a_solver_declares_that_it_cannot_do_is_refused(cancer):
    with pytest.raises(ValueError, match="Sgd needs a penalty on every feature"):
        search_for(solver=Sgd(), unpenalized=[0]).fit(*cancer)


# ---- a matrix of penalties for each split -------------------------------------------------------------------------------


def test_equal_matrices_of_the_splits_are_one_matrix(cancer):
    A = np.column_stack([np.ones(30), np.linspace(-1, 1, 30)])
    one, each = (
        search_for(structure, solver=Aid(first_tol=None)).fit(*cancer) for structure in (A, matrix(A, per_split=[A] * 3))
    )
    assert each.structure_.n_splits == 3
    np.testing.assert_allclose(each.penalties_, one.penalties_, rtol=1e-6)
    np.testing.assert_allclose(each.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"], rtol=1e-6)


def test_the_models_of_splits_with_matrices_of_their_own_are_scored_at_their_penalties(cancer):
    X, y = cancer
    X = X * np.random.RandomState(0).uniform(0.3, 3.0, 30)
    splits = list(StratifiedKFold(3).split(X, y))
    whole, *per_split = (
        np.column_stack([np.ones(30), np.log(np.mean(rows**2, axis=0))]) for rows in (X, *(X[t] for t, _ in splits))
    )
    search = search_for(matrix(whole, per_split=per_split), solver="aid", cv=splits).fit(X, y)
    assert search.structure_.n_splits == 3
    level = np.log(search.penalties_) - whole @ search.theta_
    losses = [split_losses(X, y, splits[k : k + 1], level + A @ search.theta_) for k, A in enumerate(per_split)]
    assert -search.best_score_ == pytest.approx(np.mean(losses), rel=1e-4)
    model, factors = fit_reference(X, y, np.log(search.penalties_))
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X * factors), atol=1e-4)


def test_a_solver_that_takes_the_same_penalties_only_says_so_before_it_begins(cancer):
    A = np.ones((30, 2))
    with pytest.raises(ValueError, match="same penalties for all splits only"):
        search_for(matrix(A, per_split=[A] * 3), solver="sgd").fit(*cancer)
