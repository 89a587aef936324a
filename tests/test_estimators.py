"""What each base estimator means, and what is refused before any work is done."""

import numpy as np
import pytest
from oracles import fit_reference
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, SGDClassifier
from sklearn.model_selection import PredefinedSplit, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from sksid import HypergradientSearchCV
from sksid._estimators import build, read


def sgd(**settings):
    return SGDClassifier(**{"loss": "log_loss", "random_state": 0, **settings})


def search_for(estimator, **settings):
    return HypergradientSearchCV(estimator, **{"structure": "shared", "cv": 3, "random_state": 0, **settings})


REFUSED = [
    (LogisticRegression(penalty="l1", solver="liblinear"), ValueError, "penalty='l1'.*Leave penalty out"),
    (LogisticRegression(l1_ratio=0.5, solver="saga"), ValueError, "l1_ratio=0.5.*Set l1_ratio=0"),
    (LogisticRegression(C=np.inf), ValueError, "C=inf.*Set a positive, finite C"),
    (LogisticRegression(C=0.0), ValueError, "C=0.0.*Set a positive, finite C"),
    (LogisticRegression(solver="liblinear"), ValueError, "solver='liblinear'.*Set solver='lbfgs', or fit_intercept=False"),
    (sgd(penalty="elasticnet"), ValueError, "penalty='elasticnet'.*Set penalty='l2'"),
    (sgd(penalty=None), ValueError, "penalty=None.*Set penalty='l2'"),
    (sgd(loss="hinge"), ValueError, "loss='hinge'.*Set loss='log_loss'"),
    (sgd(alpha=0.0), ValueError, "alpha=0.0.*Set a positive, finite alpha"),
    (LogisticRegressionCV(), TypeError, r"LogisticRegressionCV\(.*Use LogisticRegression\(\)"),
    (RandomForestClassifier(), TypeError, r"RandomForestClassifier\(\).*Use LogisticRegression\(\)"),
    (Ridge(), TypeError, r"Ridge\(\).*Use LogisticRegression\(\)"),
]


@pytest.mark.parametrize(("estimator", "error", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_an_estimator_without_the_penalty_is_refused_with_a_remedy(estimator, error, message):
    """Before any work: data that could not be looked at raises no other error first."""
    with pytest.raises(error, match=message):
        search_for(estimator).fit(object(), object())


INVALID = [
    (LogisticRegression(solver="lbgfs"), "'solver' parameter of LogisticRegression"),
    (LogisticRegression(fit_intercept="no"), "'fit_intercept' parameter of LogisticRegression"),
    (LogisticRegression(max_iter=-3), "'max_iter' parameter of LogisticRegression"),
    (LogisticRegression(C="1"), "'C' parameter of LogisticRegression"),
    (LogisticRegression(class_weight="balance"), "'class_weight' parameter of LogisticRegression"),
    (LogisticRegression(dual=True), "solver='lbfgs' does not support dual=True.*Set dual=False"),
    (sgd(alpha="1"), "'alpha' parameter of SGDClassifier"),
    (sgd(n_iter_no_change=0), "'n_iter_no_change' parameter of SGDClassifier"),
    (sgd(learning_rate="pa1", eta0=1.0), "pa1"),
]


@pytest.mark.parametrize(("estimator", "message"), INVALID, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_parameters_are_validated_as_the_estimators_own_fit_does(estimator, message, in_pipeline):
    with pytest.raises(ValueError, match=message):
        search_for(make_pipeline(StandardScaler(), estimator) if in_pipeline else estimator).fit(object(), object())


def test_parameters_of_subclasses_are_their_own(cancer):
    class Named(LogisticRegression):
        def __init__(self, name="any", C=1.0):
            super().__init__(C=C)
            self.name = name

    assert search_for(Named(name=3), max_iter=1).fit(*cancer).best_estimator_.name == 3


class OwnFit(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X[:, :2], y, sample_weight)


class OwnDecision(SGDClassifier):
    def decision_function(self, X):
        return super().decision_function(X) + 1.0


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (OwnFit(), r"OwnFit has a fit of its own.*Use LogisticRegression\(\)"),
        (OwnDecision(loss="log_loss"), r"OwnDecision has a decision_function of its own.*Use SGDClassifier\(\)"),
    ],
)
def test_a_subclass_that_fits_or_decides_in_its_own_way_is_refused(estimator, message):
    with pytest.raises(TypeError, match=message):
        search_for(estimator).fit(object(), object())


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (sgd(), "SGDClassifier fits 3 models.*Use LogisticRegression"),
        (LogisticRegression(solver="liblinear", fit_intercept=False), "'liblinear' takes two classes only.*Set solver='lbfgs'"),
    ],
    ids=["sgd", "liblinear"],
)
def test_three_classes_are_refused_where_the_model_is_another(estimator, message, digits):
    X, y = digits
    with pytest.raises(ValueError, match=message):
        search_for(estimator, cv=iter([])).fit(X[y < 3], y[y < 3])


def test_liblinear_without_an_intercept_is_accepted(cancer):
    X, y = cancer
    search = search_for(LogisticRegression(solver="liblinear", fit_intercept=False)).fit(X, y)
    model, factors = fit_reference(X, y, np.log(search.penalties_), fit_intercept=False)
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X * factors), atol=1e-4)
    assert search.best_estimator_.intercept_ == 0.0


# ---- scaling ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("estimator", "expected"), [(LogisticRegression(C=4.0), 1 / 4.0), (sgd(alpha=0.02), 0.02 * 300)])
def test_a_target_and_its_penalty_are_each_others_inverse(estimator, expected):
    target = read(estimator)
    assert np.exp(target.log_penalty(300)) == pytest.approx(expected, rel=1e-12)
    assert target.parameters(np.full(5, target.log_penalty(300)), 300) == {target.parameter: pytest.approx(target.value)}


def test_alpha_is_one_over_c_times_the_rows(cancer):
    """With splits of equal size, 378 training rows, the two searches are the same."""
    X, y = cancer[0][:567], cancer[1][:567]
    cv = PredefinedSplit(np.arange(567) % 3)
    n_train, C = 378, 2.0
    by_alpha = search_for(sgd(alpha=1 / (C * n_train)), cv=cv, solver="aid").fit(X, y)
    by_C = search_for(LogisticRegression(C=C), cv=cv, solver="aid").fit(X, y)
    np.testing.assert_allclose(by_alpha.cv_results_["param_alpha"], 1 / (by_C.cv_results_["param_C"] * n_train), rtol=1e-8)
    np.testing.assert_allclose(by_alpha.cv_results_["mean_test_score"], by_C.cv_results_["mean_test_score"], rtol=1e-8)
    assert by_alpha.best_score_ == pytest.approx(by_C.best_score_, rel=1e-8)


def test_sgd_refit_is_the_minimum_of_its_own_objective(cancer):
    """Mean loss + alpha/2 |w|² over all rows: LogisticRegression at C = 1/(alpha n)."""
    X, y = cancer
    search = search_for(sgd(alpha=0.01)).fit(X, y)
    model, _ = fit_reference(X, y, np.log(search.best_params_["alpha"] * len(y)))
    np.testing.assert_allclose(search.penalties_, search.best_params_["alpha"] * len(y), rtol=1e-9)
    np.testing.assert_allclose(search.predict_proba(X), model.predict_proba(X / np.sqrt(search.penalties_)), atol=1e-4)


def test_alpha_means_the_same_in_splits_of_any_size(cancer):
    """In a split of n_k rows the lower level is at λ = alpha n_k."""
    X, y = cancer
    rows = np.random.RandomState(0).permutation(len(y))
    cv = [(rows[:150], rows[450:]), (rows[:450], rows[450:])]
    search = search_for(sgd(alpha=0.01), cv=cv).fit(X, y)
    for k, (train, val) in enumerate(cv):
        log_penalty = np.log(search.best_params_["alpha"] * train.size)
        model, factors = fit_reference(X[train], y[train], log_penalty)
        loss = -np.log(model.predict_proba(X[val] * factors)[np.arange(val.size), y[val]]).mean()
        assert search.cv_results_[f"split{k}_test_score"][search.best_index_] == pytest.approx(-loss, rel=1e-3)


# ---- class weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [LogisticRegression(class_weight="balanced"), sgd(class_weight="balanced")])
def test_balanced_weights_are_those_of_the_estimator(estimator, cancer):
    X, y = cancer
    weights = np.random.RandomState(0).uniform(0.1, 2.0, len(y))
    weighted_counts = weights if isinstance(estimator, LogisticRegression) else None
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=y, sample_weight=weighted_counts)
    np.testing.assert_allclose(read(estimator).class_weights(y, np.array([0, 1]), weights), expected, rtol=1e-12)


def test_balanced_weights_are_those_of_each_split(cancer):
    """The share of a class differs between the splits, so do its weights."""
    X, y = cancer
    order = np.argsort(y, kind="stable")
    common = order[100:457]
    cv = [(np.r_[common, order[:20]], order[-60:]), (np.r_[common, order[-50:]], order[:60])]
    search = search_for(LogisticRegression(class_weight="balanced"), cv=cv).fit(X, y)
    for k, (train, val) in enumerate(cv):
        model = LogisticRegression(class_weight="balanced", solver="newton-cholesky", tol=1e-10, **search.best_params_)
        proba = model.fit(X[train], y[train]).predict_proba(X[val])
        score = np.log(proba[np.arange(val.size), y[val]]).mean()
        assert search.cv_results_[f"split{k}_test_score"][search.best_index_] == pytest.approx(score, rel=1e-3)


def test_class_weights_may_be_keyed_by_label(cancer):
    X, y = cancer
    names = np.array(["no", "yes"])[y]
    by_name = search_for(LogisticRegression(class_weight={"no": 3.0, "yes": 1.0})).fit(X, names)
    by_weight = search_for(LogisticRegression()).fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
    C = by_name.best_params_["C"]
    assert C != by_weight.best_params_["C"]  # the upper level knows sample weights only
    model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10).fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
    np.testing.assert_allclose(by_name.predict_proba(X), model.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_class_without_weight_is_refused(weight, cancer):
    with pytest.raises(ValueError, match="gives class 0 no positive weight"):
        search_for(LogisticRegression(class_weight={0: weight})).fit(*cancer)


# ---- the fitted estimator -----------------------------------------------------------------------------------------------


def test_build_sets_what_fit_would_have_set():
    coef, intercept, classes = np.arange(12.0)[None, ::2], np.ones(1), np.array(["a", "b"])
    fitted = build(
        LogisticRegression(C=3.0), {"C": 0.5}, coef, intercept, classes, 7, 100, np.array(list("uvwxyz"), dtype=object)
    )
    assert fitted.C == 0.5
    assert fitted.n_iter_.tolist() == [7]
    assert fitted.n_features_in_ == 6
    assert "".join(fitted.feature_names_in_) == "uvwxyz"
    assert fitted.coef_.flags.c_contiguous
    stochastic = build(sgd(), {"alpha": 0.5}, coef, intercept, classes, 7, 100)
    assert (stochastic.n_iter_, stochastic.t_) == (7, 701.0)
    assert list(stochastic.predict(np.eye(6)[:2] - np.eye(6)[1:3])) == ["a", "a"]


def test_built_sgd_can_go_on_learning(cancer):
    X, y = cancer
    best = search_for(sgd(alpha=0.01), cv=StratifiedKFold(3)).fit(X, y).best_estimator_
    before = best.coef_.copy()
    assert best.partial_fit(X, y).score(X, y) > 0.9
    assert not np.array_equal(best.coef_, before)
