"""
SID for any map: which labels are wrong?
========================================

Hyper-cleaning: each training row has a weight, the weights are
hyperparameters, and a few rows with labels that are known to be right tell
which others to trust. ``sksid.sid`` asks for a random draw of the fit's own
gradient step, and for its products.
"""

# %%
# Handwritten digits. 600 rows train, and 240 of their labels have been
# replaced by random ones; 300 rows with right labels validate, the others
# test.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit, softmax
from sklearn.datasets import load_digits

from sksid.sid import FixedPoint, Map, Outer, differentiate

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
order = rng.permutation(y.size)
X, y = X[order] / 16, y[order]
X = np.column_stack([X - X.mean(axis=0), np.ones(y.size)])
n, n_val, batch = 600, 300, 60
train, val, test = np.split(np.arange(y.size), [n, n + n_val])
wrong = rng.permutation(n) < 240
targets = np.eye(10)[np.where(wrong, rng.integers(10, size=n), y[:n])]

# %%
# The fit is min over W of (1/n) Σ_i σ(λ_i) ℓ_i(W) + (ρ/2)‖W‖², and Φ a step of
# length α on its gradient. A draw is a minibatch; without one the rows are
# all.

rho = 0.02
alpha = 2 / (0.5 * np.linalg.eigvalsh(X[:n].T @ X[:n] / n)[-1] + 2 * rho)


def rows_of(draw):
    """Of a minibatch, or all."""
    return np.arange(n) if draw is None else draw


def apply(W, lam, draw):
    """Φ̂: one step of the fit."""
    rows = rows_of(draw)
    slopes = softmax(X[rows] @ W, axis=1) - targets[rows]
    return W - alpha * (
        X[rows].T @ (expit(lam[rows])[:, None] * slopes) / rows.size + rho * W
    )


def pull_w(W, lam, V, draw):
    """Its derivative in W, which is symmetric, times V."""
    rows = rows_of(draw)
    p, bent = softmax(X[rows] @ W, axis=1), X[rows] @ V
    bent = p * (bent - (p * bent).sum(axis=1, keepdims=True))
    return V - alpha * (
        X[rows].T @ (expit(lam[rows])[:, None] * bent) / rows.size + rho * V
    )


def pull_lam(W, lam, V, draw):
    """Its derivative in λ, transposed, times V: of each row its own."""
    slopes = softmax(X[:n] @ W, axis=1) - targets
    return (
        -alpha
        / n
        * expit(lam)
        * expit(-lam)
        * ((X[:n] @ V) * slopes).sum(axis=1)
    )


def loss(W, lam, draw):
    """E: the mean log loss on the validation rows."""
    return -np.log(
        softmax(X[val] @ W, axis=1)[np.arange(n_val), y[val]]
    ).mean()


def loss_gradient(W, lam, draw):
    """∇₁E."""
    return (
        X[val].T @ (softmax(X[val] @ W, axis=1) - np.eye(10)[y[val]]) / n_val
    )


cleaning = Map(
    apply, pull_w, pull_lam, draw=lambda rng: rng.integers(n, size=batch)
)
outer = Outer(loss, loss_gradient)

# %%
# Is it right? With all rows in each step and many steps, the hypergradient is
# the slope of the whole map λ → w(λ) → E, which finite differences show along
# a random direction.


def exactly(lam):
    """Value and hypergradient, as far as they matter, without draws."""
    whole = FixedPoint(sampled=False)
    return differentiate(
        cleaning,
        outer,
        lam,
        np.zeros((65, 10)),
        lower=whole,
        adjoint=whole,
        n_lower=800,
        n_adjoint=800,
    )


start, direction = np.full(n, 1.0), rng.standard_normal(n)
slope = exactly(start).hypergradient @ direction
difference = (
    exactly(start + 0.01 * direction).value
    - exactly(start - 0.01 * direction).value
) / 0.02
print(f"slope {slope:.6g}, finite difference {difference:.6g}")

# %%
# Now the descent: 100 minibatch steps for the fit and 100 for the linear
# system, both from where they stood, then a step on λ.


def accuracy(W):
    """On the test rows."""
    return np.mean((X[test] @ W).argmax(axis=1) == y[test])


lam, W, V, course = np.full(n, 1.0), np.zeros((65, 10)), np.zeros((65, 10)), []
noisy = FixedPoint((20.0, 40.0))
for step in range(120):
    found = differentiate(
        cleaning,
        outer,
        lam,
        W,
        lower=noisy,
        adjoint=noisy,
        n_lower=100,
        n_adjoint=100,
        adjoint_start=V,
        seed=step,
    )
    W, V = found.w, found.v
    lam -= 0.3 * found.hypergradient / np.abs(found.hypergradient).max()
    course.append((found.value, accuracy(W)))
course = np.array(course)

# %%
# Rows whose label is wrong lose their weight.

weights = [expit(lam[rows]).mean() for rows in (~wrong, wrong)]
print("mean weight: right label {:.2f}, wrong label {:.2f}".format(*weights))
trusted = lam > np.quantile(lam, 0.4)
print(f"wrong labels: {wrong.mean():.0%} of all rows, ", end="")
print(f"{wrong[trusted].mean():.0%} of the 60% most trusted")
before, after = accuracy(exactly(start).w), accuracy(exactly(lam).w)
print(f"test accuracy of the fit {before:.1%} -> {after:.1%}")
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
axes[0].hist(
    [expit(lam[~wrong]), expit(lam[wrong])],
    bins=20,
    stacked=True,
    label=["right label", "wrong label"],
)
axes[0].set(xlabel="weight of a training row", ylabel="rows")
axes[0].legend()
axes[1].plot(course[:, 0], label="validation loss")
axes[1].plot(course[:, 1], label="test accuracy")
axes[1].set(xlabel="steps on λ")
axes[1].legend()
plt.show()
