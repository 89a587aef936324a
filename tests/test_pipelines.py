"""Pipelines: preprocessing is fitted once for each split, on its training rows, and all else is as in GridSearchCV."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from oracles import split_losses
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder, StandardScaler
from sksid._kernels._layout import UNUSED

from sksid import HypergradientSearchCV
from sksid._data import prepare
from sksid._estimators import read
from sksid._parts import make_nest
from sksid._pipeline import preprocessing_steps
from sksid.descent import Bilevel
from sksid.problem import Problem
from sksid.solvers import Aid, _together

CONVERGED = {"solver": "newton-cg", "tol": 1e-9, "max_iter": 10_000}


def search_for(estimator, structure="shared", **settings):
    return HypergradientSearchCV(estimator, structure=structure, **{"cv": 3, "random_state": 0, **settings})


def converged(search):
    """The pipeline at the parameters found, to be fitted by scikit-learn to convergence."""
    (name, value), *_ = search.best_params_.items()
    path = name.rpartition("__")[0]
    return clone(search.estimator).set_params(**{f"{path}__{key}": setting for key, setting in CONVERGED.items()}), name, value


def assert_like_grid_search(search, X, y, **params):
    """Score and probabilities are those of GridSearchCV at the parameters found, with a converged solver."""
    model, name, value = converged(search)
    grid = GridSearchCV(model, {name: [value]}, cv=search.cv, scoring="neg_log_loss").fit(X, y, **params)
    assert search.best_score_ == pytest.approx(grid.best_score_, rel=1e-3)
    np.testing.assert_allclose(search.predict_proba(X), grid.predict_proba(X), atol=1e-4)
    np.testing.assert_array_equal(search.predict(X[:20]), grid.predict(X[:20]))


def write_documents(n=240, seed=0):
    """Documents of two kinds: common words, words of their kind, and some that stand in one document only."""
    random = np.random.RandomState(seed)
    y = random.randint(0, 2, n)
    words = [f"w{j}" for j in range(40)]
    shares = random.dirichlet(np.ones(40), size=2)
    texts = []
    for i, kind in enumerate(y):
        share = 0.5 * shares[kind] + 0.5 * shares.mean(axis=0)
        texts.append(" ".join([*random.choice(words, size=15, p=share), f"only{i}"]))
    return texts, np.array(["ham", "spam"])[y]


@pytest.fixture(scope="module")
def documents():
    return write_documents()


@pytest.fixture(scope="module")
def table(documents):
    """Text, numbers and a category side by side."""
    texts, y = documents
    random = np.random.RandomState(1)
    sick = (y == "spam").astype(float)
    frame = {"text": texts, "age": 40 + 10 * random.randn(len(y)) + 5 * sick, "noise": random.randn(len(y))}
    return pd.DataFrame({**frame, "city": random.choice(["here", "there"], len(y))}), y


def columns_pipeline(**settings):
    columns = ColumnTransformer(
        [
            ("text", TfidfVectorizer(), "text"),
            ("numbers", StandardScaler(), ["age", "noise"]),
            ("city", OneHotEncoder(), ["city"]),
        ],
        **settings,
    )
    return make_pipeline(columns, LogisticRegression())


class Recorder(TransformerMixin, BaseEstimator):
    """Scales, and keeps the first column of whatever it is fitted on."""

    fitted_on = []

    def fit(self, X, y=None):
        self.scaler_ = StandardScaler().fit(X)
        self.fitted_on.append(np.asarray(X)[:, 0])
        return self

    def transform(self, X):
        return self.scaler_.transform(X)


# ---- no leakage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["shared", "per_feature"])
def test_preprocessing_is_fitted_once_a_split_on_its_training_rows(structure, cancer, monkeypatch):
    monkeypatch.setattr(Recorder, "fitted_on", [])
    X, y = cancer
    X = np.column_stack([np.arange(len(y)), X])
    search = search_for(make_pipeline(Recorder(), LogisticRegression()), structure, max_iter=5).fit(X, y)
    everything, *splits = [set(rows) for rows in Recorder.fitted_on]
    assert len(splits) == 3
    assert everything == set(range(len(y)))
    seen = set().union(*splits)
    assert len(seen) == len(y)
    for rows, (train, _) in zip(splits, StratifiedKFold(3).split(X, y), strict=True):
        assert rows == set(train) & seen
    assert search.n_iter_ > 1


def test_selection_by_labels_of_pure_noise_stays_at_chance():
    random = np.random.RandomState(0)
    X, y = random.randn(120, 3000), np.arange(120) % 2
    selected = make_pipeline(SelectKBest(k=20), LogisticRegression(C=1e-2))
    search = search_for(selected, scoring=["neg_log_loss", "accuracy"], refit="neg_log_loss", cv=5).fit(X, y)
    assert -search.best_score_ >= np.log(2) * 0.99
    assert abs(search.cv_results_["mean_test_accuracy"][search.best_index_] - 0.5) <= 0.15
    leaked = search_for(LogisticRegression(C=1e-2), cv=5).fit(SelectKBest(k=20).fit_transform(X, y), y)
    assert -leaked.best_score_ <= 0.6


# ---- equality with GridSearchCV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["aid", "dual"])
@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), PCA(8), LogisticRegression(class_weight="balanced")),
        make_pipeline(SelectKBest(k=12), make_pipeline(StandardScaler(), LogisticRegression(fit_intercept=False))),
        Pipeline([("none", None), ("pass", "passthrough"), ("scale", StandardScaler()), ("model", LogisticRegression())]),
        make_pipeline(Normalizer(), LogisticRegression(C=100.0)),
        make_pipeline(LogisticRegression()),
    ],
    ids=["scaler", "pca", "nested", "skipped", "stateless", "alone"],
)
def test_numbers_are_searched_as_by_grid_search(estimator, solver, cancer):
    X, y = cancer
    search = search_for(estimator, solver=solver).fit(X, y)
    assert_like_grid_search(search, X, y)


@pytest.mark.parametrize(
    ("estimator", "container"),
    [
        (make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression()), list),
        (make_pipeline(CountVectorizer(min_df=2), TfidfTransformer(), LogisticRegression()), np.array),
        (make_pipeline(HashingVectorizer(n_features=256), LogisticRegression()), np.array),
        (make_pipeline(make_union(TfidfVectorizer(), CountVectorizer(analyzer="char")), LogisticRegression()), pd.Series),
        (make_pipeline(make_pipeline(CountVectorizer(), SelectKBest(k=30)), Normalizer(), LogisticRegression()), pd.Series),
    ],
    ids=["tfidf", "steps", "hashing", "union", "selected"],
)
def test_raw_text_is_searched_as_by_grid_search(estimator, container, documents):
    texts, y = documents
    X = container(texts)
    search = search_for(estimator).fit(X, y)
    assert_like_grid_search(search, X, y)
    assert list(search.classes_) == ["ham", "spam"]


def test_columns_of_a_frame_are_searched_as_by_grid_search(table):
    X, y = table
    search = search_for(columns_pipeline()).fit(X, y)
    assert_like_grid_search(search, X, y)
    assert list(search.feature_names_in_) == list(X.columns)
    assert search.n_features_in_ == 4


def test_sgd_in_a_pipeline_keeps_its_alpha(cancer):
    X, y = cancer
    sgd = SGDClassifier(loss="log_loss", alpha=0.01)
    search = search_for(make_pipeline(StandardScaler(), sgd)).fit(X, y)
    (name,) = search.best_params_
    assert name == "sgdclassifier__alpha"
    model = LogisticRegression(C=1 / (search.best_params_[name] * len(y)), **CONVERGED).fit(
        StandardScaler().fit_transform(X), y
    )
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(StandardScaler().fit_transform(X)), atol=1e-4)


def test_per_feature_score_is_that_of_its_penalties(cancer):
    X, y = cancer
    X = np.exp(X / 3)
    search = search_for(make_pipeline(StandardScaler(), LogisticRegression()), "per_feature", early_stopping=False, max_iter=8)
    search.fit(X, y)
    losses = []
    for train, val in StratifiedKFold(3).split(X, y):
        Z = StandardScaler().fit(X[train]).transform(X)
        losses.extend(split_losses(Z, y, [(train, val)], np.log(search.penalties_)))
    assert search.best_score_ == pytest.approx(-np.mean(losses), rel=1e-3)


@pytest.mark.parametrize(
    "scoring", ["accuracy", lambda model, X, y: float(np.mean(model.predict(X) == y))], ids=["name", "call"]
)
def test_other_scores_are_those_of_the_splits_pipelines(scoring, documents):
    X, y = documents
    search = search_for(make_pipeline(TfidfVectorizer(), LogisticRegression()), scoring=scoring).fit(X, y)
    model, name, value = converged(search)
    assert search.best_score_ == pytest.approx(cross_val_score(model.set_params(**{name: value}), X, y, cv=3).mean())


def test_a_callable_score_is_given_what_the_user_gave(table):
    X, y = table
    seen = []

    def score(model, X, y):
        seen.append((type(model), list(X.columns)))
        return model.score(X, y)

    search_for(columns_pipeline(), scoring=score, max_iter=1).fit(X, y)
    assert set(map(str, seen)) == {str((Pipeline, list(X.columns)))}


def test_several_scores_a_callable_refit_and_none(documents):
    X, y = documents
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    search = search_for(pipeline, scoring=["accuracy", "neg_log_loss"], refit="neg_log_loss").fit(X, y)
    assert search.best_score_ == search.cv_results_["mean_test_neg_log_loss"].max()
    none = search_for(pipeline, refit=False).fit(X, y)
    assert not hasattr(none, "best_estimator_")
    assert none.penalties_.shape == search.penalties_.shape


# ---- what it leaves behind ----------------------------------------------------------------------------------------------


def test_the_best_estimator_is_a_plain_pipeline(documents):
    X, y = documents
    estimator = make_pipeline(TfidfVectorizer(), make_pipeline(Normalizer(), LogisticRegression()))
    search = search_for(estimator, "per_feature", max_iter=5).fit(X, y)
    best = search.best_estimator_
    assert [type(step).__module__.split(".")[0] for step in preprocessing_steps(best)] == ["sklearn", "sklearn"]
    assert type(best[-1][-1]) is LogisticRegression
    assert best.get_params()["pipeline__logisticregression__C"] == search.best_params_["pipeline__logisticregression__C"]
    assert list(search.cv_results_["params"][0]) == ["pipeline__logisticregression__C"]
    assert "param_pipeline__logisticregression__C" in search.cv_results_
    assert search.penalties_.shape == best[-1][-1].coef_.shape[1:] == best[0].get_feature_names_out().shape
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(best)).predict_proba(X), search.predict_proba(X))
    assert not hasattr(estimator[0], "vocabulary_")
    assert clone(best).fit(X, y).score(X, y) > 0.8


# joblib says so where the disk is slow
@pytest.mark.filterwarnings("ignore:Persisting input arguments took:UserWarning")
def test_memory_keeps_the_preprocessing(documents, tmp_path):
    X, y = documents
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(), memory=str(tmp_path))
    plain = search_for(clone(pipeline).set_params(memory=None)).fit(X, y)
    for _ in range(2):
        search = search_for(pipeline).fit(X, y)
        np.testing.assert_array_equal(search.predict_proba(X), plain.predict_proba(X))
    assert len(list(tmp_path.rglob("output.pkl"))) == 4  # three splits and the refit


# ---- features that come and go ------------------------------------------------------------------------------------------


def test_a_feature_has_the_same_penalty_wherever_its_name_is(documents):
    """With a vocabulary of the training rows, the loss is that of each split's own words under the penalties by name."""
    X, y = documents
    search = search_for(make_pipeline(CountVectorizer(), LogisticRegression()), "per_feature", early_stopping=False, max_iter=6)
    search.fit(X, y)
    names = search.best_estimator_[0].get_feature_names_out()
    penalties = dict(zip(names, search.penalties_, strict=True))
    texts, losses = np.array(X), []
    for train, val in StratifiedKFold(3).split(X, y):
        counts = CountVectorizer().fit(texts[train])
        own = np.log([penalties[name] for name in counts.get_feature_names_out()])
        losses.extend(split_losses(counts.transform(texts), y, [(train, val)], own))
    assert search.best_score_ == pytest.approx(-np.mean(losses), rel=1e-3)
    assert len(names) > 240


def test_features_of_the_splits_only_have_a_penalty_too():
    random = np.random.RandomState(0)
    X, y = random.randn(300, 40), np.arange(300) % 2
    X[:, :2] += y[:, None]
    pipeline = make_pipeline(SelectKBest(k=5), LogisticRegression())
    search = search_for(pipeline, "per_feature", early_stopping=False, max_iter=5).fit(X, y)
    assert search.penalties_.shape == (5,)
    assert search.theta_.size > 5
    with pytest.raises(ValueError, match="features of their own"):
        search_for(pipeline, np.arange(5)).fit(X, y)


class Nameless(CountVectorizer):
    """Counts words, and does not tell them."""

    @property
    def get_feature_names_out(self):
        raise AttributeError("no names")


def test_without_names_features_must_be_as_many_in_every_split(documents):
    X, y = documents
    pipeline = make_pipeline(Nameless(), LogisticRegression())
    for settings in ({"structure": "per_feature"}, {"structure": "moments", "unpenalized": [0]}, {"unpenalized": [0]}):
        with pytest.raises(ValueError, match="and no names for them"):
            search_for(pipeline, **settings).fit(X, y)
    for structure in ("shared", "evidence"):  # which need not know which feature is which
        nameless, named = (
            search_for(each, structure).fit(X, y) for each in (pipeline, make_pipeline(CountVectorizer(), LogisticRegression()))
        )
        assert nameless.best_score_ == pytest.approx(named.best_score_, rel=1e-6)
    chosen = search_for(pipeline, "auto").fit(X, y)
    assert [stage.structure for stage in chosen.stages_] == ["shared", "moments+evidence"]
    fixed = make_pipeline(Nameless(vocabulary=[f"w{j}" for j in range(40)]), LogisticRegression())
    assert search_for(fixed, "per_feature", max_iter=3).fit(X, y).penalties_.shape == (40,)


# ---- blocks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose_feature_names_out", [True, False])
def test_every_transformer_has_a_penalty_of_its_own(verbose_feature_names_out, table):
    X, y = table
    pipeline = columns_pipeline(verbose_feature_names_out=verbose_feature_names_out)
    search = search_for(pipeline, "blocks").fit(X, y)
    assert list(search.block_params_) == ["text", "numbers", "city"]
    places = search.best_estimator_[0].output_indices_
    for name in search.block_params_:
        np.testing.assert_allclose(1 / search.penalties_[places[name]], search.block_params_[name], rtol=1e-9)
        assert f"C_{name}" in search.cv_results_
    assert search.best_score_ >= search_for(pipeline, "shared").fit(X, y).best_score_ - 1e-4


def test_columns_without_a_penalty_are_named_by_transformer_or_feature(table):
    X, y = table
    by_transformer = search_for(columns_pipeline(), "blocks", unpenalized="numbers").fit(X, y)
    by_feature = search_for(columns_pipeline(), "blocks", unpenalized=["numbers__age", "numbers__noise"]).fit(X, y)
    assert list(by_transformer.block_params_) == ["text", "city"]
    np.testing.assert_array_equal(by_transformer.penalties_, by_feature.penalties_)
    place = by_transformer.best_estimator_[0].output_indices_["numbers"]
    assert not by_transformer.penalties_[place].any()


# ---- one pass where nothing is fitted -----------------------------------------------------------------------------------


def test_stateless_preprocessing_leaves_one_problem(cancer):
    X, y = cancer
    search = search_for(make_pipeline(Normalizer(), LogisticRegression()))
    routed = search._get_routed_params_for_fit({})
    data = prepare(search.estimator, X, y, read(search.estimator), routed, structure="shared", cv=3)
    assert data.split_views is None
    problem = data.problem()
    assert isinstance(problem, Problem)
    assert problem.n_splits == 3


@pytest.mark.parametrize("estimator", [LogisticRegression(), make_pipeline(Normalizer(), LogisticRegression())])
def test_search_parts_and_final_fit_share_the_rows(estimator, cancer):
    X, y = cancer
    data = prepare(estimator, X, y, read(estimator), search_for(estimator)._get_routed_params_for_fit({}), cv=3, random_state=0)
    final, nest = data.final_problem(), make_nest(data, lambda problem, tol=None: Bilevel(problem, Aid()))
    for other in (data.problem(), nest.inner.problem, nest.rest.problem, nest.judge):
        assert np.shares_memory(other.rows.values, final.rows.values)
    assert final.n_rows == len(y) == (nest.judge.roles.role != UNUSED).sum()


# ---- metadata -----------------------------------------------------------------------------------------------------------


def some_weights(y):
    return np.random.RandomState(0).uniform(0.2, 3.0, len(y))


def test_weights_reach_the_final_step_as_in_grid_search(cancer):
    X, y = cancer
    search = search_for(make_pipeline(StandardScaler(), LogisticRegression()))
    params = {"logisticregression__sample_weight": some_weights(y)}
    search.fit(X, y, **params)
    model, name, value = converged(search)
    weighted = clone(model).set_params(**{name: value}).fit(X, y, **params)
    np.testing.assert_allclose(search.predict_proba(X), weighted.predict_proba(X), atol=1e-4)
    with pytest.raises(ValueError, match="does not accept the sample_weight parameter"):
        search.fit(X, y, sample_weight=some_weights(y))
    with pytest.raises(TypeError, match="coef_init"):
        search.fit(X, y, logisticregression__coef_init=np.ones(30))


def test_routed_weights_reach_the_steps_that_ask_for_them(cancer):
    X, y = cancer
    weights = some_weights(y)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        model = LogisticRegression().set_fit_request(sample_weight=True)
        search = search_for(make_pipeline(scaler, model)).fit(X, y, sample_weight=weights)
        reference, name, value = converged(search)
        reference.set_params(**{name: value}).fit(X, y, sample_weight=weights)
        np.testing.assert_allclose(search.predict_proba(X), reference.predict_proba(X), atol=1e-4)
        np.testing.assert_array_equal(search.best_estimator_[0].mean_, reference[0].mean_)
        deaf = LogisticRegression().set_fit_request(sample_weight=False)
        only_scaler = search_for(make_pipeline(scaler, deaf)).fit(X, y, sample_weight=weights)
        reference, name, value = converged(only_scaler)
        reference.set_params(**{name: value}).fit(X, y, sample_weight=weights)
        np.testing.assert_allclose(only_scaler.predict_proba(X), reference.predict_proba(X), atol=1e-4)


# ---- the search inside other estimators ---------------------------------------------------------------------------------


def test_the_search_works_inside_other_estimators(documents):
    X, y = documents
    search = search_for(make_pipeline(TfidfVectorizer(), LogisticRegression()), max_iter=3)
    assert cross_val_score(search, X, y, cv=3).mean() > -0.69
    calibrated = CalibratedClassifierCV(search, cv=3).fit(X, y)
    assert calibrated.score(X, y) > 0.9
    stacked = StackingClassifier([("one", search), ("two", search_for(make_pipeline(CountVectorizer(), LogisticRegression())))])
    assert stacked.fit(X, y).score(X, y) > 0.9
    outside = make_pipeline(TfidfVectorizer(), search_for(LogisticRegression())).fit(X, y)
    assert outside.score(X, y) > -0.6


# ---- determinism --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", [None, "accuracy"])
@pytest.mark.parametrize("structure", ["shared", "per_feature"])
def test_any_number_of_jobs_gives_the_same_bits(structure, scoring, documents, monkeypatch):
    monkeypatch.setattr(_together, "WORK_FOR_A_THREAD", 0.0)
    X, y = documents
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    one, two = (search_for(pipeline, structure, scoring=scoring, max_iter=5, n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one.penalties_, two.penalties_)
    np.testing.assert_array_equal(one.best_estimator_[-1].coef_, two.best_estimator_[-1].coef_)
    for k in range(3):
        np.testing.assert_array_equal(one.cv_results_[f"split{k}_test_score"], two.cv_results_[f"split{k}_test_score"])


# ---- what it refuses ----------------------------------------------------------------------------------------------------


def test_a_pipeline_must_end_in_a_penalty(cancer):
    with pytest.raises(TypeError, match="or a Pipeline that ends in one"):
        search_for(make_pipeline(StandardScaler(), PCA(2))).fit(*cancer)
    with pytest.raises(ValueError, match="l1_ratio"):
        search_for(make_pipeline(StandardScaler(), LogisticRegression(l1_ratio=0.5))).fit(*cancer)


def test_features_of_the_preprocessing_must_be_finite(cancer):
    X, y = cancer
    pipeline = make_pipeline(FunctionTransformer(lambda X: np.where(X > 2, np.nan, X)), LogisticRegression())
    with pytest.raises(ValueError, match="NaN"):
        search_for(pipeline).fit(X, y)
