"""Where a search looks before it descends: a grid of penalties, for features so different in size that F has several valleys.

A shared penalty that suits the largest features leaves the smallest nothing, and each size that a weaker one sets free may have
a valley of its own. With features alike in size there is no grid.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sksid.joint import parts_of
from sksid.problem import IN_ORDER

APART = 7.0  # log x² between rows and the smallest features, from which there is a grid: a factor of 33 in their units
STEP = 2.5  # between two of its log λ
SMALLEST = 0.05  # quantile of the features' sizes
SAMPLE = 200_000  # entries that stand for all
LEAST_ROWS = 100


def grid(problem: Any, top: float) -> NDArray:
    """Log penalties from ``top`` down to what ``top`` would be if all features were as small as the smallest; maybe none.

    Parameters
    ----------
    problem : Problem or Joint
        Rows on disk or on a cluster have no grid, since no sample of them is at hand.
    top : float
        Where a search starts for rows of their mean size.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid._scan import grid
    >>> from sksid.problem import make_problem
    >>> X, y = np.random.RandomState(0).randn(90, 4), np.arange(90) % 2
    >>> splits = [(np.arange(60), np.arange(60, 90))]
    >>> grid(make_problem(X, y, splits, n_classes=2), top=0.0).size
    0
    >>> grid(make_problem(X * [1.0, 1.0, 1e3, 1e3], y, splits, n_classes=2), top=0.0).round()[[0, -1]]
    array([  0., -13.])
    """
    first = parts_of(problem)[0]
    if isinstance(first.rows, IN_ORDER):
        return np.empty(0)
    rows, smallest = log_sizes(first.rows)
    down = rows - smallest
    return np.linspace(top, top - down, 2 + int(down / STEP)) if down > APART else np.empty(0)


def log_sizes(rows: Any) -> tuple[float, float]:
    """Log of the mean Σ_j x_ij² of rows, and what it would be with entries all as small as those of the smallest features.

    Columns are centered, and an entry's size is that of the column's entries that are not zero: how rare they are is no size.
    """
    per_row = max(rows.n_entries / max(rows.n_rows, 1), 1.0)
    n = int(np.clip(SAMPLE / per_row, LEAST_ROWS, max(rows.n_rows, 1)))
    some = rows.take(np.unique(np.linspace(0, max(rows.n_rows - 1, 0), n).astype(np.int64)))
    with np.errstate(over="ignore", invalid="ignore"):
        matrices = [block.matrix for block in some.blocks]
        squares = sum(np.asarray((X * X).sum(axis=0)) for X in matrices) / some.n_rows
        means = sum(np.asarray(X.sum(axis=0)) for X in matrices) / some.n_rows
        filled = sum(X.count_nonzero(axis=0) if sp.issparse(X) else np.count_nonzero(X, axis=0) for X in matrices) / some.n_rows
        spreads = squares - means**2
        seen = (spreads > 1e-12 * squares) & np.isfinite(spreads)
    if not seen.any():
        return 0.0, 0.0
    sizes = spreads[seen] / filled[seen]
    return float(np.log(spreads[seen].sum())), float(np.log(np.quantile(sizes, SMALLEST, method="lower") * filled[seen].sum()))
