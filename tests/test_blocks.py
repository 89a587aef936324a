"""One penalty for each block of features, and features without any."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from oracles import fit_reference, split_losses
from searches import search_for
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from sksid._estimators import Target
from sksid._features import REST, Features, make_structure
from sksid._report import warn_at_edge
from sksid.descent import Step
from sksid.problem import make_problem
from sksid.solvers import Aid
from sksid.structures import blocks, per_feature, shared

NAMES = np.array(["text__a", "text__b", "num__x", "num__y", "num__z", "other"], dtype=object)
FEATURES = Features([], 6, NAMES, ["text", "text", "num", "num", "num", "other"])


# ---- what a user may say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ("num__x", [2]),
        (["num__x", "other"], [2, 5]),
        ("text", [0, 1]),
        (["text", "num__y"], [0, 1, 3]),
        (slice(1, 4), [1, 2, 3]),
        (slice(-2, None), [4, 5]),
        ([0, 5], [0, 5]),
        (-1, [5]),
        ([True, False, False, True, False, False], [0, 3]),
        ([], []),
    ],
)
def test_columns_may_be_named_in_many_ways(columns, chosen):
    np.testing.assert_array_equal(np.flatnonzero(FEATURES.mask(columns, "blocks")), chosen)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("nowhere", "blocks names 'nowhere'"),
        ([0, 6], "from 0 to 5"),
        ([-7], "from 0 to 5"),
        ([True, False], "mask of 2 entries, but there are 6"),
        ([0.5], "from 0 to 5"),
    ],
)
def test_columns_that_do_not_exist_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        FEATURES.mask(columns, "blocks")


def test_names_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="have no names"):
        Features([], 6).mask("text", "blocks")


def test_columns_of_no_block_are_the_rest():
    made = make_structure({"one": "num", "two": [0]}, FEATURES)
    assert made.labels == ("one", "two", REST)
    np.testing.assert_array_equal(made.change(np.array([1.0, 2.0, 3.0])), [2, 3, 1, 1, 1, 3])
    every = make_structure({"one": slice(3), REST: slice(3, None)}, FEATURES)
    assert every.labels == ("one", REST)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "empty dict"),
        ({"one": [0, 1], "two": [1, 2]}, r"structure\['two'\] has columns of another block"),
        ({"one": []}, r"structure\['one'\] has no column"),
    ],
)
def test_a_dict_that_makes_no_blocks_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        make_structure(given, FEATURES)


def test_blocks_come_from_the_names():
    made = make_structure("blocks", FEATURES)
    assert made.labels == ("text", "num", "other")
    with pytest.raises(ValueError, match="structure='blocks' needs"):
        make_structure("blocks", np.ones((3, 2)))


def test_position_means_the_features_of_the_refit():
    features = Features([], 8, n_own=6)
    assert features.mask(slice(None), "blocks").sum() == 6
    assert features.mask([-1], "blocks")[5]
    with pytest.raises(ValueError, match="features of their own"):
        make_structure(np.arange(6), features)


def test_blocks_of_one_scale_need_no_stage_of_their_own():
    made = blocks(["a", "a", "b"])
    assert made.scaled(np.array([1.0, 1.0, 2.0])) is None
    stage = made.scaled(np.array([1.0, 1.0, 100.0]))
    theta, offset = stage.start(np.zeros(3))
    assert theta.shape == (1,)
    assert offset[2] - offset[0] == pytest.approx(np.log(100.0))
    assert offset.mean() == pytest.approx(0.0, abs=1e-12)
    assert made.scaled(np.zeros(3)) is None


# ---- blocks in the search -----------------------------------------------------------------------------------------------


def made_problem(n_features=600, n_informative=60, n=1500, seed=0):
    """As many columns of noise again and again as those that matter, sparse."""
    random = np.random.RandomState(seed)
    X = sp.random(3 * n, n_features, 0.1, format="csr", random_state=random, data_rvs=random.standard_normal)
    true = np.zeros(n_features)
    true[:n_informative] = random.standard_normal(n_informative)
    z = X @ true
    y = (random.random_sample(3 * n) < 1 / (1 + np.exp(-3 * z / z.std()))).astype(int)
    return X[:n], y[:n], X[n:], y[n:]


@pytest.fixture(scope="module")
def noisy():
    return made_problem(n=3000)


@pytest.mark.parametrize("structure", [{"matters": slice(60), "noise": slice(60, None)}, np.arange(600) // 30], ids=["2", "20"])
def test_blocks_are_as_good_as_knowing_which_features_matter(structure, noisy):
    X, y, X_test, y_test = noisy
    oracle = search_for("shared").fit(X[:, :60], y)
    search, single = search_for(structure).fit(X, y), search_for("shared").fit(X, y)
    assert "is_nested" not in search.cv_results_  # blocks are few
    least = log_loss(y_test, oracle.predict_proba(X_test[:, :60]))
    assert log_loss(y_test, search.predict_proba(X_test)) <= 1.015 * least
    assert log_loss(y_test, single.predict_proba(X_test)) >= 1.2 * least


@pytest.mark.parametrize("n_noise", [10, 150])
def test_noise_on_another_scale_is_told_from_signal(n_noise):
    """One penalty drowns in the noise, up to where no gradient is left; that of blocks begins at their scales."""
    random = np.random.RandomState(0)
    X = 0.01 * random.randn(4000, 100)
    y = (random.rand(4000) < 1 / (1 + np.exp(-40 * X @ random.randn(100)))).astype(int)
    noisy = np.hstack([X, random.randn(4000, n_noise)])
    train, test = slice(250), slice(250, None)
    alone = search_for("shared").fit(X[train], y[train])
    search = search_for({"signal": slice(100), "noise": slice(100, None)}).fit(noisy[train], y[train])
    least = log_loss(y[test], alone.predict_proba(X[test]))
    assert log_loss(y[test], search.predict_proba(noisy[test])) <= 1.02 * least
    assert "scaled" in search.cv_results_["structure"]


def test_blocks_are_reported_by_name(cancer):
    X, y = cancer
    search = search_for({"mean": slice(10), "worst": slice(20, None)}).fit(X, y)
    assert list(search.block_params_) == ["mean", "worst", REST]
    for name, columns in {"mean": slice(10), "worst": slice(20, None), REST: slice(10, 20)}.items():
        np.testing.assert_allclose(1 / search.penalties_[columns], search.block_params_[name], rtol=1e-9)
        column = search.cv_results_[f"C_{name}"]
        assert column[search.best_index_] == pytest.approx(search.block_params_[name])
    assert search.structure_.labels == tuple(search.block_params_)
    losses = split_losses(X, y, list(StratifiedKFold(3).split(X, y)), np.log(search.penalties_))
    assert search.best_score_ == pytest.approx(-losses.mean(), rel=1e-3)


def test_blocks_come_from_the_columns_of_a_frame(cancer):
    X, y = cancer
    names = [f"{'left' if j < 15 else 'right'}__{j}" for j in range(30)]
    by_name = search_for("blocks").fit(pd.DataFrame(X, columns=names), y)
    by_label = search_for({"left": slice(15), "right": slice(15, None)}).fit(X, y)
    assert by_name.block_params_ == by_label.block_params_
    with pytest.raises(ValueError, match="structure='blocks' needs"):
        search_for("blocks").fit(X, y)


def test_alpha_of_each_block(cancer):
    X, y = cancer
    sgd = SGDClassifier(loss="log_loss", alpha=0.01)
    search = search_for({"left": slice(15)}, estimator=sgd).fit(X, y)
    np.testing.assert_allclose(np.unique(search.penalties_ / 569), np.sort(list(search.block_params_.values())), rtol=1e-9)
    assert "alpha_left" in search.cv_results_


# ---- no penalty ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "structure", ["shared", "moments", "per_feature", {"a": slice(10)}, np.arange(30) % 3, np.eye(30)[:, :3]]
)
def test_features_without_a_penalty_are_fitted_like_the_intercept(structure, cancer):
    X, y = cancer
    search = search_for(structure, unpenalized=[1, 11], max_iter=8).fit(X, y)
    free = np.isin(np.arange(30), [1, 11])
    np.testing.assert_array_equal(search.penalties_[free], 0.0)
    assert (search.penalties_[~free] > 0).all()
    model, factors = fit_reference(X, y, np.log(np.where(free, 1e-9, search.penalties_)))
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X * factors), atol=1e-4)
    assert search.best_params_["C"] == pytest.approx(np.exp(-np.log(search.penalties_[~free]).mean()))
    assert search.theta_.shape == (search.structure_.n_params,)
    assert np.isfinite(search.theta_).all()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_many_features_without_a_penalty_by_conjugate_gradient(n_classes):
    random = np.random.RandomState(0)
    X, y = random.randn(150, 64), np.arange(150) % n_classes
    free = np.isin(np.arange(64), [3, 20])
    log_penalties = np.where(free, -np.inf, 0.0)
    splits = list(StratifiedKFold(3).split(X, y))
    problem = make_problem(X, y, splits, n_classes=n_classes, dtype=np.float64)
    gradients = []
    for solver in (Aid(first_tol=None), Aid(max_direct=1, first_tol=None)):
        state = solver.advance(problem, solver.init(problem, log_penalties))
        expected = split_losses(X, y, splits, np.where(free, np.log(1e-6), 0.0))
        np.testing.assert_allclose(solver.losses(problem, state), expected, rtol=1e-4)
        gradients.append(solver.log_gradient(problem, state))
        assert not gradients[-1][free].any()
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-7)


def test_indicators_that_add_up_to_the_intercept_may_go_without_a_penalty(cancer):
    X, y = cancer
    batch = np.eye(3)[np.arange(len(y)) % 3]
    stacked = np.hstack([X, batch])
    search = search_for("shared", unpenalized=slice(30, None)).fit(stacked, y)
    independent = stacked[:, :-1]
    model, factors = fit_reference(independent, y, np.log(np.maximum(search.penalties_[:-1], 1e-9)))
    np.testing.assert_allclose(search.predict_proba(stacked), model.predict_proba(independent * factors), atol=1e-4)


def test_no_penalty_needs_a_solver_that_takes_it(cancer):
    with pytest.raises(ValueError, match="solver: Sgd needs a penalty on every feature"):
        search_for("shared", unpenalized=[0], solver="sgd").fit(*cancer)


def test_something_must_be_left_to_tune(cancer):
    with pytest.raises(ValueError, match="no feature with a penalty"):
        search_for("shared", unpenalized=slice(None)).fit(*cancer)


@pytest.mark.parametrize("structure", [shared(6), per_feature(6), blocks(["a", "a", "b", "b", "b", "b"])])
def test_a_feature_without_a_penalty_has_no_part_in_the_map(structure):
    free = np.array([True, True, False, False, False, False])
    made = structure.without(free)
    assert not made.change(np.ones(made.n_params))[:2].any()
    log_penalties = np.where(free, -np.inf, 1.5)
    theta, offset = made.start(log_penalties)
    np.testing.assert_allclose((offset + made.change(theta))[2:], 1.5)
    assert np.isneginf(offset[:2]).all()
    if structure.labels:
        assert made.labels == ("b",)


# ---- the edge of the range ----------------------------------------------------------------------------------------------


def test_a_result_at_the_edge_of_the_range_is_pointed_out():
    X = np.random.RandomState(0).randn(200, 1)
    with pytest.warns(UserWarning, match="The C found for the features is the largest that is tried.*unpenalized"):
        search_for("shared", estimator=LogisticRegression(C=1e4), tol=1e-12).fit(X + 0.2 * np.sign(X), 1 * (X[:, 0] > 0))


def test_a_block_at_the_edge_is_named():
    structure = blocks(["signal", "noise", "noise"])
    log_penalties = np.array([0.0, 18.0, 18.0])
    step = Step(structure, structure.mean(log_penalties), log_penalties, None, None, None, 0.0, 0.0)
    with pytest.warns(UserWarning, match="The alpha found for 'noise' is the largest that is tried.*leave them out"):
        warn_at_edge(step, (-18.0, 18.0), Target("alpha", 1.0, True, None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = replace(step, structure=per_feature(3))
        warn_at_edge(alone, (-18.0, 18.0), Target("C", 1.0, True, None, "logisticregression"))
