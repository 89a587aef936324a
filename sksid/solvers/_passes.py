"""The dual solver's passes over rows: the kernels' own, or one call a block where rows come from disk, Eqs. (6) to (15).

A block's rows, roles, duals and residuals are a problem and a state of their own, with the table and the sums of all.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._disk_rows import DiskRows
from sksid._kernels import _dual as kernels
from sksid._kernels._layout import COLUMNS_AHEAD
from sksid.problem import Problem
from sksid.rows import Rows


def advance(problem: Problem, state: Any, visits: NDArray, size: int) -> NDArray:
    """``kernels.advance``: visit groups of rows in this order; the sums."""
    if not isinstance(problem.rows, DiskRows):
        return kernels.advance(problem, state, visits, size)
    sums: Any = 0.0
    for places, rows, inside in problem.rows.by_block(visits, size):
        own = _of(problem, state, places, rows)
        sums = sums + kernels.advance(*own, inside, size)
        put_back(state, own[1], places)
    return sums


def evaluate(problem: Problem, state: Any, start: int, stop: int, losses_only: bool = False) -> NDArray:
    """``kernels.evaluate``: the sums of the rows ``start:stop`` at the state as it stands."""
    if not isinstance(problem.rows, DiskRows):
        return kernels.evaluate(problem, state, start, stop, losses_only)
    each = problem.rows.each(start, stop)
    sums: Any = sum(kernels.evaluate(*_of(problem, state, place, rows), 0, rows.n_rows, losses_only) for place, rows in each)
    return sums


def rebuild(problem: Problem, state: Any, start: int, stop: int) -> None:
    """``kernels.rebuild``: add what the duals of these rows make of W and V to the table."""
    if not isinstance(problem.rows, DiskRows):
        return kernels.rebuild(problem, state, start, stop)
    for place, rows in problem.rows.each(start, stop):
        kernels.rebuild(*_of(problem, state, place, rows), 0, rows.n_rows)


def rescale(problem: Problem, state: Any, penalties: NDArray, shrink: float) -> None:
    """``kernels.rescale``, which reads no row."""
    kernels.rescale(*_without_rows(problem, state), penalties, shrink)


def contract(problem: Problem, state: Any) -> NDArray:
    """``kernels.contract``, which reads no row."""
    return kernels.contract(*_without_rows(problem, state))


def at_hand(problem: Problem, state: Any, rows: NDArray) -> tuple[Problem, Any, NDArray]:
    """Problem and state of some rows that are to be visited often, and their numbers there."""
    if not isinstance(problem.rows, DiskRows):
        return problem, state, rows
    return *_of(problem, state, rows, problem.rows.gathered(rows)), np.arange(rows.size)


def put_back(state: Any, own: Any, places: NDArray) -> None:
    """The duals of some rows, where they are not the state's own."""
    if own.duals is not state.duals:
        state.duals[places], state.residuals[places] = own.duals, own.residuals


def _of(problem, state, places, rows):
    """Problem and state of some rows, which are in memory."""
    own = replace(problem, rows=rows, roles=problem.roles.of_rows(places))
    return own, replace(state, duals=np.array(state.duals[places]), residuals=np.array(state.residuals[places]))


def _without_rows(problem, state):
    if not isinstance(problem.rows, DiskRows):
        return problem, state
    nothing = np.empty(0, dtype=np.intp)
    columns = np.zeros(COLUMNS_AHEAD, dtype=np.int32) if problem.rows.is_sparse else None
    none = Rows(np.empty(0, problem.rows.dtype), columns, np.zeros(1, dtype=np.int64), nothing, problem.n_features)
    return _of(problem, state, nothing, none)
