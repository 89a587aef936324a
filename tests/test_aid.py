"""The deterministic solver of all splits at once: its preconditioners, its arithmetic, its threads, where it stops."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import relative_error
from sklearn.datasets import make_classification
from sklearn.model_selection import StratifiedKFold

from sksid import _products, hypergradient
from sksid._products import Products
from sksid.problem import TRAIN, make_problem
from sksid.rows import lay_out
from sksid.solvers import Aid, Dual, Relay, Rotated, _rotated, choose
from sksid.solvers import _directions as directions
from sksid.solvers import _preconditioner as preconditioners
from sksid.solvers._conjugate import conjugate_gradient


def classes_of(n, p, n_classes, seed=0):
    X, y = make_classification(n, p, n_informative=p // 2, n_classes=n_classes, n_clusters_per_class=1, random_state=seed)
    return X, y, list(StratifiedKFold(3).split(X, y))


def at_a_point(n_classes, sparse=False, fit_intercept=True):
    """The lower levels' objective at log λ = 0.3, some W, and the Hessian of each split."""
    X, y, splits = classes_of(80, 6, n_classes)
    X = sp.csr_array(np.where(np.abs(X) > 0.5, X, 0.0)) if sparse else X
    problem = make_problem(X, y, splits, n_classes=n_classes, dtype=np.float64, fit_intercept=fit_intercept)
    penalties = np.append(np.full(6, np.exp(0.3)), 0.0)[None, None]
    lower = replace(problem.objective(TRAIN), penalties=penalties)
    W = 0.5 * np.random.RandomState(1).randn(problem.n_splits, problem.n_outputs, 7)
    W[..., -1] *= fit_intercept
    point = lower.at(W)
    return lower, W, point, lower.hessian(point, W)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_hessian_products_are_those_of_the_hessian(n_classes, sparse, fit_intercept):
    lower, W, point, H = at_a_point(n_classes, sparse, fit_intercept)
    U = np.random.RandomState(2).randn(*W.shape)
    U[..., -1] *= fit_intercept
    product = (H @ U.reshape(len(W), -1, 1)).reshape(W.shape)
    np.testing.assert_allclose(lower.hessian_product(point, W, U), product, rtol=1e-10, atol=1e-10)
    diagonal = np.diagonal(H, axis1=1, axis2=2).reshape(W.shape)
    np.testing.assert_allclose(lower.hessian_diagonal(point, W), diagonal, rtol=1e-10)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_hessian_is_the_same_however_it_is_summed(n_classes, sparse, fit_intercept, monkeypatch):
    found = []
    for free in (("DENSE", "ENTRY"), ("PAIR",), ("SQUARE",)):
        for cost in ("DENSE", "ENTRY", "PAIR", "SQUARE"):
            monkeypatch.setattr(_products, cost, 0.0 if cost in free else 1.0)
        found.append(at_a_point(n_classes, sparse, fit_intercept)[-1])
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_one_hessian_stands_for_equal_splits(n_classes):
    lower, W, point, _ = at_a_point(n_classes)
    same = replace(lower, weights=np.ones_like(lower.weights))
    point = same.at(np.repeat(W[:1], len(W), axis=0))
    np.testing.assert_allclose(same.rows_hessian(point, mean=True)[0], same.rows_hessian(point)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_all_directions_of_all_rows_are_the_hessian(n_classes, monkeypatch):
    monkeypatch.setattr(directions, "STRONG", -1.0)
    monkeypatch.setattr(directions, "SINGLE", 0.0)  # in float64
    lower, W, point, H = at_a_point(n_classes, fit_intercept=False)
    found = directions.strongest(lower, point, W)
    U = np.random.RandomState(2).randn(*W.shape)
    U[..., -1] = 0.0
    product = (H @ U.reshape(len(W), -1, 1)).reshape(W.shape)
    np.testing.assert_allclose(found.divide(lower)(product), U, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", range(5), ids=["diagonal", "mean", "rows", "whole", "splits"])
def test_every_preconditioner_is_positive_definite_and_serves(kind):
    lower, W, point, H = at_a_point(4)
    if kind == preconditioners.ROWS:
        directions_found = directions.strongest(lower, point, W)
        divide = directions_found.divide(lower)
    else:
        divide = preconditioners.build(kind, lower, point, W).divide
    right = np.random.RandomState(2).randn(*W.shape)
    right[..., -1] -= right[..., -1].mean(axis=1, keepdims=True)  # a constant added to all intercepts changes nothing
    solved = conjugate_gradient(
        lambda U: lower.hessian_product(point, W, U), divide, right, np.full(3, 1e-9), np.ones(3), max_iter=300
    )
    again = conjugate_gradient(
        lambda U: lower.hessian_product(point, W, U),
        divide,
        right - lower.hessian_product(point, W, solved.x),
        np.full(3, 1e-9),
        np.ones(3),
        max_iter=300,
    )
    product = lower.hessian_product(point, W, solved.x + again.x)
    np.testing.assert_allclose(product, right, atol=1e-6)
    assert solved.n_iter < (8 if kind == preconditioners.SPLITS else 60)


def test_the_error_that_conjugate_gradient_tells_is_there():
    lower, W, point, H = at_a_point(2)
    right = np.random.RandomState(2).randn(*W.shape)
    exact = np.linalg.solve(H, right.reshape(3, -1, 1))[..., 0]
    divide = preconditioners.build(preconditioners.DIAGONAL, lower, point, W).divide
    for tol in (1e-1, 1e-2):
        solved = conjugate_gradient(
            lambda U: lower.hessian_product(point, W, U), divide, right, np.full(3, tol), np.ones(3), max_iter=300
        )
        off = solved.x.reshape(3, -1) - exact
        true = np.sqrt(np.einsum("ki,kij,kj->k", off, H, off))
        assert (true <= 2.0 * tol).all()


def test_products_in_float32_end_at_the_same_hypergradient():
    X, y, splits = classes_of(400, 12, 6)
    assert Products(lay_out(X, splits), 18).in_single().dtype == np.float32
    found, exact = (
        hypergradient(X, y, splits, 0.5, solver=solver, tol=1e-7, max_epochs=5000) for solver in (Aid(tol=1e-10), Dual())
    )
    assert relative_error(found.gradient, exact.gradient) < 1e-5


def test_results_do_not_depend_on_the_number_of_threads():
    X, y, splits = classes_of(4000, 200, 10)
    problem = make_problem(X, y, splits, n_classes=10, dtype=np.float64)
    assert len(problem.products.sections) > 1
    states = [
        solver.advance(problem, solver.init(problem, np.full(200, 3.0))) for solver in (Aid(), Aid(n_jobs=2), Aid(n_jobs=3))
    ]
    for state in states[1:]:
        np.testing.assert_array_equal(state.coef, states[0].coef)
        np.testing.assert_array_equal(state.adjoint, states[0].adjoint)


def test_a_small_change_of_penalties_moves_the_models():
    """However inexact an epoch may be, W and V do not lag behind λ."""
    X, y, splits = classes_of(200, 8, 2)
    problem, aid = make_problem(X, y, splits, n_classes=2, dtype=np.float64), Aid()
    state = aid.advance(problem, aid.init(problem, np.zeros(8)))
    coef, adjoint = state.coef.copy(), state.adjoint.copy()
    state = aid.advance(problem, aid.rescale(problem, state, np.full(8, 0.01)))
    assert (state.coef != coef).all()
    assert (state.adjoint != adjoint).all()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_more_features_than_rows_and_hardly_a_penalty(n_classes):
    """Separable: curvatures and losses near the rounding of probabilities, and yet the hypergradient of the whole map."""
    random = np.random.RandomState(0)
    y = np.arange(60) % n_classes
    X = random.randn(60, 400) + random.randn(n_classes, 400)[y]
    splits = list(StratifiedKFold(3).split(X, y))
    low, here, high = (
        hypergradient(X, y, splits, level, structure="shared", solver=Aid(first_tol=None)) for level in (-15.01, -15.0, -14.99)
    )
    assert here.converged
    assert here.theta_gradient[0] == pytest.approx((high.value - low.value) / 0.02, rel=1e-3)


@pytest.mark.parametrize(
    ("data", "n_classes", "expected"),
    [
        (np.random.RandomState(0).rand(50, 5) + 1.0, 2, Aid),
        (np.random.RandomState(0).rand(50, 800) + 1.0, 2, Rotated),
        (sp.eye_array(50, 5, format="csr"), 2, Relay),
        (np.random.RandomState(0).rand(50, 70) + 1.0, 10, Aid),
        (np.random.RandomState(0).rand(400, 70) + 1.0, 40, Relay),
        (np.random.RandomState(0).rand(400, 700) + 1.0, 40, Rotated),
    ],
    ids=["small", "wide", "sparse", "classes", "many_classes", "wide_many_classes"],
)
def test_auto_takes_few_dense_unknowns_to_the_deterministic_solver(data, n_classes, expected):
    y = np.arange(data.shape[0]) % n_classes
    problem = make_problem(data, y, list(StratifiedKFold(2).split(np.empty(y.size), y)), n_classes=n_classes)
    assert type(choose(problem)) is expected


# ---- more features than rows: a rotation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", [Aid(tol=1e-10), Dual()], ids=["aid", "dual"])
def test_rotated_rows_make_the_same_problem(solver, n_classes):
    random = np.random.RandomState(0)
    X, y = random.randn(40, 120), np.arange(40) % n_classes
    X += random.randn(n_classes, 120)[y]
    splits, settings = list(StratifiedKFold(4).split(X, y)), {"tol": 1e-7, "max_epochs": 3000}
    here, there = (hypergradient(X, y, splits, 1.0, solver=it, **settings) for it in (Rotated(solver), Aid(first_tol=None)))
    np.testing.assert_allclose(here.losses, there.losses, rtol=1e-6)
    np.testing.assert_allclose(here.coef, there.coef, atol=1e-5)
    assert relative_error(here.gradient, there.gradient) < 1e-4


UNEQUAL = {
    "by feature": np.linspace(-1.0, 3.0, 120),
    "by split": np.random.RandomState(1).uniform(-1.0, 3.0, (4, 120)),
    "without": np.where(np.arange(120) < 1, -np.inf, np.linspace(-1.0, 3.0, 120)),
    "without, by split": np.where(np.arange(120) < 1, -np.inf, np.random.RandomState(1).uniform(-1.0, 3.0, (4, 120))),
}


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("logs", UNEQUAL.values(), ids=UNEQUAL)
def test_rotated_rows_make_the_same_problem_where_penalties_differ(logs, n_classes):
    random = np.random.RandomState(0)
    X, y = random.randn(40, 120), np.arange(40) % n_classes
    X[:, 1:] += random.randn(n_classes, 119)[y]
    settings = {"tol": 1e-9, "max_epochs": 300, "sample_weight": random.randint(1, 4, 40)}
    splits = list(StratifiedKFold(4).split(X, y))
    here, there = (
        hypergradient(X, y, splits, logs, solver=solver, **settings)
        for solver in (Rotated(Aid(tol=1e-10)), Aid(first_tol=None))
    )
    np.testing.assert_allclose(here.losses, there.losses, rtol=1e-7)
    for one, other in ((here.coef, there.coef), (here.adjoint, there.adjoint)):
        if n_classes > 2:  # a constant added to all classes of an unpenalized feature changes nothing
            one, other = (side - side.mean(axis=1, keepdims=True) for side in (one, other))
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert relative_error(here.gradient, there.gradient) < 1e-6


@pytest.mark.parametrize("most_rows", [1000, 10], ids=["few rows", "many rows"])
@pytest.mark.parametrize("logs", list(UNEQUAL.values())[:2], ids=list(UNEQUAL)[:2])
def test_a_rotated_solver_goes_on_where_penalties_begin_to_differ(logs, most_rows, monkeypatch):
    monkeypatch.setattr(_rotated, "MOST_ROWS", most_rows)
    random = np.random.RandomState(0)
    X, y = random.randn(40, 120), np.arange(40) % 2
    problem = make_problem(X, y, list(StratifiedKFold(4).split(X, y)), n_classes=2, dtype=np.float64)
    rotated, exact = Rotated(Aid(first_tol=None)), Aid(first_tol=None)
    state = rotated.advance(problem, rotated.init(problem, np.zeros(120)))
    outputs = rotated.coefficients(problem, state)[0] @ X.T
    state = rotated.rescale(problem, state, logs)
    np.testing.assert_allclose(rotated.coefficients(problem, state)[0] @ X.T, outputs, atol=1e-9)
    for again in (logs, logs + 1.0, np.flip(logs)):
        state = rotated.advance(problem, rotated.rescale(problem, state, again))
        reference = exact.advance(problem, exact.init(problem, again))
        assert relative_error(rotated.log_gradient(problem, state), exact.log_gradient(problem, reference)) < 1e-6
        np.testing.assert_allclose(rotated.losses(problem, state), exact.losses(problem, reference), rtol=1e-7)
        np.testing.assert_allclose(rotated.losses(problem, state, problem), exact.losses(problem, reference), rtol=1e-7)
