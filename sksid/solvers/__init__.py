"""Solvers of the lower level and the adjoint system behind one contract."""

from sksid.problem import parts_of
from sksid.solvers._aid import Aid
from sksid.solvers._base import NotFiniteError
from sksid.solvers._dual import Dual
from sksid.solvers._sgd import BATCH, Sgd, Steps
from sksid.solvers._together import Together

__all__ = ["BATCH", "NAMES", "Aid", "Dual", "NotFiniteError", "Sgd", "Steps", "Together", "choose"]

NAMES = {"dual": Dual, "aid": Aid, "sgd": Sgd}

DIRECT_UNKNOWNS = 1000
DIRECT_FLOPS = 2e9


def choose(problem):
    """The solver of ``solver="auto"``: direct where a Hessian is small and cheap to form, the dual solver elsewhere.

    Small dense problems with weak penalties are where stochastic solvers need hundreds of epochs and a factorisation none.
    ``problem`` may be a Joint one.
    """
    unknowns = max((part.n_features + 1) * part.n_outputs for part in parts_of(problem))
    if unknowns <= DIRECT_UNKNOWNS and problem.n_rows * unknowns**2 <= DIRECT_FLOPS:
        return Aid()
    return Dual()
