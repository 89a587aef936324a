"""Solvers × problems: one contract, one solution; and what the dual solver must keep true at every moment."""

import _thread
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import fit_from_splits, fit_reference, relative_error, solve_directly
from scipy.special import expit, log_softmax, softmax, xlogy
from sklearn.datasets import make_classification
from sklearn.model_selection import ShuffleSplit, StratifiedKFold

from sksid._kernels import _dual as kernels
from sksid.logistic import solve
from sksid.objective import LogisticLoss
from sksid.problem import TRAIN, make_problem
from sksid.solvers import Aid, Dual, NotFiniteError, Relay, choose
from sksid.solvers._dual import SUM

N_FEATURES = 15
LOG_PENALTIES = np.linspace(0.5, 3.0, N_FEATURES)


def blobs(n_classes):
    X, y = make_classification(
        250, N_FEATURES, n_informative=8, n_classes=n_classes, flip_y=0.1, random_state=5, n_clusters_per_class=1
    )
    return np.where(np.abs(X) > 0.8, X, 0.0), y


def lay_out(n_classes=2, storage="dense", dtype=np.float64, fit_intercept=True):
    """Overlapping splits with unused rows, sample weights, and class weights that differ between splits."""
    X, y = blobs(n_classes)
    random = np.random.RandomState(0)
    return make_problem(
        sp.csr_array(X) if storage == "csr" else X,
        y,
        list(ShuffleSplit(3, test_size=0.25, train_size=0.6, random_state=0).split(X)),
        n_classes=n_classes,
        sample_weight=random.uniform(0.2, 2.0, len(y)),
        train_scale=random.uniform(0.5, 2.0, (n_classes, 3)),
        fit_intercept=fit_intercept,
        dtype=dtype,
    )


def converge(problem, solver, log_penalties=LOG_PENALTIES, rtol=1e-6, max_epochs=1000):
    state, estimate = solve(problem, solver, solver.init(problem, log_penalties), rtol=rtol, max_epochs=max_epochs)
    assert estimate.converged
    return state, estimate


def dense_rows(problem):
    return problem.rows.matrix.toarray() if sp.issparse(problem.rows.matrix) else problem.rows.matrix


def table_from_duals(problem, state):
    """W and V (n_splits, n_outputs, n_features), summed up from β, γ and u as the method defines them."""
    X = dense_rows(problem).astype(np.float64)
    duals = state.duals.astype(np.float64).reshape(problem.n_rows, 2, problem.n_splits, problem.n_outputs)
    train = np.column_stack([problem.roles.train_weights(k) for k in range(problem.n_splits)])
    val = np.column_stack([problem.roles.val_weights(k) for k in range(problem.n_splits)])
    W = -np.einsum("ik,ij,ikc->kcj", train, X, duals[:, 0])
    V = np.einsum("ik,ij,ikc->kcj", val, X, duals[:, 0]) - np.einsum("ik,ij,ikc->kcj", train, X, duals[:, 1])
    return W / np.exp(state.log_penalties), V / np.exp(state.log_penalties)


# ---- solver against solver ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "no_intercept"])
@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("other", [Aid(first_tol=None), Aid(max_direct=0, first_tol=None)], ids=["direct", "cg"])
def test_dual_and_aid_find_the_same(other, n_classes, storage, fit_intercept):
    problem = lay_out(n_classes, storage, fit_intercept=fit_intercept)
    dual = Dual()
    state, estimate = converge(problem, dual)
    other_state, expected = converge(problem, other, rtol=1e-10)
    np.testing.assert_allclose(estimate.losses, expected.losses, rtol=1e-6)
    assert relative_error(estimate.log_gradient, expected.log_gradient) <= 2e-5
    coef, intercept = dual.coefficients(problem, state)
    other_coef, other_intercept = other.coefficients(problem, other_state)
    np.testing.assert_allclose(coef, other_coef, atol=1e-5)
    np.testing.assert_allclose(centred(intercept), centred(other_intercept), atol=1e-5)
    adjoint, adjoint_intercept = dual.adjoint(problem, state)
    other_adjoint, other_adjoint_intercept = other.adjoint(problem, other_state)
    assert relative_error(adjoint, other_adjoint) <= 1e-4
    np.testing.assert_allclose(centred(adjoint_intercept), centred(other_adjoint_intercept), atol=1e-5)


def centred(intercept):
    """Without the constant that may be added to the intercepts of all classes."""
    return intercept - intercept.mean(axis=1, keepdims=True) if intercept.shape[1] > 1 else intercept


@pytest.mark.parametrize("change", [-1.5, 1.0], ids=["rising", "falling"])
@pytest.mark.parametrize(
    "solver", [Dual(), Aid(first_tol=None), Aid(max_direct=0, first_tol=None)], ids=["dual", "direct", "cg"]
)
def test_a_warm_start_ends_where_a_cold_one_does(solver, change):
    problem = lay_out(4)
    state, _ = converge(problem, solver, LOG_PENALTIES + change, rtol=1e-2)
    state = solver.rescale(problem, state, LOG_PENALTIES)
    state, warm = solve(problem, solver, state, rtol=1e-6, max_epochs=1000)
    _, cold = converge(problem, solver)
    np.testing.assert_allclose(warm.losses, cold.losses, rtol=1e-6)
    assert relative_error(warm.log_gradient, cold.log_gradient) <= 5e-5


@pytest.mark.parametrize(
    "solver", [Dual(), Aid(first_tol=None), Aid(max_direct=0, first_tol=None)], ids=["dual", "direct", "cg"]
)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_refit_is_scikit_learns_solution(solver, n_classes):
    X, y = blobs(n_classes)
    everything = np.arange(len(y))
    whole = make_problem(X, y, [(everything, everything[:0])], n_classes=n_classes, dtype=np.float64)
    folded = make_problem(X, y, list(StratifiedKFold(3).split(X, y)), n_classes=n_classes, dtype=np.float64)
    state, _ = converge(folded, solver, rtol=1e-2)
    coef, intercept, result = fit_from_splits(solver, whole, folded, state, LOG_PENALTIES + 0.5, tol=1e-7)
    model, factors = fit_reference(X, y, LOG_PENALTIES + 0.5)
    assert result.converged
    np.testing.assert_allclose(coef, model.coef_ * factors, atol=1e-5)
    np.testing.assert_allclose(centred(intercept[None]), centred(model.intercept_[None]), atol=1e-5)


@pytest.mark.parametrize("solver", [Dual(), Aid(first_tol=None)], ids=["dual", "direct"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_losses_on_other_rows_are_their_log_loss(solver, n_classes):
    problem = lay_out(n_classes)
    state = solver.advance(problem, solver.init(problem, LOG_PENALTIES), 3)
    X, y = blobs(n_classes)
    X, weights, nothing = X[::-2], np.linspace(0.5, 1.5, len(y))[::-2], np.arange(0)
    y = y[::-2]
    rows = make_problem(X, y, [(nothing, np.arange(len(y)))] * 3, n_classes=n_classes, sample_weight=weights, dtype=np.float64)
    before = [array.copy() for array in solver.coefficients(problem, state)]
    losses = solver.losses(problem, state, rows)
    for k, (coef, intercept) in enumerate(zip(*before, strict=True)):
        Z = X @ coef.T + intercept
        Z = np.hstack([np.zeros_like(Z), Z]) if n_classes == 2 else Z
        own = -log_softmax(Z, axis=1)[np.arange(len(y)), y]
        assert losses[k] == pytest.approx(np.average(own, weights=weights), rel=1e-12)
    for array, old in zip(solver.coefficients(problem, state), before, strict=True):
        np.testing.assert_array_equal(array, old)


# ---- the dual solver's invariants ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-5), (np.float64, 1e-13)], ids=["float32", "float64"])
def test_coefficients_are_what_the_duals_make_of_the_rows(dtype, atol, n_classes, storage):
    problem, solver = lay_out(n_classes, storage, dtype), Dual()
    state = solver.advance(problem, solver.init(problem, LOG_PENALTIES), 7.3)
    state = solver.rescale(problem, state, LOG_PENALTIES[::-1] - 1.0)
    state = solver.advance(problem, state, 2.1)
    W, V = table_from_duals(problem, state)
    coef, _ = solver.coefficients(problem, state)
    adjoint, _ = solver.adjoint(problem, state)
    np.testing.assert_allclose(coef, W, atol=atol * np.abs(W).max())
    np.testing.assert_allclose(adjoint, V, atol=atol * np.abs(V).max())


@pytest.mark.parametrize("n_classes", [2, 4])
def test_imbalance_is_the_sum_of_the_duals(n_classes):
    problem, solver = lay_out(n_classes), Dual()
    state = solver.advance(problem, solver.init(problem, LOG_PENALTIES), 2.5)
    duals = state.duals.reshape(problem.n_rows, 2, problem.n_splits, problem.n_outputs)
    for k in range(problem.n_splits):
        lanes = slice(k * problem.n_outputs, (k + 1) * problem.n_outputs)
        beta = problem.roles.train_weights(k) @ duals[:, 0, k]
        u = problem.roles.train_weights(k) @ duals[:, 1, k] - problem.roles.val_weights(k) @ duals[:, 0, k]
        np.testing.assert_allclose(state.imbalance[0, lanes], beta, atol=1e-11)
        np.testing.assert_allclose(state.imbalance[1, lanes], u, atol=1e-11)


def test_an_intercept_is_balanced_at_the_optimum():
    problem, solver = lay_out(4), Dual()
    state, _ = converge(problem, solver, rtol=1e-7)
    assert np.abs(state.imbalance[0]).max() <= 1e-5 * problem.train_totals.min()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_gap_is_primal_minus_dual_and_falls_to_zero(n_classes):
    problem, solver = lay_out(n_classes, fit_intercept=False), Dual(revisits=0)
    state = solver.init(problem, LOG_PENALTIES)
    gaps = []
    for n_epochs in (1, 2, 4, 1000):
        state = solver.advance(problem, state, n_epochs)
        gaps.append(solver.evaluate(problem, state)[:, SUM["gap"]].copy())
        np.testing.assert_allclose(gaps[-1], primal_minus_dual(problem, solver, state), rtol=1e-8, atol=1e-9)
    gaps = np.array(gaps)
    assert (gaps >= -1e-12).all()
    assert (np.diff(gaps, axis=0) < 0).all()
    assert (gaps[-1] <= 1e-10 * problem.train_totals).all()


def primal_minus_dual(problem, solver, state):
    X, penalties = dense_rows(problem), np.exp(state.log_penalties)
    coef, _ = solver.coefficients(problem, state)
    beta = state.duals[:, 0].reshape(problem.n_rows, problem.n_splits, problem.n_outputs)
    gaps = []
    for k in range(problem.n_splits):
        s, Z, b = problem.roles.train_weights(k), X @ coef[k].T, beta[:, k]
        if problem.n_outputs == 1:
            Z, b = np.hstack([np.zeros_like(Z), Z]), np.hstack([-b, b])
        losses = -log_softmax(Z, axis=1)[np.arange(problem.n_rows), problem.roles.labels[:, 0]]
        P = np.clip(b + np.eye(problem.n_classes)[problem.roles.labels[:, 0]], 0.0, 1.0)
        ridge = 0.5 * (penalties * coef[k] ** 2).sum()
        gaps.append(s @ losses + ridge - (s @ -xlogy(P, P).sum(axis=1) - ridge))
    return gaps


@pytest.mark.parametrize("n_classes", [2, 4])
def test_at_the_optimum_the_duals_are_the_residuals(n_classes):
    problem, solver = lay_out(n_classes), Dual()
    state, _ = converge(problem, solver)
    coef, intercept = solver.coefficients(problem, state)
    X, targets = dense_rows(problem), np.eye(n_classes)[problem.roles.labels[:, 0]]
    beta = state.duals[:, 0].reshape(problem.n_rows, 3, -1)
    for k in range(3):
        Z, train = X @ coef[k].T + intercept[k], problem.roles.role[:, k] == TRAIN
        residuals = expit(Z) - targets[:, 1:] if n_classes == 2 else softmax(Z, axis=1) - targets
        np.testing.assert_allclose(beta[train, k], residuals[train], atol=2e-5)
    assert solver.progress(problem, state).residual <= 1e-5


def test_two_half_epochs_are_one():
    problem, solver = lay_out(fit_intercept=False), Dual(revisits=0, block_size=25)
    whole = solver.advance(problem, solver.init(problem, LOG_PENALTIES), 2.0)
    halves = solver.init(problem, LOG_PENALTIES)
    for _ in range(4):
        halves = solver.advance(problem, halves, 0.5)
    np.testing.assert_array_equal(whole.table, halves.table)
    assert whole.n_epochs == pytest.approx(halves.n_epochs)


def test_an_epoch_visits_every_row():
    problem, solver = lay_out(4), Dual(revisits=0)
    state = solver.advance(problem, solver.init(problem, LOG_PENALTIES), 1.0)
    has_part = (problem.roles.role != 0).reshape(problem.n_rows, 3)
    np.testing.assert_array_equal((state.duals[:, 0].reshape(problem.n_rows, 3, 4) != 0).any(axis=2), has_part)


# ---- precision, storage, seeds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 4])
def test_float32_agrees_with_float64(n_classes):
    single, double = lay_out(n_classes, dtype=np.float32), lay_out(n_classes)
    solver = Dual()
    _, low = converge(single, solver, rtol=1e-4)
    state, high = converge(double, solver)
    assert state.table.dtype == np.float64
    np.testing.assert_allclose(low.losses, high.losses, rtol=2e-5)
    assert relative_error(low.log_gradient, high.log_gradient) <= 5e-4


@pytest.mark.parametrize("n_classes", [2, 4])
def test_dense_and_csr_rows_take_the_same_steps(n_classes):
    solver = Dual()
    tables = []
    for storage in ("dense", "csr"):
        problem = lay_out(n_classes, storage)
        state = solver.advance(problem, solver.init(problem, LOG_PENALTIES), 5.0)
        tables.append(state.table)
    np.testing.assert_allclose(*tables, rtol=1e-9, atol=1e-11)


def test_the_state_survives_a_change_of_precision():
    single, solver = lay_out(4, dtype=np.float32), Dual()
    state = solver.advance(single, solver.init(single, LOG_PENALTIES), 5)
    coef, intercept = solver.coefficients(single, state)
    double = solver.rescale(lay_out(4), state, LOG_PENALTIES)
    W, V = table_from_duals(lay_out(4), double)
    assert double.table.dtype == np.float64
    np.testing.assert_allclose(solver.coefficients(lay_out(4), double)[0], coef, atol=1e-5 * np.abs(coef).max())
    np.testing.assert_allclose(solver.coefficients(lay_out(4), double)[0], W, atol=1e-14)
    np.testing.assert_allclose(solver.adjoint(lay_out(4), double)[0], V, atol=1e-14)
    np.testing.assert_array_equal(solver.coefficients(lay_out(4), double)[1], intercept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_seed_decides_every_bit(dtype):
    problem, solver = lay_out(4, dtype=dtype), Dual()
    tables = [solver.advance(problem, solver.init(problem, LOG_PENALTIES, seed=seed), 4.5).table for seed in (0, 0, 1)]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])


# ---- far away -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("data", ["cancer", "digits"])
def test_extreme_penalties_stay_finite(data, C, dtype, request):
    X, y = request.getfixturevalue(data)
    X, y = X[:500], y[:500]
    problem = make_problem(X, y, list(StratifiedKFold(3).split(X, y)), n_classes=y.max() + 1, dtype=dtype)
    solver, log_penalties = Dual(), np.full(X.shape[1], -np.log(C))
    state = solver.init(problem, log_penalties)
    prior = solver.evaluate(problem, state)[:, SUM["train_loss"]]
    state = solver.advance(problem, state, 10)
    sums = solver.evaluate(problem, state)
    assert np.isfinite(state.table).all()
    assert np.isfinite(solver.log_gradient(problem, state)).all()
    assert (sums[:, SUM["gap"]] >= -np.finfo(dtype).eps * sums[:, SUM["train_loss"]]).all()  # a converged one is rounding
    assert (sums[:, SUM["train_loss"]] < prior).all()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_refit_predicts_rows_that_it_has_not_seen_as_the_exact_one_does(n_classes):
    """Few rows of large features: there the rows fitted to are right long before others are."""
    X, y = make_classification(180, 400, n_informative=30, n_classes=n_classes, scale=5.0, random_state=0)
    train, fresh = np.arange(120), X[120:]
    problem = make_problem(X, y, [(train, train[:0])], n_classes=n_classes, dtype=np.float64)
    splits = make_problem(X[:120], y[:120], list(StratifiedKFold(3).split(X[:120], y[:120])), n_classes=n_classes)
    log_penalties, dual = np.zeros(400), Dual()
    state = dual.advance(splits, dual.init(splits, log_penalties), 5)
    coef, intercept, result = fit_from_splits(dual, problem, splits, state, log_penalties, tol=2e-5, max_epochs=400)
    exact_coef, exact_intercept = solve_directly(problem, log_penalties)
    assert result.converged
    found, exact = (LogisticLoss().predictions(fresh @ W.T + b) for W, b in ((coef, intercept), (exact_coef, exact_intercept)))
    np.testing.assert_allclose(found, exact, atol=1e-4)


def test_overflow_is_an_error_that_names_the_remedy(cancer):
    X, y = cancer
    problem = make_problem(X * 1e140, y, list(StratifiedKFold(3).split(X, y)), n_classes=2, dtype=np.float64)
    solver = Dual()
    with pytest.raises(NotFiniteError, match="Scale the features"):
        solver.advance(problem, solver.init(problem, np.full(30, -10.0)), 5)


def test_auto_is_direct_for_few_unknowns_only(cancer, digits):
    X, y = cancer
    assert isinstance(choose(make_problem(X, y, list(StratifiedKFold(3).split(X, y)), n_classes=2)), Aid)
    wide = sp.random_array((569, 5000), density=0.01, format="csr", random_state=np.random.default_rng(0))
    assert isinstance(choose(make_problem(wide, y, list(StratifiedKFold(3).split(X, y)), n_classes=2)), Relay)


# ---- the interpreter is let go ------------------------------------------------------------------------------------------


def test_a_kernel_lets_other_threads_run(no_switching):
    problem, solver = lay_out(4), Dual()
    state = solver.init(problem, LOG_PENALTIES)
    blocks, done, turns = np.zeros(20000, dtype=np.int64), threading.Event(), [0]

    def take_turns():
        while not done.is_set():
            turns[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=take_turns)
    thread.start()
    before = turns[0]
    kernels.advance(problem, state, blocks, 32)
    after = turns[0]
    done.set()
    thread.join()
    assert after > before


def test_an_interrupt_is_heard_during_a_long_advance(digits, listening):
    X, y = digits
    problem = make_problem(X, y, list(StratifiedKFold(5).split(X, y)), n_classes=10)
    solver = Dual()
    state = solver.init(problem, np.zeros(64))
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        solver.advance(problem, state, 1000)
    timer.join()
    assert state.n_epochs < 1000


# ---- real text ----------------------------------------------------------------------------------------------------------


def test_dual_and_aid_agree_on_real_text(load):
    X, y, _, _ = load("trec6")
    X, y = X[:2000], y[:2000]
    problem = make_problem(X, y, list(StratifiedKFold(3).split(X, y)), n_classes=6, dtype=np.float32)
    log_penalties = np.full(X.shape[1], -1.0)
    _, low = converge(problem, Dual(), log_penalties, rtol=1e-3)
    _, high = converge(problem.astype(np.float64), Aid(first_tol=None), log_penalties)
    np.testing.assert_allclose(low.losses, high.losses, rtol=1e-4)
    assert low.log_gradient.sum() == pytest.approx(high.log_gradient.sum(), rel=2e-3)
    assert relative_error(low.log_gradient, high.log_gradient) <= 5e-3
