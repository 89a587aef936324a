"""
Figure 1 of the paper: one penalty
==================================

How exact is the hypergradient of one λ after so many epochs? Batch, constant
and decreasing steps of Grazzi, Pontil and Salzo (AISTATS 2021), and beside
them this package's other solvers, ``dual`` and ``aid``.
"""

# %%
# Choices of ours: handwritten digits in the place of MNIST
# (``benchmarks/paper_1.py`` is the full size), 1,797 rows, half of them to
# train and half to validate; pixels from 0 to 1, ten classes, no intercept;
# four λ of the mean loss, which are λ·n in the sum that sksid minimizes. An
# epoch is 100 steps of 9 rows, or one of Batch; half of a budget goes to
# either system, and each point is a fresh run from zero. Minibatches are drawn
# independently, as the theorems have them: their rate is O(1/t). The line
# "shuffled" goes through a new order of the rows in each epoch, which is
# faster, and the default.

# sphinx_gallery_thumbnail_number = 2
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from sksid import hypergradient
from sksid.solvers import BATCH, Aid, Sgd, Steps

X, y = load_digits(return_X_y=True)
X, n = X / 16, y.size // 2
constant, budgets, n_runs = Steps("constant"), (2, 6, 16, 40), 5
methods = {
    "Batch": Sgd(BATCH, BATCH),
    "Stoch const": Sgd(constant, constant, sampling="iid"),
    "Stoch dec": Sgd(sampling="iid"),
    "Stoch dec, shuffled": Sgd(),
}
calls = {
    name: [
        {
            "solver": replace(
                solver, lower_epochs=b // 2, adjoint_epochs=b // 2
            ),
            "max_epochs": b,
        }
        for b in budgets
    ]
    for name, solver in methods.items()
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
        "structure": "shared",
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
            one_run(penalties, seed, solver=Aid(tol=1e-12))[2]
            for seed in range(n_runs)
        ]
    )[:, None]
    for name, points in calls.items():
        runs = [
            [one_run(penalties, seed, **point) for point in points]
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


def draw(column, title, penalties):
    """Two panels: against epochs, and against seconds."""
    for i, (name, epochs, seconds, mean, std) in enumerate(curves(penalties)):
        style = {
            "fmt": "--o" if name in ("dual", "aid") else "-o",
            "ms": 3,
            "color": f"C{i}",
            "label": name,
        }
        column[1].errorbar(seconds, mean, [0 * std, std], **style)
        if name != "aid":
            column[0].errorbar(epochs, mean, [0 * std, std], **style)
    for ax, unit in zip(column, ("epochs", "seconds"), strict=True):
        ax.set(
            xscale="log",
            yscale="log",
            ylim=(1e-14, 3),
            title=title,
            xlabel=unit,
            ylabel="squared relative error",
        )
        ax.xaxis.set_minor_formatter("")


# %%
# Lines are means over the runs, bars one standard deviation upwards.

fig, axes = plt.subplots(
    2, 4, figsize=(14, 7), sharey=True, layout="constrained"
)
for column, penalty in zip(axes.T, (0.01, 0.1, 1.0, 10.0), strict=True):
    draw(column, f"λ = {penalty:g}", penalty)
fig.legend(
    *axes[1, 0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=6,
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
    title="How exact the hypergradient is, for λ = 0.1",
    xlabel="epochs",
    ylabel="squared relative error",
)
ax.set_xticks(budgets, budgets)
ax.xaxis.set_minor_formatter("")
ax.legend()
plt.show()

# %%
# Where λ is small the map is hardly a contraction, and Batch, one step an
# epoch, barely moves; where λ is large Batch converges fast and overtakes the
# stochastic methods. Constant steps come to a floor that more epochs do not
# lower; where λ is small they are ahead until they reach it. Decreasing steps
# then pass them and go on.
