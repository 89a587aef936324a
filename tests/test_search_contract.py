"""HypergradientSearchCV as a scikit-learn estimator: its checks, what it takes in, what it leaves behind, what it refuses."""

import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from searches import search_for
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import sksid
from sksid import HypergradientSearchCV
from sksid.structures import groups

SGD = SGDClassifier(loss="log_loss", alpha=0.01)


# Of every public estimator, several configurations; few steps, for there are many checks.
CHECKED = {
    HypergradientSearchCV: [
        search_for("shared", solver="dual", max_iter=3),
        search_for("shared", solver="aid", max_iter=3, scoring="accuracy"),
        search_for("shared", solver="sgd", max_iter=2),
        search_for("per_feature", max_iter=3),
        search_for("moments", max_iter=3),
        search_for("shared", estimator=SGD, max_iter=3),
        search_for("per_feature", estimator=make_pipeline(StandardScaler(), LogisticRegression()), max_iter=2),
    ]
}


def test_every_public_estimator_is_checked():
    names = [module.name for module in pkgutil.iter_modules(sksid.__path__) if not module.name.startswith("_")]
    modules = [sksid, *(importlib.import_module(f"sksid.{name}") for name in names)]
    public = {value for module in modules for value in vars(module).values() if inspect.isclass(value)}
    own = {value for value in public if issubclass(value, BaseEstimator) and value.__module__.startswith("sksid")}
    assert own == set(CHECKED)


# The checks' data are small, often separable: there the dual solver may say that it ran out of epochs.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([estimator for configurations in CHECKED.values() for estimator in configurations])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


# ---- what it leaves behind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["shared", "per_feature", np.arange(30) % 4])
def test_fitted_attributes_are_complete(structure, cancer):
    X, y = cancer
    search = search_for(structure, max_iter=8).fit(X, y)
    n_params = search.structure_.n_params
    assert search.penalties_.shape == (30,)
    assert search.theta_.shape == search.hypergradient_.shape == (n_params,)
    assert search.n_iter_ == len(search.cv_results_["params"]) >= 1
    assert search.n_splits_ == 3
    assert search.n_features_in_ == 30
    assert search.multimetric_ is False
    assert search.refit_time_ > 0
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert np.array_equal(search.classes_, [0, 1])
    assert callable(search.scorer_)
    assert search.score(X, y) == search.scorer_(search.best_estimator_, X, y)
    assert not hasattr(search, "feature_names_in_")


def test_results_have_the_keys_and_shapes_of_grid_search(cancer):
    search = search_for("per_feature", max_iter=8).fit(*cancer)
    grid = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3).fit(*cancer)
    assert set(grid.cv_results_) <= set(search.cv_results_)
    assert set(search.cv_results_) - set(grid.cv_results_) == {
        "structure",
        "n_epochs",
        "is_nested",
    }
    assert {len(column) for column in search.cv_results_.values()} == {search.n_iter_}
    table = pd.DataFrame(search.cv_results_)
    splits = table[[f"split{k}_test_score" for k in range(3)]]
    np.testing.assert_allclose(table["mean_test_score"], splits.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(table["std_test_score"], splits.std(axis=1, ddof=0), rtol=1e-9)
    np.testing.assert_array_equal(table["rank_test_score"], table["mean_test_score"].rank(ascending=False, method="min"))
    assert [params["C"] for params in table["params"]] == table["param_C"].tolist()
    assert table["structure"].iloc[0] == "shared"


def test_best_estimator_needs_no_sksid_to_predict(cancer, tmp_path):
    X, y = cancer
    search = search_for("per_feature", max_iter=8).fit(X, y)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(search.best_estimator_))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import sys; sys.modules['sksid'] = None\n"
        "import pickle, numpy as np\n"
        "proba = pickle.load(open('model.pickle', 'rb')).predict_proba(np.load('X.npy'))\n"
        "np.save('proba.npy', proba)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "proba.npy"), search.predict_proba(X))


@pytest.mark.parametrize("estimator", [LogisticRegression(), SGD], ids=["logistic", "sgd"])
def test_best_estimator_has_the_attributes_of_a_fitted_one(estimator, cancer):
    best = search_for(estimator=estimator).fit(*cancer).best_estimator_
    own = clone(estimator).fit(*cancer)
    public = {name for name in vars(own) if name.endswith("_") and not name.startswith("_")}
    assert public <= set(vars(best))
    for name in ("coef_", "intercept_", "classes_", "n_iter_"):
        assert np.shape(getattr(best, name)) == np.shape(getattr(own, name))


def test_best_estimator_can_be_fitted_again(cancer):
    X, y = cancer
    search = search_for(estimator=LogisticRegression(solver="newton-cholesky", tol=1e-10)).fit(X, y)
    again = clone(search.best_estimator_).fit(X, y)
    np.testing.assert_allclose(again.predict_proba(X), search.predict_proba(X), atol=1e-4)


def test_clone_parameters_and_pickle_keep_the_search(cancer):
    X, y = cancer
    search = search_for("per_feature", max_iter=6, tol=1e-3)
    assert clone(search).get_params()["tol"] == 1e-3
    search.set_params(estimator__C=0.5, structure="shared").fit(X, y)
    assert search.cv_results_["param_C"][0] == pytest.approx(0.5)
    restored = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(restored.predict_proba(X), search.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(search).predict(X)


def test_the_given_estimator_and_data_are_left_alone(cancer):
    X, y = cancer
    estimator, before = LogisticRegression(C=0.3), X.copy()
    search_for("per_feature", estimator=estimator, max_iter=5).fit(X, y)
    assert vars(estimator) == vars(LogisticRegression(C=0.3))
    np.testing.assert_array_equal(X, before)


# ---- what it takes in ---------------------------------------------------------------------------------------------------


def test_labels_may_be_strings(cancer):
    X, y = cancer
    by_name, by_code = search_for().fit(X, np.array(["no", "yes"])[y]), search_for().fit(X, y)
    assert list(by_name.classes_) == ["no", "yes"]
    np.testing.assert_array_equal(by_name.predict(X), np.array(["no", "yes"])[by_code.predict(X)])
    np.testing.assert_array_equal(by_name.predict_proba(X), by_code.predict_proba(X))


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_feature_names_are_kept(scoring, cancer):
    X, y = cancer
    frame = pd.DataFrame(X, columns=[f"f{j}" for j in range(30)])
    search = search_for(scoring=scoring).fit(frame, pd.Series(y))
    assert list(search.feature_names_in_) == list(frame.columns)
    assert list(search.best_estimator_.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(search.best_estimator_.coef_, search_for(scoring=scoring).fit(X, y).best_estimator_.coef_)


@pytest.mark.parametrize("solver", ["dual", "aid"])
def test_float32_is_kept(solver, cancer):
    X, y = cancer
    single = search_for(solver=solver).fit(X.astype(np.float32), y)
    double = search_for(solver=solver).fit(X, y)
    assert single.best_estimator_.coef_.dtype == single.best_estimator_.intercept_.dtype == np.float32
    assert single.predict_proba(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(single.predict_proba(X.astype(np.float32)), double.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_any_sparse_storage_gives_the_same(scoring, cancer):
    X, y = cancer
    X = np.where(np.abs(X) > 1.0, X, 0.0)
    dense = search_for("per_feature", max_iter=6, scoring=scoring).fit(X, y)
    for make in (sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix, sp.csc_matrix, sp.coo_matrix):
        sparse = search_for("per_feature", max_iter=6, scoring=scoring).fit(make(X), y)
        np.testing.assert_allclose(sparse.penalties_, dense.penalties_, rtol=1e-6)
        np.testing.assert_allclose(sparse.predict_proba(make(X).tocsr()), dense.predict_proba(X), atol=1e-6)


def test_structure_may_be_an_object_or_a_matrix(cancer):
    labels = np.arange(30) // 10
    one_hot = np.eye(3)[labels]
    by_labels, by_object = (search_for(structure).fit(*cancer) for structure in (labels, groups(labels)))
    np.testing.assert_array_equal(by_labels.penalties_, by_object.penalties_)
    dense, sparse = (search_for(matrix).fit(*cancer) for matrix in (one_hot, sp.csr_array(one_hot)))
    np.testing.assert_allclose(dense.penalties_, sparse.penalties_, rtol=1e-9)
    assert dense.best_score_ == pytest.approx(by_labels.best_score_, rel=1e-3)


# ---- scores and refit ---------------------------------------------------------------------------------------------------


def test_a_callable_may_score(cancer):
    by_name = search_for(scoring="accuracy").fit(*cancer)
    by_call = search_for(scoring=lambda model, X, y: np.mean(model.predict(X) == y)).fit(*cancer)
    assert by_call.best_score_ == by_name.best_score_


def test_several_scores_and_the_name_of_one_to_refit_by(cancer):
    search = search_for(scoring=["accuracy", "neg_log_loss"], refit="accuracy").fit(*cancer)
    assert search.multimetric_ is True
    assert set(search.scorer_) == {"accuracy", "neg_log_loss"}
    assert search.best_score_ == search.cv_results_["mean_test_accuracy"].max()
    assert search.cv_results_["rank_test_accuracy"][search.best_index_] == 1
    assert search.score(*cancer) == search.scorer_["accuracy"](search.best_estimator_, *cancer)
    with pytest.raises(ValueError, match="refit"):
        search_for(scoring=["accuracy", "neg_log_loss"]).fit(*cancer)


def test_best_score_is_the_best_of_the_table(cancer):
    search = search_for(scoring="accuracy").fit(*cancer)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.cv_results_["rank_test_score"][search.best_index_] == 1


@pytest.mark.parametrize("structure", ["shared", "per_feature"])
def test_without_refit_there_is_nothing_to_predict_with(structure, cancer):
    search = search_for(structure, refit=False, max_iter=6).fit(*cancer)
    assert not hasattr(search, "best_estimator_")
    assert not any(hasattr(search, name) for name in ("predict", "predict_proba", "decision_function", "refit_time_"))
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert search.penalties_.shape == (30,)


def test_verbose_prints_a_line_for_every_step(cancer, capsys):
    search = search_for(verbose=1).fit(*cancer)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == search.n_iter_
    assert all(line.startswith("[HypergradientSearchCV]") for line in lines)
    search_for().fit(*cancer)
    assert not capsys.readouterr().out


# ---- what it refuses ----------------------------------------------------------------------------------------------------


def spoil(X, value):
    X = X.copy()
    X[4, 2] = value
    return X


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({}, lambda X, y: {"X": spoil(X, np.nan)}, "NaN"),
        ({}, lambda X, y: {"X": spoil(X, np.inf)}, "infinity"),
        ({}, lambda X, y: {"y": np.zeros(569)}, "1 class"),
        ({}, lambda X, y: {"y": X[:, 0]}, "continuous"),
        ({}, lambda X, y: {"y": y[:-1]}, "inconsistent"),
        ({}, lambda X, y: {"sample_weight": -np.ones(569)}, "[Nn]egative"),
        ({}, lambda X, y: {"sample_weight": np.ones(12)}, "sample_weight"),
        ({"cv": [(np.arange(9), np.arange(9, 60))]}, lambda X, y: {"y": 1 * (np.arange(569) > 9)}, "split 0.*class 1"),
        ({"cv": [(np.arange(99), np.arange(0))]}, lambda X, y: {}, "split 0 has no validation row"),
        ({"structure": np.arange(29)}, lambda X, y: {}, "structure has 29 rows, but X has 30 features"),
        ({"structure": np.ones((31, 2))}, lambda X, y: {}, "structure has 31 rows, but X has 30 features"),
        ({"structure": np.full((30, 2), np.nan)}, lambda X, y: {}, "structure has entries that are not finite"),
        ({"structure": np.ones((30, 2, 2))}, lambda X, y: {}, "structure must be an array of 1 or 2 dimensions"),
        ({"structure": "all"}, lambda X, y: {}, "structure='all' is unknown"),
        ({"solver": "lbfgs"}, lambda X, y: {}, "'solver' parameter"),
        ({"max_iter": 0}, lambda X, y: {}, "'max_iter' parameter"),
        ({"tol": 0.0}, lambda X, y: {}, "'tol' parameter"),
        ({"scoring": "nonsense"}, lambda X, y: {}, "scoring"),
    ],
)
def test_bad_input_is_refused_by_name(settings, data, message, cancer):
    X, y = cancer
    arguments = {"X": X, "y": y, **data(X, y)}
    with pytest.raises(ValueError, match=message):
        search_for(**{"structure": "shared", **settings}).fit(**arguments)


def test_unknown_fit_parameters_are_refused(cancer):
    with pytest.raises(TypeError, match="coef_init"):
        search_for().fit(*cancer, coef_init=np.zeros(30))


def test_a_class_missing_in_a_fold_is_named(cancer):
    X, _ = cancer
    y = np.repeat(["common", "rare"], [568, 1])
    pairs = [(np.arange(400), np.arange(400, 569))]
    with pytest.raises(ValueError, match="split 0 has no training row of class 'rare'"):
        search_for(cv=pairs).fit(X, y)
