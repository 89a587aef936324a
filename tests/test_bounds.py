"""The constants against dense matrices, the theorems against their recursions and against the iteration itself."""

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import fit_reference
from scipy.special import expit, softmax

from sksid.bounds import (
    Contraction,
    Curvature,
    at_solution,
    constant,
    constants_of,
    corollary_4_1,
    curvature,
    data_curvature,
    decreasing,
    row_curvature,
    theorem_3_4,
    theorem_4_1,
    theorem_4_2,
    theorem_4_3,
)
from sksid.problem import make_problem

ROUNDING = 1 + 1e-11


@dataclass(frozen=True)
class Level:
    """Rows of one level, with weights; coef is (..., n_outputs, n_features), rows (..., n_rows, n_features)."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    n_outputs: int

    def __getitem__(self, rows):
        return Level(self.X[rows], self.y[rows], self.weights[rows], self.n_outputs)

    def proba(self, coef):
        scores = self.X @ coef.swapaxes(-1, -2)
        return expit(scores) if self.n_outputs == 1 else softmax(scores, axis=-1)

    def gradient(self, coef):
        targets = self.y[..., None] == (np.arange(self.n_outputs) if self.n_outputs > 1 else 1)
        return (self.weights[..., None] * (self.proba(coef) - targets)).swapaxes(-1, -2) @ self.X

    def product(self, coef, direction):
        """The Hessian times a direction."""
        proba, scores = self.proba(coef), self.X @ direction.swapaxes(-1, -2)
        change = proba * (scores - (proba * scores).sum(axis=-1, keepdims=True))
        change = proba * (1 - proba) * scores if self.n_outputs == 1 else change
        return (self.weights[..., None] * change).swapaxes(-1, -2) @ self.X


class Case:
    """A random problem, its maps written densely, and its constants."""

    def __init__(self, seed, n_classes=2, sparse=False, weighted=False, shared=False, n_train=24, n_features=4):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n_train + 16, n_features)) * rng.uniform(0.3, 1.5, n_features)
        X *= rng.uniform(size=X.shape) < (0.4 if sparse else 1.0)
        y = (X @ rng.standard_normal((n_features, n_classes)) + rng.gumbel(size=(len(X), n_classes))).argmax(axis=1)
        y[:n_classes] = np.arange(n_classes)
        weights = rng.uniform(0.2, 3.0, len(X)) if weighted else np.ones(len(X))
        self.log_penalties = np.full(n_features, rng.uniform(-1, 1.5)) if shared else rng.uniform(-1, 1.5, n_features)
        self.batch, self.n, n_outputs = int(rng.integers(1, 5)), n_train, 1 if n_classes == 2 else n_classes
        train, val = np.arange(n_train), np.arange(n_train, len(X))
        self.problem = make_problem(
            sp.csr_array(X) if sparse else X,
            y,
            [(val, train), (train, val)],
            n_classes=n_classes,
            sample_weight=weights,
            fit_intercept=False,
            dtype=np.float64,
        )
        self.train = Level(X[train], y[train], weights[train] / weights[train].sum(), n_outputs)
        self.val = Level(X[val], y[val], weights[val] / weights[val].sum(), n_outputs)
        self.penalties = np.exp(self.log_penalties) / weights[train].sum()
        model, factors = fit_reference(X[train], y[train], self.log_penalties, weights[train], fit_intercept=False)
        self.solution = model.coef_ * factors
        self.constants = constants_of(self.problem, 1, self.log_penalties, self.batch)
        self.rng = rng

    def random(self, *shape, scale=1.0):
        return scale * self.rng.standard_normal((*shape, *self.solution.shape))

    def draw(self, runs):
        return self.rng.integers(self.n, size=(runs, self.batch))

    def phi(self, coef, rows=None):
        data = self.train.gradient(coef) if rows is None else self.n / rows.shape[1] * self.train[rows].gradient(coef)
        return coef - self.constants.alpha * (data + self.penalties * coef)

    def phi_product(self, coef, direction, rows=None):
        """∂₁Φ, which is symmetric, times a direction."""
        train = self.train if rows is None else self.train[rows]
        data = (1 if rows is None else self.n / rows.shape[1]) * train.product(coef, direction)
        return direction - self.constants.alpha * (data + self.penalties * direction)

    def phi_jacobian(self, coef):
        """(..., size, size) for coef of (..., n_outputs, n_features)."""
        size = coef.shape[-1] * coef.shape[-2]
        basis = np.eye(size).reshape(size, *coef.shape[-2:])
        return self.phi_product(coef[..., None, :, :], basis).reshape(*coef.shape[:-2], size, size)

    def adjoint(self, coef):
        """v(w), (..., n_outputs, n_features)."""
        jacobian, gradient = self.phi_jacobian(coef), self.val.gradient(coef)
        flat = gradient.reshape(*gradient.shape[:-2], -1, 1)
        return np.linalg.solve(np.eye(flat.shape[-2]) - jacobian, flat).reshape(gradient.shape)

    def hypergradient(self, coef, adjoint):
        return -self.constants.alpha * self.penalties * (coef * adjoint).sum(axis=-2)


def squared(values):
    """Sums of squares over the last two axes."""
    return np.square(values).sum(axis=(-2, -1))


def step_sizes(step_rule, n_steps):
    """η_0, η_1, … of a constant step or a pair (beta, gamma)."""
    return step_rule[0] / (step_rule[1] + np.arange(n_steps)) if np.ndim(step_rule) else np.full(n_steps, step_rule)


KINDS = [(n_classes, sparse, weighted) for n_classes in (2, 4) for sparse in (False, True) for weighted in (False, True)]


@pytest.fixture(scope="module", params=range(len(KINDS)), ids=[f"{k}-{'sparse' * s}-{'weighted' * w}" for k, s, w in KINDS])
def case(request):
    return Case(request.param, *KINDS[request.param])


def test_hessians_lie_between_mu_and_L(case):
    c = case.constants
    for scale in (0.0, 0.3, 3.0):
        eigenvalues = (1 - np.linalg.eigvalsh(case.phi_jacobian(case.random(scale=scale)))) / c.alpha
        assert eigenvalues.min() * ROUNDING >= c.mu
        assert eigenvalues.max() <= c.L * ROUNDING


def test_phi_contracts_by_q(case):
    w, step = case.random(200, scale=2.0), case.random(200, scale=0.1)
    assert np.all(squared(case.phi(w + step) - case.phi(w)) <= ROUNDING * case.constants.q**2 * squared(step))


def variances(case, one_row, mean):
    """Exactly V of a draw of case.batch rows, from the values that single rows give, (n, ...)."""
    return squared(one_row - mean).mean(axis=0) / case.batch


@pytest.mark.parametrize("around_solution", [False, True])
@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 10.0])
def test_the_variance_of_phi_is_below_the_model(case, around_solution, scale):
    c = case.constants
    if around_solution:
        c = at_solution(c, case.problem, 1, case.solution, case.batch)
    w = case.solution + case.random(100, scale=scale)
    one_row = np.stack([case.phi(w, np.full((100, 1), row)) for row in range(case.n)])
    assert np.all(variances(case, one_row, case.phi(w)) <= c.sigma1 + c.sigma2 * squared(case.phi(w) - w))


def test_the_variance_at_the_solution_is_half_sigma1(case):
    c = at_solution(case.constants, case.problem, 1, case.solution, case.batch)
    one_row = case.phi(np.broadcast_to(case.solution, (case.n, *case.solution.shape)), np.arange(case.n)[:, None])
    np.testing.assert_allclose(variances(case, one_row, case.phi(case.solution)), c.sigma1 / 2, rtol=1e-9)


def test_a_drawn_batch_has_the_variance_of_a_row_by_its_size(case):
    w = case.random()
    drawn = case.phi(np.broadcast_to(w, (20_000, *w.shape)), case.draw(20_000))
    one_row = case.phi(np.broadcast_to(w, (case.n, *w.shape)), np.arange(case.n)[:, None])
    expected = variances(case, one_row, case.phi(w))
    np.testing.assert_allclose(squared(drawn - case.phi(w)).mean(), expected, rtol=0.1)
    assert squared(drawn.mean(axis=0) - case.phi(w)) <= 25 * expected / 20_000


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_the_variance_of_the_adjoint_map_is_below_sigma1_adjoint(case, scale):
    w, size = case.random(scale=scale), case.solution.size
    basis = np.eye(size).reshape(size, *case.solution.shape)
    one_row = np.stack([case.phi_product(w, basis, np.full((size, 1), row)) for row in range(case.n)])
    deviation = one_row - case.phi_product(w, basis)
    deviation = deviation.reshape(case.n, size, size)
    worst = np.linalg.eigvalsh((deviation @ deviation.swapaxes(1, 2)).mean(axis=0) / case.batch).max()
    assert worst <= case.constants.sigma1_adjoint * ROUNDING


@pytest.mark.parametrize("scale", [0.3, 3.0, 100.0])
def test_the_validation_gradient_is_bounded_and_lipschitz(case, scale):
    c, w, step = case.constants, case.random(200, scale=scale), case.random(200, scale=0.1)
    change = squared(case.val.gradient(w + step) - case.val.gradient(w))
    assert np.all(squared(case.val.gradient(w)) <= c.B**2)
    assert np.all(change <= c.mu1**2 * squared(step))


@pytest.mark.parametrize("scale", [0.1, 0.5, 2.0])
def test_the_jacobians_are_lipschitz(case, scale):
    c, w, step = case.constants, case.random(50, scale=scale), case.random(50, scale=0.3)
    change = np.linalg.norm(case.phi_jacobian(w + step) - case.phi_jacobian(w), 2, axis=(1, 2))
    assert np.all(change <= c.nu1 * np.sqrt(squared(step)))
    cross = c.alpha * case.penalties * np.linalg.norm(step, axis=-2)
    assert np.all(cross.max(axis=-1) <= c.nu2 * np.sqrt(squared(step)) * ROUNDING)
    shared = c.alpha * np.linalg.norm(case.penalties * step, axis=(-2, -1))
    assert np.all(shared <= c.nu2 * np.sqrt(squared(step)) * ROUNDING)


def test_the_solution_is_within_its_bounds(case):
    c, near = case.constants, at_solution(case.constants, case.problem, 1, case.solution, case.batch)
    assert squared(case.phi(case.solution) - case.solution) < 1e-18
    cross = c.alpha * np.linalg.norm(case.penalties * case.solution)
    assert near.distance == squared(case.solution) <= c.distance <= c.radius**2
    np.testing.assert_allclose(near.L_Phi_solution, cross, rtol=1e-6)
    assert cross <= c.L_Phi_solution <= c.L_Phi
    assert squared(case.adjoint(case.solution)) <= c.linear_system.distance


def test_the_linear_system_has_the_variance_of_its_model(case):
    system, w = case.constants.linear_system, case.random(scale=0.3)
    for v in (case.adjoint(w), case.random(), 10 * case.random()):
        one_row = np.stack([case.phi_product(w, v[None], np.array([[row]]))[0] for row in range(case.n)])
        change = case.phi_product(w, v) + case.val.gradient(w) - v
        assert variances(case, one_row, case.phi_product(w, v)) <= system.sigma1 + system.sigma2 * squared(change)


@pytest.mark.parametrize("local", [False, True])
def test_the_hypergradient_of_solved_systems_is_lipschitz_at_the_solution(case, local):
    exact = case.hypergradient(case.solution, case.adjoint(case.solution))
    for scale in (0.01, 0.3, 1.0):
        w = case.solution + case.random(20, scale=scale)
        error = np.square(case.hypergradient(w, case.adjoint(w)) - exact).sum(axis=-1)
        assert np.all(2 * error <= theorem_3_4(case.constants, squared(w - case.solution), 0.0, local))


def test_no_run_leaves_the_ball():
    case = Case(3, weighted=True)
    far = np.argmax(case.train.weights * np.linalg.norm(case.train.X, axis=1))
    w = np.zeros((1, 1, 4))
    for _ in range(2000):
        w = case.phi(w, np.array([[far]]))
    assert squared(w)[0] <= case.constants.radius**2


def two_rows(log_penalties):
    """One training row and one validation row, x = 1: the suprema can be taken in closed form."""
    problem = make_problem(np.ones((2, 1)), [0, 1], [([0], [1])], n_classes=2, fit_intercept=False, dtype=np.float64)
    return constants_of(problem, 0, log_penalties, batch_size=2)


def test_two_rows_attain_the_constants():
    c = two_rows(np.log(0.5))
    third = 1 / (6 * np.sqrt(3))
    expected = {"L": 0.75, "mu": 0.5, "alpha": 1.6, "q": 0.2, "B": 1.0, "mu1": 0.25, "nu2": 0.8, "radius": 2.0}
    expected |= {"sigma1": 1.28, "sigma1_adjoint": 0.08, "nu1": 1.6 * third, "L_Phi": 1.6}
    expected |= {"distance": 4 * np.log(2), "L_Phi_solution": 1.6 * np.sqrt(np.log(2))}
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(c, name), value, rtol=1e-12, err_msg=name)
    system = c.linear_system
    np.testing.assert_allclose((system.sigma1, system.sigma2, system.distance), (0.25, 0.25, 1 / 0.64), rtol=1e-12)
    c1 = (0.25 * 1.6 + 0.8) / 0.8 + 1.6 * third * 1.6 / 0.64
    assert theorem_3_4(c, 3.0, 5.0) == pytest.approx(2 * c1**2 * 3 + 2 * 1.6**2 * 5, rel=1e-12)
    fixed = c.L_Phi_solution
    c1 = (0.25 * fixed + 0.8) / 0.8 + 1.6 * third * fixed / 0.64
    local = 2 * c1**2 * 3 + 2 * (fixed + 0.8 * np.sqrt(3)) ** 2 * 5
    assert theorem_3_4(c, 3.0, 5.0, local=True) == pytest.approx(local, rel=1e-12)


def test_a_strong_penalty_bounds_the_solution_by_the_gradient():
    c = two_rows(np.log(8.0))
    np.testing.assert_allclose((c.distance, c.L_Phi_solution), (1 / 64, c.alpha), rtol=1e-12)


def test_three_classes_attain_the_third_derivative():
    problem = make_problem(np.ones((3, 1)), [0, 1, 2], [([0], [1, 2])], n_classes=3, fit_intercept=False, dtype=np.float64)
    c = constants_of(problem, 0, np.log(0.5), batch_size=1)
    assert c.L == pytest.approx(1.0, rel=1e-12) and c.sigma1 == pytest.approx(2 * c.alpha**2, rel=1e-12)
    row, along = Level(np.ones((1, 1)), np.zeros(1, dtype=int), np.ones(1), 3), np.array([[1], [-1], [0]]) / np.sqrt(2)
    p = (1 + 1 / np.sqrt(3)) / 2
    w, step = np.array([[np.log(p / (1 - p))], [0.0], [-40.0]]), 1e-4
    change = row.product(w + step * along, along) - row.product(w - step * along, along)
    assert np.linalg.norm(change) / (2 * step) == pytest.approx(c.nu1 / c.alpha, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("shape", [(30, 20), (300, 90), (90, 300)])
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_data_curvature_is_a_close_bound(shape, density, fit_intercept, dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2 * shape[0], shape[1])) * (rng.uniform(size=(2 * shape[0], shape[1])) < density)
    X, labels = X.astype(dtype), np.arange(len(X)) % 3
    rows, weights = np.arange(shape[0]), rng.uniform(0.1, 2.0, len(X))
    problem = make_problem(
        X, labels, [(rows, rows + shape[0])], n_classes=3, sample_weight=weights, fit_intercept=fit_intercept, dtype=dtype
    )
    train = np.column_stack([X[rows], np.ones(len(rows))]) if fit_intercept else X[rows]
    share = weights[rows] / weights[rows].sum()
    exact = 0.5 * np.linalg.eigvalsh((train.T * share) @ train.astype(np.float64))[-1]
    found = data_curvature(problem, 0)
    assert exact * (1 - 10 * np.finfo(dtype).eps) <= found <= 1.07 * exact
    assert found == data_curvature(problem, 0)


def problem_of(X, **settings):
    split = (np.arange(len(X) // 2), np.arange(len(X) // 2, len(X)))
    return make_problem(X, np.arange(len(X)) % 2, [split], n_classes=2, dtype=np.float64, **settings)


def test_data_curvature_of_few_different_rows_is_exact():
    rows = np.kron([[1.0, 0.0], [0.0, 2.0]], np.ones((100, 50)))
    problem = problem_of(np.vstack([rows, rows]), fit_intercept=False)
    np.testing.assert_allclose(data_curvature(problem, 0), 0.25 * 0.5 * 200, rtol=1e-12)


@pytest.mark.parametrize("confidence", [0.1, 5.0])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_row_curvature_bounds_the_noise_of_the_linear_system(n_classes, confidence):
    """V[H_i v] ≤ R vᵀHv for the Hessian H_i of one row drawn uniformly, whatever v; and R is at most that at p = 1/2."""
    random, n_outputs = np.random.RandomState(0), n_classes if n_classes > 2 else 1
    X, y, weights = random.standard_cauchy((90, 6)), np.arange(90) % n_classes, random.uniform(0.2, 3.0, 90)
    split = (np.arange(60), np.arange(60, 90))
    problem = make_problem(
        X, y, [split], n_classes=n_classes, sample_weight=weights, fit_intercept=False, dtype=np.float64, seed=1
    )
    coef = confidence * random.randn(n_outputs, 6) / 6
    scores = problem.rows.matrix @ coef.T
    proba = expit(scores) if n_outputs == 1 else softmax(scores, axis=1)
    largest, shares = row_curvature(problem, 0, proba), 60 * weights[:60] / weights[:60].sum()
    level = Level(X[:60, None], y[:60, None], shares[:, None], n_outputs)
    for v in [*random.randn(50, n_outputs, 6), *np.eye(6 * n_outputs).reshape(-1, n_outputs, 6)]:
        products = level.product(np.broadcast_to(coef, (60, *coef.shape)), np.broadcast_to(v, (60, *v.shape)))
        mean = products.mean(axis=0)
        assert np.sum((products - mean) ** 2) / 60 <= largest * np.sum(mean * v) * ROUNDING
    bend = 0.25 if n_outputs == 1 else 0.5
    assert largest <= bend * np.max(shares * (X[:60] ** 2).sum(axis=1)) * ROUNDING


def test_rows_of_zeros():
    problem = problem_of(np.zeros((400, 100)), fit_intercept=False)
    c = constants_of(problem, 0, 0.0, batch_size=1)
    assert (c.sigma1, c.B, c.q, c.gap) == (0.0, 0.0, 0.0, 1.0)
    assert data_curvature(problem, 0) == 0.0
    problem = problem_of(np.zeros((400, 100)), fit_intercept=True)
    np.testing.assert_allclose(data_curvature(problem, 0), 0.25, rtol=1e-12)


@pytest.mark.parametrize("steps", [4, 8, 16, 32])
def test_few_lanczos_steps_still_give_a_bound(steps, monkeypatch):
    monkeypatch.setattr("sksid.bounds._eigenvalue.LANCZOS_STEPS", steps)
    X = np.random.default_rng(1).standard_normal((600, 400))
    exact = 0.25 * np.linalg.eigvalsh(X[:300].T @ X[:300] / 300)[-1]
    assert exact <= data_curvature(problem_of(X, fit_intercept=False), 0) <= 0.25 * np.sum(X[:300] ** 2) / 300 * ROUNDING


def test_curvature_with_an_intercept_bounds_the_hessian_with_it(cancer):
    X, y = cancer
    split = (np.arange(300), np.arange(300, 400))
    problem = make_problem(X, y, [split], n_classes=2, fit_intercept=True, dtype=np.float64)
    c = curvature(problem, 0, np.log(3.0))
    level = Level(np.column_stack([X[:300], np.ones(300)]), y[:300], np.full(300, 1 / 300), 1)
    hessian = level.product(np.zeros((1, 31)), np.eye(31)[:, None])[:, 0]
    assert np.linalg.eigvalsh(hessian + np.diag([0.01] * 30 + [0.0])).max() <= c.L <= 0.25 * 32 + 0.01
    assert c.mu == pytest.approx(0.01, rel=1e-14)
    assert curvature(problem, 0, np.log(3.0), data_curvature(problem, 0)) == c
    assert decreasing(c) == pytest.approx((2 / (1 - c.q**2),) * 2, rel=1e-10)
    assert constant(c) == 1.0


def test_steps_of_ill_conditioned_splits_at_once_are_finite():
    c = Curvature(L=np.array([1.0, 2.0]), mu=np.array([1e-20, 1.0]))
    np.testing.assert_allclose(decreasing(c)[0], [2 / 4e-20, 2 / (1 - 1 / 9)], rtol=1e-12)


CONTRACTIONS = [(0.3, 1.0, 0.0), (0.01, 0.2, 0.0), (0.5, 2.0, 3.0), (1.0, 1.0, 0.5), (0.1, 0.0, 10.0)]


def worst_case(contraction, steps, distance):
    """What one step of the iteration does to E‖w − w*‖² at worst, over and over."""
    rate, found = contraction.gap * (2 - contraction.gap), [distance]
    for step in steps:
        found.append((1 - step * rate) * found[-1] + step**2 * contraction.sigma1)
    return np.array(found)


@pytest.mark.parametrize("distance", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("gap, sigma1, sigma2", CONTRACTIONS)
def test_the_worst_case_stays_below_the_bounds(gap, sigma1, sigma2, distance):
    c, t = Contraction(gap, sigma1, sigma2, distance), np.arange(3001)
    for share in (1.0, 0.3):
        step = share * constant(c)
        np.testing.assert_allclose(theorem_4_1(c, t, step), worst_case(c, step_sizes(step, 3000), distance), rtol=1e-9)
    for beta_factor, gamma_factor in ((1.0, 1.0), (0.6, 1.0), (1.0, 2.0), (4.0, 4.0)):
        beta, gamma = decreasing(c)
        steps = (beta_factor * beta, gamma_factor * gamma)
        assert np.all(worst_case(c, step_sizes(steps, 3000), distance) <= theorem_4_2(c, t, steps) * ROUNDING)


def test_the_worst_case_comes_as_near_to_the_decreasing_bound_as_twice():
    c = Contraction(0.1, 1.0, 0.0, 0.0)
    reached = worst_case(c, step_sizes(decreasing(c), 100_000), 0.0)[-1]
    assert reached <= theorem_4_2(c, 100_000) <= 2 * reached


def test_rates(case):
    c, t = case.constants, np.array([10**8, 10**9])
    for bound in (theorem_4_2(c, t), theorem_4_3(c, t), corollary_4_1(c, t, t), corollary_4_1(c, 10 * t, 10 * t, local=True)):
        assert np.diff(np.log10(bound))[0] == pytest.approx(-1, abs=1e-2)
    system = c.linear_system
    assert theorem_4_1(c, 10**9) == pytest.approx(c.sigma1 / (1 - c.q**2), rel=1e-9)
    assert theorem_4_3(c, 10**9, constant(system)) == pytest.approx(constant(system) * system.sigma1 / (1 - c.q**2), rel=1e-9)


RUNS, STEPS = 64, 120


def run(map_with_noise, start, steps):
    """All iterates, (len(steps) + 1, runs, ...)."""
    found = [start]
    for step in steps:
        found.append((1 - step) * found[-1] + step * map_with_noise(found[-1]))
    return np.stack(found)


@pytest.mark.parametrize("around_solution", [False, True])
@pytest.mark.parametrize("rule", [constant, decreasing])
@pytest.mark.parametrize("seed", range(24))
def test_measured_errors_are_below_the_bounds(seed, rule, around_solution):
    case = Case(100 + seed, *KINDS[seed % len(KINDS)], shared=seed % 3 == 0)
    c = at_solution(case.constants, case.problem, 1, case.solution, case.batch) if around_solution else case.constants
    start, counts = np.zeros((RUNS, *case.solution.shape)), np.arange(STEPS + 1)

    w = run(lambda w: case.phi(w, case.draw(RUNS)), start, step_sizes(rule(c), STEPS))
    rho = (theorem_4_1 if rule is constant else theorem_4_2)(c, counts)
    assert np.all(squared(w - case.solution).mean(axis=1) <= rho * ROUNDING)
    assert squared(w).max() <= c.radius**2

    steps, n_lower = rule(c.linear_system), STEPS if seed % 2 else 10
    at, gradient, target = w[n_lower], case.val.gradient(w[n_lower]), case.adjoint(w[n_lower])
    v = run(lambda v: case.phi_product(at, v, case.draw(RUNS)) + gradient, start, step_sizes(steps, STEPS))
    sigma = theorem_4_3(c, counts, steps)
    assert np.all(squared(v - target).mean(axis=1) <= sigma * ROUNDING)

    exact = case.hypergradient(case.solution, case.adjoint(case.solution))
    measured = np.square(case.hypergradient(at, v) - exact).sum(axis=-1).mean(axis=1)
    for local in (False, True):
        assert np.all(measured <= theorem_3_4(c, rho[n_lower], sigma, local))
    if rule is decreasing:
        np.testing.assert_allclose(corollary_4_1(c, n_lower, counts), theorem_3_4(c, rho[n_lower], sigma))


def test_the_hypergradient_is_that_of_the_validation_loss():
    """Finite differences of the loss at the solution of the sum, at log λ as the project has it."""
    case = Case(5, weighted=True)
    exact = case.hypergradient(case.solution, case.adjoint(case.solution))
    total, shift = np.exp(case.log_penalties[0]) / case.penalties[0], 1e-4

    def loss(log_penalties):
        model, factors = fit_reference(case.train.X, case.train.y, log_penalties, case.train.weights * total, False)
        log_proba = np.log(model.predict_proba(case.val.X * factors))
        return -case.val.weights @ log_proba[np.arange(len(case.val.y)), case.val.y]

    for j, change in enumerate(shift * np.eye(4)):
        difference = (loss(case.log_penalties + change) - loss(case.log_penalties - change)) / (2 * shift)
        assert exact[j] == pytest.approx(difference, rel=1e-5)


def test_refusals():
    vast = make_problem(np.array([[1e200], [1.0]]), [0, 1], [([0], [1])], n_classes=2, fit_intercept=True, dtype=np.float64)
    with pytest.raises(ValueError, match="overflow. Scale the features"):
        curvature(vast, 0, 0.0)
    problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=True)
    with pytest.raises(ValueError, match="fit_intercept=True.*fit_intercept=False"):
        constants_of(problem, 0, 0.0, batch_size=1)
    c = Contraction(gap=0.5, sigma1=1.0, sigma2=1.0, distance=1.0)
    for step in (0.0, -0.1, 0.51, np.nan):
        with pytest.raises(ValueError, match="step is .* Use constant"):
            theorem_4_1(c, 1, step)
    for steps in ((1.3, 10.0), (2.0, 3.9), (np.nan, 10.0)):
        with pytest.raises(ValueError, match="steps is .* Use decreasing"):
            theorem_4_2(c, 1, steps)
