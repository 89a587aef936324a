"""The shipped ``Sgd`` under the theorems: i.i.d. minibatches, zero start, no intercept, the theorems' step sizes."""

from dataclasses import replace

import numpy as np
import pytest
from test_bounds import Case, squared

from sksid.bounds import (
    at_solution,
    constant,
    constants_of,
    corollary_4_1,
    decreasing,
    theorem_3_4,
    theorem_4_1,
    theorem_4_2,
    theorem_4_3,
)
from sksid.problem import make_problem
from sksid.solvers import Sgd, Steps

BATCH = 10
EPOCHS = np.array([1, 2, 3, 4, 5, 8, 12, 18, 27, 40, 60])  # of ten steps each
PENALTIES = np.log([40.0, 20.0, 30.0, 25.0])  # of the sum over 100 rows


class Runs:
    """A problem of one split, its exact solutions, and runs of the shipped solver on it."""

    def __init__(self, n_classes, weighted, local=False):
        self.case = case = Case(11, n_classes, weighted=weighted, n_train=100)
        X, y = np.vstack([case.train.X, case.val.X]), np.concatenate([case.train.y, case.val.y])
        weights = np.concatenate([case.train.weights * 100, case.val.weights * 16])
        split = (np.arange(100), np.arange(100, 116))
        settings = {"sample_weight": weights, "fit_intercept": False, "dtype": np.float64}
        self.problem = make_problem(X, y, [split], n_classes=n_classes, **settings)
        self.c = case.constants = constants_of(self.problem, 0, PENALTIES, BATCH)
        case.penalties = np.exp(PENALTIES) / 100
        self.solution = case.solution * 0
        for _ in range(3000):
            self.solution = case.phi(self.solution)
        self.exact = case.hypergradient(self.solution, case.adjoint(self.solution))
        if local:
            self.c = at_solution(self.c, self.problem, 0, self.solution, BATCH)

    def solver(self, rule, **settings):
        """Of the paper's settings, with the theorems' step sizes for both systems."""
        lower, linear = decreasing(self.c), decreasing(self.c.linear_system)
        steps = [Steps(rule, batch_size=BATCH, beta=beta, gamma=gamma) for beta, gamma in (lower, linear)]
        return Sgd(*steps, sampling="iid", warm=False, **settings)

    def states(self, solver, runs, budgets):
        """For each run and each budget (lower, adjoint), a fresh run of Algorithm 1: W, v of the theorems, hypergradient."""
        state = solver.init(self.problem, PENALTIES, seed=3)
        for _ in range(runs):
            yield [self.look(replace(solver, lower_epochs=t, adjoint_epochs=k), state) for t, k in budgets]

    def look(self, solver, state):
        state = solver.advance(self.problem, solver.rescale(self.problem, state, PENALTIES))
        v = 100 / self.c.alpha * solver.adjoint(self.problem, state)[0][0]
        return solver.coefficients(self.problem, state)[0][0], v, solver.log_gradient(self.problem, state)

    def errors(self, rule, runs, budgets):
        """Mean squares over the runs, (budgets,): of w_t, of v_k at its w_t, of the hypergradient."""
        found = []
        for run in self.states(self.solver(rule), runs, budgets):
            found.append(
                [
                    (squared(w - self.solution), squared(v - self.case.adjoint(w)), np.sum((h - self.exact) ** 2))
                    for w, v, h in run
                ]
            )
        return np.mean(found, axis=0).T


def slope(steps, errors):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


@pytest.fixture(scope="module", params=[(2, False), (2, True), (4, False)], ids=["two", "two, weighted", "four"])
def runs(request):
    return Runs(*request.param)


def test_the_problem_is_the_one_of_the_dense_maps(runs):
    """The solver's own step, in its own units, is Φ of the dense case."""
    assert runs.c.q < 0.7
    batch = Sgd(Steps("constant", np.inf, 1.0, 1.0), Steps("constant", np.inf, 1.0, 1.0), warm=False)
    w, v, h = runs.look(replace(batch, lower_epochs=1, adjoint_epochs=2), batch.init(runs.problem, PENALTIES))
    np.testing.assert_allclose(w, runs.case.phi(np.zeros_like(w)), atol=1e-13)
    gradient = runs.case.val.gradient(w)
    np.testing.assert_allclose(v, runs.case.phi_product(w, gradient) + gradient, atol=1e-13)
    np.testing.assert_allclose(h, runs.case.hypergradient(w, v), atol=1e-13)


@pytest.mark.parametrize("rule", ["constant", "decreasing"])
@pytest.mark.parametrize("local", [False, True], ids=["everywhere", "at the solution"])
def test_the_mean_square_errors_are_below_the_bounds(runs, rule, local):
    if local:
        runs = Runs(runs.case.solution.shape[0] if runs.case.solution.shape[0] > 1 else 2, False, local=True)
    w, v, h = runs.errors(rule, 12, [(epochs, epochs) for epochs in EPOCHS])
    c, t = runs.c, 10 * EPOCHS
    steps = constant(c.linear_system) if rule == "constant" else None
    rho = theorem_4_1(c, t) if rule == "constant" else theorem_4_2(c, t)
    assert np.all(w <= rho)
    assert np.all(v <= theorem_4_3(c, t, steps))
    for sharper in (False, True):
        assert np.all(h <= theorem_3_4(c, rho, theorem_4_3(c, t, steps), sharper))
    if rule == "decreasing":
        assert np.all(h <= corollary_4_1(c, t, t))


def test_decreasing_steps_fall_as_one_over_t(runs):
    """Eleven budgets, from where the start is forgotten: t and k well beyond γ."""
    budgets = np.unique(np.geomspace(15, 150, 11).round().astype(int))
    assert len(budgets) >= 10
    w, v, h = runs.errors("decreasing", 30, [(epochs, epochs) for epochs in budgets])
    for errors in (w, v, h):
        assert -1.15 <= slope(10 * budgets, errors) <= -0.85


def test_constant_steps_end_at_a_floor_within_the_bound(runs):
    w, v, _ = runs.errors("constant", 40, [(20, 20), (60, 60)])
    floor = theorem_4_1(runs.c, 10**6)
    assert 0.7 < w[1] / w[0] < 1.4 and 0.01 * floor < w[1] <= floor
    assert v[1] <= theorem_4_3(runs.c, 600, constant(runs.c.linear_system))
