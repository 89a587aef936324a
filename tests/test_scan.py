"""What a search looks at before it descends, where features differ much in size: real tables as they come."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from sksid import HypergradientSearchCV
from sksid._scan import grid
from sksid.problem import make_problem

SPLITS = StratifiedKFold(5, shuffle=True, random_state=0)


def search(estimator=None, **settings):
    return HypergradientSearchCV(estimator or LogisticRegression(), structure="shared", cv=SPLITS, random_state=0, **settings)


def levels(X, y):
    splits = list(SPLITS.split(X, y))
    return grid(make_problem(X, np.unique(y, return_inverse=True)[1], splits, n_classes=np.unique(y).size), top=0.0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the peer's, at the weakest penalties
@pytest.mark.parametrize("load", [load_breast_cancer, load_wine], ids=["breast cancer", "wine"])
def test_on_unscaled_features_no_single_penalty_of_a_grid_is_better(load):
    """From above, the descent on breast cancer ended in a valley whose loss was a quarter larger."""
    X, y = load(return_X_y=True)
    settings = {"Cs": np.geomspace(1e-4, 1e4, 13), "l1_ratios": (0,), "use_legacy_attributes": False}
    peer = LogisticRegressionCV(cv=SPLITS, scoring="neg_log_loss", solver="newton-cholesky", max_iter=300, **settings)
    best = peer.fit(X, y).scores_.reshape(5, -1).mean(axis=0).max()
    assert search().fit(X, y).best_score_ > best * (1 + 1e-3)  # scores are negative


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_what_is_looked_at_follows_the_units(factor):
    X, y = load_breast_cancer(return_X_y=True)
    own, other = (search(max_iter=4).fit(features, y) for features in (X, factor * X))
    Cs = [fitted.cv_results_["param_C"].astype(float) for fitted in (own, other)]
    np.testing.assert_allclose(Cs[0], Cs[1] * factor**2, rtol=1e-6)


@pytest.mark.parametrize(
    "X",
    [
        scale(load_breast_cancer().data),
        load_digits().data,
        load_iris().data,
        sp.csr_array(
            np.random.RandomState(0).poisson(np.geomspace(1e-2, 3, 40), size=(300, 40)).astype(float)
        ),  # counts of words
        sp.csr_array(
            np.eye(50)[np.random.RandomState(0).geometric(0.2, size=300).clip(max=50) - 1]
        ),  # one-hot, rare ones among them
    ],
    ids=["scaled", "images", "iris", "counts", "one-hot"],
)
def test_features_alike_in_size_have_no_grid(X):
    assert levels(X, np.arange(X.shape[0]) % 2).size == 0


def test_a_grid_has_the_levels_between_the_largest_and_the_smallest_features():
    X, y = load_breast_cancer(return_X_y=True)
    found = levels(X, y)
    assert found[0] == 0 and (np.diff(found) < 0).all() and (np.diff(found) >= -2.5).all()
    sizes = X.var(axis=0)
    assert found[-1] == pytest.approx(np.log(sizes.size * np.quantile(sizes, 0.05, method="lower") / sizes.sum()), abs=0.1)
    assert levels(np.c_[X, np.ones(len(X))], y) == pytest.approx(found, abs=0.2)  # a constant column has no size
    np.testing.assert_allclose(levels(sp.csr_array(X), y), found, rtol=1e-6)


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_it_counts_among_the_steps(max_iter):
    X, y = load_breast_cancer(return_X_y=True)
    fitted = search(max_iter=max_iter).fit(X, y)
    assert fitted.n_iter_ <= max_iter and len(fitted.cv_results_["params"]) <= max_iter + 1  # and a confirmed one


def test_a_penalty_that_the_user_has_set_is_where_it_begins():
    X, y = load_breast_cancer(return_X_y=True)
    Cs = search(LogisticRegression(C=100)).fit(X, y).cv_results_["param_C"]
    assert Cs[0] == pytest.approx(100)
    assert Cs.size < search().fit(X, y).cv_results_["param_C"].size


def test_preprocessing_per_split_finds_the_same():
    X, y = load_breast_cancer(return_X_y=True)
    plain, piped = search().fit(X, y), search(make_pipeline(SimpleImputer(), LogisticRegression())).fit(X, y)
    assert piped.best_score_ == pytest.approx(plain.best_score_, rel=1e-4)
    scaled = search(make_pipeline(StandardScaler(), LogisticRegression())).fit(X, y)
    assert len(scaled.cv_results_["params"]) < len(plain.cv_results_["params"])
