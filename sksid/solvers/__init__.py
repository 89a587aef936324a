"""Solvers of the lower level and the adjoint system behind one contract."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sksid._disk_rows import DiskRows
from sksid._spread import SpreadRows
from sksid.joint import parts_of
from sksid.solvers._aid import Aid
from sksid.solvers._contract import NotFiniteError, Progress, Solver, check_supported, each_split, tighten
from sksid.solvers._dual import Dual
from sksid.solvers._local import Local
from sksid.solvers._relay import Relay
from sksid.solvers._rotated import Rotated
from sksid.solvers._sgd import BATCH, Sgd, Steps
from sksid.solvers._together import Together

__all__ = [
    "BATCH",
    "NAMES",
    "Aid",
    "Dual",
    "NotFiniteError",
    "Progress",
    "Relay",
    "Rotated",
    "Sgd",
    "Solver",
    "Steps",
    "Together",
    "check_supported",
    "choose",
    "each_split",
    "on_each",
    "resolve",
    "tighten",
]

NAMES = {"dual": Dual, "aid": Aid, "sgd": Sgd}
CONTRACT = sorted({*Solver.__annotations__, *(name for name in vars(Solver) if not name.startswith("_"))})

DIRECT_UNKNOWNS, DIRECT_OF_CLASSES = 700, 2500  # of two classes and of more, which dual epochs serve less well
ROUNDS = 50.0  # that Local may have to go before it is as dear as Aid on a cluster
WIDE, VERY_WIDE = 1.5, 4.0  # features a row from which a rotation of dense rows pays: for few unknowns, and for many
FEW_ROTATED = 20_000  # rows × outputs
# unknowns up to which one fit takes Newton's method, whose products are much shorter than visits; where rows are many, and few
NARROW, NARROW_OF_FEW, MANY = 6000, 1000, 2.0  # rows a feature


def resolve(solver: Any) -> Solver:
    """The solver of that name; settings such as ``Sgd(lower_epochs=15)``, or a user's own ``Solver``, are returned as they are.

    Parameters
    ----------
    solver : str or Solver

    Raises
    ------
    ValueError
        If there is no solver of that name.
    TypeError
        If it lacks a part of the contract; the message names what is missing.

    Examples
    --------
    >>> resolve("dual").block_size
    16
    """
    if isinstance(solver, str):
        if solver not in NAMES:
            raise ValueError(f"solver={solver!r} is none of {sorted(NAMES)}. Use one of these, or a solver's settings.")
        return NAMES[solver]()
    missing = [name for name in CONTRACT if not hasattr(solver, name)]
    if missing or isinstance(solver, type):
        lacks = f"lacks {', '.join(missing)}" if missing else "is a class, not settings"
        raise TypeError(f"solver={solver!r} is no solver: it {lacks}. Use one of {sorted(NAMES)}, or Dual(), Aid() or Sgd().")
    return solver


def on_each(solver: Any, change: Callable[[Any], Any]) -> Any:
    """The solver with ``change`` made to those that a Relay or a Rotated is made of; of any other, ``change(solver)``."""
    if isinstance(solver, Relay):
        return replace(solver, first=on_each(solver.first, change), then=on_each(solver.then, change))
    return replace(solver, solver=on_each(solver.solver, change)) if isinstance(solver, Rotated) else change(solver)


def choose(problem: Any, rough: bool = False) -> Solver:
    """The solver of ``solver="auto"``: ``Aid`` where rows are dense and few unknowns make a Hessian cheap, ``Relay`` elsewhere.

    On few dense features a factorization is fast, where ``Dual`` may need hundreds of epochs; dense rows of more features than
    there are rows are rotated first. ``Aid`` also makes the final fit of few unknowns, sparse or not. Rows on
    disk have ``Dual`` alone, rows on a cluster ``Aid``, or to steer by, ``Local``. Elsewhere ``Relay`` starts with ``Dual``,
    and goes on with ``Aid`` where that one would take too long. (The table that this rests on is printed by
    examples/benchmarks/solver_costs.py.)

    Parameters
    ----------
    problem : Problem or Joint
    rough : bool, default=False
        Whether one will do that need not be ``precise`` nor take unpenalized features.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> rows = np.arange(8.0).reshape(4, 2) + 1.0
    >>> type(choose(make_problem(rows, [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2))).__name__
    'Aid'
    """
    parts = parts_of(problem)
    if any(isinstance(part.rows, DiskRows) for part in parts):
        return Dual()
    if any(isinstance(part.rows, SpreadRows) for part in parts):
        return Relay(Local(), Aid(), patience=ROUNDS) if rough and problem.has_validation else Aid()
    unknowns = max((part.n_features + 1) * part.n_outputs for part in parts)
    dense = not any(part.rows.is_sparse for part in parts)
    if dense:
        wide, few = min(part.n_features / part.n_rows for part in parts), max(part.n_rows * part.n_outputs for part in parts)
        if wide > WIDE and few <= FEW_ROTATED:
            return Rotated(Aid())
        if wide > VERY_WIDE:
            return Rotated(Relay())
    narrow = NARROW if all(part.n_rows >= MANY * part.n_features for part in parts) else NARROW_OF_FEW
    if unknowns <= narrow and not any(part.has_validation for part in parts):
        return Aid()
    limit = DIRECT_UNKNOWNS if all(part.n_outputs == 1 for part in parts) else DIRECT_OF_CLASSES
    return Aid() if dense and unknowns <= limit else Relay()
