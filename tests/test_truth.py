"""What solve says of its own accuracy, against references that are solved far more closely."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from sksid import HypergradientSearchCV, hypergradient
from sksid._features import make_structure
from sksid.logistic import solve
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual, Sgd

N_PROBLEMS = 200
TOLERANCES = (0.1, 0.02, 1e-3, 1e-4)


def between(rng, low, high):
    return np.exp(rng.uniform(np.log(low), np.log(high)))


def dense(rng, n):
    X = rng.randn(n, int(between(rng, 5, max(6, min(200, 1e5 / n)))))
    return (X - X.mean(0)) / X.std(0), 1.0


def correlated(rng, n):
    X, _ = dense(rng, n)
    factors = max(2, X.shape[1] // 5)
    X = X + 4 * rng.randn(n, factors) @ rng.randn(factors, X.shape[1]) / np.sqrt(factors)
    return (X - X.mean(0)) / X.std(0), 1.0


def words(rng, n):
    p, m = int(between(rng, 200, 1000)), 20
    frequency = 1.0 / np.arange(1, p + 1)
    columns = rng.choice(p, size=n * m, p=frequency / frequency.sum())
    X = sp.csr_array((np.ones(n * m), columns, np.arange(0, n * m + 1, m)), shape=(n, p))
    X.sum_duplicates()
    X = X @ sp.diags_array(1 + np.log((1 + n) / (1 + np.bincount(X.indices, minlength=p))))
    return sp.csr_array(sp.diags_array(1 / np.sqrt(X.multiply(X).sum(axis=1))) @ X), 0.05


def one_hot(rng, n):
    width, fields = int(between(rng, 4, 100)), 6
    values = np.minimum(width - 1, (width * rng.beta(0.5, 3, size=(n, fields))).astype(int))
    columns = (values + width * np.arange(fields)).ravel()
    return sp.csr_array((np.ones(n * fields), columns, np.arange(0, n * fields + 1, fields)), shape=(n, width * fields)), 0.1


def random_problem(seed, dtype, most):
    """A Problem of up to ``most`` rows, its log penalties, and the structure's ``pull_back``."""
    rng = np.random.RandomState(seed)
    X, scale = (dense, correlated, words, one_hot)[seed % 4](rng, int(between(rng, 100, most)))
    (n, p), n_classes, n_splits = X.shape, rng.choice([2, 2, 4]), rng.randint(1, 6)
    scores = X @ (rng.randn(p, n_classes) * (rng.rand(p, 1) < 0.3))
    y = np.argmax(scores / max(scores.std(), 1e-9) * between(rng, 0.4, 4) + rng.gumbel(size=scores.shape), axis=1)
    y[: 6 * n_classes] = np.repeat(np.arange(n_classes), 6)
    splits = list(StratifiedKFold(max(n_splits, 3), shuffle=True, random_state=seed).split(np.empty(n), y))[:n_splits]
    groups = np.append(np.arange(5), rng.randint(5, size=p - 5))
    matrix = np.column_stack([np.ones(p), rng.randn(p), rng.rand(p)])
    structure = make_structure(("shared", "moments", groups, "per_feature", matrix)[rng.randint(5)], X)
    log_penalties = np.log(scale * between(rng, 0.01, 1000)) + rng.choice([0.0, 0.5]) * rng.randn(p)
    return make_problem(X, y, splits, n_classes=n_classes, dtype=dtype, seed=seed), log_penalties, structure.pull_back


def errors(solver, seed, rtol, max_epochs, most=20_000):
    """What solve says: whether it converged; the true error, and that which it estimated, of the projected hypergradient."""
    dtype = np.float32 if rtol > 1e-3 else np.float64
    problem, log_penalties, project = random_problem(seed, dtype, most)
    state = solver.init(problem, log_penalties, seed=seed)
    _, estimate = solve(problem, solver, state, rtol=rtol, max_epochs=max_epochs, project=project)
    closely, reference = Aid(tol=1e-10, first_tol=None), problem.astype(np.float64)
    state = closely.advance(reference, closely.init(reference, log_penalties))
    true = project(closely.log_gradient(reference, state))
    rounding = 1e-8 * np.abs(true).max()
    return estimate.converged, max(0.0, np.abs(project(estimate.log_gradient) - true).max() - rounding), estimate.error


@pytest.mark.parametrize(
    ("solver", "n_problems", "max_epochs", "most", "at_least"),
    [(Dual(), N_PROBLEMS, 50, 20_000, 0.6), (Sgd(), 100, 120, 2000, 0.05), (Aid(), 40, 5, 2000, 1.0)],
    ids=["dual", "sgd", "aid"],
)
def test_the_true_error_exceeds_three_times_the_estimate_in_one_of_a_hundred(solver, n_problems, max_epochs, most, at_least):
    found = [errors(solver, seed, TOLERANCES[seed // 4 % 4], max_epochs, most) for seed in range(n_problems)]
    converged, true, estimated = np.array(found).T
    wrong = true > 3 * estimated
    assert converged.mean() >= at_least
    assert wrong.sum() <= 0.01 * n_problems
    assert (wrong & (converged == 1)).sum() <= 0.01 * converged.sum()


@pytest.mark.parametrize("seed", [7081, 7099])
def test_the_second_budget_of_a_stochastic_iteration_knows_little(seed):
    _, true, estimated = errors(Sgd(), seed, 0.1, 40, 2000)
    assert true <= 3 * estimated


@pytest.mark.parametrize("seed", range(3))
def test_many_rows_are_no_excuse(seed):
    rng = np.random.RandomState(seed)
    X = rng.randn(6000, 20)
    y = (X @ rng.randn(20) + rng.randn(6000) > 0).astype(int)
    split = [(np.arange(4000), np.arange(4000, 6000))]
    closely = hypergradient(X, y, split, 0.0, structure="shared", solver=Aid(tol=1e-11))
    result = hypergradient(X, y, split, 0.0, structure="shared", tol=1e-3)
    assert result.converged
    np.testing.assert_allclose(result.theta_gradient, closely.theta_gradient, rtol=3e-3)


def separable(seed=0):
    rng = np.random.RandomState(seed)
    y = np.arange(100) % 2
    X = rng.randn(100, 20) + np.outer(2 * y - 1, 1.5 * rng.randn(20))
    return (X - X.mean(0)) / X.std(0), y, list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))


def newton(X, y, penalty):
    """The fit of two classes with an intercept, to rounding: by the decrement, not by the gradient."""
    signs, design = 2.0 * y - 1, np.column_stack([X, np.ones(len(X))])
    design, w, penalties = design * signs[:, None], np.zeros(X.shape[1] + 1), np.append(np.full(X.shape[1], penalty), 0.0)

    def objective(w):
        return np.logaddexp(0, -design @ w).sum() + 0.5 * penalties @ w**2

    for _ in range(200):
        p = 1 / (1 + np.exp(design @ w))
        gradient = penalties * w - design.T @ p
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalties)
        scale = 1 / np.sqrt(np.diag(hessian))
        step, t = scale * np.linalg.solve(hessian * np.outer(scale, scale), -scale * gradient), 1.0
        while objective(w + t * step) > objective(w) * (1 + 1e-15) and t > 1e-9:
            t *= 0.5
        w = w + t * step
    return w


@pytest.mark.parametrize("C", [1e3, 1e6, 1e9])
def test_aid_solves_what_hardly_has_a_penalty(C):
    X, y, splits = separable()
    problem = make_problem(X, y, splits, n_classes=2)
    aid = Aid()
    state, estimate = solve(problem, aid, aid.init(problem, np.full(20, -np.log(C))), rtol=1e-4, max_epochs=5)
    losses = []
    for train, val in splits:
        w = newton(X[train], y[train], 1 / C)
        losses.append(np.logaddexp(0, -(2 * y[val] - 1) * (X[val] @ w[:-1] + w[-1])).mean())
    assert estimate.converged
    np.testing.assert_allclose(estimate.losses, losses, rtol=1e-4)


@pytest.mark.parametrize("solver", [Aid(max_newton=3), Aid(max_direct=0, cg_max_iter=3)], ids=["newton", "cg"])
def test_aid_says_so_where_it_has_not_solved_its_systems(solver):
    X, y, splits = separable()
    problem = make_problem(X, y, splits, n_classes=2)
    _, estimate = solve(problem, solver, solver.init(problem, np.full(20, -np.log(1e6))), rtol=1e-4, max_epochs=1)
    assert not estimate.converged
    assert estimate.error > 1e-4 * np.abs(estimate.log_gradient).max()


def test_six_short_texts():
    texts = ["good film", "bad film", "nice day", "awful day", "great", "terrible"]
    search = HypergradientSearchCV(make_pipeline(HashingVectorizer(), LogisticRegression()), structure="shared", cv=2)
    search.fit(texts, [1, 0, 1, 0, 1, 0])
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize("n", [3, 4, 7])
def test_the_dual_solver_takes_a_handful_of_rows(n):
    rng = np.random.RandomState(0)
    split = [(np.arange(2), np.arange(2, n))]
    result = hypergradient(rng.randn(n, 30), np.arange(n) % 2, split, -5.0, solver="dual", tol=1e-6)
    exactly = hypergradient(rng.__class__(0).randn(n, 30), np.arange(n) % 2, split, -5.0, solver="aid")
    np.testing.assert_allclose(result.value, exactly.value, rtol=1e-4)


def lognormal(rng, size):
    return 1000 * rng.lognormal(0, 2, size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_scales_give_a_result(seed, dtype):
    rng, entries = np.random.RandomState(seed), np.random.default_rng(seed)
    X = sp.random_array((300, 200), density=0.05, random_state=entries, data_sampler=lambda size: lognormal(rng, size)).tocsr()
    split = [(np.arange(200), np.arange(200, 300))]
    result = hypergradient(X, rng.randint(5, size=300), split, -np.log(1e6), dtype=dtype, max_epochs=400)
    assert np.isfinite(result.value)
    assert np.isfinite(result.gradient).all()
    assert not result.converged


@pytest.mark.parametrize("solver", ["dual", "aid", "sgd"])
def test_what_no_feature_tells_is_the_share_of_each_class(solver):
    """The gradient stands still from the start where all features are zero; the intercepts do not."""
    rng = np.random.RandomState(0)
    y = (rng.rand(300) < 0.8).astype(int)
    splits = list(StratifiedKFold(3).split(y, y))
    search = HypergradientSearchCV(LogisticRegression(), structure="shared", solver=solver, cv=splits, max_iter=2)
    search.fit(np.zeros((300, 4)), y)
    shares = [y[train].mean() for train, _ in splits]
    losses = [
        -np.where(y[val], np.log(share), np.log(1 - share)).mean() for share, (_, val) in zip(shares, splits, strict=True)
    ]
    np.testing.assert_allclose(-search.best_score_, np.mean(losses), rtol=1e-3)
