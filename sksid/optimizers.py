"""Optimizers of the upper level: each proposes a step in the hyperparameters θ from the hypergradients it has been shown.

An optimizer is a frozen set of settings; what it remembers is a value that ``init`` makes and ``update`` returns anew.
:class:`sksid.descent.Descent` drives it, limits its steps in log λ and decides when to stop. Eqs. (23) and (24) of the docs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sksid.structures import Structure

Reach = Callable[[NDArray], float]

NARROW = 0.25  # a change of log λ that is no large step
RIDGE = 1e-3  # share of a metric's mean diagonal that is added to it
BEYOND = 1.5  # secants that leave the points seen go so much further, to end in a bracket


class Optimizer(Protocol):
    """What ``Descent(optimizer=...)`` takes: these four methods and one attribute.

    Attributes
    ----------
    inexact : bool
        Whether a step is taken after half an epoch of the solver, on a hypergradient that is still on its way, rather than
        on one that is converged.
    """

    inexact: bool

    def init(self, n_params: int) -> Any:
        """The memory before the first point.

        Parameters
        ----------
        n_params : int
            The number of hyperparameters.
        """

    def update(self, memory: Any, theta: NDArray, gradient: NDArray, value: float, reach: Reach) -> tuple[NDArray, Any]:
        """The step to take from a point, and the memory with that point in it; the old memory stays as it is.

        Parameters
        ----------
        memory
            What ``init`` or the last ``update`` returned.
        theta, gradient : ndarray of shape (n_params,)
            The point and ∂F/∂θ there.
        value : float
            F there, the mean validation loss.
        reach : callable
            ``reach(step)`` is the largest change of a log penalty that a step in θ makes.
        """

    def slack(self, memory: Any) -> float:
        """What the tolerance of the next hypergradient is multiplied by: 1.0, or more where a rough one will do."""

    def may_end(self, memory: Any) -> bool:
        """Whether a step that promises next to nothing means an optimum."""


@dataclass(frozen=True)
class Secant:
    """One hyperparameter: the root of F′, by steps of growing length until it is bracketed, then by safeguarded secants.

    Hypergradients are asked for as exactly as the next step needs them, by ``slack``.

    Parameters
    ----------
    bend : float, default=0.07
        F″ in units of F, where there has been one point only: the first step is that of Newton.
    shortest, longest : float, default=0.5 and 2.5
        Length of the first step at least, and of any step while there is no bracket.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.optimizers import Secant
    >>> secant, theta = Secant(), np.array([0.0])
    >>> memory = secant.init(1)
    >>> for _ in range(8):
    ...     step, memory = secant.update(memory, theta, theta - 3.0, 0.5 * float(theta[0] - 3.0) ** 2, np.max)
    ...     theta = theta + step
    >>> theta.round(3)
    array([3.])
    """

    bend: float = 0.07
    shortest: float = 0.5
    longest: float = 2.5

    inexact = False

    def init(self, n_params: int) -> tuple:
        """No point yet: (left end, right end, last point, last step, slope of F′), each point a pair (θ, F′)."""
        return None, None, None, None, 0.0

    def slack(self, memory: tuple) -> float:
        """On the way to a bracket little more than the sign of a gradient is needed, and within it no exact one."""
        return 1.5 if memory[0] is not None and memory[1] is not None else 2.5

    def may_end(self, memory: tuple) -> bool:
        """Not on a plateau, from where ``|F′|`` has grown or is not known to fall."""
        left, right, *_, slope = memory
        return (left is not None and right is not None) or slope > 0

    def update(self, memory: tuple, theta: NDArray, gradient: NDArray, value: float, reach: Reach) -> tuple[NDArray, tuple]:
        """The next step, given F′ and F at θ; ``reach`` is not used."""
        left, right, last, last_step, _ = memory
        here = (float(theta[0]), float(gradient[0]))
        if here[1] < 0:
            left = here
        else:
            right = here
        moved = last is not None and here[0] != last[0]
        slope = (here[1] - last[1]) / (here[0] - last[0]) if moved else 0.0
        if left is not None and right is not None:
            step = self._inside(left, right, here, slope)
        else:
            step = self._outwards(here, slope, last_step, value)
        return np.array([step]), (left, right, here, step, slope)

    def _outwards(self, here, slope, last_step, value):
        newton = abs(here[1]) / max(self.bend * abs(value), np.finfo(float).tiny)
        length = max(self.shortest, newton) if last_step is None else 3.0 * abs(last_step)
        if slope > 0:
            length = min(length, BEYOND * abs(here[1]) / slope)
        return -np.sign(here[1]) * min(length, self.longest)

    @staticmethod
    def _inside(left, right, here, slope):
        width = right[0] - left[0]
        target = left[0] - left[1] * width / (right[1] - left[1])
        newton = here[0] - here[1] / slope if slope > 0 else np.inf
        if left[0] < newton < right[0]:
            target = newton
        margin = 0.05 * width
        return float(np.clip(target, left[0] + margin, right[0] - margin)) - here[0]


@dataclass(frozen=True)
class QuasiNewton:
    """A few hyperparameters: BFGS in a trust region that is measured in log λ.

    A point with a larger F than the best one is left again: its gradient improves the model, and the region shrinks.

    Parameters
    ----------
    first : float, default=1.0
        Radius of the first step: the largest change of any log λ_j.
    longest : float, default=2.5
        Largest radius.
    tol : float, default=1e-4
        Relative increase of F that does not count as one: the accuracy of its values.
    metric : ndarray of shape (n_params, n_params), default=None
        M, positive definite: the length of a step is √(stepᵀ M step), in place of the largest change of any log λ_j, and the
        first step goes along −M⁻¹ ∂F/∂θ. See ``metric_of``.

    Examples
    --------
    >>> from sksid.descent import Descent
    >>> from sksid.optimizers import QuasiNewton
    >>> Descent(optimizer=QuasiNewton(first=0.5)).optimizer.first
    0.5
    """

    first: float = 1.0
    longest: float = 2.5
    tol: float = 1e-4
    metric: NDArray | None = field(default=None, compare=False)

    inexact = False

    def init(self, n_params: int) -> tuple:
        """No point yet: (best θ, its gradient, its F, inverse Hessian, radius, whether the last point was left)."""
        return None, None, np.inf, None, self.first, False

    def again(self, memory: tuple) -> tuple:
        """The memory of a new descent on the like: no point yet, but the inverse Hessian of the last one."""
        return None, None, np.inf, memory[3], self.longest, False

    def slack(self, memory: tuple) -> float:
        """0.1: the model is made of differences of all gradients."""
        return 0.1

    def may_end(self, memory: tuple) -> bool:
        """Not from a point that is left again, where the region is still wide: its next step is short for that reason alone."""
        *_, radius, left = memory
        return not left or radius <= NARROW

    def update(self, memory: tuple, theta: NDArray, gradient: NDArray, value: float, reach: Reach) -> tuple[NDArray, tuple]:
        """The next step from θ, given the gradient and F there."""
        best, best_gradient, best_value, inverse, radius, _ = memory
        if self.metric is not None:
            reach = partial(_length, self.metric)
        if inverse is None:
            inverse = np.eye(theta.size) if self.metric is None else np.linalg.inv(self.metric)
            inverse = inverse * radius / max(reach(inverse @ gradient), np.finfo(float).tiny)
        elif best is not None:
            inverse = _bfgs(inverse, theta - best, gradient - best_gradient)
        left = value > best_value * (1 + self.tol)
        if not left:
            radius = radius if best is None else min(2.0 * radius, self.longest)
            best, best_gradient, best_value = theta.copy(), gradient.copy(), value
        else:
            radius = 0.25 * min(radius, reach(theta - best))
        step = -inverse @ best_gradient
        step *= min(1.0, radius / max(reach(step), np.finfo(float).tiny))
        return best + step - theta, (best, best_gradient, best_value, inverse, radius, left)


def metric_of(structure: Structure, log_gradient: NDArray) -> NDArray | None:
    """The metric in which a step is as long as the changes of log λ_j are in the root mean square.

    Features weigh as much as ∂F/∂log λ_j is large. Without that, the penalties of a few features that are far from the others
    in a descriptor would limit all steps, and hyperparameters whose effects are alike would be taken for independent ones.

    Parameters
    ----------
    structure : Structure
        With a matrix.
    log_gradient : ndarray of shape (n_features,) or (n_splits, n_features)

    Returns
    -------
    ndarray of shape (n_params, n_params), or None where no feature weighs anything

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.optimizers import metric_of
    >>> from sksid.structures import matrix
    >>> metric_of(matrix([[1.0, 0.0], [1.0, 2.0]]), np.array([0.1, -0.1])).round(2)
    array([[1., 1.],
           [1., 2.]])
    """
    weights = np.abs(np.atleast_2d(log_gradient)).sum(axis=0)
    if structure.matrix is None or not 0.0 < weights.sum() < np.inf:
        return None
    root = sp.csr_array(structure.matrix).multiply(np.sqrt(weights / weights.sum())[:, None])
    metric = np.asarray((root.T @ root).todense())
    return metric + RIDGE * np.trace(metric) / len(metric) * np.eye(len(metric))


def _length(metric, step):
    return float(np.sqrt(step @ metric @ step))


def _bfgs(inverse, step, change):
    """The BFGS update; left alone where the curvature along the step is not positive."""
    curvature = step @ change
    if curvature <= 1e-10 * np.linalg.norm(step) * np.linalg.norm(change):
        return inverse
    if np.allclose(inverse, np.eye(step.size) * inverse[0, 0]):
        inverse = np.eye(step.size) * curvature / (change @ change)
    left = np.eye(step.size) - np.outer(step, change) / curvature
    return left @ inverse @ left.T + np.outer(step, step) / curvature


@dataclass(frozen=True)
class Momentum:
    """Many hyperparameters: a normalized gradient with momentum, Eq. (23).

    The step is rate · m / (√v + mean|m|), with running means m of the gradient and v of its square, so that a
    hyperparameter without signal stays where it is.

    Parameters
    ----------
    rate : float, default=0.15
        Length of a step in each hyperparameter with a steady gradient.
    first_moment, second_moment : float, default=0.8 and 0.95
        Decay of the running means.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.optimizers import Momentum
    >>> momentum = Momentum(rate=0.2)
    >>> step, memory = momentum.update(momentum.init(2), np.zeros(2), np.array([1.0, 0.0]), 1.0, np.max)
    >>> bool(step[0] < 0), bool(step[1] == 0)
    (True, True)
    """

    rate: float = 0.15
    first_moment: float = 0.8
    second_moment: float = 0.95

    inexact = True

    def init(self, n_params: int) -> tuple:
        """The running means (m, v) and the number of updates."""
        return np.zeros(n_params), np.zeros(n_params), 0

    def slack(self, memory: tuple) -> float:
        """1.0; not asked for, since gradients are inexact."""
        return 1.0

    def may_end(self, memory: tuple) -> bool:
        """Never: a small step may be an unfinished gradient's."""
        return False

    def update(self, memory: tuple, theta: NDArray, gradient: NDArray, value: float, reach: Reach) -> tuple[NDArray, tuple]:
        """The next step, given the gradient at θ; neither F nor ``reach`` is used."""
        m, v, count = memory
        m = self.first_moment * m + (1 - self.first_moment) * gradient
        v = self.second_moment * v + (1 - self.second_moment) * gradient**2
        count += 1
        mean = m / (1 - self.first_moment**count)
        root = np.sqrt(v / (1 - self.second_moment**count))
        scale = root + np.mean(np.abs(mean))
        step = -self.rate * np.divide(mean, scale, out=np.zeros_like(mean), where=scale > 0)
        return step, (m, v, count)


def default_optimizer(structure: Structure, *, longest: float = 2.5, tol: float = 1e-4) -> Optimizer:
    """The optimizer that a structure asks for: secants for one hyperparameter, BFGS for few, momentum for many.

    Parameters
    ----------
    structure : Structure
        Its ``n_params`` and ``is_few`` decide.
    longest : float, default=2.5
        Largest change of a log penalty in one step of BFGS.
    tol : float, default=1e-4
        Accuracy of F that BFGS reckons with.

    Examples
    --------
    >>> from sksid.optimizers import default_optimizer
    >>> from sksid.structures import per_feature, shared
    >>> default_optimizer(shared(1000)), default_optimizer(per_feature(1000))
    (Secant(bend=0.07, shortest=0.5, longest=2.5), Momentum(rate=0.15, first_moment=0.8, second_moment=0.95))
    """
    if structure.n_params == 1:
        return Secant()
    return QuasiNewton(longest=longest, tol=tol) if structure.is_few else Momentum()
