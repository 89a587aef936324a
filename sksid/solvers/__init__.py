"""Solvers of the lower level and the adjoint system behind one contract."""

from typing import Any

from sksid.joint import parts_of
from sksid.solvers._aid import Aid
from sksid.solvers._contract import NotFiniteError, Progress, Solver, check_supported
from sksid.solvers._dual import Dual
from sksid.solvers._sgd import BATCH, Sgd, Steps
from sksid.solvers._together import Together

__all__ = [
    "BATCH",
    "NAMES",
    "Aid",
    "Dual",
    "NotFiniteError",
    "Progress",
    "Sgd",
    "Solver",
    "Steps",
    "Together",
    "check_supported",
    "choose",
    "resolve",
]

NAMES = {"dual": Dual, "aid": Aid, "sgd": Sgd}
CONTRACT = sorted({*Solver.__annotations__, *(name for name in vars(Solver) if not name.startswith("_"))})

DIRECT_UNKNOWNS = 1000
DIRECT_FLOPS = 2e9


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


def choose(problem: Any) -> Solver:
    """The solver of ``solver="auto"``: ``Aid`` where a Hessian is small and cheap to form, ``Dual`` elsewhere.

    On small dense problems with weak penalties a factorization is fast, where ``Dual`` may need hundreds of epochs.

    Parameters
    ----------
    problem : Problem or Joint

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> type(choose(make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2))).__name__
    'Aid'
    """
    unknowns = max((part.n_features + 1) * part.n_outputs for part in parts_of(problem))
    if unknowns <= DIRECT_UNKNOWNS and problem.n_rows * unknowns**2 <= DIRECT_FLOPS:
        return Aid()
    return Dual()
