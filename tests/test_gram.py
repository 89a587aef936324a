"""Gram matrices of sparse rows, summed pair by pair, and their products with vectors, in every variant of the kernel."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from sksid._kernels import _gram


@pytest.fixture(params=_gram.INSTRUCTION_SETS, autouse=True)
def instruction_set(request):
    before = _gram.instruction_set()
    assert _gram.instruction_set(request.param) == request.param
    yield
    _gram.instruction_set(before)


def arrays(n_matrices=3, n_rows=40, n_features=9, dtype=np.float64):
    """Rows of which some are empty, and weights of which some are zero."""
    random = np.random.RandomState(n_matrices)
    X = random.standard_normal((n_rows, n_features)) * (random.random_sample((n_rows, n_features)) < 0.3)
    X = sp.csr_array(X)
    weights = random.standard_normal((n_matrices, n_rows)) * (random.random_sample(n_rows) < 0.8)
    return {
        "values": X.data.astype(dtype),
        "columns": X.indices.astype(np.int32),
        "indptr": X.indptr.astype(np.int64),
        "n_features": n_features,
        "weights": weights,
    }


def entries(given):
    return _gram.Entries(*(given[name] for name in ("values", "columns", "indptr", "n_features")))


def grams(weights, **given):
    return entries(given).grams(weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_matrices", [1, 5, 8, 9, 20])
def test_the_matrices_are_those_of_numpy(n_matrices, dtype):
    given = arrays(n_matrices, dtype=dtype)
    X = sp.csr_array((given["values"].astype(float), given["columns"], given["indptr"]), shape=(40, 9)).toarray()
    X = np.column_stack([X, np.ones(40)])
    expected = np.array([(X.T * c) @ X for c in given["weights"]])
    np.testing.assert_allclose(grams(**given), expected, rtol=1e-13, atol=1e-13)
    vectors = np.random.RandomState(0).standard_normal((n_matrices, 10))
    products = np.einsum("kij,kj->ki", expected, vectors)
    np.testing.assert_allclose(entries(given).products(given["weights"], vectors), products, rtol=1e-12, atol=1e-12)


def test_the_order_of_a_rows_entries_does_not_matter():
    given = arrays()
    backwards = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(given["indptr"], given["indptr"][1:], strict=False)])
    turned = given | {"values": given["values"][backwards], "columns": given["columns"][backwards]}
    np.testing.assert_allclose(grams(**turned), grams(**given), rtol=1e-13, atol=1e-13)


def test_entries_can_be_sent_to_another_process():
    given = arrays()
    sent = pickle.loads(pickle.dumps(entries(given)))
    np.testing.assert_array_equal(sent.grams(given["weights"]), grams(**given))


def test_no_rows_make_zeros():
    empty = _gram.Entries(np.empty(0), np.empty(0, np.int32), np.zeros(1, np.int64), 3)
    np.testing.assert_array_equal(empty.grams(np.empty((2, 0))), np.zeros((2, 4, 4)))
    np.testing.assert_array_equal(empty.products(np.empty((2, 0)), np.ones((2, 4))), np.zeros((2, 4)))


WRONG = {
    "values must be": {"values": lambda a: a.astype(int)},
    "columns must have the shape": {"columns": lambda a: a[1:]},
    "columns must be an array of int32": {"columns": lambda a: a.astype(np.int64)},
    "columns must be from 0 to 8": {"columns": lambda a: a + 8},
    "columns must be from": {"columns": lambda a: a - 1},
    "indptr must be an array of int64": {"indptr": lambda a: a.astype(np.int32)},
    "indptr must rise": {"indptr": lambda a: a[::-1].copy()},
    "indptr must rise from 0": {"indptr": lambda a: a + 1},
    "weights must have the shape": {"weights": lambda a: a[:, 1:].copy()},
    "weights must be C-contiguous": {"weights": lambda a: a.T.copy().T},
}


@pytest.mark.parametrize("says", WRONG)
def test_wrong_arrays_are_refused(says):
    given = arrays()
    for name, change in WRONG[says].items():
        given[name] = change(given[name])
    with pytest.raises((TypeError, ValueError), match=says):
        grams(**given)


@pytest.mark.parametrize(
    ("says", "change"),
    {
        "weights must have the shape": {"weights": np.ones((3, 39))},
        "weights must be an array of float64": {"weights": np.ones((3, 40), np.float32)},
        "vectors must have the shape": {"vectors": np.ones((3, 9))},
        "vectors must be C-contiguous": {"vectors": np.ones((10, 3)).T},
    }.items(),
)
def test_wrong_arrays_of_a_product_are_refused(says, change):
    given = {"weights": np.ones((3, 40)), "vectors": np.ones((3, 10))} | change
    with pytest.raises((TypeError, ValueError), match=says):
        entries(arrays()).products(**given)
