"""A search under scikit-learn's callbacks: tasks, progress, monitors, stops, budgets and interrupts."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
from searches import search_for
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_info, threadpool_limits

from sksid import HypergradientSearchCV
from sksid.callbacks import TimeBudget


class Recorder:
    """Writes down every hook; asks for a stop after so many outer steps."""

    def __init__(self, stop_after=np.inf):
        self.stop_after = stop_after
        self.events = []

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name))
        return self.events.count(("end", "outer-step")) >= self.stop_after


class Fitted:
    """Keeps the fitted estimators that it is offered."""

    def __init__(self):
        self.models = []

    def setup(self, estimator, context):
        self.models = []

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if fitted_estimator is not None:
            self.models.append((context.task_name, fitted_estimator))


# ---- tasks --------------------------------------------------------------------------------------------------------------


def test_every_outer_step_is_a_task_and_every_task_ends(cancer):
    recorder = Recorder()
    search = search_for().set_callbacks(recorder).fit(*cancer)
    n_tasks = search.n_iter_ + 1  # the last is the chosen step, solved to convergence
    steps = [("begin", "outer-step"), ("end", "outer-step")] * n_tasks
    assert recorder.events == [
        ("setup", "fit"),
        ("begin", "fit"),
        ("begin", "search"),
        *steps,
        ("end", "search"),
        ("begin", "refit-with-best-params"),
        ("end", "refit-with-best-params"),
        ("end", "fit"),
        ("teardown", "fit"),
    ]


@pytest.mark.parametrize("structure", ["per_feature", "moments", np.arange(30) // 10])
def test_every_row_of_the_table_is_a_step_that_callbacks_and_verbose_have_seen(structure, cancer, capsys):
    """The solves that confirm the best step of a stage are rows, too."""
    recorder = Recorder()
    search = search_for(structure, max_iter=4, verbose=1).set_callbacks(recorder).fit(*cancer)
    assert recorder.events.count(("end", "outer-step")) == search.n_iter_ + 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == search.cv_results_["structure"].tolist()


def test_callbacks_change_nothing_of_the_result(cancer):
    plain = search_for("per_feature", max_iter=5).fit(*cancer)
    watched = search_for("per_feature", max_iter=5).set_callbacks(Fitted(), Recorder()).fit(*cancer)
    np.testing.assert_array_equal(plain.penalties_, watched.penalties_)
    np.testing.assert_array_equal(plain.best_estimator_.coef_, watched.best_estimator_.coef_)


def test_callbacks_are_torn_down_after_an_error(cancer):
    X, y = cancer
    recorder = Recorder()
    with pytest.raises(ValueError, match="structure"):
        search_for(np.arange(3)).set_callbacks(recorder).fit(X, y)
    assert recorder.events[-1] == ("teardown", "fit")


def test_without_a_refit_there_is_no_task_for_it(cancer):
    recorder, fitted = Recorder(), Fitted()
    search_for(refit=False).set_callbacks(recorder, fitted).fit(*cancer)
    assert ("begin", "refit-with-best-params") not in recorder.events
    assert not fitted.models


@pytest.mark.parametrize("solver", ["dual", "aid"])
@pytest.mark.parametrize("structure", ["shared", "per_feature"])
def test_a_step_offers_the_model_a_fit_would_end_with(structure, solver, cancer):
    X, y = cancer
    fitted = Fitted()
    search = search_for(structure, solver=solver, max_iter=3).set_callbacks(fitted).fit(X, y)
    steps = [model for name, model in fitted.models if name == "outer-step"]
    assert [name for name, _ in fitted.models] == ["outer-step"] * search.n_iter_ + ["fit"]
    np.testing.assert_array_equal(fitted.models[-1][1].predict_proba(X), search.predict_proba(X))
    for row, model in enumerate(steps[:3]):  # the first stage, of one penalty
        check_is_fitted(model)
        C = search.cv_results_["param_C"][row]
        assert model.best_params_["C"] == pytest.approx(C)
        own = LogisticRegression(C=C, tol=1e-8, max_iter=1000).fit(X, y)
        np.testing.assert_allclose(model.predict_proba(X), own.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("structure", ["per_feature", np.arange(30) // 10], ids=["per_feature", "groups"])
def test_a_cross_fitted_step_offers_a_model_where_the_solver_is_not_precise(structure, cancer):
    X, y = cancer
    fitted = Fitted()
    settings = {"solver": "sgd", "early_stopping": True, "max_iter": 3}
    search = search_for(structure, **settings).set_callbacks(fitted).fit(X, y)
    assert search.cv_results_["is_nested"].any()
    assert [name for name, _ in fitted.models] == ["outer-step"] * search.n_iter_ + ["fit"]
    assert all(model.score(X, y) > -0.2 for _, model in fitted.models)


# ---- scikit-learn's own callbacks ---------------------------------------------------------------------------------------


def test_scoring_monitor_logs_a_score_for_every_step(cancer):
    X, y = cancer
    monitor = ScoringMonitor(scoring=["neg_log_loss", "accuracy"])
    search = search_for().set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs().data_as_pandas
    steps = log[log["task_name"] == "outer-step"]
    assert len(steps) == search.n_iter_
    last = log[log["task_name"] == "fit"]
    assert last["neg_log_loss"].item() == pytest.approx(get_scorer("neg_log_loss")(search, X, y))
    assert (steps["accuracy"] > 0.9).all()


def test_scoring_monitor_follows_a_pipeline(cancer):
    X, y = cancer
    monitor, pipeline = ScoringMonitor(scoring="accuracy"), make_pipeline(StandardScaler(), LogisticRegression())
    search = HypergradientSearchCV(pipeline, structure="shared", cv=3).set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs().data_as_pandas
    assert (log["task_name"] == "outer-step").sum() == search.n_iter_
    assert (log["accuracy"] > 0.9).all()


def test_progress_bar_follows_the_search(cancer, capsys):
    pytest.importorskip("rich", reason="scikit-learn's ProgressBar needs rich")
    search_for("per_feature", max_iter=3).set_callbacks(ProgressBar()).fit(*cancer)
    shown = capsys.readouterr().out
    assert "HypergradientSearchCV - search" in shown
    assert "100%" in shown


def test_callbacks_survive_clone_and_pickle(cancer):
    budget = TimeBudget(1e-9)
    search = clone(search_for("per_feature").set_callbacks(budget)).fit(*cancer)
    restored = pickle.loads(pickle.dumps(search)).fit(*cancer)
    assert search.n_iter_ == restored.n_iter_ == 1
    assert not budget._ends


# ---- stops --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["shared", "per_feature"])
def test_a_callback_may_stop_the_search_and_what_was_found_is_kept(structure, cancer):
    X, y = cancer
    search = search_for(structure).set_callbacks(Recorder(stop_after=2)).fit(X, y)
    assert search.n_iter_ == 2
    assert search.score(X, y) > -0.2
    restarted = search.set_callbacks().fit(X, y)
    assert restarted.n_iter_ > 2


def test_time_budget_ends_a_search_after_its_seconds(cancer):
    long, short = (search_for("per_feature").set_callbacks(TimeBudget(seconds)).fit(*cancer) for seconds in (3600.0, 0.0))
    assert short.n_iter_ == 1 < long.n_iter_
    assert long.n_iter_ == search_for("per_feature").fit(*cancer).n_iter_
    with pytest.raises(ValueError, match="seconds=-1"):
        TimeBudget(-1)


def test_one_time_budget_serves_fits_side_by_side(cancer):
    budget = TimeBudget(0.0)
    search = search_for("per_feature").set_callbacks(budget)
    with_threads = cross_validate(search, *cancer, cv=2, n_jobs=2, return_estimator=True)
    assert [each.n_iter_ for each in with_threads["estimator"]] == [1, 1]


# ---- interrupts ---------------------------------------------------------------------------------------------------------


class Interrupted:
    """A scorer during whose n-th call the user presses Ctrl-C."""

    def __init__(self, call):
        self.call, self.calls = call, 0

    def __call__(self, model, X, y):
        self.calls += 1
        if self.calls == self.call:
            raise KeyboardInterrupt
        return model.score(X, y)


@pytest.mark.parametrize("solver", ["dual", "aid"])
@pytest.mark.parametrize("structure", ["shared", "per_feature"])
def test_an_interrupt_keeps_the_best_of_the_steps_before_it(structure, solver, cancer):
    X, y = cancer
    with pytest.warns(UserWarning, match="interrupted after 2 outer steps") as caught:
        search = search_for(structure, solver=solver, scoring=Interrupted(call=8)).fit(X, y)
    assert caught[0].filename == __file__
    assert search.n_iter_ == 2
    C = search.best_params_["C"]
    own = LogisticRegression(C=C, tol=1e-8, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(search.predict_proba(X), own.predict_proba(X), atol=1e-3)


def test_an_interrupt_before_the_first_step_is_raised(cancer):
    search = search_for(scoring=Interrupted(call=2))
    with pytest.raises(KeyboardInterrupt):
        search.fit(*cancer)
    assert not hasattr(search, "best_estimator_")


# ---- threads ------------------------------------------------------------------------------------------------------------


def test_blas_has_one_thread_during_a_search_and_its_own_afterwards(cancer):
    def blas_threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    def scorer(model, X, y):
        seen.extend(blas_threads())
        return 0.0

    seen = []
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        search_for(scoring=scorer, max_iter=2).fit(*cancer)
        assert blas_threads() == before
    assert set(seen) <= {1}


def test_fits_that_overlap_in_threads_leave_blas_as_it_was(cancer):
    """Each fit waits in its scorer: the second begins before the first ends, and the first ends before the second."""
    second_has_begun, first_has_ended = Event(), Event()

    def first_scorer(model, X, y):
        assert second_has_begun.wait(30)
        return 0.0

    def second_scorer(model, X, y):
        second_has_begun.set()
        assert first_has_ended.wait(30)
        return 0.0

    def fit(scorer, ended=None):
        search_for(scoring=scorer, max_iter=1, refit=False).fit(*cancer)
        if ended:
            ended.set()

    with threadpool_limits(limits=2, user_api="blas"), ThreadPoolExecutor(2) as pool:
        before = threadpool_info()
        for done in [pool.submit(fit, first_scorer, first_has_ended), pool.submit(fit, second_scorer)]:
            done.result(60)
        assert threadpool_info() == before
