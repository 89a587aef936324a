"""What others do with a search: samplers, multilabel wrappers, converters, loggers, workers elsewhere, pickles.

Each client that is not installed is skipped; ``pip install -e '.[test,clients]'`` installs them all.
"""

import io
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from searches import search_for
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = make_classification(500, 12, weights=[0.85], flip_y=0.05, random_state=0)
TEXTS = [" ".join(f"w{j}" for j in np.flatnonzero(row > 0.7)) + " the" for row in X]


# ---- imbalanced-learn ---------------------------------------------------------------------------------------------------


def sampler(name):
    pytest.importorskip("imblearn", reason="imbalanced-learn is not installed")
    from imblearn import combine, over_sampling, under_sampling

    kinds = {**vars(over_sampling), **vars(under_sampling), **vars(combine)}
    return kinds[name](random_state=0)


def sampled(*steps):
    pipeline = pytest.importorskip("imblearn.pipeline", reason="imbalanced-learn is not installed")
    return pipeline.make_pipeline(*steps)


SAMPLERS = ["SMOTE", "RandomOverSampler", "RandomUnderSampler", "SMOTEENN", "SMOTETomek"]


@pytest.mark.parametrize("scaled_first", [True, False])
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_see_training_rows_only(name, scaled_first):
    """The score is GridSearchCV's at that C, and the model that of its refit."""
    steps = [StandardScaler(), sampler(name)]
    pipeline = sampled(*(steps if scaled_first else steps[::-1]), LogisticRegression(tol=1e-9, max_iter=10_000))
    search = search_for(estimator=pipeline, cv=5).fit(X, y)
    (parameter, C), *_ = search.best_params_.items()
    grid = GridSearchCV(pipeline, {parameter: [C]}, scoring="neg_log_loss", cv=5).fit(X, y)
    assert search.best_score_ == pytest.approx(grid.best_score_, rel=1e-4)
    np.testing.assert_allclose(search.predict_proba(X), grid.predict_proba(X), atol=1e-5)
    worse = GridSearchCV(pipeline, {parameter: [C / 3, C * 3]}, scoring="neg_log_loss", cv=5).fit(X, y)
    assert search.best_score_ > worse.cv_results_["mean_test_score"].max()


def test_samplers_with_sgd_classifier_scale_alpha_by_their_own_rows():
    pipeline = sampled(sampler("SMOTE"), SGDClassifier(loss="log_loss"))
    search = search_for(estimator=pipeline).fit(X, y)
    alpha, fitted = search.best_params_["sgdclassifier__alpha"], []
    for train, val in StratifiedKFold(3).split(X, y):
        rows, labels = sampler("SMOTE").fit_resample(X[train], y[train])
        model = LogisticRegression(C=1.0 / (alpha * len(labels)), tol=1e-10, max_iter=10_000).fit(rows, labels)
        fitted.append(-log_loss(y[val], model.predict_proba(X[val])))
    assert search.best_score_ == pytest.approx(np.mean(fitted), rel=1e-4)


def test_samplers_with_text_blocks_and_balanced_classes():
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import TfidfVectorizer

    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(12)]).assign(text=TEXTS)
    columns = make_column_transformer((StandardScaler(), [f"x{j}" for j in range(12)]), (TfidfVectorizer(), "text"))
    estimator = sampled(columns, sampler("RandomUnderSampler"), LogisticRegression(class_weight="balanced"))
    search = search_for("blocks", estimator=estimator, scoring=["roc_auc", "accuracy"], refit="roc_auc").fit(frame, y)
    assert list(search.block_params_) == ["standardscaler", "tfidfvectorizer"]
    grid = GridSearchCV(estimator, {"logisticregression__C": [0.01, 0.1, 1.0]}, scoring="roc_auc", cv=3).fit(frame, y)
    assert search.best_score_ > grid.best_score_ - 0.005


def test_rows_of_samplers_are_not_cross_fitted():
    estimator = sampled(sampler("SMOTE"), LogisticRegression())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search_for("auto", estimator=estimator).fit(X, y).structure_.name == "shared"
    with pytest.warns(UserWarning, match="samplers make training rows that cannot be split again"):
        assert search_for("per_feature", estimator=estimator).fit(X, y).structure_.name == "shared"
    with pytest.raises(ValueError, match="early_stopping=True: the estimator's samplers"):
        search_for("per_feature", estimator=estimator, early_stopping=True).fit(X, y)
    few = search_for("evidence", estimator=estimator).fit(X, y)
    assert few.best_score_ >= search_for(estimator=estimator).fit(X, y).best_score_ - 1e-6


def test_rows_of_samplers_have_no_weights():
    with pytest.raises(ValueError, match="sample_weight: the rows that the estimator's samplers make have no weights"):
        estimator = sampled(sampler("SMOTE"), LogisticRegression())
        search_for(estimator=estimator).fit(X, y, logisticregression__sample_weight=np.ones(len(y)))


def test_a_sampler_that_leaves_a_class_out_is_refused():
    function = pytest.importorskip("imblearn", reason="imbalanced-learn is not installed").FunctionSampler
    kept = function(func=lambda X, y: (X[y != 2], y[y != 2]), validate=False)
    three = np.where(np.arange(len(y)) % 3 == 2, 2, y)
    with pytest.raises(ValueError, match="its samplers leave no row of class 2"):
        search_for(estimator=sampled(kept, LogisticRegression())).fit(X, three)


# ---- many labels ---------------------------------------------------------------------------------------------------------

LABELS = np.column_stack([y == 1, X[:, 0] > 0.3, X[:, 1] + X[:, 2] > 1.0])


@pytest.mark.parametrize("wrapper", [OneVsRestClassifier, MultiOutputClassifier, ClassifierChain])
def test_wrappers_make_a_search_for_each_label(wrapper):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = wrapper(search_for()).fit(X, LABELS)
    first = made.estimators_[0]
    assert first.best_params_ == search_for().fit(X, LABELS[:, 0].astype(int)).best_params_
    assert made.predict(X).shape == LABELS.shape


def test_liblinear_without_intercept_is_the_same_problem():
    old = LogisticRegression(solver="liblinear", fit_intercept=False, dual=True, tol=1e-8, max_iter=100_000)
    search = search_for(estimator=old).fit(X, y)
    grid = GridSearchCV(old, {"C": [search.best_params_["C"]]}, scoring="neg_log_loss", cv=3).fit(X, y)
    assert search.best_score_ == pytest.approx(grid.best_score_, rel=1e-4)
    np.testing.assert_allclose(search.best_estimator_.coef_, grid.best_estimator_.coef_, atol=1e-3)


def test_liblinear_with_an_intercept_says_what_to_change():
    with pytest.raises(ValueError, match="'liblinear' penalizes the intercept.*Set solver='lbfgs', or fit_intercept=False"):
        search_for(estimator=LogisticRegression(solver="liblinear")).fit(X, y)


# ---- stores and converters -----------------------------------------------------------------------------------------------

PIPELINE = make_pipeline(StandardScaler(), LogisticRegression())


def test_the_best_estimator_becomes_onnx():
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    search, rows = search_for(estimator=PIPELINE).fit(X, y), X.astype(np.float32)
    model = skl2onnx.to_onnx(search.best_estimator_, rows[:1], options={"zipmap": False})
    _, proba = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"X": rows})
    np.testing.assert_allclose(proba, search.predict_proba(X), atol=1e-5)
    wrapper = OneVsRestClassifier(search_for(estimator=PIPELINE)).fit(X, LABELS)
    expected = wrapper.predict_proba(X)
    wrapper.estimators_ = [search.best_estimator_ for search in wrapper.estimators_]
    model = skl2onnx.to_onnx(wrapper, rows[:1], options={id(wrapper): {"zipmap": False}})
    _, proba = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"X": rows})
    np.testing.assert_allclose(proba, expected, atol=1e-5)


def test_skops_stores_a_search_whose_types_are_named():
    sio = pytest.importorskip("skops.io", reason="skops is not installed")
    search = search_for("auto", estimator=PIPELINE).fit(X, y)
    stored = sio.dumps(search)
    named = sio.get_untrusted_types(data=stored)
    own = {name for name in named if name.startswith("sksid.")}
    assert own == {"sksid._search.HypergradientSearchCV", "sksid._structure.Structure", "sksid.stages.Stage"}
    loaded = sio.loads(stored, trusted=named)
    np.testing.assert_array_equal(loaded.predict_proba(X), search.predict_proba(X))
    assert sio.get_untrusted_types(data=sio.dumps(search.best_estimator_)) == []


@pytest.mark.parametrize("structure", ["shared", "auto", "evidence", [0, 1] * 6])
def test_a_pickle_is_loaded_by_another_process(structure, tmp_path):
    search = search_for(structure, estimator=PIPELINE).fit(X, y)
    (tmp_path / "search.pickle").write_bytes(pickle.dumps((search, X)))
    code = (
        "import pickle, sys; search, X = pickle.load(open(sys.argv[1], 'rb')); search.structure_, search.stages_, repr(search);"
        "print(repr(search.predict_proba(X).sum(axis=0).tolist()))"
    )
    out = subprocess.run([sys.executable, "-c", code, tmp_path / "search.pickle"], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == repr(search.predict_proba(X).sum(axis=0).tolist())


def test_the_best_estimator_is_loaded_where_there_is_no_sksid():
    best = search_for("auto", estimator=PIPELINE).fit(X, y).best_estimator_
    buffer = io.BytesIO()
    joblib.dump(best, buffer)
    assert b"sksid" not in buffer.getvalue()


# ---- workers and logs ----------------------------------------------------------------------------------------------------


def check_backend(name):
    with joblib.parallel_config(name):
        elsewhere = search_for(estimator=PIPELINE, n_jobs=2, scoring="accuracy").fit(X, y)
    here = search_for(estimator=PIPELINE, scoring="accuracy").fit(X, y)
    np.testing.assert_array_equal(elsewhere.penalties_, here.penalties_)


@pytest.mark.filterwarnings("ignore")
def test_a_search_on_dask_workers():
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        check_backend("dask")
        with joblib.parallel_config("dask"):
            scores = cross_val_score(search_for(estimator=PIPELINE), X, y, cv=3, n_jobs=2)
    np.testing.assert_array_equal(scores, cross_val_score(search_for(estimator=PIPELINE), X, y, cv=3))


@pytest.mark.filterwarnings("ignore")
def test_a_search_on_ray_workers():
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    register_ray()
    try:
        check_backend("ray")
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_mlflow_logs_no_run_of_a_split(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    autologging = pytest.importorskip("mlflow.utils.autologging_utils")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("searches")
    mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
    try:
        with mlflow.start_run():
            search = search_for(estimator=PIPELINE).fit(X, y)
            mlflow.log_params(search.best_params_)
        runs = mlflow.search_runs()
        assert len(runs) == 1
        assert runs["metrics.best_cv_score"][0] == search.best_score_
        with pytest.warns(UserWarning, match="mlflow has not logged best_cv_score"), mlflow.start_run() as run:
            mlflow.delete_run(run.info.run_id)
            search.fit(X, y)
            mlflow.MlflowClient().restore_run(run.info.run_id)
        search_for(estimator=PIPELINE).fit(X, y)
        assert len(mlflow.search_runs()) == 2
        with autologging.disable_autologging():
            search.fit(X, y)
            LogisticRegression().fit(X, y)
        assert len(mlflow.search_runs()) == 2
        LogisticRegression().fit(X, y)
        assert len(mlflow.search_runs()) == 3
    finally:
        mlflow.sklearn.autolog(disable=True)
