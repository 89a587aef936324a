"""The constants of the paper's theorems on a problem, the step sizes they allow and the error bounds they give.

Of one split without intercept, divided by its total training weight S (Grazzi, Pontil, Salzo, AISTATS 2021):

    f(w) = (1/S) Σ_train s_i ℓ_i(w) + ½ Σ_j (λ_j/S) ‖W_j‖²,   Φ(w) = w − α∇f(w),   α = 2/(L + μ),   q = (L − μ)/(L + μ)

Φ̂ takes n/S times the mean of s_i∇ℓ_i over ``batch_size`` of the n training rows, drawn independently and uniformly, and the
exact regulariser. From zero, t times w ← (1 − η)w + ηΦ̂(w), then k times v ← (1 − η)v + η(∂₁Φ̂(w_t)ᵀv + ∇₁E(w_t)); the
hypergradient in log λ is ∂₂Φ(w_t)ᵀv_k, with entries −(α/S) λ_j⟨W_j, V_j⟩: free of data, so m₂ = 0. Below, ‖·‖ is the
Euclidean or the spectral norm, V[·] is E‖· − E·‖², and D₀ = E‖w_0 − w*‖².
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from sksid.losses import probabilities, targets
from sksid.problem import TRAIN

LANCZOS_STEPS = 64
LANCZOS_FAILURE = 1e-9  # chance, over the start vector, that the result is not a bound
EXHAUSTED = 1e-12  # what is left of a new direction, for a matrix of trace 1


@dataclass(frozen=True)
class Contraction:
    """A contraction known through unbiased draws of it: all that Theorems 4.1 and 4.2 ask.

    Attributes
    ----------
    gap : float
        1 − q, which keeps its digits where q is nearly 1.
    sigma1, sigma2 : float
        V[Φ̂(w)] ≤ σ₁ + σ₂‖Φ(w) − w‖².
    distance : float
        A bound on D₀ from w_0 = 0.
    """

    gap: float
    sigma1: float
    sigma2: float
    distance: float


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """Bounds on the Hessian of f, and the map they make: all that the step sizes ask. Arrays serve as well as floats.

    Attributes
    ----------
    L, mu : float
        All eigenvalues of the Hessian lie between μ and L; with an intercept, which has no penalty, L alone is a bound.
    sigma2 : float, default=0
        See Contraction. Logistic gradients are bounded, so that zero will do.
    """

    L: float
    mu: float
    sigma2: float = 0.0

    @property
    def alpha(self):
        """α = 2/(L + μ)."""
        return 2.0 / (self.L + self.mu)

    @property
    def gap(self):
        """1 − q = αμ."""
        return self.alpha * self.mu

    @property
    def q(self):
        """The contraction factor, of the linear system too."""
        return 1.0 - self.gap


@dataclass(frozen=True, kw_only=True)
class Constants(Curvature):
    """The constants of the theorems; m₂ and the Lipschitz constant μ₂ of ∇₂E are zero, as E is free of λ.

    It has all that a Contraction has, and stands for Φ where one is asked for.

    Attributes
    ----------
    sigma1, distance : float
        See Contraction.
    sigma1_adjoint : float
        V[∂₁Φ̂(w)ᵀv] ≤ σ'₁‖v‖² at every w.
    B : float
        ‖∇₁E(w)‖ ≤ B at every w.
    mu1, nu1, nu2 : float
        Lipschitz constants in w of ∇₁E, ∂₁Φ and ∂₂Φ. The last, and so L_Phi, holds for one λ_j a feature, for groups and for
        a shared λ.
    radius : float
        ‖w_t‖ ≤ radius at every t.
    L_Phi_solution : float
        ‖∂₂Φ(w*)‖ ≤ it.
    """

    sigma1: float
    sigma1_adjoint: float
    B: float
    mu1: float
    nu1: float
    nu2: float
    radius: float
    distance: float
    L_Phi_solution: float
    mu2: float = 0.0

    @property
    def L_Phi(self):
        """‖∂₂Φ(w_t)‖ ≤ L_Φ = ν₂ · radius, at every t."""
        return self.nu2 * self.radius

    @property
    def linear_system(self):
        """The Contraction v ↦ ∂₁Φ(w_t)ᵀv + ∇₁E(w_t), whose fixed point has at most the norm B/(1 − q).

        V ≤ σ'₁‖v‖² ≤ 2σ'₁(‖v*‖² + ‖v − v*‖²), and (1 − q)‖v − v*‖ is at most the change of v by the map.
        """
        sigma2 = 2.0 * self.sigma1_adjoint / self.gap**2
        return Contraction(gap=self.gap, sigma1=sigma2 * self.B**2, sigma2=sigma2, distance=(self.B / self.gap) ** 2)


def data_curvature(problem, split):
    """The part of L that the data make, for ``curvature`` at several λ: 64 products with the rows and their transpose.

    At most ¼ (two classes) or ½ (more) times the largest eigenvalue of (1/S) Σ s_i x_i x_iᵀ, with a constant feature for an
    intercept. A bound but for rounding, and for a chance of 1e-9 over the (fixed) start vector of the Lanczos method.
    """
    _, bend, _ = _loss_bounds(problem)
    return bend * _largest_eigenvalue(problem, _training(problem, split)[0])


def row_curvature(problem, split, proba):
    """A bound on the curvature that one training row, drawn alone, gives the data at these probabilities.

    At most n s_i‖x_i‖²/S times 2p_c(1 − p_c) of some class c, or p(1 − p) where there are two, nor more than the loss's own
    bound. With R the largest of all rows, the noise of ∂₁Φ̂ has V[∂₁Φ̂ᵀv] ≤ α²R/b · vᵀHv, H the data's part of the Hessian.

    Parameters
    ----------
    problem, split
        As in ``curvature``.
    proba : ndarray of shape (n_rows, n_outputs)
    """
    share, squares, n = _training(problem, split)
    _, bend, _ = _loss_bounds(problem)
    bends = np.minimum(4.0 * bend * np.max(proba * (1.0 - proba), axis=1), bend)
    return float(n * np.max(share * squares * bends, initial=0.0))


def curvature(problem, split, log_penalties, data=None):
    """L and μ of one split: L = ``data_curvature`` + max λ/S, μ = min λ/S.

    Parameters
    ----------
    problem : Problem
    split : int
    log_penalties : float or ndarray of shape (n_features,)
        log λ_j, of the lower level as a sum.
    data : float, default=None
        ``data_curvature(problem, split)``, where it is known.

    Returns
    -------
    Curvature
        With an intercept, which has no penalty, the map need not be a contraction by q.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False)
    >>> c = curvature(problem, 0, log_penalties=0.0)
    >>> round(data_curvature(problem, 0), 6), round(c.L, 6), c.mu, round(c.q, 6)
    (0.125, 0.625, 0.5, 0.111111)
    """
    data = data_curvature(problem, split) if data is None else data
    total = problem.train_totals[split]
    return Curvature(L=data + float(np.exp(np.max(log_penalties)) / total), mu=float(np.exp(np.min(log_penalties)) / total))


def constants_of(problem, split, log_penalties, batch_size, radius=None):
    """Constants that hold at every w, as rigorous as ``data_curvature``.

    With r the largest ‖∂ℓ/∂z‖² (1; more classes 2), c the largest curvature of ℓ (¼; ½), κ the largest third derivative
    (1/(6√3); √2/(3√3), the third cumulant of a variable of range √2), and Λ(a) the largest eigenvalue of Σ a_i x_i x_iᵀ:

        σ₁ = α²rn/(b S²) Σ s_i²‖x_i‖², σ₂ = 0     σ'₁ = α²c²/b · Λ(n s_i²‖x_i‖²/S²)     ν₁ = ακΛ(s_i‖x_i‖/S)
        B² = rΛ(s_i/Σ_val s), μ₁ = cΛ(s_i/Σ_val s)     ν₂ = α max λ/S     D₀ ≤ min{2 log K/μ, rΛ(s_i/S)/μ²}
        radius = max_i √r n s_i‖x_i‖/(Sμ): a step η ≤ 1 shrinks w by 1 − η(1 − q) at least and adds at most η(1 − q)·radius

    D₀ follows from f(w*) ≤ f(0) = log K and from ∇f(w*) = 0; so does ‖∂₂Φ(w*)‖² ≤ α² min{2 log K max λ/S, rΛ(s_i/S)}.

    Parameters
    ----------
    problem, split, log_penalties
        As in ``curvature``; the problem without intercept.
    batch_size : int
        Rows drawn for each step, of either level.
    radius : float, default=None
        A bound on ‖w_t‖ for L_Φ; None is the one above, which holds for every run with steps up to 1.

    Raises
    ------
    ValueError
        If the problem has an intercept.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False)
    >>> c = constants_of(problem, 0, log_penalties=0.0, batch_size=1)
    >>> round(c.q, 6), round(c.B, 6), round(c.radius, 6)
    (0.111111, 0.707107, 2.0)
    >>> near = at_solution(c, problem, 0, np.array([[-0.401, 0.401, 0.0, 0.0]]), batch_size=1)
    >>> near.sigma1 < c.sigma1, round(near.sigma2, 6)
    (True, 0.25)
    """
    if problem.fit_intercept:
        raise ValueError(
            "fit_intercept=True: an intercept has no penalty, so the map is not known to be a contraction and no bound holds. "
            "Make the problem with fit_intercept=False; a constant feature with a small penalty can take its place."
        )
    slope, bend, third = _loss_bounds(problem)
    data = data_curvature(problem, split)
    curve, penalty = curvature(problem, split, log_penalties, data), np.exp(np.max(log_penalties)) / problem.train_totals[split]
    share, squares, n = _training(problem, split)
    validation = _largest_eigenvalue(problem, problem.val_weights(split).astype(np.float64))
    start, gradient = 2.0 * np.log(problem.n_classes), slope * data / bend
    return Constants(
        L=curve.L,
        mu=curve.mu,
        sigma1=float(curve.alpha**2 * slope * n / batch_size * (share**2 @ squares)),
        sigma1_adjoint=(curve.alpha * bend) ** 2 / batch_size * _largest_eigenvalue(problem, n * share**2 * squares),
        B=float(np.sqrt(slope * validation)),
        mu1=bend * validation,
        nu1=curve.alpha * third * _largest_eigenvalue(problem, share * np.sqrt(squares)),
        nu2=float(curve.alpha * penalty),
        radius=float(n * np.max(share * np.sqrt(slope * squares)) / curve.mu) if radius is None else radius,
        distance=float(min(start / curve.mu, gradient / curve.mu**2)),
        L_Phi_solution=float(curve.alpha * np.sqrt(min(start * penalty, gradient))),
    )


def at_solution(constants, problem, split, coef, batch_size):
    """The constants with what the solution w* tells: the variance model around it, D₀ and ∂₂Φ there.

    σ₁ = 2V[Φ̂(w*)] and σ₂ = c max_i(n s_i‖x_i‖²/S)/(2bμ): the rows' gradients are co-coercive, and
    ⟨∇(data term)(w) − ∇(data term)(w*), w − w*⟩ ≤ ‖∇f(w)‖‖w − w*‖ − μ‖w − w*‖² ≤ ‖∇f(w)‖²/(4μ). A bound at the exact
    solution, an estimate at another ``coef``. It has the lower floor where rows are fitted well, and needs smaller steps.

    Parameters
    ----------
    constants : Constants
    problem, split, batch_size
        What they were made from.
    coef : ndarray of shape (n_outputs, n_features)
        W of the split, such as ``hypergradient(...).coef[split]``.
    """
    share, squares, n = _training(problem, split)
    scores = problem.matrix @ np.asarray(coef, dtype=np.float64).T
    residuals = share[:, None] * (probabilities(scores) - targets(problem.labels, problem.n_outputs))
    gradient = np.linalg.norm(problem.matrix.T @ residuals)
    variance = n * np.sum(residuals**2 * squares[:, None]) - gradient**2
    _, bend, _ = _loss_bounds(problem)
    return replace(
        constants,
        sigma1=float(2.0 * constants.alpha**2 / batch_size * variance),
        sigma2=float(bend * n * np.max(share * squares) / (2.0 * batch_size * constants.mu)),
        distance=float(np.sum(np.square(coef))),
        L_Phi_solution=float(constants.alpha * gradient),
    )


def decreasing(contraction):
    """β and γ of the steps β/(γ + i), i = 0, 1, …: β = 2/(1 − q²), γ = β(1 + σ₂) (Theorem 4.2).

    ``contraction`` is a Curvature, a Constants or its ``linear_system``.

    Examples
    --------
    >>> noisy = Contraction(gap=0.5, sigma1=1.0, sigma2=1.0, distance=1.0)
    >>> decreasing(noisy), constant(noisy)
    ((2.6666666666666665, 5.333333333333333), 0.5)
    """
    beta = 2.0 / _rate(contraction)
    return beta, beta * (1.0 + contraction.sigma2)


def constant(contraction):
    """The constant step, β/γ = 1/(1 + σ₂): the largest that Theorem 4.1 allows. Argument as of ``decreasing``."""
    return 1.0 / (1.0 + contraction.sigma2)


def theorem_4_1(contraction, t, step=None):
    """Bound on E‖w_t − w*‖² with a constant step η ≤ 1/(1 + σ₂): linear, down to a floor.

    (1 − η(1 − q²))^t (D₀ − F) + F with the floor F = ησ₁/(1 − q²). As in paper.md and derived again: by
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


def theorem_4_2(contraction, t, steps=None):
    """Bound on E‖w_t − w*‖² with steps β/(γ + i), β > 1/(1 − q²) and γ ≥ β(1 + σ₂): c/(γ + t).

    c = max{γD₀, β²σ₁/(β(1 − q²) − 1)}. As in paper.md and derived again, by induction on the step of Theorem 4.1 and
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


def theorem_4_3(constants, k, steps=None):
    """Bound on E‖v_k − v(w_t)‖² at any w_t: Theorem 4.1 or 4.2 for ``constants.linear_system``, from v_0 = 0.

    Its σ₁ = 2σ'₁B²/(1 − q)² and σ₂ = 2σ'₁/(1 − q)² are paper.md's, derived again in Constants.

    Parameters
    ----------
    constants : Constants
    k : int or ndarray
        Steps taken.
    steps : float or tuple (beta, gamma), default=None
        A number is a constant step; None is ``decreasing(constants.linear_system)``.
    """
    theorem = theorem_4_2 if steps is None or np.ndim(steps) else theorem_4_1
    return theorem(constants.linear_system, k, steps)


def theorem_3_4(constants, rho, sigma, local=False):
    """Bound on E‖hypergradient − ∇F‖² in log λ, for any two solvers: 2c₁²ρ + 2L_Φ²σ.

    c₁ = μ₂ + (μ₁L_Φ + ν₂B)/(1 − q) + ν₁BL_Φ/(1 − q)². As in paper.md with m₂ = 0, and derived again:
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
    """
    c, fixed = constants, constants.L_Phi_solution if local else constants.L_Phi
    moving = fixed + c.nu2 * np.sqrt(rho) if local else fixed
    c1 = c.mu2 + (c.mu1 * fixed + c.nu2 * c.B) / c.gap + c.nu1 * c.B * fixed / c.gap**2
    return 2.0 * c1**2 * np.asarray(rho) + 2.0 * moving**2 * np.asarray(sigma)


def corollary_4_1(constants, t, k, local=False):
    """Bound on E‖hypergradient − ∇F‖² after t and k decreasing steps: O(1/t + 1/k). Arguments as of the theorems.

    Examples
    --------
    >>> import numpy as np
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


def _loss_bounds(problem):
    """The largest ‖∂ℓ/∂z‖², curvature and third derivative of the loss in the scores z."""
    third = 1.0 / (6.0 * 3.0**0.5)
    return (1.0, 0.25, third) if problem.n_outputs == 1 else (2.0, 0.5, 2.0**1.5 * third)


def _training(problem, split):
    """s_i/S of the training rows and 0 of others, (n_rows,); ‖x_i‖², (n_rows,); n."""
    share = problem.train_weights(split).astype(np.float64) / problem.train_totals[split]
    return share, _squared_norms(problem), np.count_nonzero(problem.roles[:, split] == TRAIN)


def _squared_norms(problem):
    """‖x_i‖², (n_rows,), with 1 for an intercept's constant feature."""
    if not np.isfinite(problem.squared_norms).all():
        raise ValueError("The squares of the features overflow. Scale the features (StandardScaler, MaxAbsScaler).")
    return problem.squared_norms + problem.fit_intercept


def _largest_eigenvalue(problem, weights):
    """A bound from above on the largest eigenvalue of Σ_i weights_i x_i x_iᵀ, x_i with a 1 for an intercept."""
    trace = float(weights @ _squared_norms(problem))
    if trace == 0.0:
        return 0.0
    X, root = problem.matrix, np.sqrt(weights / trace)
    n_rows, n_features = X.shape

    def right(u):
        return root * (X @ u[:n_features].astype(X.dtype) + u[n_features:].sum())

    def left(u):
        u = root * u
        return np.append(X.T @ u.astype(X.dtype), [u.sum()] * problem.fit_intercept)

    if n_rows <= n_features:
        return trace * min(1.0, _lanczos(lambda u: right(left(u)), n_rows))
    return trace * min(1.0, _lanczos(lambda u: left(right(u)), n_features + problem.fit_intercept))


def _lanczos(product, size):
    """A bound from above on the largest eigenvalue of a positive semi-definite matrix of that size and of trace 1.

    The largest Ritz value θ of k steps from a uniformly random direction falls short of (1 − ε) times the eigenvalue only if
    the start's share in the eigenvector is at most 1/cosh((2k − 1) artanh √ε) (take the Chebyshev polynomial of the second
    kind of degree 2k − 2 in √x), which has a chance of at most √(2·size/π) times that. So θ/(1 − ε) is returned, and θ
    itself where the space is exhausted.
    """
    basis, diagonal, beside = np.zeros((min(LANCZOS_STEPS, size), size)), [], []
    new = np.random.default_rng(0).standard_normal(size)
    for step in range(len(basis)):
        basis[step] = new / np.linalg.norm(new)
        new = product(basis[step])
        diagonal.append(basis[step] @ new)
        for _ in range(2):
            new = new - (basis[: step + 1] @ new) @ basis[: step + 1]
        beside.append(np.linalg.norm(new))
        if beside[-1] < EXHAUSTED:
            break
    ritz = float(eigvalsh_tridiagonal(diagonal, beside[:-1])[-1])
    if beside[-1] < EXHAUSTED or step + 1 == size:
        return ritz
    angle = np.arccosh(np.sqrt(2.0 * size / np.pi) / LANCZOS_FAILURE) / (2 * step + 1)
    return ritz / (1.0 - float(np.tanh(angle)) ** 2)
