"""Preprocessing: what all splits may share, which transformer a feature came from, and what it is called."""

import numpy as np
import pytest
from searches import search_for
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import Binarizer, FunctionTransformer, MaxAbsScaler, Normalizer, StandardScaler

from sksid._pipeline import is_stateless, make_view


def hashing(**settings):
    return HashingVectorizer(n_features=64, **settings)


def center(X):
    """Looks at all the rows that it is given."""
    return X - X.mean(axis=0)


# ---- what all splits may share ------------------------------------------------------------------------------------------


class Shifted(Normalizer):
    """Says that it needs no fit, as its parent does."""

    def transform(self, X, copy=None):
        return center(super().transform(X, copy))


@pytest.mark.parametrize(
    ("preprocessing", "stateless"),
    [
        ([], True),
        ([Normalizer(), "passthrough"], True),
        ([make_pipeline(hashing(), Normalizer())], True),
        ([make_union(Normalizer(), Binarizer(), FunctionTransformer())], True),
        ([FunctionTransformer(np.log1p)], True),
        ([ColumnTransformer([("a", Normalizer(), [0]), ("b", "drop", [1])])], True),
        ([FunctionTransformer(center)], False),
        ([FunctionTransformer(np.add, kw_args={"x2": 1.0})], False),
        ([make_union(Normalizer(), FunctionTransformer(center))], False),
        ([Shifted()], False),
        ([ColumnTransformer([("a", Normalizer(), make_column_selector("x"))])], False),
        ([ColumnTransformer([("a", StandardScaler(), [0])])], False),
        ([make_pipeline(hashing(), TfidfTransformer())], False),
        ([TfidfVectorizer()], False),
    ],
    ids=range(14),
)
def test_shared_is_only_what_is_known_to_see_rows_one_by_one(preprocessing, stateless):
    assert is_stateless(make_pipeline(*preprocessing, LogisticRegression())) is stateless


def test_an_estimator_alone_is_shared():
    assert is_stateless(LogisticRegression())


def test_a_function_that_looks_at_all_rows_sees_no_validation_rows(cancer):
    """As in GridSearchCV: the rows of one split's training part together, those of its validation part together."""
    X, y = cancer[0][::4] + 3.0, cancer[1][::4]
    order = np.argsort(X[:, 9])
    cv = [(order[:100], order[100:]), (order[40:], order[:40])]  # so that the means differ
    pipeline = make_pipeline(FunctionTransformer(center), LogisticRegression(solver="newton-cholesky", tol=1e-9))
    search = search_for(estimator=pipeline, cv=cv).fit(X, y)
    grid = GridSearchCV(pipeline, {name: [C] for name, C in search.best_params_.items()}, cv=cv, scoring="neg_log_loss")
    assert search.best_score_ == pytest.approx(grid.fit(X, y).best_score_, rel=1e-3)


# ---- the transformer that a feature came from ---------------------------------------------------------------------------


def blocks_of(preprocessing, X, y=None):
    """How many features came from each, in order; None where it cannot be told."""
    view = make_view(make_pipeline(*preprocessing, LogisticRegression()), X, y, {})
    assert view.blocks is None or len(view.blocks) == view.X.shape[1]
    return view.blocks and {name: view.blocks.count(name) for name in dict.fromkeys(view.blocks)}


class TwoColumns(TransformerMixin, BaseEstimator):
    """Has no names."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.ones((len(X), 2))


TEXT = ("hashed", hashing())
UNION = FeatureUnion([TEXT, ("two", TwoColumns())])
EXPECTED = {"hashed": 64, "two": 2}


@pytest.mark.parametrize(
    "preprocessing",
    [
        [UNION],
        [FeatureUnion(UNION.transformer_list, verbose_feature_names_out=False)],
        [UNION, MaxAbsScaler(), "passthrough", TfidfTransformer(norm=None)],
        [make_pipeline(FunctionTransformer(), UNION), Normalizer()],
        [make_pipeline("passthrough", make_pipeline(UNION, Normalizer()))],
        [FeatureUnion([("none", "drop"), ("hashed", make_pipeline(hashing(), TfidfTransformer())), UNION.transformer_list[1]])],
    ],
    ids=range(6),
)
def test_every_part_of_a_union_is_told_by_its_width(preprocessing, documents):
    X, y = documents
    assert blocks_of(preprocessing, X, y) == EXPECTED


def test_parts_of_numbers_are_told_by_their_widths(cancer):
    X, y = cancer
    union = FeatureUnion([("all", "passthrough"), ("pca", PCA(3)), ("two", TwoColumns())])
    assert blocks_of([StandardScaler(), union, StandardScaler()], X, y) == {"all": 30, "pca": 3, "two": 2}
    columns = ColumnTransformer([("left", TwoColumns(), [0, 1, 2]), ("none", "drop", [3])], remainder="passthrough")
    assert blocks_of([columns, MaxAbsScaler()], X, y) == {"left": 2, "remainder": 26}


def test_a_step_that_mixes_columns_leaves_no_blocks(cancer, documents):
    assert blocks_of([UNION, PCA(2)], *documents) is None
    assert blocks_of([PCA(2)], *cancer) is None
    assert blocks_of([], *cancer) is None


def test_names_tell_where_columns_are_selected(documents):
    union = FeatureUnion([("words", TfidfVectorizer()), ("letters", CountVectorizer(analyzer="char"))])
    assert blocks_of([union, SelectKBest(chi2, k=30)], *documents).keys() <= {"words", "letters"}


# ---- blocks in the search -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose_feature_names_out", [True, False])
def test_every_part_of_a_union_has_a_penalty_of_its_own(verbose_feature_names_out, documents):
    parts = [("words", TfidfVectorizer()), ("letters", CountVectorizer(analyzer="char"))]
    union = FeatureUnion(parts, verbose_feature_names_out=verbose_feature_names_out)
    search = search_for("blocks", estimator=make_pipeline(union, Normalizer(), LogisticRegression())).fit(*documents)
    assert list(search.block_params_) == ["words", "letters"]


@pytest.mark.parametrize("words", [TfidfVectorizer(), make_pipeline(hashing(), TfidfTransformer())])
def test_a_hashing_vectorizer_may_be_a_block(words, documents):
    """Beside a vocabulary, that of each split is another one; the hashed columns have no names, but the same place in each."""
    union = FeatureUnion([("hashed", hashing(analyzer="char")), ("words", words)])
    search = search_for("blocks", estimator=make_pipeline(union, LogisticRegression())).fit(*documents)
    assert list(search.block_params_) == ["hashed", "words"]
    np.testing.assert_allclose(1 / search.penalties_[:64], search.block_params_["hashed"], rtol=1e-9)
    pipeline = search.estimator.set_params(**{"logisticregression__C": 2.0, "logisticregression__tol": 1e-9})
    at_two = search_for("shared", estimator=pipeline, max_iter=1).fit(*documents)
    grid = GridSearchCV(pipeline, {"logisticregression__C": [2.0]}, cv=3, scoring="neg_log_loss").fit(*documents)
    assert at_two.best_score_ == pytest.approx(grid.best_score_, rel=1e-3)


def test_a_transformer_whose_columns_have_no_names_and_vary_is_refused(documents):
    class Nameless(CountVectorizer):
        @property
        def get_feature_names_out(self):
            raise AttributeError("no names")

    union = FeatureUnion([("hashed", hashing()), ("words", Nameless())])
    with pytest.raises(ValueError, match="and no names for them"):
        search_for("blocks", estimator=make_pipeline(union, LogisticRegression())).fit(*documents)
