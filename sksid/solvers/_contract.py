"""What every solver offers. A solver is frozen settings; everything that changes is in a state, passed in and returned.

A state is consumed by the call that takes it: ``advance`` and ``rescale`` may reuse its arrays for the state they return.
One *epoch* of any solver is a unit of progress for both levels at once, so that the loops above need not know which
solver they drive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sksid.joint import parts_of
from sksid.objective import L2Penalty, LogisticLoss


@dataclass(frozen=True)
class Progress:
    """How far a state is from the solution: what the rules that stop a solve read.

    Attributes
    ----------
    residual : float
        The residual of the solves, on the scale of probabilities.
    relative_residual : float, default=None
        That of the adjoint system; None is ``residual``. Of a solver that gives ``changes``, a bound on the error of
        ``log_gradient`` in the sum over its entries, relative to that sum; of one that gives ``gradient_error``, the sum of the
        relative errors of W and V.
    moved : float, default=inf
        By how much the last epoch moved the outputs of a fit without an adjoint; infinite where that is not known.
    changes : tuple of ndarray of shape (n_features,), default=()
        Of a stochastic solver, what the second and the last third of the last ``advance`` have changed in ``log_gradient``.
    gradient_error, value_error : float, default=None
        Of a solver that can tell: the estimated error of ``log_gradient``, in the sum over its entries, and that of F. It
        may have one more method, ``tighten(state, lower, adjoint)``: the state, whose next epoch is asked for these shares of
        the errors of W and of V.
    """

    residual: float
    relative_residual: float | None = None
    moved: float = np.inf
    changes: tuple = ()
    gradient_error: float | None = None
    value_error: float | None = None

    @property
    def tells_errors(self) -> bool:
        """Whether the solver estimates its errors itself."""
        return self.gradient_error is not None

    @property
    def accuracy(self) -> float:
        """``relative_residual``, or ``residual`` where that is None."""
        return self.residual if self.relative_residual is None else self.relative_residual


@runtime_checkable
class Solver(Protocol):
    """Solves the lower level and the adjoint system of all splits, Eqs. (1) and (3); of a final fit, the lower level alone.

    A solver of one's own has these five declarations and eight methods, and is taken wherever a solver's name is. Its states
    have the attributes ``n_epochs``, all that has been spent on them, and ``log_penalties``. ``problem`` is a Problem, or a
    Joint to a solver for several side by side.
    """

    @property
    def threads_itself(self) -> bool:
        """Whether it serves all splits at once, in threads of its own; those of others are solved in groups, side by side."""

    @property
    def precise(self) -> bool:
        """Whether it reaches the accuracy of a reported score and of a final fit."""

    @property
    def takes_unpenalized(self) -> bool:
        """Whether features without a penalty (log λ = −∞) are taken."""

    @property
    def takes_any_objective(self) -> bool:
        """Whether it takes losses and penalties other than logistic and L2."""

    @property
    def takes_split_penalties(self) -> bool:
        """Whether it takes log penalties that differ by split, (n_splits, n_features)."""

    def init(self, problem: Any, log_penalties: NDArray, seed: int = 0, start: Any = None) -> Any:
        """A state at W = 0, V = 0, or near ``start``: what ``coefficients`` and, optionally, ``adjoint`` returned."""

    def advance(self, problem: Any, state: Any, n_epochs: float = 1.0) -> Any:
        """Advance both solves by so many epochs."""

    def rescale(self, problem: Any, state: Any, log_penalties: NDArray) -> Any:
        """New penalties, from the present W and V; in the problem's precision where that is wider than the state's."""

    def losses(self, problem: Any, state: Any, rows: Any = None) -> NDArray:
        """The mean validation loss of each split, (n_splits,), which may be a mean over the last epoch.

        With ``rows``, a Problem with as many splits: the loss of each split's present model on its validation rows there.
        """

    def log_gradient(self, problem: Any, state: Any) -> NDArray:
        """∂F/∂log λ at the state's W and V, in the shape of the log penalties, Eq. (4)."""

    def progress(self, problem: Any, state: Any) -> Progress:
        """How far the state is from the solution."""

    def coefficients(self, problem: Any, state: Any) -> tuple[Any, Any]:
        """W as (n_splits, n_outputs, n_features) and b as (n_splits, n_outputs), float64.

        Lists with an array for each split, where the splits have features of their own.
        """

    def adjoint(self, problem: Any, state: Any) -> tuple[Any, Any]:
        """V and v in the same shapes."""


class Wrapper:
    """What a solver declares that leaves all solving to the ``solver`` below it, for all splits at once."""

    solver: Any
    threads_itself = True

    @property
    def precise(self) -> bool:
        """Whether the solver below is."""
        return self.solver.precise

    @property
    def takes_unpenalized(self) -> bool:
        """Whether the solver below does."""
        return self.solver.takes_unpenalized

    @property
    def takes_split_penalties(self) -> bool:
        """Whether the solver below takes penalties that differ by split."""
        return self.solver.takes_split_penalties


def each_split(solver: Solver, problem: Any, state: Any) -> Iterator[tuple[NDArray, NDArray]]:
    """W (n_outputs, n_features) and b (n_outputs,) of one split after the other, to be read before the state is advanced.

    A solver may have a method ``each_split`` that takes less memory than its ``coefficients``.
    """
    own = getattr(solver, "each_split", None)
    return zip(*solver.coefficients(problem, state), strict=True) if own is None else own(problem, state)


def tighten(solver: Any, state: Any, lower: float, adjoint: float) -> Any:
    """The state, whose next epoch is asked for these shares of the errors of W and of V, where the solver has ``tighten``."""
    return solver.tighten(state, lower, adjoint) if hasattr(solver, "tighten") else state


def check_supported(solver: Solver, problem: Any, log_penalties: NDArray) -> None:
    """Refuse problems and penalties that the solver declares not to support.

    Parameters
    ----------
    solver : Solver
    problem : Problem or Joint
    log_penalties : array-like of shape (n_features,) or (n_splits, n_features)

    Raises
    ------
    ValueError
        Naming the parameter and a solver that can.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Sgd
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2)
    >>> check_supported(Sgd(), problem, np.zeros(4))
    """
    name = type(solver).__name__
    if not solver.takes_unpenalized and np.isneginf(np.asarray(log_penalties)).any():
        raise ValueError(f"solver: {name} needs a penalty on every feature. Set solver='dual' or 'aid', or unpenalized=None.")
    if np.ndim(log_penalties) > 1 and not solver.takes_split_penalties:
        raise ValueError(f"log_penalties: {name} takes the same penalties for all splits only. Use solver='dual' or 'aid'.")
    if not solver.takes_any_objective and not all(
        type(part.loss) is LogisticLoss and type(part.penalty) is L2Penalty for part in parts_of(problem)
    ):
        raise ValueError(f"solver: {name} takes the logistic loss and the L2 penalty only. Use solver='aid'.")


def require(settings, fits, remedy, *names):
    """Raise ValueError for each named setting that does not fit; ``remedy`` says what to set instead."""
    for name in names:
        if not fits(getattr(settings, name)):
            raise ValueError(f"{name} is {getattr(settings, name)!r}. {remedy}")


def is_count(value, least=1):
    """Whether it is a whole number, ``least`` or more."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def is_positive(value):
    """Whether it is a positive finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value < np.inf


class NotFiniteError(ValueError, FloatingPointError):
    """A solver's state has entries that are infinite or NaN, because of the values it was given."""


def check_finite(values, solver):
    """Raise NotFiniteError if a solve has overflowed."""
    if not np.isfinite(values).all():
        raise NotFiniteError(
            f"X: the {solver} solver met numbers that are not finite. Scale the features (StandardScaler, MaxAbsScaler, "
            "TfidfTransformer)."
        )
