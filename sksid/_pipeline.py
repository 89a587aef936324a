"""A Pipeline taken apart: what its preprocessing makes of some rows; and put together again around a fitted final step.

The preprocessing is fitted by scikit-learn's own ``Pipeline.fit``, in which a stand-in takes the final step's place and keeps
what reaches it. So nested Pipelines, ``memory``, skipped steps and metadata routing are what they are in GridSearchCV.
"""

from copy import copy
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import _safe_indexing, get_tags

from sksid._estimators import final_step
from sksid._sklearn import check_method_params, validate_data


class Catcher(BaseEstimator):
    """Stands where the final step will; it keeps what it is fitted on, asks for the final step's metadata, changes nothing.

    Parameters
    ----------
    final : estimator
        The final step, unfitted.
    """

    def __init__(self, final=None):
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
        A final step that has seen the features, and holds others to them.
    X : ndarray or CSR
        Those rows as they reach the final step, checked.
    y : ndarray
        Their labels, checked.
    params : dict
        The metadata that reach the final step's fit.
    """

    pipeline: object
    checker: object
    X: object
    y: np.ndarray
    params: dict

    def transform(self, X):
        """Other rows in the same features, checked."""
        if self.pipeline is not None:
            X = self.pipeline.transform(X)
        return _check(self.checker, X, reset=False)

    @property
    def seen_names(self):
        """The column names that the final step has seen, as ``feature_names_in_``, or None."""
        return getattr(self.checker, "feature_names_in_", None)

    @property
    def names(self):
        """Of the features, (n_features,); None where there are none, or not one for each feature."""
        names = self.seen_names
        if names is None and self.pipeline is not None:
            try:
                names = self.pipeline.get_feature_names_out()
            except (AttributeError, ValueError, NotFittedError):
                return None
        if names is None or len(names) != self.X.shape[1] or len(set(names)) < len(names):
            return None
        return np.asarray(names, dtype=object)

    @property
    def blocks(self):
        """The transformer that each feature came from, (n_features,); None where that cannot be told.

        A name that begins with ``transformer__`` tells; where the last step is a ColumnTransformer, its columns do.
        """
        steps = preprocessing_steps(self.pipeline)
        if steps and isinstance(steps[-1], ColumnTransformer):
            labels = np.empty(self.X.shape[1], dtype=object)
            for name, place in steps[-1].output_indices_.items():
                labels[place] = name
            return labels.tolist()
        names = self.names
        if names is None or not all("__" in name for name in names):
            return None
        return [name.split("__", 1)[0] for name in names]

    def with_model(self, model):
        """The Pipeline with a fitted final step, or that alone without a Pipeline."""
        return with_final(self.pipeline, model)


def make_view(estimator, X, y, params, rows=None):
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
    pipeline = None
    if isinstance(estimator, Pipeline):
        n_rows, catcher = len(y) if y is not None else None, Catcher(final)
        pipeline = with_final(clone(estimator), catcher).fit(X, y, **params)
        X, y, params = catcher.release()
        if y is not None and len(y) != n_rows:
            raise ValueError("estimator: a step changes the number of rows, which the search cannot follow. Do that before it.")
    checker = clone(final)
    X, y = _check(checker, X, y=y)
    return View(pipeline, checker, X, y, params)


def _check(checker, X, **arguments):
    return validate_data(
        checker, X, accept_sparse="csr", accept_large_sparse=True, dtype=[np.float64, np.float32], order="C", **arguments
    )


def make_split_view(estimator, X, y, params, train, others):
    """Fit the preprocessing on the rows ``train``; with the View comes what it makes of each of ``others``, index arrays."""
    view = make_view(estimator, X, y, params, train)
    return view, [view.transform(_safe_indexing(X, rows)) if rows.size else view.X[:0] for rows in others]


def with_final(pipeline, model):
    """A Pipeline of the same steps, but for the last, at whatever depth; ``model`` itself without a Pipeline."""
    if not isinstance(pipeline, Pipeline):
        return model
    name, last = pipeline.steps[-1]
    made = copy(pipeline)
    made.steps = [*pipeline.steps[:-1], (name, with_final(last, model))]
    return made


def preprocessing_steps(estimator):
    """All steps before the final one, nested Pipelines opened, without those that are skipped."""
    if not isinstance(estimator, Pipeline):
        return []
    before = [step for _, step in estimator.steps[:-1]]
    opened = [inner for step in before for inner in (_all_steps(step) if isinstance(step, Pipeline) else [step])]
    own = [step for step in opened if step is not None and not isinstance(step, str)]
    return own + preprocessing_steps(estimator.steps[-1][1])


def _all_steps(pipeline):
    return [*preprocessing_steps(pipeline), final_step(pipeline)[1]]


def is_stateless(estimator):
    """Whether the preprocessing makes the same of a row whatever it is fitted on: then all splits share their features."""
    return all(map(_needs_no_fit, preprocessing_steps(estimator)))


def _needs_no_fit(step):
    if step is None or isinstance(step, str):
        return True
    if isinstance(step, Pipeline):
        return all(map(_needs_no_fit, _all_steps(step)))
    if isinstance(step, FeatureUnion):
        return all(_needs_no_fit(transformer) for _, transformer in step.transformer_list)
    if isinstance(step, ColumnTransformer):
        chosen_by_data = any(callable(columns) for _, _, columns in step.transformers)
        transformers = [transformer for _, transformer, _ in step.transformers] + [step.remainder]
        return not chosen_by_data and all(map(_needs_no_fit, transformers))
    return not get_tags(step).requires_fit
