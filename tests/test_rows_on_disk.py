"""Rows on disk: the same results as in memory, from every form they may have; what is refused; what is left behind."""

import resource
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from sksid import HypergradientSearchCV, _disk_rows, blocks, logistic
from sksid.descriptors import evidence, second_moments
from sksid.problem import make_problem, problem_of
from sksid.rows import lay_out
from sksid.solvers import Dual

SMALL = {"block_entries": 2000}
SPLITS = KFold(3, shuffle=True, random_state=0)


def sparse_rows(n_rows=900, n_features=60, seed=0):
    """One-hot fields, two classes, weights."""
    random = np.random.RandomState(seed)
    sizes = np.array([3, 7, 20, 30])
    columns = (random.random_sample((n_rows, 4)) ** 2 * sizes).astype(int) + np.append(0, np.cumsum(sizes)[:-1])
    X = sp.csr_array((np.ones(4 * n_rows), columns.ravel(), np.arange(0, 4 * n_rows + 1, 4)), shape=(n_rows, n_features))
    y = (random.random_sample(n_rows) < 1 / (1 + np.exp(-X @ random.randn(n_features)))).astype(int)
    return X, y, random.random_sample(n_rows) + 0.5


def dense_rows():
    """Two classes, 12 features."""
    X, y = make_classification(700, 12, n_informative=6, flip_y=0.2, random_state=0)
    return scale(X), y


def folder(X, y, place):
    return blocks.save(place / "rows", X, y, **SMALL)


def mapped(X, y, place):
    if not sp.issparse(X):
        np.save(place / "X.npy", X)
        return blocks.open(np.load(place / "X.npy", mmap_mode="r"), y, **SMALL)
    parts = []
    for name in ("data", "indices", "indptr"):
        np.save(place / f"{name}.npy", getattr(X, name))
        parts.append(np.load(place / f"{name}.npy", mmap_mode="r"))
    return blocks.open(sp.csr_array(tuple(parts), shape=X.shape), y, **SMALL)


def npz(X, y, place):
    paths = []
    for k, part in enumerate(np.array_split(np.arange(y.size), 4)):
        paths.append(place / f"{k}.npz")
        if sp.issparse(X):
            sp.save_npz(paths[-1], X[part])
        else:
            np.savez(paths[-1], X=X[part])
    return blocks.open(paths, y, **SMALL)


def pairs(X, y, place):
    return blocks.open(((X[part], y[part]) for part in np.array_split(np.arange(y.size), 5)), **SMALL)


FORMS = [folder, mapped, npz, pairs]


def solved(problem, level):
    state = Dual().init(problem, np.full(problem.n_features, level))
    return logistic.solve(problem, Dual(), state, rtol=1e-7, value_rtol=1e-9, max_epochs=500)[1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [sparse_rows, dense_rows])
def test_every_form_has_the_hypergradient_of_rows_in_memory(form, rows, tmp_path):
    X, y, *_ = rows()
    splits = list(SPLITS.split(y))
    stored = form(X, y, tmp_path)
    assert stored.shape == X.shape and np.array_equal(stored.y, y)
    ours = solved(problem_of(stored.rows, y, splits, n_classes=2), 0.5)
    theirs = solved(make_problem(X, y, splits, n_classes=2, dtype=np.float64), 0.5)
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-7)
    assert ours.log_gradient == pytest.approx(theirs.log_gradient, rel=1e-4, abs=1e-8)


def test_weights_classes_and_penalties_of_each_split_are_those_of_rows_in_memory(tmp_path):
    X, y = load_digits(return_X_y=True)
    X, weight, splits = X / 16, np.random.RandomState(0).random_sample(y.size) + 0.5, list(StratifiedKFold(3).split(X, y))
    stored = folder(X, y, tmp_path)
    roles = {"n_classes": 10, "sample_weight": weight}
    logs = np.random.RandomState(1).randn(3, 64) + 1
    found = []
    for problem in (problem_of(stored.rows, y, splits, **roles), make_problem(X, y, splits, dtype=np.float64, **roles)):
        state, result = logistic.solve(problem, Dual(), Dual().init(problem, logs), rtol=1e-4, max_epochs=300)
        found.append((result.losses, result.log_gradient, Dual().losses(problem, state, problem)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-2, abs=1e-5)
    assert found[0][2] == pytest.approx(found[1][2], rel=1e-4)


@pytest.mark.parametrize("structure", ["shared", {"few": slice(0, 10)}])
def test_a_search_finds_what_it_finds_in_memory(structure, tmp_path):
    X, y, weight = sparse_rows()
    settings = {"structure": structure, "cv": SPLITS, "tol": 1e-6, "random_state": 0}
    stored = blocks.save(tmp_path / "rows", X, y, weight, **SMALL)
    ours = HypergradientSearchCV(LogisticRegression(), **settings).fit(stored)
    theirs = HypergradientSearchCV(LogisticRegression(), **settings).fit(X, y, sample_weight=weight)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-5)
    assert ours.best_estimator_.coef_ == pytest.approx(theirs.best_estimator_.coef_, abs=5e-3)
    assert type(ours.best_estimator_) is LogisticRegression and ours.n_features_in_ == 60


@pytest.mark.parametrize("structure", ["shared", "moments"])
def test_twenty_thousand_rows_in_many_blocks_have_the_score_of_rows_in_memory(structure, tmp_path):
    X, y, _ = sparse_rows(20_000)
    stored = blocks.save(tmp_path / "rows", X, y, block_entries=5000)
    search = HypergradientSearchCV(LogisticRegression(), structure=structure, cv=SPLITS, random_state=0, tol=1e-6)
    ours, theirs = clone(search).fit(stored), clone(search).fit(X, y)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-5)
    assert ours.predict_proba(stored) == pytest.approx(theirs.predict_proba(X), abs=5e-3)


def test_descriptors_are_those_of_rows_in_memory():
    X, y, weight = sparse_rows()
    for rows in (X, X.toarray()):
        stored = blocks.open([(rows, y, weight)], **SMALL)
        assert evidence(stored, y, weight) == pytest.approx(evidence(X, y, weight))
        for weights in (weight, None):
            assert second_moments(stored, weights) == pytest.approx(second_moments(X, weights))


def test_many_penalties_are_cross_fitted_from_disk():
    X, y, _ = sparse_rows()
    settings = {"structure": "per_feature", "cv": 3, "random_state": 0}
    ours = HypergradientSearchCV(LogisticRegression(), **settings).fit(blocks.open([(X, y)], **SMALL))
    theirs = HypergradientSearchCV(LogisticRegression(), **settings).fit(X, y)
    assert [stage.structure for stage in ours.stages_] == [stage.structure for stage in theirs.stages_]
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=2e-3)  # steps of half an epoch, in another order


def test_alpha_and_unpenalized_features_come_from_disk_too():
    X, y = dense_rows()
    settings = {"structure": "shared", "unpenalized": [0], "cv": SPLITS, "tol": 1e-6}
    ours = HypergradientSearchCV(SGDClassifier(loss="log_loss"), **settings).fit(blocks.open([(X, y)], **SMALL))
    theirs = HypergradientSearchCV(SGDClassifier(loss="log_loss"), **settings).fit(X, y)
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-5)


def test_predictions_are_made_block_by_block():
    X, y, weight = sparse_rows()
    stored = blocks.open([(X, y, weight)], **SMALL)
    search = HypergradientSearchCV(LogisticRegression(), structure="shared").fit(stored)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        assert np.array_equal(getattr(search, method)(stored), getattr(search.best_estimator_, method)(X))
        assert np.array_equal(getattr(search, method)(X), getattr(search.best_estimator_, method)(X))
    assert search.score(stored) == pytest.approx(-log_loss(y, search.predict_proba(X), sample_weight=weight))
    assert not hasattr(HypergradientSearchCV(LogisticRegression(), refit=False).fit(stored), "predict")


def test_integers_and_duplicates_are_read_as_they_are_in_memory(tmp_path):
    X = sp.csr_array((np.array([1, 2, 3, 4]), np.array([1, 1, 0, 2]), np.array([0, 2, 3, 4])), shape=(3, 3))
    stored = mapped(X, np.arange(3), tmp_path)
    assert np.array_equal(np.concatenate([part.toarray() for _, part in stored.parts()]), X.toarray())
    again = blocks.save(tmp_path / "again", stored)
    assert again.rows.n_entries == 3 and again.dtype == np.float64 and np.array_equal(again.y, np.arange(3))


def test_a_number_for_each_row_may_lie_on_disk(monkeypatch, tmp_path):
    X, y, _ = sparse_rows()
    stored, splits = folder(X, y, tmp_path), list(SPLITS.split(y))
    before = solved(problem_of(stored.rows, y, splits, n_classes=2), 0.5)
    monkeypatch.setattr(_disk_rows, "ROOM", 0)
    problem = problem_of(stored.rows, y, splits, n_classes=2, dtype=np.float32)
    assert isinstance(Dual().init(problem, np.zeros(60)).duals, np.memmap)
    widened = Dual().rescale(problem, Dual().init(problem, np.zeros(60)), np.full(60, -20.0))
    assert isinstance(widened.duals, np.memmap) and widened.dtype == np.float64
    assert solved(problem.astype(np.float64), 0.5).losses == pytest.approx(before.losses, rel=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]


# ---- the order of visits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 16])
def test_every_row_is_visited_once_and_blocks_are_made_anew(size):
    X, y, _ = sparse_rows(5000)
    rows = replace(blocks.open([(X, y)], **SMALL).rows, block_entries=4000)
    random, together = np.random.RandomState(0), []
    for _ in range(2):
        visits, seen = rows.visits(random, size), []
        for places, block, inside in rows.by_block(visits, size):
            assert block.n_entries <= 2 * 4000
            assert np.array_equal(np.sort(inside), np.arange(-(-block.n_rows // size)))
            assert np.array_equal(block.matrix.toarray(), X[places].toarray())
            seen.append(places)
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(5000))
        together.append(set(map(tuple, seen)))
    assert len(together[0]) > 3 and not together[0] & together[1]


def test_blocks_cost_no_epochs():
    """Blocks that always had the same rows would need hundreds."""
    X, y, _ = sparse_rows(3000)
    splits = list(SPLITS.split(y))
    in_blocks = problem_of(blocks.open([(X, y)], **SMALL).rows, y, splits, n_classes=2)
    at_once = problem_of(lay_out(X, splits), y, splits, n_classes=2)
    assert solved(in_blocks, 0.5).n_epochs <= solved(at_once, 0.5).n_epochs + 6


# ---- memory --------------------------------------------------------------------------------------------------------------


def test_a_mapped_x_is_never_copied_whole(monkeypatch, tmp_path):
    X, y = np.random.RandomState(0).randn(10_000, 60), np.arange(10_000) % 2
    X[:, 0] += y
    np.save(tmp_path / "X.npy", X)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    search = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=2)
    search.fit(blocks.open([(X[:100], y[:100])]))  # what is imported late
    monkeypatch.setattr(blocks, "MAPPED_FROM", 1 << 20)
    monkeypatch.setattr(blocks, "BLOCK", 60_000)
    tracemalloc.start()
    search.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * X.nbytes


@pytest.mark.parametrize("settings", [{"scoring": "accuracy"}, {"solver": "aid"}])
def test_a_mapped_x_is_copied_where_the_search_needs_all_of_it(settings, monkeypatch, tmp_path):
    X, y = dense_rows()
    np.save(tmp_path / "X.npy", X)
    monkeypatch.setattr(blocks, "MAPPED_FROM", 0)
    search = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=2, random_state=0, **settings)
    there = search.fit(np.load(tmp_path / "X.npy", mmap_mode="r"), y).best_score_
    assert there == search.fit(X, y).best_score_


def test_a_mapped_x_with_gaps_between_its_rows_is_taken(monkeypatch, tmp_path):
    X, y = dense_rows()
    np.save(tmp_path / "X.npy", X)
    monkeypatch.setattr(blocks, "MAPPED_FROM", 0)
    search = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=2)
    assert search.fit(np.load(tmp_path / "X.npy", mmap_mode="r")[:, ::2], y).n_features_in_ == 6


# ---- what is refused, and what is left --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, error, says",
    [
        ({"estimator": make_pipeline(StandardScaler(), LogisticRegression())}, TypeError, "estimator: a Pipeline"),
        ({"scoring": "accuracy"}, ValueError, "scoring='accuracy' needs the rows in memory"),
        ({"solver": "aid"}, ValueError, "solver='aid' needs the rows in memory"),
        ({"solver": "sgd"}, ValueError, "solver='sgd' needs the rows in memory"),
        ({"structure": lambda X, y, weight: X[0]}, ValueError, "the descriptor '<lambda>' needs the rows in memory"),
        ({"cv": ((k, np.append(k, 1)) for k in [np.arange(10)])}, ValueError, "cv: a row is drawn twice"),
    ],
)
def test_what_needs_all_rows_is_refused(settings, error, says):
    X, y, _ = sparse_rows(200)
    search = HypergradientSearchCV(LogisticRegression()).set_params(**settings)
    with pytest.raises(error, match=says):
        search.fit(blocks.open([(X, y)]))


def test_shuffled_index_arrays_are_splits():
    X, y, _ = sparse_rows(300)
    search = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=ShuffleSplit(2, random_state=0))
    assert search.fit(blocks.open([(X, y)])).n_splits_ == 2


def test_rows_without_labels_are_refused(tmp_path):
    stored = blocks.save(tmp_path / "rows", sparse_rows()[0])
    with pytest.raises(ValueError, match="y: these rows have no labels"):
        HypergradientSearchCV(LogisticRegression()).fit(stored)
    with pytest.raises(ValueError, match="y has the shape"):
        blocks.open(stored, [0, 1])


@pytest.mark.parametrize("name", ["values.bin", "columns.bin", "indptr.bin", "y.npy", "rows.json"])
def test_a_truncated_file_is_named(name, tmp_path):
    X, y, _ = sparse_rows()
    folder(X, y, tmp_path)
    file = tmp_path / "rows" / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"X: .*rows.* (damaged|truncated)"):
        blocks.open(tmp_path / "rows")


def test_a_file_that_is_truncated_while_it_is_read_is_named(tmp_path):
    X, y, _ = sparse_rows()
    stored = folder(X, y, tmp_path)
    (tmp_path / "rows" / "values.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"X: .*values.bin is truncated"):
        HypergradientSearchCV(LogisticRegression()).fit(stored)


def test_damage_is_found_before_work_begins(tmp_path):
    X, y, _ = sparse_rows()
    folder(X, y, tmp_path)
    columns = np.memmap(tmp_path / "rows" / "columns.bin", dtype=np.int32)
    columns[4 * 700 + 1] = 60
    columns.flush()
    with pytest.raises(ValueError, match=r"X: row 700 of .*rows is damaged: it has the column 60, of 60"):
        blocks.open(tmp_path / "rows")


def test_a_number_that_is_not_finite_is_named(tmp_path):
    X, y, _ = sparse_rows()
    X.data[4 * 899] = np.nan
    with pytest.raises(ValueError, match=r"X: row 899 of .*rows has nan"):
        folder(X, y, tmp_path)


@pytest.mark.parametrize(
    "given, says",
    [
        ([(np.eye(3), [0, 1, 0]), (np.eye(4), [0, 1, 0, 1])], "block 1 is of another kind than block 0: 4 columns"),
        ([(np.eye(3), [0, 1, 0]), (sp.eye_array(3), [0, 1, 0])], "block 1 is of another kind"),
        ([(np.eye(3), [0, 1])], "block 0 has 3 rows and labels of shape"),
        ([(np.array([["a"]]), [0])], "block 0 is of shape"),
        ([], "there is no row"),
    ],
)
def test_blocks_that_do_not_fit_are_named(given, says, tmp_path):
    with pytest.raises(ValueError, match=f"X: {says}"):
        blocks.save(tmp_path / "rows", given)
    assert not list(tmp_path.iterdir())


def test_what_is_no_block_is_named(tmp_path):
    with pytest.raises(TypeError, match="block 0 is no tuple"):
        blocks.open([np.eye(3)])
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"X: .*bad.npz cannot be read"):
        blocks.open([tmp_path / "bad.npz"])
    with pytest.raises(ValueError, match="is no folder of sksid.blocks.save"):
        blocks.open(tmp_path / "nothing")


def test_a_folder_is_not_overwritten(tmp_path):
    with pytest.raises(FileExistsError, match="folder: .* exists"):
        blocks.save(tmp_path, np.eye(3))


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """Files that may not grow stand for a disk that is full."""
    X, y, _ = sparse_rows(20_000)
    _, most = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))
    try:
        with pytest.raises(OSError) as caught:
            blocks.save(tmp_path / "rows", X, y)
        with pytest.raises(OSError) as later:
            _disk_rows.zeros_on_disk((1 << 20,), np.float64, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "nothing is left" in caught.value.__notes__[0] and "do not fit on the disk" in later.value.__notes__[0]
    assert not list(tmp_path.iterdir())
