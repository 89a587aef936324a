"""Problems side by side: what one solver makes of each is what it makes of all, whatever the threads."""

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import central_differences, fit_from_splits, relative_error, solve_directly, split_losses
from sklearn.model_selection import StratifiedKFold

from sksid import joint
from sksid.joint import Joint, groups_of_splits, in_groups
from sksid.logistic import solve
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual, Together, _together

SPLITS = 3
every_solver = pytest.mark.parametrize("solver", [Dual(), Aid(tol=1e-10)], ids=["dual", "aid"])


@pytest.fixture
def some(cancer):
    """60 rows in three splits, eight features."""
    X, y = cancer
    X, y = X[:60, :8], y[:60]
    return X, y, list(StratifiedKFold(SPLITS).split(X, y))


def one_part_a_split(X, y, splits, columns, n_features):
    parts = [
        make_problem(X if own is None else X[:, np.argsort(own)], y, [split], n_classes=2, dtype=np.float64, seed=k)
        for k, (split, own) in enumerate(zip(splits, columns, strict=True))
    ]
    return Joint(tuple(parts), tuple(None if own is None else np.sort(own) for own in columns), n_features)


def settled(solver, problem, log_penalties):
    state = solver.init(problem, log_penalties, seed=0)
    return solve(problem, solver, state, rtol=1e-6, max_epochs=2000)


@every_solver
def test_parts_with_the_same_features_make_the_joint_solution(solver, some):
    X, y, splits = some
    log_penalties = np.linspace(-1.0, 1.0, 8)
    whole = make_problem(X, y, splits, n_classes=2, dtype=np.float64)
    parts = one_part_a_split(X, y, splits, [None] * SPLITS, 8)
    _, one = settled(solver, whole, log_penalties)
    state, other = settled(Together(solver), parts, log_penalties)
    np.testing.assert_allclose(other.losses, one.losses, rtol=1e-5)
    assert relative_error(other.log_gradient, one.log_gradient) <= 1e-4
    own = Together(solver).losses(parts, state, parts)
    np.testing.assert_allclose(own, one.losses, rtol=1e-5)


@every_solver
def test_a_feature_that_a_part_lacks_is_moved_by_the_others_only(solver, some):
    """Each split has two features that no other has: the gradient is that of the loss in all, by finite differences."""
    X, y, splits = some
    columns = [np.array([0, 1, 2 + 2 * k, 3 + 2 * k]) for k in range(SPLITS)]
    parts = []
    for split, own in zip(splits, columns, strict=True):
        parts.append(make_problem(X[:, own], y, [split], n_classes=2, dtype=np.float64))
    joint = Joint(tuple(parts), tuple(columns), 8)

    def value(log_penalties):
        pairs = zip(splits, columns, strict=True)
        return np.mean([split_losses(X[:, own], y, [split], log_penalties[own])[0] for split, own in pairs])

    theta = np.linspace(-1.0, 1.0, 8)
    state, estimate = settled(Together(solver), joint, theta)
    assert estimate.value == pytest.approx(value(theta), rel=1e-4)
    assert relative_error(estimate.log_gradient, central_differences(value, theta)) <= 1e-3
    coef, intercept = Together(solver).coefficients(joint, state)
    assert [W.shape for W in coef] == [(1, 4)] * SPLITS
    assert [b.shape for b in intercept] == [(1,)] * SPLITS


@every_solver
def test_threads_change_no_bit(solver, some, monkeypatch):
    monkeypatch.setattr(_together, "WORK_FOR_A_THREAD", 0.0)
    X, y, splits = some
    joint = one_part_a_split(X, y, splits, [None] * SPLITS, 8)
    results = []
    for n_jobs in (1, 2):
        together = Together(solver, n_jobs=n_jobs)
        state = together.init(joint, np.zeros(8), seed=3)
        for penalty in (0.0, -1.0, 0.5):
            state = together.rescale(joint, state, np.full(8, penalty))
            state = together.advance(joint, state, 2.0)
        results.append((together.log_gradient(joint, state), together.losses(joint, state)))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("n_jobs", [2, 3, 5])
@pytest.mark.parametrize("fit_intercept, weighted", [(True, False), (False, True)])
@pytest.mark.parametrize("make_rows", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_groups_of_splits_in_any_number_of_threads(n_classes, make_rows, fit_intercept, weighted, n_jobs, digits, monkeypatch):
    monkeypatch.setattr(_together, "WORK_FOR_A_THREAD", 0.0)
    X, y = digits[0][:150], digits[1][:150] % n_classes
    weights = np.random.RandomState(0).uniform(0.5, 2.0, y.size) if weighted else None
    splits = list(StratifiedKFold(5).split(X, y))
    settings = {"n_classes": n_classes, "fit_intercept": fit_intercept, "sample_weight": weights, "dtype": np.float32}
    parts = in_groups(make_problem(make_rows(X), y, splits, **settings), np.array_split(np.arange(5), 4))
    found = []
    for threads in (1, n_jobs):
        together = Together(Dual(), threads)
        state = together.advance(parts, together.init(parts, np.zeros(X.shape[1]), seed=1), 1.5)
        state = together.advance(parts, together.rescale(parts, state, np.full(X.shape[1], 1.0)), 2.0)
        ends = together.log_gradient(parts, state), together.losses(parts, state), together.losses(parts, state, parts)
        found.append((*ends, *together.coefficients(parts, state)[0]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "n_classes, n_splits, sizes",
    [(2, 5, [5]), (2, 10, [5, 5]), (3, 5, [5]), (10, 5, [3, 2]), (20, 5, [3, 2]), (39, 5, [2, 1, 1, 1]), (150, 5, [1] * 5)],
)
def test_groups_are_as_small_as_cost_one_thread_little(n_classes, n_splits, sizes, monkeypatch):
    y = np.arange(4 * n_classes) % n_classes
    splits = [(np.arange(2 * n_classes), np.arange(2 * n_classes, y.size))] * n_splits
    problem = make_problem(np.ones((y.size, 1)), y, splits, n_classes=n_classes)
    assert len(groups_of_splits(problem)) == 1  # little work
    monkeypatch.setattr(joint, "WORK_FOR_GROUPS", 0.0)
    groups = groups_of_splits(problem)
    assert [group.size for group in groups] == sizes
    assert np.concatenate(groups).tolist() == list(range(n_splits))
    assert len(groups_of_splits(Joint((problem,), (None,), 1))) == 1


def test_little_work_is_not_given_to_threads(some):
    X, y, splits = some
    joint = one_part_a_split(X, y, splits, [None] * SPLITS, 8)
    assert not Together(Dual(), n_jobs=2)._pays(joint, 1.0)


@every_solver
def test_the_refit_is_one_fit_on_all_rows(solver, some):
    X, y, splits = some
    joint = one_part_a_split(X, y, splits, [None] * SPLITS, 8)
    everything = np.arange(60)
    problem = make_problem(X, y, [(everything, everything[:0])], n_classes=2, dtype=np.float64)
    state, _ = settled(Together(solver), joint, np.zeros(8))
    coef, intercept, result = fit_from_splits(Together(solver), problem, joint, state, np.zeros(8), 1e-8, max_epochs=2000)
    model_coef, model_intercept = solve_directly(problem, np.zeros(8))
    assert result.converged
    np.testing.assert_allclose(coef, model_coef, atol=1e-5)
    np.testing.assert_allclose(intercept, model_intercept, atol=1e-5)


def test_precision_and_sizes_are_those_of_the_parts(some):
    X, y, splits = some
    joint = one_part_a_split(X, y, splits, [None] * SPLITS, 8)
    assert (joint.n_splits, joint.n_outputs, joint.n_rows) == (SPLITS, 1, 60)
    single = joint.astype(np.float32)
    assert single.dtype == np.float32
    together = Together(Dual())
    state = together.advance(single, together.init(single, np.zeros(8)))
    state = together.rescale(joint, state, np.zeros(8))
    assert {own.table.dtype.name for own in state.states} == {"float64"}
    V, v = together.adjoint(joint, state)
    assert len(V) == len(v) == SPLITS
