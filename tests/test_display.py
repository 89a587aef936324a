"""The displays draw what the search has left behind."""

import numpy as np
import pandas as pd
import pytest
from searches import search_for
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

import sksid
from sksid import HypergradientSearchDisplay, PenaltyDisplay

matplotlib = pytest.importorskip("matplotlib", reason="the displays need matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="the displays need matplotlib")

NAMES = [f"feature {j}" for j in range(30)]


@pytest.fixture(scope="module")
def shared(cancer):
    return search_for().fit(*cancer)


@pytest.fixture(scope="module")
def per_feature(cancer):
    X, y = cancer
    rule = {"refit": lambda results: len(results["params"]) - 1}
    return search_for("per_feature", max_iter=6, **rule).fit(pd.DataFrame(X * np.geomspace(0.5, 2.0, 30), columns=NAMES), y)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def drawn(line):
    return np.asarray(line.get_ydata())


# ---- the search ---------------------------------------------------------------------------------------------------------


def test_splits_mean_and_chosen_step_are_drawn(shared):
    display = HypergradientSearchDisplay.from_estimator(shared)
    *splits, mean = display.lines_
    results = shared.cv_results_
    for k, line in enumerate(splits):
        np.testing.assert_array_equal(drawn(line), -results[f"split{k}_test_score"])
    np.testing.assert_allclose(drawn(mean), -results["mean_test_score"], rtol=1e-12)
    np.testing.assert_array_equal(mean.get_xdata(), np.arange(shared.n_iter_))
    assert display.best_line_.get_xdata() == [shared.best_index_]
    np.testing.assert_allclose(drawn(display.best_line_), -shared.best_score_, rtol=1e-12)
    assert display.ax_.get_ylabel() == "log loss"
    assert display.figure_ is display.ax_.figure


def test_stages_and_their_gains_are_drawn(per_feature):
    display = HypergradientSearchDisplay.from_estimator(per_feature)
    results = per_feature.cv_results_
    assert len(display.lines_) == 3 + 1
    texts = [text.get_text().split("  ") for text in display.ax_.texts]
    assert [name for name, _ in texts] == ["moments+evidence", "per_feature"]
    for (_, gain), stage in zip(texts, per_feature.stages_[1:], strict=True):
        assert float(gain.split()[0]) == pytest.approx(-stage.gain, rel=0.1)
    first = np.flatnonzero(results["structure"] == "moments+evidence")[0]
    assert display.ax_.lines[-2].get_xdata()[0] == first - 0.5


def test_a_score_is_drawn_as_it_is(cancer):
    search = search_for("per_feature", scoring=["accuracy", "neg_log_loss"], refit="accuracy", max_iter=3).fit(*cancer)
    display = HypergradientSearchDisplay.from_estimator(search)
    np.testing.assert_allclose(drawn(display.lines_[3]), search.cv_results_["mean_test_accuracy"], rtol=1e-12)
    assert display.ax_.get_ylabel() == "accuracy"
    assert [text.get_text() for text in display.ax_.texts] == ["moments+evidence", "per_feature"]  # gains are of the log loss
    loss = HypergradientSearchDisplay.from_estimator(search, metric="neg_log_loss")
    np.testing.assert_allclose(drawn(loss.lines_[3]), -search.cv_results_["mean_test_neg_log_loss"], rtol=1e-12)
    assert len(loss.lines_) == 4


def test_several_scores_without_a_refit_have_no_chosen_step(cancer):
    search = search_for(scoring=["accuracy", "roc_auc"], refit=False, max_iter=2).fit(*cancer)
    display = HypergradientSearchDisplay.from_estimator(search, metric="roc_auc")
    assert display.best_line_ is None
    np.testing.assert_array_equal(drawn(display.lines_[0]), search.cv_results_["split0_test_roc_auc"])


def test_a_display_is_made_of_plain_arrays_and_draws_where_it_is_told(per_feature):
    figure, ax = plt.subplots()
    display = HypergradientSearchDisplay(np.array([[0.5, 0.7], [0.8, 0.8]]), best_index=1)
    assert not hasattr(display, "ax_")
    display.plot(ax=ax, line_kw={"color": "green"})
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert display.lines_[2].get_color() == "green"
    np.testing.assert_allclose(drawn(display.lines_[2]), [0.6, 0.8])
    assert PenaltyDisplay.from_estimator(per_feature, ax=ax).ax_ is ax


# ---- penalties ----------------------------------------------------------------------------------------------------------


def labels(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def test_penalties_are_drawn_in_order_with_their_names(per_feature):
    display = PenaltyDisplay.from_estimator(per_feature, n_named=15)
    order = np.argsort(per_feature.penalties_, kind="stable")
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), per_feature.penalties_[order])
    assert labels(display) == [NAMES[j] for j in order]
    assert display.ax_.get_xscale() == "log"


def test_the_smallest_and_the_largest_of_many_are_named(per_feature):
    display = PenaltyDisplay.from_estimator(per_feature, n_named=3)
    order = np.argsort(per_feature.penalties_, kind="stable")
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), per_feature.penalties_[np.r_[order[:3], order[-3:]]])
    np.testing.assert_array_equal(drawn(display.lines_[0]), [0, 1, 2, 4, 5, 6])
    assert labels(display) == [*[NAMES[j] for j in order[:3]], "… 24 more", *[NAMES[j] for j in order[-3:]]]


def test_thousands_are_a_histogram_with_the_ends_named():
    penalties = np.exp(np.random.RandomState(0).randn(3000))
    penalties[7] = 0.0  # unpenalized
    display = PenaltyDisplay(penalties, [f"word{j}" for j in range(3000)]).plot(n_named=2)
    assert display.lines_ == []
    assert sum(bar.get_height() for bar in display.bars_) == 2999
    order = np.argsort(penalties)[1:]
    assert [text.get_text() for text in display.text_] == [
        f"word{order[0]}\nword{order[1]}",
        f"word{order[-1]}\nword{order[-2]}",
    ]
    equal = PenaltyDisplay(np.ones(2000), ["a"] * 2000).plot()
    assert sum(bar.get_height() for bar in equal.bars_) == 2000


def test_groups_have_one_dot_each_and_a_shared_penalty_one(shared, cancer):
    groups = np.array(["worst", "mean", "error"])[np.arange(30) // 10]
    search = search_for(groups).fit(*cancer)
    display = PenaltyDisplay.from_estimator(search)
    by_name = dict(zip(labels(display), display.lines_[0].get_xdata(), strict=True))
    assert by_name == {name: search.penalties_[groups == name][0] for name in ("worst", "mean", "error")}
    one = PenaltyDisplay.from_estimator(shared)
    assert labels(one) == ["all features"]
    assert one.lines_[0].get_xdata() == [shared.penalties_[0]]


def test_blocks_of_a_pipeline_have_one_dot_each_and_its_features_their_names(cancer):
    X, y = cancer
    union = FeatureUnion([("scaled", StandardScaler()), ("components", PCA(3))])
    pipeline = make_pipeline(union, LogisticRegression())
    search = search_for("blocks", estimator=pipeline).fit(X, y)
    display = PenaltyDisplay.from_estimator(search)
    by_name = dict(zip(labels(display), display.lines_[0].get_xdata(), strict=True))
    assert by_name == pytest.approx({name: 1.0 / C for name, C in search.block_params_.items()})
    many = search_for("per_feature", estimator=pipeline, early_stopping=False, max_iter=3).fit(X, y)
    assert many.structure_.name == "per_feature"
    assert {"components__pca0", "scaled__x0"} <= set(labels(PenaltyDisplay.from_estimator(many, n_named=20)))


def test_columns_without_a_penalty_are_not_drawn(cancer):
    search = search_for("per_feature", unpenalized=[0], early_stopping=False, max_iter=2).fit(*cancer)
    names = labels(PenaltyDisplay.from_estimator(search, n_named=20))
    assert len(names) == 29
    assert "x0" not in names


def test_features_without_names_are_numbered(cancer):
    search = search_for("per_feature", early_stopping=False, max_iter=2).fit(*cancer)
    assert set(labels(PenaltyDisplay.from_estimator(search, n_named=15))) == {f"x{j}" for j in range(30)}


# ---- both ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", [HypergradientSearchDisplay, PenaltyDisplay])
def test_displays_need_a_fitted_search_and_matplotlib(display, shared, monkeypatch):
    with pytest.raises(NotFittedError):
        display.from_estimator(search_for())
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match="requires matplotlib"):
        display.from_estimator(shared)


def test_every_display_is_on_the_packages_face():
    assert {"HypergradientSearchDisplay", "PenaltyDisplay"} <= set(sksid.__all__)
