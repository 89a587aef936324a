"""The step sizes that the theorems allow, and the error bounds they give, Eqs. (26) to (30)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sksid.bounds._constants import Constants, Contraction, Curvature

Noisy = Contraction | Curvature


def decreasing(contraction: Noisy) -> tuple[float, float]:
    """β and γ of the steps β/(γ + i), i = 0, 1, …: β = 2/(1 − q²), γ = β(1 + σ₂), Eq. (21) (Theorem 4.2).

    Parameters
    ----------
    contraction : Curvature, Constants or Contraction
        Of the lower level, or the ``linear_system`` of a Constants.

    Examples
    --------
    >>> from sksid.bounds import Contraction, constant, decreasing
    >>> noisy = Contraction(gap=0.5, sigma1=1.0, sigma2=1.0, distance=1.0)
    >>> decreasing(noisy), constant(noisy)
    ((2.6666666666666665, 5.333333333333333), 0.5)
    """
    beta = 2.0 / _rate(contraction)
    return beta, beta * (1.0 + contraction.sigma2)


def constant(contraction: Noisy) -> float:
    """The constant step, β/γ = 1/(1 + σ₂), Eq. (21): the largest that Theorem 4.1 allows.

    Parameters
    ----------
    contraction : Curvature, Constants or Contraction
        As in ``decreasing``.

    Examples
    --------
    >>> constant(Contraction(gap=0.5, sigma1=1.0, sigma2=1.0, distance=1.0))
    0.5
    """
    return 1.0 / (1.0 + contraction.sigma2)


def theorem_4_1(contraction: Constants | Contraction, t: ArrayLike, step: float | None = None) -> NDArray:
    """Bound on E‖w_t − w*‖² with a constant step η ≤ 1/(1 + σ₂): linear, down to a floor.

    (1 − η(1 − q²))^t (D₀ − F) + F with the floor F = ησ₁/(1 − q²). Derived: by
    ‖(1 − η)a + ηb‖² = (1 − η)‖a‖² + η‖b‖² − η(1 − η)‖a − b‖², one step takes d to at most (1 − η(1 − q²))d + η²σ₁.

    Parameters
    ----------
    contraction : Constants or Contraction
        Its ``distance`` is D₀: of w_0 = 0, or what ``dataclasses.replace`` makes it.
    t : int or ndarray
        Steps taken.
    step : float, default=None
        η; None is ``constant(contraction)``.

    Returns
    -------
    ndarray of t's shape

    Examples
    --------
    >>> theorem_4_1(Contraction(gap=0.5, sigma1=1.0, sigma2=0.0, distance=4.0), [0, 1000]).round(6)
    array([4.      , 1.333333])
    """
    step = constant(contraction) if step is None else step
    if not 0.0 < step <= (1.0 + 1e-12) * constant(contraction):
        raise ValueError(f"step is {step}, but Theorem 4.1 asks for one in (0, 1/(1 + sigma2)]. Use constant(...).")
    floor = step * contraction.sigma1 / _rate(contraction)
    return (1.0 - step * _rate(contraction)) ** np.asarray(t, dtype=np.float64) * (contraction.distance - floor) + floor


def theorem_4_2(contraction: Constants | Contraction, t: ArrayLike, steps: tuple[float, float] | None = None) -> NDArray:
    """Bound on E‖w_t − w*‖² with steps β/(γ + i), β > 1/(1 − q²) and γ ≥ β(1 + σ₂): c/(γ + t).

    c = max{γD₀, β²σ₁/(β(1 − q²) − 1)}. Derived by induction on the step of Theorem 4.1 and
    (γ + t − 1)(γ + t + 1) ≤ (γ + t)².

    Parameters
    ----------
    contraction, t
        As in ``theorem_4_1``.
    steps : tuple (beta, gamma), default=None
        None is ``decreasing(contraction)``.

    Examples
    --------
    >>> theorem_4_2(Contraction(gap=0.5, sigma1=1.0, sigma2=0.0, distance=4.0), [0, 8]).round(6)
    array([4., 1.])
    """
    beta, gamma = decreasing(contraction) if steps is None else steps
    if not (beta * _rate(contraction) > 1.0 and (1.0 + 1e-12) * gamma >= beta * (1.0 + contraction.sigma2)):
        raise ValueError(
            f"steps is {(beta, gamma)}, but Theorem 4.2 asks for beta > 1/(1 - q²), gamma >= beta (1 + sigma2). "
            "Use decreasing(...)."
        )
    noise = beta**2 * contraction.sigma1 / (beta * _rate(contraction) - 1.0)
    return np.maximum(gamma * contraction.distance, noise) / (gamma + np.asarray(t, dtype=np.float64))


def theorem_4_3(constants: Constants, k: ArrayLike, steps: float | tuple[float, float] | None = None) -> NDArray:
    """Bound on E‖v_k − v(w_t)‖² at any w_t: Theorem 4.1 or 4.2 for ``constants.linear_system``, from v_0 = 0.

    Its σ₁ = 2σ'₁B²/(1 − q)² and σ₂ = 2σ'₁/(1 − q)² are derived in Constants, Eq. (28).

    Parameters
    ----------
    constants : Constants
    k : int or ndarray
        Steps taken.
    steps : float or tuple (beta, gamma), default=None
        A number is a constant step; None is ``decreasing(constants.linear_system)``.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.bounds import constants_of
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False)
    >>> c = constants_of(problem, 0, log_penalties=0.0, batch_size=1)
    >>> theorem_4_3(c, [10**4, 10**6]).round(6)
    array([1.6e-04, 2.0e-06])
    """
    if isinstance(steps, float | int):
        return theorem_4_1(constants.linear_system, k, steps)
    return theorem_4_2(constants.linear_system, k, steps)


def theorem_3_4(constants: Constants, rho: ArrayLike, sigma: ArrayLike, local: bool = False) -> NDArray:
    """Bound on E‖hypergradient − ∇F‖² in log λ, for any two solvers: 2c₁²ρ + 2L_Φ²σ.

    c₁ = μ₂ + (μ₁L_Φ + ν₂B)/(1 − q) + ν₁BL_Φ/(1 − q)². With m₂ = 0, it is derived from
    ∂₂Φ(w_t)ᵀ(v_k − v(w_t)) + (∂₂Φ(w_t) − ∂₂Φ(w*))ᵀv(w_t) + ∂₂Φ(w*)ᵀ(v(w_t) − v(w*)), where ‖v(·)‖ ≤ B/(1 − q).

    Parameters
    ----------
    constants : Constants
    rho : float or ndarray
        Bound on E‖w_t − w*‖² (Theorem 4.1 or 4.2).
    sigma : float or ndarray
        Bound on E‖v_k − v(w_t)‖² given w_t (Theorem 4.3).
    local : bool, default=False
        False is the paper's form, with L_Φ on the whole ball. True is ours: c₁ needs ‖∂₂Φ‖ at w* alone, and the factor of σ
        is E‖∂₂Φ(w_t)‖² ≤ (‖∂₂Φ(w*)‖ + ν₂√ρ)². Sharper where the radius is large.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.bounds import constants_of
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False)
    >>> c = constants_of(problem, 0, log_penalties=0.0, batch_size=1)
    >>> float(theorem_3_4(c, rho=0.0, sigma=0.0))
    0.0
    """
    c, fixed = constants, constants.L_Phi_solution if local else constants.L_Phi
    moving = fixed + c.nu2 * np.sqrt(rho) if local else fixed
    c1 = c.mu2 + (c.mu1 * fixed + c.nu2 * c.B) / c.gap + c.nu1 * c.B * fixed / c.gap**2
    return 2.0 * c1**2 * np.asarray(rho) + 2.0 * moving**2 * np.asarray(sigma)


def corollary_4_1(constants: Constants, t: ArrayLike, k: ArrayLike, local: bool = False) -> NDArray:
    """Bound on E‖hypergradient − ∇F‖² after t and k decreasing steps, Eq. (30): O(1/t + 1/k).

    Parameters
    ----------
    constants : Constants
    t, k : int or ndarray
        Steps taken on the lower level and on the linear system.
    local : bool, default=False
        As in ``theorem_3_4``.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.bounds import constants_of
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False)
    >>> c = constants_of(problem, 0, log_penalties=0.0, batch_size=1)
    >>> t = k = np.array([10**4, 10**5])
    >>> corollary_4_1(c, t, k).round(6)
    array([0.004109, 0.000411])
    >>> theorem_3_4(c, rho=theorem_4_1(c, t, step=0.01), sigma=theorem_4_3(c, k), local=True).round(6)
    array([0.062121, 0.061543])
    """
    return theorem_3_4(constants, theorem_4_2(constants, t), theorem_4_3(constants, k), local)


def _rate(contraction):
    """1 − q²."""
    return contraction.gap * (2.0 - contraction.gap)
