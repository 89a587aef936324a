"""Cross-fitting: each split judges, once, a descent that has not seen its validation rows; and structure="auto"."""

from dataclasses import replace

import numpy as np
import pytest
from searches import search_for
from sklearn.datasets import make_classification
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedKFold, StratifiedShuffleSplit, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksid import HypergradientSearchCV, _estimators, _parts, _run, structures
from sksid._samples import Samples
from sksid.crossfit import CrossFit, Descents, Nest, gain_of
from sksid.descent import Bilevel, Step
from sksid.joint import parts_of
from sksid.logistic import solve
from sksid.optimizers import QuasiNewton
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual
from sksid.stages import path_of
from sksid.structures import per_feature, shared

NONE = np.arange(0)


@pytest.fixture(scope="module")
def sparse_truth():
    """600 rows to fit and 6,000 fresh ones; 5 of 60 features matter."""
    X, y = make_classification(6600, 60, n_informative=5, n_redundant=0, random_state=0)
    return X[:600], y[:600], X[600:], y[600:]


def nest_of(X, y, folds, solver, m=None):
    """Every fold judges once, or fold ``m`` alone; all other folds are in turn the validation rows of its inner splits."""
    judges = np.arange(folds.max() + 1) if m is None else np.array([m])
    inner = [
        (np.flatnonzero((folds != m) & (folds != k)), np.flatnonzero(folds == k))
        for m in judges
        for k in np.setdiff1d(np.arange(folds.max() + 1), [m])
    ]
    training, judging = [
        [(np.flatnonzero(folds != m), NONE) for m in judges],
        [(NONE, np.flatnonzero(folds == m)) for m in judges],
    ]
    inner, rest, judge = (make_problem(X, y, s, n_classes=y.max() + 1, dtype=np.float64) for s in (inner, training, judging))
    counts = np.full(judges.size, folds.max())
    return Nest(Bilevel(inner, solver), counts, Bilevel(rest, solver), judge)


def first_step(nest, n_features):
    structure = per_feature(n_features)
    descents = Descents(CrossFit(), nest, np.zeros(n_features), (-9.0, 9.0))
    return next(descents.run(structure, [(structure, structure)] * nest.counts.size))


def samples_of(y, splits):
    classes, labels = np.unique(y, return_inverse=True)
    return Samples(labels, classes, None, splits, splits)


# ---- the descents and their judges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [Dual(), Aid()], ids=["dual", "aid"])
def test_a_descent_does_not_see_the_rows_that_judge_it(solver, cancer):
    X, y = cancer
    folds = np.arange(len(y)) % 4
    spoilt_X, spoilt_y = np.where((folds == 1)[:, None], 3.0 * X, X), np.where(folds == 1, 1 - y, y)
    found = []
    for rows, labels in ((X, y), (spoilt_X, spoilt_y)):
        found.append(first_step(nest_of(rows, labels, folds, solver, 1), 30))
    np.testing.assert_array_equal(found[0].theta, found[1].theta)
    assert found[1].value > 2 * found[0].value


@pytest.mark.parametrize("solver", [Dual(), Aid()], ids=["dual", "aid"])
def test_few_hyperparameters_are_found_anew_without_the_rows_that_judge_them(solver, cancer):
    X, y = cancer
    folds, structure = np.arange(len(y)) % 4, structures.groups(np.arange(30) // 10)
    spoilt_X, spoilt_y = np.where((folds == 1)[:, None], 3.0 * X, X), np.where(folds == 1, 1 - y, y)
    theta = np.full(3, 4.0)
    found = Step(structure, theta + 0.5, structure.change(theta + 0.5), np.zeros(1), np.zeros(3), 1.0, 0.1)
    memory, judged, anew = QuasiNewton().init(3), [], []
    for rows, labels in ((X, y), (spoilt_X, spoilt_y)):
        descents = Descents(CrossFit(), nest_of(rows, labels, folds, solver, 1), np.full(30, 4.0), (-9.0, 9.0))
        judged.append(descents.confirm_anew(found, [(structure, structure)], memory, None))
        anew.append(descents.thetas)
    np.testing.assert_array_equal(anew[0], anew[1])
    assert np.abs(anew[0] - theta).max() > 0.1
    assert judged[1].value > 2 * judged[0].value
    for step in judged:
        np.testing.assert_array_equal(step.theta, found.theta)
        np.testing.assert_array_equal(step.gradient, found.gradient)  # that of all splits, at these hyperparameters
        assert step.is_nested


def test_few_hyperparameters_are_judged_as_the_other_splits_would_have_them(cancer):
    X, y, folds = cancer[0][:, :8], cancer[1], np.arange(len(cancer[1])) % 3
    nest, start = nest_of(X, y, folds, Aid()), np.full(8, 2.0)
    splits = [(np.flatnonzero(folds != m), np.flatnonzero(folds == m)) for m in range(3)]
    bilevel = Bilevel(make_problem(X, y, splits, n_classes=2, dtype=np.float64), Aid())
    structure = structures.matrix(np.column_stack([np.ones(8), np.arange(8.0) / 8])).for_each_split(3)

    def solved(theta):
        state = Aid().init(bilevel.problem, start + structure.change(theta))
        state, result = solve(bilevel.problem, Aid(), state, rtol=1e-6, project=structure.pull_back)
        return bilevel.record(structure, theta, state.log_penalties, state, result, (0.0, 0.0))

    def newton(theta, splits):
        def gradient(theta):
            return 3 * solved(theta).shares[splits].mean(axis=0)

        for _ in range(6):
            hessian = np.array([gradient(theta + 1e-3 * e) - gradient(theta - 1e-3 * e) for e in np.eye(2)]) / 2e-3
            theta = theta - np.linalg.solve(hessian, gradient(theta))
        return theta, np.linalg.inv(hessian)

    best, inverse = newton(np.zeros(2), [0, 1, 2])
    descents = Descents(CrossFit(), nest, start, (-9.0, 9.0))
    judged = descents.confirm(solved(best), (None, None, None, inverse), None, 9.0)
    for m in range(3):
        others = [k for k in range(3) if k != m]
        of_others = 3 * solved(best).shares[others].mean(axis=0)
        np.testing.assert_allclose(descents.thetas[m], best - inverse @ of_others, rtol=1e-2)
        assert judged.losses[m] == pytest.approx(solved(descents.thetas[m]).losses[m], rel=1e-2)
    assert judged.is_nested
    np.testing.assert_array_equal(judged.theta, best)


def test_a_judgment_is_the_loss_of_the_model_of_all_other_rows(cancer):
    X, y = cancer
    folds = np.arange(len(y)) % 3
    for m in range(3):
        step = first_step(nest_of(X, y, folds, Aid(), m), 30)
        scale = np.exp(-0.5 * step.log_penalties)  # a penalty λ_j is a penalty of 1 on x_j / √λ_j
        model = LogisticRegression(tol=1e-10, max_iter=10_000).fit(X[folds != m] * scale, y[folds != m])
        expected = log_loss(y[folds == m], model.predict_proba(X[folds == m] * scale))
        assert step.value == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("solver", [Dual(), Aid()], ids=["dual", "aid"])
def test_gradients_of_inner_splits_with_penalties_of_their_own_are_right(solver, cancer):
    X, y = cancer[0][:, :6], cancer[1]
    inner, start = nest_of(X, y, np.arange(len(y)) % 4, solver, 2).inner.problem, np.random.RandomState(0).randn(3, 6)
    structure = per_feature(6)

    def solved(theta):
        state = solver.init(inner, start + structure.change(theta))
        for _ in range(150):
            state = solver.advance(inner, state)
        gradient = structure.pull_back(solver.log_gradient(inner, state))
        return solver.losses(inner, state, inner).mean(), gradient

    _, gradient = solved(np.zeros(6))
    ends = [[solved(sign * 1e-3 * unit)[0] for sign in (1, -1)] for unit in np.eye(6)]
    np.testing.assert_allclose(gradient, [(up - down) / 2e-3 for up, down in ends], rtol=1e-2, atol=1e-7)


def test_a_gain_is_paired():
    hard = np.array([0.2, 0.9, 0.5, 1.4])
    gain, error = gain_of(hard, hard - [0.1, 0.1, 0.1, 0.1])
    assert (gain, error) == (pytest.approx(0.1), pytest.approx(0.0, abs=1e-12))
    assert gain_of(np.array([0.3]), np.array([0.1])) == (pytest.approx(0.2), 0.0)


# ---- inner splits ---------------------------------------------------------------------------------------------------------


def test_inner_splits_lie_in_the_training_rows_and_keep_groups_together():
    random = np.random.RandomState(0)
    y, groups = random.randint(0, 2, 300), random.randint(0, 40, 300)
    splits = list(GroupKFold(5).split(y, y, groups))
    samples = samples_of(y, splits)
    for m, (training, validation) in enumerate(splits):
        inner = samples.inner_splits(m)
        assert len(inner) == 2
        for train, val in inner:
            assert set(train) | set(val) <= set(training)
            assert not {*groups[train]} & {*groups[val]}
            assert not {*groups[train], *groups[val]} & {*groups[validation]}


def test_splits_that_cannot_be_split_again_judge_all_the_same():
    y = np.arange(120) % 2
    samples = samples_of(y, list(TimeSeriesSplit(3).split(y)))
    assert [len(samples.inner_splits(m)) for m in range(3)] == [0, 1, 2]
    X = np.random.RandomState(0).randn(120, 8) + y[:, None]
    search = search_for("per_feature", cv=TimeSeriesSplit(3)).fit(X, y)
    assert search.cv_results_["is_nested"].any()


def test_without_two_splits_one_penalty_is_tuned(cancer):
    once = StratifiedShuffleSplit(1, random_state=0)
    with pytest.warns(UserWarning, match="early_stopping='auto': cv makes no two splits") as caught:
        search = search_for("per_feature", cv=once).fit(*cancer)
    assert [warning.filename for warning in caught] == [__file__]
    assert search.structure_.name == "shared"
    assert search_for("auto", cv=once).fit(*cancer).structure_.name == "shared"
    with pytest.raises(ValueError, match="early_stopping=True: cv makes no two splits"):
        search_for("per_feature", cv=once, early_stopping=True).fit(*cancer)


# ---- searches -------------------------------------------------------------------------------------------------------------


def test_the_score_of_many_penalties_is_honest():
    """Coins cannot be foretold: a nested score says so, the score of penalties that fit their judges does not."""
    nested, fitted = [], []
    for seed in range(6):
        random = np.random.RandomState(seed)
        X, y = random.randn(150, 40), random.permutation(np.arange(150) % 2)
        nested.append(-search_for("per_feature", cv=5, random_state=seed).fit(X, y).best_score_)
        fitted.append(-search_for("per_feature", cv=5, early_stopping=False, max_iter=30).fit(X, y).best_score_)
    assert np.mean(nested) > np.log(2) - 0.01
    assert np.mean(fitted) < np.log(2) - 0.05


def test_a_nested_score_is_that_of_fresh_rows(sparse_truth):
    X, y, fresh_X, fresh_y = sparse_truth
    search = search_for("per_feature", cv=5).fit(X, y)
    assert search.cv_results_["is_nested"][search.best_index_]
    assert search.best_score_ == search.cv_results_["mean_test_score"][search.best_index_]
    fresh = log_loss(fresh_y, search.predict_proba(fresh_X))
    spread = np.std([search.cv_results_[f"split{k}_test_score"][search.best_index_] for k in range(5)], ddof=1) / np.sqrt(5)
    assert -search.best_score_ == pytest.approx(fresh, abs=3 * spread)


def test_auto_finds_few_features_among_many(sparse_truth):
    X, y, fresh_X, fresh_y = sparse_truth
    losses = [log_loss(fresh_y, search_for(s, cv=5).fit(X, y).predict_proba(fresh_X)) for s in ("shared", "auto")]
    assert losses[1] < 0.97 * losses[0]


def test_auto_stays_at_one_penalty_where_labels_are_shuffled(sparse_truth):
    X, y, fresh_X, fresh_y = sparse_truth
    y = np.random.RandomState(1).permutation(y)
    losses = [log_loss(fresh_y, search_for(s, cv=5).fit(X, y).predict_proba(fresh_X)) for s in ("shared", "auto")]
    assert losses[1] == pytest.approx(losses[0], abs=0.01)


@pytest.mark.parametrize("counts", [(45, 45), (180, 20)], ids=["few rows", "few of a class"])
def test_auto_stays_at_one_penalty_with_few_rows(counts):
    y = np.repeat([0, 1], counts)
    X = np.random.RandomState(0).randn(y.size, 10) + y[:, None] * (np.arange(10) < 2)
    search = search_for("auto", cv=5).fit(X, y)
    assert search.structure_.name == "shared"
    assert [stage.structure for stage in search.stages_] == ["shared"]
    np.testing.assert_array_equal(search.penalties_, search_for("shared", cv=5).fit(X, y).penalties_)


def test_stages_say_what_they_gained(sparse_truth):
    search = search_for("auto", cv=5).fit(*sparse_truth[:2])
    first, *others = search.stages_
    assert first.structure == "shared" and np.isnan(first.gain) and first.kept
    assert [stage.structure for stage in others] == ["moments+evidence"]
    assert others[0].kept and others[0].gain > 0.5 * others[0].standard_error
    kept = [stage for stage in search.stages_ if stage.kept]
    assert search.structure_.name == kept[-1].structure


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_is_reproducible_for_any_number_of_threads(n_jobs, sparse_truth, documents):
    X, y = sparse_truth[:2]
    first, second = (search_for("per_feature", n_jobs=n).fit(X, y) for n in (None, n_jobs))
    np.testing.assert_array_equal(first.penalties_, second.penalties_)
    assert first.best_score_ == second.best_score_


def test_cross_fitting_with_a_vocabulary_for_each_split(documents):
    search = search_for("per_feature", estimator=make_pipeline(CountVectorizer(), LogisticRegression())).fit(*documents)
    assert search.cv_results_["is_nested"].any()
    assert search.penalties_.size == len(search.best_estimator_[0].vocabulary_)


def test_a_callable_refit_may_take_a_nested_step(cancer):
    search = search_for("per_feature", refit=lambda results: int(np.argmax(results["is_nested"]))).fit(*cancer)
    assert search.cv_results_["is_nested"][search.best_index_]
    assert search.structure_.name == "moments+evidence"
    assert np.ptp(search.penalties_) > 0


def test_without_cross_fitting_the_validation_loss_chooses(cancer):
    search = search_for("per_feature", early_stopping=False, max_iter=20).fit(*cancer)
    assert "is_nested" not in search.cv_results_
    assert search.best_score_ == search.cv_results_["mean_test_score"][search.best_index_]


@pytest.mark.parametrize("structure", [np.arange(30) // 15, "evidence", ["moments", "evidence"]], ids=str)
def test_few_hyperparameters_are_cross_fitted_where_asked(structure, cancer):
    search = search_for(structure, early_stopping=True, cv=StratifiedKFold(4)).fit(*cancer)
    stage, nested = search.cv_results_["structure"] != "shared", search.cv_results_["is_nested"]
    assert stage.any() and not nested[:-1].any()  # the steps that lead there were scored by the rows that chose them
    assert nested[-1] or search.structure_.name == "shared"
    assert search.best_index_ == (nested.size if search.stages_[-1].kept else np.argmax(stage)) - 1


def test_the_score_of_few_hyperparameters_is_nested_where_asked():
    """Three descriptors of 40 columns find something in 150 coins, if these may choose and judge."""
    nested, fitted = [], []
    for seed in range(6):
        random = np.random.RandomState(seed)
        X, y = random.randn(150, 40), random.permutation(np.arange(150) % 2)
        for scores, early_stopping in ((nested, True), (fitted, "auto")):
            search = search_for(["moments", "evidence"], cv=5, early_stopping=early_stopping, random_state=seed).fit(X, y)
            scores.append(-search.best_score_)
    assert np.mean(nested) > np.log(2) - 0.01
    assert np.mean(fitted) < np.mean(nested) - 0.01


def test_auto_is_the_default():
    assert HypergradientSearchCV(LogisticRegression()).structure == "auto"


# ---- what must not depend on luck -----------------------------------------------------------------------------------------


def coins(seed, n_rows=150, n_features=4, signal=0.5):
    random = np.random.RandomState(seed)
    X = random.normal(size=(n_rows, n_features))
    return X, (signal * X[:, 0] + random.normal(size=n_rows) > 0).astype(int)


def correlated(X, y, sample_weight):
    """Six columns of zeros and ones: how far above its noise a feature's correlation with y is."""
    z = np.abs(np.corrcoef(X.T, y)[-1, :-1]) * np.sqrt(len(y))
    return np.stack([z > bound for bound in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)], axis=1).astype(float)


def test_a_stage_that_was_not_kept_is_not_the_result():
    searches = [search_for("auto", cv=5).fit(*coins(seed)) for seed in range(10)]
    left = [search for search in searches if not search.stages_[-1].kept]
    assert left
    assert {search.structure_.name for search in left} == {"shared"}


def test_descriptors_may_lose_columns_in_some_splits_only():
    for seed in range(6):
        search = search_for(correlated, cv=5).fit(*coins(seed, n_features=8, signal=0.25))
        assert 0.3 < -search.best_score_ < 0.75


@pytest.mark.parametrize("n_columns", [1, 6])
def test_descriptors_that_have_no_spread_in_the_splits_leave_one_penalty(n_columns):
    X, y = coins(0, n_features=8)

    def of_all_rows(rows, labels, sample_weight):
        return np.arange(8.0)[:, None] ** np.arange(1, n_columns + 1) * (len(rows) == len(X))

    search = search_for(of_all_rows, early_stopping=True).fit(X, y)
    np.testing.assert_array_equal(search.penalties_, search_for("shared").fit(X, y).penalties_)


def test_matrices_of_the_splits_are_those_of_their_inner_splits():
    random = np.random.RandomState(0)
    first, *others = random.normal(size=(6, 8, 6))
    search = search_for(structures.matrix(first, per_split=others), cv=5).fit(*coins(0, n_features=8))
    assert search.cv_results_["is_nested"].any()


def test_rows_that_are_drawn_twice_count_twice_in_inner_splits(monkeypatch):
    X, y = coins(0, n_features=8)
    random, rows, totals = np.random.RandomState(0), np.arange(len(y)), []
    cv = [(train, np.setdiff1d(rows, train)) for train in random.randint(len(y), size=(4, len(y)))]
    for estimator in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        monkeypatch.setattr(_run, "make_nest", lambda *given: totals.append(_parts.make_nest(*given)) or totals[-1])
        HypergradientSearchCV(estimator, structure="per_feature", cv=cv, random_state=0).fit(X, y)
    one, other = (np.concatenate([part.train_totals for part in parts_of(nest.inner.problem)]) for nest in totals)
    np.testing.assert_array_equal(one, other)


def test_a_warm_start_of_many_groups_takes_the_level_alone():
    X, y = coins(0, n_rows=300, n_features=70)
    X[:, 35:] *= 30
    search = search_for(np.repeat(np.arange(35), 2), warm_start=True)
    scores = [search.fit(X, y).best_score_ for _ in range(2)]
    assert scores[1] == pytest.approx(scores[0], rel=5e-3)


def test_auto_counts_rows_that_weigh_something():
    X, y = coins(0, n_features=3)
    weight = np.arange(len(y)) % 3 == 0
    assert len(search_for("auto").fit(X, y).stages_) == 2
    assert search_for("auto").fit(X, y, sample_weight=weight).structure_.name == "shared"
    assert search_for("auto").fit(X[weight], y[weight]).structure_.name == "shared"


def test_inner_splits_are_fitted_at_the_same_alpha(cancer):
    splits = list(StratifiedKFold(5).split(*cancer))
    samples = samples_of(cancer[1], splits)
    target = _estimators.read(SGDClassifier(loss="log_loss"))
    inner = replace(samples, splits=samples.inner_splits(0))
    scale = inner.train_scale(target, samples.n_train)
    sizes = [train.size for train, _ in inner.splits]
    np.testing.assert_allclose(scale, np.tile(samples.n_train / np.array(sizes), (2, 1)))


def test_an_interrupted_search_keeps_what_gained_beyond_its_noise():
    def step(structure, losses):
        return Step(
            structure, np.zeros(structure.n_params), np.zeros(4), np.array(losses), np.zeros(structure.n_params), 1.0, 0.1
        )

    steps = [step(shared(4), [0.5, 0.7, 0.6]), step(per_feature(4), [0.3, 0.75, 0.65])]
    assert [path_of(None, None, steps, margin).best for margin in (0.0, 1.0)] == [1, 0]
    assert [stage.kept for stage in path_of(None, None, steps, 1.0).stages] == [True, False]


def test_no_more_steps_are_taken_than_were_asked_for():
    assert CrossFit(max_steps=10).intervals(per_feature(40)) == [1, 1, 2, 3, 3]
    assert CrossFit(max_steps=4).intervals(structures.groups(np.arange(7))) == [3, 1]
