"""log λ = offset + A θ: the map, its adjoint, and where it starts."""

import pickle
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from searches import search_for
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from sksid._features import FeatureRows, Features, make_structure
from sksid.structures import Structure, blocks, groups, matrix, moments, per_feature, second_moments, shared

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


@pytest.mark.parametrize("name", ["per_feature", "dense_matrix", "sparse_matrix"])
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


def test_moments_are_ones_and_the_standardized_log_second_moment_and_its_square():
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
    assert moments(np.ones((4, 3))) == shared(3)
    assert np.isfinite(moments(X.astype(np.float32) * 1e25).matrix).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_of_standardized_features_are_shared(dtype):
    """Every second moment is 1 but for rounding, which tells nothing of a feature."""
    standardized = StandardScaler().fit_transform(X.astype(dtype))
    assert 0 < np.ptp(second_moments(standardized)) < 1e-5
    assert moments(standardized) == shared(8)
    assert moments(np.zeros((5, 8))) == shared(8)


def test_a_column_that_differs_by_rounding_only_drops_out():
    """Two values of log m, as many of each: its standardized square is 1."""
    columns = moments(X[:, [0]] * [1.0, 3.0, 1.0, 3.0]).matrix
    np.testing.assert_allclose(columns, [[1, -1], [1, 1], [1, -1], [1, 1]], rtol=1e-12)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_moments_are_of_weighted_rows(container):
    weight = np.arange(50.0) % 3
    expected = np.repeat(X, weight.astype(int), axis=0)
    np.testing.assert_allclose(second_moments(container(X), weight), (expected**2).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments(container(X), weight).matrix, moments(expected).matrix, rtol=1e-9, atol=1e-12)
    features = Features([FeatureRows(container(X), None, weight)], 8)
    np.testing.assert_allclose(make_structure("moments", features).matrix, moments(expected).matrix, rtol=1e-9, atol=1e-12)
    assert not second_moments(container(X), np.zeros(50)).any()


def test_rows_of_weight_zero_change_no_search_on_moments(cancer):
    features, y = cancer
    features = features * np.logspace(-1, 1, 30)
    weight = (np.arange(len(y)) % 4 > 0).astype(float)
    other = np.where(weight[:, None] > 0, features, 100.0 * features[:, ::-1])
    one, two = (search_for("moments", max_iter=3).fit(rows, y, sample_weight=weight) for rows in (features, other))
    np.testing.assert_array_equal(one.penalties_, two.penalties_)


# ---- equal by content ---------------------------------------------------------------------------------------------------


@every_structure
def test_structures_are_equal_and_hash_alike_by_content(structure):
    copied = deepcopy(structure)
    assert copied == structure
    assert hash(copied) == hash(structure)
    assert pickle.loads(pickle.dumps(structure)) == structure
    alike = [name for name, other in MADE.items() if other == structure]
    assert all(MADE[name] is structure or name.endswith("moments") for name in alike)
    assert structure != structure.name


def test_any_part_of_the_content_makes_a_difference():
    one = blocks(["a", "b", "b"])
    different = [
        blocks(["a", "b", "c"]),
        blocks(["b", "a", "a"]),
        blocks(["a", "a", "b"]),
        groups(["a", "b", "b"]),
        replace(one, shift=np.ones(3)),
        replace(one, levels=False),
        matrix([[1.0], [2.0], [3.0]]),
        matrix([[1.0], [2.0], [3.0]], per_split=[[[1.0], [2.0], [3.0]]]),
        matrix([[1.0, 2.0, 3.0]]),
    ]
    assert len({one, *different}) == 1 + len(different)
    entries = np.array([[0.0, 1.0], [2.0, -0.0], [0.0, 0.0]])
    assert len({matrix(entries), matrix(sp.csr_array(entries)), matrix(sp.coo_array(entries)), matrix(entries.tolist())}) == 1


# ---- its answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("structure", "is_few"),
    [
        (shared(100), True),
        (MADE["moments"], True),
        (per_feature(5), True),
        (per_feature(6), False),
        (matrix(np.eye(6)), False),
        (groups(np.arange(30)), True),
        (groups(np.arange(31)), False),
        (blocks([str(j % 30) for j in range(90)]), True),
    ],
)
def test_few_are_five_or_thirty_with_labels(structure, is_few):
    assert structure.is_few == is_few


def names_of(stages):
    return [stage.name for stage in stages]


def test_stages_lead_from_shared_to_the_structure():
    alike, apart = np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 100.0])
    parts = blocks(["a", "a", "b"])
    assert parts.stages(apart)[-1] is parts
    assert names_of(parts.stages(alike)) == ["shared", "blocks"]
    assert names_of(parts.stages(apart)) == ["shared", "scaled", "blocks"]
    assert [stage.starts_over for stage in parts.stages(apart)] == [False, True, False]
    assert names_of(parts.stages()) == ["shared", "blocks"]
    assert names_of(shared(3).stages(apart)) == ["shared"]
    assert names_of(per_feature(3).stages(apart)) == ["shared", "per_feature"]
    assert names_of(matrix(np.eye(3)).stages(apart)) == ["shared", "matrix"]


@pytest.mark.parametrize("structure", [per_feature(4), blocks(list("aabb"))])
def test_no_stage_moves_a_feature_without_a_penalty(structure):
    unpenalized = np.array([True, False, False, False])
    for stage in structure.without(unpenalized).stages(np.array([1.0, 5.0, 30.0, 100.0]))[1:]:
        assert not stage.change(np.ones(stage.n_params))[0]
        assert stage.change(np.ones(stage.n_params))[1:].any()


def test_words_are_those_of_the_labels():
    parts, log_penalties = blocks(["text", "text", "numbers", "none"]), np.array([1.0, 3.0, 5.0, 7.0])
    assert parts.columns("C") == ("C_text", "C_numbers", "C_none")
    assert groups([1, 2]).columns("C") == shared(3).columns("C") == ()
    assert parts.by_label(log_penalties) == {"text": 2.0, "numbers": 5.0, "none": 7.0}
    assert per_feature(4).by_label(log_penalties) == {}
    assert parts.whose(log_penalties > 2, log_penalties) == "'numbers', 'none'"
    assert parts.whose(log_penalties > 7, log_penalties) == ""
    assert per_feature(4).whose(log_penalties > 2, log_penalties) == ""
    assert per_feature(4).whose(log_penalties > 0, log_penalties) == "the features"
    log_penalties[0] = -np.inf
    assert shared(4).whose(log_penalties > 0, log_penalties) == "the features"
    assert parts.without(np.isneginf(log_penalties)).whose(log_penalties > 0, log_penalties) == "'text', 'numbers', 'none'"
    assert parts.whose(np.array([log_penalties > 2, log_penalties > 5]), np.array([log_penalties] * 2)) == "'none'"


def test_distinct_penalties_are_named():
    penalties = np.array([0.0, 2.0, 3.0])
    assert shared(3).distinct(penalties, list("xyz"))[1] == ["all features"]
    np.testing.assert_array_equal(shared(3).distinct(penalties, list("xyz"))[0], [2.0])
    values, names, sizes = groups([7, 3, 7, 5]).distinct(penalties, list("xyz"))  # the last feature is one of some split only
    assert dict(zip(names, values.tolist(), strict=True)) == {"3": 2.0, "7": 0.0}
    assert per_feature(3).distinct(penalties, ("x", "y", "z"))[1] == ["x", "y", "z"]


def test_a_structure_says_what_it_is():
    assert repr(MADE["moments"]) == "Structure('moments', n_features=8, n_params=3)"
    assert repr(matrix([[1.0]], per_split=[[[1.0]], [[2.0]]])).endswith("n_params=1, n_splits=2)")


# ---- an A of each split's own -------------------------------------------------------------------------------------------


def scales_of_training_rows(X, splits):
    """log λ_j = θ_0 + θ_1 z_j, z_j the standardized log scale of feature j on a split's training rows."""

    def columns(rows):
        log_scale = np.log(rows.std(axis=0))
        return np.column_stack([np.ones(rows.shape[1]), (log_scale - log_scale.mean()) / log_scale.std()])

    return matrix(columns(X), per_split=[columns(X[train]) for train, _ in splits])


def test_each_split_may_have_an_a_of_its_own():
    splits = list(KFold(4).split(X))
    structure = scales_of_training_rows(X, splits)
    assert (structure.n_splits, structure.n_params, structure.n_features) == (4, 2, 8)
    theta, offset = structure.start(np.full(8, 0.5))
    step = np.array([0.3, -2.0])
    log_penalties = offset + structure.change(theta + step)
    assert log_penalties.shape == (4, 8)
    for k, (train, _) in enumerate(splits):
        alone = moments(X[train] - X[train].mean(axis=0)).matrix[:, :2]
        np.testing.assert_allclose(log_penalties[k], 0.5 + alone @ step, rtol=1e-12)
    refit = structure.for_refit
    assert refit.n_splits is None
    assert (offset + refit.change(theta + step)).shape == (8,)
    assert structure.stages()[-1] is structure
    assert refit.for_refit is refit
    assert structure == scales_of_training_rows(X, splits) != refit


def test_pull_back_of_a_row_for_each_split_is_the_adjoint_of_change():
    structure, random = scales_of_training_rows(X, list(KFold(4).split(X))), np.random.RandomState(2)
    step, gradient = random.randn(2), random.randn(4, 8)
    assert np.sum(gradient * structure.change(step)) == pytest.approx(structure.pull_back(gradient) @ step, rel=1e-12)
    for one in (shared(8), per_feature(8), MADE["moments"]):
        np.testing.assert_allclose(one.pull_back(gradient), one.pull_back(gradient.sum(axis=0)), rtol=1e-12, atol=1e-12)


def test_features_without_a_penalty_are_out_of_every_splits_a():
    unpenalized = np.arange(8) == 2
    structure = scales_of_training_rows(X, list(KFold(4).split(X))).without(unpenalized)
    assert not structure.change([1.0, 1.0])[:, 2].any()
    assert structure.change([1.0, 0.0])[:, ~unpenalized].all()
    assert (structure.n_splits, structure.n_params) == (4, 2)
    theta, offset = structure.start(np.where(unpenalized, -np.inf, [[0.0], [1.0], [2.0], [3.0]]))
    assert offset.shape == (4, 8)
    assert np.isneginf(offset[:, 2]).all()


def test_matrices_of_the_splits_have_the_shape_of_the_final_one():
    with pytest.raises(ValueError, match="per_split has matrices of shape"):
        matrix(np.eye(3), per_split=[np.eye(2)])


def test_a_search_needs_a_matrix_for_each_of_its_splits(cancer):
    A = np.ones((30, 1))
    with pytest.raises(ValueError, match="matrices for 2 splits, but cv makes 3"):
        search_for(matrix(A, per_split=[A, A])).fit(*cancer)


def test_levels_start_at_the_mean_over_the_splits():
    theta, offset = groups([0, 0, 1]).start([[1.0, 3.0, 5.0], [3.0, 5.0, 7.0]])
    np.testing.assert_allclose(theta, [3.0, 6.0])
    assert offset.shape == (2, 3)


# ---- what a user may say ------------------------------------------------------------------------------------------------


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
