"""The kernels by themselves: against plain NumPy, in every precision and instruction set, and what they refuse."""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit, softmax

from sksid._kernels import _dual, _layout, _sgd

N_ROWS, N_FEATURES, N_SPLITS = 37, 7, 3
F32, F64 = np.float32, np.float64
PRECISIONS = [(F32, F32), (F64, F32), (F32, F64), (F64, F64)]
TOLERANCE = {F32: 2e-3, F64: 1e-7}  # Newton stops after a step of 1e-3 or 1e-6, whose square is what is left
SUM = {name: column for column, name in enumerate(_layout.SUMS)}


@pytest.fixture(params=_dual.INSTRUCTION_SETS)
def instruction_set(request):
    """Both modules use one of the instruction sets that there are here."""
    before = _dual.instruction_set(), _sgd.instruction_set()
    assert _dual.instruction_set(request.param) == _sgd.instruction_set(request.param) == request.param
    yield request.param
    _dual.instruction_set(before[0]), _sgd.instruction_set(before[1])


def rows_of(X, dtype, dense=False):
    X = np.asarray(X, dtype=dtype)
    if dense:
        return SimpleNamespace(
            values=X.ravel().copy(),
            columns=None,
            indptr=np.arange(X.shape[0] + 1, dtype=np.int64) * X.shape[1],
            n_features=X.shape[1],
        )
    csr = sp.csr_array(X)
    columns = _layout.as_columns(csr.indices, X.shape[1])
    return SimpleNamespace(values=csr.data, columns=columns, indptr=csr.indptr.astype(np.int64), n_features=X.shape[1])


def make(K=2, dtype=F64, *, dense=False, per_split=False, fit_intercept=True, n_splits=N_SPLITS, n_features=N_FEATURES, seed=0):
    """A problem of random rows, a part of them in no split's training or validation set."""
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((N_ROWS, n_features)).astype(F32) * (1 if dense else rng.random_sample((N_ROWS, n_features)) < 0.5)
    labels = rng.randint(K, size=(N_ROWS, n_splits if per_split else 1)).astype(np.int32)
    role = rng.choice(3, p=(0.1, 0.6, 0.3), size=(N_ROWS, n_splits)).astype(np.int8)
    weights = rng.uniform(0.5, 1.5, N_ROWS)
    roles = SimpleNamespace(
        labels=labels,
        role=role,
        weights=weights,
        train_scale=rng.uniform(0.5, 1.5, (K, n_splits)),
        val_scale=1 / (weights[:, None] * (role == _layout.VALIDATION)).sum(axis=0),
    )
    return SimpleNamespace(
        X=X.astype(F64),
        rows=rows_of(X, dtype, dense),
        roles=roles,
        n_splits=n_splits,
        n_outputs=1 if K == 2 else K,
        fit_intercept=fit_intercept,
    )


def start(problem, dtype=F64, n_sides=2, unpenalized=()):
    """A state at W = V = 0 with penalties around 3."""
    n_vectors, n_features = problem.n_splits * problem.n_outputs, problem.rows.n_features
    used = n_sides * n_vectors
    state = SimpleNamespace(
        table=np.zeros((n_features + 1, _layout.dual_width(used, dtype)), dtype=dtype),
        duals=np.zeros((N_ROWS, n_sides, n_vectors), dtype=dtype),
        residuals=np.zeros((N_ROWS, 2), dtype=dtype),
        imbalance=np.zeros((n_sides, n_vectors)),
        reference_step=0.5 / N_ROWS,
        n_inverses=1,
        unpenalized=np.array(unpenalized, dtype=np.int64),
        reference=np.zeros((len(unpenalized), used), dtype=dtype),
    )
    state.table[:, used] = 1 / np.linspace(2.0, 4.0, n_features + 1)
    return state


def order_of_blocks(block_size, seed=1):
    return np.random.RandomState(seed).permutation(-(-N_ROWS // block_size))


# ---- the dual solver's visit in plain NumPy, written from its equations ----


def curvature(p, K):
    return np.array([[p[0] * (1 - p[0])]]) if K == 1 else np.diag(p) - np.outer(p, p)


def solve_row(a, q, beta, target, K):
    """Eqs. (7) and (8): z + q (p(z) - e_y) = a + q beta, by damped Newton steps; p at the solution."""
    c, z = a + q * beta, a.copy()

    def probabilities(z):
        return expit(z) if K == 1 else softmax(z)

    def off(z):
        return z - c + q * (probabilities(z) - target)

    for _ in range(30):
        step = np.linalg.solve(np.eye(K) + q * curvature(probabilities(z), K), off(z))
        t = 1.0
        while np.linalg.norm(off(z - t * step)) > np.linalg.norm(off(z)) and t > 1e-9:
            t /= 2
        z = z - t * step
        if np.abs(step).max() < 1e-13:
            break
    return probabilities(z)


def advance_in_numpy(problem, blocks, block_size, table, reference_step, n_sides=2):
    """W | V with the intercept, (n_features + 1, n_sides * n_vectors), and the duals, after one visit to every block."""
    K, roles, n_vectors = problem.n_outputs, problem.roles, problem.n_splits * problem.n_outputs
    inverse, W = table[:, n_sides * n_vectors].astype(F64), np.zeros((table.shape[0], n_sides * n_vectors))
    duals, imbalance = np.zeros((N_ROWS, n_sides, n_vectors)), np.zeros(n_sides * n_vectors)
    x = np.column_stack([problem.X, np.ones(N_ROWS) * problem.fit_intercept])
    for block in blocks:
        rows = np.arange(block * block_size, min((block + 1) * block_size, N_ROWS))
        for i in rows:
            change = visit_in_numpy(roles, i, x[i] @ W, (x[i] ** 2 * inverse).sum(), duals[i], K)
            W -= np.outer(x[i] * inverse, change)
            imbalance += change
        if K > 1:
            imbalance -= np.repeat(imbalance.reshape(-1, K).mean(axis=1), K)
        if problem.fit_intercept:
            W[-1] -= reference_step * rows.size * inverse[-1] * imbalance
    return W, duals


def visit_in_numpy(roles, i, product, q0, dual, K):
    """What one visit takes off W and V along x_i, (n_sides * n_vectors,); ``dual`` is updated."""
    n_sides, n_vectors = dual.shape
    change = np.zeros((n_sides, n_vectors))
    for k in range(roles.role.shape[1]):
        at = slice(k * K, (k + 1) * K)
        label = roles.labels[i, k if roles.labels.shape[1] > 1 else 0]
        target = np.array([float(label)]) if K == 1 else np.eye(K)[label]
        a, s = product.reshape(n_sides, -1)[0, at], roles.weights[i] * roles.train_scale[label, k]
        if roles.role[i, k] == _layout.VALIDATION:
            beta = solve_row(a, 0.0, dual[0, at], target, K) - target
            if n_sides == 2:
                change[1, at] = -roles.weights[i] * roles.val_scale[k] * (beta - dual[0, at])
            dual[0, at] = beta
        elif roles.role[i, k] == _layout.TRAIN:
            p, q = solve_row(a, s * q0, dual[0, at], target, K), s * q0
            if n_sides == 2:
                r, D = product.reshape(n_sides, -1)[1, at], curvature(p, K)
                u = np.linalg.solve(np.eye(K) + q * D, D @ (r + q * dual[1, at]))
                change[1, at] = s * (u - dual[1, at])
                dual[1, at] = u
            change[0, at] = s * (p - target - dual[0, at])
            dual[0, at] = p - target
    return change.ravel()


def used_duals(problem, duals):
    """Without those that mean nothing: of rows that a split does not use, and u of validation rows."""
    role = np.repeat(problem.roles.role, problem.n_outputs, axis=1)
    return duals * np.stack([role != _layout.UNUSED, role == _layout.TRAIN], axis=1)[:, : duals.shape[1]]


@lru_cache
def expected(K, n_splits, n_sides, dense, per_split):
    """The table and the duals after one visit to every block of four rows."""
    problem = make(K, dense=dense, per_split=per_split, n_splits=n_splits)
    table = start(problem, n_sides=n_sides).table
    return advance_in_numpy(problem, order_of_blocks(4), 4, table, 0.5 / N_ROWS, n_sides)


@pytest.mark.parametrize("values, real", PRECISIONS)
@pytest.mark.parametrize("per_split", [False, True])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("K, n_splits, n_sides", [(2, 3, 2), (2, 1, 1), (2, 9, 2), (3, 3, 2), (10, 2, 1), (21, 2, 2)])
def test_a_pass_is_that_of_the_equations(K, n_splits, n_sides, dense, per_split, values, real, instruction_set):
    problem = make(K, values, dense=dense, per_split=per_split, n_splits=n_splits)
    state = start(problem, real, n_sides)
    W, duals = expected(K, n_splits, n_sides, dense, per_split)
    _dual.advance(problem, state, order_of_blocks(4), 4)
    np.testing.assert_allclose(state.table[:, : W.shape[1]], W, rtol=0, atol=TOLERANCE[real] * np.abs(W).max())
    np.testing.assert_allclose(used_duals(problem, state.duals), duals, rtol=0, atol=TOLERANCE[real])


@pytest.mark.parametrize("real", [F32, F64])
@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_visits_to_one_row_of_many_classes_end_where_its_equations_hold(size, real, instruction_set):
    """Eqs. (8) and (11), whatever the row's curvature q is: a visit's Newton steps may end early, repeated visits do not."""
    problem = make(21, n_splits=2, fit_intercept=False)
    row = np.flatnonzero((problem.roles.role == _layout.TRAIN).all(axis=1) & (problem.X != 0).any(axis=1))[:1]
    problem.rows.values *= size
    state = start(problem, real)
    state.table[:-1, 42:84] = np.random.RandomState(0).standard_normal((N_FEATURES, 42))
    for _ in range(30):
        _dual.advance(problem, state, row, 1)
    x, weights = size * problem.X[row[0]], problem.roles.weights[row[0]] * problem.roles.train_scale
    z, r = (x @ state.table[:-1, :84].astype(F64)).reshape(2, 2, 21)
    label = problem.roles.labels[row[0], 0]
    p = softmax(z, axis=1)
    beta, u = state.duals[row[0]].reshape(2, 2, 21)
    np.testing.assert_allclose(beta, p - np.eye(21)[label], rtol=0, atol=TOLERANCE[real])
    assert (weights[label] > 0).all()
    curved = p * (r - (p * r).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(u, curved, rtol=0, atol=TOLERANCE[real] * np.abs(r).max())


def advanced(problem, dtype, n_sides=2):
    state = start(problem, dtype, n_sides)
    sums = [_dual.advance(problem, state, order_of_blocks(3, seed), 3) for seed in range(3)]
    return state, sums


@pytest.mark.parametrize("real", [F32, F64])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("K", [2, 5])
def test_entries_are_cast_as_they_are_read(K, dense, real, instruction_set):
    """Results are those of entries that were cast before, bit for bit."""
    one, other = (advanced(make(K, dtype, dense=dense), real) for dtype in (F32, F64))
    for name in ("table", "duals", "residuals", "imbalance"):
        np.testing.assert_array_equal(getattr(one[0], name), getattr(other[0], name))
    np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("real", [F32, F64])
@pytest.mark.parametrize("K, n_splits", [(2, 1), (2, 3), (2, 9), (4, 3)])
def test_instruction_sets_agree(K, n_splits, real):
    problem, found = make(K, n_splits=n_splits), []
    before = _dual.instruction_set()
    for name in _dual.INSTRUCTION_SETS:
        _dual.instruction_set(name)
        found.append(advanced(problem, real))
    _dual.instruction_set(before)
    for state, sums in found[1:]:
        np.testing.assert_allclose(state.table, found[0][0].table, rtol=0, atol=1e-5 if real is F32 else 1e-12)
        np.testing.assert_allclose(sums, found[0][1], rtol=1e-4 if real is F32 else 1e-9, atol=1e-6)


@pytest.mark.parametrize("K", [2, 4])
def test_labels_of_a_split_are_those_of_a_problem_of_its_own(K, instruction_set):
    problem = make(K, per_split=True)
    whole, sums = advanced(problem, F64)
    n_vectors = N_SPLITS * problem.n_outputs
    for k in range(N_SPLITS):
        roles = SimpleNamespace(
            **{
                name: np.ascontiguousarray(getattr(problem.roles, name)[:, k : k + 1])
                for name in ("labels", "role", "train_scale")
            },
            weights=problem.roles.weights,
            val_scale=problem.roles.val_scale[k : k + 1],
        )
        own, own_sums = advanced(SimpleNamespace(**{**vars(problem), "roles": roles, "n_splits": 1}), F64)
        side = np.arange(k * problem.n_outputs, (k + 1) * problem.n_outputs)
        columns = np.concatenate([side, n_vectors + side])
        np.testing.assert_allclose(whole.table[:, columns], own.table[:, : columns.size], rtol=0, atol=1e-12)
        np.testing.assert_allclose([s[k] for s in sums], [s[0] for s in own_sums], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("K", [2, 3])
def test_equal_labels_in_every_split_are_shared_labels(K, instruction_set):
    problem = make(K)
    shared, _ = advanced(problem, F64)
    problem.roles.labels = np.repeat(problem.roles.labels, N_SPLITS, axis=1)
    np.testing.assert_array_equal(advanced(problem, F64)[0].table, shared.table)


@pytest.mark.parametrize("values, real", PRECISIONS)
@pytest.mark.parametrize("K", [2, 3])
def test_rebuild_finds_the_table_of_the_duals(K, values, real, instruction_set):
    problem = make(K, values, fit_intercept=False)
    state, _ = advanced(problem, real)
    used, before = state.imbalance.size, state.table.copy()
    state.table[:, :used] = 0
    _dual.rebuild(problem, state, 0, 20)
    _dual.rebuild(problem, state, 20, N_ROWS)
    np.testing.assert_allclose(state.table, before, rtol=0, atol=1e-5 if real is F32 else 1e-13)


@pytest.mark.parametrize("real", [F32, F64])
@pytest.mark.parametrize("K", [2, 3])
def test_losses_and_gap_are_those_of_the_equations(K, real, instruction_set):
    problem = make(K, fit_intercept=False)
    state, _ = advanced(problem, real)
    sums, roles = _dual.evaluate(problem, state, 0, N_ROWS), problem.roles
    labels, n = roles.labels[:, 0], problem.n_outputs
    W, inverse = state.table[:-1, : N_SPLITS * n].astype(F64), state.table[:-1, state.imbalance.size].astype(F64)
    for k in range(N_SPLITS):
        scores = problem.X @ W[:, k * n : (k + 1) * n]
        scores = np.column_stack([np.zeros(N_ROWS), scores]) if K == 2 else scores
        losses = -np.log(softmax(scores, axis=1)[np.arange(N_ROWS), labels])
        val = roles.weights * roles.val_scale[k] * (roles.role[:, k] == _layout.VALIDATION)
        train = roles.weights * roles.train_scale[labels, k] * (roles.role[:, k] == _layout.TRAIN)
        np.testing.assert_allclose(sums[k, SUM["validation_loss"]], val @ losses, rtol=1e-5)
        np.testing.assert_allclose(sums[k, SUM["train_loss"]], train @ losses, rtol=1e-5)
        penalty = (W[:, k * n : (k + 1) * n] ** 2 / inverse[:, None]).sum()
        p = state.duals[:, 0, k * n : (k + 1) * n] + (np.eye(K)[labels] if K > 2 else labels[:, None])
        p = np.clip(np.column_stack([1 - p, p]) if K == 2 else p, 1e-300, 1)
        gap = train @ losses + penalty + train @ (p * np.log(p)).sum(axis=1)  # primal less dual at W of the duals, Eq. (15)
        np.testing.assert_allclose(sums[k, SUM["gap"]], gap, rtol=1e-3, atol=1e-4 if real is F32 else 1e-10)
    only = _dual.evaluate(problem, state, 0, N_ROWS, True)
    np.testing.assert_allclose(only[:, SUM["validation_loss"]], sums[:, SUM["validation_loss"]], rtol=1e-6)


@pytest.mark.parametrize("real", [F32, F64])
@pytest.mark.parametrize(("K", "n_splits"), [(2, 3), (2, 5), (2, 9), (3, 2), (4, 3), (11, 5)])
def test_penalties_of_a_split_are_those_of_a_problem_of_its_own(K, n_splits, real, instruction_set):
    """Visits, sums, new penalties, what is summed up anew and the inner products: as if each split were alone."""
    problem = make(K, n_splits=n_splits)
    n, penalties = problem.n_outputs, np.random.RandomState(0).uniform(1.0, 5.0, (2, n_splits, N_FEATURES))
    used, blocks = 2 * n_splits * n, order_of_blocks(4)

    def run(problem, penalties):
        used, n_inverses = 2 * problem.n_splits * n, len(penalties[0])
        state = start(problem, real)
        table = np.zeros((N_FEATURES + 1, _layout.dual_width(used, real, n_inverses)), dtype=real)
        table[:-1, used : used + n_inverses], table[-1, used : used + n_inverses] = 1 / penalties[0].T, 0.2
        state.table, state.n_inverses = table, n_inverses
        sums = [_dual.advance(problem, state, blocks, 4) for _ in range(2)]
        _dual.rescale(problem, state, penalties[1] if n_inverses > 1 else penalties[1][0], 0.5)
        state.duals *= 0.5
        state.table[:-1, :used] = 0
        _dual.rebuild(problem, state, 0, N_ROWS)
        sums.append(_dual.evaluate(problem, state, 0, N_ROWS))
        return state, sums, np.atleast_2d(_dual.contract(problem, state))

    whole, sums, inner = run(problem, penalties)
    settings = {"rtol": 1e-4, "atol": 1e-4} if real is F32 else {"rtol": 1e-7, "atol": 1e-9}
    np.testing.assert_allclose(whole.table[:-1, used : used + n_splits], 1 / penalties[1].T, rtol=1e-6)
    for k in range(n_splits):
        named = {name: np.ascontiguousarray(getattr(problem.roles, name)[:, k : k + 1]) for name in ("role", "train_scale")}
        roles = SimpleNamespace(**{**vars(problem.roles), **named, "val_scale": problem.roles.val_scale[k : k + 1]})
        own, own_sums, own_inner = run(SimpleNamespace(**{**vars(problem), "roles": roles, "n_splits": 1}), penalties[:, [k]])
        side = np.arange(k * n, (k + 1) * n)
        columns = np.concatenate([side, n_splits * n + side])
        np.testing.assert_allclose(whole.table[:, columns], own.table[:, : columns.size], **settings)
        np.testing.assert_allclose([s[k] for s in sums], [s[0] for s in own_sums], **settings)
        np.testing.assert_allclose(inner[k], own_inner[0], **settings)


@pytest.mark.parametrize("real", [F32, F64])
def test_rescale_and_contract(real, instruction_set):
    problem = make(3)
    state, _ = advanced(problem, real)
    before, penalties, n = state.table.copy(), np.linspace(1.0, 5.0, N_FEATURES), state.imbalance.shape[1]
    _dual.rescale(problem, state, penalties, 0.5)
    ratio = 0.5 / (penalties * before[:-1, 2 * n])
    np.testing.assert_allclose(state.table[:-1, : 2 * n], before[:-1, : 2 * n] * ratio[:, None], rtol=1e-5)
    np.testing.assert_allclose(state.table[:-1, 2 * n], 1 / penalties, rtol=1e-6)
    inner = (state.table[:-1, :n].astype(F64) * state.table[:-1, n : 2 * n]).sum(axis=1)
    np.testing.assert_allclose(_dual.contract(problem, state), inner, rtol=0, atol=1e-6 * np.abs(inner).max())


@pytest.mark.parametrize("real", [F32, F64])
@pytest.mark.parametrize("n_splits", [1, 8])
def test_extreme_rows(n_splits, real, instruction_set):
    """Empty rows, huge outputs and no rows at all leave everything finite."""
    problem = make(2, n_splits=n_splits)
    X = problem.X.copy()
    X[::3], X[1::7] = 0, 1e6
    problem.rows = rows_of(X, F64)
    state, sums = advanced(problem, real)
    assert np.isfinite(sums).all() and np.isfinite(state.table).all() and np.isfinite(state.duals).all()
    assert not _dual.advance(problem, state, np.empty(0, dtype=np.int64), 3).any()
    assert not _dual.evaluate(problem, state, 5, 5).any()


# ---- the stochastic iterations ----


def steps_of(seed=0, batch=5, n_steps=12):
    rng = np.random.RandomState(seed)
    rows = rng.randint(N_ROWS, size=batch * n_steps)
    starts = np.arange(n_steps + 1, dtype=np.int64) * batch
    return rows, starts, 0.3 / (1 + np.arange(n_steps))


def sgd_table(problem, dtype):
    width, at = _layout.sgd_width(problem.n_outputs), _layout.sgd_outputs(problem.n_outputs)
    table = np.zeros((problem.rows.n_features + 1, width), dtype=dtype)
    table[:-1, at] = np.linspace(0.05, 0.5, problem.rows.n_features)
    return table


@pytest.mark.parametrize("values, real", PRECISIONS)
@pytest.mark.parametrize("per_split", [False, True])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("K", [2, 3, 10])
def test_steps_are_those_of_the_equations(K, dense, per_split, values, real, instruction_set):
    problem, split = make(K, values, dense=dense, per_split=per_split), 1
    labels = problem.roles.labels[:, split if per_split else 0]
    K, weights, (rows, starts, eta) = problem.n_outputs, problem.roles.weights.astype(real), steps_of()
    table, padded = sgd_table(problem, real), _layout.sgd_outputs(problem.n_outputs)
    rates, x = np.append(table[:-1, padded], 0.0), np.column_stack([problem.X, np.ones(N_ROWS)])
    targets = labels[:, None] if K == 1 else np.eye(K)[labels]
    offset, proba = np.zeros((N_FEATURES + 1, padded)), np.zeros((N_ROWS, padded))
    offset[:, :K] = np.random.RandomState(2).standard_normal((N_FEATURES + 1, K))
    W, V = np.zeros((N_FEATURES + 1, K)), np.zeros((N_FEATURES + 1, K))
    for i, step in enumerate(eta):
        batch = rows[starts[i] : starts[i + 1]]
        z = x[batch] @ W
        slopes = weights[batch, None] * ((expit(z) if K == 1 else softmax(z, axis=1)) - targets[batch])
        W = W * (1 - step * rates)[:, None] - step / batch.size * x[batch].T @ slopes
    _sgd.descend(problem, split, table, weights, rows, starts, eta)
    np.testing.assert_allclose(table[:, :K], W, rtol=0, atol=1e-5 if real is F32 else 1e-12)
    z = x @ W
    proba[:, :K] = expit(z) if K == 1 else softmax(z, axis=1)
    for i, step in enumerate(eta):
        batch = rows[starts[i] : starts[i + 1]]
        r = x[batch] @ V
        slopes = np.array([curvature(proba[j, :K], K) @ r_j for j, r_j in zip(batch, r, strict=True)]) * weights[batch, None]
        V = V - step * rates[:, None] * (V - offset[:, :K]) - step / batch.size * x[batch].T @ slopes
        V[-1] += step * offset[-1, :K]
    table = sgd_table(problem, real)
    _sgd.descend(problem, split, table, weights, rows, starts, eta, proba.astype(real), offset.astype(real))
    np.testing.assert_allclose(table[:, :K], V, rtol=0, atol=1e-5 if real is F32 else 1e-12)


# ---- what is refused ----


def broken(**changes):
    """Arguments of a call on a good problem and state, with one thing changed in place."""

    def change(target, name, value):
        setattr(target, name, value(getattr(target, name)) if callable(value) else value)

    problem = make()
    state = start(problem, unpenalized=(2,))
    owners = {"rows": problem.rows, "roles": problem.roles, "problem": problem, "state": state}
    for where, value in changes.items():
        owner, _, name = where.partition("_")
        change(owners[owner], name, value)
    return problem, state


WRONG = {
    "values, int": (TypeError, "values", {"rows_values": lambda a: a.astype(int)}),
    "values, list": (TypeError, "values", {"rows_values": lambda a: a.tolist()}),
    "values, fewer": (ValueError, "indptr", {"rows_values": lambda a: a[:-1]}),
    "values, strided": (ValueError, "contiguous", {"rows_values": lambda a: np.repeat(a, 2)[::2]}),
    "columns, int64": (TypeError, "columns", {"rows_columns": lambda a: a.astype(np.int64)}),
    "columns, none ahead": (ValueError, "columns", {"rows_columns": lambda a: a[: -_layout.COLUMNS_AHEAD]}),
    "dense, too few": (ValueError, "dense rows", {"rows_columns": None}),
    "indptr, int32": (TypeError, "indptr", {"rows_indptr": lambda a: a.astype(np.int32)}),
    "indptr, list": (TypeError, "indptr", {"rows_indptr": lambda a: a.tolist()}),
    "labels, list": (TypeError, "labels", {"roles_labels": lambda a: a.tolist()}),
    "role, none": (TypeError, "role", {"roles_role": lambda a: None}),
    "train_scale, none": (TypeError, "train_scale", {"roles_train_scale": lambda a: None}),
    "val_scale, none": (TypeError, "val_scale", {"roles_val_scale": lambda a: None}),
    "duals, none": (TypeError, "duals", {"state_duals": lambda a: None}),
    "reference, none": (TypeError, "reference", {"state_reference": lambda a: None}),
    "unpenalized, list": (TypeError, "unpenalized", {"state_unpenalized": lambda a: a.tolist()}),
    "indptr, shifted": (ValueError, "indptr", {"rows_indptr": lambda a: a + 1}),
    "indptr, one row more": (ValueError, "labels", {"rows_indptr": lambda a: np.append(a, a[-1])}),
    "labels, int64": (TypeError, "labels", {"roles_labels": lambda a: a.astype(np.int64)}),
    "labels, one axis": (ValueError, "labels", {"roles_labels": lambda a: a[:, 0].copy()}),
    "labels, two columns": (ValueError, "labels", {"roles_labels": lambda a: np.repeat(a, 2, axis=1)}),
    "role, one split less": (ValueError, "role", {"roles_role": lambda a: a[:, :-1].copy()}),
    "role, bool": (TypeError, "role", {"roles_role": lambda a: a > 0}),
    "weights, float32": (TypeError, "weights", {"roles_weights": lambda a: a.astype(F32)}),
    "weights, fewer": (ValueError, "weights", {"roles_weights": lambda a: a[1:]}),
    "train_scale, transposed": (ValueError, "train_scale", {"roles_train_scale": lambda a: a.T.copy()}),
    "train_scale, Fortran": (ValueError, "contiguous", {"roles_train_scale": np.asfortranarray}),
    "val_scale, more": (ValueError, "val_scale", {"roles_val_scale": lambda a: np.append(a, 1.0)}),
    "outputs": (ValueError, "train_scale", {"problem_n_outputs": 3}),
    "splits": (ValueError, "role", {"problem_n_splits": 4}),
    "features": (ValueError, "table", {"rows_n_features": N_FEATURES + 1}),
    "table, narrower": (ValueError, "table", {"state_table": lambda a: a[:, :-1].copy()}),
    "table, other precision": (TypeError, "duals", {"state_table": lambda a: np.zeros((N_FEATURES + 1, 16), dtype=F32)}),
    "table, swapped": (TypeError, "table", {"state_table": lambda a: a.astype(">f8")}),
    "table, read-only": (ValueError, "read-only", {"state_table": lambda a: a.setflags(write=False) or a}),
    "duals, fewer rows": (ValueError, "duals", {"state_duals": lambda a: a[1:]}),
    "residuals, one column": (ValueError, "residuals", {"state_residuals": lambda a: a[:, :1].copy()}),
    "imbalance, no sides": (ValueError, "imbalance", {"state_imbalance": lambda a: a[:0]}),
    "imbalance, three sides": (ValueError, "imbalance", {"state_imbalance": lambda a: np.zeros((3, a.shape[1]))}),
    "unpenalized, int32": (TypeError, "unpenalized", {"state_unpenalized": lambda a: a.astype(np.int32)}),
    "unpenalized, beyond": (ValueError, "unpenalized", {"state_unpenalized": lambda a: a + N_FEATURES}),
    "unpenalized, negative": (ValueError, "unpenalized", {"state_unpenalized": lambda a: a - N_FEATURES}),
    "reference, fewer": (ValueError, "reference", {"state_reference": lambda a: a[:0]}),
}


@pytest.mark.parametrize("error, name, changes", WRONG.values(), ids=WRONG)
def test_arrays_that_do_not_fit_are_refused(error, name, changes):
    problem, state = broken(**changes)
    calls = {
        "advance": lambda: _dual.advance(problem, state, np.arange(2), 4),
        "evaluate": lambda: _dual.evaluate(problem, state, 0, 1),
        "rebuild": lambda: _dual.rebuild(problem, state, 0, 1),
        "rescale": lambda: _dual.rescale(problem, state, np.ones(problem.rows.n_features), 1.0),
        "contract": lambda: _dual.contract(problem, state),
    }
    for call in calls.values():
        with pytest.raises(error, match=name):
            call()


@pytest.mark.parametrize("blocks, block_size", [([-1], 4), ([10], 4), ([0, 37], 1), ([0], 0), ([0], -4), ([1], 2**62)])
def test_blocks_beyond_the_rows_are_refused(blocks, block_size):
    problem, state = broken()
    with pytest.raises(ValueError, match="blocks"):
        _dual.advance(problem, state, np.array(blocks, dtype=np.int64), block_size)


@pytest.mark.parametrize("start_, stop", [(-1, 3), (0, N_ROWS + 1), (3, 2)])
def test_ranges_beyond_the_rows_are_refused(start_, stop):
    problem, state = broken()
    for call in (_dual.evaluate, _dual.rebuild):
        with pytest.raises(ValueError, match="rows"):
            call(problem, state, start_, stop)


def test_penalties_and_sides_are_checked():
    problem, state = broken()
    with pytest.raises(ValueError, match="penalties"):
        _dual.rescale(problem, state, np.ones(N_FEATURES + 1), 1.0)
    with pytest.raises(ValueError, match="lower level alone"):
        _dual.contract(problem, start(problem, n_sides=1))


SGD_WRONG = {
    "split": ("split", {"split": N_SPLITS}),
    "split, negative": ("split", {"split": -1}),
    "table": ("table", {"table": lambda a: a[:-1]}),
    "weights": ("weights", {"weights": lambda a: a[1:]}),
    "rows": ("rows must be", {"rows": lambda a: a + N_ROWS}),
    "rows, negative": ("rows must be", {"rows": lambda a: a - N_ROWS}),
    "starts, decreasing": ("starts", {"starts": lambda a: a[::-1].copy()}),
    "starts, beyond": ("starts", {"starts": lambda a: a + 1}),
    "starts, fewer": ("starts", {"starts": lambda a: a[1:]}),
    "eta, increasing": ("increase", {"eta": lambda a: a[::-1].copy()}),
    "eta, not a number": ("increase", {"eta": lambda a: a * np.nan}),
    "proba without offset": ("offset", {"proba": np.zeros((N_ROWS, 1))}),
    "proba": ("proba", {"proba": np.zeros((N_ROWS, 2)), "offset": np.zeros((N_FEATURES + 1, 1))}),
    "offset": ("offset", {"proba": np.zeros((N_ROWS, 1)), "offset": np.zeros((N_FEATURES, 1))}),
}


@pytest.mark.parametrize("name, changes", SGD_WRONG.values(), ids=SGD_WRONG)
def test_steps_that_do_not_fit_are_refused(name, changes):
    problem = make()
    rows, starts, eta = steps_of()
    given = dict(
        split=0,
        table=sgd_table(problem, F64),
        weights=problem.roles.weights,
        rows=rows,
        starts=starts,
        eta=eta,
        proba=None,
        offset=None,
    )
    given = {
        key: changes[key](value) if callable(changes.get(key)) else changes.get(key, value) for key, value in given.items()
    }
    with pytest.raises(ValueError, match=name):
        _sgd.descend(problem, **given)


@pytest.mark.parametrize("step", [-7.0, 1e30, -1e30, np.nan])
def test_no_step_left_in_a_table_leads_out_of_it(step):
    problem = make()
    table, steps = sgd_table(problem, F64), steps_of()
    table[:, 2] = step
    _sgd.descend(problem, 0, table, problem.roles.weights, *steps)
    assert not table[:-1, 2].any()


@pytest.mark.parametrize("column", [-1, N_FEATURES])
def test_columns_out_of_range_are_refused(column):
    rows = make().rows
    _layout.check_rows(**vars(rows))
    rows.columns[3] = column
    with pytest.raises(ValueError, match=f"columns must be from 0 to 6, got {column}"):
        _layout.check_rows(**vars(rows))


@pytest.mark.parametrize("dense", [False, True])
def test_rows_that_overlap_are_refused(dense):
    rows = make(dense=dense).rows
    _layout.check_rows(**vars(rows))
    rows.indptr[3], rows.indptr[4] = rows.indptr[4] + 1, rows.indptr[3]
    with pytest.raises(ValueError, match="indptr must not decrease"):
        _layout.check_rows(**vars(rows))


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused(label):
    for per_split in (False, True):
        roles = make(3, per_split=per_split).roles
        _layout.check_roles(roles.labels, roles.role, 3)
        roles.labels[5] = label
        with pytest.raises(ValueError, match=f"labels must be from 0 to 2, got {label}"):
            _layout.check_roles(roles.labels, roles.role, 3)


@pytest.mark.parametrize("role", [-1, 3])
def test_roles_out_of_range_are_refused(role):
    roles = make().roles
    roles.role[5, 1] = role
    with pytest.raises(ValueError, match="role must be UNUSED, TRAIN or VALIDATION"):
        _layout.check_roles(roles.labels, roles.role, 2)
    with pytest.raises(ValueError, match="labels"):
        _layout.check_roles(np.zeros((N_ROWS, 2), dtype=np.int32), roles.role, 2)


def test_more_features_than_an_int32_counts_are_refused():
    indices = np.array([0, 2**31], dtype=np.int64)
    with pytest.raises(ValueError, match="2147483649 features"):
        _layout.as_columns(indices, 2**31 + 1)
    with pytest.raises(ValueError, match="n_features"):
        _layout.check_rows(np.ones(1), None, np.array([0, 1]), 2**31)
    assert _layout.as_columns(np.array([4, 2]), 5).tolist() == [4, 2] + [0] * _layout.COLUMNS_AHEAD


@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_row_of_the_table_is_whole_cache_lines(dtype):
    item = np.dtype(dtype).itemsize
    assert _layout.dual_width(1, dtype) == 2
    for n_used in range(2, 40):
        width = _layout.dual_width(n_used, dtype)
        assert width * item % _layout.CACHE_LINE == 0 and 0 <= width - n_used - 1 < _layout.CACHE_LINE // item
    assert (_layout.sgd_outputs(1), _layout.sgd_width(1)) == (1, 4)
    assert (_layout.sgd_outputs(7), _layout.sgd_width(7), _layout.sgd_width(6)) == (8, 16, 16)


def test_an_unknown_instruction_set_is_refused():
    for module in (_dual, _sgd):
        assert module.instruction_set() in module.INSTRUCTION_SETS
        with pytest.raises(ValueError, match="avx1024"):
            module.instruction_set("avx1024")
