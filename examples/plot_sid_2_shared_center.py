"""
SID for any map: what related tasks share
=========================================

Meta-learning: many small regressions, each shrunk towards a center that all
share. The center and the strength of shrinking are the hyperparameters. The
fits take minibatch steps, the linear system conjugate gradient: the two
solvers need not be of a kind.
"""

# %%
# Made tasks: 40 regressions of 15 features, whose coefficients scatter around
# a center; 10 rows train each, 10 validate.

import matplotlib.pyplot as plt
import numpy as np

from sksid.sid import ConjugateGradient, FixedPoint, Map, Outer, differentiate

rng = np.random.default_rng(0)
n_tasks, n_rows, p = 40, 10, 15
center = rng.standard_normal(p)
own = center + 0.3 * rng.standard_normal((n_tasks, p))
X, X_val = rng.standard_normal((2, n_tasks, n_rows, p))
y, y_val = (
    np.einsum("tip,tp->ti", A, own)
    + 0.5 * rng.standard_normal((n_tasks, n_rows))
    for A in (X, X_val)
)

# %%
# Task τ minimizes the mean of ½(x'w_τ − y)² and (e^κ/2)‖w_τ − c‖²; λ holds the
# center c and κ. Φ is a gradient step of all tasks at once, and a draw is
# three rows of each.

alpha = 1 / 25
tasks = np.arange(n_tasks)[:, None]


def rows_of(draw):
    """Of every task: those drawn, or all."""
    return (X, y) if draw is None else (X[tasks, draw], y[tasks, draw])


def step(w, lam, V, target, draw):
    """V less a gradient step, for ``target`` rows or none."""
    A, b = rows_of(draw)
    errors = np.einsum("tip,tp->ti", A, V) - target * b
    return V - alpha * (
        np.einsum("tip,ti->tp", A, errors) / b.shape[1]
        + np.exp(lam[-1]) * (V - target * lam[:-1])
    )


def pull_lam(w, lam, V, draw):
    """In c, and in κ."""
    shrinking = alpha * np.exp(lam[-1])
    return np.append(
        shrinking * V.sum(axis=0), -shrinking * np.sum(V * (w - lam[:-1]))
    )


def errors_of(w):
    """On the validation rows of every task."""
    return np.einsum("tip,tp->ti", X_val, w) - y_val


ridge = Map(
    apply=lambda w, lam, draw: step(w, lam, w, 1.0, draw),
    pull_w=lambda w, lam, V, draw: step(w, lam, V, 0.0, draw),
    pull_hyper=pull_lam,
    draw=lambda rng: rng.integers(n_rows, size=(n_tasks, 3)),
)
outer = Outer(
    value=lambda w, lam, draw: np.mean(errors_of(w) ** 2) / 2,
    grad_w=lambda w, lam, draw: (
        np.einsum("tip,ti->tp", X_val, errors_of(w)) / errors_of(w).size
    ),
)

# %%
# Is it right? A fit that is quadratic may itself be left to conjugate
# gradient; finite differences then show the slope of the whole map. One run
# with minibatches estimates its own error from further runs.

direct, zero = ConjugateGradient(), np.zeros((n_tasks, p))


def exactly(lam):
    """Both systems by conjugate gradient, to convergence."""
    return differentiate(
        ridge,
        outer,
        lam,
        zero,
        lower=direct,
        adjoint=direct,
        n_lower=300,
        n_adjoint=300,
    )


start, direction = np.zeros(p + 1), rng.standard_normal(p + 1)
exact = exactly(start).hypergradient
slope = exact @ direction
difference = (
    exactly(start + 1e-3 * direction).value
    - exactly(start - 1e-3 * direction).value
) / 2e-3
print(f"slope {slope:.6g}, finite difference {difference:.6g}")
noisy = differentiate(
    ridge,
    outer,
    start,
    zero,
    lower=FixedPoint((25.0, 50.0)),
    adjoint=direct,
    n_lower=400,
    n_adjoint=30,
    n_runs=10,
)
true_error = np.sum((noisy.hypergradient - exact) ** 2)
print(f"minibatches: squared error {true_error:.1e}, ", end="")
print(f"estimated {noisy.error.mean:.1e} ± {noisy.error.standard_error:.1e}")

# %%
# The descent, from a center of zero.

lam, w, V, course = start, zero, zero, []
for seed in range(150):
    found = differentiate(
        ridge,
        outer,
        lam,
        w,
        lower=FixedPoint((25.0, 50.0)),
        adjoint=direct,
        n_lower=40,
        n_adjoint=10,
        adjoint_start=V,
        seed=seed,
    )
    w, V = found.w, found.v
    lam = lam - 0.5 * found.hypergradient
    course.append((found.value, np.linalg.norm(lam[:-1] - center)))
course = np.array(course)

# %%
# The center is found, and the tasks gain from one another.

before, after = (
    np.mean((exactly(start).w - own) ** 2),
    np.mean((exactly(lam).w - own) ** 2),
)
first, last = np.linalg.norm(center), course[-1, 1]
print(f"distance from the true center {first:.2f} -> {last:.2f}")
print(f"mean squared error of the coefficients {before:.3f} -> {after:.3f}")
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
axes[0].plot(course[:, 0])
axes[0].set(xlabel="steps on λ", ylabel="validation loss of all tasks")
axes[1].plot(
    [center.min(), center.max()], [center.min(), center.max()], color="gray"
)
axes[1].plot(
    center, own.mean(axis=0), "x", label="mean of the tasks' true coefficients"
)
axes[1].plot(center, lam[:-1], "o", label="center found")
axes[1].set(xlabel="true center", ylabel="found")
axes[1].legend()
plt.show()
