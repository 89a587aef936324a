"""From X, y and cv to the data of a search: samples, splits, inner splits, and the features of each split."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import column_or_1d

from sksid._checks import check_size
from sksid._describe import FeatureRows, Training, as_descriptors
from sksid._estimators import Target, final_step
from sksid._features import Features, make_structure
from sksid._pipeline import View, is_stateless, make_split_views, make_view, resamples
from sksid._samples import Samples, make_samples
from sksid._sklearn import check_sample_weight
from sksid._splits import Splits
from sksid._stored import stored_view
from sksid._warn import warn
from sksid.blocks import Blocks
from sksid.joint import Joint
from sksid.problem import Problem, problem_of, search_dtype
from sksid.rows import Rows, lay_out
from sksid.structures import Structure

NONE = np.empty(0, dtype=np.intp)  # no rows
DESCRIPTORS = ["moments", "evidence"]  # on the way to one penalty for each feature
AUTO_MARGIN = 0.5  # standard errors by which a stage of "auto" must make the loss smaller,
SAFE_MARGIN, SAFE_ROWS = 2.0, 500  # and with fewer rows, whose standard errors are themselves uncertain
NO_INNER = (
    "cv makes no two splits that leave training rows of every class, and validation rows, in the training rows of another"
)
NO_RESAMPLED = "the estimator's samplers make training rows that cannot be split again"
WEIGHTLESS = (
    "sample_weight: the rows that the estimator's samplers make have no weights. Leave out sample_weight or the samplers."
)


@dataclass(frozen=True, eq=False)
class SplitView:
    """A split's own features: its preprocessing, fitted on its training rows.

    Attributes
    ----------
    view : View
        Of the training rows.
    val : ndarray or CSR
        Its validation rows.
    columns : ndarray of int, or None
        Which of all features its columns are; None where they are the first ones, in order.
    """

    view: View
    val: Any
    columns: NDArray | None


@dataclass(frozen=True, eq=False)
class Wanted:
    """The user's parameters about features: ``structure`` and ``unpenalized``."""

    structure: Any
    unpenalized: Any

    def structure_of(self, features: Features) -> Structure:
        return make_structure(self.structure, features).without(self.unpenalized_of(features))

    def unpenalized_of(self, features: Features) -> NDArray:
        return features.mask([] if self.unpenalized is None else self.unpenalized, "unpenalized")

    def blocks(self, view: View) -> Any:
        """The transformer of each feature, if the parameters may name transformers; else None."""
        by_name = isinstance(self.structure, Mapping) or isinstance(self.structure, str) and self.structure == "blocks"
        return view.blocks if by_name or self.unpenalized is not None else None

    @property
    def is_nameless(self) -> bool:
        """Whether one penalty, or descriptors of each split's own features, are asked for: then no feature needs a name."""
        one = isinstance(self.structure, str) and self.structure == "shared"
        return self.unpenalized is None and (one or as_descriptors(self.structure) is not None)

    @property
    def is_auto(self) -> bool:
        """Whether the search chooses the structure."""
        return isinstance(self.structure, str) and self.structure == "auto"

    @property
    def nameless(self) -> "Wanted":
        """What is left of it where no feature has a name: descriptors, where the search chooses."""
        return replace(self, structure=DESCRIPTORS) if self.is_auto else self


@dataclass(frozen=True, eq=False)
class Data:
    """The data of a search, checked.

    Attributes
    ----------
    view : View
        All rows, as they reach the final step of the refit.
    samples : Samples
    split_views : list of SplitView, or None
        None where all splits share the features of ``view``.
    features : Features
        Of the refit, followed by those of some split only.
    wanted : Wanted
        What the structure was made of.
    structure : Structure
    unpenalized : ndarray of bool, (n_features,)
    target : Target
        Where the penalty enters.
    seed : int
        Of the order of visits.
    cross_fits : bool
        Whether the structure's own stage is cross-fitted.
    margin : float
        By how many of its standard errors a stage must gain to be kept.
    """

    view: View
    samples: Samples
    split_views: list[SplitView] | None
    features: Features
    wanted: Wanted
    structure: Structure
    unpenalized: NDArray
    target: Target
    seed: int
    cross_fits: bool
    margin: float

    @property
    def n_own(self) -> int:
        """How many features the refit has."""
        return self.view.X.shape[1]

    @cached_property
    def rows(self) -> Any:
        """All samples with the features of the refit, laid out once; the splits are trained on them where they share these."""
        splits = self.samples.splits if self.split_views is None else [(np.arange(self.samples.n_final), NONE)]
        return self.view.X.rows if isinstance(self.view.X, Blocks) else lay_out(self.view.X, splits, self.seed)

    @property
    def dtype(self) -> Any:
        """The precision of the search."""
        return search_dtype(self.rows, len(self.samples.splits))

    def problem(self) -> Problem | Joint:
        """The splits: in one part where they share their features, else in one part a split."""
        splits, scale = self.samples.judged, self.samples.train_scale(self.target)
        if self.split_views is None:
            return self.problem_of(self.rows, splits, train_scale=scale, dtype=self.dtype)
        return self._join([self._own_problem(k, scale[:, k : k + 1]) for k in range(len(splits))])

    def final_problem(self) -> Problem:
        """All rows as training rows of one fit, in float64."""
        own = self.samples.final_labels, self.samples.sample_weight
        everything = np.arange(self.samples.n_final)
        return self.problem_of(self.rows, [(everything, NONE)], own, train_scale=self.samples.final_scale(self.target))

    def stages(self, warm: bool = False) -> tuple[tuple[Structure, ...], tuple[Structure, ...]]:
        """The structures to descend on, from the shared penalty to the one that was asked for; those two where ``warm``.

        First those that are descended on with all splits, then those that are cross-fitted.
        """
        if not self.cross_fits:
            stages = self.structure.stages(None if warm or self.structure.n_params == 1 else self.features.second_moments)
            return stages, ()
        if self.structure.name != "per_feature":
            *plain, last = self.structure.stages(self.features.second_moments)
            return tuple(plain), (last,)
        first, last = self.structure.stages()
        middle = replace(self.wanted, structure=DESCRIPTORS).structure_of(replace(self.features, splits=self.training))
        return (first,), (middle, last) if middle.n_params > 1 else (last,)

    def inner_splits(self, m: int) -> list[tuple[NDArray, NDArray]]:
        """``Samples.inner_splits``, in the numbers of the split's own rows where it has its own features."""
        inner = self.samples.inner_splits(m)
        if self.split_views is None:
            return inner
        train = self.samples.splits[m][0]
        place = np.empty(self.samples.n_samples, dtype=np.intp)
        place[train] = np.arange(train.size)
        return [(place[train], place[val]) for train, val in inner]

    @cached_property
    def training(self) -> list[Training]:
        """The training rows of each split: of all rows, or in the split's own features."""
        return _training(self.features.rows[0], self.samples, self.split_views)

    def described(self, training: list[Training]) -> Structure:
        """The structure of the same descriptors on other training rows."""
        asked = DESCRIPTORS if self.structure.name == "per_feature" else self.wanted.structure
        return replace(self.wanted, structure=asked).structure_of(replace(self.features, splits=training))

    def start(self, log_penalty: float) -> NDArray:
        """Log penalties at a common level, −∞ where there is none."""
        if np.ndim(log_penalty) == 0 and not self.unpenalized.any():
            return np.broadcast_to(np.float64(log_penalty), self.unpenalized.shape)
        return np.where(self.unpenalized, -np.inf, log_penalty)

    def problem_of(self, rows: Any, splits: Splits, own: tuple | None = None, **settings: Any) -> Problem:
        """Roles over laid-out rows, whose labels and weights are ``own``; ``settings`` as for ``sksid.problem.problem_of``."""
        labels, weight = own or (self.samples.labels, self.samples.sample_weight)
        return problem_of(
            rows,
            labels,
            splits,
            n_classes=self.samples.classes.size,
            sample_weight=weight,
            fit_intercept=self.target.fit_intercept,
            **settings,
        )

    def _own_problem(self, k, train_scale):
        """A split in its own features."""
        rows, own, split = self.own_rows[k]
        return self.problem_of(rows, [split], own, train_scale=train_scale, dtype=self.dtype)

    @cached_property
    def own_rows(self) -> list[tuple[Rows, tuple, tuple[NDArray, NDArray]]]:
        """Of each split, its rows in its own features, their labels and weights, and which are for training and validation."""
        return [self._lay_out_own(k, own) for k, own in enumerate(self.split_views or [])]

    def _lay_out_own(self, k, own):
        samples, val, n_train = self.samples, self.samples.splits[k][1], own.view.X.shape[0]
        labels, weights = samples.train_rows(k)
        labels = np.concatenate([labels, samples.labels[val]])
        if samples.sample_weight is not None:
            weights = np.concatenate([weights, samples.sample_weight[val]])
        judged = n_train + np.flatnonzero(np.isin(val, samples.judged[k][1]))
        splits = [(np.arange(n_train), np.arange(n_train, labels.size)), *(self.inner_splits(k) if self.cross_fits else [])]
        rows = lay_out(_stack([own.view.X, own.val]), splits, self.seed)
        return rows, (labels, weights), (np.arange(n_train), judged)

    def _join(self, parts):
        return Joint(tuple(parts), tuple(own.columns for own in self.split_views), self.features.n_features)


def prepare(
    estimator: Any,
    X: Any,
    y: Any,
    target: Target,
    routed: Bunch,
    *,
    structure: Any = "auto",
    unpenalized: Any = None,
    cv: Any = None,
    early_stopping: bool | str = "auto",
    n_jobs: int | None = None,
    random_state: Any = None,
) -> Data:
    """Check everything, draw splits and fit the preprocessing, before the search begins.

    Parameters
    ----------
    estimator : estimator
        Unfitted: what ``target`` was read from.
    X, y : array-like
        As they were given to ``fit``.
    target : Target
    routed : Bunch
        The metadata for estimator and splitter.
    structure, unpenalized, cv, early_stopping, n_jobs, random_state
        As HypergradientSearchCV has them.

    Raises
    ------
    TypeError, ValueError
        Where data, splits and parameters do not fit.
    """
    view = (stored_view if isinstance(X, Blocks) else make_view)(estimator, X, y, routed.estimator.fit)
    sample_weight, wanted = _weights(view, resamples(estimator)), Wanted(structure, unpenalized)
    whole = FeatureRows(view.X, None, sample_weight, view.y)
    features, split_views = Features([whole], view.X.shape[1], view.names, wanted.blocks(view)), None
    given = column_or_1d(y) if resamples(estimator) else view.y
    samples = make_samples(X, y, given, final_step(estimator)[1], sample_weight, cv, target, routed.splitter.split)
    margin = 0.0 if not wanted.is_auto else AUTO_MARGIN if samples.n_samples >= SAFE_ROWS else SAFE_MARGIN
    wanted, cross_fits = _cross_fits(samples, wanted, wanted.structure_of(features), early_stopping, resamples(estimator))
    if not isinstance(X, Blocks) and not is_stateless(estimator):
        made = make_split_views(estimator, X, y, routed.estimator.fit, samples.splits, n_jobs)
        wanted, split_views, features = _place_features(wanted, view, features, made)
        if resamples(estimator):
            samples = samples.with_resampled([*(own.view.y for own in split_views), view.y], target.fit_intercept)
    found = wanted.structure_of(replace(features, splits=_training(whole, samples, split_views)))
    if found.n_splits not in (None, len(samples.splits)):
        raise ValueError(f"structure has matrices for {found.n_splits} splits, but cv makes {len(samples.splits)}.")
    return Data(
        view=view,
        samples=samples,
        split_views=split_views,
        features=features,
        wanted=wanted,
        structure=found,
        unpenalized=wanted.unpenalized_of(features),
        target=target,
        seed=check_random_state(random_state).randint(np.iinfo(np.int32).max),
        cross_fits=cross_fits and found.n_params > 1,
        margin=margin,
    )


def _cross_fits(samples, wanted, structure, early_stopping, resampled):
    """Whether the structure is cross-fitted; one shared penalty instead where it should be and the rows do not allow it."""
    if wanted.is_auto and (structure.n_params == 1 or not samples.bears_many):
        return replace(wanted, structure="shared"), False
    if early_stopping is False or structure.n_params == 1 or (early_stopping == "auto" and structure.is_few):
        return wanted, False
    if not resampled and any(samples.inner_splits(m) for m in range(len(samples.splits))):
        return wanted, True
    why = NO_RESAMPLED if resampled else NO_INNER
    if early_stopping != "auto":
        raise ValueError(f"early_stopping=True: {why}. Use KFold or the like, or early_stopping=False.")
    if not wanted.is_auto:
        warn(
            f"early_stopping='auto': {why}. Many penalties cannot be chosen without such splits, so that one shared penalty is "
            "tuned instead. Set structure='shared' to silence this, or early_stopping=False to tune many all the same."
        )
    return replace(wanted, structure="shared"), False


def _weights(view, resampled=False):
    unknown = set(view.params) - {"sample_weight"}
    if unknown:
        raise TypeError(f"fit got parameters that the search cannot pass on: {sorted(unknown)}. Give sample_weight only.")
    sample_weight = view.params.get("sample_weight")
    if sample_weight is None:
        return None
    if resampled:
        raise ValueError(WEIGHTLESS)
    weights = check_sample_weight(sample_weight, view.X, dtype=np.float64, ensure_non_negative=True)
    check_size(weights, "sample_weight", "Divide the weights by their mean.")
    return weights


# ---- features: of the refit, and of each split -------------------------------------------------------------------------


def _place_features(wanted, whole, own, made):
    """What can be asked of the features, the SplitView of each split, and the Features of all splits together.

    A feature is the same in two splits if it has the same name (or number, where a transformer that always makes the same
    columns has no names for them); where names are unknown, if it has the same position.
    """
    views = [view for view, _ in made]
    names = [own.names, *(view.names for view in views)]
    if any(these is None for these in names) and len({whole.X.shape[1], *(view.X.shape[1] for view in views)}) > 1:
        names = [whole.keys, *(view.keys for view in views)]
    if any(these is None for these in names):
        wanted, columns, features = _by_position(wanted, own, views)
    else:
        columns, features = _by_name(own, views, names)
    return wanted, [SplitView(view, *others, places) for (view, others), places in zip(made, columns, strict=True)], features


def _training(whole, samples, split_views):
    """The training rows of each split: of all rows, or in the split's own features."""
    if split_views is None:
        return [(whole, train) for train, _ in samples.splits]
    return [(FeatureRows(own.view.X, own.columns, _weights(own.view), own.view.y), None) for own in split_views]


def _by_position(wanted, own, views):
    sizes = [own.n_features, *(view.X.shape[1] for view in views)]
    varies = len(set(sizes)) > 1
    wanted = wanted.nameless if varies else wanted
    if varies and not wanted.is_nameless:
        raise ValueError(
            f"The preprocessing makes {min(sizes)} to {max(sizes)} features, according to the rows it is fitted on, and no "
            "names for them: a penalty of one feature means nothing in another split. Use transformers with "
            "get_feature_names_out, or structure='shared', or descriptors such as 'evidence'."
        )
    return wanted, [None] * len(views), replace(own, n_features=max(sizes), n_own=own.n_features)


def _by_name(own, views, names):
    place = {name: column for column, name in enumerate(names[0])}
    columns = [np.array([place.setdefault(name, len(place)) for name in these], dtype=np.intp) for these in names[1:]]
    columns = [None if np.array_equal(these, np.arange(these.size)) else these for these in columns]
    n_features, blocks = len(place), own.blocks
    if blocks is not None and n_features > own.n_features:
        known = dict(
            pair for view, these in zip(views, names[1:], strict=True) for pair in zip(these, view.blocks, strict=True)
        )
        blocks = [*blocks, *(known[name] for name in list(place)[own.n_features :])]
    rows = [*own.rows, *(FeatureRows(view.X, these, _weights(view)) for view, these in zip(views, columns, strict=True))]
    all_names = np.array(list(place), dtype=object)
    return columns, Features(rows, n_features, all_names, blocks, n_own=own.n_features)


def _stack(parts):
    parts = [part for part in parts if part.shape[0]]
    if any(map(sp.issparse, parts)):
        return sp.vstack([sp.csr_array(part) for part in parts], format="csr")
    return np.concatenate(parts)
