"""The constants of the paper's theorems on a problem, the step sizes they allow and the error bounds they give.

Of one split without intercept, divided by its total training weight S (Grazzi, Pontil, Salzo, AISTATS 2021):

    f(w) = (1/S) Σ_train s_i ℓ_i(w) + ½ Σ_j (λ_j/S) ‖W_j‖²,   Φ(w) = w − α∇f(w),   α = 2/(L + μ),   q = (L − μ)/(L + μ)

Φ̂ takes n/S times the mean of s_i∇ℓ_i over ``batch_size`` of the n training rows, drawn independently and uniformly, and the
exact regularizer. From zero, t times w ← (1 − η)w + ηΦ̂(w), then k times v ← (1 − η)v + η(∂₁Φ̂(w_t)ᵀv + ∇₁E(w_t)); the
hypergradient in log λ is ∂₂Φ(w_t)ᵀv_k, with entries −(α/S) λ_j⟨W_j, V_j⟩: free of data, so m₂ = 0. Below, ‖·‖ is the
Euclidean or the spectral norm, V[·] is E‖· − E·‖², and D₀ = E‖w_0 − w*‖².
"""

from sksid.bounds._constants import (
    Constants,
    Contraction,
    Curvature,
    at_solution,
    constants_of,
    curvature,
    data_curvature,
    row_curvature,
)
from sksid.bounds._theorems import (
    constant,
    corollary_4_1,
    decreasing,
    theorem_3_1,
    theorem_3_2,
    theorem_3_3,
    theorem_3_4,
    theorem_4_1,
    theorem_4_2,
    theorem_4_3,
)

__all__ = [
    "Constants",
    "Contraction",
    "Curvature",
    "at_solution",
    "constant",
    "constants_of",
    "corollary_4_1",
    "curvature",
    "data_curvature",
    "decreasing",
    "row_curvature",
    "theorem_3_1",
    "theorem_3_2",
    "theorem_3_3",
    "theorem_3_4",
    "theorem_4_1",
    "theorem_4_2",
    "theorem_4_3",
]
