"""What is searched on: labels, splits and monitor; the features of each split, and where they stand among all."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit, check_cv
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.parallel import Parallel, delayed

from sksid import _estimators
from sksid._pipeline import View, is_stateless, make_split_view, make_view
from sksid._sklearn import check_sample_weight
from sksid.descent import FEW, ladder
from sksid.problem import Joint, groups_of_splits, in_groups, make_problem
from sksid.sid import as_indices, check_splits
from sksid.structures import Features, Structure, make_structure, scaled, without


@dataclass(frozen=True, eq=False)
class SplitView:
    """A split's own features: its preprocessing, fitted on its training rows.

    Attributes
    ----------
    view : View
        Of the training rows.
    val, monitor : ndarray or CSR
        Its validation rows and the monitor's rows.
    columns : ndarray of int, or None
        Where its features stand among all; None where they are the first.
    """

    view: View
    val: object
    monitor: object
    columns: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Data:
    """What is searched on, checked: labels count from 0, splits and monitor are index arrays.

    Attributes
    ----------
    view : View
        All rows, as they reach the final step of the refit.
    labels : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,)
    fit_intercept : bool
    sample_weight : ndarray of shape (n_samples,), or None
    splits : list of (train, validation)
    train_scale : ndarray of shape (n_classes, n_splits)
    monitor : ndarray of int
        Rows in no split; empty where there is no monitor.
    split_views : list of SplitView, or None
        None where all splits share the features of ``view``.
    features : Features
        Of the refit, followed by those of some split only.
    structure : Structure
    unpenalized : ndarray of bool, (n_features,)
    """

    view: View
    labels: np.ndarray
    classes: np.ndarray
    fit_intercept: bool
    sample_weight: np.ndarray | None
    splits: list
    train_scale: np.ndarray
    monitor: np.ndarray
    split_views: list | None
    features: Features
    structure: Structure
    unpenalized: np.ndarray

    @property
    def n_own(self):
        """How many features the refit has."""
        return self.view.X.shape[1]

    @property
    def n_train(self):
        """The mean number of training rows."""
        return float(np.mean([train.size for train, _ in self.splits]))

    @cached_property
    def search_dtype(self):
        """float32, which is twice as fast, where there is enough data for that to matter."""
        X = self.view.X
        entries = X.nnz if sp.issparse(X) else X.size
        return np.float32 if entries * len(self.splits) > 1e6 else np.float64

    def problems(self, **settings):
        """The splits laid out for the solvers, and the monitor's rows as validation rows of every split (None without one).

        In one part, or two halves of the splits, where they share their features; else in one part a split.
        """
        if self.split_views is None:
            return self._shared_problems(**settings)
        parts, monitored, inside = [], [], (np.empty(0, dtype=np.intp), np.arange(self.monitor.size))
        for k, ((train, val), own) in enumerate(zip(self.splits, self.split_views, strict=True)):
            split = np.arange(train.size), np.arange(train.size, train.size + val.size)
            X, scale = _stack(own.view.X, own.val), self.train_scale[:, k : k + 1]
            parts.append(self._lay_out(X, np.concatenate([train, val]), [split], scale, **settings))
            if self.monitor.size:
                monitored.append(self._lay_out(own.monitor, self.monitor, [inside]))
        return self._join(parts), self._join(monitored) if self.monitor.size else None

    def _shared_problems(self, **settings):
        X, inside = self.view.X, (np.empty(0, dtype=np.intp), np.arange(self.monitor.size))
        whole = self._lay_out(X, np.arange(self.labels.size), self.splits, self.train_scale, **settings)
        groups = groups_of_splits(whole)
        if not self.monitor.size:
            return in_groups(whole, groups), None
        monitored = self._lay_out(X[self.monitor], self.monitor, [inside] * len(self.splits))
        return in_groups(whole, groups), in_groups(monitored, groups)

    def refit_problem(self, target):
        """All rows as training rows of one fit, in float64."""
        everything = np.arange(self.labels.size)
        scale = target.class_weights(self.classes[self.labels], self.classes, self.sample_weight)[:, None]
        return self._lay_out(self.view.X, everything, [(everything, everything[:0])], scale, dtype=np.float64)

    def _lay_out(self, X, rows, splits, train_scale=None, **settings):
        """A Problem of ``X``, whose rows are these samples; the splits index the rows of X."""
        problem = make_problem(
            X,
            self.labels[rows],
            splits,
            n_classes=self.classes.size,
            sample_weight=None if self.sample_weight is None else self.sample_weight[rows],
            train_scale=train_scale,
            fit_intercept=self.fit_intercept,
            **settings,
        )
        return replace(problem, order=rows[problem.order])

    def _join(self, parts):
        return Joint(tuple(parts), tuple(own.columns for own in self.split_views), self.features.n_features)

    @property
    def rungs(self):
        """The structures to descend on, from the shared penalty to the one that was asked for."""
        between = []
        if self.structure.labels:
            between = [scaled(self.structure, self.features.second_moments)]
        elif self.structure.name == "per_feature" and self.monitor.size:
            between = [make_structure("moments", self.features)]
        return ladder(self.structure, [without(rung, self.unpenalized) for rung in between if rung is not None])

    def start(self, log_penalty):
        """Log penalties at a common level, −∞ where there is none."""
        return np.where(self.unpenalized, -np.inf, log_penalty)


def prepare(search, X, y, target, routed):
    """Check everything, draw splits and monitor, fit the preprocessing: all before the search begins.

    Parameters
    ----------
    search : HypergradientSearchCV
        Its parameters are read.
    X, y : array-like
        As they were given to ``fit``.
    target : Target
    routed : Bunch
        The metadata for estimator, splitter and scorer.
    """
    view = make_view(search.estimator, X, y, routed.estimator.fit)
    check_classification_targets(view.y)
    classes, labels = np.unique(view.y, return_inverse=True)
    _estimators.check_classes(_estimators.final_step(search.estimator)[1], classes)
    sample_weight = _weights(view)
    own = _features(search, view)
    structure = _structure(search, own)[0]
    cv = check_cv(search.cv, view.y, classifier=True)
    splits = as_indices(cv.split(X, y, **routed.splitter.split), labels.size)
    check_splits(splits, labels, classes, sample_weight)
    monitor = np.empty(0, dtype=np.intp)
    if structure.n_params > FEW if search.early_stopping == "auto" else search.early_stopping:
        monitor = _draw_monitor(search, labels, routed.splitter.split.get("groups"))
        splits = [tuple(rows[~np.isin(rows, monitor)] for rows in split) for split in splits]
        check_splits(splits, labels, classes, sample_weight)
    split_views, features = None, own
    if not is_stateless(search.estimator):
        split_views, features = _fit_splits(search, view, own, X, y, routed.estimator.fit, splits, monitor)
    structure, unpenalized = _structure(search, features)
    return Data(
        view=view,
        labels=labels,
        classes=classes,
        fit_intercept=target.fit_intercept,
        sample_weight=sample_weight,
        splits=splits,
        train_scale=_train_scale(target, view.y, classes, sample_weight, splits),
        monitor=monitor,
        split_views=split_views,
        features=features,
        structure=structure,
        unpenalized=unpenalized,
    )


def _weights(view):
    unknown = set(view.params) - {"sample_weight"}
    if unknown:
        raise TypeError(f"fit got parameters that the search cannot pass on: {sorted(unknown)}. Give sample_weight only.")
    sample_weight = view.params.get("sample_weight")
    if sample_weight is None:
        return None
    return check_sample_weight(sample_weight, view.X, dtype=np.float64, ensure_non_negative=True)


def _train_scale(target, y, classes, sample_weight, splits):
    weights = [
        target.class_weights(y[train], classes, None if sample_weight is None else sample_weight[train]) for train, _ in splits
    ]
    return np.ascontiguousarray(np.transpose(weights) * target.split_scales([train.size for train, _ in splits]))


def _draw_monitor(search, labels, groups):
    draw = StratifiedShuffleSplit if groups is None else GroupShuffleSplit
    splitter = draw(n_splits=1, test_size=search.validation_fraction, random_state=search.random_state)
    try:
        _, monitor = next(splitter.split(np.empty((labels.size, 0)), labels, groups))
    except ValueError as error:
        raise ValueError(
            f"early_stopping: no monitor of validation_fraction={search.validation_fraction} can be drawn: {error} Set "
            "another validation_fraction, or early_stopping=False, or structure='shared'."
        ) from error
    return np.sort(monitor)


# ---- features: of the refit, and of each split -------------------------------------------------------------------------


def _asks_for_blocks(search):
    by_name = isinstance(search.structure, Mapping) or (isinstance(search.structure, str) and search.structure == "blocks")
    return by_name or search.unpenalized is not None


def _features(search, view):
    blocks = view.blocks if _asks_for_blocks(search) else None
    return Features([(view.X, None)], view.X.shape[1], view.names, blocks)


def _structure(search, features):
    """What is tuned, and which features have no penalty."""
    structure = make_structure(search.structure, features)
    unpenalized = features.mask([] if search.unpenalized is None else search.unpenalized, "unpenalized")
    return without(structure, unpenalized), unpenalized


def _fit_splits(search, view, own, X, y, params, splits, monitor):
    """Fit every split's preprocessing, and find the place of its features among all.

    A feature is the same in two splits if it has the same name; where there are no names, if it has the same position.
    """
    made = Parallel(n_jobs=search.n_jobs)(
        delayed(make_split_view)(search.estimator, X, y, params, train, [val, monitor]) for train, val in splits
    )
    views = [view for view, _ in made]
    names = [own.names, *(view.names for view in views)]
    if any(these is None for these in names):
        columns, features = _by_position(search, own, views)
    else:
        columns, features = _by_name(search, own, views, names)
    split_views = [SplitView(own, *others, places) for (own, others), places in zip(made, columns, strict=True)]
    return split_views, features


def _by_position(search, own, views):
    sizes = [own.n_features, *(view.X.shape[1] for view in views)]
    shared = isinstance(search.structure, str) and search.structure == "shared" and search.unpenalized is None
    if len(set(sizes)) > 1 and not shared:
        raise ValueError(
            f"The preprocessing makes {min(sizes)} to {max(sizes)} features, according to the rows it is fitted on, and no "
            "names for them: a penalty of one feature means nothing in another split. Use transformers with "
            "get_feature_names_out, or structure='shared'."
        )
    return [None] * len(views), replace(own, n_features=max(sizes), n_own=own.n_features)


def _by_name(search, own, views, names):
    place = {name: column for column, name in enumerate(own.names)}
    columns = [np.array([place.setdefault(name, len(place)) for name in these], dtype=np.intp) for these in names[1:]]
    columns = [None if np.array_equal(these, np.arange(these.size)) else these for these in columns]
    n_features, blocks = len(place), own.blocks
    if blocks is not None and n_features > own.n_features:
        known = dict(
            pair for view, these in zip(views, names[1:], strict=True) for pair in zip(these, view.blocks, strict=True)
        )
        blocks = [*blocks, *(known[name] for name in list(place)[own.n_features :])]
    X = [*own.X, *((view.X, these) for view, these in zip(views, columns, strict=True))]
    all_names = np.array(list(place), dtype=object)
    return columns, Features(X, n_features, all_names, blocks, n_own=own.n_features)


def _stack(above, below):
    if sp.issparse(above) or sp.issparse(below):
        return sp.vstack([sp.csr_array(above), sp.csr_array(below)], format="csr")
    return np.concatenate([above, below])
