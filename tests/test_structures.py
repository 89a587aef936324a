"""log λ = offset + A θ: the map, its adjoint, and where it starts."""

import numpy as np
import pytest
import scipy.sparse as sp

from sksid.structures import Structure, groups, make_structure, matrix, moments, per_feature, shared

X = np.random.RandomState(0).exponential(size=(50, 8)) * np.logspace(-2, 2, 8)
A = np.random.RandomState(1).randn(8, 3)
MADE = {
    "shared": shared(8),
    "groups_of_ints": groups([3, 1, 3, 3, 7, 1, 7, 3]),
    "groups_of_strings": groups(["b", "a", "a", "c", "a", "b", "c", "c"]),
    "per_feature": per_feature(8),
    "dense_matrix": matrix(A),
    "sparse_matrix": matrix(sp.csc_array(np.where(A > 0, A, 0.0))),
    "moments": moments(X),
    "sparse_moments": moments(sp.csr_array(X)),
}
every_structure = pytest.mark.parametrize("structure", MADE.values(), ids=MADE)


@every_structure
def test_pull_back_is_the_adjoint_of_change(structure):
    random = np.random.RandomState(2)
    step, gradient = random.randn(structure.n_params), random.randn(8)
    assert structure.change(step).shape == (8,)
    assert structure.pull_back(gradient).shape == (structure.n_params,)
    assert gradient @ structure.change(step) == pytest.approx(structure.pull_back(gradient) @ step, rel=1e-12)


@every_structure
def test_change_is_linear_and_leaves_its_argument_alone(structure):
    one, two = np.random.RandomState(3).randn(2, structure.n_params)
    together = structure.change(2.0 * one - two)
    np.testing.assert_allclose(together, 2.0 * structure.change(one) - structure.change(two), atol=1e-12)
    changed, before = structure.change(one), one.copy()
    changed += 1.0
    np.testing.assert_array_equal(one, before)


@every_structure
def test_start_reaches_a_common_level(structure):
    theta, offset = structure.start(np.full(8, 0.7))
    assert theta.shape == (structure.n_params,)
    np.testing.assert_allclose(offset + structure.change(theta), 0.7, rtol=1e-14)


@pytest.mark.parametrize("name", ["per_feature", "dense_matrix", "sparse_matrix", "moments"])
def test_start_reaches_any_penalties_where_there_is_an_offset_for_each(name):
    log_penalties = np.linspace(-2, 2, 8)
    theta, offset = MADE[name].start(log_penalties)
    np.testing.assert_allclose(offset + MADE[name].change(theta), log_penalties, rtol=1e-14)


def test_start_of_levels_is_the_mean_of_each_group():
    log_penalties = np.arange(8.0)
    theta, offset = MADE["groups_of_ints"].start(log_penalties)
    np.testing.assert_allclose(theta, [3.0, (0 + 2 + 3 + 7) / 4, 5.0])
    assert not offset.any()
    np.testing.assert_allclose(shared(8).start(log_penalties)[0], [3.5])


def test_groups_are_in_the_order_of_their_sorted_labels():
    assert MADE["groups_of_ints"].labels == (1, 3, 7)
    assert MADE["groups_of_strings"].labels == ("a", "b", "c")
    np.testing.assert_array_equal(MADE["groups_of_strings"].change([10, 20, 30]), [20, 10, 10, 30, 10, 20, 30, 30])


def test_matrix_is_a_copy_of_the_users():
    own = A.copy()
    structure = matrix(own)
    own[:] = 0.0
    np.testing.assert_array_equal(structure.change([1, 0, 0]), A[:, 0])


def test_moments_are_ones_and_the_standardised_log_second_moment_and_its_square():
    columns = MADE["moments"].matrix
    log_m = np.log((X**2).mean(axis=0))
    standard = (log_m - log_m.mean()) / log_m.std()
    np.testing.assert_array_equal(columns[:, 0], 1.0)
    np.testing.assert_allclose(columns[:, 1], standard, rtol=1e-12)
    assert np.corrcoef(columns[:, 2], standard**2)[0, 1] == pytest.approx(1.0)
    np.testing.assert_allclose(columns[:, 1:].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(columns[:, 1:].std(axis=0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(columns, MADE["sparse_moments"].matrix, rtol=1e-10, atol=1e-12)


def test_moments_of_empty_or_equal_features_are_finite():
    with_empty = np.column_stack([X, np.zeros(50)])
    np.testing.assert_array_equal(moments(with_empty).matrix[-1], [1, 0, 0])
    np.testing.assert_allclose(moments(with_empty).matrix[:-1], moments(X).matrix, rtol=1e-12)
    np.testing.assert_array_equal(moments(np.ones((4, 3))).matrix, [[1, 0, 0]] * 3)
    assert np.isfinite(moments(X.astype(np.float32) * 1e25).matrix).all()


@pytest.mark.parametrize(
    ("given", "name", "n_params"),
    [
        ("shared", "shared", 1),
        ("moments", "moments", 3),
        ("per_feature", "per_feature", 8),
        (list("aabbaabb"), "groups", 2),
        (np.arange(8) % 3, "groups", 3),
        (A.tolist(), "matrix", 3),
        (sp.coo_array(A), "matrix", 3),
        (sp.csr_matrix(A), "matrix", 3),
        (groups(np.arange(8) % 4), "groups", 4),
    ],
)
def test_make_structure_reads_names_labels_and_matrices(given, name, n_params):
    structure = make_structure(given, X)
    assert isinstance(structure, Structure)
    assert (structure.name, structure.n_params, structure.n_features) == (name, n_params, 8)


@pytest.mark.parametrize(
    "given",
    [
        "single",
        np.arange(7),
        np.ones((9, 2)),
        shared(9),
        np.full((8, 2), np.inf),
        sp.csr_array(np.full((8, 2), np.nan)),
        [0.5, np.nan, 1, 1, 1, 1, 1, 1],
        np.ones((8, 0)),
        np.array([["a", "b"]] * 8),
        np.ones((8, 2, 2)),
        np.float64(3.0),
    ],
    ids=str,
)
def test_errors_name_the_parameter(given):
    with pytest.raises(ValueError, match="^structure"):
        make_structure(given, X)
