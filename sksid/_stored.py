"""Rows on disk and on a cluster in a search: which X are such, what is refused, and predictions block by block."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length, indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import assert_all_finite, column_or_1d

from sksid import blocks
from sksid._cluster import computed, is_dask
from sksid._describe import NAMED, as_descriptors
from sksid._estimators import final_step
from sksid._pipeline import View, make_view, to_be_fitted
from sksid._sklearn import BaseSearchCV
from sksid._spread import SpreadRows, predicted, spread_rows
from sksid.blocks import Blocks
from sksid.solvers import Aid, Dual

LOG_LOSS = (None, "neg_log_loss")
FIRST = 100  # rows on which a Pipeline that needs no fit finds out what columns there are
ON_DISK, ON_CLUSTER = ("dual", Dual), ("aid", Aid)  # the solver that does not need all rows at once


def as_given(X: Any, y: Any, params: dict, search: Any) -> tuple[Any, Any, dict]:
    """What ``fit`` goes on with: Blocks in the place of rows on disk, with their own labels and weights; else as they are.

    Raises
    ------
    TypeError, ValueError
        Where the search has parameters that rows on disk do not allow.
    """
    if not isinstance(X, Blocks) and not is_dask(X) and not (blocks.is_mapped(X) and _allows(search)):
        return *indexable(X, y), params
    spread = is_dask(X) or isinstance(X, Blocks) and isinstance(X.rows, SpreadRows)
    check_settings(search, ON_CLUSTER if spread else ON_DISK, is_dask(X))
    params, y = {name: computed(value) for name, value in params.items()}, computed(y)
    if isinstance(search.estimator, Pipeline):
        X = preprocessed(search.estimator, X, y)
    X = blocks.open(X, block_entries=blocks.BLOCK)
    if X.sample_weight is not None:
        params = {"sample_weight": X.sample_weight} | params
    y = X.y if y is None else y
    if y is None:
        raise ValueError("y: these rows have no labels. Give y, or labels with the blocks.")
    return X, y, params


def check_settings(search: Any, solver: tuple[str, type], by_chunk: bool = False) -> None:
    """Refuse what needs all rows at once.

    Parameters
    ----------
    search : HypergradientSearchCV
    solver : (str, type)
        The one, its name and its class, that does not.
    by_chunk : bool, default=False
        Whether each chunk of rows can be transformed by itself.
    """
    name, kind = solver
    if isinstance(search.estimator, Pipeline):
        if not by_chunk:
            raise TypeError(
                "estimator: a Pipeline cannot preprocess rows on disk. Transform the blocks, write them with "
                "sksid.blocks.save, and give its last step alone."
            )
        if steps := to_be_fitted(search.estimator):
            raise TypeError(
                f"estimator: {', '.join(steps)} would be fitted on the rows of all workers. Fit it before, perhaps on some "
                "rows, and give sklearn.frozen.FrozenEstimator(it) in its place. Steps that need no fit are taken as they are."
            )
    if search.scoring not in LOG_LOSS:
        raise ValueError(f"scoring={search.scoring!r} needs the rows in memory. Leave it out: rows on disk have the log loss.")
    if not (search.solver in ("auto", name) if isinstance(search.solver, str) else isinstance(search.solver, kind)):
        raise ValueError(f"solver={search.solver!r} needs the rows in memory. Use 'auto', {name!r} or {kind.__name__}().")
    for one in as_descriptors(search.structure) or ():
        if one.function not in NAMED.values():
            raise ValueError(f"structure: the descriptor {one.name!r} needs the rows in memory. Use 'moments' or 'evidence'.")


def _allows(search):
    """Whether a mapped X can be read block by block; where the search's parameters need all of it, it is copied."""
    try:
        check_settings(search, ON_DISK)
    except (TypeError, ValueError):
        return False
    return True


@dataclass(frozen=True, eq=False)
class Preprocessed(Blocks):
    """Rows on a cluster of what a Pipeline's preprocessing has made of each chunk.

    Attributes
    ----------
    view : View
        Of the first rows, with the preprocessing in it, which needed no fit.
    """

    view: Any = None


def preprocessed(estimator: Pipeline, X: Any, y: Any) -> Preprocessed:
    """The chunks of a Dask array or frame, each transformed by itself on its worker."""
    first = X.head(FIRST, npartitions=-1) if hasattr(X, "head") else X[:FIRST].compute()
    labels = np.arange(len(first)) % 2 if y is None else y[: len(first)]
    view = make_view(estimator, first, labels, {})
    return Preprocessed(spread_rows(X, view.pipeline), view=view)


def stored_view(estimator: Any, X: Blocks, y: Any, params: dict) -> View:
    """The rows as they reach the final step, checked."""
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    check_consistent_length(X, y)
    if isinstance(X, Preprocessed):
        params = {name.rpartition("__")[2]: value for name, value in params.items()}
        return replace(X.view, X=X, y=y, params=params)
    checker = clone(final_step(estimator)[1])
    checker.n_features_in_ = X.shape[1]
    if X.names is not None:
        checker.feature_names_in_ = X.names
    return View(None, checker, X, y, params)


def _has(method):
    def check(search):
        try:
            return bool(getattr(super(BlockwisePredictions, search), method))
        except AttributeError as error:
            raise error.__cause__ or error from None  # which says why, such as refit=False

    return available_if(check)


class BlockwisePredictions(BaseSearchCV):
    """A search whose predictions take ``Blocks``, one after the other, and whatever else its estimator takes."""

    @_has("predict")
    def predict(self, X: Any) -> NDArray:
        """The class of each row, (n_rows,); X as for ``fit``."""
        return _each(self, super().predict, X)

    @_has("predict_proba")
    def predict_proba(self, X: Any) -> NDArray:
        """The probability of each class, (n_rows, n_classes); X as for ``fit``."""
        return _each(self, super().predict_proba, X)

    @_has("predict_log_proba")
    def predict_log_proba(self, X: Any) -> NDArray:
        """Its logarithm, (n_rows, n_classes); X as for ``fit``."""
        return _each(self, super().predict_log_proba, X)

    @_has("decision_function")
    def decision_function(self, X: Any) -> NDArray:
        """The outputs, (n_rows,) or (n_rows, n_classes); X as for ``fit``."""
        return _each(self, super().decision_function, X)

    def score(self, X: Any, y: Any = None, **params: Any) -> Any:
        """What ``scoring`` makes of X and y; of ``Blocks``, minus the log loss, with the labels and weights that they have."""
        if not isinstance(X, Blocks):
            return super().score(X, y, **params)
        if self.scoring not in LOG_LOSS:
            raise ValueError(f"scoring={self.scoring!r} needs the rows in memory. Rows on disk have the log loss.")
        weight, y = params.get("sample_weight", X.sample_weight), X.y if y is None else y
        return -log_loss(y, self.predict_proba(X), sample_weight=weight, labels=self.classes_)


def _each(search, method, X):
    """What the method makes of X; of rows on disk block by block, of a Dask array on the workers, which get the model alone."""
    if is_dask(X):
        return predicted(getattr(search.best_estimator_, method.__name__), X)
    return np.concatenate([method(part) for _, part in X.parts()]) if isinstance(X, Blocks) else method(X)
