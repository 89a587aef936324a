"""Rows held out of every split: they choose the step, and where none can be drawn one penalty is tuned."""

import numpy as np
import pytest
from searches import search_for
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold

from sksid import HypergradientSearchCV


@pytest.fixture(scope="module")
def per_feature(cancer):
    return search_for("per_feature").fit(*cancer)


def test_held_out_rows_are_in_no_split(cancer):
    """The rows that are never scored can be spoilt, features and labels, without a trace in the shared penalty's steps."""
    X, y = cancer
    pairs, groups = list(StratifiedKFold(3).split(X, y)), np.arange(len(y))
    scored = set()

    def recorder(model, X, y):
        scored.update(map(bytes, X))
        return model.score(X, y)

    search_for("per_feature", cv=pairs, max_iter=3, scoring=recorder).fit(X, y, groups=groups)
    held_out = np.array([bytes(row) not in scored for row in X])
    assert held_out.mean() == pytest.approx(0.15, abs=0.01)
    first = search_for("per_feature", cv=pairs, max_iter=6).fit(X, y, groups=groups)
    spoilt_X, spoilt_y = X.copy(), y.copy()
    spoilt_X[held_out], spoilt_y[held_out] = 2.0 * X[held_out], 1 - y[held_out]
    second = search_for("per_feature", cv=pairs, max_iter=6).fit(spoilt_X, spoilt_y, groups=groups)
    shared = np.flatnonzero(first.cv_results_["structure"] == "shared")
    compared = np.setdiff1d(shared, [first.best_index_, second.best_index_])
    assert len(compared) >= 2
    for key in [f"split{k}_test_score" for k in range(3)]:
        np.testing.assert_array_equal(first.cv_results_[key][compared], second.cv_results_[key][compared])
    scores = [search.cv_results_["mean_held_out_score"][compared] for search in (first, second)]
    assert (scores[0] > scores[1]).all()


def test_held_out_rows_keep_groups_together(cancer):
    X, y = cancer
    groups, scored = np.arange(len(y)) // 10, set()

    def recorder(model, X, y):
        scored.update(map(bytes, X))
        return model.score(X, y)

    search_for("per_feature", cv=GroupKFold(3), max_iter=2, scoring=recorder).fit(X, y, groups=groups)
    held_out = np.array([bytes(row) not in scored for row in X])
    assert 0.1 < held_out.mean() < 0.2
    assert not set(groups[held_out]) & set(groups[~held_out])


def test_held_out_rows_choose_the_step(per_feature):
    results = per_feature.cv_results_
    assert per_feature.best_score_ == pytest.approx(results["mean_held_out_score"][per_feature.best_index_], rel=1e-12)
    shared = results["mean_held_out_score"][results["structure"] == "shared"]
    assert per_feature.best_score_ >= shared.max() * (1 + 1e-3)  # scores are negative


def test_without_held_out_rows_the_validation_loss_chooses(cancer):
    search = search_for("per_feature", early_stopping=False, max_iter=20).fit(*cancer)
    assert "mean_held_out_score" not in search.cv_results_
    assert search.best_score_ == search.cv_results_["mean_test_score"][search.best_index_]


# ---- few rows -----------------------------------------------------------------------------------------------------------


def test_where_no_rows_can_be_held_out_one_penalty_is_tuned():
    """40 classes of 5 rows: fewer held-out rows than classes."""
    random = np.random.RandomState(0)
    X, y = random.randn(200, 20), np.arange(200) % 40
    X += 3.0 * random.randn(40, 20)[y]
    with pytest.warns(UserWarning, match="early_stopping='auto': no rows can be held out") as caught:
        search = HypergradientSearchCV(LogisticRegression(), random_state=0).fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
    assert search.structure_.name == "shared"
    np.testing.assert_array_equal(search.penalties_, search_for("shared", cv=5).fit(X, y).penalties_)
    with pytest.raises(ValueError, match="early_stopping: no rows can be held out"):
        search_for("per_feature", early_stopping=True).fit(X, y)


def test_where_held_out_rows_leave_a_split_without_a_class_one_penalty_is_tuned():
    random = np.random.RandomState(0)
    X, y = random.randn(60, 8), np.array([0] * 54 + [1] * 6)
    pairs = [(np.r_[:30, 57], np.r_[30:57, 58:60])]  # row 57 is drawn
    with pytest.warns(UserWarning, match="no rows can be held out.*split 0 has no training row of class 1"):
        search = search_for("per_feature", cv=pairs, random_state=8).fit(X, y)
    assert search.structure_.name == "shared"
