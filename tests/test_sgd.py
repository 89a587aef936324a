"""The stochastic solver: its lazy kernels against dense iterations, and its budgets, draws, settings and results."""

import _thread
import threading
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import central_differences, relative_error, split_losses
from scipy.special import expit, softmax
from sklearn.datasets import make_classification
from sklearn.model_selection import StratifiedKFold

from sksid import bounds, hypergradient
from sksid._features import make_structure
from sksid.problem import TRAIN, make_problem
from sksid.solvers import BATCH, Aid, Dual, NotFiniteError, Sgd, Steps, _sgd, check_supported

# steps short enough that rounding is not amplified
STEPS = {
    "decreasing": Steps(batch_size=20),
    "single": Steps(batch_size=1, beta=20.0, gamma=400.0),
    "constant": Steps("constant", batch_size=20, beta=0.5, gamma=1.0),
    "batch": BATCH,
}


def rows(n_classes, storage="csr", n_rows=200, dtype=np.float64, fit_intercept=True, spread=3.0):
    """One split with validation and unused rows, features from frequent to rare, an empty row, and spread penalties."""
    random = np.random.RandomState(0)
    share = np.geomspace(0.5, 0.01, 40) if storage == "csr" else 1.0
    X = random.randn(n_rows, 40) * (random.uniform(size=(n_rows, 40)) < share)
    X[5] = 0.0
    problem = make_problem(
        sp.csr_array(X) if storage == "csr" else X,
        random.randint(0, n_classes, n_rows),
        [(np.arange(0, 7 * n_rows // 10), np.arange(8 * n_rows // 10, n_rows))],
        n_classes=n_classes,
        sample_weight=random.uniform(0.2, 2.0, n_rows),
        fit_intercept=fit_intercept,
        dtype=dtype,
    )
    return problem, random.uniform(-spread, spread, 40)


# ---- the iterations, plainly ----------------------------------------------------------------------------------------------


class Plain:
    """Dense minibatch iterations of split 0 in float64: Algorithm 1 as it is written, every weight touched at every step."""

    def __init__(self, problem, log_penalties, solver, seed):
        self.problem, self.solver, self.random = problem.astype(np.float64), solver, np.random.RandomState(seed)
        X = self.problem.rows.matrix
        self.X = np.hstack([X.toarray() if sp.issparse(X) else X, np.ones((problem.n_rows, 1)) * problem.fit_intercept])
        self.penalties = np.append(np.exp(log_penalties), 0.0)[:, None]
        self.train, self.total = np.flatnonzero(problem.roles.role[:, 0] == TRAIN), self.problem.train_totals[0]
        self.weights = self.problem.roles.train_weights(0)[:, None] * self.train.size / self.total
        self.curvature = bounds.curvature(self.problem, 0, log_penalties)
        self.targets = np.eye(problem.n_classes)[problem.roles.labels[:, 0]][:, -problem.n_outputs :]
        self.W, self.V = np.zeros((2, self.X.shape[1], problem.n_outputs))

    def proba(self, scores):
        return expit(scores) if self.problem.n_outputs == 1 else softmax(scores, axis=1)

    def budget(self):
        """Lower level, ∇₁E, then the linear system with the step sizes that allow for its noise."""
        W, V = self.W, self.V
        steps, curvature = self.solver.lower_steps, self.curvature
        for batch, eta in self.batches(steps, self.solver.lower_epochs, curvature):
            slope = (self.proba(self.X[batch] @ W) - self.targets[batch]) * self.weights[batch]
            W = W - eta * (self.X[batch].T @ slope / batch.size + self.penalties / self.total * W)
        P = self.proba(self.X @ W)
        upper = self.X.T @ ((P - self.targets) * self.problem.roles.val_weights(0)[:, None])
        steps, n = self.solver.adjoint_steps, self.train.size
        if steps.per_epoch(n) > 1:
            largest = bounds.row_curvature(self.problem, 0, P)
            curvature = replace(curvature, sigma2=largest / curvature.L * steps.per_epoch(n) / n)
        for batch, eta in self.batches(steps, self.solver.adjoint_epochs, curvature):
            p, z = P[batch], self.X[batch] @ V
            curved = p * (1 - p) * z if p.shape[1] == 1 else p * (z - (p * z).sum(axis=1, keepdims=True))
            data = self.X[batch].T @ (curved * self.weights[batch]) / batch.size
            V = V - eta * (data + (self.penalties * V - upper) / self.total)
        self.W, self.V = W, V
        return self

    def adjoint_at(self, W):
        """The linear system's solution at any W, by forming its matrix (with an intercept: of least norm)."""
        P, size = self.proba(self.X @ W), W.size
        upper = self.X.T @ ((P - self.targets) * self.problem.roles.val_weights(0)[:, None])
        weights = self.weights[:, 0] * self.total / self.train.size
        H = np.zeros((*W.shape, *W.shape))
        for c in range(P.shape[1]):
            for d in range(P.shape[1]):
                H[:, c, :, d] = (self.X * (weights * P[:, c] * ((c == d) - P[:, d]))[:, None]).T @ self.X
        H = H.reshape(size, size) + np.diag(np.broadcast_to(self.penalties, W.shape).ravel())
        return np.linalg.lstsq(H, upper.ravel())[0].reshape(W.shape)

    def batches(self, steps, n_epochs, curvature):
        n, n_steps = self.train.size, steps.per_epoch(self.train.size)
        for epoch in range(n_epochs):
            order = self.train
            if n_steps > 1:
                iid = self.solver.sampling == "iid"
                order = order[self.random.randint(n, size=n)] if iid else self.random.permutation(order)
            parts = np.split(order, np.linspace(0, n, n_steps + 1).round().astype(int)[1:-1])
            yield from zip(parts, curvature.alpha * steps.sizes(curvature, epoch * n_steps, n_steps), strict=True)


def stacked(solver, problem, state):
    """W and V of split 0 with their intercepts below, (n_features + 1, n_outputs), as ``Plain`` has them."""
    sides = solver.coefficients(problem, state), solver.adjoint(problem, state)
    return [np.vstack([coef[0].T, intercept[0]]) for coef, intercept in sides]


def assert_same_iterates(problem, log_penalties, solver, tol, seed=5):
    state = solver.advance(problem, solver.init(problem, log_penalties, seed=seed))
    plain = Plain(problem, log_penalties, solver, seed).budget()
    W, V = stacked(solver, problem, state)
    assert np.abs(plain.V).max() > 0
    assert relative_error(W, plain.W) <= tol
    assert relative_error(V, plain.V) <= tol


@pytest.mark.parametrize("sampling", ["shuffle", "iid"])
@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "no_intercept"])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_lazy_iterations_are_the_dense_ones(n_classes, storage, steps, fit_intercept, sampling):
    problem, log_penalties = rows(n_classes, storage, fit_intercept=fit_intercept)
    solver = Sgd(STEPS[steps], STEPS[steps], lower_epochs=3, adjoint_epochs=2, sampling=sampling)
    assert_same_iterates(problem, log_penalties, solver, tol=1e-10)


@pytest.mark.parametrize("rule", ["decreasing", "constant"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_long_gaps_decay_exactly_for_penalties_of_every_size(n_classes, rule):
    """2,100 steps of one row: a rare feature waits for hundreds; the penalties make its decay from 1e-9 to 1 a step."""
    problem, log_penalties = rows(n_classes, n_rows=3000, spread=10.0)
    steps = Steps(rule, batch_size=1)
    assert_same_iterates(problem, log_penalties, Sgd(steps, steps, lower_epochs=1, adjoint_epochs=1), tol=1e-10)


@pytest.mark.parametrize("spread", [3.0, 10.0])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_float32_follows_the_dense_float64_iterations(n_classes, spread):
    problem, log_penalties = rows(n_classes, n_rows=3000, dtype=np.float32, spread=spread)
    steps = Steps(batch_size=10, beta=20.0, gamma=100.0)
    assert_same_iterates(problem, log_penalties, Sgd(steps, steps, lower_epochs=2, adjoint_epochs=2), tol=2e-5)


def test_float32_moves_the_adjoint_of_a_weakly_penalised_feature():
    """λ_j/S is 1e-10: 1 − ηαλ_j/S rounds to 1, and still V_j must take up its part of ∇₁E at every step."""
    problem, log_penalties = rows(2, n_rows=3000, dtype=np.float32, spread=0.0)
    log_penalties[::2] = -16.0
    solver = Sgd(Steps(batch_size=30), Steps(batch_size=30), lower_epochs=2, adjoint_epochs=2)
    assert_same_iterates(problem, log_penalties, solver, tol=1e-4)


@pytest.mark.parametrize("steps", STEPS)
def test_an_epoch_in_many_calls_is_the_same(steps, monkeypatch):
    problem, log_penalties = rows(4)
    solver = Sgd(STEPS[steps], STEPS[steps], lower_epochs=2, adjoint_epochs=2)
    whole = solver.advance(problem, solver.init(problem, log_penalties))
    monkeypatch.setattr(_sgd, "WORK_PER_CALL", 1e4)
    calls = count_calls(monkeypatch)
    parts = solver.advance(problem, solver.init(problem, log_penalties))
    assert len(calls) == 4 if steps == "batch" else len(calls) >= 12
    for one, other in zip(stacked(solver, problem, whole), stacked(solver, problem, parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * np.abs(one).max())


def count_calls(monkeypatch):
    """The number of rows in each kernel call, and whether it is of the linear system."""
    calls, descend = [], _sgd.kernels.descend

    def counted(problem, split, table, weights, order, starts, eta, **level):
        calls.append((starts[-1] - starts[0], bool(level)))
        return descend(problem, split, table, weights, order, starts, eta, **level)

    monkeypatch.setattr(_sgd.kernels, "descend", counted)
    return calls


# ---- stability ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["decreasing", "constant"])
@pytest.mark.parametrize("batch_size", [None, 1, 30])
@pytest.mark.parametrize("log_penalties", [-10.0, 10.0, "spread"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_penalties_of_every_size_stay_stable(n_classes, log_penalties, batch_size, rule):
    """The training rows fit better than at W = 0, and v is no larger than the solution of the linear system at w."""
    random, everything = np.random.RandomState(1), np.arange(600)
    X = sp.random_array(
        (600, 120), density=0.1, format="csr", random_state=np.random.default_rng(2), data_sampler=random.standard_exponential
    )
    labels = np.argmax(X @ random.randn(120, n_classes) + random.gumbel(size=(600, n_classes)), axis=1)
    splits = [(everything[:400], everything[400:])]
    problem = make_problem(X, labels, splits, n_classes=n_classes, dtype=np.float32)
    training = make_problem(X, labels, [(everything[:0], everything[:400])], n_classes=n_classes, dtype=np.float32)
    penalties = random.uniform(-10, 10, 120) if log_penalties == "spread" else np.full(120, log_penalties)
    solver = Sgd(Steps(rule, batch_size), Steps(rule, batch_size))
    state = solver.init(problem, penalties)
    for _ in range(3):
        state = solver.advance(problem, state)
        assert solver.losses(problem, state, training)[0] <= np.log(n_classes)
        W, V = stacked(solver, problem, state)
        assert np.abs(V).max() <= 2 * np.abs(Plain(problem, penalties, solver, 0).adjoint_at(W)).max()


@pytest.mark.parametrize("rule", ["decreasing", "constant"])
def test_the_linear_system_withstands_single_rows_of_much_curvature(rule, digits):
    """With steps as large as the mean curvature allows, v would grow by twelve orders of magnitude."""
    X, y = digits
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    problem = make_problem(X, y, list(StratifiedKFold(3).split(X, y))[:1], n_classes=10, dtype=np.float64)
    solver, log_penalties = Sgd(Steps(rule, batch_size=1), Steps(rule, batch_size=1)), np.full(64, 2.0)
    W, V = stacked(solver, problem, solver.advance(problem, solver.init(problem, log_penalties)))
    assert np.abs(V).max() <= 2 * np.abs(Plain(problem, log_penalties, solver, 0).adjoint_at(W)).max()


# ---- run long -------------------------------------------------------------------------------------------------------------

N_FEATURES = 8
STRUCTURES = {
    "shared": "shared",
    "groups": np.repeat(["a", "b"], 4),
    "per_feature": "per_feature",
    "moments": "moments",
    "matrix": np.column_stack([np.ones(N_FEATURES), np.linspace(-1, 1, N_FEATURES)]),
}
LONG = {
    "batch": Sgd(BATCH, BATCH, lower_epochs=400, adjoint_epochs=400),
    "decreasing": Sgd(Steps(batch_size=25), Steps(batch_size=25), lower_epochs=8000, adjoint_epochs=8000),
}
LOG_PENALTIES = np.linspace(2.0, 3.0, N_FEATURES)


def blobs(n_classes, n_splits=1):
    X, y = make_classification(150, N_FEATURES, n_informative=5, n_classes=n_classes, flip_y=0.1, random_state=3)
    return X, y, list(StratifiedKFold(3).split(X, y))[:n_splits]


@pytest.fixture(scope="module", params=LONG)
def long_runs(request):
    """The hypergradients of a long run, for two classes and for four."""
    return {
        n_classes: hypergradient(*blobs(n_classes), LOG_PENALTIES, solver=LONG[request.param], max_epochs=1)
        for n_classes in (2, 4)
    }


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_run_long_it_is_the_derivative_of_the_cross_validated_loss(long_runs, n_classes, structure):
    X, y, splits = blobs(n_classes)
    made = make_structure(STRUCTURES[structure], X)

    def value(theta):
        return split_losses(X, y, splits, LOG_PENALTIES + made.change(theta)).mean()

    expected = central_differences(value, np.zeros(made.n_params))
    assert relative_error(made.pull_back(long_runs[n_classes].gradient), expected) <= 1e-3


@pytest.mark.parametrize(
    "other",
    [Dual(), Aid(), Aid(max_direct=0), Aid(first_tol=0.1), Aid(first_tol=0.1, max_direct=0)],
    ids=["dual", "direct", "cg", "hoag", "hoag_cg"],
)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_all_solvers_agree(n_classes, other):
    X, y, splits = blobs(n_classes, n_splits=3)
    one = hypergradient(X, y, splits, LOG_PENALTIES, solver=LONG["batch"], max_epochs=1)
    two = hypergradient(X, y, splits, LOG_PENALTIES, solver=other, tol=1e-6)
    assert two.converged
    np.testing.assert_allclose(one.losses, two.losses, rtol=1e-6)
    np.testing.assert_allclose(one.coef, two.coef, atol=1e-5)
    assert relative_error(one.adjoint, two.adjoint) <= 1e-4
    assert relative_error(one.gradient, two.gradient) <= 1e-4


def test_it_converges_by_itself_and_says_so():
    X, y, splits = blobs(2)
    exact = hypergradient(X, y, splits, LOG_PENALTIES, solver=Aid(first_tol=None)).gradient
    result = hypergradient(X, y, splits, LOG_PENALTIES, solver=Sgd(BATCH, BATCH), tol=1e-3, max_epochs=2000)
    assert result.converged
    assert result.n_epochs < 2000
    assert relative_error(result.gradient, exact) <= 3e-3


# ---- budgets, draws, starts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lower", "adjoint"), [(10, 10), (15, 5)])
def test_a_budget_is_spent_as_it_was_divided(lower, adjoint, monkeypatch):
    X, y, splits = blobs(4, n_splits=3)
    calls = count_calls(monkeypatch)
    solver = Sgd(lower_epochs=lower, adjoint_epochs=adjoint)
    result = hypergradient(X, y, splits, LOG_PENALTIES, solver=solver, max_epochs=41)
    n_train, n_budgets = sum(len(train) for train, _ in splits), 3
    assert result.n_epochs == n_budgets * 20
    assert sum(n for n, of_adjoint in calls if not of_adjoint) == n_budgets * lower * n_train
    assert sum(n for n, of_adjoint in calls if of_adjoint) == n_budgets * adjoint * n_train


def test_a_second_budget_goes_on_where_the_first_ended():
    problem, log_penalties = rows(4)
    two, four = (Sgd(BATCH, STEPS["decreasing"], lower_epochs=n, adjoint_epochs=3) for n in (2, 4))
    twice = two.advance(problem, two.advance(problem, two.init(problem, log_penalties)))
    once = four.advance(problem, four.init(problem, log_penalties))
    np.testing.assert_allclose(stacked(two, problem, twice)[0], stacked(four, problem, once)[0], rtol=1e-10)
    assert twice.epochs == [4, 6]
    assert twice.n_epochs == 10


def test_step_sizes_go_on_with_the_epochs():
    curvature = bounds.Curvature(L=1.0, mu=0.01)
    beta, gamma = bounds.decreasing(curvature)
    np.testing.assert_allclose(Steps().sizes(curvature, 30, 3), beta / (gamma + np.array([30, 31, 32])), rtol=1e-14)
    np.testing.assert_allclose(Steps(beta=3.0, gamma=6.0).sizes(curvature, 0, 2), [0.5, 3.0 / 7.0], rtol=1e-14)
    np.testing.assert_array_equal(Steps("constant", beta=3.0, gamma=6.0).sizes(curvature, 30, 3), 0.5)
    np.testing.assert_array_equal(Steps("constant").sizes(curvature, 30, 3), 1.0)
    noisy = replace(curvature, sigma2=3.0)
    np.testing.assert_allclose(Steps("constant").sizes(noisy, 30, 3), 0.25, rtol=1e-14)
    np.testing.assert_array_equal(Steps("constant", beta=3.0, gamma=6.0).sizes(noisy, 30, 3), 0.5)


@pytest.mark.parametrize(
    ("steps", "n_rows", "n_steps"),
    [
        (Steps(), 1000, 100),
        (Steps(), 50, 50),
        (Steps(batch_size=32), 1000, 31),
        (Steps(batch_size=2000), 1000, 1),
        (BATCH, 9, 1),
    ],
)
def test_steps_of_an_epoch(steps, n_rows, n_steps):
    assert steps.per_epoch(n_rows) == n_steps


def test_a_shuffled_epoch_has_every_training_row_once_and_an_independent_one_has_not(monkeypatch):
    problem, log_penalties = rows(2)
    orders, descend = [], _sgd.kernels.descend

    def watched(problem, split, table, weights, order, *rest, **level):
        orders.append(order)
        return descend(problem, split, table, weights, order, *rest, **level)

    monkeypatch.setattr(_sgd.kernels, "descend", watched)
    train = np.flatnonzero(problem.roles.role[:, 0] == TRAIN)
    for sampling in ("shuffle", "iid"):
        solver = Sgd(lower_epochs=2, adjoint_epochs=2, sampling=sampling)
        solver.advance(problem, solver.init(problem, log_penalties))
    shuffled, independent = orders[:4], orders[4:]
    assert all(np.array_equal(np.sort(order), train) for order in shuffled)
    assert not np.array_equal(shuffled[0], shuffled[1])
    assert all(np.isin(order, train).all() and np.unique(order).size < 0.8 * train.size for order in independent)


@pytest.mark.parametrize("sampling", ["shuffle", "iid"])
def test_batch_takes_every_row_whatever_the_sampling(sampling):
    problem, log_penalties = rows(4)
    solver, plain = Sgd(BATCH, BATCH, sampling=sampling), Sgd(BATCH, BATCH)
    one = solver.advance(problem, solver.init(problem, log_penalties, seed=1))
    two = plain.advance(problem, plain.init(problem, log_penalties, seed=2))
    np.testing.assert_array_equal(one.tables, two.tables)


@pytest.mark.parametrize("sampling", ["shuffle", "iid"])
def test_the_seed_decides_every_bit(sampling):
    problem, log_penalties = rows(4, dtype=np.float32)
    solver = Sgd(sampling=sampling, lower_epochs=2, adjoint_epochs=2)
    one, two, other = (solver.advance(problem, solver.init(problem, log_penalties, seed=seed)).tables for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("warm", [True, False])
def test_a_change_of_penalties_keeps_w_and_v_or_begins_at_zero(warm):
    problem, log_penalties = rows(4)
    solver = Sgd(STEPS["decreasing"], STEPS["decreasing"], lower_epochs=3, adjoint_epochs=3, warm=warm)
    state = solver.advance(problem, solver.init(problem, log_penalties))
    before = stacked(solver, problem, state)
    state = solver.rescale(problem, state, log_penalties + 1.0)
    after = stacked(solver, problem, state)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old if warm else 0.0)
    cold = solver.init(problem, log_penalties + 1.0)
    state.random, cold.random = np.random.RandomState(3), np.random.RandomState(3)
    state, cold = solver.advance(problem, state), solver.advance(problem, cold)
    assert np.array_equal(state.tables, cold.tables) == (not warm)
    assert state.epochs == [3, 3]
    assert state.n_epochs == 12


def test_a_warm_start_pays_off_where_penalties_change_little():
    X, y, splits = blobs(2)
    problem = make_problem(X, y, splits, n_classes=2, dtype=np.float64)
    exact = hypergradient(X, y, splits, LOG_PENALTIES + 0.1, solver=Aid(first_tol=None)).gradient
    errors = []
    for warm in (True, False):
        solver = Sgd(BATCH, BATCH, warm=warm)
        state = solver.init(problem, LOG_PENALTIES)
        for _ in range(10):
            state = solver.advance(problem, state)
        state = solver.advance(problem, solver.rescale(problem, state, LOG_PENALTIES + 0.1))
        errors.append(relative_error(solver.log_gradient(problem, state), exact))
    assert errors[0] < 0.2 * errors[1]


@pytest.mark.parametrize(("n_epochs", "first"), [(1, 1), (5, 3), (6, 4)])
def test_averaging_ends_at_the_mean_of_the_last_half_of_the_epochs(n_epochs, first):
    problem, log_penalties = rows(4)
    steps = STEPS["decreasing"]

    def after(n_epochs, averaging=False):
        solver = Sgd(steps, steps, lower_epochs=n_epochs, averaging=averaging)
        return stacked(solver, problem, solver.advance(problem, solver.init(problem, log_penalties, seed=4)))[0]

    expected = np.mean([after(n) for n in range(first, n_epochs + 1)], axis=0)
    np.testing.assert_allclose(after(n_epochs, averaging=True), expected, rtol=1e-10)


def test_averaging_calms_constant_steps():
    X, y, splits = blobs(2)
    steps = Steps("constant", batch_size=5, beta=0.2, gamma=1.0)
    exact = hypergradient(X, y, splits, LOG_PENALTIES, solver=Aid(first_tol=None)).coef
    plain, averaged = (
        hypergradient(
            X, y, splits, LOG_PENALTIES, solver=Sgd(steps, BATCH, lower_epochs=100, averaging=averaging), max_epochs=1
        )
        for averaging in (False, True)
    )
    assert relative_error(averaged.coef, exact) < 0.5 * relative_error(plain.coef, exact)


def test_an_interrupt_is_heard_during_an_epoch(monkeypatch, listening):
    """Between the calls that an epoch is made of."""
    problem, log_penalties = rows(4)
    calls, descend = [], _sgd.kernels.descend

    def interrupted(*arguments, **level):
        calls.append(0)
        if len(calls) == 3:
            _thread.interrupt_main()
        return descend(*arguments, **level)

    monkeypatch.setattr(_sgd, "WORK_PER_CALL", 1e4)
    monkeypatch.setattr(_sgd.kernels, "descend", interrupted)
    solver = Sgd(lower_epochs=1, adjoint_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        solver.advance(problem, solver.init(problem, log_penalties))
    assert len(calls) == 3


def test_a_kernel_lets_other_threads_run(no_switching):
    problem, log_penalties = rows(4, n_rows=3000)
    solver, done, turns = Sgd(Steps(batch_size=1), BATCH, lower_epochs=20, adjoint_epochs=1), threading.Event(), [0]

    def take_turns():
        while not done.is_set():
            turns[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=take_turns)
    thread.start()
    before = turns[0]
    solver.advance(problem, solver.init(problem, log_penalties))
    after = turns[0]
    done.set()
    thread.join()
    assert after > before


# ---- the state at rest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "no_intercept"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_residual_is_the_gradient_at_w(n_classes, fit_intercept):
    problem, log_penalties = rows(n_classes, fit_intercept=fit_intercept)
    solver = Sgd(STEPS["decreasing"], STEPS["decreasing"])
    state = solver.advance(problem, solver.init(problem, log_penalties))
    plain = Plain(problem, log_penalties, solver, 0)
    W, _ = stacked(solver, problem, state)
    slope = (plain.proba(plain.X @ W) - plain.targets) * plain.weights / plain.train.size
    gradient = plain.X.T @ slope + plain.penalties / plain.total * W
    assert solver.progress(problem, state).residual == pytest.approx(np.abs(gradient).max(), rel=1e-9)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_losses_are_those_of_the_models_at_hand(n_classes):
    problem, log_penalties = rows(n_classes)
    solver = Sgd(STEPS["decreasing"], STEPS["decreasing"])
    state = solver.advance(problem, solver.init(problem, log_penalties))
    np.testing.assert_allclose(solver.losses(problem, state), solver.losses(problem, state, problem), rtol=1e-12)


def test_the_state_survives_a_change_of_precision():
    single, log_penalties = rows(4, dtype=np.float32)
    double, _ = rows(4)
    solver = Sgd(STEPS["decreasing"], STEPS["decreasing"])
    state = solver.advance(single, solver.init(single, log_penalties))
    before = stacked(solver, single, state)
    state = solver.rescale(double, state, log_penalties)
    for old, new in zip(before, stacked(solver, double, state), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(state.tables[0, 0, :-1, 8], np.exp(log_penalties) / double.train_totals[0])
    assert solver.advance(double, state).tables.dtype == np.float64


# ---- the error estimate, structures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_epochs", [1, 2, 10])
@pytest.mark.parametrize("steps", [Steps(), Steps("constant"), BATCH], ids=["decreasing", "constant", "batch"])
def test_a_single_budget_has_an_error_estimate(steps, n_epochs):
    solver = Sgd(steps, steps, lower_epochs=n_epochs, adjoint_epochs=n_epochs)
    result = hypergradient(*blobs(4), LOG_PENALTIES, solver=solver, max_epochs=1)
    assert 0 < result.error < np.inf
    assert not result.converged


@pytest.mark.parametrize(
    "solver",
    [Sgd(Steps(batch_size=25), Steps(batch_size=25)), Sgd(BATCH, BATCH), Sgd(BATCH, BATCH, 100, 100)],
    ids=["decreasing", "batch", "batch_long"],
)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_error_estimate_is_of_the_right_size(n_classes, solver):
    exact = hypergradient(*blobs(n_classes), LOG_PENALTIES, solver=Aid(first_tol=None)).gradient
    ratios = []
    for seed in range(5):
        result = hypergradient(*blobs(n_classes), LOG_PENALTIES, solver=solver, max_epochs=1, random_state=seed)
        ratios.append(result.error / np.abs(result.gradient - exact).max())
    assert 0.1 <= np.median(ratios) <= 10


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("solver", ["dual", "aid", "sgd"])
def test_theta_gradient_is_pulled_back_by_the_structure(solver, structure):
    X, y, splits = blobs(4)
    result = hypergradient(X, y, splits, 1.0, structure=STRUCTURES[structure], solver=solver)
    made = make_structure(STRUCTURES[structure], X)
    A = np.eye(N_FEATURES) if made.matrix is None else made.matrix
    np.testing.assert_allclose(result.theta_gradient, A.T @ result.gradient, rtol=1e-12)
    assert result.theta_gradient.shape == (made.n_params,)


def test_without_a_structure_theta_is_the_log_penalties():
    result = hypergradient(*blobs(2), 1.0, solver="aid")
    np.testing.assert_array_equal(result.theta_gradient, result.gradient)


@pytest.mark.parametrize(("name", "settings"), [("dual", Dual()), ("aid", Aid()), ("sgd", Sgd())])
def test_a_solver_may_be_given_by_name(name, settings):
    by_name, by_settings = (hypergradient(*blobs(2), 1.0, solver=solver, max_epochs=1) for solver in (name, settings))
    np.testing.assert_array_equal(by_name.gradient, by_settings.gradient)


# ---- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ((Steps, "rule"), ["cyclic", None, 1]),
        ((Steps, "batch_size"), [0, -3, 2.5, np.nan, "all", True]),
        ((Steps, "beta"), [0.0, -1.0, np.inf, np.nan, "1"]),
        ((Steps, "gamma"), [0.0, -1.0, np.inf, np.nan, "1"]),
        ((Sgd, "lower_steps"), ["constant", None]),
        ((Sgd, "adjoint_steps"), ["constant", None]),
        ((Sgd, "lower_epochs"), [0, 1.5, "10", None, True]),
        ((Sgd, "adjoint_epochs"), [0, 1.5, "10", None, True]),
        ((Sgd, "sampling"), ["cyclic", None, 1]),
        ((Sgd, "warm"), ["yes", 1, None]),
        ((Sgd, "averaging"), ["yes", 1, None]),
        ((Aid, "max_direct"), [-1, 0.5, None]),
        ((Aid, "tol"), [0.0, -1e-3, np.nan, np.inf, None]),
        ((Aid, "first_tol"), [0.0, 1e-9, np.nan, np.inf, "auto"]),
        ((Aid, "tightening"), [0.0, 1.0, np.nan, None]),
        ((Aid, "max_newton"), [0, 1.5, None]),
        ((Aid, "cg_max_iter"), [0, 1.5, None]),
        ((Aid, "n_jobs"), [0, 1.5, "all"]),
        ((Dual, "block_size"), [0, 1.5, None]),
        ((Dual, "proximal_weight"), [0.0, np.nan, np.inf, None]),
        ((Dual, "refresh"), [0, 1.5, None]),
        ((Dual, "hardest"), [-0.1, 1.1, np.nan, None]),
        ((Dual, "revisits"), [-1, 1.5, None]),
        ((Dual, "keep_coef"), [-0.1, 1.1, np.nan, None]),
    ],
    ids=lambda value: f"{value[0].__name__}-{value[1]}" if isinstance(value, tuple) else "",
)
def test_settings_out_of_range_are_refused_by_name(settings, values):
    make, name = settings
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name} is .*\. Set ") as refused:
            make(**{name: value})
        assert repr(value) in str(refused.value)


def test_every_setting_is_checked():
    """Those that the test above has no bad value of would be taken for anything."""
    checked = {pair for mark in test_settings_out_of_range_are_refused_by_name.pytestmark for pair, _ in mark.args[1]}
    assert checked == {(make, field.name) for make in (Steps, Sgd, Aid, Dual) for field in fields(make)}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": "nonsense"}, ValueError, r"solver='nonsense' is none of \['aid', 'dual', 'sgd'\]\. Use"),
        ({"solver": 3}, TypeError, r"solver=3 is no solver: it lacks .*advance.*\. Use"),
        ({"solver": Sgd}, TypeError, r"solver=.* is no solver: it is a class, not settings\. Use"),
        ({"log_penalties": np.inf}, ValueError, "log_penalties must be numbers"),
        ({"log_penalties": -np.inf, "solver": "sgd"}, ValueError, "penalty on every feature"),
        ({"log_penalties": 800.0}, ValueError, "log_penalties must be numbers between -100 and 100"),
        ({"tol": -1e-4}, ValueError, r"tol is -0\.0001\. Set"),
        ({"tol": np.nan}, ValueError, r"tol is nan\. Set"),
        ({"max_epochs": 0}, ValueError, r"max_epochs is 0\. Set"),
        ({"dtype": np.int64}, ValueError, r"dtype is .*int64.*\. Set"),
        ({"structure": "all"}, ValueError, "structure='all' is unknown"),
        ({"structure": np.ones(3)}, ValueError, "structure has 3 rows, but X has 8 features"),
    ],
)
def test_hypergradient_refuses_by_name(arguments, error, message):
    X, y, splits = blobs(2)
    with pytest.raises(error, match=message):
        hypergradient(X, y, splits, **{"log_penalties": 0.0, **arguments})


def test_a_feature_without_a_penalty_is_refused():
    problem, log_penalties = rows(2)
    log_penalties[3] = -np.inf
    with pytest.raises(ValueError, match="penalty on every feature.* Set solver='dual' or 'aid'"):
        check_supported(Sgd(), problem, log_penalties)


def test_a_split_without_training_rows_is_refused():
    nothing, everything = np.arange(0), np.arange(150)
    X, y, _ = blobs(2)
    problem = make_problem(X, y, [(nothing, everything)], n_classes=2)
    with pytest.raises(ValueError, match="training rows of positive weight in every split"):
        Sgd().init(problem, LOG_PENALTIES)


def test_overflow_is_an_error_that_names_the_remedy():
    X, y, splits = blobs(2)
    steps = Steps("constant", batch_size=1, beta=100.0, gamma=1.0)
    with pytest.raises(NotFiniteError, match="Scale the features"), np.errstate(all="ignore"):
        hypergradient(X, y, splits, LOG_PENALTIES, solver=Sgd(steps, steps, 100, 100))
