"""Rows in visiting order, with their roles, weights and storage."""

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import relative_error, split_losses
from sklearn.datasets import make_classification
from sklearn.model_selection import KFold, StratifiedKFold
from sksid._kernels._layout import COLUMNS_AHEAD

from sksid import hypergradient
from sksid.problem import TRAIN, UNUSED, VALIDATION, make_problem

X, y = make_classification(120, 10, n_informative=5, flip_y=0.1, random_state=0)
SPARSE = sp.csr_array(np.where(np.abs(X) > 1.2, X, 0.0))
FOLDS = list(StratifiedKFold(3).split(X, y))


def lay_out(data=X, splits=FOLDS, **settings):
    return make_problem(data, y, splits, **{"n_classes": 2, "dtype": np.float64, **settings})


def dense_rows(problem):
    return problem.rows.matrix.toarray() if sp.issparse(problem.rows.matrix) else problem.rows.matrix


def parts(problem, split, role):
    """The samples with a role in a split, sorted, as often as they have it."""
    return np.sort(problem.rows.samples[problem.roles.role[:, split] == role])


# ---- roles --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "splits",
    [
        FOLDS,
        [(np.arange(0, 50), np.arange(60, 90)), (np.arange(40, 100), np.arange(0, 10))],
        [(np.arange(0, 80), np.arange(30, 110))],
        [(np.array([5, 5, 5, 7, 8]), np.array([7, 9])), (np.array([7]), np.array([5, 5, 9]))],
        [(np.random.RandomState(k).randint(0, 120, 120), np.arange(k, 120, 7)) for k in range(4)],
        [(np.arange(50), np.arange(0))],
    ],
    ids=["folds", "overlapping_splits", "both_roles", "repeated", "bootstrap", "no_validation"],
)
def test_every_sample_has_its_parts_as_often_as_it_was_drawn(splits):
    problem = lay_out(splits=splits)
    for k, (train, val) in enumerate(splits):
        np.testing.assert_array_equal(parts(problem, k, TRAIN), np.sort(train))
        np.testing.assert_array_equal(parts(problem, k, VALIDATION), np.sort(val))
    np.testing.assert_array_equal(dense_rows(problem), X[problem.rows.samples])
    np.testing.assert_array_equal(problem.roles.labels[:, 0], y[problem.rows.samples])
    assert (problem.roles.role != UNUSED).any(axis=1).all()


def test_folds_need_no_copies_and_unused_rows_no_place():
    assert lay_out().n_rows == 120
    np.testing.assert_array_equal(np.sort(lay_out().rows.samples), np.arange(120))
    assert lay_out(splits=[(np.arange(10), np.arange(20, 30))]).n_rows == 20
    assert lay_out(splits=[(np.array([3, 3]), np.array([3]))]).n_rows == 3


def test_a_bootstrap_gives_the_loss_of_repeated_rows():
    random = np.random.RandomState(1)
    splits = [(random.randint(0, 120, 120), np.arange(k, 120, 3)) for k in range(3)]
    result = hypergradient(X, y, splits, 1.0, tol=1e-6)
    np.testing.assert_allclose(result.losses, split_losses(X, y, splits, 1.0), rtol=1e-5)


def test_rows_may_validate_what_they_have_trained():
    everything = np.arange(120)
    result = hypergradient(X, y, [(everything, everything)], 1.0, tol=1e-6)
    np.testing.assert_allclose(result.losses, split_losses(X, y, [(everything, everything)], 1.0), rtol=1e-5)
    assert result.gradient.sum() > 0


def test_the_seed_shuffles_the_rows_and_nothing_else():
    one, same, other = (lay_out(seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.rows.samples, same.rows.samples)
    assert not np.array_equal(one.rows.samples, other.rows.samples)
    assert not np.array_equal(one.rows.samples, np.arange(120))


# ---- weights ------------------------------------------------------------------------------------------------------------


def test_weights_follow_their_rows_and_sum_to_one_in_validation():
    weights = np.random.RandomState(0).uniform(0, 2, 120)
    scale = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    problem = lay_out(sample_weight=weights, train_scale=scale)
    for k, (train, _) in enumerate(FOLDS):
        role = problem.roles.role[:, k]
        expected = np.where(role == TRAIN, weights[problem.rows.samples] * scale[y[problem.rows.samples], k], 0.0)
        np.testing.assert_allclose(problem.roles.train_weights(k), expected, rtol=1e-15)
        assert problem.roles.val_weights(k).sum() == pytest.approx(1.0, rel=1e-14)
        assert not problem.roles.val_weights(k)[role != VALIDATION].any()
        assert problem.train_totals[k] == pytest.approx((weights * scale[y, k])[train].sum(), rel=1e-14)


def test_a_split_without_validation_weight_has_a_scale_of_zero():
    problem = lay_out(splits=[(np.arange(50), np.arange(0))])
    assert problem.roles.val_scale.tolist() == [0.0]


def test_class_weights_leave_the_upper_level_alone():
    problem = lay_out(train_scale=np.array([[7.0] * 3, [9.0] * 3]))
    np.testing.assert_array_equal(problem.roles.val_weights(0), lay_out().roles.val_weights(0))


# ---- storage ------------------------------------------------------------------------------------------------------------


def test_storage_is_chosen_by_the_share_of_non_zeros():
    assert lay_out().rows.columns is None
    assert lay_out(SPARSE).rows.columns is not None
    assert lay_out(np.where(X > 2.5, X, 0.0)).rows.columns is not None
    np.testing.assert_array_equal(dense_rows(lay_out(SPARSE)), SPARSE.toarray()[lay_out(SPARSE).rows.samples])


def unsorted(array):
    """The same CSR array with each row's entries in reverse, and a stored zero and a halved duplicate in each."""
    rows = [sp.csr_array(array[[i]]) for i in range(array.shape[0])]
    indices = [np.r_[row.indices[::-1], row.indices, 0] for row in rows]
    data = [np.r_[row.data[::-1] / 2, row.data / 2, 0.0] for row in rows]
    indptr = np.cumsum([0, *map(len, data)])
    made = sp.csr_array((np.concatenate(data), np.concatenate(indices), indptr), shape=array.shape)
    assert not made.has_canonical_format
    return made


def wide_indices(array):
    made = array.copy()
    made.indices, made.indptr = made.indices.astype(np.int64), made.indptr.astype(np.int64)
    return made


@pytest.mark.parametrize(
    "change",
    [unsorted, wide_indices, sp.csc_array, sp.coo_array, sp.lil_array, sp.csr_matrix, sp.csc_matrix, sp.coo_matrix],
    ids=lambda change: change.__name__,
)
def test_any_sparse_storage_makes_the_same_rows(change):
    changed = change(SPARSE)
    before = changed.copy()
    plain, problem = lay_out(SPARSE), lay_out(changed)
    np.testing.assert_allclose(dense_rows(problem), dense_rows(plain), rtol=1e-15)
    assert (problem.rows.columns.dtype, problem.rows.indptr.dtype) == (np.int32, np.int64)
    assert problem.rows.columns.size == problem.rows.values.size + COLUMNS_AHEAD
    assert problem.rows.matrix.has_canonical_format
    assert (changed != before).nnz == 0


@pytest.mark.parametrize("change", [unsorted, wide_indices, np.asfortranarray, lambda a: a.toarray()[::1]], ids=range(4))
def test_the_hypergradient_does_not_depend_on_the_storage(change):
    expected = hypergradient(SPARSE, y, FOLDS, 1.0, tol=1e-6).gradient
    changed = change(SPARSE.toarray() if change is np.asfortranarray else SPARSE)
    assert relative_error(hypergradient(changed, y, FOLDS, 1.0, tol=1e-6).gradient, expected) <= 1e-6


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
def test_read_only_memory_is_enough(sparse, tmp_path):
    """As joblib hands arrays over to its workers."""
    data = {"X": SPARSE.data if sparse else X, "y": y, "w": np.linspace(0.5, 1.5, 120)}
    for name, array in data.items():
        np.save(tmp_path / f"{name}.npy", array)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in data}
    assert not mapped["X"].flags.writeable
    splits = [(train.copy(), val.copy()) for train, val in FOLDS]
    for array in [part for split in splits for part in split]:
        array.flags.writeable = False
    given = sp.csr_array((mapped["X"], SPARSE.indices, SPARSE.indptr), shape=SPARSE.shape) if sparse else mapped["X"]
    result = hypergradient(given, mapped["y"], splits, 1.0, sample_weight=mapped["w"])
    expected = hypergradient(SPARSE if sparse else X, y, FOLDS, 1.0, sample_weight=data["w"])
    np.testing.assert_array_equal(result.gradient, expected.gradient)


@pytest.mark.parametrize("data", [X, SPARSE], ids=["dense", "csr"])
def test_rows_keep_their_precision_whatever_that_of_the_solve(data):
    for given in (np.float32, np.float64):
        problem = lay_out(data.astype(given))
        assert problem.rows.dtype == given
        single = problem.astype(np.float32)
        assert (problem.dtype, single.dtype) == (np.float64, np.float32)
        assert single.rows is problem.rows
        assert problem.astype(np.float64) is problem


def test_outputs_are_one_for_two_classes():
    assert lay_out().n_outputs == 1
    three = make_problem(X, np.arange(120) % 3, list(KFold(4).split(X)), n_classes=3)
    assert (three.n_outputs, three.n_splits, three.n_features, three.dtype) == (3, 4, 10, np.float32)
