"""Rows on disk and on a cluster in a search: which X are such, what is refused, and predictions block by block."""

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
from sksid._pipeline import View
from sksid._sklearn import BaseSearchCV
from sksid._spread import SpreadRows, predicted
from sksid.blocks import Blocks
from sksid.solvers import Aid, Dual

LOG_LOSS = (None, "neg_log_loss")
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
    check_settings(search, ON_CLUSTER if spread else ON_DISK)
    X = blocks.open(X, block_entries=blocks.BLOCK)
    params = {name: computed(value) for name, value in params.items()}
    y = computed(y)
    if X.sample_weight is not None:
        params = {"sample_weight": X.sample_weight} | params
    y = X.y if y is None else y
    if y is None:
        raise ValueError("y: these rows have no labels. Give y, or labels with the blocks.")
    return X, y, params


def check_settings(search: Any, solver: tuple[str, type]) -> None:
    """Refuse what needs all rows at once; ``solver`` is the one, its name and its class, that does not."""
    name, kind = solver
    if isinstance(search.estimator, Pipeline):
        raise TypeError(
            "estimator: a Pipeline cannot preprocess rows on disk. Transform the blocks, write them with sksid.blocks.save, "
            "and give its last step alone."
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


def stored_view(final: Any, X: Blocks, y: Any, params: dict) -> View:
    """The rows as they reach the final step, checked; there is no preprocessing."""
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    check_consistent_length(X, y)
    checker = clone(final)
    checker.n_features_in_ = X.shape[1]
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
