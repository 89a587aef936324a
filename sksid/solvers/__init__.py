"""Solvers of the lower level and the adjoint system behind one contract."""

from sksid.solvers._aid import Aid
from sksid.solvers._base import NotFiniteError
from sksid.solvers._dual import Dual

__all__ = ["Aid", "Dual", "NotFiniteError"]
