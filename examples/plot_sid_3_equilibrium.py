"""
SID for any map: an equilibrium model
=====================================

A model whose state is where a map comes to rest: each row has the state z =
tanh(Az + Ux + b), and a logistic regression reads it. No loss is minimized on
the way to z, the map's derivative is not symmetric, and A, U, b and the reader
are all "λ".
"""

# %%
# Two classes that no line separates. ‖A‖ is kept below 1, so that the map is a
# contraction.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit
from sklearn.datasets import make_moons

from sksid.sid import FixedPoint, Map, Outer, differentiate

X, y = make_moons(300, noise=0.2, random_state=0)
n, size, batch = 200, 6, 50
X_train, y_train, X_test, y_test = X[:n], y[:n], X[n:], y[n:]
shapes = {
    "A": (size, size),
    "U": (size, 2),
    "b": (size,),
    "reader": (size + 1,),
}
ends = np.cumsum([np.prod(shape) for shape in shapes.values()])


def parts(lam):
    """A, U, b and the reader, from one vector."""
    return [
        part.reshape(shape)
        for part, shape in zip(
            np.split(lam, ends[:-1]), shapes.values(), strict=True
        )
    ]


# %%
# A draw is a minibatch of rows, whose states alone move: Φ̂(z) = z +
# (n/batch)·(Φ(z) − z) for these rows, so that the mean over draws is Φ. Its
# noise vanishes at the fixed point, so that a constant step of batch/n
# converges: each drawn row then takes one step of the map.


def rates(draw):
    """By how much a step moves each row."""
    return (
        np.ones((n, 1))
        if draw is None
        else n / batch * np.isin(np.arange(n), draw)[:, None]
    )


def settle(z, lam):
    """Φ."""
    A, U, b, _ = parts(lam)
    return np.tanh(z @ A.T + X_train @ U.T + b)


def apply(z, lam, draw):
    """Φ̂."""
    return z + rates(draw) * (settle(z, lam) - z)


def pull_w(z, lam, v, draw):
    """Its derivative in z, transposed, times v."""
    bent = rates(draw) * (1 - settle(z, lam) ** 2) * v
    return v - rates(draw) * v + bent @ parts(lam)[0]


def pull_lam(z, lam, v, draw):
    """The derivative of Φ in λ, transposed, times v."""
    bent = (1 - settle(z, lam) ** 2) * v
    return np.concatenate(
        [
            (bent.T @ z).ravel(),
            (bent.T @ X_train).ravel(),
            bent.sum(axis=0),
            np.zeros(size + 1),
        ]
    )


# %%
# The outer loss reads the states. It depends on λ directly, too.


def scores(z, lam):
    """What the reader makes of states."""
    reader = parts(lam)[3]
    return z @ reader[:-1] + reader[-1]


def loss(z, lam, draw):
    """E: the mean log loss."""
    return np.mean(np.logaddexp(0, -(2 * y_train - 1) * scores(z, lam)))


def slopes(z, lam):
    """Of E in the scores."""
    return (expit(scores(z, lam)) - y_train) / n


def grad_z(z, lam, draw):
    """∇₁E."""
    return slopes(z, lam)[:, None] * parts(lam)[3][:-1]


def grad_lam(z, lam, draw):
    """∇₂E."""
    return np.concatenate(
        [np.zeros(ends[2]), slopes(z, lam) @ z, [slopes(z, lam).sum()]]
    )


equilibrium = Map(
    apply,
    pull_w,
    pull_lam,
    draw=lambda rng: rng.choice(n, batch, replace=False),
)
outer = Outer(loss, grad_z, grad_lam)

# %%
# Is it right? Finite differences of the whole map along a random direction.


def exactly(lam):
    """Both systems without draws."""
    whole = FixedPoint(sampled=False)
    return differentiate(
        equilibrium,
        outer,
        lam,
        np.zeros((n, size)),
        lower=whole,
        adjoint=whole,
    )


rng = np.random.default_rng(0)
start, direction = (
    0.3 * rng.standard_normal(ends[-1]),
    rng.standard_normal(ends[-1]),
)
slope = exactly(start).hypergradient @ direction
difference = (
    exactly(start + 1e-3 * direction).value
    - exactly(start - 1e-3 * direction).value
) / 2e-3
print(f"slope {slope:.6g}, finite difference {difference:.6g}")

# %%
# Training: plain gradient descent; the states go on from where they were, the
# linear system takes a few steps of the whole map.

lam, z, v, course = start, np.zeros((n, size)), np.zeros((n, size)), []
for step in range(600):
    found = differentiate(
        equilibrium,
        outer,
        lam,
        z,
        lower=FixedPoint(batch / n),
        adjoint=FixedPoint(sampled=False),
        n_lower=12,
        n_adjoint=6,
        adjoint_start=v,
        seed=step,
    )
    z, v = found.w, found.v
    lam = lam - 2.0 * found.hypergradient
    A = lam[: ends[0]].reshape(size, size)
    lam[: ends[0]] *= min(1.0, 0.9 / np.linalg.norm(A, 2))
    course.append(found.value)

# %%
# The boundary that it draws, next to the course of the loss.


def predict(points):
    """Classes of new points, from states at rest."""
    A, U, b, _ = parts(lam)
    z = np.zeros((len(points), size))
    for _ in range(200):
        z = np.tanh(z @ A.T + points @ U.T + b)
    return scores(z, lam) > 0


accuracy = np.mean(predict(X_test) == y_test)
print(f"training loss {course[0]:.3f} -> {course[-1]:.3f}")
print(f"test accuracy {accuracy:.0%}")
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
axes[0].semilogy(course)
axes[0].set(xlabel="steps on λ", ylabel="training loss")
grid = np.stack(
    np.meshgrid(np.linspace(-2, 3, 100), np.linspace(-1.5, 2, 100)), axis=-1
)
axes[1].contourf(
    *grid.transpose(2, 0, 1),
    predict(grid.reshape(-1, 2)).reshape(100, 100),
    alpha=0.3,
    levels=1,
)
axes[1].scatter(*X_test.T, c=y_test, s=15)
plt.show()
