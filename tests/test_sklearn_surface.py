"""What scikit-learn's own tests ask of GridSearchCV, asked of HypergradientSearchCV: their ideas, in lines of our own.

- cv_results_: keys, shapes, dtypes, masked parameter columns; one set of columns for each of several scores.
- Ranks: ties share one; the best step has rank 1.
- Attributes: not fitted, fitted, without refit; n_features_in_; delegated methods only where the estimator has them.
- Refusals: an estimator class, a clusterer or regressor, no y, several outputs, weights of two dimensions or another length.
- fit parameters: routing off and on; what is not requested is refused; weights reach estimator and scorer, groups the splitter.
- cv: any iterable, a splitter of one's own, a splitter that needs groups.
- Data: lists, pandas, polars, a column of labels, sparse matrices to predict on, read-only memory.
- pickle, deepcopy, joblib.dump; set_params and clone, also of nested parameters; repr, HTML with a link to the docs.
- Scorers that raise; scorers that are given weights.
- Inside of other estimators: pipelines, cross-validation, calibration, stacking, one against the rest, another search.

What tests/test_search_contract.py and tests/test_refit_rules.py hold (sparse storages, string labels, float32, pandas names,
multimetric with a name, callable refit, no refit, NaN scores, splits without a class) is not repeated.
"""

import copy
import io

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from searches import search_for
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import DataConversionWarning, NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut, StratifiedKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from sksid import HypergradientSearchCV


@pytest.fixture(scope="module")
def fitted(cancer):
    return search_for().fit(*cancer)


# ---- results ------------------------------------------------------------------------------------------------------------


def test_results_have_the_types_of_grid_search(fitted, cancer):
    grid = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3).fit(*cancer)
    for key, column in grid.cv_results_.items():
        own = fitted.cv_results_[key]
        assert type(own) is type(column), key
        assert getattr(own, "dtype", None) == getattr(column, "dtype", None), key
        assert np.shape(own) == (fitted.n_iter_,), key
    assert not fitted.cv_results_["param_C"].mask.any()
    assert not [key for key in fitted.cv_results_ if "train" in key]
    for key in ("mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"):
        assert (fitted.cv_results_[key] >= 0).all()
    assert isinstance(fitted.best_index_, int | np.integer)
    assert isinstance(fitted.best_score_, float)
    assert fitted.refit_time_ > 0


def test_every_score_has_its_columns(cancer):
    search = search_for(scoring={"hits": "accuracy", "area": "roc_auc"}, refit="area").fit(*cancer)
    for name in ("hits", "area"):
        columns = [f"split{k}_test_{name}" for k in range(3)] + [f"{kind}_test_{name}" for kind in ("mean", "std", "rank")]
        assert set(columns) <= set(search.cv_results_)
        mean = np.mean([search.cv_results_[f"split{k}_test_{name}"] for k in range(3)], axis=0)
        np.testing.assert_allclose(search.cv_results_[f"mean_test_{name}"], mean, rtol=1e-12)
    assert not [key for key in search.cv_results_ if key.endswith("_score")]


def test_equal_scores_share_a_rank(cancer):
    search = search_for(scoring=lambda model, X, y: 0.25).fit(*cancer)
    assert (search.cv_results_["rank_test_score"] == 1).all()
    assert search.best_score_ == 0.25
    assert search.best_index_ == 0


# ---- attributes ---------------------------------------------------------------------------------------------------------


def test_before_the_fit_there_is_nothing(cancer):
    search = search_for()
    assert not hasattr(search, "n_features_in_")
    assert not hasattr(search, "classes_")
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function", "score"):
        with pytest.raises(NotFittedError):
            getattr(search, method)(*cancer if method == "score" else cancer[:1])


def test_methods_are_those_of_the_estimator(fitted, cancer):
    X, _ = cancer
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(fitted, method)(X), getattr(fitted.best_estimator_, method)(X))
    assert not hasattr(fitted, "transform")
    assert not hasattr(fitted, "inverse_transform")
    assert not hasattr(search_for(estimator=SGDClassifier(loss="hinge")), "predict_proba")
    assert is_classifier(fitted)


@pytest.mark.parametrize("estimator", [LogisticRegression(), SGDClassifier(loss="log_loss")], ids=["logistic", "sgd"])
def test_tags_are_the_estimators(estimator):
    own, inner = get_tags(search_for(estimator=estimator)), get_tags(estimator)
    assert own.estimator_type == inner.estimator_type == "classifier"
    assert own.input_tags == inner.input_tags
    assert own.target_tags == inner.target_tags
    assert own.classifier_tags.multi_class is isinstance(estimator, LogisticRegression)
    assert own.array_api_support is False


def test_diagram_and_repr_show_the_search(fitted):
    html = fitted._repr_html_()
    assert 'href="https://sksid.readthedocs.io/en/stable/generated/sksid.HypergradientSearchCV.html"' in html
    assert "LogisticRegression" in html
    assert "HypergradientSearchCV" in repr(fitted)


def test_parameters_reach_the_estimator_inside():
    search = search_for(estimator=LogisticRegression(C=3.0))
    assert search.get_params()["estimator__C"] == 3.0
    assert clone(search).set_params(estimator__C=0.1, tol=1e-2).estimator.C == 0.1
    assert search.estimator.C == 3.0
    with pytest.raises(ValueError, match="nonsense"):
        search.set_params(nonsense=1)


# ---- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [KMeans(), Ridge(), LogisticRegression], ids=["clusterer", "regressor", "class"])
def test_what_is_no_logistic_regression_is_refused(estimator, cancer):
    with pytest.raises((TypeError, ValueError), match="estimator"):
        HypergradientSearchCV(estimator).fit(*cancer)


def test_labels_are_needed(cancer):
    with pytest.raises(ValueError, match="requires y to be passed"):
        search_for().fit(cancer[0])


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_several_outputs_are_refused(scoring, cancer):
    X, y = cancer
    with pytest.raises(ValueError, match="1d array"):
        search_for(scoring=scoring).fit(X, np.column_stack([y, y]))


def test_weights_are_one_for_each_row(cancer):
    X, y = cancer
    with pytest.raises(ValueError, match="[Ss]ample.weight"):
        search_for().fit(X, y, sample_weight=np.ones((len(y), 2)))
    with pytest.raises(ValueError, match="[Ss]ample.weight"):
        search_for().fit(X, y, sample_weight=np.ones(len(y) - 1))


def test_a_scorer_that_fails_is_not_hidden(cancer):
    def scorer(model, X, y):
        raise RuntimeError("no score today")

    with pytest.raises(RuntimeError, match="no score today"):
        search_for(scoring=scorer).fit(*cancer)


# ---- fit parameters and routing -----------------------------------------------------------------------------------------


def noted_scorer(seen):
    def score(y, decision, sample_weight=None):
        seen.append(sample_weight)
        return float(np.average((decision > 0) == y, weights=sample_weight))

    return make_scorer(score, response_method="decision_function")


def test_without_routing_weights_go_to_the_scorer_as_well(cancer):
    X, y = cancer
    weights, seen = np.random.RandomState(0).uniform(0.5, 2.0, len(y)), []
    search_for(scoring=noted_scorer(seen)).fit(X, y, sample_weight=pd.Series(weights))
    val = next(StratifiedKFold(3).split(X, y))[1]
    np.testing.assert_array_equal(seen[0], weights[val])


def test_with_routing_only_what_is_requested_goes_on(cancer):
    X, y = cancer
    weights, groups = np.random.RandomState(0).uniform(0.5, 2.0, len(y)), np.arange(len(y)) // 20
    off = search_for(cv=GroupKFold(3)).fit(X, y, sample_weight=weights, groups=groups)
    with config_context(enable_metadata_routing=True):
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            search_for().fit(X, y, sample_weight=weights)
        weighted = LogisticRegression().set_fit_request(sample_weight=True)
        seen = []
        silent = noted_scorer(seen).set_score_request(sample_weight=False)
        search_for(estimator=weighted, scoring=silent).fit(X, y, sample_weight=weights)
        assert set(seen) == {None}
        score = get_scorer("neg_log_loss").set_score_request(sample_weight=True)
        on = search_for(estimator=weighted, scoring=score, cv=GroupKFold(3).set_split_request(groups=True))
        on.fit(X, y, sample_weight=weights, groups=groups)
        routing = on.get_metadata_routing()
        assert {"scorer", "splitter", "estimator"} <= set(routing._route_mappings)
        unweighted = LogisticRegression().set_fit_request(sample_weight=False)
        loud = noted_scorer(seen).set_score_request(sample_weight=True)
        plain = search_for(estimator=unweighted, scoring=loud).fit(X, y, sample_weight=weights)
    assert on.best_params_["C"] == pytest.approx(off.best_params_["C"], rel=1e-6)
    assert on.best_score_ == pytest.approx(off.best_score_, rel=1e-3)
    assert seen[-1] is not None
    np.testing.assert_array_equal(plain.cv_results_["param_C"], search_for(scoring="accuracy").fit(X, y).cv_results_["param_C"])


# ---- cv -----------------------------------------------------------------------------------------------------------------


class OddAgainstEven:
    """A splitter with nothing but the two methods."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 2

    def split(self, X, y=None, groups=None):
        rows = np.arange(len(X))
        yield rows[::2], rows[1::2]
        yield rows[1::2], rows[::2]


def test_cv_may_be_anything_that_splits(cancer):
    X, y = cancer
    pairs = list(OddAgainstEven().split(X))
    results = [
        search_for(cv=cv).fit(X, y).cv_results_["mean_test_score"]
        for cv in (OddAgainstEven(), pairs, (pair for pair in pairs), [(train.tolist(), val.tolist()) for train, val in pairs])
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_boolean_masks_split_like_their_indices(cancer):
    X, y = cancer
    masks = [(np.arange(len(y)) % 2 == k, np.arange(len(y)) % 2 != k) for k in (0, 1)]
    indices = [(np.flatnonzero(train), np.flatnonzero(val)) for train, val in masks]
    grids = [GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=cv).fit(X, y).best_score_ for cv in (masks, indices)]
    assert grids[0] == grids[1]
    ours = [search_for(cv=cv).fit(X, y).best_score_ for cv in (masks, indices)]
    assert ours[0] == ours[1]


def test_a_splitter_by_groups_needs_groups(cancer):
    with pytest.raises(ValueError, match="groups"):
        search_for(cv=LeaveOneGroupOut()).fit(*cancer)


# ---- data ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_rows_may_come_as_lists(scoring, cancer):
    X, y = cancer
    lists, arrays = search_for(scoring=scoring).fit(X.tolist(), y.tolist()), search_for(scoring=scoring).fit(X, y)
    np.testing.assert_array_equal(lists.penalties_, arrays.penalties_)
    np.testing.assert_array_equal(lists.predict(X.tolist()), arrays.predict(X))


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_polars_frames_keep_their_names(scoring, cancer):
    pl = pytest.importorskip("polars", reason="polars is not installed")
    X, y = cancer
    frame = pl.DataFrame(X, schema=[f"f{j}" for j in range(30)])
    search = search_for(scoring=scoring).fit(frame, pl.Series(y))
    assert list(search.feature_names_in_) == frame.columns
    np.testing.assert_array_equal(search.penalties_, search_for(scoring=scoring).fit(X, y).penalties_)
    np.testing.assert_array_equal(search.predict(frame), search.best_estimator_.predict(frame))


def test_a_column_of_labels_is_taken_with_a_warning(cancer):
    X, y = cancer
    with pytest.warns(DataConversionWarning, match="column-vector"):
        column = search_for().fit(X, y[:, None])
    np.testing.assert_array_equal(column.penalties_, search_for().fit(X, y).penalties_)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csr_matrix])
def test_all_methods_take_sparse_rows(make, fitted, cancer):
    X, y = cancer
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_allclose(getattr(fitted, method)(make(X)), getattr(fitted, method)(X), rtol=1e-9)
    assert fitted.score(make(X), y) == pytest.approx(fitted.score(X, y), rel=1e-9)


def test_read_only_data_are_taken(cancer, tmp_path):
    X, y = cancer
    joblib.dump((X, y), tmp_path / "data")
    mapped = joblib.load(tmp_path / "data", mmap_mode="r")
    assert not mapped[0].flags.writeable
    ours, theirs = (search_for("per_feature", max_iter=3).fit(*data) for data in (mapped, (X, y)))
    np.testing.assert_array_equal(ours.penalties_, theirs.penalties_)


def test_other_names_than_in_the_fit_are_refused(cancer):
    X, y = cancer
    frame = pd.DataFrame(X, columns=[f"f{j}" for j in range(30)])
    search = search_for().fit(frame, y)
    with pytest.raises(ValueError, match="feature names"):
        search.predict(frame.rename(columns={"f0": "other"}))


# ---- copies -------------------------------------------------------------------------------------------------------------


def test_a_fitted_search_can_be_stored_and_copied(cancer):
    X, y = cancer
    search = search_for("per_feature", max_iter=4).fit(X, y)
    buffer = io.BytesIO()
    joblib.dump(search, buffer)
    buffer.seek(0)
    for other in (joblib.load(buffer), copy.deepcopy(search)):
        np.testing.assert_array_equal(other.predict_proba(X), search.predict_proba(X))
        np.testing.assert_array_equal(other.fit(X, y).penalties_, search.penalties_)


# ---- inside of other estimators -----------------------------------------------------------------------------------------


def test_in_a_pipeline(cancer):
    X, y = cancer
    pipeline = make_pipeline(StandardScaler(), search_for()).fit(3.0 * X + 1.0, y)
    np.testing.assert_allclose(pipeline[-1].penalties_, search_for().fit(X, y).penalties_, rtol=1e-6)
    assert pipeline.score(3.0 * X + 1.0, y) > -0.1


def test_in_cross_validation_side_by_side(cancer):
    with joblib.parallel_config("threading"):
        one, two = (cross_val_score(search_for(), *cancer, cv=3, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_in_ensembles_and_searches(cancer, digits):
    X, y = cancer
    assert CalibratedClassifierCV(search_for(), cv=3).fit(X, y).score(X, y) > 0.95
    assert StackingClassifier([("search", search_for())], cv=3).fit(X, y).score(X, y) > 0.95
    structures = ["shared", "moments"]
    outer = GridSearchCV(search_for(max_iter=5), {"structure": structures}, cv=3).fit(X, y)
    scores = [cross_val_score(search_for(structure, max_iter=5), X, y, cv=3).mean() for structure in structures]
    np.testing.assert_array_equal(outer.cv_results_["mean_test_score"], scores)
    assert outer.best_params_["structure"] == structures[np.argmax(scores)]
    X, y = digits[0][:300], digits[1][:300] % 4
    assert OneVsRestClassifier(search_for(max_iter=5)).fit(X, y).score(X, y) > 0.8
