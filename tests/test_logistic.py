"""The hypergradient against finite differences of the whole map θ → F, and the value against scikit-learn's models."""

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import central_differences, fit_reference, relative_error, split_losses
from scipy.special import log_softmax, softmax
from sklearn.datasets import make_classification
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold

from sksid import hypergradient
from sksid._features import make_structure
from sksid.logistic import solve
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual

N_FEATURES = 12
STRUCTURES = {
    "shared": "shared",
    "groups": np.repeat(["a", "b", "c"], 4),
    "per_feature": "per_feature",
    "matrix": np.column_stack([np.ones(N_FEATURES), np.linspace(-1, 1, N_FEATURES)]),
}
LOG_PENALTIES = np.linspace(0.0, 4.0, N_FEATURES)


def blobs(n_classes, sparse=False, n_samples=300):
    X, y = make_classification(
        n_samples, N_FEATURES, n_informative=6, n_redundant=2, n_classes=n_classes, flip_y=0.1, random_state=3
    )
    if sparse:
        X = sp.csr_array(np.where(np.abs(X) > 1.0, X, 0.0))
    return X, y


def folds(X, y):
    return list(StratifiedKFold(3).split(X, y))


def random_weights(n_samples):
    return np.random.RandomState(0).uniform(0.2, 3.0, n_samples)


@pytest.mark.parametrize("storage", ["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "no_intercept"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", STRUCTURES)
def test_hypergradient_is_the_derivative_of_the_cross_validated_loss(name, n_classes, fit_intercept, weighted, storage):
    X, y = blobs(n_classes, sparse=storage == "sparse")
    splits, weights = folds(X, y), random_weights(len(y)) if weighted else None
    structure = make_structure(STRUCTURES[name], X)
    offset = LOG_PENALTIES if name in ("per_feature", "matrix") else np.full(N_FEATURES, 0.7)

    def value(theta):
        log_penalties = offset + structure.change(theta)
        return split_losses(X, y, splits, log_penalties, weights, fit_intercept).mean()

    result = hypergradient(X, y, splits, offset, sample_weight=weights, fit_intercept=fit_intercept)
    expected = central_differences(value, np.zeros(structure.n_params))
    assert result.converged
    assert relative_error(structure.pull_back(result.gradient), expected) <= 1e-3


@pytest.mark.parametrize("solver", [Dual(), Aid(), Aid(max_direct=0)], ids=["dual", "direct", "cg"])
def test_every_solver_gives_the_derivative(solver, cancer):
    X, y = cancer
    splits = folds(X, y)
    result = hypergradient(X, y, splits, 1.0, solver=solver, tol=1e-5)
    expected = central_differences(lambda theta: split_losses(X, y, splits, theta[0]).mean(), np.ones(1))
    assert relative_error([result.gradient.sum()], expected) <= 1e-3


@pytest.mark.parametrize("n_classes", [2, 4])
def test_value_losses_and_coefficients_are_those_of_scikit_learn(n_classes):
    X, y = blobs(n_classes)
    splits, weights = folds(X, y), random_weights(len(y))
    result = hypergradient(X, y, splits, LOG_PENALTIES, sample_weight=weights, tol=1e-6)
    np.testing.assert_allclose(result.losses, split_losses(X, y, splits, LOG_PENALTIES, weights), rtol=1e-5)
    assert result.value == pytest.approx(result.losses.mean(), rel=1e-14)
    for k, (train, _) in enumerate(splits):
        model, factors = fit_reference(X[train], y[train], LOG_PENALTIES, weights[train])
        np.testing.assert_allclose(result.coef[k], model.coef_ * factors, atol=1e-5)
        np.testing.assert_allclose(result.intercept[k], model.intercept_, atol=1e-5)


def test_gradient_is_made_of_coefficients_and_adjoint():
    X, y = blobs(4)
    result = hypergradient(X, y, folds(X, y), LOG_PENALTIES)
    products = np.einsum("kcj,kcj->kj", result.coef, result.adjoint).mean(axis=0)
    np.testing.assert_allclose(result.gradient, -np.exp(LOG_PENALTIES) * products, rtol=1e-12)


def test_adjoint_solves_the_system_of_the_hessian():
    X, y = blobs(4)
    (train, val), *_ = splits = folds(X, y)
    result = hypergradient(X, y, splits, LOG_PENALTIES, tol=1e-6)
    W, b, V, v = result.coef[0], result.intercept[0], result.adjoint[0], result.adjoint_intercept[0]
    P, T = softmax(X[train] @ W.T + b, axis=1), X[train] @ V.T + v
    DT = P * (T - (P * T).sum(axis=1, keepdims=True))
    right = (softmax(X[val] @ W.T + b, axis=1) - np.eye(4)[y[val]]) / len(val)
    np.testing.assert_allclose(DT.T @ X[train] + np.exp(LOG_PENALTIES) * V, right.T @ X[val], atol=1e-5)
    np.testing.assert_allclose(DT.sum(axis=0), right.sum(axis=0), atol=1e-5)


@pytest.mark.parametrize("solver", [Dual(), Aid()], ids=["dual", "direct"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_weights_count_like_repeated_rows(n_classes, solver):
    X, y = blobs(n_classes, n_samples=200)
    times = np.random.RandomState(1).randint(0, 4, len(y))
    splits = folds(X, y)
    position = np.arange(len(y)).repeat(times)
    repeated = [(np.flatnonzero(np.isin(position, train)), np.flatnonzero(np.isin(position, val))) for train, val in splits]
    weighted = hypergradient(X, y, splits, LOG_PENALTIES + 2.0, sample_weight=times, solver=solver, tol=1e-6)
    plain = hypergradient(X[position], y[position], repeated, LOG_PENALTIES + 2.0, solver=solver, tol=1e-6)
    assert weighted.converged
    assert plain.converged
    assert weighted.value == pytest.approx(plain.value, rel=1e-6)
    assert relative_error(weighted.gradient, plain.gradient) <= 1e-4


def test_error_estimate_bounds_the_true_error_within_a_factor_of_three(cancer):
    X, y = cancer
    splits = folds(X, y)
    exact = hypergradient(X, y, splits, 1.0, solver=Aid(), tol=1e-10).gradient
    for tol in (0.1, 1e-2, 1e-3, 1e-4):
        result = hypergradient(X, y, splits, 1.0, tol=tol)
        assert result.converged
        assert result.error <= tol * np.abs(result.gradient).max()
        assert np.abs(result.gradient - exact).max() <= 3 * tol * np.abs(exact).max()


def test_result_says_when_the_epochs_ran_out(cancer):
    X, y = cancer
    result = hypergradient(X, y, folds(X, y), -10.0, max_epochs=3)
    assert not result.converged
    assert result.n_epochs >= 3
    assert np.isfinite(result.gradient).all()


def test_projection_decides_what_is_converged(cancer):
    X, y = cancer
    problem = make_problem(X, y, folds(X, y), n_classes=2, dtype=np.float64)
    structure, solver = make_structure("shared", X), Aid(tol=1e-12)
    _, estimate = solve(
        problem, solver, solver.init(problem, np.zeros(30)), rtol=1e-8, max_epochs=50, project=structure.pull_back
    )
    assert estimate.converged
    assert estimate.error <= 1e-8 * abs(estimate.log_gradient.sum())


def test_labels_may_be_strings_and_splits_a_generator():
    X, y = blobs(4)
    names = np.array(["north", "east", "south", "west"])
    codes = np.unique(names[y], return_inverse=True)[1]
    by_name = hypergradient(X, names[y], StratifiedKFold(3).split(X, y), 0.0)
    by_code = hypergradient(X, codes, folds(X, y), 0.0)
    np.testing.assert_array_equal(by_name.gradient, by_code.gradient)


def test_random_state_alone_decides():
    X, y = blobs(2)
    one, two, other = (hypergradient(X, y, folds(X, y), 0.0, random_state=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.gradient, two.gradient)
    assert not np.array_equal(one.gradient, other.gradient)
    assert relative_error(other.gradient, one.gradient) <= 1e-3


def test_weak_signal_at_the_prior():
    """With a penalty that leaves W = 0, F is the loss of the class frequencies and its gradient vanishes."""
    X, y = blobs(4)
    splits = folds(X, y)
    result = hypergradient(X, y, splits, 18.0)
    frequencies = [np.log(np.bincount(y[train]) / len(train)) for train, _ in splits]
    expected = [-log_softmax(f)[y[val]].mean() for f, (_, val) in zip(frequencies, splits, strict=True)]
    np.testing.assert_allclose(result.losses, expected, rtol=1e-4)
    assert np.abs(result.gradient).max() <= 1e-5


def replaced(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: {"X": replaced(X, (3, 2), np.nan)}, "NaN"),
        (lambda X, y: {"X": replaced(X, (3, 2), np.inf)}, "infinity"),
        (lambda X, y: {"y": y[:-1]}, "inconsistent numbers of samples"),
        (lambda X, y: {"y": np.zeros_like(y)}, "one class"),
        (lambda X, y: {"splits": []}, "cv gave no split"),
        (lambda X, y: {"splits": [(np.flatnonzero(y == 0), np.arange(9))]}, "split 0 has no training row.* of class 1"),
        (lambda X, y: {"splits": [(np.arange(300), np.arange(0))]}, "split 0 has no validation row"),
        (lambda X, y: {"sample_weight": -np.ones(300)}, "[Nn]egative"),
        (lambda X, y: {"sample_weight": (y == 0).astype(float)}, "class 1.* sample_weight"),
        (lambda X, y: {"sample_weight": np.ones(299)}, "sample_weight"),
        (lambda X, y: {"log_penalties": np.full(12, np.nan)}, "log_penalties must be numbers"),
        (lambda X, y: {"log_penalties": np.zeros(11)}, "12"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    X, y = blobs(2)
    arguments = {"X": X, "y": y, "splits": list(KFold(3).split(X)), "log_penalties": 0.0}
    with pytest.raises(ValueError, match=message):
        hypergradient(**{**arguments, **change(X, y)})


def test_splits_may_overlap_and_leave_rows_out():
    X, y = blobs(2)
    splits = list(ShuffleSplit(4, test_size=0.2, train_size=0.5, random_state=0).split(X))
    result = hypergradient(X, y, splits, 0.0, tol=1e-6)
    np.testing.assert_allclose(result.losses, split_losses(X, y, splits, 0.0), rtol=1e-5)
