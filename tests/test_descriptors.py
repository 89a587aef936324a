"""Structures of descriptors: what they compute, from which rows, and what a search makes of them."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import central_differences, relative_error, split_losses
from searches import search_for
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import make_classification
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sksid import hypergradient
from sksid._features import FeatureRows, Features, make_structure
from sksid.descriptors import evidence, moments
from sksid.problem import make_problem
from sksid.solvers import Aid, Rotated
from sksid.structures import matrix, shared
from sksid.structures import moments as moments_structure

RANDOM = np.random.RandomState(0)
X = RANDOM.exponential(size=(90, 12)) * np.logspace(-1, 1, 12) * (RANDOM.uniform(size=(90, 12)) < 0.6)
Y = (X[:, 3] > np.median(X[:, 3])).astype(int) + (RANDOM.uniform(size=90) < 0.2)
WEIGHT = np.arange(90) % 3
SPLITS = list(StratifiedKFold(3).split(X, Y))
EXACT = Aid(tol=1e-12, first_tol=None)


def made(structure, rows=X, y=Y, weight=None, splits=SPLITS):
    """The Structure that a search on these rows has."""
    whole = FeatureRows(rows, None, weight, y)
    return make_structure(structure, Features([whole], rows.shape[1], splits=[(whole, train) for train, _ in splits]))


def by_hand(rows, y):
    """log(1 + the largest squared correlation with a class times the number of rows)."""
    correlations = [np.corrcoef(rows.T, y == label)[-1, :-1] for label in np.unique(y)]
    return np.log(1 + len(y) * np.max(np.square(correlations), axis=0))


def standard(values):
    return (values - values.mean()) / values.std()


# ---- evidence -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("y", [Y, Y > 0, np.array(["b", "a", "c"])[Y]], ids=["three", "two", "strings"])
def test_evidence_is_the_largest_score_statistic(container, y):
    np.testing.assert_allclose(evidence(container(X), y), by_hand(X, y), rtol=1e-9)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_a_weight_counts_rows(container):
    repeated = np.repeat(np.arange(90), WEIGHT)
    expected = evidence(container(X[repeated]), Y[repeated])
    np.testing.assert_allclose(evidence(container(X), Y, WEIGHT), expected, rtol=1e-10)
    assert not evidence(container(X), Y, np.zeros(90)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_that_say_nothing_have_no_evidence(dtype):
    rows = np.column_stack([np.zeros(90), np.full(90, 1e6), 1e6 + 1e-12 * Y, Y]).astype(dtype)
    for container in (np.asarray, sp.csr_array):
        np.testing.assert_allclose(evidence(container(rows), Y)[:3], 0.0)
        assert evidence(container(rows), Y > 0)[3] > 3.0


def test_evidence_has_no_unit():
    factors = np.logspace(-8, 8, 12)
    np.testing.assert_allclose(evidence(X * factors, Y), evidence(X, Y), rtol=1e-7)
    np.testing.assert_allclose(evidence(sp.csr_array((X * factors).astype(np.float32)), Y), evidence(X, Y), rtol=1e-4)


def test_parts_of_the_rows_sum_up(monkeypatch):
    expected = evidence(X, Y)
    monkeypatch.setattr("sksid.descriptors.PART", 100)
    for container in (np.asarray, sp.csr_array):
        np.testing.assert_allclose(evidence(container(X), Y), expected, rtol=1e-12)


# ---- the matrices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_each_split_has_the_evidence_of_its_training_rows(container):
    structure = made(["moments", "evidence"], container(X))
    assert (structure.n_params, structure.n_splits, structure.name) == (4, 3, "moments+evidence")
    assert structure.terms == ("level", "moments", "moments_squared", "evidence")
    for own, rows in [
        (structure.matrix, np.arange(90)),
        *zip(structure.per_split, (train for train, _ in SPLITS), strict=True),
    ]:
        np.testing.assert_allclose(own[:, 3], standard(by_hand(X[rows], Y[rows])), rtol=1e-8)
        np.testing.assert_allclose(own[:, :3], moments_structure(X).matrix, rtol=1e-8, atol=1e-12)


def test_moments_alone_are_one_matrix_for_all_splits():
    assert made("moments") == made(["moments"]) == moments_structure(X)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_functions_give_what_names_give(container):
    def own(rows, y, sample_weight):
        return evidence(rows, y, sample_weight)

    for weight in (None, WEIGHT.astype(float)):
        named, given = (made(each, container(X), weight=weight) for each in ("evidence", [own]))
        for one, other in zip((named.matrix, *named.per_split), (given.matrix, *given.per_split), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert made(evidence) == made("evidence")
    assert made(moments) == made("moments")


def test_empty_features_have_the_mean_penalty_whatever_their_descriptor():
    rows = np.column_stack([X, np.zeros(90)])
    rows[SPLITS[0][0], 0] = 0.0  # empty in the training rows of the first split
    with np.errstate(divide="ignore"):
        structure = made([lambda X, y, w: np.log((X**2).mean(axis=0))], rows)
    np.testing.assert_array_equal([own[-1] for own in structure.per_split], [[1.0, 0.0]] * 3)
    np.testing.assert_array_equal(structure.per_split[0][0], [1.0, 0.0])
    np.testing.assert_allclose(structure.per_split[0][1:-1, 1].std(), 1.0)


def test_a_column_without_spread_in_one_split_is_out_of_all():
    def first(rows, y, sample_weight):
        return np.arange(12.0) * (len(rows) != 60)

    assert made([first, "evidence"]).terms == ("level", "evidence")
    assert made([lambda X, y, w: np.ones((12, 2))]) == shared(12)


def test_units_of_a_descriptor_make_no_difference():
    one, other = (made([lambda X, y, w, c=c: c * X.mean(axis=0)]) for c in (1.0, 1e9))
    np.testing.assert_allclose(one.matrix, other.matrix, rtol=1e-9)


def test_start_is_the_nearest_that_descriptors_reach():
    structure = made(["moments", "evidence"])
    theta, offset = structure.start(np.full(12, 0.7))
    np.testing.assert_allclose(theta, [0.7, 0, 0, 0], atol=1e-12)
    assert not offset.any()
    for reached in (structure.matrix @ [1.0, 0.2, -0.1, 2.0], structure.change([1.0, 0.2, -0.1, 2.0])):
        np.testing.assert_allclose(structure.start(reached)[0], [1.0, 0.2, -0.1, 2.0], rtol=1e-9)
    without = structure.without(np.arange(12) == 5)
    theta, offset = without.start(np.where(np.arange(12) == 5, -np.inf, 0.7))
    np.testing.assert_allclose(theta, [0.7, 0, 0, 0], atol=1e-12)
    assert np.isneginf(offset[5]) and without.terms == structure.terms


# ---- the hypergradient --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("solver", [EXACT, "dual"], ids=["aid", "dual"])
def test_the_hypergradient_is_that_of_every_splits_own_penalties(solver, container):
    structure, theta = made(["moments", "evidence"], container(X)), np.array([1.0, 0.3, -0.2, -0.7])
    problem = make_problem(container(X), Y, SPLITS, n_classes=3, dtype=np.float64)

    def value(theta):
        state = EXACT.advance(problem, EXACT.init(problem, structure.change(theta)))
        return EXACT.losses(problem, state).mean()

    settings = {"structure": ["moments", "evidence"], "solver": solver, "tol": 1e-8, "max_epochs": 3000}
    result = hypergradient(container(X), Y, SPLITS, structure.change(theta), **settings)
    assert result.gradient.shape == (3, 12)
    assert relative_error(result.theta_gradient, central_differences(value, theta, step=1e-3)) <= 1e-5


def test_one_number_stands_for_the_penalties_of_all_splits():
    result = hypergradient(X, Y, SPLITS, 0.0, structure="evidence")
    assert (result.gradient.shape, result.theta_gradient.shape) == ((3, 12), (2,))


# ---- a search -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(cancer):
    return search_for(["moments", "evidence"]).fit(cancer[0] * np.logspace(-1, 1, 30), cancer[1])


def test_the_score_is_that_of_penalties_made_of_training_rows(cancer):
    features, y = cancer
    search = search_for("evidence").fit(features, y)
    splits = list(StratifiedKFold(3).split(features, y))
    level, slope = search.theta_
    losses = [
        split_losses(features, y, [(train, val)], level + slope * standard(by_hand(features[train], y[train]))).mean()
        for train, val in splits
    ]
    assert -search.best_score_ == pytest.approx(np.mean(losses), rel=1e-4)
    assert search.best_params_["C"] == pytest.approx(np.exp(-level), rel=1e-6)
    whole = level + slope * standard(by_hand(features, y))
    np.testing.assert_allclose(np.log(search.penalties_), whole, rtol=1e-6)
    assert search.best_score_ > search_for("shared").fit(features, y).best_score_ + 1e-3


def test_hyperparameters_are_reported_by_name(searched):
    results, best = searched.cv_results_, searched.best_index_
    assert list(searched.descriptor_params_) == ["moments", "moments_squared", "evidence"]
    np.testing.assert_array_equal(list(searched.descriptor_params_.values()), searched.theta_[1:])
    assert results["theta_evidence"][best] == searched.descriptor_params_["evidence"]
    assert results["theta_evidence"][0] == 0.0  # of the shared penalty
    level = np.log(searched.penalties_).mean()
    assert searched.best_params_["C"] == pytest.approx(np.exp(-level), rel=1e-6)
    assert set(results["structure"]) == {"shared", "moments+evidence"}
    assert "is_nested" not in results


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_a_search_does_not_depend_on_container_or_unit(container, cancer):
    one = cancer[0] * np.logspace(-1, 1, 30)
    other = container(1000.0 * one)
    searches = [search_for(["moments", "evidence"], tol=1e-6).fit(X, cancer[1]) for X in (one, other)]
    assert searches[1].best_score_ == pytest.approx(searches[0].best_score_, rel=1e-4)
    np.testing.assert_allclose(searches[1].predict_proba(other), searches[0].predict_proba(one), atol=0.01)


@pytest.mark.parametrize("solver", ["dual", "aid", Rotated(Aid())], ids=["dual", "aid", "rotated"])
def test_solvers_find_the_same(solver, cancer):
    one, other = (search_for("evidence", solver=each).fit(*cancer) for each in ("auto", solver))
    assert one.best_score_ == pytest.approx(other.best_score_, rel=1e-3)


def test_weights_are_repeated_rows(cancer):
    features, y = cancer[0][:300], cancer[1][:300]
    weight = np.arange(300) % 3
    splits = list(StratifiedKFold(3).split(features, y))
    again = np.repeat(np.arange(300), weight)
    repeated = [tuple(np.flatnonzero(np.isin(again, part)) for part in split) for split in splits]
    one = search_for("evidence", cv=splits).fit(features, y, sample_weight=weight.astype(float))
    other = search_for("evidence", cv=repeated).fit(features[again], y[again])
    assert one.best_score_ == pytest.approx(other.best_score_, rel=1e-3)
    np.testing.assert_allclose(one.theta_, other.theta_, atol=0.1)


def test_preprocessing_of_each_split_has_its_own_descriptors(cancer):
    """A step that is fitted for each split and changes nothing: the same search as without it."""
    features, y = cancer
    inside = make_pipeline(FunctionTransformer(np.asarray), LogisticRegression())
    own = search_for(["moments", "evidence"], estimator=inside, solver="aid").fit(features, y)
    plain = search_for("evidence", solver="aid").fit(features, y)
    np.testing.assert_allclose(own.theta_[-1], plain.theta_[-1], atol=0.1)
    assert own.best_score_ >= plain.best_score_ - 1e-4
    scaled = search_for("evidence", estimator=make_pipeline(StandardScaler(), LogisticRegression())).fit(features, y)
    assert scaled.best_score_ == pytest.approx(plain.best_score_, abs=3e-3)


def test_vocabularies_may_differ_by_split(documents):
    texts, y = documents
    search = search_for(["moments", "evidence"], estimator=make_pipeline(TfidfVectorizer(), LogisticRegression()))
    search.fit(texts, y)
    assert search.penalties_.size == len(search.best_estimator_[0].vocabulary_)
    assert search.structure_.n_splits in (None, 3)
    nameless = make_pipeline(TfidfVectorizer(), FunctionTransformer(sp.csr_array), LogisticRegression())
    assert search_for("evidence", estimator=nameless).fit(texts, y).best_score_ > -np.log(2)


def test_groups_classes_of_unequal_weight_and_other_estimators(cancer):
    features, y = cancer
    search = search_for("evidence", estimator=SGDClassifier(loss="log_loss", class_weight="balanced"), cv=GroupKFold(4))
    search.fit(features, y, groups=np.arange(569) // 5)
    assert search.best_params_["alpha"] > 0 and search.structure_.n_splits == 4
    found = search_for(["evidence"], unpenalized=[0, 3], scoring="accuracy").fit(features, y)
    assert not found.penalties_[[0, 3]].any() and found.penalties_[1] > 0


def test_a_warm_start_does_not_bring_the_evidence_of_all_rows_into_the_splits(cancer):
    search = search_for("evidence", warm_start=True).fit(*cancer)
    score = search.best_score_
    again = search.fit(*cancer)
    assert again.best_score_ == pytest.approx(score, rel=1e-3)
    last = again.cv_results_["structure"] == "evidence"
    assert (again.cv_results_["mean_test_score"][last] <= score * (1 - 1e-3)).all()


def test_a_search_with_descriptors_is_cloned_and_pickled(searched, cancer):
    search = search_for(["moments", Spread()])
    assert clone(search).get_params()["structure"][0] == "moments"
    assert search_for(Spread(power=3)).get_params()["structure__power"] == 3
    search.fit(cancer[0][:, :5] * np.arange(1, 6), cancer[1])
    restored = pickle.loads(pickle.dumps(search))
    assert restored.structure_ == search.structure_
    assert pickle.loads(pickle.dumps(searched)).descriptor_params_ == searched.descriptor_params_


# ---- leakage ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The C found for the features is the smallest")
def test_evidence_of_pure_noise_stays_at_chance_unless_it_is_that_of_all_rows():
    random = np.random.RandomState(0)
    noise, y = random.randn(100, 10_000).astype(np.float32), np.arange(100) % 2
    honest = search_for("evidence", cv=5).fit(noise, y)
    assert honest.best_score_ < -0.95 * np.log(2)
    column = standard(evidence(noise, y))
    leaking = search_for(matrix(np.column_stack([np.ones(10_000), column])), cv=5).fit(noise, y)
    assert leaking.best_score_ > -0.5 * np.log(2)


# ---- what a user may give -----------------------------------------------------------------------------------------------


class Spread(BaseEstimator):
    """The standard deviations of the features, to a power."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y, sample_weight=None):
        self.scale_ = np.asarray(np.sqrt(np.average(np.square(X), axis=0, weights=sample_weight)))
        self.weighted_ = sample_weight is not None
        return self

    def transform(self, X):
        return np.log(self.scale_)[:, None] ** np.arange(1, self.power + 1)


def test_an_object_is_fitted_on_the_training_rows_of_each_split():
    for weight in (None, 1.0 + WEIGHT):
        structure, given = made(Spread(power=2), weight=weight), Spread(power=2)
        assert structure.terms == ("level", "Spread_0", "Spread_1")
        for own, (train, _) in zip(structure.per_split, SPLITS, strict=True):
            scale = np.log(np.sqrt(np.average(X[train] ** 2, axis=0, weights=None if weight is None else weight[train])))
            np.testing.assert_allclose(own[:, 1], standard(scale), rtol=1e-9)
        assert not hasattr(given, "scale_")


def level(X, y, sample_weight):
    return evidence(X, y, sample_weight)


def moments_squared(X, y, sample_weight):
    return evidence(X, y, sample_weight)


@pytest.mark.parametrize("given", [level, ["moments", moments_squared]], ids=["level", "moments_squared"])
def test_names_of_columns_must_differ(given):
    with pytest.raises(ValueError, match="two columns have the name .* Rename the descriptor"):
        made(given)


def test_what_is_given_twice_has_two_names():
    assert made([Spread(power=2), Spread()]).terms == ("level", "Spread_0", "Spread_1", "Spread-2")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda X, y, w: np.ones(3), ValueError, r"^structure: the descriptor '<lambda>' gave an array of shape \(3,\)"),
        (lambda X, y, w: ["a"] * 12, ValueError, r"Return numbers of shape \(n_features,\)"),
        (lambda X, y, w: np.full(12, np.nan), ValueError, "^structure: the descriptor '<lambda>' is not finite for feature 0"),
        (lambda X, y, w: np.ones((12, 1 + len(y) // 90)), ValueError, "gave 2 columns for all rows, and 1 for split 0"),
        (SelectKBest(k=2), ValueError, "^structure: the descriptor 'SelectKBest' gave an array of shape"),
        (["evidnce", moments], ValueError, "^structure: 'evidnce' is no descriptor. Use 'moments', 'evidence'"),
        (["evidence", 3.0], ValueError, "^structure: 3.0 is no descriptor"),
        (["moments", "evidnce"], ValueError, "^structure has 2 rows, but X has 12 features.*or descriptors"),
        ("evidnce", ValueError, "^structure='evidnce' is unknown. Use 'shared', 'moments', 'evidence'"),
        (Spread, TypeError, r"^structure: the descriptor Spread is a class. Give an object, Spread\(\)"),
    ],
)
def test_errors_name_parameter_descriptor_and_remedy(given, error, message):
    with pytest.raises(error, match=message):
        search_for(given).fit(X, Y)


def test_an_error_within_a_descriptor_says_whose_it_is():
    def two(X, y):
        return X.mean(axis=0)

    with pytest.raises(TypeError, match="two.* takes 2 positional arguments") as caught:
        search_for(two).fit(X, Y)
    (note,) = caught.value.__notes__
    assert note.startswith("This was raised by the descriptor 'two' of the parameter structure, for all rows. Give")


def test_many_columns_are_many_hyperparameters():
    features, y = make_classification(300, 20, random_state=0)
    search = search_for(lambda X, y, w: np.corrcoef(X.T)[:, :6], max_iter=5).fit(features, y)
    assert search.cv_results_["is_nested"].any()
