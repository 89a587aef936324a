"""
In place of GridSearchCV
========================

The same model, the same folds, the same score. A grid tries the values of
``C`` that somebody has thought of; the search goes down the slope of the
cross-validated loss to its lowest point.
"""

# %%
# The data are the handwritten digits that ship with scikit-learn: 1,797 images
# of 8 × 8 pixels, ten classes. A third is kept for the test.

import sys
import time
from importlib.util import find_spec

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from threadpoolctl import threadpool_limits

from sksid import HypergradientSearchCV

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=1 / 3, stratify=y, random_state=0
)

# %%
# What you have today, and what takes its place. There is no list of values any
# more, and the log loss is what a search is about unless you say otherwise.
# Five stratified folds are the default of both.

model = LogisticRegression(max_iter=1000)
Cs = np.logspace(-3, 4, 10)
grid = GridSearchCV(model, {"C": Cs}, scoring="neg_log_loss")
search = HypergradientSearchCV(model, structure="shared", random_state=0)

# %%
# From here on they are used alike. BLAS gets one thread: on matrices this
# small more threads only wait for each other, and would slow the grid down.

seconds = {}
for name, tuner in (("grid", grid), ("search", search)):
    begin = time.perf_counter()
    with threadpool_limits(limits=1, user_api="blas"):
        tuner.fit(X_train, y_train)
    seconds[name] = time.perf_counter() - begin
    test_loss = log_loss(y_test, tuner.predict_proba(X_test))
    print(
        f"{name:7s} {len(tuner.cv_results_['params']):3d} values of C "
        f"{seconds[name]:5.2f} s   C = {tuner.best_params_['C']:6.2f}   "
        f"CV loss {-tuner.best_score_:.4f}   test loss {test_loss:.4f}"
    )

# %%
# ``search.best_estimator_`` is a fitted ``LogisticRegression``, as it would be
# after a grid search, and ``cv_results_`` has the same columns. The picture is
# made of these; it needs matplotlib, which sksid itself does not.

if find_spec("matplotlib") is None:
    print("For the picture, install matplotlib.")
    sys.exit()

import matplotlib.pyplot as plt  # noqa: E402


def tried(tuner):
    """The values of C that a tuner has tried, and their losses."""
    results = tuner.cv_results_
    return results["param_C"].astype(float), -results["mean_test_score"]


fig, ax = plt.subplots(layout="constrained")
label = f"grid of {len(Cs)}: {seconds['grid']:.1f} s"
ax.plot(*tried(grid), "o-", color="C0", ms=9, mfc="none", mew=2, label=label)
label = f"search: {seconds['search']:.1f} s"
ax.plot(*tried(search), "o-", color="C1", ms=9, lw=3, label=label)
ax.set(
    xscale="log",
    yscale="log",
    yticks=(0.2, 0.5, 1, 2),
    xlabel="C, the inverse of the penalty",
    ylabel="cross-validated log loss",
    title="The values of a grid, and the steps of a search",
)
ax.yaxis.set_major_formatter("{x:g}")
ax.yaxis.set_minor_formatter("")

# the lowest part again, nearer, with the steps numbered
near = ax.inset_axes((0.42, 0.42, 0.34, 0.4))
near.plot(*tried(grid), "o-", color="C0", ms=9, mfc="none", mew=2)
near.plot(*tried(search), "o", color="C1", ms=7)
for step, place in enumerate(zip(*tried(search), strict=True), 1):
    above = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
    near.annotate(step, place, color="C1", clip_on=True, **above)
best = search.best_params_["C"]
low, high = -search.best_score_ - 0.001, -grid.best_score_ + 0.002
near.set(xscale="log", xlim=(best / 2.2, best * 2.2), ylim=(low, high))
near.set(xticks=(best,), xticklabels=(f"{best:.1f}",))
near.tick_params(which="minor", bottom=False, labelbottom=False)
ax.legend()
plt.show()

# %%
# Every point of the grid costs five fits from zero. A step of the search goes
# on from the models of the step before, and the slope tells it how far to go:
# it needs few steps, spends none of them on values that are far off, and does
# not stop between two values of a list.
#
# Where to go from here: one penalty for *each block* of columns is as little
# work, and there searches along a slope leave grids behind:
# :ref:`sphx_glr_auto_examples_plot_blocks.py`. With text the seconds differ
# more: :ref:`sphx_glr_auto_examples_plot_text.py`.
