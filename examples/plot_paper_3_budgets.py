"""
Figure 3 of the paper: eight ways to spend a budget
===================================================

SID solves two systems, the lower level and a linear one. The same epochs can
be shared out evenly or not, and the two solvers need not be of a kind.
"""

# %%
# Choices of ours: the eight methods; handwritten digits
# (``benchmarks/paper_3.py`` has MNIST), half to train and half to validate,
# five runs; λ = 0.1 for all features, then λⱼ = exp(εⱼ) with εⱼ uniform on
# [-2, 2], drawn for each run. An epoch is 100 steps of 9 independently drawn
# rows, or one of Batch; each point is a fresh run from zero.

# sphinx_gallery_thumbnail_number = 2
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from sksid import hypergradient
from sksid.solvers import BATCH, Aid, Sgd, Steps

X, y = load_digits(return_X_y=True)
X, n = X / 16, y.size // 2
decreasing, constant, budgets, n_runs = (
    Steps(),
    Steps("constant"),
    (4, 12, 40),
    5,
)
methods = {  # lower level, linear system, share of the lower level
    "Batch": (BATCH, BATCH, 0.5),
    "Stoch const": (constant, constant, 0.5),
    "Stoch dec": (decreasing, decreasing, 0.5),
    "dec + Batch": (decreasing, BATCH, 0.5),
    "Batch + dec": (BATCH, decreasing, 0.5),
    "Batch 75/25": (BATCH, BATCH, 0.75),
    "Stoch const 75/25": (constant, constant, 0.75),
    "Stoch dec 75/25": (decreasing, decreasing, 0.75),
}
calls = {
    name: [
        {
            "solver": Sgd(lower, linear, int(s * b), b - int(s * b), "iid"),
            "max_epochs": b,
        }
        for b in budgets
    ]
    for name, (lower, linear, s) in methods.items()
}
calls["dual"] = [
    {"solver": "dual", "tol": 0, "max_epochs": b // 2} for b in budgets
]
calls["aid"] = [
    {"solver": Aid(max_direct=0, tol=tol)} for tol in (1e-3, 1e-5, 1e-7)
]

# %%
# ``dual`` solves both systems in one pass, which counts as two epochs.
# ``aid``, Newton's method with conjugate gradient, runs to a tolerance and not
# for a budget, so it has a place in seconds only. Seconds are of the whole
# call, the constants from which the step sizes come included. The error is
# squared, and relative to a converged hypergradient.


def one_run(penalties, seed, **settings):
    """Epochs, seconds and hypergradient on the halves of this seed."""
    order = np.random.RandomState(seed).permutation(y.size)
    settings |= {
        "fit_intercept": False,
        "random_state": seed,
        "structure": "per_feature",
    }
    begin = time.perf_counter()
    found = hypergradient(
        X, y, [(order[:n], order[n:])], np.log(penalties * n), **settings
    )
    return found.n_epochs, time.perf_counter() - begin, found.theta_gradient


def curves(penalties):
    """For each method mean epochs and seconds; the errors' mean and spread."""
    exact = np.array(
        [
            one_run(penalties(seed), seed, solver=Aid(tol=1e-12))[2]
            for seed in range(n_runs)
        ]
    )[:, None]
    for name, points in calls.items():
        runs = [
            [one_run(penalties(seed), seed, **point) for point in points]
            for seed in range(n_runs)
        ]
        epochs, seconds, found = (
            np.array([[point[i] for point in run] for run in runs])
            for i in range(3)
        )
        errors = np.sum((found - exact) ** 2, axis=2) / np.sum(
            exact**2, axis=2
        )
        yield (
            name,
            (2 if name == "dual" else 1) * epochs.mean(axis=0),
            seconds.mean(axis=0),
            errors.mean(0),
            errors.std(0),
        )


def uneven(seed):
    """λⱼ = exp(εⱼ) of this run."""
    random = np.random.RandomState(100 + seed)
    return np.exp(random.uniform(-2, 2, X.shape[1]))


def draw(column, title, penalties):
    """Two panels: against epochs, and against seconds."""
    print(title + ", errors at the end:")
    for i, (name, epochs, seconds, mean, std) in enumerate(curves(penalties)):
        style = {
            "fmt": "--o" if name in ("dual", "aid") else "-o",
            "ms": 3,
            "color": f"C{i}",
            "label": name,
        }
        print(f"  {name:18s} {mean[-1]:.1e}")
        column[1].errorbar(seconds, mean, [0 * std, std], **style)
        if name != "aid":
            column[0].errorbar(epochs, mean, [0 * std, std], **style)
    for ax, unit in zip(column, ("epochs", "seconds"), strict=True):
        ax.set(
            xscale="log",
            yscale="log",
            ylim=(1e-8, 3),
            title=title,
            xlabel=unit,
            ylabel="squared relative error",
        )
        ax.xaxis.set_minor_formatter("")


# %%
# Lines are means over the runs, bars one standard deviation upwards.

fig, axes = plt.subplots(
    2, 2, figsize=(12, 10), sharey=True, layout="constrained"
)
draw(axes[:, 0], "λ = 0.1", lambda seed: np.full(X.shape[1], 0.1))
draw(axes[:, 1], "λⱼ = exp(εⱼ)", uneven)
fig.legend(
    *axes[1, 0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=5,
)
plt.show()

# %%
# One of the panels by itself.

fig, ax = plt.subplots(layout="constrained")
for curve, name in zip(*axes[0, 1].get_legend_handles_labels(), strict=True):
    (line, *_), way = curve, "--" if name == "dual" else "-"
    ax.plot(*line.get_data(), way, color=line.get_color(), lw=3, label=name)
ax.set(
    xscale="log",
    yscale="log",
    ylim=axes[0, 1].get_ylim(),
    title="Eight ways to spend the same epochs",
    xlabel="epochs",
    ylabel="squared relative error",
)
ax.set_xticks(budgets, budgets)
ax.xaxis.set_minor_formatter("")
fig.legend(loc="outside right upper")
plt.show()

# %%
# A method is about as good as the worse of its two halves: "dec + Batch", with
# a good w and a poor v, gains little on Batch, and so does "Batch + dec". How
# the budget is shared matters less than which steps it is spent on.
