"""The bounds where they are attained: problems on which a bound of half the size, or of one factor less, is broken.

Each constant is also compared with a second writing of its formula, on dense matrices.
"""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import brentq
from scipy.special import expit
from test_bounds import KINDS, ROUNDING, Case, squared, step_sizes, variances

from sksid.bounds import (
    Constants,
    Contraction,
    at_solution,
    constant,
    constants_of,
    corollary_4_1,
    curvature,
    data_curvature,
    decreasing,
    row_curvature,
    theorem_3_1,
    theorem_3_2,
    theorem_3_3,
    theorem_3_4,
    theorem_4_1,
    theorem_4_2,
    theorem_4_3,
)
from sksid.problem import make_problem

CASES = [Case(seed, *kind) for seed, kind in enumerate(KINDS)]


def largest(matrix):
    return np.linalg.eigvalsh(matrix)[-1]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("matrix", ["none", "dense", "sparse"])
def test_formulas_of_the_constants(case, matrix):
    """Written a second time, from docs/method.rst; with four features the eigenvalues are exact."""
    A = None if matrix == "none" else case.rng.standard_normal((4, 2))
    structure = sp.csr_array(A) if matrix == "sparse" else A
    c = constants_of(case.problem, 1, case.log_penalties, case.batch, structure=structure)
    K = c.L * 0 + (2 if case.solution.shape[0] == 1 else case.solution.shape[0])
    r, bend, third = (1, 1 / 4, 1 / (6 * np.sqrt(3))) if K == 2 else (2, 1 / 2, np.sqrt(2) / (3 * np.sqrt(3)))
    X, s, X_val, val, n, b = case.train.X, case.train.weights, case.val.X, case.val.weights, case.n, case.batch
    lengths, rates = np.linalg.norm(X, axis=1), case.penalties
    rows = np.ones(4) if A is None else np.linalg.norm(A, axis=1)
    L, mu = bend * largest((X.T * s) @ X) + rates.max(), rates.min()
    alpha = 2 / (L + mu)
    at_solution = 2 * np.log(K) * np.max(rates * rows**2), r * largest((X.T * s) @ X) * rows.max() ** 2
    expected = {
        "L": L,
        "mu": mu,
        "alpha": alpha,
        "q": (L - mu) / (L + mu),
        "gap": 2 * mu / (L + mu),
        "sigma1": alpha**2 * r * n / b * np.sum((s * lengths) ** 2),
        "sigma2": 0.0,
        "sigma1_adjoint": (alpha * bend) ** 2 / b * largest((X.T * (n * (s * lengths) ** 2)) @ X),
        "B": np.sqrt(r * largest((X_val.T * val) @ X_val)),
        "mu1": bend * largest((X_val.T * val) @ X_val),
        "mu2": 0.0,
        "m2": 0.0,
        "nu1": alpha * third * largest((X.T * (s * lengths)) @ X),
        "nu2": alpha * np.max(rates * rows),
        "radius": np.sqrt(r) * n * np.max(s * lengths) / mu,
        "distance": min(2 * np.log(K) / mu, r * largest((X.T * s) @ X) / mu**2),
        "L_Phi": alpha * np.max(rates * rows) * np.sqrt(r) * n * np.max(s * lengths) / mu,
        "L_Phi_solution": alpha * np.sqrt(min(at_solution)),
        "row_norm": rows.max(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(c, name), value, rtol=1e-9, err_msg=name)
    near, noise = at_solution_of(case, c)
    np.testing.assert_allclose(near.sigma1, 2 * alpha**2 / b * noise, rtol=1e-6)
    np.testing.assert_allclose(near.sigma2, bend * n * np.max(s * lengths**2) / (2 * b * mu), rtol=1e-9)
    expected = alpha * np.linalg.norm(rates * case.solution) * rows.max()
    np.testing.assert_allclose(near.L_Phi_solution, expected, rtol=1e-6)
    np.testing.assert_allclose(near.distance, squared(case.solution), rtol=1e-12)


def at_solution_of(case, constants):
    """The constants there, and the variance of one row's gradient."""
    one_row = case.n * np.stack([case.train[[i]].gradient(case.solution) for i in range(case.n)])
    noise = squared(one_row - one_row.mean(axis=0)).mean()
    return at_solution(constants, case.problem, 1, case.solution, case.batch), noise


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_the_derivative_in_theta_is_within_its_bounds(case):
    """∂₂Φ(w) takes u to −α (λ_j/S)(Au)_j W_j, written out as a matrix."""
    A = case.rng.standard_normal((4, 2))
    c = constants_of(case.problem, 1, case.log_penalties, case.batch, structure=A)

    def cross(coef):
        flat = (c.alpha * case.penalties * coef)[..., None] * A  # (n_outputs, n_features, n_params)
        return np.linalg.norm(flat.reshape(-1, 2), 2)

    for scale in (0.1, 1.0, 10.0):
        step = case.random(scale=scale)
        assert cross(step) <= c.nu2 * np.sqrt(squared(step)) * ROUNDING
    worst = np.zeros_like(case.solution)
    worst[0, np.argmax(case.penalties * np.linalg.norm(A, axis=1))] = 3.0
    assert cross(worst) == pytest.approx(3.0 * c.nu2, rel=1e-12)
    near = at_solution(c, case.problem, 1, case.solution, case.batch)
    assert cross(case.solution) <= near.L_Phi_solution * ROUNDING <= c.L_Phi_solution * (1 + 1e-6)
    exact = case.hypergradient(case.solution, case.adjoint(case.solution)) @ A
    for scale in (0.01, 0.3, 1.0):
        w = case.solution + case.random(20, scale=scale)
        error = np.square(case.hypergradient(w, case.adjoint(w)) @ A - exact).sum(axis=-1)
        for local in (False, True):
            assert np.all(np.sqrt(error) <= theorem_3_1(c, np.sqrt(squared(w - case.solution)), 0.0, local))


@pytest.mark.parametrize("case", CASES[:2], ids=range(2))
def test_with_strong_penalties_the_gradient_bounds_the_derivative_in_theta(case):
    A = 3.0 * case.rng.standard_normal((4, 2))
    logs = case.log_penalties + 8.0
    c = constants_of(case.problem, 1, logs, case.batch, structure=A)
    rates, solution = case.penalties * np.exp(8.0), np.zeros_like(case.solution)
    for _ in range(500):
        solution = solution - c.alpha * (case.train.gradient(solution) + rates * solution)
    cross = np.linalg.norm(((c.alpha * rates * solution)[..., None] * A).reshape(-1, 2), 2)
    r = 1 if case.solution.shape[0] == 1 else 2
    longest = np.linalg.norm(A, axis=1).max()
    steepest = c.alpha * np.sqrt(r * largest((case.train.X.T * case.train.weights) @ case.train.X))
    assert cross <= c.L_Phi_solution
    assert c.L_Phi_solution == pytest.approx(steepest * longest, rel=1e-9)


# ---- problems that attain the constants ---------------------------------------------------------------------------------


def one_among(n, log_penalty, y=1, batch_size=1):
    """n training rows, of which one is not zero: x = 1. The draw that has it is rare, and its noise the worst."""
    X = np.zeros((n + 1, 1))
    X[[0, n]] = 1.0
    labels = np.zeros(n + 1, dtype=int)
    labels[[0, n]] = y, 1 - y
    split = (np.arange(n), np.array([n]))
    problem = make_problem(X, labels, [split], n_classes=2, fit_intercept=False, dtype=np.float64)
    return problem, constants_of(problem, 0, log_penalty, batch_size)


def variance_of_one(w, n, alpha):
    """V[Φ̂(w)] of single rows drawn from these, exactly."""
    slope = (expit(w) - 1) / n
    return alpha**2 * (n - 1) * slope**2


def test_the_noise_of_the_map_comes_near_to_sigma1():
    n, w = 1000, -30.0
    _, c = one_among(n, 0.0)
    assert 0.998 < variance_of_one(w, n, c.alpha) / c.sigma1 <= 1.0


def test_the_noise_around_the_solution_comes_near_to_its_model():
    """σ₁ + σ₂‖Φ(w) − w‖² is exceeded by no w, and by 6% at most not reached; with half of σ₂ it would be exceeded by 40%."""
    n, rate = 1000, 0.22e-3
    problem, c = one_among(n, np.log(rate * n))
    solution = brentq(lambda w: (expit(w) - 1) / n + rate * w, 0.0, 10.0)
    near = at_solution(c, problem, 0, np.array([[solution]]), batch_size=1)
    w = np.linspace(-20.0, 20.0, 4001)
    change = c.alpha * ((expit(w) - 1) / n + rate * w)
    share = variance_of_one(w, n, c.alpha) / (near.sigma1 + near.sigma2 * change**2)
    assert 0.94 < share.max() <= 1.0


def test_the_noise_of_the_adjoint_map_comes_near_to_sigma1_adjoint():
    n = 1000
    _, c = one_among(n, 0.0)
    at_half = (c.alpha / 4) ** 2 * (n - 1) / n**2
    assert 0.998 < at_half / c.sigma1_adjoint <= 1.0


def test_minibatches_divide_the_noise():
    (_, one), (problem, many) = one_among(50, 0.0), one_among(50, 0.0, batch_size=8)
    for name in ("sigma1", "sigma1_adjoint"):
        assert getattr(many, name) == pytest.approx(getattr(one, name) / 8, rel=1e-12)
    near = [at_solution(c, problem, 0, np.array([[0.3]]), b) for c, b in ((one, 1), (many, 8))]
    assert (near[1].sigma1, near[1].sigma2) == pytest.approx((near[0].sigma1 / 8, near[0].sigma2 / 8), rel=1e-12)


def test_the_variance_of_a_linear_system_comes_near_to_its_model():
    """V = σ'₁v² for scalar v, |Tv − v| = (1 − q)|v − v*|: at v = 2v* the model is attained, and nowhere exceeded."""
    _, c = one_among(1, 0.0)
    system, fixed = c.linear_system, c.B / c.gap
    v = np.linspace(-10.0, 10.0, 401) * fixed
    share = c.sigma1_adjoint * v**2 / (system.sigma1 + system.sigma2 * (c.gap * (v - fixed)) ** 2)
    assert share.max() <= ROUNDING
    assert c.sigma1_adjoint * (2 * fixed) ** 2 == pytest.approx(system.sigma1 + system.sigma2 * (c.gap * fixed) ** 2, rel=1e-12)
    assert (system.gap, system.distance) == pytest.approx((c.gap, fixed**2), rel=1e-12)


def test_curvature_and_radius_are_attained():
    _, c = one_among(1, np.log(0.5))
    assert c.L == pytest.approx(0.25 + 0.5, rel=1e-12) and c.mu == 0.5
    assert c.B == 1.0 and c.mu1 == 0.25
    assert c.radius == pytest.approx(1 / 0.5, rel=1e-12)
    third = max(abs(p * (1 - p) * (1 - 2 * p)) for p in np.linspace(0, 1, 10001))
    assert c.nu1 == pytest.approx(c.alpha * third, rel=1e-6)
    w = np.zeros(1)
    for _ in range(200):  # a gradient that keeps its full length
        w = w - c.alpha * (0.5 * w - 1.0)
    assert w[0] == pytest.approx(c.radius, rel=1e-9)


def test_the_row_curvature_is_attained_by_a_rare_row():
    """V[H_i v] = (n − 1)/n · R vᵀHv."""
    n, p = 500, np.full((501, 1), 0.3)
    problem, _ = one_among(n, 0.0)
    R = row_curvature(problem, 0, p)
    assert R == pytest.approx(0.3 * 0.7, rel=1e-12)
    mean = 0.3 * 0.7 / n
    assert 0.99 < (n - 1) * mean**2 / (R * mean) <= 1.0
    assert row_curvature(problem, 0, np.full((501, 1), 0.5)) == pytest.approx(0.25, rel=1e-12)


def test_curvature_of_many_penalties_is_that_of_the_largest_and_the_least():
    problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False, dtype=np.float64)
    c = curvature(problem, 0, np.log([1.0, 2.0, 4.0, 8.0]))
    assert (c.L, c.mu) == pytest.approx((0.125 + 4.0, 0.5), rel=1e-12)
    assert data_curvature(problem, 0) == pytest.approx(0.125, rel=1e-12)


# ---- iterations that attain the theorems --------------------------------------------------------------------------------

WORST = Contraction(gap=0.2, sigma1=0.5, sigma2=1.5, distance=4.0)


def worst_iteration(c, steps, runs=20_000, seed=0):
    """E(w_t − w*)², measured: w ← qw by a map whose noise is as large as the model allows, from √D₀."""
    rng, w = np.random.default_rng(seed), np.full(runs, np.sqrt(c.distance))
    found = [np.mean(w**2)]
    for step in steps:
        noise = np.sqrt(c.sigma1 + c.sigma2 * (c.gap * w) ** 2) * rng.choice([-1.0, 1.0], runs)
        w = (1 - step) * w + step * ((1 - c.gap) * w + noise)
        found.append(np.mean(w**2))
    return np.array(found)


def test_constant_steps_attain_theorem_4_1():
    measured = worst_iteration(WORST, step_sizes(constant(WORST), 60))
    np.testing.assert_allclose(measured, theorem_4_1(WORST, np.arange(61)), rtol=0.1)


def test_a_smaller_constant_step_is_below_theorem_4_1():
    measured = worst_iteration(WORST, step_sizes(0.1, 200))
    bound = theorem_4_1(WORST, np.arange(201), 0.1)
    assert np.all(measured <= 1.05 * bound) and np.all(bound[1:] <= 1.4 * measured[1:])


@pytest.mark.parametrize("distance", [0.0, 4.0, 100.0])
def test_decreasing_steps_come_near_to_theorem_4_2(distance):
    c = replace(WORST, distance=distance)
    t = np.arange(2001)
    measured, bound = worst_iteration(c, step_sizes(decreasing(c), 2000), runs=4000), theorem_4_2(c, t)
    assert np.all(measured <= 1.1 * bound)
    if distance:
        assert bound[0] == pytest.approx(measured[0], rel=1e-12)  # where the start rules
    else:
        assert bound[-1] <= 2.2 * measured[-1]  # where noise does


def test_the_largest_step_is_the_largest_that_holds():
    """Twice the largest constant step goes above the line that the theorem would draw for it."""
    c, t = Contraction(gap=0.02, sigma1=0.0, sigma2=3.0, distance=1.0), np.arange(200)
    beyond = worst_iteration(c, step_sizes(2 * constant(c), 199), runs=2000)
    rate = c.gap * (2 - c.gap)
    assert constant(c) == 0.25
    assert np.any(beyond > 1.01 * (1 - 2 * constant(c) * rate) ** t)


# ---- the theorems on the hypergradient, in numbers ----------------------------------------------------------------------

PLAIN = Constants(
    L=3.0,
    mu=1.0,
    sigma1=0.3,
    sigma1_adjoint=0.7,
    B=2.0,
    mu1=0.4,
    nu1=0.6,
    nu2=0.25,
    radius=8.0,
    distance=5.0,
    L_Phi_solution=1.5,
    mu2=0.1,
    m2=0.05,
)


@pytest.mark.parametrize("local", [False, True])
def test_formulas_of_the_hypergradient_bounds(local):
    gap, distance, sigma = 0.5, 0.3, 0.02
    assert PLAIN.gap == gap and PLAIN.L_Phi == 2.0
    fixed = 1.5 if local else 2.0
    moving = 1.5 + 0.25 * distance if local else 2.0
    c1 = 0.1 + (0.4 * fixed + 0.25 * 2.0) / gap + 0.6 * 2.0 * fixed / gap**2
    last = 2 * 0.05 * (sigma + (2.0 / gap) ** 2)
    assert theorem_3_1(PLAIN, distance, sigma, local) == pytest.approx(c1 * distance + moving * np.sqrt(sigma), rel=1e-12)
    assert theorem_3_2(PLAIN, distance, sigma, local) == pytest.approx(moving**2 * sigma + last, rel=1e-12)
    square = 2 * c1**2 * distance**2 + 2 * moving**2 * sigma + last
    assert theorem_3_3(PLAIN, distance, sigma, local) == pytest.approx(square, rel=1e-12)
    assert theorem_3_4(PLAIN, distance**2, sigma, local) == pytest.approx(square, rel=1e-12)
    t, k = np.array([10, 1000]), np.array([20, 3000])
    both = theorem_3_4(PLAIN, theorem_4_2(PLAIN, t), theorem_4_3(PLAIN, k), local)
    np.testing.assert_allclose(corollary_4_1(PLAIN, t, k, local), both, rtol=1e-12)


def test_formulas_of_step_sizes_and_rates():
    c = Contraction(gap=0.5, sigma1=2.0, sigma2=1.0, distance=4.0)  # 1 − q² = 3/4
    assert decreasing(c) == pytest.approx((8 / 3, 16 / 3), rel=1e-12) and constant(c) == 0.5
    floor = 0.5 * 2.0 / 0.75
    assert theorem_4_1(c, 3) == pytest.approx((1 - 0.375) ** 3 * (4 - floor) + floor, rel=1e-12)
    noise = (8 / 3) ** 2 * 2.0 / (8 / 3 * 0.75 - 1)
    assert theorem_4_2(c, 10) == pytest.approx(max(16 / 3 * 4, noise) / (16 / 3 + 10), rel=1e-12)
    far = replace(c, sigma1=100.0)
    assert theorem_4_2(far, 10) == pytest.approx((8 / 3) ** 2 * 100.0 / (16 / 3 + 10), rel=1e-12)
    system = PLAIN.linear_system
    assert (system.sigma1, system.sigma2) == pytest.approx((2 * 0.7 * 4 / 0.25, 2 * 0.7 / 0.25), rel=1e-12)
    assert theorem_4_3(PLAIN, 7) == pytest.approx(float(theorem_4_2(system, 7)), rel=1e-12)
    assert theorem_4_3(PLAIN, 7, 0.01) == pytest.approx(float(theorem_4_1(system, 7, 0.01)), rel=1e-12)


def test_a_noisy_last_step_is_within_theorem_3_2_and_breaks_it_without_m2():
    """The scalar h = ∂₂Φ̂ v_k: ∂₂Φ̂ of mean L_Φ = 2 and variance m₂, v_k of a mean up to B/(1 − q) = 4 and variance σ."""
    c, signs = replace(PLAIN, m2=0.3), np.random.default_rng(0).choice([-1.0, 1.0], (2, 200_000))
    for v, sigma in ((4.0, 0.5), (4.0, 0.0), (2.0, 3.0)):
        h = (2.0 + np.sqrt(c.m2) * signs[0]) * (v + np.sqrt(sigma) * signs[1])
        assert theorem_3_2(replace(c, m2=0.0), 0.0, sigma) < h.var() <= theorem_3_2(c, 0.0, sigma)
        assert np.mean((h - 2 * v) ** 2) <= theorem_3_3(c, 0.0, sigma)
    signs = signs[0] * np.sqrt(c.m2) * 4.0  # σ = 0: half of the bound, as ‖v_k‖² ≤ 2‖v_k − v‖² + 2‖v‖² is half of that
    assert signs.var() == pytest.approx(theorem_3_2(c, 0.0, 0.0) / 2, rel=0.02)


@pytest.mark.parametrize("case", CASES[:4], ids=range(4))
def test_bias_and_variance_of_the_iteration_are_below_their_bounds(case):
    """Given w_t: 4,000 runs of the linear system, i.i.d. draws; bias² and variance add up to the mean square error."""
    c = case.constants
    w = case.solution + case.random(scale=0.2)
    system, gradient, steps = c.linear_system, case.val.gradient(w), 40
    v, at = np.zeros((4000, *case.solution.shape)), np.broadcast_to(w, (4000, *case.solution.shape))
    for step in step_sizes(decreasing(system), steps):
        v = (1 - step) * v + step * (case.phi_product(at, v, case.draw(4000)) + gradient)
    found = case.hypergradient(at, v)
    exact = case.hypergradient(case.solution, case.adjoint(case.solution))
    distance, sigma = np.sqrt(squared(w - case.solution)), squared(v - case.adjoint(w)).mean()
    bias, variance = np.linalg.norm(found.mean(axis=0) - exact), found.var(axis=0).sum()
    for local in (False, True):
        assert bias <= theorem_3_1(c, distance, sigma, local)
        assert variance <= theorem_3_2(c, distance, sigma, local)
        assert bias**2 + variance <= theorem_3_3(c, distance, sigma, local)
    assert sigma <= theorem_4_3(c, steps)
    one_row = np.stack([case.phi_product(w, v[0][None], np.array([[row]]))[0] for row in range(case.n)])
    assert variances(case, one_row, case.phi_product(w, v[0])) <= c.sigma1_adjoint * squared(v[0]) * ROUNDING
