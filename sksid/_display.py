"""What a fitted search has done, drawn; scikit-learn's conventions for displays. matplotlib is imported when it is needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sksid._sklearn import check_matplotlib_support
from sksid._tasks import one_line

SMALL = {"fontsize": "small", "parse_math": False}  # of names, in which a dollar sign is a dollar sign
MANY = 1000  # from so many penalties on they are drawn as a histogram


class HypergradientSearchDisplay:
    """The criterion over the outer steps: of each split, their mean, and the chosen step.

    Where the criterion is the log loss, also what each stage has gained.

    Parameters
    ----------
    split_scores : ndarray of shape (n_steps, n_splits)
        As ``cv_results_`` has them.
    best_index : int, default=None
        The chosen step.
    stages : sequence of n_steps str, default=None
        The name of the structure that was tuned at each step.
    score_name : str, default="score"
        A score whose name begins with ``neg_`` is shown as the loss that it is.
    gains : dict of str, default=None
        What stands behind a stage's name: the change of the log loss, and its standard error.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One for each split, then their mean.
    best_line_ : matplotlib Line2D or None
        The mark at the chosen step.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from sksid import HypergradientSearchCV, HypergradientSearchDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> search = HypergradientSearchCV(LogisticRegression()).fit(scale(X), y)
    >>> HypergradientSearchDisplay.from_estimator(search)  # doctest: +SKIP
    """

    def __init__(
        self,
        split_scores: ArrayLike,
        *,
        best_index: int | None = None,
        stages: Sequence[str] | None = None,
        score_name: str = "score",
        gains: Mapping[str, str] | None = None,
    ) -> None:
        self.split_scores = split_scores
        self.best_index = best_index
        self.stages = stages
        self.score_name = score_name
        self.gains = gains

    @classmethod
    def from_estimator(
        cls, search: BaseEstimator, *, metric: str | None = None, ax: Any = None, line_kw: dict | None = None
    ) -> "HypergradientSearchDisplay":
        """Draw a fitted HypergradientSearchCV.

        Parameters
        ----------
        search : HypergradientSearchCV
            Fitted.
        metric : str, default=None
            The score's name, where there are several; the one that ``refit`` names by default.
        ax : matplotlib Axes, default=None
            A new figure's by default.
        line_kw : dict, default=None
            For the line of the mean.

        Returns
        -------
        HypergradientSearchDisplay
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(search, "cv_results_")
        if metric is None and search.multimetric_:
            metric = search.refit if isinstance(search.refit, str) else next(iter(search.scorer_))
        results = search.cv_results_
        scores = [results[f"split{k}_test_{metric or 'score'}"] for k in range(search.n_splits_)]
        name = metric or ("neg_log_loss" if search.scoring is None else search.scoring)
        stages = search.stages_[1:] if name == "neg_log_loss" else ()  # their gains are in the log loss
        display = cls(
            np.column_stack(scores),
            best_index=getattr(search, "best_index_", None),  # several scores without a refit have none
            stages=results["structure"],
            gains={stage.structure: f"  {-stage.gain:+.2g} ± {stage.standard_error:.1g}" for stage in stages},
            score_name=name if isinstance(name, str) else "score",
        )
        return display.plot(ax=ax, line_kw=line_kw)

    def plot(self, ax: Any = None, *, line_kw: dict | None = None) -> "HypergradientSearchDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure's by default.
        line_kw : dict, default=None
            For the line of the mean.

        Returns
        -------
        HypergradientSearchDisplay
        """
        self.ax_, self.figure_ = _axes(f"{type(self).__name__}.plot", ax)
        sign = -1.0 if self.score_name.startswith("neg_") else 1.0
        splits = sign * np.asarray(self.split_scores)
        steps, line_kw = np.arange(len(splits)), {"linewidth": 2, **(line_kw or {})}
        self.lines_ = self.ax_.plot(steps, splits, color="tab:blue", alpha=0.3, linewidth=1)
        criterion = splits.mean(axis=1)
        self.lines_ += self.ax_.plot(steps, criterion, **{"color": "tab:blue", "label": "mean of the splits", **line_kw})
        self.best_line_ = None
        if self.best_index is not None:
            at = [self.best_index], [criterion[self.best_index]]
            self.best_line_ = self.ax_.plot(*at, "o", color="black", fillstyle="none", markersize=10, label="chosen step")[0]
        self._name_stages()
        self.ax_.set_xlabel("outer step")
        self.ax_.set_ylabel(one_line(self.score_name).removeprefix("neg_").replace("_", " "), parse_math=False)
        self.ax_.legend()
        return self

    def _name_stages(self) -> None:
        """A line and a name where the search went on to another structure."""
        if self.stages is None:
            return
        names = np.asarray(self.stages)
        for step in np.flatnonzero(names[1:] != names[:-1]) + 1:
            self.ax_.axvline(step - 0.5, color="grey", linestyle=":", linewidth=1)
            top = self.ax_.get_xaxis_transform()
            name = one_line(names[step]) + (self.gains or {}).get(names[step], "")
            self.ax_.text(step - 0.4, 0.99, name, transform=top, va="top", rotation="vertical", **SMALL)


class PenaltyDisplay:
    """The penalties of a fitted search, by feature or by group; many of them as a histogram with the ends named.

    Parameters
    ----------
    penalties : ndarray of shape (n_penalties,)
        λ, without the same value repeated for a whole group.
    names : sequence of n_penalties str
        Of the features or groups.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The penalties as dots, in ascending order from the bottom; empty for a histogram.
    bars_ : matplotlib BarContainer or None
        The histogram.
    text_ : list of matplotlib Text
        The names beside a histogram: the smallest, the largest.

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

    def __init__(self, penalties: ArrayLike, names: Sequence[str]) -> None:
        self.penalties = penalties
        self.names = names

    @classmethod
    def from_estimator(
        cls, search: BaseEstimator, *, n_named: int = 10, ax: Any = None, line_kw: dict | None = None
    ) -> "PenaltyDisplay":
        """Draw the penalties of a fitted HypergradientSearchCV.

        Parameters
        ----------
        search : HypergradientSearchCV
            Fitted.
        n_named : int, default=10
            So many of the smallest and of the largest penalties are named.
        ax : matplotlib Axes, default=None
            A new figure's by default.
        line_kw : dict, default=None
            For the dots, or for the histogram's bars.

        Returns
        -------
        PenaltyDisplay
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(search, "penalties_")
        penalties = search.structure_.distinct(search.penalties_, _feature_names(search, search.penalties_.size))
        return cls(*penalties).plot(n_named=n_named, ax=ax, line_kw=line_kw)

    def plot(self, ax: Any = None, *, n_named: int = 10, line_kw: dict | None = None) -> "PenaltyDisplay":
        """Draw, on a logarithmic scale; penalties of zero, of unpenalized features, are left out.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure's by default.
        n_named : int, default=10
            So many of the smallest and of the largest penalties are named.
        line_kw : dict, default=None
            For the dots, or for the histogram's bars.

        Returns
        -------
        PenaltyDisplay
        """
        self.ax_, self.figure_ = _axes(f"{type(self).__name__}.plot", ax)
        penalties, names = np.asarray(self.penalties), np.asarray(self.names, dtype=object)
        order = np.argsort(penalties, kind="stable")
        order = order[penalties[order] > 0]
        self.lines_: list[Any] = []
        self.text_: list[Any] = []
        self.bars_ = None
        if len(order) < MANY:
            self._plot_dots(penalties[order], names[order], n_named, line_kw or {})
        else:
            self._plot_histogram(penalties[order], names[order], n_named, line_kw or {})
        self.ax_.set(xlabel="penalty λ = 1/C", xscale="log")
        return self

    def _plot_dots(self, penalties: NDArray[np.float64], names: NDArray[np.object_], n_named: int, line_kw: dict) -> None:
        rows, labels = np.arange(len(penalties)), list(map(one_line, names))
        if len(penalties) > 2 * n_named:
            keep = np.r_[:n_named, len(penalties) - n_named : len(penalties)]
            rows = np.r_[:n_named, n_named + 1 : 2 * n_named + 1]
            penalties, labels = penalties[keep], [labels[place] for place in keep]
            labels.insert(n_named, f"… {len(names) - 2 * n_named} more")
        self.lines_ = self.ax_.plot(penalties, rows, **{"marker": "o", "linestyle": "none", **line_kw})
        self.ax_.set_yticks(np.arange(len(labels)), labels, parse_math=False)
        self.ax_.grid(axis="y", alpha=0.3)

    def _plot_histogram(self, penalties: NDArray[np.float64], names: NDArray[np.object_], n_named: int, line_kw: dict) -> None:
        low, high = penalties[0], penalties[-1]
        edges = np.geomspace(low, high, 41) if high > low else [0.5 * low, 2.0 * low]
        _, _, self.bars_ = self.ax_.hist(penalties, bins=edges, **line_kw)
        beside = {"transform": self.ax_.transAxes, "va": "top", **SMALL}
        smallest, largest = ("\n".join(map(one_line, some)) for some in (names[:n_named], names[: -n_named - 1 : -1]))
        self.text_ = [self.ax_.text(0.01, 0.98, smallest, **beside), self.ax_.text(0.99, 0.98, largest, ha="right", **beside)]
        self.ax_.set_ylabel("number of features")


def _axes(caller: str, ax: Any) -> tuple[Any, Any]:
    check_matplotlib_support(caller)
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1]
    return ax, ax.figure


def _feature_names(search: BaseEstimator, n_features: int) -> list[str]:
    """Of the features that reach the final step; numbers where they have no names."""
    names = getattr(search, "feature_names_in_", None)
    model: Any = getattr(search, "best_estimator_", None)
    while hasattr(model, "steps"):
        try:
            names = model[:-1].get_feature_names_out(names)
        except (AttributeError, ValueError):
            names = None
        model = model[-1]
    return [f"x{j}" for j in range(n_features)] if names is None or len(names) != n_features else list(names)
