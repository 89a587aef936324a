"""What every solver offers. A solver is a frozen bag of settings; all that changes is a state, handed on and returned.

A state is consumed by the call that takes it: ``advance`` and ``rescale`` may reuse its arrays for the state they return.
One *epoch* of any solver is a unit of progress for both levels at once, so that the loops above need not know which
solver they drive.
"""

from numbers import Integral, Real
from typing import Protocol

import numpy as np


class Solver(Protocol):
    """Solves the lower level and the adjoint system of all splits (method.md, section 2).

    ``exact`` tells whether one epoch ends with both solves converged, or has merely come nearer.
    """

    exact: bool

    def init(self, problem, log_penalties, seed=0, start=None):
        """A state at W = 0, V = 0; or at ``start``, what ``coefficients`` and ``adjoint`` gave, as far as that is of use."""

    def advance(self, problem, state, n_epochs=1.0):
        """Go on with both solves by so many epochs."""

    def rescale(self, problem, state, log_penalties):
        """Change the penalties, keeping what can be kept."""

    def losses(self, problem, state):
        """The validation loss of each split, (n_splits,), as far as the last epoch tells."""

    def losses_on(self, problem, state, rows):
        """The mean loss, (n_splits,), of each split's model on the validation rows of another Problem."""

    def log_gradient(self, problem, state):
        """∂F/∂log λ, (n_features,), at the state's W and V."""

    def recent_changes(self, problem, state):
        """What parts of the last ``advance`` have changed in ``log_gradient``, the latest last; may be empty."""

    def residual(self, problem, state):
        """How far the solves are from done, on the scale of probabilities."""

    def coefficients(self, problem, state):
        """W as (n_splits, n_outputs, n_features) and b as (n_splits, n_outputs), float64.

        Lists with an array for each split, where the splits have features of their own.
        """

    def adjoint(self, problem, state):
        """V and v in the same shapes."""

    def convert(self, problem, state):
        """The state in the precision of ``problem``, which has the same rows."""

    def reported(self, problem, log_penalties):
        """The problem in the precision that a reported score needs."""

    def refit(self, problem, split_problem, state, log_penalties, tol, max_epochs, columns=None):
        """Solve one fit on all rows, in ``problem``'s precision, starting from the splits' state.

        ``columns`` tells where the splits' features stand among those of ``problem``, as for ``mean_model``.

        Returns coef (n_outputs, n_features), intercept (n_outputs,), the epochs spent, and whether the error
        expected of its probabilities met ``tol``.
        """


def require(settings, fits, remedy, *names):
    """Refuse the settings of these names that do not fit, with what to set instead."""
    for name in names:
        if not fits(getattr(settings, name)):
            raise ValueError(f"{name} is {getattr(settings, name)!r}. {remedy}")


def is_count(value, least=1):
    """Whether it is a whole number, ``least`` or more."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def is_positive(value):
    """Whether it is a positive finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value < np.inf


class NotFiniteError(FloatingPointError):
    """A solver's state has left the finite numbers."""


def check_finite(values, solver):
    """Raise where a solve has overflowed: the one place where this is noticed."""
    if not np.isfinite(values).all():
        raise NotFiniteError(
            f"The {solver} solver met numbers that are not finite. Scale the features (StandardScaler, MaxAbsScaler, "
            "TfidfTransformer) or start from a stronger penalty (a smaller C, a larger alpha)."
        )


def mean_model(coef, intercept, columns, n_features):
    """The splits' mean W and b, (1, n_outputs, n_features) and (1, n_outputs): zero for features that the splits lack.

    Parameters
    ----------
    columns : ndarray of int, (n,), or None
        Where the splits' features stand; those from ``n_features`` on are left out. None where they are the first.
    """
    columns = np.arange(coef.shape[2]) if columns is None else columns
    kept = columns < n_features
    placed = np.zeros((1, coef.shape[1], n_features))
    placed[0, :, columns[kept]] = coef.mean(axis=0)[:, kept].T
    return placed, intercept.mean(axis=0)[None]
