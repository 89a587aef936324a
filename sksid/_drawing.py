"""What the displays share: axes to draw on, the names of features, labels that do not cover one another."""

from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sksid._sklearn import check_matplotlib_support


def axes_of(caller: str, ax: Any) -> tuple[Any, Any]:
    """The axes that a user has given, or those of a new figure, and their figure."""
    check_matplotlib_support(caller)
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(layout="constrained")[1]
    return ax, ax.figure


def check_drawable(caller: str, search: BaseEstimator, attribute: str) -> None:
    """Raise where matplotlib is missing, or the search is not fitted."""
    check_matplotlib_support(f"{caller}.from_estimator")
    check_is_fitted(search, attribute)


def line_style(defaults: dict, given: dict) -> dict:
    """A line's properties, those that a user has given first, under whatever alias (``lw``, ``ms``, ``c``)."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return defaults | normalize_kwargs(given, Line2D)


def final_step(estimator: BaseEstimator) -> Any:
    """The model at the end of a fitted search or Pipeline."""
    model: Any = getattr(estimator, "best_estimator_", estimator)
    while hasattr(model, "steps"):
        model = model[-1]
    return model


def feature_names(estimator: BaseEstimator, n_features: int) -> list[str]:
    """Of the features that reach the final step; numbers where they have no names."""
    names = getattr(estimator, "feature_names_in_", None)
    model: Any = getattr(estimator, "best_estimator_", estimator)
    while hasattr(model, "steps"):
        try:
            names = model[:-1].get_feature_names_out(names)
        except (AttributeError, ValueError):
            names = None
        model = model[-1]
    return [f"x{j}" for j in range(n_features)] if names is None or len(names) != n_features else list(names)


def stagger(ax: Any, texts: Sequence[Any]) -> None:
    """Lift each text, of annotations from left to right, above the earlier ones that reach over its beginning."""
    ax.autoscale_view()  # else places are those of an empty plot
    placed: list[Any] = []
    for text in texts:
        box, (x, y) = text.get_window_extent(), text.xyann
        tops = [other.y1 for other in placed if other.x1 > box.x0]
        if tops:
            text.xyann = x, y + 1 + (max(tops) - box.y0) * 72 / ax.figure.dpi
        placed.append(text.get_window_extent())


def keep_apart(ax: Any, texts: Sequence[Any]) -> list[Any]:
    """Remove each text that would cover an earlier one; those that are left."""
    ax.autoscale_view()
    kept: list[Any] = []
    for text in texts:
        if any(text.get_window_extent().overlaps(other.get_window_extent()) for other in kept):
            text.remove()
        else:
            kept.append(text)
    return kept


def label_decades(axis: Any) -> None:
    """Plain numbers on a logarithmic axis that spans less than three decades."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    if high < 1000 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 5, 7)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
