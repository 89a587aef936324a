"""Rules that choose a row of ``cv_results_``, for the parameter ``refit``."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ONE_PENALTY = ("shared", "scaled")  # structures that are never cross-fitted


def one_standard_error(results: Mapping[str, NDArray], *, metric: str = "score") -> int:
    """The strongest regularization within one standard error of the best mean score.

    For ``refit=`` of HypergradientSearchCV, and of GridSearchCV or RandomizedSearchCV over ``C`` or ``alpha``. The standard
    error is that of the best row, over the splits. The strength of a row with many penalties is that of their geometric mean.
    Rows that lead to a nested score, and have none themselves, do not count.

    Parameters
    ----------
    results : dict of ndarrays
        ``cv_results_``, with one parameter named ``C`` or ``alpha``, also behind a prefix such as ``logisticregression__``.
    metric : str, default="score"
        The score's name, where there are several: ``refit=functools.partial(one_standard_error, metric="roc_auc")``.

    Returns
    -------
    int
        The row; of those that are equally strong, the best.

    Raises
    ------
    ValueError
        If there is no parameter ``C`` or ``alpha``, or more than one.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from sksid import HypergradientSearchCV, one_standard_error
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> best = HypergradientSearchCV(LogisticRegression(), structure="shared").fit(scale(X), y)
    >>> strong = HypergradientSearchCV(LogisticRegression(), structure="shared", refit=one_standard_error).fit(scale(X), y)
    >>> bool(strong.best_params_["C"] < best.best_params_["C"])
    True
    """
    mean = np.where(_is_judged(results), results[f"mean_test_{metric}"], np.nan)
    n_splits = sum(key.startswith("split") and key.endswith(f"_test_{metric}") for key in results)
    best = np.nanargmax(mean)
    standard_error = results[f"std_test_{metric}"][best] / np.sqrt(max(n_splits - 1, 1))  # the table's std divides by n
    within = np.flatnonzero(mean >= mean[best] - standard_error)
    strength = _strength(results)[within]
    return int(within[np.lexsort((mean[within], strength))[-1]])


def _is_judged(results):
    """Of each row, whether its score can be compared: not a score by the very rows that chose what is cross-fitted."""
    if "is_nested" not in results:
        return True
    return np.asarray(results["is_nested"]) | np.isin(np.asarray(results["structure"], dtype=str), ONE_PENALTY)


def _strength(results):
    keys = [key for key in results if key.startswith("param_") and key.split("_")[-1] in ("C", "alpha")]
    if len(keys) != 1:
        raise ValueError(
            f"one_standard_error orders the rows by one parameter named C or alpha, and found {keys}. Use another refit."
        )
    values = np.asarray(results[keys[0]], dtype=np.float64)
    return -values if keys[0].endswith("C") else values
