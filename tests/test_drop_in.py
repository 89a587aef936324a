"""Scripts as people write them for GridSearchCV, run a second time with nothing but the constructor changed.

After the ideas of scikit-learn's public examples: a search with a report on held-out rows, nested cross-validation, several
scores, a rule of one's own for the refit, a table of results for comparison, text in a Pipeline.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import accuracy_score, classification_report, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, RepeatedStratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksid import HypergradientSearchCV


def grid(estimator, param_grid, **settings):
    return GridSearchCV(estimator, param_grid, **settings)


def gradient(estimator, param_grid, **settings):
    return HypergradientSearchCV(estimator, structure="shared", random_state=0, **settings)


both = pytest.mark.parametrize("make", [grid, gradient])
LOG_GRID = {"C": np.logspace(-3, 3, 7)}


@both
def test_search_and_report_on_rows_that_were_held_out(make, digits):
    X, y = digits
    X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=500, random_state=0, stratify=y)

    search = make(LogisticRegression(max_iter=2000), LOG_GRID, scoring="neg_log_loss", cv=3)
    search.fit(X_train, y_train)

    lines = [f"best {search.best_params_}, {search.best_score_:.3f}"]
    for mean, std, params in zip(
        search.cv_results_["mean_test_score"], search.cv_results_["std_test_score"], search.cv_results_["params"], strict=True
    ):
        lines.append(f"{mean:.3f} (±{2 * std:.3f}) for {params}")
    lines.append(classification_report(y_test, search.predict(X_test)))
    report = "\n".join(lines)

    assert str(search.best_params_) in report
    assert search.best_score_ > -0.28
    assert accuracy_score(y_test, search.predict(X_test)) > 0.94


@both
def test_nested_cross_validation(make):
    X, y = load_iris(return_X_y=True)
    inner, outer = (KFold(n_splits=3, shuffle=True, random_state=k) for k in range(2))

    search = make(LogisticRegression(max_iter=1000), LOG_GRID, cv=outer, scoring="neg_log_loss")
    flat = search.fit(X, y).best_score_
    search = make(LogisticRegression(max_iter=1000), LOG_GRID, cv=inner, scoring="neg_log_loss")
    nested = cross_val_score(search, X, y, cv=outer, scoring="neg_log_loss").mean()

    assert -0.25 < nested <= flat + 0.02


@both
def test_several_scores_at_once(make, cancer):
    X, y = cancer
    scoring = {"AUC": "roc_auc", "Accuracy": make_scorer(accuracy_score)}
    search = make(SGDClassifier(loss="log_loss", random_state=0), {"alpha": [1e-4, 1e-3, 1e-2]}, scoring=scoring, refit="AUC")
    search.fit(X, y)

    results = search.cv_results_
    axis = np.array(results["param_alpha"].data, dtype=float)
    for scorer in sorted(scoring):
        best = np.nonzero(results[f"rank_test_{scorer}"] == 1)[0][0]
        assert results[f"mean_test_{scorer}"][best] == results[f"mean_test_{scorer}"].max()
        assert axis[best] > 0
    assert search.best_score_ > 0.98
    assert search.score(X, y) > 0.98


@both
def test_a_rule_of_ones_own_for_the_refit(make, cancer):
    def strongest_within_one_deviation(cv_results):
        best = cv_results["mean_test_score"].argmax()
        threshold = cv_results["mean_test_score"][best] - cv_results["std_test_score"][best]
        table = pd.DataFrame(cv_results)
        return int(table.loc[table["mean_test_score"] >= threshold, "param_C"].astype(float).idxmin())

    X, y = cancer
    search = make(LogisticRegression(max_iter=1000), LOG_GRID, scoring="neg_log_loss", refit=strongest_within_one_deviation)
    search.fit(X, y)

    chosen = search.cv_results_["mean_test_score"][search.best_index_]
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert search.best_estimator_.C == search.best_params_["C"] <= 1.0
    assert chosen > -0.2


@both
def test_a_table_to_compare_by(make, cancer):
    X, y = cancer
    cv = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)
    search = make(LogisticRegression(max_iter=2000), LOG_GRID, scoring="roc_auc", cv=cv)
    search.fit(X, y)

    table = pd.DataFrame(search.cv_results_).sort_values(by=["rank_test_score"])
    table = table.set_index(table["params"].apply(lambda params: "_".join(str(value) for value in params.values())))
    scores = table.filter(regex=r"split\d*_test_score")

    assert scores.shape == (len(search.cv_results_["params"]), 10)
    assert scores.iloc[0].mean() == pytest.approx(search.best_score_)
    assert table["param_C"].iloc[0] == search.best_params_["C"]


TOPICS = {"ship": "the harbour lets ships and boats sail the sea", "bread": "the baker sells bread and flour from the oven"}


@both
def test_text_in_a_pipeline(make):
    random = np.random.RandomState(0)
    words = [text.split() for text in TOPICS.values()]
    topic = random.randint(0, 2, 120)
    texts = [" ".join(random.choice(words[label] if random.rand() < 0.6 else sum(words, []), 6)) for label in topic]
    labels = np.array(list(TOPICS))[topic]

    pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression())
    search = make(pipeline, {"logisticregression__C": np.logspace(-2, 3, 6)}, scoring="neg_log_loss", cv=3)
    search.fit(texts, labels)

    assert set(search.best_params_) == {"logisticregression__C"}
    assert search.predict(["ships on the sea"])[0] == "ship"
    assert set(search.best_estimator_.named_steps) == {"tfidfvectorizer", "logisticregression"}


@both
def test_a_scaler_in_a_pipeline(make, cancer):
    X, y = cancer
    X = X * np.logspace(-2, 2, 30)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = make(pipeline, {"logisticregression__C": LOG_GRID["C"]}, cv=5)
    search.fit(X, y)

    assert search.score(X, y) > (0.97 if make is grid else -0.08)
    assert search.best_estimator_[-1].C == search.best_params_["logisticregression__C"]
