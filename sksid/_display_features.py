"""What a fitted search has found for each feature, drawn: penalties, and coefficients before and after."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from sksid._drawing import axes_of, check_drawable, feature_names, final_step, keep_apart, label_decades, line_style
from sksid._tasks import one_line

MANY = 12  # from so many names on they are small


class PenaltyDisplay:
    """The penalties of a fitted search, by feature or by block: the smallest and the largest named, the rest a density.

    Parameters
    ----------
    penalties : ndarray of shape (n_penalties,)
        λ, without the same value repeated for a whole group.
    names : sequence of n_penalties str
        Of the features or groups.
    sizes : sequence of n_penalties int, default=None
        How many features share each; shown behind the name where they are several.
    shared : float, default=None
        The penalty that the search found for all features together.
    name : str, default=None
        Of the dots, in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The named penalties as dots, in ascending order from the bottom.
    bars_ : matplotlib PolyCollection or None
        The density of those that are not named, between the smallest and the largest.
    shared_line_ : matplotlib Line2D or None
        The one penalty of all features.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from sksid import HypergradientSearchCV, PenaltyDisplay
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> search = HypergradientSearchCV(LogisticRegression()).fit((X - X.mean()) / X.std(), y)
    >>> PenaltyDisplay.from_estimator(search)  # doctest: +SKIP
    """

    def __init__(
        self,
        penalties: ArrayLike,
        names: Sequence[str],
        *,
        sizes: ArrayLike | None = None,
        shared: float | None = None,
        name: str | None = None,
    ) -> None:
        self.penalties = penalties
        self.names = names
        self.sizes = sizes
        self.shared = shared
        self.name = name

    @classmethod
    def from_estimator(
        cls, search: BaseEstimator, *, n_named: int = 10, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> "PenaltyDisplay":
        """Draw the penalties of a fitted HypergradientSearchCV.

        Parameters
        ----------
        search : HypergradientSearchCV
            Fitted.
        n_named : int, default=10
            So many of the smallest and of the largest penalties are named.
        name : str, default=None
            Of the dots, in the legend.
        ax : matplotlib Axes, default=None
            A new figure's by default.
        **kwargs : dict
            For the dots.

        Returns
        -------
        PenaltyDisplay
        """
        check_drawable(cls.__name__, search, "penalties_")
        structure = search.structure_
        names = feature_names(search, search.penalties_.size)
        penalties, names, sizes = structure.distinct(search.penalties_, names)
        shared = None if structure.name == "shared" else _shared_penalty(search)
        return cls(penalties, names, sizes=sizes, shared=shared, name=name).plot(n_named=n_named, ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, n_named: int = 10, name: str | None = None, **kwargs: Any) -> "PenaltyDisplay":
        """Draw, on a logarithmic scale; penalties of zero, of unpenalized features, are left out.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure's by default.
        n_named : int, default=10
            So many of the smallest and of the largest penalties are named.
        name : str, default=None
            Of the dots, in the legend.
        **kwargs : dict
            For the dots.

        Returns
        -------
        PenaltyDisplay
        """
        self.ax_, self.figure_ = axes_of(f"{type(self).__name__}.plot", ax)
        penalties, names = np.asarray(self.penalties), np.array(self._labels(), dtype=object)
        order = np.argsort(penalties, kind="stable")
        order = order[penalties[order] > 0]
        rest, named = order[n_named : len(order) - n_named], np.delete(order, slice(n_named, len(order) - n_named))
        rows, labels = np.arange(len(named), dtype=np.float64), list(names[named])
        room = max(n_named, 4) if len(rest) else 0  # rows of the density
        rows[n_named:] += room
        style = line_style({"marker": "o", "linestyle": "none", "label": name or self.name}, kwargs)
        self.lines_ = self.ax_.plot(penalties[named], rows, **style)
        self.bars_ = None
        if self.shared is not None and not len(rest):
            color = self.lines_[0].get_color()
            self.ax_.hlines(rows, self.shared, penalties[named], color=color, alpha=0.4, linewidth=3, zorder=1)
        if len(rest):
            self.bars_ = self._density(penalties[rest], n_named - 0.25, room - 0.75)
            rows, labels = np.append(rows, n_named + (room - 1) / 2), [*labels, f"{len(rest):,} more"]
        self.ax_.set_yticks(rows, labels, fontsize="small" if len(rows) > MANY else None, parse_math=False)
        self.ax_.set_ylim(-0.75, rows.max() + 0.75)
        self.ax_.grid(axis="y", alpha=0.3)
        self._mark_shared()
        self.ax_.set(xlabel="penalty λ = 1/C", xscale="log")
        label_decades(self.ax_.xaxis)
        if name or self.name:
            self.ax_.legend()
        return self

    def _labels(self) -> list[str]:
        """Names, with how many features stand behind each."""
        sizes = np.ones(len(self.names), dtype=int) if self.sizes is None else np.asarray(self.sizes)
        names = map(one_line, self.names)
        return [f"{name} ({size:,})" if size > 1 else name for name, size in zip(names, sizes, strict=True)]

    def _density(self, penalties: NDArray[np.float64], bottom: float, height: float) -> Any:
        """How many there are at each penalty, as a silhouette on these rows."""
        logs = np.log(penalties)
        counts, edges = np.histogram(logs, bins=int(np.clip(2 * np.sqrt(logs.size), 5, 60)))
        tops = bottom + height * np.append(counts, counts[-1]) / counts.max()
        color = self.lines_[0].get_color()
        return self.ax_.fill_between(np.exp(edges), bottom, tops, step="post", color=color, alpha=0.3, linewidth=0)

    def _mark_shared(self) -> None:
        self.shared_line_ = None
        if self.shared is not None:
            style = {"color": "grey", "linestyle": "--", "linewidth": 1, "zorder": 0}
            self.shared_line_ = self.ax_.axvline(self.shared, **style)
            place = {"xy": (self.shared, 1.0), "xycoords": self.ax_.get_xaxis_transform(), "textcoords": "offset points"}
            self.ax_.annotate("one for all", xytext=(0, 3), **place, ha="center", fontsize="small", annotation_clip=False)


class CoefficientDisplay:
    """Coefficients before and after: under one penalty for all features, and under the penalties that were tuned.

    A dot for each feature, and for each class where there are more than two. On the diagonal nothing has changed.

    Parameters
    ----------
    before, after : ndarray of shape (n_coefficients,)
    names : sequence of n_coefficients str
    name : str, default=None
        Of the dots, in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The dots.
    text_ : list of matplotlib Text
        The names beside them.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sksid import CoefficientDisplay, HypergradientSearchCV
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> X = (X - X.mean()) / X.std()
    >>> before = HypergradientSearchCV(LogisticRegression(), structure="shared").fit(X, y)
    >>> after = HypergradientSearchCV(LogisticRegression(), structure="evidence").fit(X, y)
    >>> CoefficientDisplay.from_estimators(before, after)  # doctest: +SKIP
    """

    def __init__(self, before: ArrayLike, after: ArrayLike, names: Sequence[str], *, name: str | None = None) -> None:
        self.before = before
        self.after = after
        self.names = names
        self.name = name

    @classmethod
    def from_estimators(
        cls,
        before: BaseEstimator,
        after: BaseEstimator,
        *,
        n_named: int = 8,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> "CoefficientDisplay":
        """Draw the coefficients of two fitted estimators against each other.

        Parameters
        ----------
        before, after : estimator
            Fitted: searches, Pipelines or logistic regressions, with the same features and classes.
        n_named : int, default=8
            So many of the coefficients that have changed most are named, where there is room.
        name : str, default=None
            Of the dots, in the legend.
        ax : matplotlib Axes, default=None
            A new figure's by default.
        **kwargs : dict
            For the dots.

        Returns
        -------
        CoefficientDisplay
        """
        for estimator in (before, after):
            check_drawable(cls.__name__, estimator, "classes_")
        one, other = final_step(before).coef_, final_step(after).coef_
        if one.shape != other.shape:
            raise ValueError(
                f"The coefficients have shapes {one.shape} and {other.shape}. Give two estimators that were fitted to the same "
                "features and classes."
            )
        names = feature_names(after, one.shape[1])
        if len(one) > 1:
            names = [f"{feature}, {label}" for label in after.classes_ for feature in names]
        return cls(one.ravel(), other.ravel(), names, name=name).plot(ax=ax, n_named=n_named, **kwargs)

    def plot(self, ax: Any = None, *, n_named: int = 8, name: str | None = None, **kwargs: Any) -> "CoefficientDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure's by default.
        n_named : int, default=8
            So many of the coefficients that have changed most are named, where there is room.
        name : str, default=None
            Of the dots, in the legend.
        **kwargs : dict
            For the dots.

        Returns
        -------
        CoefficientDisplay
        """
        self.ax_, self.figure_ = axes_of(f"{type(self).__name__}.plot", ax)
        before, after = np.asarray(self.before), np.asarray(self.after)
        self.ax_.axline((0, 0), slope=1, color="grey", linestyle="--", linewidth=1, zorder=0)
        self.ax_.axhline(0, color="grey", linewidth=0.5, zorder=0)
        label = name or self.name
        style = {"marker": "o", "linestyle": "none", "markeredgewidth": 0, "markersize": 5, "alpha": 0.6, "label": label}
        self.lines_ = self.ax_.plot(before, after, **line_style(style, kwargs))
        self.ax_.set(xlabel="coefficient before", ylabel="coefficient after")
        changed = np.argsort(-np.abs(after - before), kind="stable")[:n_named]
        self.text_ = keep_apart(self.ax_, [self._named(before[j], after[j], self.names[j]) for j in changed])
        if label:
            self.ax_.legend()
        return self

    def _named(self, x: float, y: float, name: str) -> Any:
        """The name beside a dot, on the side that is away from the diagonal."""
        side = {"xytext": (-5, 0), "ha": "right"} if y > x else {"xytext": (5, 0), "ha": "left"}
        place = {"xy": (x, y), "textcoords": "offset points", "va": "center", "fontsize": "small"}
        return self.ax_.annotate(one_line(name), **place, **side, parse_math=False)


def _shared_penalty(search: BaseEstimator) -> float | None:
    """The λ of the best step with one penalty for all features; ``C`` and ``alpha`` say how far from the search's result."""
    results = search.cv_results_
    steps = np.flatnonzero(results["structure"] == "shared")
    if steps.size == 0 or search.multimetric_ or not hasattr(search, "best_params_"):
        return None
    ((key, tuned),) = search.best_params_.items()
    best = steps[np.argmax(results["mean_test_score"][steps])]
    ratio = np.asarray(results[f"param_{key}"], dtype=np.float64)[best] / tuned
    level = np.exp(np.log(search.penalties_[search.penalties_ > 0]).mean())
    return float(level / ratio if key.endswith("C") else level * ratio)
