"""SID for any map: Algorithm 1 for the gradient of f(λ) = E(w(λ), λ), where w = Φ(w, λ) is known through random draws.

    w_t of a solver of  w = Φ(w, λ)
    v_k of a solver of  v = ∂₁Φ(w_t, λ)ᵀv + ∇₁E(w_t, λ)
    ∇f(λ) ≈ ∇₂E(w_t, λ) + ∂₂Φ(w_t, λ)ᵀv_k

Any contraction, any two solvers (Grazzi, Pontil, Salzo, AISTATS 2021; Theorem 3.4 bounds the error by those of the solvers,
Eq. (29)). Arrays are NumPy's. For the penalties of logistic regression, ``sksid.hypergradient`` is faster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, cg

from sksid.solvers import NotFiniteError

ASYMMETRY = 1e-6  # of a bilinear form, relative to its factors

StepSizes = float | tuple[float, float] | Callable[[int], float]
Solver = Callable[["System", NDArray, int, np.random.Generator], NDArray]


@dataclass(frozen=True)
class Map:
    """Φ(w, λ), as the mean of Φ̂(w, λ, ζ) over random ζ. Any object with these four serves.

    Attributes
    ----------
    apply : callable
        ``apply(w, hyper, draw)`` is Φ̂(w, λ, ζ), in w's shape. Where ``draw`` is None it is Φ(w, λ).
    pull_w : callable
        ``pull_w(w, hyper, v, draw)`` is ∂₁Φ̂(w, λ, ζ)ᵀv, in w's shape.
    pull_hyper : callable
        ``pull_hyper(w, hyper, v, draw)`` is ∂₂Φ̂(w, λ, ζ)ᵀv, in λ's shape.
    draw : callable, default=None
        ``draw(rng)`` is a ζ of any type, such as the rows of a minibatch; ``rng`` is a numpy.random.Generator. None is a map
        without randomness.

    Examples
    --------
    The mean of a population, shrunk to zero: w = mean − λw, or Φ(w, λ) = w − ½(w − mean + λw).

    >>> import numpy as np
    >>> from sksid.sid import FixedPoint, Map, Outer, differentiate
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> shrunk = Map(
    ...     apply=lambda w, hyper, draw: w - 0.5 * (w - x[draw].mean() + hyper * w),
    ...     pull_w=lambda w, hyper, v, draw: v - 0.5 * (v + hyper * v),
    ...     pull_hyper=lambda w, hyper, v, draw: -0.5 * w @ v,
    ...     draw=lambda rng: rng.integers(3, size=1),
    ... )
    >>> square = Outer(value=lambda w, hyper, draw: 0.5 * w @ w, grad_w=lambda w, hyper, draw: w)
    >>> found = differentiate(shrunk, square, 0.5, np.zeros(1), lower=FixedPoint(sampled=False))
    >>> round(found.value, 6), round(float(found.hypergradient), 6)  # 2² / 2 and −4/1.5, as w = 3/(1 + λ)
    (2.0, -2.666667)
    """

    apply: Callable[..., NDArray]
    pull_w: Callable[..., NDArray]
    pull_hyper: Callable[..., NDArray]
    draw: Callable[[np.random.Generator], Any] | None = None


@dataclass(frozen=True)
class Outer:
    """E(w, λ), as the mean of Ê(w, λ, ζ). Any object with these four serves.

    Attributes
    ----------
    value : callable
        ``value(w, hyper, draw)`` is Ê(w, λ, ζ), a number; E where ``draw`` is None.
    grad_w : callable
        ``grad_w(w, hyper, draw)`` is ∇₁Ê, in w's shape.
    grad_hyper : callable, default=None
        ``grad_hyper(w, hyper, draw)`` is ∇₂Ê, in λ's shape; None is zero.
    draw : callable, default=None
        ``draw(rng)`` is a ζ. None is "all": value and gradients are those of E. Else each step on the linear system takes a
        ∇₁Ê of its own, and value and ∇₂E are means of ``n_last`` draws.

    Examples
    --------
    >>> Outer(value=lambda w, hyper, draw: 0.5 * w @ w, grad_w=lambda w, hyper, draw: w).grad_hyper is None
    True
    """

    value: Callable[..., float]
    grad_w: Callable[..., NDArray]
    grad_hyper: Callable[..., NDArray] | None = None
    draw: Callable[[np.random.Generator], Any] | None = None


@dataclass(frozen=True)
class System:
    """What a solver solves: x = T(x), the lower level or the linear system, known through draws.

    Attributes
    ----------
    apply : callable
        ``apply(x, draw)`` is T̂(x, ζ), and T(x) where ``draw`` is None.
    draw : callable
        ``draw(rng)`` is a ζ, None where nothing is random.
    """

    apply: Callable[[NDArray, Any], NDArray]
    draw: Callable[[np.random.Generator], Any]


@dataclass(frozen=True)
class FixedPoint:
    """x ← (1 − η_i) x + η_i T̂(x, ζ_i), Eqs. (18) and (19).

    Parameters
    ----------
    steps : float, (beta, gamma) or callable, default=1.0
        η_i: constant, β/(γ + i), or a function of i = 0, 1, …; ``sksid.bounds`` has those of the theorems (``constant`` and
        ``decreasing`` of a ``Contraction``).
    sampled : bool, default=True
        Whether each step has a ζ of its own, or takes T itself.

    Examples
    --------
    >>> from sksid.bounds import Contraction, decreasing
    >>> noisy = Contraction(gap=0.5, sigma1=1.0, sigma2=0.0, distance=1.0)
    >>> FixedPoint(decreasing(noisy)).size(0), FixedPoint(0.1).size(7), FixedPoint(lambda i: 2.0**-i).size(3)
    (1.0, 0.1, 0.125)
    """

    steps: StepSizes = 1.0
    sampled: bool = True

    def __post_init__(self):
        steps = self.steps if isinstance(self.steps, tuple) and len(self.steps) == 2 else (self.steps,)
        if not (callable(self.steps) or all(isinstance(number, Real) for number in steps)):
            raise ValueError(f"steps is {self.steps!r}. Set a number, a tuple (beta, gamma) or a function of i.")

    def size(self, i: int) -> float:
        """η_i."""
        if callable(self.steps):
            return self.steps(i)
        return self.steps[0] / (self.steps[1] + i) if isinstance(self.steps, tuple) else self.steps

    def __call__(self, system: System, start: NDArray, n_steps: int, rng: np.random.Generator) -> NDArray:
        """Where so many steps lead."""
        x = start
        for i in range(n_steps):
            x = x + self.size(i) * (system.apply(x, system.draw(rng) if self.sampled else None) - x)
        return x


@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradient for x − T(x) = 0, without draws; T must be affine and symmetric, with eigenvalues below 1.

    The linear system is of that kind where Φ is a gradient step; the lower level only where f is quadratic.

    Parameters
    ----------
    tol : float, default=1e-12
        A residual, relative to T(0), at which it ends before its budget does.

    Raises
    ------
    ValueError
        Where T is seen not to be symmetric, which takes two products; the start takes two more.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.sid import System
    >>> halves = System(apply=lambda x, draw: 0.5 * x + 1.0, draw=lambda rng: None)
    >>> ConjugateGradient()(halves, np.zeros(2), 1, np.random.default_rng(0))
    array([2., 2.])
    """

    tol: float = 1e-12

    def __call__(self, system: System, start: NDArray, n_steps: int, rng: np.random.Generator) -> NDArray:
        """Where at most so many iterations lead."""
        at_zero = system.apply(np.zeros_like(start), None)

        def product(x):
            x = x.reshape(start.shape)
            return (x - (system.apply(x, None) - at_zero)).ravel()

        one, two = rng.standard_normal((2, start.size))
        across, back = one @ product(two), two @ product(one)
        if abs(across - back) > ASYMMETRY * np.linalg.norm(one) * np.linalg.norm(two):
            raise ValueError("The map is not affine and symmetric, as conjugate gradient needs it. Use FixedPoint().")
        matrix = LinearOperator((start.size, start.size), matvec=product, dtype=np.float64)
        return cg(matrix, at_zero.ravel(), x0=start.ravel(), rtol=self.tol, maxiter=n_steps)[0].reshape(start.shape)


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes
    ----------
    mean, standard_error : float
        The second is how far the first may be off: the runs' standard deviation over √runs.
    """

    mean: float
    standard_error: float


@dataclass(frozen=True)
class Hypergradient:
    """What ``differentiate`` returns.

    Attributes
    ----------
    value : float
        E(w_t, λ).
    hypergradient : ndarray in λ's shape
        ∇₂E(w_t, λ) + ∂₂Φ(w_t, λ)ᵀv_k.
    w, v : ndarray in the start's shape
        w_t and v_k.
    variance : Estimate or None
        E‖h − Eh‖² of h = ``hypergradient``, over independent runs; None with one run.
    error : Estimate or None
        Of E‖h − ∇f‖²: the mean of ‖h − h'‖², h' from half of the budgets and other draws. Twice the true one where steps are
        constant and noise dominates, three times where they decrease, too large where solvers converge linearly, and too
        small where neither budget has come far. An estimate; for bounds see ``sksid.bounds``.
    """

    value: float
    hypergradient: NDArray
    w: NDArray
    v: NDArray
    variance: Estimate | None = None
    error: Estimate | None = None


def differentiate(
    map: Map,
    outer: Outer,
    hyper: ArrayLike,
    start: ArrayLike,
    *,
    lower: Solver = FixedPoint(),
    adjoint: Solver = FixedPoint(),
    n_lower: int = 100,
    n_adjoint: int = 100,
    n_last: int | None = None,
    adjoint_start: ArrayLike | None = None,
    n_runs: int = 1,
    seed: int = 0,
) -> Hypergradient:
    """Value and gradient of f(λ) = E(w(λ), λ), w = Φ(w, λ), by Algorithm 1.

    Parameters
    ----------
    map : Map
        Φ.
    outer : Outer
        E.
    hyper : array-like
        λ, of any shape.
    start : array-like
        w_0, in w's shape.
    lower, adjoint : callable, default=FixedPoint()
        The solvers of w = Φ(w, λ) and of the linear system, FixedPoint, ConjugateGradient or a function of yours:
        ``solver(system, start, n_steps, rng)`` returns where it has come to. They need not be of a kind.
    n_lower, n_adjoint : int, default=100
        Their budgets t and k, in steps.
    n_last : int, default=None
        Draws for ∂₂Φ, and for E's value and ∇₂E where these are drawn; None is all, without draws.
    adjoint_start : array-like, default=None
        v_0; None is zero.
    n_runs : int, default=1
        With two or more, further independent runs, and as many on half of the budgets, estimate ``variance`` and ``error``.
    seed : int, default=0
        Of the draws. It alone decides the first run, whose numbers are returned.

    Returns
    -------
    Hypergradient

    Raises
    ------
    ValueError
        If a function's result does not have the shape of w or λ, or a setting is none.
    NotFiniteError
        If w_t, v_k or the hypergradient is not finite: Φ may not be a contraction, or the steps may be too long.

    Examples
    --------
    Ridge regression, λ the log penalty; minibatches for the fit, conjugate gradient for the linear system.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((60, 3)), rng.standard_normal(60)
    >>> def gradient(w, hyper, target, draw):
    ...     rows = slice(40) if draw is None else draw
    ...     return X[rows].T @ (X[rows] @ w - target[rows]) / len(X[rows]) + np.exp(hyper) * w
    >>> ridge = Map(
    ...     apply=lambda w, hyper, draw: w - 0.3 * gradient(w, hyper, y, draw),
    ...     pull_w=lambda w, hyper, v, draw: v - 0.3 * gradient(v, hyper, 0 * y, draw),
    ...     pull_hyper=lambda w, hyper, v, draw: -0.3 * np.exp(hyper) * (w @ v),
    ...     draw=lambda rng: rng.integers(40, size=10),
    ... )
    >>> loss = Outer(
    ...     value=lambda w, hyper, draw: np.mean((X[40:] @ w - y[40:]) ** 2) / 2,
    ...     grad_w=lambda w, hyper, draw: X[40:].T @ (X[40:] @ w - y[40:]) / 20,
    ... )
    >>> direct, noisy = ConjugateGradient(), FixedPoint((5.0, 5.0))
    >>> found = differentiate(ridge, loss, 0.0, np.zeros(3), lower=noisy, adjoint=direct, n_lower=1000, n_runs=4)
    >>> exact = differentiate(ridge, loss, 0.0, np.zeros(3), lower=direct, adjoint=direct)
    >>> bool(abs(found.hypergradient - exact.hypergradient) < 0.01), bool(found.error.mean < 1e-4)
    (True, True)
    """
    adjoint_start = np.zeros(np.shape(start)) if adjoint_start is None else adjoint_start
    hyper, start, v = (np.asarray(values, dtype=np.float64) for values in (hyper, start, adjoint_start))
    _checked("adjoint_start", v, start, "w")
    _check_finite(hyper, "hyper", "Give finite numbers.")
    _check_finite(start, "start", "Give finite numbers.")
    at_least = {"n_lower": (n_lower, 0), "n_adjoint": (n_adjoint, 0), "n_runs": (n_runs, 1), "n_last": (n_last, 1)}
    for name, (count, least) in at_least.items():
        if not (isinstance(count, Integral) and count >= least) and (name, count) != ("n_last", None):
            raise ValueError(f"{name} is {count!r}. Set a whole number, at least {least}.")

    def run(random, share=1):
        budgets = -(-n_lower // share), -(-n_adjoint // share)
        return _run(map, outer, hyper, (start, v), (lower, adjoint), budgets, n_last, random)

    first, *seeds = np.random.SeedSequence(seed).spawn(2 * n_runs)
    value, gradient, w, v_k = run(first)
    if n_runs < 2:
        return Hypergradient(value, gradient, w, v_k)
    whole = np.array([gradient] + [run(child)[1] for child in seeds[: n_runs - 1]]).reshape(n_runs, -1)
    half = np.array([run(child, 2)[1] for child in seeds[n_runs - 1 :]]).reshape(n_runs, -1)
    apart = (whole - whole.mean(axis=0)) * np.sqrt(n_runs / (n_runs - 1))
    return Hypergradient(value, gradient, w, v_k, variance=_estimate(apart), error=_estimate(whole - half))


def _run(map, outer, hyper, starts, solvers, budgets, n_last, seed):
    """Value, hypergradient, w and v of one run; each line of Algorithm 1 has draws of its own."""
    lower_rng, adjoint_rng, last_rng = (np.random.default_rng(child) for child in seed.spawn(3))
    w = np.asarray(solvers[0](_lower_level(map, hyper), starts[0], budgets[0], lower_rng))
    _check_finite(w, "w")
    v = np.asarray(solvers[1](_linear_system(map, outer, hyper, w), starts[1], budgets[1], adjoint_rng))
    _check_finite(v, "v")
    last = [_last_draws(thing, n_last, last_rng) for thing in (map, outer)]
    value = float(np.mean([outer.value(w, hyper, draw) for draw in last[1]]))
    gradient = np.mean([_checked("pull_hyper", map.pull_hyper(w, hyper, v, draw), hyper, "λ") for draw in last[0]], axis=0)
    if outer.grad_hyper is not None:
        gradient = gradient + np.mean([outer.grad_hyper(w, hyper, draw) for draw in last[1]], axis=0)
    _check_finite(gradient, "hypergradient")
    return value, np.asarray(gradient, dtype=np.float64), w, v


def _lower_level(map, hyper):
    """The fixed point of Φ(·, λ)."""
    return System(lambda w, draw: _checked("apply", map.apply(w, hyper, draw), w, "w"), lambda rng: _draw(map, rng))


def _linear_system(map, outer, hyper, w):
    """That of ∂₁Φ(w, λ)ᵀv + ∇₁E(w, λ) in v; ∇₁E once, where it is not drawn."""
    once = _checked("grad_w", outer.grad_w(w, hyper, None), w, "w") if outer.draw is None else None

    def apply(v, draws):
        of_map, of_outer = draws or (None, None)
        gradient = once if once is not None else _checked("grad_w", outer.grad_w(w, hyper, of_outer), w, "w")
        return _checked("pull_w", map.pull_w(w, hyper, v, of_map), w, "w") + gradient

    return System(apply, lambda rng: (_draw(map, rng), _draw(outer, rng)))


def _draw(thing, rng):
    return None if thing.draw is None else thing.draw(rng)


def _last_draws(thing, n_last, rng):
    """What step (3) averages over."""
    return [None] if n_last is None or thing.draw is None else [thing.draw(rng) for _ in range(n_last)]


def _checked(name, value, like, of):
    """The value as an array, if it has that shape."""
    value = np.asarray(value)
    if value.shape != like.shape:
        raise ValueError(f"{name} has shape {value.shape}, but {of} has {like.shape}.")
    return value


def _check_finite(values, name, remedy="Take shorter steps, or a map that is a contraction."):
    if not np.isfinite(values).all():
        raise NotFiniteError(f"{name} is not finite. {remedy}")


def _estimate(differences):
    """Of the mean squared length of the rows."""
    squares = np.sum(differences**2, axis=1)
    return Estimate(float(squares.mean()), float(squares.std(ddof=1) / np.sqrt(squares.size)))
