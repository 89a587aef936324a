"""The step sizes that the theorems allow, and the error bounds they give, Eqs. (26) to (30) and (41) to (43)."""

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


def theorem_3_1(constants: Constants, distance: ArrayLike, sigma: ArrayLike, local: bool = False) -> NDArray:
    """Bound on the bias ‖E[hypergradient | w_t] − ∇F‖ in log λ (or θ), for any two solvers: c₁‖w_t − w*‖ + L_Φ√σ, Eq. (41).

    Theorems 3.1 to 3.3 are 3.4 taken apart, at a given w_t. Derived here, as all bounds of this module: from the three
    differences of ``theorem_3_4``, and ‖E v_k − v(w_t)‖² ≤ σ.

    Parameters
    ----------
    constants : Constants
    distance : float or ndarray
        ‖w_t − w*‖.
    sigma, local
        As in ``theorem_3_4``.

    Examples
    --------
    >>> from sksid.bounds import Constants
    >>> ones = dict.fromkeys("sigma1 sigma1_adjoint B mu1 nu1 nu2 radius distance L_Phi_solution".split(), 1.0)
    >>> c = Constants(L=1.0, mu=1.0, **ones)
    >>> round(float(theorem_3_1(c, distance=0.1, sigma=0.01)), 6)  # c₁ = 3, L_Φ = 1
    0.4
    """
    first, moving = _factors(constants, distance, local)
    return first * np.asarray(distance) + moving * np.sqrt(sigma)


def theorem_3_2(constants: Constants, distance: ArrayLike, sigma: ArrayLike, local: bool = False) -> NDArray:
    """Bound on the variance E[‖hypergradient − E[hypergradient | w_t]‖² | w_t]: (L_Φ² + 2m₂)σ + 2m₂B²/(1 − q)², Eq. (42).

    V[∂₂Φ(w_t)ᵀv_k] ≤ L_Φ²σ, and the noise of ∂₂Φ̂ adds m₂E‖v_k‖² ≤ 2m₂(σ + B²/(1 − q)²) at most.

    Parameters
    ----------
    constants, distance, sigma, local
        As in ``theorem_3_1``; the distance counts only where ``local``.

    Examples
    --------
    >>> from sksid.bounds import Constants
    >>> ones = dict.fromkeys("sigma1 sigma1_adjoint B mu1 nu1 nu2 radius distance L_Phi_solution".split(), 1.0)
    >>> c = Constants(L=1.0, mu=1.0, **ones)
    >>> float(theorem_3_2(c, distance=0.1, sigma=0.01))
    0.01
    """
    _, moving = _factors(constants, distance, local)
    return moving**2 * np.asarray(sigma) + _noise_of_the_last_step(constants, sigma)


def theorem_3_3(constants: Constants, distance: ArrayLike, sigma: ArrayLike, local: bool = False) -> NDArray:
    """Bound on E[‖hypergradient − ∇F‖² | w_t]: 2c₁²‖w_t − w*‖² + 2(L_Φ² + m₂)σ + 2m₂B²/(1 − q)², Eq. (43).

    Parameters
    ----------
    constants, distance, sigma, local
        As in ``theorem_3_1``.

    Examples
    --------
    >>> from sksid.bounds import Constants
    >>> ones = dict.fromkeys("sigma1 sigma1_adjoint B mu1 nu1 nu2 radius distance L_Phi_solution".split(), 1.0)
    >>> c = Constants(L=1.0, mu=1.0, **ones)
    >>> round(float(theorem_3_3(c, distance=0.1, sigma=0.01)), 6)
    0.2
    """
    first, moving = _factors(constants, distance, local)
    systems = 2.0 * (first * np.asarray(distance)) ** 2 + 2.0 * moving**2 * np.asarray(sigma)
    return systems + _noise_of_the_last_step(constants, sigma)


def theorem_3_4(constants: Constants, rho: ArrayLike, sigma: ArrayLike, local: bool = False) -> NDArray:
    """Bound on E‖hypergradient − ∇F‖² in log λ (or θ), for any two solvers: Eq. (43) in the mean, so Eq. (29) where m₂ = 0.

    c₁ = μ₂ + (μ₁L_Φ + ν₂B)/(1 − q) + ν₁BL_Φ/(1 − q)². It is derived from
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
    return theorem_3_3(constants, np.sqrt(rho), sigma, local)


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


def _factors(c, distance, local):
    """c₁, and a bound on ‖∂₂Φ(w_t)‖ at that distance from w*."""
    fixed = c.L_Phi_solution if local else c.L_Phi
    first = c.mu2 + (c.mu1 * fixed + c.nu2 * c.B) / c.gap + c.nu1 * c.B * fixed / c.gap**2
    return first, fixed + c.nu2 * np.asarray(distance) if local else fixed


def _noise_of_the_last_step(c, sigma):
    """What the variance of ∂₂Φ̂ adds."""
    return 2.0 * c.m2 * (np.asarray(sigma) + (c.B / c.gap) ** 2)


def _rate(contraction):
    """1 − q²."""
    return contraction.gap * (2.0 - contraction.gap)
