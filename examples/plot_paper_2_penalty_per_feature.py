"""
Figure 2 of the paper: one penalty a feature
============================================

The set-up of Figure 1 with λⱼ = exp(εⱼ), εⱼ uniform on [-2, 2]: the
hypergradient is a vector, one entry for each feature.
"""

# %%
# Choices of ours: handwritten digits in the place of MNIST
# (``benchmarks/paper_2.py`` is the full size), half to train and half to
# validate; pixels from 0 to 1, ten classes, no intercept. Each of the ten runs
# draws its own εⱼ, halves and minibatches: these independently, as the
# theorems have them, or ("shuffled") from a new order of the rows in each
# epoch. An epoch is 100 steps of 9 rows, or one of Batch; each point is a
# fresh run from zero, half of its budget for either system.

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
constant, budgets, n_runs = Steps("constant"), (2, 6, 20, 60), 10
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
            ylim=(1e-8, 3),
            title=title,
            xlabel=unit,
            ylabel="squared relative error",
        )
        ax.xaxis.set_minor_formatter("")


# %%
# Lines are means over the runs, bars one standard deviation upwards.

fig, axes = plt.subplots(
    1, 2, figsize=(11, 5), sharey=True, layout="constrained"
)
draw(axes, "λⱼ = exp(εⱼ)", uneven)
fig.legend(
    *axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=6
)
plt.show()

# %%
# The first panel by itself.

fig, ax = plt.subplots(layout="constrained")
for curve, name in zip(*axes[0].get_legend_handles_labels(), strict=True):
    (line, *_), way = curve, "--" if name == "dual" else "-"
    ax.plot(*line.get_data(), way, color=line.get_color(), lw=3, label=name)
ax.set(
    xscale="log",
    yscale="log",
    ylim=axes[0].get_ylim(),
    title="How exact a gradient of 64 entries is",
    xlabel="epochs",
    ylabel="squared relative error",
)
ax.set_xticks(budgets, budgets)
ax.xaxis.set_minor_formatter("")
ax.legend()
plt.show()

# %%
# The largest penalty is some 50 times the smallest, and so the map is
# ill-conditioned: Batch is far behind. Constant steps lead for a few epochs
# and are then at their floor; decreasing steps pass them and go on.
