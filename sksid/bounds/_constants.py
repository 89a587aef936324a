"""The constants of the paper's theorems on a problem: of the map, of its noise, of the upper level."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sksid.bounds._eigenvalue import largest_eigenvalue, training
from sksid.problem import Problem


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
    def alpha(self) -> float:
        """α = 2/(L + μ)."""
        return 2.0 / (self.L + self.mu)

    @property
    def gap(self) -> float:
        """1 − q = αμ."""
        return self.alpha * self.mu

    @property
    def q(self) -> float:
        """The contraction factor, of the linear system too."""
        return 1.0 - self.gap


@dataclass(frozen=True, kw_only=True)
class Constants(Curvature):
    """The constants of the theorems; m₂ and the Lipschitz constant μ₂ of ∇₂E are zero, as E is free of λ.

    It has all that a Contraction has, and stands for Φ where one is asked for.

    Attributes
    ----------
    L, mu, sigma2 : float
        See Curvature.
    sigma1, distance : float
        See Contraction.
    sigma1_adjoint : float
        V[∂₁Φ̂(w)ᵀv] ≤ σ'₁‖v‖² at every w.
    B : float
        ‖∇₁E(w)‖ ≤ B at every w.
    mu1, nu1, nu2 : float
        Lipschitz constants in w of ∇₁E, ∂₁Φ and ∂₂Φ.
    radius : float
        ‖w_t‖ ≤ radius at every t.
    L_Phi_solution : float
        ‖∂₂Φ(w*)‖ ≤ it.
    row_norm : float, default=1
        The largest norm of a row of A, log λ = A θ + offset: 1 for one λ_j a feature, for groups and for a shared λ.
    mu2, m2 : float, default=0
        Lipschitz constant in w of ∇₂E; V[∂₂Φ̂(w)ᵀv] ≤ m₂‖v‖² at every w. Zero, as said; a map of your own may have others.
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
    row_norm: float = 1.0
    mu2: float = 0.0
    m2: float = 0.0

    @property
    def L_Phi(self) -> float:
        """‖∂₂Φ(w_t)‖ ≤ L_Φ = ν₂ · radius, at every t."""
        return self.nu2 * self.radius

    @property
    def linear_system(self) -> Contraction:
        """The Contraction v ↦ ∂₁Φ(w_t)ᵀv + ∇₁E(w_t), whose fixed point has at most the norm B/(1 − q).

        V ≤ σ'₁‖v‖² ≤ 2σ'₁(‖v*‖² + ‖v − v*‖²), and (1 − q)‖v − v*‖ is at most the change of v by the map.
        """
        sigma2 = 2.0 * self.sigma1_adjoint / self.gap**2
        return Contraction(gap=self.gap, sigma1=sigma2 * self.B**2, sigma2=sigma2, distance=(self.B / self.gap) ** 2)


def data_curvature(problem: Problem, split: int) -> float:
    """The part of L that the data make, for ``curvature`` at several λ: 64 products with the rows and their transpose.

    At most ¼ (two classes) or ½ (more) times the largest eigenvalue of (1/S) Σ s_i x_i x_iᵀ, with a constant feature for an
    intercept. A bound but for rounding, and for a chance of 1e-9 over the (fixed) start vector of the Lanczos method.

    Parameters
    ----------
    problem : Problem
    split : int

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False)
    >>> round(data_curvature(problem, 0), 6)
    0.125
    """
    _, bend, _ = problem.loss.bounds(problem.n_outputs)
    return bend * largest_eigenvalue(problem, training(problem, split)[0])


def row_curvature(problem: Problem, split: int, proba: NDArray) -> float:
    """A bound on the curvature that one training row, drawn alone, gives the data at these probabilities.

    At most n s_i‖x_i‖²/S times 2p_c(1 − p_c) of some class c, or p(1 − p) where there are two, nor more than the loss's own
    bound. With R the largest of all rows, the noise of ∂₁Φ̂ has V[∂₁Φ̂ᵀv] ≤ α²R/b · vᵀHv, H the data's part of the Hessian.

    Parameters
    ----------
    problem, split
        As in ``curvature``.
    proba : ndarray of shape (n_rows, n_outputs)

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False)
    >>> round(row_curvature(problem, 0, proba=np.full((4, 1), 0.5)), 6)
    0.25
    """
    share, squares, n = training(problem, split)
    _, bend, _ = problem.loss.bounds(problem.n_outputs)
    bends = np.minimum(4.0 * bend * np.max(proba * (1.0 - proba), axis=1), bend)
    return float(n * np.max(share * squares * bends, initial=0.0))


def curvature(problem: Problem, split: int, log_penalties: ArrayLike, data: float | None = None) -> Curvature:
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


def constants_of(
    problem: Problem,
    split: int,
    log_penalties: ArrayLike,
    batch_size: int,
    radius: float | None = None,
    structure: Any = None,
) -> Constants:
    """Constants that hold at every w, as rigorous as ``data_curvature``.

    With r the largest ‖∂ℓ/∂z‖² (1; more classes 2), c the largest curvature of ℓ (¼; ½), κ the largest third derivative
    (1/(6√3); √2/(3√3), the third cumulant of a variable of range √2), and Λ(a) the largest eigenvalue of Σ a_i x_i x_iᵀ:

        σ₁ = α²rn/(b S²) Σ s_i²‖x_i‖², σ₂ = 0     σ'₁ = α²c²/b · Λ(n s_i²‖x_i‖²/S²)     ν₁ = ακΛ(s_i‖x_i‖/S)
        B² = rΛ(s_i/Σ_val s), μ₁ = cΛ(s_i/Σ_val s)     ν₂ = α max λ/S     D₀ ≤ min{2 log K/μ, rΛ(s_i/S)/μ²}
        radius = max_i √r n s_i‖x_i‖/(Sμ): a step η ≤ 1 shrinks w by 1 − η(1 − q) at least and adds at most η(1 − q)·radius

    D₀ follows from f(w*) ≤ f(0) = log K and from ∇f(w*) = 0; so does ‖∂₂Φ(w*)‖² ≤ α² min{2 log K max λ/S, rΛ(s_i/S)}. In θ,
    log λ = A θ + offset, ν₂ = α max_j λ_j‖A_j‖/S with the rows A_j, and the last bound has max λ_j‖A_j‖² and max ‖A_j‖²·r.

    Parameters
    ----------
    problem, split, log_penalties
        As in ``curvature``; the problem without intercept.
    batch_size : int
        Rows drawn for each step, of either level.
    radius : float, default=None
        A bound on ‖w_t‖ for L_Φ; None is the one above, which holds for every run with steps up to 1.
    structure : {array-like, sparse array} of shape (n_features, n_params), default=None
        A, where the hypergradient is that in θ; None stands for one λ_j a feature, for groups and for a shared λ.

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
    """
    if problem.fit_intercept:
        raise ValueError(
            "fit_intercept=True: an intercept has no penalty, so the map is not known to be a contraction and no bound holds. "
            "Make the problem with fit_intercept=False; a constant feature with a small penalty can take its place."
        )
    slope, bend, third = problem.loss.bounds(problem.n_outputs)
    data = data_curvature(problem, split)
    curve, norms = curvature(problem, split, log_penalties, data), _row_norms(structure)
    penalties = np.exp(np.asarray(log_penalties, dtype=np.float64)) / problem.train_totals[split]
    share, squares, n = training(problem, split)
    validation = largest_eigenvalue(problem, problem.roles.val_weights(split))
    start, gradient = 2.0 * np.log(problem.n_classes), slope * data / bend
    return Constants(
        L=curve.L,
        mu=curve.mu,
        sigma1=float(curve.alpha**2 * slope * n / batch_size * (share**2 @ squares)),
        sigma1_adjoint=(curve.alpha * bend) ** 2 / batch_size * largest_eigenvalue(problem, n * share**2 * squares),
        B=float(np.sqrt(slope * validation)),
        mu1=bend * validation,
        nu1=curve.alpha * third * largest_eigenvalue(problem, share * np.sqrt(squares)),
        nu2=float(curve.alpha * np.max(penalties * norms)),
        radius=float(n * np.max(share * np.sqrt(slope * squares)) / curve.mu) if radius is None else radius,
        distance=float(min(start / curve.mu, gradient / curve.mu**2)),
        L_Phi_solution=float(curve.alpha * np.sqrt(min(start * np.max(penalties * norms**2), gradient * np.max(norms) ** 2))),
        row_norm=float(np.max(norms)),
    )


def _row_norms(structure):
    """‖A_j‖, (n_features,)."""
    if structure is None:
        return np.ones(1)
    if sp.issparse(structure):
        return np.sqrt(structure.multiply(structure).sum(axis=1))
    return np.linalg.norm(np.asarray(structure, dtype=np.float64), axis=1)


def at_solution(constants: Constants, problem: Problem, split: int, coef: NDArray, batch_size: int) -> Constants:
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

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.problem import make_problem
    >>> problem = make_problem(np.eye(4), [0, 1, 0, 1], [([0, 1], [2, 3])], n_classes=2, fit_intercept=False)
    >>> c = constants_of(problem, 0, log_penalties=0.0, batch_size=1)
    >>> near = at_solution(c, problem, 0, np.array([[-0.401, 0.401, 0.0, 0.0]]), batch_size=1)
    >>> near.sigma1 < c.sigma1, round(near.sigma2, 6)
    (True, 0.25)
    """
    share, squares, n = training(problem, split)
    loss, labels = problem.loss, problem.roles.labels_of(split)
    outputs = problem.rows.outputs(np.asarray(coef, dtype=np.float64).T).T
    residuals = share * loss.gradient(loss.predictions(outputs), labels)
    gradient = np.linalg.norm(problem.rows.pull(residuals.T))
    variance = n * np.sum(residuals**2 * squares) - gradient**2
    _, bend, _ = problem.loss.bounds(problem.n_outputs)
    return replace(
        constants,
        sigma1=float(2.0 * constants.alpha**2 / batch_size * variance),
        sigma2=float(bend * n * np.max(share * squares) / (2.0 * batch_size * constants.mu)),
        distance=float(np.sum(np.square(coef))),
        L_Phi_solution=float(constants.alpha * gradient * constants.row_norm),
    )
