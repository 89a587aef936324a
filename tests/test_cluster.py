"""Rows on a Dask cluster of two processes: the same results as in memory, whatever workers there are, and if some are lost."""

import os
import signal
from contextlib import contextmanager

import dask
import dask.array as da
import dask.dataframe as dd
import distributed
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, scale

from sksid import HypergradientSearchCV, blocks, logistic
from sksid import _cluster as cluster
from sksid._stored import preprocessed
from sksid.problem import make_problem, problem_of
from sksid.solvers import Aid
from sksid.solvers._local import Local

# sockets that Dask leaves open where a worker has been killed
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)

X, Y = load_breast_cancer(return_X_y=True)
X = np.ascontiguousarray(scale(X)[:, ::3])
STEP, REFIT = "outer-step", "refit-with-best-params"
SPLITS = list(KFold(3, shuffle=True, random_state=0).split(X))


@contextmanager
def workers(n_workers=2, **settings):
    """The client of a cluster of so many processes, or threads of this one."""
    settings = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 60} | settings
    with distributed.LocalCluster(**settings) as started, distributed.Client(started) as client:
        yield client


@pytest.fixture(scope="module")
def client():
    with workers() as client:
        yield client


def chunked(X, size=300):
    return da.from_array(X, chunks=(size, -1), asarray=False)


def solved(problem, between=lambda: None):
    """Losses and hypergradient at a second penalty, after ``between``."""
    solver = Aid(tol=1e-7, first_tol=None)
    state = solver.advance(problem, solver.init(problem, np.full(problem.n_features, 1.5)))
    between()
    state = solver.advance(problem, solver.rescale(problem, state, np.full(problem.n_features, 1.0)))
    return solver.losses(problem, state), solver.log_gradient(problem, state)


def kill_a_worker(client):
    """The process that has the first chunk, as the kernel ends one that has used up its memory."""
    processes = client.run(os.getpid)
    os.kill(processes[min(processes)], signal.SIGKILL)


def test_products_are_those_of_rows_in_memory_and_a_lost_worker_changes_no_bit(client):
    weights = np.random.RandomState(0).random_sample(Y.size) + 0.5
    roles = {"n_classes": 2, "sample_weight": weights}
    rows = blocks.open(chunked(X)).rows
    problem = problem_of(rows, Y, SPLITS, **roles)
    ours, theirs = solved(problem), solved(make_problem(X, Y, SPLITS, dtype=np.float64, **roles))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-7)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-4, abs=1e-7)
    assert problem.second_moments == pytest.approx(np.average(X**2, axis=0, weights=weights))
    again = solved(problem, lambda: kill_a_worker(client))
    assert np.array_equal(again[1], ours[1])
    with workers(1, processes=False):
        alone = solved(problem_of(blocks.open(chunked(X)).rows, Y, SPLITS, **roles))
    assert np.array_equal(alone[1], ours[1])


# ---- epochs of each chunk -----------------------------------------------------------------------------------------------


def steered(problem, rounds, logs, between=lambda: None):
    """Losses and hypergradient after so many rounds, at equal penalties and then at these."""
    solver = Local()
    state = solver.advance(problem, solver.init(problem, np.full(problem.n_features, 5.0)), rounds)
    between()
    state = solver.advance(problem, solver.rescale(problem, state, logs), rounds)
    return solver.losses(problem, state, problem), solver.log_gradient(problem, state), state


def test_epochs_of_each_chunk_come_near_the_hypergradient_and_a_lost_worker_changes_no_bit(client):
    roles = {"n_classes": 2, "sample_weight": np.random.RandomState(0).random_sample(Y.size) + 0.5}
    logs = 4.0 + 0.3 * np.random.RandomState(1).randn(3, X.shape[1])
    problem, solver = problem_of(blocks.open(chunked(X)).rows, Y, SPLITS, **roles), Local()
    ours = steered(problem, 12, logs)
    theirs = make_problem(X, Y, SPLITS, dtype=np.float64, **roles)
    exact = Aid(first_tol=None).advance(theirs, Aid(first_tol=None).init(theirs, logs))
    assert ours[0] == pytest.approx(Aid().losses(theirs, exact), rel=1e-3)
    assert np.linalg.norm(ours[1] - Aid().log_gradient(theirs, exact)) < 0.05 * np.linalg.norm(ours[1])
    assert np.array_equal(steered(problem, 12, logs, lambda: kill_a_worker(client))[1], ours[1])
    with workers(1, processes=False):
        alone = problem_of(blocks.open(chunked(X)).rows, Y, SPLITS, **roles)
        assert np.array_equal(steered(alone, 12, logs)[1], ours[1])
    start = solver.coefficients(problem, ours[2]), solver.adjoint(problem, ours[2])
    again = solver.init(problem, logs, start=start)
    for _ in range(4):
        again = solver.advance(problem, again, 0.5)
    assert again.n_epochs == 2.0
    assert solver.losses(problem, again) == pytest.approx(ours[0], rel=2e-3)


def test_a_fit_of_several_classes_by_chunks_without_adjoint(client):
    X, y = load_iris(return_X_y=True)
    X, everything = scale(X), [(np.arange(150), np.arange(0))]
    problem = problem_of(blocks.open(chunked(X, 75)).rows, y, everything, n_classes=3)
    theirs = make_problem(X, y, everything, n_classes=3, dtype=np.float64)
    logs, solver = np.full(4, 2.0), Local()
    state, result = logistic.fit(problem, solver, logs, tol=1e-4, max_epochs=200)
    exact = Aid(first_tol=None).advance(theirs, Aid(first_tol=None).init(theirs, logs))
    assert result.converged
    assert solver.coefficients(problem, state)[0] == pytest.approx(Aid().coefficients(theirs, exact)[0], abs=2e-3)


def test_a_search_steers_by_chunks_and_ends_precisely(client):
    """20,000 rows: the score is that of rows in memory."""
    random = np.random.RandomState(0)
    rows = np.repeat(np.arange(20_000), 8)
    X = sp.csr_array(
        (np.ones(rows.size), (rows, (2000 * random.random_sample(rows.size) ** 2).astype(int))), shape=(20_000, 2000)
    )
    y = (random.random_sample(20_000) < 1 / (1 + np.exp(-0.5 * X @ random.randn(2000)))).astype(int)
    chunks = [da.from_array(X[part], chunks=(-1, -1), asarray=False) for part in (slice(10_000), slice(10_000, None))]
    search = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=3, random_state=0)
    ours = clone(search).fit(da.concatenate(chunks), da.from_array(y, chunks=10_000))
    theirs = clone(search).fit(X, y)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-4)
    assert ours.best_estimator_.coef_ == pytest.approx(theirs.best_estimator_.coef_, abs=0.02)


def test_a_search_of_several_classes_with_intercepts(client):
    X, y = load_iris(return_X_y=True)
    X, splits = scale(X), list(KFold(3, shuffle=True, random_state=0).split(X))
    search = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=splits)
    ours, theirs = clone(search).fit(chunked(X, 75), y), clone(search).fit(X, y)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-4)


def test_many_penalties_are_cross_fitted_on_a_cluster(client):
    search = HypergradientSearchCV(LogisticRegression(), structure="per_feature", cv=SPLITS, max_iter=1)
    ours, theirs = clone(search).fit(chunked(X), Y), clone(search).fit(X, Y)
    assert [stage.structure for stage in ours.stages_] == [stage.structure for stage in theirs.stages_]
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=0.02)


def test_sparse_chunks_of_several_classes_without_intercept(client):
    X, y = load_iris(return_X_y=True)
    X, splits = sp.csr_array(X), list(KFold(3, shuffle=True, random_state=0).split(X))
    chunks = da.concatenate([da.from_array(X[k : k + 50], chunks=(-1, -1), asarray=False) for k in range(0, 150, 50)])
    roles = {"n_classes": 3, "fit_intercept": False}
    ours, _ = solved(problem_of(blocks.open(chunks).rows, y, splits, **roles))
    theirs, _ = solved(make_problem(X, y, splits, dtype=np.float64, **roles))
    assert ours == pytest.approx(theirs, rel=1e-7)


def kill_all_for_good(client):
    """All workers, and nobody starts another one."""
    processes = client.run(os.getpid)
    for nanny in client.cluster.workers.values():
        nanny.status = distributed.Status.closing_gracefully
    for process in processes.values():
        os.kill(process, signal.SIGKILL)


class Killer:
    """Calls ``kill`` with the client where the first of these tasks ends or begins: outer steps, the refit."""

    def __init__(self, client, kill, tasks):
        self.client, self.kill, self.left = client, kill, set(tasks)

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == REFIT:
            self._at(context)

    def on_fit_task_end(self, estimator, context):
        if context.task_name == STEP:
            self._at(context)

    def _at(self, context):
        if context.task_name in self.left:
            self.left.remove(context.task_name)
            self.kill(self.client)


def test_a_search_that_loses_workers_finds_what_it_finds_in_memory(client):
    settings = {"structure": "shared", "cv": SPLITS, "tol": 1e-6}
    killer = Killer(client, kill_a_worker, [STEP, REFIT])
    ours = HypergradientSearchCV(LogisticRegression(), **settings).set_callbacks(killer)
    ours.fit(chunked(X), da.from_array(Y, chunks=300))
    theirs = HypergradientSearchCV(LogisticRegression(), **settings).fit(X, Y)
    assert not killer.left
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-5)
    assert ours.best_estimator_.coef_ == pytest.approx(theirs.best_estimator_.coef_, abs=2e-3)
    assert type(ours.best_estimator_) is LogisticRegression
    assert np.array_equal(ours.predict_proba(chunked(X)), ours.best_estimator_.predict_proba(X))


@pytest.mark.parametrize(
    "task, when, by_scheduler",
    [
        (STEP, "after 1 outer steps", False),
        (STEP, "after 1 outer steps", True),
        (REFIT, "after the search", False),
    ],
)
def test_where_all_workers_are_lost_the_best_so_far_is_kept(task, when, by_scheduler):
    """Whether it is Dask's scheduler that gives up, or the search itself."""
    patience = {cluster.OWN_PATIENCE: "1s"}
    with dask.config.set(patience if by_scheduler else {}), workers() as client, dask.config.set(patience):
        killer = Killer(client, kill_all_for_good, [task])
        search = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=SPLITS).set_callbacks(killer)
        with pytest.warns(UserWarning, match=f"The cluster was lost {when}; .*is kept, but there is no refit"):
            search.fit(chunked(X), Y)
    assert not killer.left
    assert search.n_iter_ == 1 or task != STEP
    assert search.best_score_ > -0.1 and search.penalties_.shape == (X.shape[1],)
    with pytest.raises(AttributeError, match="no attribute 'best_estimator_'"):
        search.predict(X)
    again = search.set_params(warm_start=True).set_callbacks().fit(X, Y)
    assert again.n_iter_ < 8 and again.predict(X).shape == Y.shape


def test_a_cluster_that_is_lost_before_the_first_step_is_an_error():
    with workers() as client, dask.config.set({cluster.OWN_PATIENCE: "1s"}):
        rows = blocks.open(chunked(X))
        kill_all_for_good(client)
        with pytest.raises(cluster.ClusterLostError, match="no worker"):
            HypergradientSearchCV(LogisticRegression(), structure="shared", cv=SPLITS).fit(rows, Y)
        client.close()
        with pytest.raises(cluster.ClusterLostError, match="the client is closed"):
            HypergradientSearchCV(LogisticRegression(), structure="shared", cv=SPLITS).fit(rows, Y)


@pytest.mark.parametrize(
    "rows, settings, error, says",
    [
        (lambda: da.from_array(X, chunks=(100, 5)), {}, ValueError, "some of which have a part of the columns"),
        (lambda: chunked(np.where(X == X[350, 2], np.nan, X)), {}, ValueError, "chunk 1 cannot be used: row 50 of it has nan"),
        (lambda: chunked(X), {"solver": "dual"}, ValueError, "Use 'auto', 'aid' or Aid"),
        (lambda: chunked(X), {"scoring": "accuracy"}, ValueError, "scoring='accuracy' needs the rows in memory"),
    ],
)
def test_what_does_not_work_on_a_cluster_is_refused(client, rows, settings, error, says):
    with pytest.raises(error, match=says):
        HypergradientSearchCV(LogisticRegression(), **settings).fit(rows(), Y)


# ---- frames, and Pipelines ----------------------------------------------------------------------------------------------


def frame():
    """Eight numeric columns and one of strings; labels."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X = X.iloc[:, :8]
    return X.assign(size=np.where(X["mean area"] > 600, "big", "small")), y


NUMBERS = list(frame()[0].columns[:8])


def in_parts(X):
    return dd.from_pandas(X, npartitions=2)


def encoder(X):
    """Fitted, and frozen."""
    return make_column_transformer(
        (FrozenEstimator(StandardScaler().fit(X[NUMBERS])), NUMBERS),
        (FrozenEstimator(OneHotEncoder().fit(X[["size"]])), ["size"]),
    )


def test_a_frame_goes_through_frozen_steps_on_the_workers(client):
    X, y = frame()
    search = HypergradientSearchCV(make_pipeline(encoder(X), LogisticRegression()), structure="blocks", cv=SPLITS, max_iter=2)
    rows = preprocessed(search.estimator, in_parts(X), y)
    assert np.array_equal(np.concatenate([part for _, part in rows.parts()]), encoder(X).fit(X).transform(X))
    weights = {"logisticregression__sample_weight": np.random.RandomState(0).random_sample(y.size) + 0.5}
    ours = clone(search).fit(in_parts(X), in_parts(y), **weights)
    theirs = clone(search).fit(X, y, **weights)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-2)
    assert list(ours.feature_names_in_) == list(theirs.feature_names_in_)
    assert list(ours.block_params_) == list(theirs.block_params_) == ["frozenestimator-1", "frozenestimator-2"]
    probabilities = ours.predict_proba(in_parts(X))
    assert np.array_equal(probabilities, ours.best_estimator_.predict_proba(X))
    assert probabilities == pytest.approx(theirs.predict_proba(X), abs=0.05)


def test_a_frame_of_numbers_keeps_its_names(client):
    X, y = frame()
    X = X[NUMBERS].round({"mean area": 0}).astype({"mean area": "Int64", "mean radius": "float32"})
    rows = blocks.open(in_parts(X))
    assert np.array_equal(np.concatenate([part for _, part in rows.parts()]), X.to_numpy(np.float64))
    ours = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=SPLITS, max_iter=1).fit(
        in_parts(X[NUMBERS[4:]]), y
    )
    assert list(ours.best_estimator_.feature_names_in_) == NUMBERS[4:]


def test_a_series_of_texts_goes_through_a_stateless_step(client):
    _, y = frame()
    words = [("dull", "bright")[(label + number % 4 // 3) % 2] for number, label in enumerate(y)]
    texts = pd.Series([f"{word} {number}" for number, word in enumerate(words)])
    pipeline = make_pipeline(HashingVectorizer(n_features=64), LogisticRegression())
    search = HypergradientSearchCV(pipeline, structure="shared", cv=3, tol=1e-6)
    ours, theirs = clone(search).fit(in_parts(texts), y), clone(search).fit(texts, y)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-4)
    assert np.array_equal(ours.predict(in_parts(texts)), ours.best_estimator_.predict(texts))


@pytest.mark.parametrize(
    "estimator, columns, error, says",
    [
        (LogisticRegression(), [*NUMBERS, "size"], ValueError, r"not numbers: {'size': 'str.*FrozenEstimator\(encoder\)"),
        (LogisticRegression(), "mean area", TypeError, "X is a Series of Dask, not of rows and columns"),
        (
            make_pipeline(StandardScaler(), LogisticRegression()),
            NUMBERS,
            TypeError,
            "StandardScaler would be fitted on",
        ),
    ],
)
def test_frames_that_do_not_work_are_refused(client, estimator, columns, error, says):
    X, y = frame()
    with pytest.raises(error, match=says):
        HypergradientSearchCV(estimator).fit(in_parts(X)[columns], y)


def test_without_a_cluster_the_way_to_one_is_said(monkeypatch):
    def missing():
        raise ValueError("No clients found")

    monkeypatch.setattr(distributed, "default_client", missing)
    with pytest.raises(ValueError, match="Make a client first"):
        blocks.open(chunked(X), Y)
