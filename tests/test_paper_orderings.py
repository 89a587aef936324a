"""The orderings of the paper's Figures 1 to 3, on small data with seeds.

The error is that of the figures: the squared error of the hypergradient in log λ, relative to a converged one's square. An
epoch is 100 steps, or one of Batch; half of a budget goes to either system, each budget is a fresh run from zero, and
minibatches are drawn independently, as the theorems have them.
"""

from dataclasses import replace

import numpy as np
import pytest

from sksid import bounds
from sksid.problem import make_problem
from sksid.solvers import BATCH, Aid, Sgd, Steps

CONSTANT, DECREASING = Steps("constant"), Steps("decreasing")
METHODS = {
    "Batch": Sgd(BATCH, BATCH, sampling="iid"),
    "const": Sgd(CONSTANT, CONSTANT, sampling="iid"),
    "dec": Sgd(DECREASING, DECREASING, sampling="iid"),
    "dec + Batch": Sgd(DECREASING, BATCH, sampling="iid"),
    "Batch + dec": Sgd(BATCH, DECREASING, sampling="iid"),
}


class Figure:
    """One problem at one λ (of the mean loss), or one for each feature, with its exact hypergradient."""

    def __init__(self, X, y, penalties):
        half, n = np.random.RandomState(0).permutation(len(y)), len(y) // 2
        splits = [(half[:n], half[n:])]
        self.problem = make_problem(X, y, splits, n_classes=len(np.unique(y)), fit_intercept=False, dtype=np.float64)
        self.log_penalties = np.broadcast_to(np.log(penalties) + np.log(n), X.shape[1]).copy()
        self.project = np.sum if np.isscalar(penalties) else np.asarray
        solver = Aid(tol=1e-13, first_tol=None)
        state = solver.advance(self.problem, solver.init(self.problem, self.log_penalties))
        self.exact = self.project(solver.log_gradient(self.problem, state))
        self.q = bounds.curvature(self.problem, 0, self.log_penalties).q

    def error(self, method, lower, adjoint, n_runs=3):
        """The mean over the runs, after so many epochs for either system."""
        solver = replace(METHODS.get(method, method), lower_epochs=lower, adjoint_epochs=adjoint, warm=False)
        state, errors = solver.init(self.problem, self.log_penalties), []
        for _ in range(n_runs):
            state = solver.rescale(self.problem, state, self.log_penalties)
            state = solver.advance(self.problem, state)
            off = self.project(solver.log_gradient(self.problem, state)) - self.exact
            errors.append(np.sum(off**2) / np.sum(self.exact**2))
        return np.mean(errors)

    def errors(self, method, budgets, n_runs=3):
        """Of both systems' halves of each budget."""
        return np.array([self.error(method, budget // 2, budget // 2, n_runs) for budget in budgets])


def uneven(n_features):
    """λ_j = e^{ε_j} of Figure 2."""
    return np.exp(np.random.RandomState(0).uniform(-2.0, 2.0, n_features))


@pytest.fixture(scope="module")
def noisy():
    """400 rows, 10 features, two classes whose scores overlap."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((400, 10))
    return X, (X @ rng.standard_normal(10) + 2.0 * rng.standard_normal(400) > 0).astype(int)


@pytest.mark.parametrize("one", [True, False], ids=["one penalty", "a penalty per feature"])
def test_decreasing_steps_beat_constant_ones_and_batch_where_the_map_is_ill_conditioned(digits, one):
    figure = Figure(*digits, 0.1 if one else uneven(64))
    assert figure.q > 0.95
    errors = {name: figure.error(name, 20, 20) for name in ("Batch", "const", "dec")}
    assert errors["dec"] < 0.1 * errors["const"]
    assert errors["const"] < 0.1 * errors["Batch"]


def test_constant_steps_come_to_a_floor(digits):
    figure = Figure(*digits, uneven(64))
    constant, decreasing = figure.errors("const", (20, 60), 6), figure.errors("dec", (20, 60), 6)
    assert 0.7 < constant[1] / constant[0] < 1.4
    assert decreasing[1] < 0.3 * decreasing[0]
    assert decreasing[1] < 0.1 * constant[1]


def test_batch_is_linear_and_wins_where_the_map_contracts_well(digits):
    figure = Figure(*digits, 10.0)
    assert figure.q < 0.25
    after = {name: figure.error(name, 10, 10) for name in ("Batch", "const", "dec")}
    assert after["Batch"] < 1e-6 * after["dec"] < 1e-8 * after["const"]


def test_batch_contracts_by_q_squared_an_iteration(digits):
    figure = Figure(*digits, 1.0)
    logs = np.log(figure.errors("Batch", (40, 60, 80), n_runs=1))
    per_iteration = np.diff(logs) / 10.0
    assert abs(per_iteration[1] / per_iteration[0] - 1.0) < 0.05
    assert per_iteration.max() < 0.9 * 2.0 * np.log(figure.q)


@pytest.mark.parametrize("one", [True, False], ids=["one penalty", "a penalty per feature"])
def test_a_stochastic_lower_level_with_a_batch_linear_system_is_limited_by_the_latter(digits, one):
    figure = Figure(*digits, 0.1 if one else uneven(64))
    error = figure.error("dec + Batch", 20, 20)
    assert error > 100.0 * figure.error("dec", 20, 20)
    assert abs(figure.error("dec + Batch", 80, 20) / error - 1.0) < 0.1  # four times the epochs for w change nothing
    assert figure.error("dec + Batch", 20, 80) < 0.2 * error  # for v they do


def test_a_batch_lower_level_limits_a_stochastic_linear_system(digits):
    figure = Figure(*digits, 0.1)
    error = figure.error("Batch + dec", 20, 20)
    assert error > 100.0 * figure.error("dec", 20, 20)
    assert abs(figure.error("Batch + dec", 20, 80) / error - 1.0) < 0.1
    assert figure.error("Batch + dec", 80, 20) < 0.2 * error


def slope(figure, solver, n_runs, budgets=(16, 48, 144)):
    """Of log error against log epochs."""
    return np.polyfit(np.log(budgets), np.log(figure.errors(solver, budgets, n_runs)), 1)[0]


def test_the_squared_error_of_decreasing_steps_falls_as_one_over_t(noisy):
    steps = Steps(batch_size=20)  # ten an epoch, for many runs: one hypergradient is one number, and its square noisy
    assert -1.2 <= slope(Figure(*noisy, 0.3), Sgd(steps, steps, sampling="iid"), n_runs=100) <= -0.8


def test_a_new_order_in_each_epoch_is_faster_than_independent_minibatches(noisy):
    steps = Steps(batch_size=20)
    assert slope(Figure(*noisy, 0.3), Sgd(steps, steps, sampling="shuffle"), n_runs=30) < -1.5
