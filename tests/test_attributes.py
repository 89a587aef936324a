"""What GridSearchCV has, attribute by attribute: before and after the fit, with and without a refit."""

import copy
import pickle

import numpy as np
import pytest
from searches import search_for
from sklearn.base import is_classifier
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

GONE = {"param_grid", "pre_dispatch"}  # docs/moving.rst
ESTIMATORS = {
    "plain": (LogisticRegression(max_iter=10_000), "C"),
    "sgd": (SGDClassifier(loss="log_loss"), "alpha"),
    "pipeline": (make_pipeline(StandardScaler(), LogisticRegression()), "logisticregression__C"),
}
SETTINGS = {
    "refit": {},
    "no refit": {"refit": False},
    "several scores": {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy"},
    "several scores, no refit": {"scoring": ["accuracy", "neg_log_loss"], "refit": False},
    "callable refit": {"refit": lambda results: 0},
}


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return ESTIMATORS[request.param]


@pytest.fixture(params=SETTINGS)
def both(request, estimator):
    """A search of the grid and one of ours, unfitted."""
    model, parameter = estimator
    settings = {"scoring": "neg_log_loss", "cv": 3, **SETTINGS[request.param]}
    return GridSearchCV(model, {parameter: [1.0]}, **settings), search_for(estimator=model, max_iter=3, **settings)


@pytest.fixture(scope="module")
def frame():
    pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X / X.std(), y.map({0: "benign", 1: "malignant"})


def public(search):
    return {name for name in dir(search) if not name.startswith("_") and hasattr(search, name)}


def test_before_the_fit(both):
    grid, ours = both
    assert public(grid) - public(ours) == GONE
    assert not [name for name in public(ours) if name.endswith("_")]
    assert is_classifier(ours) == is_classifier(grid)
    assert get_tags(ours).input_tags == get_tags(grid).input_tags
    for search in both:
        with pytest.raises(NotFittedError, match=f"This {type(search).__name__} instance is not fitted yet"):
            check_is_fitted(search)


def test_after_the_fit(both, frame):
    X, y = frame
    grid, ours = (search.fit(X, y) for search in both)
    assert public(grid) - public(ours) == GONE
    for search in both:
        check_is_fitted(search)
    for name in ("n_features_in_", "n_splits_", "multimetric_", "feature_names_in_", "classes_"):
        assert hasattr(ours, name) == hasattr(grid, name), name
        if hasattr(grid, name):
            np.testing.assert_array_equal(getattr(ours, name), getattr(grid, name), err_msg=name)
    assert set(grid.cv_results_) <= set(ours.cv_results_)
    for key, value in grid.cv_results_.items():
        assert type(ours.cv_results_[key]) is type(value), key
        assert key == "params" or ours.cv_results_[key].dtype == value.dtype, key
    for name in ("best_score_", "best_index_", "refit_time_"):
        assert hasattr(ours, name) == hasattr(grid, name), name
        assert isinstance(getattr(ours, name, 0), (int, float))
    assert list(getattr(ours, "best_params_", {})) == list(getattr(grid, "best_params_", {}))
    assert type(ours.scorer_) is type(grid.scorer_)


def test_methods(both, frame):
    X, y = frame
    grid, ours = (search.fit(X, y) for search in both)
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function", "score"):
        rows = (X, y) if name == "score" else (X,)
        if not grid.refit:
            for search in both:
                with pytest.raises(AttributeError, match=f"This '?{type(search).__name__}.*{name}"):
                    getattr(search, name)(*rows)
        else:
            found, expected = (np.asarray(getattr(search, name)(*rows)) for search in (ours, grid))
            assert found.shape == expected.shape, name
            assert name == "predict" or found.dtype == expected.dtype, name
    for name in ("transform", "inverse_transform", "score_samples", "get_feature_names_out", "set_output"):
        assert hasattr(ours, name) == hasattr(grid, name), name


def test_diagrams_show_the_same(both, frame):
    X, y = frame
    for search in both:
        assert "Not fitted" in search._repr_html_()
    for html in (search.fit(X, y)._repr_html_() for search in both):
        assert "<span>Fitted</span>" in html
        for name in ("cv_results_", "n_splits_", "scorer_", "multimetric_"):
            assert name in html, name
    assert "penalties_" in both[1]._repr_html_()


def test_parameters_and_their_errors(estimator):
    model, parameter = estimator
    grid, ours = GridSearchCV(model, {parameter: [1.0]}), search_for(estimator=model)
    inner = {name for name in grid.get_params() if name.startswith("estimator")}
    assert {name for name in ours.get_params() if name.startswith("estimator")} == inner
    for search in (grid, ours):
        with pytest.raises(ValueError, match="Invalid parameter 'nonsense' for estimator"):
            search.set_params(nonsense=1)
        with pytest.raises(ValueError, match="Invalid parameter 'nonsense' for estimator"):
            search.set_params(estimator__nonsense=1)
    for name, value in {"cv": "five", "n_jobs": 1.5, "verbose": -1, "refit": 3, "scoring": 5}.items():
        for search in (grid, ours):
            message = f"The '{name}' parameter of {type(search).__name__} must be"
            with pytest.raises(ValueError, match=message):
                copy.copy(search).set_params(**{name: value}).fit(np.eye(4), [0, 1, 0, 1])


def test_a_search_of_another_version_says_so(cancer):
    search = search_for().fit(*cancer)
    state = search.__getstate__() | {"_sksid_version": "0.0.1"}
    old = type(search).__new__(type(search))
    with pytest.warns(UserWarning, match="stored by sksid 0.0.1 and is loaded by"):
        old.__setstate__(state)
    np.testing.assert_array_equal(old.predict(cancer[0]), search.predict(cancer[0]))
    again = pickle.loads(pickle.dumps(search))
    assert "_sksid_version" not in vars(again)
