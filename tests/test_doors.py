"""The doors of the house: what a newcomer may want to add, each opened by a few lines (see docs/contributing.rst)."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import central_differences, relative_error
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sksid import HypergradientSearchCV, hypergradient
from sksid._products import Products
from sksid.logistic import solve
from sksid.problem import VALIDATION, make_problem, problem_of
from sksid.rows import RowBlocks, lay_out
from sksid.solvers import BATCH, Aid, Dual, Sgd, check_supported
from sksid.structures import matrix

X, y = make_classification(150, 8, n_informative=5, flip_y=0.1, random_state=0)
SPARSE = sp.csr_array(np.where(np.abs(X) > 0.8, X, 0.0))
SPLITS = list(StratifiedKFold(3).split(X, y))
EXACT = Aid(tol=1e-12, first_tol=None)


def value_at(problem, log_penalties):
    """F at penalties of each feature, or of each split and feature."""
    state = EXACT.advance(problem, EXACT.init(problem, log_penalties))
    return EXACT.losses(problem, state).mean()


# ---- another penalty ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PseudoHuber:
    """Σ λ_j (√(1 + W_jc²) − 1): quadratic for small coefficients, and their absolute value for large ones."""

    def value(self, W, penalties):
        return penalties * (np.sqrt(1.0 + W**2) - 1.0)

    def gradient(self, W, penalties):
        return penalties * W / np.sqrt(1.0 + W**2)

    def curvature(self, W, penalties):
        return penalties * (1.0 + W**2) ** -1.5

    def inner(self, W, V):
        return W / np.sqrt(1.0 + W**2) * V


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("max_direct", [0, 1000], ids=["cg", "direct"])
def test_a_second_penalty_is_a_second_object(n_classes, max_direct):
    labels = y + (n_classes - 2) * (X[:, 0] > 0.5)
    problem = make_problem(X, labels, SPLITS, n_classes=n_classes, dtype=np.float64)
    problem = replace(problem, penalty=PseudoHuber())
    solver, log_penalties = Aid(tol=1e-12, max_direct=max_direct), np.linspace(-1.0, 2.0, 8)
    state, result = solve(problem, solver, solver.init(problem, log_penalties), rtol=1e-8)
    expected = central_differences(lambda logs: value_at(problem, logs), log_penalties, step=1e-4)
    assert result.converged
    assert relative_error(result.log_gradient, expected) <= 1e-6


@pytest.mark.parametrize("solver", [Dual(), Sgd()], ids=["dual", "sgd"])
def test_kernels_say_that_they_know_the_l2_penalty_only(solver):
    problem = replace(make_problem(X, y, SPLITS, n_classes=2), penalty=PseudoHuber())
    with pytest.raises(ValueError, match="the L2 penalty only. Use solver='aid'"):
        check_supported(solver, problem, np.zeros(8))


# ---- a label for each split: one class against the rest, in one pass --------------------------------------------------------


@pytest.mark.parametrize("data", [X, SPARSE], ids=["dense", "csr"])
@pytest.mark.parametrize(
    ("solver", "n_epochs"),
    [(EXACT, 1), (Dual(), 400), (Sgd(BATCH, BATCH, lower_epochs=3000, adjoint_epochs=1), 1)],
    ids=["aid", "dual", "batch"],
)
def test_splits_may_have_labels_of_their_own(solver, n_epochs, data):
    """Three tasks that share the rows and one split: each as if it were alone."""
    tasks = np.column_stack([y, X[:, 0] > 0.3, X[:, 1] + X[:, 2] > 0.0]).astype(int)
    rows, log_penalties = lay_out(data, SPLITS[:1]), np.zeros(8)
    together = problem_of(rows, tasks, SPLITS[:1] * 3, n_classes=2, fit_intercept=False)
    state = solver.advance(together, solver.init(together, log_penalties), n_epochs)
    for k, labels in enumerate(tasks.T):
        alone = problem_of(rows, labels, SPLITS[:1], n_classes=2, fit_intercept=False)
        exact = EXACT.advance(alone, EXACT.init(alone, log_penalties))
        np.testing.assert_allclose(solver.losses(together, state, together)[k], EXACT.losses(alone, exact)[0], rtol=1e-6)
        np.testing.assert_allclose(
            solver.coefficients(together, state)[0][k], EXACT.coefficients(alone, exact)[0][0], atol=1e-6
        )


# ---- rows in blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [X, SPARSE], ids=["dense", "csr"])
def test_rows_may_be_a_list_of_blocks(data):
    rows = lay_out(data, SPLITS)
    blocks = RowBlocks((rows.span(0, 40), rows.span(40, 41), rows.span(41, 150)))
    W, R = np.random.default_rng(0).standard_normal((8, 2)), np.random.default_rng(1).standard_normal((150, 2))
    for ask in (
        lambda those: those.outputs(W),
        lambda those: those.pull(R),
        lambda those: Products(those, 2).outputs(W.T),
        lambda those: Products(those, 2).pull(R.T),
        lambda those: Products(those, 2).pull_squares(R.T),
        lambda those: Products(those, 2).gram(R.T),
        lambda those: those.mean_squares(R[:, 0]),
        lambda those: those.squared_norms,
        lambda those: those.samples,
        lambda those: those.take(np.array([3, 40, 149])).outputs(W),
    ):
        np.testing.assert_allclose(ask(blocks), ask(rows), rtol=1e-12, atol=1e-12)
    assert (blocks.n_rows, blocks.n_features, blocks.n_entries) == (rows.n_rows, rows.n_features, rows.n_entries)
    results = [
        solve(problem, EXACT, EXACT.init(problem, np.zeros(8)), rtol=1e-8)[1]
        for problem in (problem_of(those, y, SPLITS, n_classes=2) for those in (rows, blocks))
    ]
    np.testing.assert_allclose(results[0].log_gradient, results[1].log_gradient, rtol=1e-9, atol=1e-12)


# ---- penalties that differ by split -----------------------------------------------------------------------------------------


def evidence(rows):
    """A column for each split, from its training rows alone: the log of 1 + n times the squared correlation with the labels."""
    correlation = np.array([np.corrcoef(column, y[rows])[0, 1] for column in X[rows].T])
    return np.column_stack([np.ones(8), -np.log1p(rows.size * correlation**2)])


def test_a_structure_may_have_a_matrix_for_each_split():
    structure = matrix(evidence(np.arange(150)), per_split=[evidence(train) for train, _ in SPLITS])
    theta = np.array([1.0, 0.7])
    problem = make_problem(X, y, SPLITS, n_classes=2, dtype=np.float64)
    log_penalties = structure.change(theta)
    assert log_penalties.shape == (3, 8)
    assert structure.for_refit.change(theta).shape == (8,)
    result = hypergradient(X, y, SPLITS, log_penalties, structure=structure, solver=EXACT)
    expected = central_differences(lambda theta: value_at(problem, structure.change(theta)), theta, step=1e-4)
    assert result.gradient.shape == (3, 8)
    assert relative_error(result.theta_gradient, expected) <= 1e-6


def test_a_matrix_for_each_split_meets_preprocessing_of_each_split():
    """A step that is fitted for each split and changes nothing: the same search as without it."""
    per_split = [evidence(train) for train, _ in SPLITS]
    structure = matrix(evidence(np.arange(150)), per_split=per_split)
    settings = {"structure": structure, "solver": EXACT, "cv": SPLITS, "max_iter": 5}
    own = HypergradientSearchCV(make_pipeline(FunctionTransformer(np.asarray), LogisticRegression()), **settings).fit(X, y)
    shared = HypergradientSearchCV(LogisticRegression(), **settings).fit(X, y)
    np.testing.assert_allclose(own.theta_, shared.theta_, atol=1e-6)
    np.testing.assert_allclose(own.best_estimator_[-1].coef_, shared.best_estimator_.coef_, atol=1e-6)


def test_other_solvers_say_that_penalties_are_the_same_in_all_splits():
    with pytest.raises(ValueError, match="log_penalties: Sgd takes the same penalties for all splits only. Use solver='dual'"):
        hypergradient(X, y, SPLITS, np.zeros((3, 8)), solver="sgd")


# ---- roles ------------------------------------------------------------------------------------------------------------------


def test_splits_held_out_rows_and_the_final_fit_are_roles_over_the_same_rows():
    held_out, nothing = np.arange(0, 150, 5), np.arange(0)
    splits = [(np.setdiff1d(train, held_out), np.setdiff1d(val, held_out)) for train, val in SPLITS]
    rows = lay_out(SPARSE, splits)
    search = problem_of(rows, y, splits, n_classes=2)
    judged = problem_of(rows, y, [(nothing, held_out)] * 3, n_classes=2)
    final = problem_of(rows, y, [(np.arange(150), nothing)], n_classes=2)
    assert (search.n_rows, judged.n_rows, final.n_rows) == (120, 30, 150)
    for problem in (search, judged, final):
        assert np.shares_memory(problem.rows.values, rows.values)
        assert np.shares_memory(problem.rows.columns, rows.columns)
        np.testing.assert_array_equal(problem.rows.matrix.toarray(), SPARSE.toarray()[problem.rows.samples])
    assert sorted(judged.rows.samples) == held_out.tolist()
    assert (judged.roles.role == VALIDATION).all()
    assert not final.has_validation
    assert not set(search.rows.samples) & set(held_out)
