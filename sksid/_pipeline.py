"""Preprocessing in a Pipeline: fitted on some rows, applied to others, and joined to a fitted final step again.

The preprocessing is fitted by scikit-learn's own ``Pipeline.fit``, with a stand-in for the final step that keeps what reaches
it. So nested Pipelines, ``memory``, skipped steps and metadata routing work as in GridSearchCV.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pickle import PicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.parallel import Parallel, delayed

from sksid._checks import check_size
from sksid._estimators import final_step
from sksid._sklearn import check_method_params, validate_data
from sksid._splits import Splits

# They see one row at a time. By their names, so that none of them is imported for a search without it.
ROW_BY_ROW = ("AdditiveChi2Sampler", "Binarizer", "FeatureHasher", "HashingVectorizer", "Normalizer")
SCALE = "Scale the features, with MaxAbsScaler or StandardScaler."
UNNAMED = (AttributeError, ValueError, NotFittedError)  # what get_feature_names_out raises where there are no names


class Catcher(BaseEstimator):
    """A stand-in for the final step: keeps what it is fitted on, requests the final step's metadata, changes nothing.

    Parameters
    ----------
    final : estimator
        The final step, unfitted.
    """

    def __init__(self, final: BaseEstimator | None = None):
        self.final = final

    def get_metadata_routing(self):
        """The final step's requests."""
        return self.final.get_metadata_routing()

    def fit(self, X, y=None, **params):
        self.caught_ = X, y, params
        return self

    def release(self):
        """What was caught, which is then forgotten."""
        caught, self.caught_ = self.caught_, None
        return caught

    def transform(self, X):
        return X

    def get_feature_names_out(self, input_features=None):
        return input_features


@dataclass(frozen=True, eq=False)
class View:
    """The features that reach the final step, where the preprocessing is fitted on some rows.

    Attributes
    ----------
    pipeline : Pipeline or None
        Fitted, but for its final step; None without a Pipeline.
    checker : estimator
        A clone of the final step that has recorded the features, and checks those of other rows.
    X : ndarray or CSR
        Those rows as they reach the final step, checked; with samplers, the rows that these make of them.
    y : ndarray
        Their labels, checked.
    params : dict
        The metadata that reach the final step's fit.
    first : array-like of one row
        The first of those rows as it was given.
    """

    pipeline: Pipeline | None
    checker: BaseEstimator
    X: Any
    y: NDArray
    params: dict
    first: Any = None

    def transform(self, X: Any) -> Any:
        """Other rows in the same features, checked."""
        if self.pipeline is not None:
            X = self.pipeline.transform(X)
        return _check(self.checker, X, reset=False)

    @property
    def seen_names(self) -> NDArray[np.object_] | None:
        """The column names that the final step has seen, as ``feature_names_in_``, or None."""
        return getattr(self.checker, "feature_names_in_", None)

    @property
    def names(self) -> NDArray[np.object_] | None:
        """The features' names, (n_features,); None unless each feature has a name of its own."""
        names = self.seen_names
        if names is None and self.pipeline is not None:
            try:
                names = self.pipeline.get_feature_names_out()
            except UNNAMED:
                return None
        if names is None or len(names) != self.X.shape[1] or len(set(names)) < len(names):
            return None
        return np.asarray(names, dtype=object)

    @property
    def keys(self) -> NDArray[np.object_] | None:
        """What identifies a feature, whatever rows the preprocessing is fitted on: (n_features,), or None if unknown.

        Its name; or the number of its column, if the transformer has no names but makes the same columns from any rows, as
        HashingVectorizer does.
        """
        if (names := self.names) is not None or not self._parts:
            return names
        keys: list[Any] = [_keys_of(*part) for part in self._parts]
        return None if None in keys else np.concatenate(keys, dtype=np.object_)

    @property
    def blocks(self) -> list[str] | None:
        """The transformer that each feature came from, (n_features,); None if unknown.

        Read from the parts of the last step that makes columns, if that is a ColumnTransformer or FeatureUnion; otherwise
        from names that begin with ``transformer__``.
        """
        if self._parts:
            return [name for name, _, width in self._parts for _ in range(width)]
        names = self.names
        if names is None or not all("__" in name for name in names):
            return None
        return [name.split("__", 1)[0] for name in names]

    @cached_property
    def _parts(self) -> list[tuple[str, Any, int]]:
        """Name, transformer and width of the parts whose columns, side by side, are the features; empty if unknown."""
        steps = [step for step in preprocessing_steps(self.pipeline) if not is_sampler(step)]
        while steps and isinstance(steps[-1], OneToOneFeatureMixin):
            steps.pop()
        parts = []
        if steps and _is(steps[-1], "ColumnTransformer"):
            parts = _parts_of_columns(steps[-1])
        elif steps and isinstance(steps[-1], FeatureUnion):
            row = self.first
            for step in steps[:-1]:
                row = step.transform(row)
            parts = _parts_of_union(steps[-1], row)
        return parts if sum(width for _, _, width in parts) == self.X.shape[1] else []

    def with_model(self, model: BaseEstimator) -> BaseEstimator:
        """The Pipeline with a fitted final step, or that alone without a Pipeline."""
        return with_final(self.pipeline, model)


def _is(step: Any, *names: str) -> bool:
    """Whether it is an instance of one of scikit-learn's classes of these names, or of a class derived from one."""
    return any(kind.__name__ in names and kind.__module__.startswith("sklearn.") for kind in type(step).__mro__)


def _parts_of_columns(transformer: Any) -> list[tuple[str, Any, int]]:
    fitted, places = transformer.named_transformers_, transformer.output_indices_
    return [(name, fitted[name], places[name].stop - places[name].start) for name in fitted if name in places]


def _parts_of_union(union: FeatureUnion, row: Any) -> list[tuple[str, Any, int]]:
    """Name, transformer and width of each part; the width is found by transforming one row."""
    parts = [(name, part) for name, part in union.transformer_list if not (isinstance(part, str) and part == "drop")]
    return [(name, part, (row if isinstance(part, str) else part.transform(row)).shape[1]) for name, part in parts]


def _keys_of(name: str, transformer: Any, width: int) -> list[str] | None:
    try:
        own = transformer.get_feature_names_out()
    except UNNAMED:
        own = range(width) if _makes_the_same_columns(transformer) else []
    return [f"{name}__{key}" for key in own] if len(own) == width else None


def _makes_the_same_columns(transformer: Any) -> bool:
    """Whether column j means the same whatever rows it is fitted on."""
    steps = _all_steps(transformer) if isinstance(transformer, Pipeline) else [transformer]
    return all(isinstance(step, (str, FunctionTransformer, OneToOneFeatureMixin)) or _is(step, *ROW_BY_ROW) for step in steps)


def make_view(estimator: BaseEstimator, X: Any, y: Any, params: dict, rows: NDArray[np.integer] | None = None) -> View:
    """Fit the preprocessing, on these rows only.

    Parameters
    ----------
    estimator : estimator
        A Pipeline or the final step alone; unfitted, and left alone.
    X, y : array-like
        As they were given to ``fit``.
    params : dict
        For the estimator's ``fit``; arrays of n_samples are indexed.
    rows : ndarray of int, default=None
        None for all.
    """
    if rows is not None:
        params = check_method_params(X, params=params, indices=rows)
        X, y = _safe_indexing(X, rows), _safe_indexing(y, rows)
    _, final = final_step(estimator)
    pipeline, first = None, None
    if isinstance(estimator, Pipeline):
        first = _safe_indexing(X, slice(0, 1))
        n_rows, catcher = len(y) if y is not None else None, Catcher(final)
        pipeline = with_final(clone(estimator), catcher).fit(X, y, **params)
        X, y, params = catcher.release()
        if y is not None and len(y) != n_rows and not resamples(estimator):
            raise ValueError("estimator: a step changes the number of rows, which the search cannot follow. Do that before it.")
    checker = clone(final)
    X, y = _check(checker, X, y=y)
    return View(pipeline, checker, X, y, params, first)


def _check(checker: BaseEstimator, X: Any, **arguments: Any) -> Any:
    checked = validate_data(
        checker, X, accept_sparse="csr", accept_large_sparse=True, dtype=[np.float64, np.float32], order="C", **arguments
    )
    check_size(checked[0] if "y" in arguments else checked, "X", SCALE)
    return checked


def make_split_view(
    estimator: BaseEstimator, X: Any, y: Any, params: dict, train: NDArray[np.integer], others: Sequence[NDArray[np.integer]]
) -> tuple[View, list]:
    """Fit the preprocessing on the rows ``train``: the View, and each of the row sets ``others`` (index arrays) transformed."""
    view = make_view(estimator, X, y, params, train)
    return view, [view.transform(_safe_indexing(X, rows)) if rows.size else view.X[:0] for rows in others]


def make_split_views(estimator: BaseEstimator, X: Any, y: Any, params: dict, splits: Splits, n_jobs: int | None) -> list:
    """``make_split_view`` of each split, with its validation rows, in processes."""
    jobs = (delayed(make_split_view)(estimator, X, y, params, train, [val]) for train, val in splits)
    try:
        return Parallel(n_jobs=n_jobs)(jobs)
    except PicklingError as error:
        error.add_note(
            "n_jobs: processes preprocess the splits, and large data are handed to them in files. Set n_jobs=None, or the "
            "environment variable JOBLIB_TEMP_FOLDER to a directory with room."
        )
        raise


def with_final(pipeline: Pipeline | None, model: BaseEstimator) -> BaseEstimator:
    """A Pipeline of the same steps, but for the last, at whatever depth; ``model`` itself without a Pipeline."""
    if not isinstance(pipeline, Pipeline):
        return model
    name, last = pipeline.steps[-1]
    made = copy(pipeline)
    made.steps = [*pipeline.steps[:-1], (name, with_final(last, model))]
    return made


def preprocessing_steps(estimator: BaseEstimator | None) -> list:
    """All steps before the final one, nested Pipelines opened, without those that are skipped."""
    if not isinstance(estimator, Pipeline):
        return []
    before = [step for _, step in estimator.steps[:-1]]
    opened = [inner for step in before for inner in (_all_steps(step) if isinstance(step, Pipeline) else [step])]
    own = [step for step in opened if step is not None and not isinstance(step, str)]
    return own + preprocessing_steps(estimator.steps[-1][1])


def _all_steps(pipeline: Pipeline) -> list:
    return [*preprocessing_steps(pipeline), final_step(pipeline)[1]]


def is_sampler(step: Any) -> bool:
    """Whether a step makes rows, or leaves some out, where the Pipeline is fitted: as those of imbalanced-learn do."""
    return hasattr(step, "fit_resample")


def resamples(estimator: BaseEstimator) -> bool:
    """Whether there is a sampler in the preprocessing."""
    return any(map(is_sampler, preprocessing_steps(estimator)))


def is_stateless(estimator: BaseEstimator) -> bool:
    """Whether the preprocessing of a row depends on no other row, so that all splits share their features.

    True only for transformers known to do so. A FunctionTransformer needs no fit either, but its function may look at all the
    rows that it is given, unless it is a NumPy ufunc.
    """
    return all(map(_sees_rows_one_by_one, preprocessing_steps(estimator)))


def to_be_fitted(estimator: BaseEstimator) -> list[str]:
    """The steps of the preprocessing, by their classes, that are neither stateless nor frozen."""
    return [
        type(step).__name__ for step in preprocessing_steps(estimator) if not _sees_rows_one_by_one(step, ("FrozenEstimator",))
    ]


def _sees_rows_one_by_one(step: Any, ready: tuple[str, ...] = ()) -> bool:
    if step is None or isinstance(step, str) or _is(step, *ready):
        return True
    if isinstance(step, Pipeline):
        return all(_sees_rows_one_by_one(inner, ready) for inner in _all_steps(step))
    if isinstance(step, FeatureUnion):
        return all(_sees_rows_one_by_one(transformer, ready) for _, transformer in step.transformer_list)
    if _is(step, "ColumnTransformer"):
        chosen_by_data = any(callable(columns) for _, _, columns in step.transformers)
        transformers = [transformer for _, transformer, _ in step.transformers] + [step.remainder]
        return not chosen_by_data and all(_sees_rows_one_by_one(transformer, ready) for transformer in transformers)
    if type(step) is FunctionTransformer:
        return step.func is None or (isinstance(step.func, np.ufunc) and not step.kw_args)
    known = type(step).__name__ in ROW_BY_ROW and type(step).__module__.startswith("sklearn.")
    return known and not get_tags(step).requires_fit
