"""Algorithm 1 for any map: against finite differences of the whole map, and, for logistic regression, against the solvers."""

import importlib.util
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, softmax

from sksid import bounds, hypergradient
from sksid.problem import TRAIN, VALIDATION, make_problem
from sksid.sid import ConjugateGradient, FixedPoint, Map, Outer, differentiate
from sksid.solvers import NotFiniteError, Sgd, Steps

ROOT = Path(__file__).resolve().parents[1]
WHOLE = FixedPoint(sampled=False)
GALLERY = sorted((ROOT / "examples").glob("plot_sid_*.py"))


@pytest.mark.skipif(not GALLERY or importlib.util.find_spec("matplotlib") is None, reason="the gallery needs matplotlib")
@pytest.mark.parametrize("example", GALLERY, ids=lambda path: path.stem)
def test_the_hypergradients_of_the_gallery_are_the_slopes_of_the_whole_map(example, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].switch_backend("Agg")
    found = runpy.run_path(str(example))
    assert found["slope"] == pytest.approx(found["difference"], rel=1e-3)
    found["plt"].close("all")


# ---- logistic regression is one such map --------------------------------------------------------------------------------


class Logistic:
    """The lower level of one split, written densely, as a Map of log λ; and its validation loss, as an Outer."""

    def __init__(self, X, y, split, log_penalties):
        n_classes = len(np.unique(y))
        self.problem = make_problem(X, y, [split], n_classes=n_classes, fit_intercept=False, dtype=np.float64)
        samples, role = self.problem.rows.samples, self.problem.roles.role[:, 0]
        train, val = samples[role == TRAIN], samples[role == VALIDATION]  # in the order in which the package visits them
        self.X, self.X_val, self.n, self.k = X[train], X[val], len(train), 1 if n_classes == 2 else n_classes
        classes = np.arange(n_classes) if self.k > 1 else 1
        self.targets, self.targets_val = y[train, None] == classes, y[val, None] == classes
        self.log_penalties = np.broadcast_to(np.asarray(log_penalties, dtype=float), X.shape[1])
        self.curvature = bounds.curvature(self.problem, 0, self.log_penalties)
        self.start = np.zeros((X.shape[1], self.k))
        self.map = Map(self.apply, self.pull_w, self.pull_hyper, draw=lambda rng: rng.integers(self.n, size=20))
        self.outer = Outer(self.value, self.grad_w)

    def proba(self, X, w):
        return expit(X @ w) if self.k == 1 else softmax(X @ w, axis=1)

    def apply(self, w, hyper, draw):
        rows = slice(None) if draw is None else draw
        slopes = self.proba(self.X[rows], w) - self.targets[rows]
        return w - self.curvature.alpha * (self.X[rows].T @ slopes / len(slopes) + np.exp(hyper)[:, None] / self.n * w)

    def pull_w(self, w, hyper, v, draw):
        rows = slice(None) if draw is None else draw
        p, bent = self.proba(self.X[rows], w), self.X[rows] @ v
        bent = p * (1 - p) * bent if self.k == 1 else p * (bent - (p * bent).sum(axis=1, keepdims=True))
        return v - self.curvature.alpha * (self.X[rows].T @ bent / len(bent) + np.exp(hyper)[:, None] / self.n * v)

    def pull_hyper(self, w, hyper, v, draw):
        return -self.curvature.alpha / self.n * np.exp(hyper) * (w * v).sum(axis=1)

    def value(self, w, hyper, draw):
        p = self.proba(self.X_val, w)
        return float(-np.log(np.where(self.targets_val, p, 1 - p if self.k == 1 else 1)).sum() / len(p))

    def grad_w(self, w, hyper, draw):
        return self.X_val.T @ (self.proba(self.X_val, w) - self.targets_val) / len(self.X_val)

    def differentiate(self, **settings):
        return differentiate(self.map, self.outer, self.log_penalties, self.start, **settings)


@pytest.fixture(scope="module", params=[2, 10], ids=["two classes", "ten classes"])
def logistic(request, digits):
    X, y = digits
    order = np.random.RandomState(0).permutation(y.size)
    return Logistic(X, y % request.param, (order[:400], order[400:700]), np.linspace(2.0, 4.0, 64))


@pytest.mark.parametrize("adjoint", [WHOLE, ConjugateGradient()], ids=["fixed point", "conjugate gradient"])
def test_logistic_regression_agrees_with_hypergradient(logistic, digits, adjoint):
    order = np.random.RandomState(0).permutation(len(digits[1]))
    settings = {"solver": "aid", "tol": 1e-11, "fit_intercept": False}
    labels = digits[1] % (2 if logistic.k == 1 else 10)
    exact = hypergradient(digits[0], labels, [(order[:400], order[400:700])], logistic.log_penalties, **settings)
    found = logistic.differentiate(lower=WHOLE, adjoint=adjoint, n_lower=3000, n_adjoint=3000)
    assert found.value == pytest.approx(exact.value, rel=1e-9)
    np.testing.assert_allclose(found.hypergradient, exact.gradient, rtol=0, atol=1e-6 * np.abs(exact.gradient).max())
    np.testing.assert_allclose(found.w.T, exact.coef[0], atol=1e-7)


@pytest.mark.parametrize("rule", ["constant", "decreasing"])
def test_on_the_same_draws_it_is_the_shipped_solver(logistic, rule):
    """Bit for bit but for rounding: minibatches of 20 of 400 rows, twenty an epoch, drawn as ``Sgd`` draws them."""
    beta, gamma, epochs = 3.0, 6.0, 4
    steps = Steps(rule, batch_size=20, beta=beta, gamma=gamma)
    solver = Sgd(steps, steps, lower_epochs=epochs, adjoint_epochs=epochs, sampling="iid")
    state = solver.advance(logistic.problem, solver.init(logistic.problem, logistic.log_penalties, seed=7))
    random, minibatches = np.random.RandomState(7), []

    def draw(rng):
        if not minibatches:
            minibatches.extend(random.randint(400, size=(20, 20)))
        return minibatches.pop(0)

    replayed = Map(logistic.apply, logistic.pull_w, logistic.pull_hyper, draw)
    on_rows = FixedPoint((beta, gamma) if rule == "decreasing" else beta / gamma)
    budgets = {"lower": on_rows, "adjoint": on_rows, "n_lower": 20 * epochs, "n_adjoint": 20 * epochs}
    found = differentiate(replayed, logistic.outer, logistic.log_penalties, logistic.start, **budgets)
    adjoint = logistic.curvature.alpha / 400 * found.v.T  # of the sum, not of the step
    np.testing.assert_allclose(found.w.T, solver.coefficients(logistic.problem, state)[0][0], atol=1e-12)
    np.testing.assert_allclose(adjoint, solver.adjoint(logistic.problem, state)[0][0], atol=1e-12)
    np.testing.assert_allclose(found.hypergradient, solver.log_gradient(logistic.problem, state), atol=1e-12)


@pytest.mark.parametrize("logistic", [2], indirect=True, ids=["two classes"])
def test_the_solvers_need_not_be_of_a_kind(logistic):
    """Minibatches below, conjugate gradient above, and the reverse, with a function of one's own."""

    def newton(system, start, n_steps, rng):
        x = start.ravel()
        for _ in range(n_steps):
            residual = system.apply(x.reshape(start.shape), None).ravel() - x
            basis = 1e-6 * np.eye(x.size)
            jacobian = [(system.apply((x + e).reshape(start.shape), None).ravel() - x - e - residual) / 1e-6 for e in basis]
            x = x - np.linalg.solve(np.array(jacobian).T, residual)
        return x.reshape(start.shape)

    exact = logistic.differentiate(lower=newton, adjoint=newton, n_lower=10, n_adjoint=2)
    size = np.linalg.norm(exact.hypergradient)
    noisy = FixedPoint(bounds.decreasing(logistic.curvature))
    budgets = {"n_lower": 1500, "n_adjoint": 1500}
    for lower, adjoint in ((noisy, ConjugateGradient()), (noisy, newton), (newton, noisy), (noisy, noisy)):
        settings = budgets | {f"n_{name}": 10 for name, solver in (("lower", lower), ("adjoint", adjoint)) if solver is newton}
        found = logistic.differentiate(lower=lower, adjoint=adjoint, **settings)
        assert np.linalg.norm(found.hypergradient - exact.hypergradient) < 0.1 * size


# ---- a map whose solution is known --------------------------------------------------------------------------------------


class Rotation:
    """w = ½Rw + λ + noise, R a rotation: not symmetric, w = (I − ½R)⁻¹λ; and E = ½|w − 1|² + ½|λ|², drawn or whole."""

    def __init__(self, noise=0.1, outer_noise=None):
        self.R = 0.5 * np.array([[0.6, -0.8], [0.8, 0.6]])
        jolt = lambda draw: 0.0 if draw is None else draw  # noqa: E731
        self.map = Map(
            apply=lambda w, hyper, draw: self.R @ w + hyper + jolt(draw),
            pull_w=lambda w, hyper, v, draw: self.R.T @ v + jolt(draw) * v,
            pull_hyper=lambda w, hyper, v, draw: v + jolt(draw) * v,
            draw=lambda rng: noise * rng.standard_normal(2),
        )
        self.outer = Outer(
            value=lambda w, hyper, draw: 0.5 * np.sum((w - 1) ** 2) + 0.5 * hyper @ hyper + np.sum(jolt(draw)),
            grad_w=lambda w, hyper, draw: w - 1 + jolt(draw),
            grad_hyper=lambda w, hyper, draw: hyper + jolt(draw),
            draw=None if outer_noise is None else lambda rng: outer_noise * rng.standard_normal(2),
        )

    def exact(self, hyper):
        solved = np.linalg.inv(np.eye(2) - self.R)
        w = solved @ hyper
        return 0.5 * np.sum((w - 1) ** 2) + 0.5 * hyper @ hyper, hyper + solved.T @ (w - 1)

    def differentiate(self, **settings):
        return differentiate(self.map, self.outer, HYPER, np.zeros(2), **settings)


HYPER = np.array([1.0, -0.5])
SLOWING = FixedPoint((4.0, 8.0))


def test_a_map_that_is_not_symmetric():
    rotation = Rotation()
    found = rotation.differentiate(lower=WHOLE, adjoint=WHOLE)
    value, gradient = rotation.exact(HYPER)
    assert found.value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(found.hypergradient, gradient, rtol=1e-12)
    assert found.variance is found.error is None
    with pytest.raises(ValueError, match="not affine and symmetric.* Use FixedPoint"):
        rotation.differentiate(lower=WHOLE, adjoint=ConjugateGradient())


def test_the_outer_loss_may_be_drawn():
    rotation = Rotation(outer_noise=0.3)
    settings = {"lower": SLOWING, "adjoint": SLOWING, "n_lower": 4000, "n_adjoint": 4000, "n_last": 4000}
    value, gradient = rotation.exact(HYPER)
    found = rotation.differentiate(**settings)
    assert found.value != value
    assert found.value == pytest.approx(value, abs=0.05)
    np.testing.assert_allclose(found.hypergradient, gradient, atol=0.05)
    assert not np.allclose(found.hypergradient, rotation.differentiate(**settings | {"n_last": None}).hypergradient, rtol=1e-9)
    exactly = rotation.differentiate(lower=WHOLE, adjoint=WHOLE)  # no draw is asked for
    np.testing.assert_allclose(exactly.hypergradient, gradient, rtol=1e-12)


@pytest.mark.parametrize("lower", [SLOWING, FixedPoint(0.05)], ids=["decreasing", "constant"])
def test_the_estimates_are_of_the_size_of_the_errors(lower):
    """The variance within its standard error, the error of one to four times the true one, over 300 runs."""
    rotation = Rotation()
    _, gradient = rotation.exact(HYPER)
    settings = {"lower": lower, "adjoint": lower, "n_lower": 400, "n_adjoint": 400}
    runs = np.array([rotation.differentiate(**settings, seed=seed).hypergradient for seed in range(300)])
    true_error = np.sum((runs - gradient) ** 2, axis=1).mean()
    true_variance = runs.var(axis=0, ddof=1).sum()
    found = rotation.differentiate(**settings, n_runs=50, seed=1000)
    assert abs(found.variance.mean - true_variance) < 4 * found.variance.standard_error + 0.2 * true_variance
    assert 0.8 * true_error < found.error.mean < 4 * true_error
    assert 0.05 < found.error.standard_error / found.error.mean < 0.5


def test_a_seed_decides_and_more_runs_change_nothing_in_the_first():
    rotation = Rotation()
    one, again, other = (rotation.differentiate(seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.hypergradient, again.hypergradient)
    assert not np.array_equal(one.hypergradient, other.hypergradient)
    np.testing.assert_array_equal(rotation.differentiate(seed=3, n_runs=5).hypergradient, one.hypergradient)


def test_starts_are_where_the_solvers_begin():
    rotation = Rotation(noise=0.0)
    first = rotation.differentiate(n_lower=20, n_adjoint=20)
    whole = rotation.differentiate(n_lower=40, n_adjoint=20)
    settings = {"n_lower": 20, "n_adjoint": 20}
    more = differentiate(rotation.map, rotation.outer, HYPER, first.w, **settings)
    np.testing.assert_allclose(more.w, whole.w, rtol=1e-12)
    np.testing.assert_allclose(more.hypergradient, whole.hypergradient, rtol=1e-12)
    begun = differentiate(rotation.map, rotation.outer, HYPER, whole.w, adjoint_start=[5.0, 5.0], n_lower=1, n_adjoint=1)
    np.testing.assert_allclose(begun.v, rotation.R.T @ [5.0, 5.0] + begun.w - 1, rtol=1e-12)


def test_a_budget_of_nothing_leaves_the_starts():
    found = Rotation().differentiate(n_lower=0, n_adjoint=0, adjoint_start=[2.0, 3.0])
    np.testing.assert_array_equal(found.w, 0.0)
    np.testing.assert_array_equal(found.v, [2.0, 3.0])
    np.testing.assert_array_equal(found.hypergradient, HYPER + [2.0, 3.0])


def test_no_product_is_spent_on_looking():
    """Ten steps are ten calls of each function, and ∇₁E and step (3) one."""
    rotation, calls = Rotation(noise=0.0), dict.fromkeys(("apply", "pull_w", "pull_hyper", "grad_w"), 0)

    def counted(name, function):
        def call(*at):
            calls[name] += 1
            return function(*at)

        return call

    fields = {name: counted(name, getattr(rotation.map, name)) for name in ("apply", "pull_w", "pull_hyper")}
    outer = Outer(rotation.outer.value, counted("grad_w", rotation.outer.grad_w))
    differentiate(Map(**fields), outer, HYPER, np.zeros(2), n_lower=10, n_adjoint=10)
    assert calls == {"apply": 10, "pull_w": 10, "pull_hyper": 1, "grad_w": 1}


def test_step_sizes_of_any_kind():
    sizes = []
    settings = {"adjoint": FixedPoint(lambda i: sizes.append(i) or 0.5), "n_adjoint": 3}
    Rotation().differentiate(lower=FixedPoint(0.5), **settings)
    assert sizes == [0, 1, 2]
    assert [FixedPoint((4.0, 8.0)).size(i) for i in (0, 8)] == [0.5, 0.25]


def test_one_penalty_is_a_number():
    """λ, and so the hypergradient, has no axis."""
    mean = Map(
        lambda w, hyper, draw: w - 0.5 * (w - 3 + hyper * w),
        lambda w, hyper, v, draw: v - 0.5 * (v + hyper * v),
        lambda w, hyper, v, draw: -0.5 * w @ v,
    )
    square = Outer(lambda w, hyper, draw: 0.5 * w @ w, lambda w, hyper, draw: w)
    found = differentiate(mean, square, 0.5, np.zeros(1), n_runs=3)
    assert found.hypergradient.shape == ()
    assert found.hypergradient == pytest.approx(-4 / 1.5, rel=1e-12)
    assert found.variance.mean == pytest.approx(0.0, abs=1e-20)


def test_refusals():
    rotation = Rotation()
    with pytest.raises(NotFiniteError, match="w is not finite.* contraction"), np.errstate(all="ignore"):
        rotation.differentiate(lower=FixedPoint(-50.0), n_lower=1000)
    for name, change in {"apply": lambda *_: 0.0, "pull_w": lambda *_: np.zeros(3), "pull_hyper": lambda *_: 1.0}.items():
        with pytest.raises(ValueError, match=f"{name} has shape"):
            differentiate(Map(**{**vars(rotation.map), name: change}), rotation.outer, HYPER, np.zeros(2))
    with pytest.raises(ValueError, match="grad_w has shape .*, but w has"):
        differentiate(rotation.map, Outer(rotation.outer.value, lambda *_: 0.0), HYPER, np.zeros(2))
    with pytest.raises(ValueError, match="adjoint_start has shape"):
        rotation.differentiate(adjoint_start=np.zeros(3))
    for name, wrong in {"n_lower": -1, "n_adjoint": 2.5, "n_runs": 0, "n_last": 0}.items():
        with pytest.raises(ValueError, match=f"{name} is {wrong}. Set a whole number"):
            rotation.differentiate(**{name: wrong})
    with pytest.raises(ValueError, match="start is not finite. Give finite numbers"):
        differentiate(rotation.map, rotation.outer, HYPER, [0.0, np.nan])
    with pytest.raises(ValueError, match="hyper is not finite. Give finite numbers"):
        differentiate(rotation.map, rotation.outer, HYPER * np.inf, np.zeros(2))
    for steps in ("decreasing", [4.0, 8.0], (4.0, 8.0, 1.0), (4.0, None)):
        with pytest.raises(ValueError, match="steps is .* a tuple"):
            FixedPoint(steps)


def test_functions_may_return_lists():
    """Of w, v and the gradients: they are added as arrays."""
    rotation = Rotation(noise=0.0)

    def listed(function):
        return lambda *at: list(function(*at))

    the_map = Map(*(listed(getattr(rotation.map, name)) for name in ("apply", "pull_w", "pull_hyper")))
    outer = Outer(rotation.outer.value, listed(rotation.outer.grad_w), listed(rotation.outer.grad_hyper))
    found = differentiate(the_map, outer, HYPER, np.zeros(2), lower=WHOLE, adjoint=WHOLE)
    np.testing.assert_allclose(found.hypergradient, rotation.exact(HYPER)[1], rtol=1e-12)


def test_what_can_only_be_drawn_is_never_asked_for_as_a_whole():
    rotation = Rotation(outer_noise=0.3)

    def drawn(function):
        def call(*at):
            assert at[-1] is not None
            return function(*at)

        return call

    the_map = Map(*(drawn(getattr(rotation.map, name)) for name in ("apply", "pull_w", "pull_hyper")), rotation.map.draw)
    outer = Outer(*(drawn(getattr(rotation.outer, name)) for name in ("value", "grad_w", "grad_hyper")), rotation.outer.draw)
    settings = {"lower": SLOWING, "adjoint": SLOWING, "n_lower": 4000, "n_adjoint": 4000, "n_last": 4000}
    found = differentiate(the_map, outer, HYPER, np.zeros(2), **settings)
    np.testing.assert_allclose(found.hypergradient, rotation.exact(HYPER)[1], atol=0.05)
