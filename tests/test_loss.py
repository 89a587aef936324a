"""The log loss of rows that stand output by output, against SciPy in long double, in every variant of the kernel."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from sksid._kernels import _loss

FAR = 40.0  # outputs that far apart leave probabilities far below a rounding error of 1


@pytest.fixture(params=_loss.INSTRUCTION_SETS, autouse=True)
def instruction_set(request):
    before = _loss.instruction_set()
    assert _loss.instruction_set(request.param) == request.param
    yield
    _loss.instruction_set(before)


def rows(K, real, n_splits=3, n_rows=150):
    """Outputs, directions and labels, parts of larger arrays; the reference's outputs have two classes where K = 1."""
    random = np.random.RandomState(K)
    outputs, directions = (random.standard_normal((n_splits, K, n_rows + 7)).astype(real)[..., 3:-4] for _ in range(2))
    outputs *= random.choice([1.0, FAR], size=(n_splits, 1, n_rows))
    labels = random.randint(max(2, K), size=(n_splits, n_rows + 2)).astype(np.int32)[:, 2:]
    exact = outputs.astype(np.longdouble)
    return outputs, directions, labels, np.concatenate([0 * exact, exact], axis=1) if K == 1 else exact


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("K", [1, 3, 10, 33])
def test_a_loss_and_its_derivatives_are_those_of_the_formulas(K, real):
    outputs, directions, labels, exact = rows(K, real)
    eps = np.finfo(real).eps
    P = softmax(exact, axis=1)
    own = np.take_along_axis(exact, labels[:, None], axis=1)[:, 0]
    found = _loss.predictions(outputs)
    assert found.dtype == real
    np.testing.assert_allclose(found, P[:, 1:] if K == 1 else P, rtol=2 * FAR * 10 * eps, atol=1e-30)
    np.testing.assert_allclose(_loss.values(outputs, labels), logsumexp(exact, axis=1) - own, rtol=1e3 * eps, atol=1e3 * eps)

    given = found.astype(np.longdouble)
    one_hot = labels[:, None] == np.arange(max(2, K))[:, None]
    others = np.where(one_hot, 0, given) if K > 1 else None
    slopes = given - labels[:, None] if K == 1 else np.where(one_hot, -others.sum(axis=1, keepdims=True), others)
    np.testing.assert_allclose(_loss.slopes(found, labels), slopes, rtol=20 * eps, atol=1e-30)

    t = directions.astype(np.longdouble)
    curved = (
        given * (1 - given) * t
        if K == 1
        else given * (t - (given * t).sum(axis=1, keepdims=True) / given.sum(axis=1, keepdims=True))
    )
    np.testing.assert_allclose(_loss.curved(found, directions), curved, rtol=1e-3, atol=10 * eps)


def test_a_loss_as_small_as_exp_minus_40_is_accurate():
    outputs, labels = np.array([[[FAR, 0.0], [0.0, 0.0], [0.0, FAR]]]), np.array([[0, 2]], dtype=np.int32)
    np.testing.assert_allclose(_loss.values(outputs, labels), [[2 * np.exp(-FAR)] * 2], rtol=1e-12)
    np.testing.assert_allclose(
        _loss.slopes(_loss.predictions(outputs), labels)[0, [0, 2], [0, 1]], -2 * np.exp(-FAR), rtol=1e-12
    )


@pytest.mark.parametrize("K", [1, 4])
def test_labels_may_be_those_of_all_splits(K):
    outputs, _, labels, _ = rows(K, np.float64)
    repeated = np.repeat(labels[:1], len(outputs), axis=0)
    np.testing.assert_array_equal(_loss.values(outputs, labels[:1]), _loss.values(outputs, repeated))
    np.testing.assert_array_equal(_loss.slopes(outputs, labels[:1]), _loss.slopes(outputs, repeated))


@pytest.mark.parametrize("K", [1, 3])
def test_what_is_no_number_stays_visible(K):
    outputs, _, labels, _ = rows(K, np.float64)
    outputs[0, 0, 5] = np.nan
    assert np.isnan(_loss.predictions(outputs)[0, :, 5]).all() and np.isnan(_loss.values(outputs, labels)[0, 5])
    assert np.isfinite(_loss.values(outputs, labels)).sum() == labels.size - 1


Z, Y = np.zeros((2, 3, 5)), np.zeros((2, 5), dtype=np.int32)
WRONG = {
    "outputs": lambda: _loss.predictions(Z[0]),
    "outputs must be an ndarray": lambda: _loss.predictions([[[0.0]]]),
    "outputs must have a row beside": lambda: _loss.predictions(np.asfortranarray(Z)),
    "directions must be an array of float64": lambda: _loss.curved(Z, Z.astype(np.float32)),
    "directions must have the shape": lambda: _loss.curved(Z, Z[:, :2]),
    "labels must have the shape": lambda: _loss.values(Z, Y[:, 1:]),
    "labels must be an array of int32": lambda: _loss.slopes(Z, Y.astype(np.int64)),
    "labels must be from 0 to 2": lambda: _loss.values(Z, Y + 3),
}


@pytest.mark.parametrize("says", WRONG)
def test_wrong_arrays_are_refused(says):
    with pytest.raises((TypeError, ValueError), match=says):
        WRONG[says]()


def test_no_rows_have_no_losses():
    assert _loss.values(np.empty((2, 3, 0)), np.empty((1, 0), dtype=np.int32)).shape == (2, 0)
