"""The stochastic solver: its lazy kernels against dense iterations, and its budgets, draws, settings and results."""

import _thread
import threading
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import central_differences, relative_error, split_losses
from scipy.special import expit, softmax
from sklearn.datasets import make_classification
from sklearn.model_selection import StratifiedKFold

from sksid import bounds, hypergradient
from sksid.problem import TRAIN, make_problem
from sksid.solvers import BATCH, Aid, Dual, Sgd, Steps, _sgd
from sksid.structures import make_structure

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
        X = self.problem.matrix
        self.X = np.hstack([X.toarray() if sp.issparse(X) else X, np.ones((problem.n_rows, 1)) * problem.fit_intercept])
        self.penalties = np.append(np.exp(log_penalties), 0.0)[:, None]
        self.train, self.total = np.flatnonzero(problem.roles[:, 0] == TRAIN), self.problem.train_totals[0]
        self.weights = self.problem.train_weights(0)[:, None] * self.train.size / self.total
        self.curvature = bounds.curvature(self.problem, 0, log_penalties)
        self.targets = np.eye(problem.n_classes)[problem.labels][:, -problem.n_outputs :]
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
        upper = self.X.T @ ((P - self.targets) * self.problem.val_weights(0)[:, None])
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

    def counted(problem, table, weights, order, starts, eta, **level):
        calls.append((starts[-1] - starts[0], bool(level)))
        return descend(problem, table, weights, order, starts, eta, **level)

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
    X = sp.random_array((600, 300), density=0.05, format="csr", rng=2, data_sampler=random.standard_exponential)
    labels = np.argmax(X @ random.randn(300, n_classes) + random.gumbel(size=(600, n_classes)), axis=1)
    splits = [(everything[:400], everything[400:])]
    problem = make_problem(X, labels, splits, n_classes=n_classes, dtype=np.float32)
    training = make_problem(X, labels, [(everything[:0], everything[:400])], n_classes=n_classes, dtype=np.float32)
    penalties = random.uniform(-10, 10, 300) if log_penalties == "spread" else np.full(300, log_penalties)
    solver = Sgd(Steps(rule, batch_size), Steps(rule, batch_size))
    state, aid = solver.init(problem, penalties), Aid()
    for _ in range(3):
        state = solver.advance(problem, state)
        assert solver.losses_on(problem, state, training)[0] <= np.log(n_classes)
        W, V = stacked(solver, problem, state)
        exact = aid.init(problem, penalties)
        exact.coef[0] = W
        assert np.abs(V).max() <= 2 * np.abs(solution_of_the_linear_system(problem, penalties, W)).max()


def solution_of_the_linear_system(problem, log_penalties, W):
    """The adjoint at any W (n_features + 1, n_outputs), not the solution only."""
    aid = Aid(max_newton=1, max_direct=10**9)
    state = aid.init(problem, log_penalties)
    state.coef[0], state.tol = W, np.inf
    return aid.advance(problem, state).adjoint[0]


@pytest.mark.parametrize("rule", ["decreasing", "constant"])
def test_the_linear_system_withstands_single_rows_of_much_curvature(rule, digits):
    """With steps as large as the mean curvature allows, v would grow by twelve orders of magnitude."""
    X, y = digits
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    problem = make_problem(X, y, list(StratifiedKFold(3).split(X, y))[:1], n_classes=10, dtype=np.float64)
    solver, log_penalties = Sgd(Steps(rule, batch_size=1), Steps(rule, batch_size=1)), np.full(64, 2.0)
    W, V = stacked(solver, problem, solver.advance(problem, solver.init(problem, log_penalties)))
    assert np.abs(V).max() <= 2 * np.abs(solution_of_the_linear_system(problem, log_penalties, W)).max()


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
    "decreasing": Sgd(Steps(batch_size=25), Steps(batch_size=25), lower_epochs=40000, adjoint_epochs=40000),
}


def blobs(n_classes):
    X, y = make_classification(150, N_FEATURES, n_informative=5, n_classes=n_classes, flip_y=0.1, random_state=3)
    return X, y, list(StratifiedKFold(3).split(X, y))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("solver", LONG)
def test_run_long_it_is_the_derivative_of_the_cross_validated_loss(solver, n_classes, structure):
    X, y, splits = blobs(n_classes)
    made, offset = make_structure(STRUCTURES[structure], X), np.linspace(2.0, 3.0, N_FEATURES)

    def value(theta):
        return split_losses(X, y, splits, offset + made.change(theta)).mean()

    result = hypergradient(X, y, splits, offset, structure=STRUCTURES[structure], solver=LONG[solver], max_epochs=1)
    expected = central_differences(value, np.zeros(made.n_params))
    assert relative_error(result.theta_gradient, expected) <= 1e-3
    np.testing.assert_allclose(result.theta_gradient, made.pull_back(result.gradient), rtol=1e-12)
