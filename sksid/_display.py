"""The course of a fitted search, drawn; scikit-learn's conventions for displays. matplotlib is imported when it is needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from sksid._drawing import axes_of, check_drawable, line_style, stagger
from sksid._tasks import one_line

# of a stage's name, in which a dollar sign is a dollar sign
STYLE: dict[str, Any] = {"va": "bottom", "fontsize": "small", "annotation_clip": False, "parse_math": False}


class HypergradientSearchDisplay:
    """The criterion over the outer steps: of each split, their mean, the chosen step, and where each stage begins.

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
        What stands below a stage's name: the change of the log loss, and its standard error.
    name : str, default=None
        Of the line of the mean, in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One for each split, then their mean; each is interrupted where a stage begins.
    best_line_ : matplotlib Line2D or None
        The mark at the chosen step.
    text_ : list of matplotlib Text
        The stages' names.

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
        name: str | None = None,
    ) -> None:
        self.split_scores = split_scores
        self.best_index = best_index
        self.stages = stages
        self.score_name = score_name
        self.gains = gains
        self.name = name

    @classmethod
    def from_estimator(
        cls, search: BaseEstimator, *, metric: str | None = None, name: str | None = None, ax: Any = None, **kwargs: Any
    ) -> "HypergradientSearchDisplay":
        """Draw a fitted HypergradientSearchCV.

        Parameters
        ----------
        search : HypergradientSearchCV
            Fitted.
        metric : str, default=None
            The score's name, where there are several; the one that ``refit`` names by default.
        name : str, default=None
            Of the line of the mean, in the legend; "mean of 5 splits" or so by default.
        ax : matplotlib Axes, default=None
            A new figure's by default.
        **kwargs : dict
            For the line of the mean; the splits' lines have its color.

        Returns
        -------
        HypergradientSearchDisplay
        """
        check_drawable(cls.__name__, search, "cv_results_")
        if metric is None and search.multimetric_:
            metric = search.refit if isinstance(search.refit, str) else next(iter(search.scorer_))
        results = search.cv_results_
        scores = [results[f"split{k}_test_{metric or 'score'}"] for k in range(search.n_splits_)]
        score = metric or ("neg_log_loss" if search.scoring is None else search.scoring)
        stages = search.stages_[1:] if score == "neg_log_loss" else ()  # their gains are in the log loss
        display = cls(
            np.column_stack(scores),
            best_index=getattr(search, "best_index_", None),  # several scores without a refit have none
            stages=results["structure"],
            gains={stage.structure: f"{-stage.gain:+.2g} ± {stage.standard_error:.1g}" for stage in stages},
            score_name=score if isinstance(score, str) else "score",
            name=name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> "HypergradientSearchDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure's by default.
        name : str, default=None
            Of the line of the mean, in the legend.
        **kwargs : dict
            For the line of the mean; the splits' lines have its color.

        Returns
        -------
        HypergradientSearchDisplay
        """
        self.ax_, self.figure_ = axes_of(f"{type(self).__name__}.plot", ax)
        sign = -1.0 if self.score_name.startswith("neg_") else 1.0
        splits = sign * np.asarray(self.split_scores, dtype=np.float64)
        criterion, begins = splits.mean(axis=1), self._begins()
        steps = np.insert(np.arange(len(splits), dtype=np.float64), begins, np.nan)
        label = name or self.name or f"mean of {splits.shape[1]} splits"
        style = line_style({"linewidth": 2, "marker": ".", "label": label}, kwargs)
        mean = self.ax_.plot(steps, np.insert(criterion, begins, np.nan), **style)
        faint = {"color": mean[0].get_color(), "alpha": 0.3, "linewidth": 1, "marker": ".", "markersize": 3, "zorder": 1}
        self.lines_ = self.ax_.plot(steps, np.insert(splits, begins, np.nan, axis=0), **faint) + mean
        self.best_line_ = None
        if self.best_index is not None:
            self.best_line_ = self._mark(self.best_index, criterion[self.best_index])
        self.ax_.set_xlabel("outer step")
        self.ax_.set_ylabel(one_line(self.score_name).removeprefix("neg_").replace("_", " "), parse_math=False)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self._name_stages(begins)
        self.ax_.legend()
        return self

    def _begins(self) -> NDArray[np.integer]:
        """The steps at which the search went on to another structure."""
        names = np.asarray([] if self.stages is None else self.stages)
        return np.flatnonzero(names[1:] != names[:-1]) + 1

    def _mark(self, step: int, value: float) -> Any:
        """The chosen step: a large dot, and its value in the legend."""
        style = {"marker": "o", "markersize": 10, "markeredgewidth": 1.5, "linestyle": "none", "zorder": 3}
        label = f"chosen step: {value:.4g}"
        return self.ax_.plot([step], [value], color="C1", markeredgecolor="white", label=label, **style)[0]

    def _name_stages(self, begins: NDArray[np.integer]) -> None:
        """Above the axes, each name where its stage begins, with a line down from there."""
        self.text_: list[Any] = []
        if self.stages is None or len(begins) == 0:
            return
        top = self.ax_.get_xaxis_transform()
        for step in (0, *begins):
            label = "\n".join(filter(None, (one_line(self.stages[step]), (self.gains or {}).get(self.stages[step]))))
            place = {"xy": (step - 0.5, 1.0), "xycoords": top, "xytext": (2, 3), "textcoords": "offset points"}
            self.text_.append(self.ax_.annotate(label, **place, **STYLE))
            self.ax_.axvline(step - 0.5, color="grey", linestyle=":", linewidth=1, zorder=0)
        stagger(self.ax_, self.text_)
