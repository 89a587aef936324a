"""How a fit ends: the intercept's tail, and what the dual solver leaves to the deterministic one."""

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import solve_directly
from sklearn.linear_model import LogisticRegression

from sksid._solve import fit
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual, NotFiniteError, Relay, choose
from sksid.solvers._relay import PATIENCE, epochs_left


def make_clicks(n_rows=200_000, n_fields=10, n_columns=2**15):
    """One-hot fields with categories of very different frequency, all of which sum to the intercept."""
    random = np.random.RandomState(0)
    categories = np.exp(random.random_sample((n_rows, n_fields)) * np.log(np.logspace(1, 5, n_fields))).astype(np.int64)
    columns = (categories * n_fields + np.arange(n_fields)) * 40503 % n_columns
    truth = 0.3 * random.standard_normal(n_columns)[columns].sum(axis=1)
    y = (random.random_sample(n_rows) < 1 / (1 + np.exp(1.6 - truth))).astype(int)
    X = sp.csr_array((np.ones(columns.size), columns.ravel(), np.arange(n_rows + 1) * n_fields), shape=(n_rows, n_columns))
    X.sum_duplicates()
    return X, y


def whole(X, y):
    return make_problem(X, y, [(np.arange(y.size), np.arange(0))], n_classes=y.max() + 1, dtype=np.float64)


def probabilities(X, coef, intercept):
    outputs = X @ coef.T + intercept
    outputs = np.hstack([np.zeros_like(outputs), outputs]) if outputs.shape[1] == 1 else outputs
    shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def test_where_one_hot_fields_sum_to_the_intercept_a_fit_takes_few_epochs():
    X, y = make_clicks()
    problem, log_penalties = whole(X, y), np.full(X.shape[1], np.log(10.0))
    state, result = fit(problem, Dual(), log_penalties, tol=2e-5, max_epochs=400)
    assert result.converged
    assert result.n_epochs <= 14
    coef, intercept = (part[0] for part in Dual().coefficients(problem, state))
    model = LogisticRegression(C=0.1, solver="newton-cg", tol=1e-9, max_iter=200).fit(X, y)
    off = probabilities(X, coef, intercept) - model.predict_proba(X)
    assert np.sqrt(np.mean(off**2)) < 1e-5
    assert np.abs(off).max() < 4e-5


def test_redundant_columns_end_exactly():
    random = np.random.RandomState(0)
    X = random.randn(3000, 20) * np.exp(1.5 * random.randn(20))
    X[:, 18], X[:, 19] = X[:, 0] + X[:, 1], X[:, 2]
    y = (X / X.std(axis=0) @ random.randn(20, 5) + random.gumbel(size=(3000, 5))).argmax(axis=1)
    problem, log_penalties = whole(X, y), np.zeros(20)
    state, result = fit(problem, Relay(), log_penalties, tol=2e-6, max_epochs=400)
    assert result.converged
    assert state.handed_over
    assert result.n_epochs < 20
    found = probabilities(X, *(part[0] for part in Relay().coefficients(problem, state)))
    assert np.abs(found - probabilities(X, *solve_directly(problem, log_penalties))).max() < 1e-6


class Overflowing(Aid):
    """Fails the second time that it is asked."""

    def advance(self, problem, state, n_epochs=1.0):
        if state.n_epochs:
            raise NotFiniteError
        state.n_epochs += 1.0
        return state


def test_where_the_second_solver_overflows_the_first_one_goes_on():
    random = np.random.RandomState(0)
    X = random.randn(300, 20)
    y = (X @ random.randn(20) + random.randn(300) > 0).astype(int)
    problem, relay, log_penalties = whole(X, y), Relay(then=Overflowing(), patience=0.0), np.zeros(20)
    state, result = fit(problem, relay, log_penalties, tol=2e-5, max_epochs=400)
    assert result.converged
    assert state.failed
    assert state.n_epochs == result.n_epochs > PATIENCE + 1
    found = probabilities(X, *(part[0] for part in relay.coefficients(problem, state)))
    assert np.abs(found - probabilities(X, *solve_directly(problem, log_penalties))).max() < 1e-4


def test_what_the_dual_solves_fast_is_not_handed_over():
    X, y = make_clicks(3000)
    problem = whole(X, y)
    assert isinstance(choose(problem), Relay)
    state, result = fit(problem, choose(problem), np.full(X.shape[1], np.log(10.0)), tol=2e-5, max_epochs=400)
    assert result.converged
    assert not state.handed_over


@pytest.mark.parametrize(("rate", "expected"), [(0.5, 10.0), (0.9, 65.8), (1.0, np.inf), (1.1, np.inf)])
def test_epochs_left(rate, expected):
    left = list(2.0**10 * 1e-3 * rate ** np.arange(-PATIENCE, 1.0))
    assert epochs_left(left, 1e-3) == pytest.approx(expected, rel=1e-2)
    assert epochs_left(left[1:], 1e-3) == 0.0
    assert epochs_left(left, left[-1]) == 0.0


def test_parts_of_an_epoch_tell_no_rate():
    X, y = make_clicks(3000)
    random = np.random.RandomState(0)
    splits = [(np.sort(order[:2000]), np.sort(order[2000:])) for order in (random.permutation(3000) for _ in range(2))]
    problem, relay = make_problem(X, y, splits, n_classes=2, dtype=np.float64), Relay(patience=0.0)
    state = relay.init(problem, np.full(X.shape[1], np.log(10.0)))
    for _ in range(3 * PATIENCE):
        state = relay.advance(problem, state, 0.5)
    assert not state.handed_over
