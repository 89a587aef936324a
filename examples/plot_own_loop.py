"""
Your own outer loop
===================

``sksid.hypergradient`` gives the cross-validated loss at any penalties, and
its slope. Whatever takes a function and a gradient can do the rest; here it is
an optimizer of SciPy.
"""

# %%
# Breast cancer: the ten worst values of each tumor, and their 55 products and
# squares. Two hyperparameters, log λ of the former and of the latter.

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import PolynomialFeatures, scale

from sksid import HypergradientSearchCV, hypergradient

X, y = load_breast_cancer(return_X_y=True)
X = PolynomialFeatures(2, include_bias=False).fit_transform(scale(X[:, 20:]))
X = scale(X)
block = np.repeat([0, 1], [10, 55])
folds = list(StratifiedKFold(5).split(X, y))


def value_and_slope(theta):
    """The folds' mean log loss, and its gradient in the two log penalties."""
    found = hypergradient(
        X, y, folds, theta[block], structure=block, solver="aid"
    )
    return found.value, found.theta_gradient


# %%
# ``structure=block`` adds the gradient up over the columns of each block.
# ``jac=True`` tells the optimizer that value and gradient come together.

start = np.array([4.0, 4.0])
trace = [start]
best = minimize(
    value_and_slope,
    start,
    jac=True,
    method="BFGS",
    options={"gtol": 1e-4},
    callback=lambda intermediate_result: trace.append(intermediate_result.x),
)
trace = np.array(trace)
print(
    f"{best.nfev} hypergradients, log loss {best.fun:.4f} at log λ = "
    f"{best.x[0]:.2f} and {best.x[1]:.2f}"
)

# %%
# The landscape in which it moved, and the slope all over it. Each arrow has
# cost one more linear system than the value alone, and would have cost no more
# with a thousand hyperparameters.

axis = np.linspace(-5, 6, 12)
found = [[value_and_slope(np.array([u, v])) for u in axis] for v in axis]
values = np.array([[value for value, _ in row] for row in found])
slopes = np.array([[slope for _, slope in row] for row in found])
downhill = -slopes / np.linalg.norm(slopes, axis=2, keepdims=True) ** 0.7

fig, ax = plt.subplots(figsize=(7, 5.6), layout="constrained")
levels = np.geomspace(values.min(), values.max(), 14)
drawn = ax.contourf(axis, axis, values, levels, cmap="viridis_r", alpha=0.75)
fig.colorbar(drawn, ax=ax, label="cross-validated log loss", format="%.2f")
u, v = downhill.transpose(2, 0, 1)
ax.quiver(axis, axis, u, v, color="white", alpha=0.8, width=0.004)
ax.plot(*trace.T, "o-", color="black", ms=5, lw=2)
ax.plot(*best.x, "*", color="C1", ms=24, mec="black")
ax.annotate("start", start, (8, 6), textcoords="offset points", color="black")
ax.set(
    xlabel="log λ of the measurements",
    ylabel="log λ of their products",
    title="Downhill on the cross-validated loss",
)
plt.show()

# %%
# ``HypergradientSearchCV`` comes to the same place. It has an optimizer of its
# own, which knows how exact a gradient must be at each step, and starts from
# the best penalty for all:

search = HypergradientSearchCV(
    LogisticRegression(), structure=block, cv=folds, random_state=0
).fit(X, y)
print(f"{search.n_iter_} steps, log loss {-search.best_score_:.4f}")

# %%
# The function is for what a search does not do: penalties that are tied to one
# another in a way of your own, a prior on them, a loop that also moves
# something else. What it returns has the coefficients of the folds, too, and
# the solutions of the linear systems.
