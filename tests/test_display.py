"""The displays draw what the search has left behind."""

import numpy as np
import pandas as pd
import pytest
from searches import search_for
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

import sksid
from sksid import CoefficientDisplay, HypergradientSearchDisplay, PenaltyDisplay

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
    """The heights of a line's points, without the gaps where stages begin."""
    heights = np.asarray(line.get_ydata(), dtype=np.float64)
    return heights[~np.isnan(heights)]


def places(line):
    """Where they stand."""
    steps = np.asarray(line.get_xdata(), dtype=np.float64)
    return steps[~np.isnan(steps)]


# ---- the search ---------------------------------------------------------------------------------------------------------


def test_splits_mean_and_chosen_step_are_drawn(shared):
    display = HypergradientSearchDisplay.from_estimator(shared)
    *splits, mean = display.lines_
    results = shared.cv_results_
    for k, line in enumerate(splits):
        np.testing.assert_array_equal(drawn(line), -results[f"split{k}_test_score"])
    np.testing.assert_allclose(drawn(mean), -results["mean_test_score"], rtol=1e-12)
    np.testing.assert_array_equal(places(mean), np.arange(shared.n_iter_))
    assert places(display.best_line_) == [shared.best_index_]
    assert display.text_ == []
    np.testing.assert_allclose(drawn(display.best_line_), -shared.best_score_, rtol=1e-12)
    assert display.ax_.get_ylabel() == "log loss"
    assert display.figure_ is display.ax_.figure


def test_stages_are_named_where_they_begin_with_their_gains(per_feature):
    display = HypergradientSearchDisplay.from_estimator(per_feature)
    structures = per_feature.cv_results_["structure"]
    begins = [0, *np.flatnonzero(structures[1:] != structures[:-1]) + 1]
    names = [text.get_text().split("\n") for text in display.text_]
    assert [name[0] for name in names] == [structures[step] for step in begins] == ["shared", "moments+evidence", "per_feature"]
    assert [text.xy[0] for text in display.text_] == [step - 0.5 for step in begins]
    for (_, gain), stage in zip(names[1:], per_feature.stages_[1:], strict=True):
        assert float(gain.split()[0]) == pytest.approx(-stage.gain, rel=0.1)


def test_lines_are_interrupted_where_a_stage_begins(per_feature):
    *splits, mean = HypergradientSearchDisplay.from_estimator(per_feature).lines_
    gaps = [int(np.isnan(line.get_ydata()).sum()) for line in (*splits, mean)]
    assert gaps == [2] * 4
    np.testing.assert_allclose(drawn(mean), -per_feature.cv_results_["mean_test_score"], rtol=1e-12)
    np.testing.assert_array_equal(places(mean), np.arange(per_feature.n_iter_))


def test_names_of_short_stages_do_not_cover_one_another():
    stages = ["shared", "a long name of a stage", "another long name", "another long name"]
    display = HypergradientSearchDisplay(np.ones((4, 2)), stages=stages, gains={stages[1]: "-0.1 ± 0.02"}).plot()
    boxes = [text.get_window_extent() for text in display.text_]
    assert len(boxes) == 3
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_a_score_is_drawn_as_it_is(cancer):
    search = search_for("per_feature", scoring=["accuracy", "neg_log_loss"], refit="accuracy", max_iter=3).fit(*cancer)
    display = HypergradientSearchDisplay.from_estimator(search)
    np.testing.assert_allclose(drawn(display.lines_[3]), search.cv_results_["mean_test_accuracy"], rtol=1e-12)
    assert display.ax_.get_ylabel() == "accuracy"
    names = ["shared", "moments+evidence", "per_feature"]
    assert [text.get_text() for text in display.text_] == names  # without gains, which are of the log loss
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
    display.plot(ax=ax, c="green", lw=5, name="mine")
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert {line.get_color() for line in display.lines_} == {"green"}
    assert [line.get_linewidth() for line in display.lines_] == [1, 1, 5]
    assert "mine" in [text.get_text() for text in ax.get_legend().get_texts()]
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
    np.testing.assert_array_equal(places(display.lines_[0]), per_feature.penalties_[np.r_[order[:3], order[-3:]]])
    assert labels(display) == [*[NAMES[j] for j in order[:3]], *[NAMES[j] for j in order[-3:]], "24 more"]


def test_of_thousands_the_ends_are_named_and_the_rest_is_a_density():
    penalties = np.exp(np.random.RandomState(0).randn(3000))
    penalties[7] = 0.0  # unpenalized
    display = PenaltyDisplay(penalties, [f"word{j}" for j in range(3000)]).plot(n_named=2)
    order = np.argsort(penalties)[1:]
    np.testing.assert_array_equal(places(display.lines_[0]), penalties[order[[0, 1, -2, -1]]])
    assert labels(display) == [f"word{order[i]}" for i in (0, 1, -2, -1)] + ["2,995 more"]
    outline = display.bars_.get_paths()[0].vertices
    assert outline[:, 0].min() == pytest.approx(penalties[order[2]])
    assert outline[:, 0].max() == pytest.approx(penalties[order[-3]])
    below, above = drawn(display.lines_[0])[[1, 2]]
    assert below < outline[:, 1].min() < outline[:, 1].max() < above
    peak = outline[outline[:, 1].argmax(), 0]
    assert 0.3 < peak < 3.0  # the mode of the penalties is 1


def test_thousands_of_equal_penalties_are_drawn():
    display = PenaltyDisplay(np.ones(2000), ["a"] * 2000).plot()
    assert labels(display)[-1] == "1,980 more"
    display.figure_.draw_without_rendering()


def test_groups_have_one_dot_each_and_a_shared_penalty_one(shared, cancer):
    groups = np.array(["worst", "mean", "error"])[np.arange(30) // 10]
    search = search_for(groups).fit(*cancer)
    display = PenaltyDisplay.from_estimator(search)
    by_name = dict(zip(labels(display), display.lines_[0].get_xdata(), strict=True))
    assert by_name == {f"{name} (10)": search.penalties_[groups == name][0] for name in ("worst", "mean", "error")}
    one = PenaltyDisplay.from_estimator(shared)
    assert labels(one) == ["all features (30)"]
    assert one.lines_[0].get_xdata() == [shared.penalties_[0]]
    assert one.shared_line_ is None


def test_the_one_penalty_for_all_is_drawn_beside_those_of_groups(shared, cancer):
    X, y = cancer
    for estimator in (LogisticRegression(), SGDClassifier(loss="log_loss")):
        alone = search_for(estimator=estimator).fit(X, y)
        grouped = search_for(np.arange(30) // 10, estimator=estimator).fit(X, y)
        line = PenaltyDisplay.from_estimator(grouped).shared_line_
        assert line.get_xdata()[0] == pytest.approx(alone.penalties_[0], rel=0.05)


def test_blocks_of_a_pipeline_have_one_dot_each_and_its_features_their_names(cancer):
    X, y = cancer
    union = FeatureUnion([("scaled", StandardScaler()), ("components", PCA(3))])
    pipeline = make_pipeline(union, LogisticRegression())
    search = search_for("blocks", estimator=pipeline).fit(X, y)
    display = PenaltyDisplay.from_estimator(search)
    by_name = dict(zip(labels(display), display.lines_[0].get_xdata(), strict=True))
    sizes = {"scaled": 30, "components": 3}
    assert by_name == pytest.approx({f"{name} ({sizes[name]})": 1.0 / C for name, C in search.block_params_.items()})
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


# ---- coefficients -------------------------------------------------------------------------------------------------------


def test_coefficients_before_and_after_with_the_most_changed_named(shared, per_feature, cancer):
    X, y = cancer
    frame = pd.DataFrame(X * np.geomspace(0.5, 2.0, 30), columns=NAMES)
    before = search_for().fit(frame, y)
    display = CoefficientDisplay.from_estimators(before, per_feature, n_named=4, ms=3, name="all")
    one, other = before.best_estimator_.coef_[0], per_feature.best_estimator_.coef_[0]
    np.testing.assert_array_equal(places(display.lines_[0]), one)
    np.testing.assert_array_equal(drawn(display.lines_[0]), other)
    changed = np.argsort(-np.abs(other - one))
    named = [text.get_text() for text in display.text_]
    assert named[0] == NAMES[changed[0]]
    assert set(named) <= {NAMES[j] for j in changed[:4]}
    assert display.lines_[0].get_markersize() == 3
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["all"]


def test_coefficients_of_pipelines_and_of_several_classes_are_named(digits):
    X, y = digits
    X, y = X[:400] * 16, y[:400] % 3
    weak, strong = (make_pipeline(StandardScaler(), LogisticRegression(C=C)).fit(X, y) for C in (1.0, 0.01))
    display = CoefficientDisplay.from_estimators(weak, strong, n_named=200)
    np.testing.assert_array_equal(drawn(display.lines_[0]), strong[-1].coef_.ravel())
    assert display.names[0] == "x0, 0"
    assert display.names[-1] == "x63, 2"
    boxes = [text.get_window_extent() for text in display.text_]
    assert 3 < len(boxes) < 192  # as many as there is room for
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_coefficients_of_different_features_are_refused(shared, cancer):
    other = LogisticRegression().fit(cancer[0][:, :3], cancer[1])
    with pytest.raises(ValueError, match="same features and classes"):
        CoefficientDisplay.from_estimators(shared, other)


# ---- all ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        HypergradientSearchDisplay.from_estimator,
        PenaltyDisplay.from_estimator,
        lambda search: CoefficientDisplay.from_estimators(search, search),
    ],
)
def test_displays_need_a_fitted_search_and_matplotlib(draw, shared, monkeypatch):
    with pytest.raises(NotFittedError):
        draw(search_for())
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match="requires matplotlib"):
        draw(shared)


def test_every_display_is_on_the_packages_face():
    assert {"HypergradientSearchDisplay", "PenaltyDisplay", "CoefficientDisplay"} <= set(sksid.__all__)
