"""
Figure 4 of the paper: a penalty for each word
==============================================

Gradient descent on one penalty for each feature, by hypergradients of 20
epochs each: what it does to the validation loss that it descends on, to the
validation accuracy, and to the test accuracy, which it does not see.
"""

# %%
# Choices of ours: made-up posts in the place of 20 newsgroups
# (``benchmarks/paper_4.py`` is the full size), so that this page needs no
# download. Four topics, 1,000 words of which each topic prefers 40, and posts
# of 40 words. 500 posts train, 500 validate and 2,000 test.

# sphinx_gallery_thumbnail_number = 2
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.preprocessing import normalize

from sksid.problem import make_problem
from sksid.solvers import BATCH, Aid, Dual, Sgd, Steps

n, n_test, n_words, n_topics, n_runs = 500, 2000, 1000, 4, 5
rng = np.random.RandomState(0)
frequencies = np.tile(1.0 / np.arange(3, n_words + 3), (n_topics, 1))
for topic in range(n_topics):
    frequencies[topic, rng.choice(n_words, 40, replace=False)] *= 3
frequencies /= frequencies.sum(axis=1, keepdims=True)
y = rng.randint(n_topics, size=2 * n + n_test)
X = normalize(
    [rng.multinomial(40, frequencies[topic]).astype(float) for topic in y]
)
X_test, y_test = X[2 * n :], y[2 * n :]

# %%
# As in the paper's figure there is no intercept, the regularizer is
# ½·mean(exp(λⱼ) Wⱼₖ²) against a mean loss, which is ``log_penalties`` = λ +
# log(n/pK) here, λ_0 = 0, and the step on λ is 100. A solver goes on from
# where it stood at the λ before. ``dual`` solves both systems at once: its 10
# passes are the same 20 epochs.

constant, n_steps, step_size = Steps("constant"), 15, 100.0
methods = {
    "Batch": (Sgd(BATCH, BATCH), 1),
    "Stoch const": (Sgd(constant, constant), 1),
    "Stoch dec": (Sgd(), 1),
    "Stoch dec 75/25": (Sgd(lower_epochs=15, adjoint_epochs=5), 1),
    "dual": (Dual(), 10),
    "aid": (Aid(max_direct=0, tol=1e-6), 1),
}


def descend(solver, passes, seed):
    """Seconds, loss, and accuracies at each step, (4, n_steps)."""
    halves = np.split(np.random.RandomState(seed).permutation(2 * n), 2)
    problem = make_problem(
        X,
        y,
        [halves],
        n_classes=n_topics,
        fit_intercept=False,
        dtype=np.float64,
        seed=seed,
    )
    penalties, seconds, rows = (
        np.full(n_words, np.log(n / (n_words * n_topics))),
        0.0,
        [],
    )
    state = solver.init(problem, penalties, seed=seed)
    for _ in range(n_steps):
        begin = time.perf_counter()
        state = solver.advance(
            problem, solver.rescale(problem, state, penalties), passes
        )
        penalties = penalties - step_size * solver.log_gradient(problem, state)
        seconds += time.perf_counter() - begin
        W = solver.coefficients(problem, state)[0][0].T
        hits = [
            np.mean((A @ W).argmax(axis=1) == b)
            for A, b in ((X[halves[1]], y[halves[1]]), (X_test, y_test))
        ]
        rows.append(
            (seconds, solver.losses(problem, state, problem)[0], *hits)
        )
    return np.array(rows).T


# %%
# Lines are means of five runs, which vary the halves and the minibatches;
# bands go from the least to the largest.

fig, axes = plt.subplots(
    2, 3, figsize=(14, 8), sharey="col", layout="constrained"
)
for i, (name, (solver, passes)) in enumerate(methods.items()):
    seconds, *measures = np.array(
        [descend(solver, passes, seed) for seed in range(n_runs)]
    ).transpose(1, 0, 2)
    for column, values in zip(axes.T, measures, strict=True):
        for ax, x in zip(
            column,
            (20.0 * np.arange(1, n_steps + 1), seconds.mean(axis=0)),
            strict=True,
        ):
            if name != "aid" or ax is column[1]:
                ax.plot(
                    x,
                    values.mean(axis=0),
                    "--" if name in ("dual", "aid") else "-",
                    color=f"C{i}",
                    label=name,
                )
                ax.fill_between(
                    x,
                    values.min(axis=0),
                    values.max(axis=0),
                    color=f"C{i}",
                    alpha=0.15,
                )
    loss, val, test = np.array(measures).mean(axis=1)
    print(
        f"{name:16s} validation loss {loss[0]:.3f} -> {loss[-1]:.3f}, "
        f"accuracy {val[0]:.1%} -> {val[-1]:.1%}\n{'':16s} test accuracy "
        f"{test[0]:.1%}, best {test.max():.1%}, last {test[-1]:.1%}; "
        f"{seconds[:, -1].mean():.2f} s"
    )
for column, title in zip(
    axes.T,
    ("validation loss", "validation accuracy", "test accuracy"),
    strict=True,
):
    column[0].set(title=title, xlabel="epochs")
    column[1].set(xlabel="seconds", xscale="log")
fig.legend(
    *axes[1, 0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=6,
)
plt.show()

# %%
# The same rows that are descended on, and rows that are not, for two methods.

fig, ax = plt.subplots(layout="constrained")
for column, way, rows in ((1, "-", "validation"), (2, "--", "test")):
    for line in axes[0, column].get_lines():
        if (name := line.get_label()) in ("Batch", "dual"):
            style = {"ls": way, "color": line.get_color(), "lw": 3}
            ax.plot(*line.get_data(), label=f"{name}, {rows} rows", **style)
ax.set(xlabel="epochs", ylabel="accuracy", title="What tuning has learned")
ax.legend()
plt.show()

# %%
# The validation loss falls, and the validation accuracy rises with it; of that
# the test accuracy sees little. A thousand penalties tuned on 500 rows come to
# know those rows. That is no fault of the hypergradient, the better of which
# fit the validation rows the better; it is why
# ``HypergradientSearchCV(structure="per_feature")`` cross-fits: each split's
# penalties are found without its validation rows, which say when to stop.
