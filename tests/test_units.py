"""Units: features times c, or weights times c, ask for other penalties and give the same model, Eq. (32)."""

import numpy as np
import pytest
from searches import search_for
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier

from sksid.descent import Bilevel
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual

FACTORS = [1e-8, 1e-6, 1e-4, 1e-2, 1e2, 1e4, 1e6, 1e8]


@pytest.fixture(scope="module")
def plain(cancer):
    return {solver: search_for(solver=solver).fit(*cancer) for solver in ("dual", "aid")}


@pytest.mark.parametrize("solver", ["dual", "aid"])
@pytest.mark.parametrize("factor", FACTORS)
def test_scaled_features_have_scaled_penalties_and_the_same_model(factor, solver, cancer, cancer_optimum, plain):
    X, y = cancer
    found = search_for(solver=solver).fit(factor * X, y)
    assert -found.best_score_ == pytest.approx(cancer_optimum, rel=1e-3)
    assert np.log(found.best_params_["C"] * factor**2) == pytest.approx(np.log(plain[solver].best_params_["C"]), abs=0.1)
    np.testing.assert_allclose(found.predict_proba(factor * X), plain[solver].predict_proba(X), atol=0.01)


@pytest.mark.parametrize("solver", [Dual(), Aid(first_tol=None)], ids=["dual", "aid"])
def test_scaled_features_have_scaled_penalties_each(solver, cancer):
    """A search that begins at the data's own scale, as in units where C means nothing, takes the same path in any units."""
    X, y = cancer
    X = X * np.random.RandomState(0).uniform(0.3, 3.0, 30)
    one, *others = (search_for("per_feature", solver=solver, max_iter=12).fit(c * X, y) for c in (1e4, 1e-8, 1e-5, 1e8))
    for other, factor in zip(others, (1e-12, 1e-9, 1e4), strict=True):
        assert other.structure_.name == one.structure_.name
        assert other.cv_results_["structure"].tolist() == one.cv_results_["structure"].tolist()
        np.testing.assert_allclose(other.penalties_ / factor**2, one.penalties_, rtol=1e-3)
        np.testing.assert_allclose(other.predict_proba(factor * 1e4 * X), one.predict_proba(1e4 * X), atol=1e-4)


@pytest.mark.parametrize("solver", ["dual", "aid"])
@pytest.mark.parametrize("factor", [1e-9, 1e9])
@pytest.mark.parametrize("estimator", [LogisticRegression(), SGDClassifier(loss="log_loss", alpha=0.01)], ids=["C", "alpha"])
def test_weights_in_other_units_change_nothing(estimator, factor, solver, cancer):
    X, y = cancer
    weights = np.random.RandomState(0).uniform(0.5, 2.0, len(y))
    found = search_for(solver=solver, estimator=estimator).fit(X, y, sample_weight=weights)
    other = search_for(solver=solver, estimator=estimator).fit(X, y, sample_weight=factor * weights)
    assert other.best_score_ == pytest.approx(found.best_score_, rel=1e-3)
    assert np.log(other.penalties_[0] / factor) == pytest.approx(np.log(found.penalties_[0]), abs=0.1)
    np.testing.assert_allclose(other.predict_proba(X), found.predict_proba(X), atol=0.01)


def test_a_penalty_in_the_units_of_the_data_is_where_the_search_starts(cancer):
    X, y = cancer
    for C in (1e-6, 1e-3, 2.0, 1e3, 1e5):
        search = search_for(estimator=LogisticRegression(C=C), max_iter=1, solver="aid").fit(X, y)
        assert search.cv_results_["param_C"][0] == pytest.approx(C)


def test_the_range_holds_what_features_of_very_different_size_ask_for(cancer):
    """Each feature for itself would be searched from 18 below its own scale."""
    X, y = cancer
    X = X * np.geomspace(1e-3, 1e3, 30)
    problem = make_problem(X, y, [(np.arange(400), np.arange(400, 569))], n_classes=2, dtype=np.float64)
    low, high = Bilevel(problem, Aid()).log_range
    scales = np.log(problem.second_moments)
    assert low < np.median(scales) - 18
    assert high > scales.max() + 18


def test_warnings_are_of_the_users_line(cancer):
    X, y = cancer
    with pytest.warns(ConvergenceWarning, match="Sgd was not accurate enough") as caught:
        search_for(solver="sgd", max_iter=1, estimator=LogisticRegression(C=1e-3)).fit(X, y)
    assert {warning.filename for warning in caught} == {__file__}
