"""Features without a penalty, log λ = −∞: exactly, as the intercept, in every solver that takes them."""

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import fit_from_splits, fit_reference, relative_error, solve_directly

from sksid.problem import make_problem
from sksid.solvers import Aid, Dual

UNPENALIZED = [3, 7, 11]


def make_data(n_classes, sparse):
    random = np.random.RandomState(0)
    X = random.randn(600, 30) * (random.rand(600, 30) < (0.3 if sparse else 1.0))
    scores = X @ random.randn(30, n_classes) + 2.0 * random.gumbel(size=(600, n_classes))
    log_penalties = np.ones(30)
    log_penalties[UNPENALIZED] = -np.inf
    return (sp.csr_array(X) if sparse else X), scores.argmax(axis=1), log_penalties


def make_three_splits(X, y, **settings):
    index = np.arange(len(y))
    splits = [(index[index % 3 != k], index[index % 3 == k]) for k in range(3)]
    return make_problem(X, y, splits, n_classes=y.max() + 1, dtype=np.float64, **settings)


def without_common_part(coef):
    """A constant added to the outputs of a feature without penalty changes no loss."""
    if coef.shape[1] == 1:
        return coef
    return coef - np.where(np.isin(np.arange(30), UNPENALIZED), coef.mean(axis=1, keepdims=True), 0.0)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_dual_agrees_with_aid(n_classes, fit_intercept, sparse):
    X, y, log_penalties = make_data(n_classes, sparse)
    problem = make_three_splits(X, y, fit_intercept=fit_intercept)
    aid, dual = Aid(tol=1e-11, first_tol=None), Dual()
    exact = aid.advance(problem, aid.init(problem, log_penalties))
    state = dual.advance(problem, dual.init(problem, log_penalties + 1.0), 6)
    state = dual.advance(problem, dual.rescale(problem, state, log_penalties), 150)
    gradient = dual.log_gradient(problem, state)
    assert (gradient[UNPENALIZED] == 0.0).all()
    assert relative_error(gradient, aid.log_gradient(problem, exact)) < 1e-4
    for side in ("coefficients", "adjoint"):
        found, expected = (without_common_part(getattr(s, side)(problem, t)[0]) for s, t in ((dual, state), (aid, exact)))
        assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize("n_classes", [2, 4])
def test_aid_agrees_with_a_vanishing_penalty(n_classes):
    X, y, log_penalties = make_data(n_classes, sparse=False)
    index = np.arange(len(y))
    problem = make_problem(X, y, [(index, index[:0])], n_classes=n_classes, dtype=np.float64)
    coef, _ = solve_directly(problem, log_penalties)
    model, factors = fit_reference(X, y, np.maximum(log_penalties, -16.0))
    reference = model.coef_ * factors
    assert relative_error(without_common_part(coef[None]), without_common_part(reference[None])) < 1e-5


def test_final_fit_by_dual_agrees_with_aid():
    X, y, log_penalties = make_data(2, sparse=True)
    index = np.arange(len(y))
    splits, full = make_three_splits(X, y), make_problem(X, y, [(index, index[:0])], n_classes=2, dtype=np.float64)
    dual = Dual()
    state = dual.advance(splits, dual.init(splits, log_penalties), 10)
    coef, intercept, result = fit_from_splits(dual, full, splits, state, log_penalties, 1e-7, 400)
    exact, exact_intercept = solve_directly(full, log_penalties)
    assert result.converged
    assert relative_error(coef, exact) < 1e-5
    assert relative_error(intercept, exact_intercept) < 1e-4


def test_which_features_are_unpenalized_cannot_change():
    X, y, log_penalties = make_data(2, sparse=True)
    problem, dual = make_three_splits(X, y), Dual()
    state = dual.init(problem, log_penalties)
    with pytest.raises(ValueError, match="cannot change"):
        dual.rescale(problem, state, np.zeros(30))
