"""
Watching a search
=================

What it is doing and what each stage has brought; how the model would do on
other rows if the search ended now; and how to make it end in time.
"""

# %%
# A search with three stages: one penalty for all columns, penalties that
# follow what each column says of the class alone, and one for each column.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.callback import ScoringMonitor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from sksid import HypergradientSearchCV, HypergradientSearchDisplay
from sksid.callbacks import TimeBudget

rng = np.random.default_rng(2)
truth = np.r_[np.linspace(1.0, 0.2, 15) * (-1) ** np.arange(15), np.zeros(85)]
X = rng.normal(size=(20_900, 100))
y = rng.random(len(X)) < 1 / (1 + np.exp(-X @ truth))
X, X_new, y, y_new = X[:900], X[900:], y[:900], y[900:]

# %%
# scikit-learn's own callbacks follow a search. ``ScoringMonitor`` gets at each
# step the model with which the search would end there. It is meant to be
# scored on the training rows, but a scorer may look at any rows it likes:


def on_new_rows(model, X, y):
    """A scorer that has rows of its own."""
    return {"new rows": log_loss(y_new, model.predict_proba(X_new))}


watcher = ScoringMonitor(scoring=on_new_rows)
search = HypergradientSearchCV(
    LogisticRegression(), structure="per_feature", random_state=0
)
search.set_callbacks(watcher).fit(X, y)

# %%
# ``HypergradientSearchDisplay`` draws the search: each fold a faint line,
# their mean a strong one, each stage named where it begins, with what it has
# changed in the loss and the standard error of that. On top, what the
# callback has logged: the loss on 20,000 rows that no fold knows.

log = watcher.get_logs().data
steps = [entry for entry in log if entry["task_name"] == "outer-step"]

fig, ax = plt.subplots(layout="constrained")
HypergradientSearchDisplay.from_estimator(search, ax=ax)
ax.plot([entry["new rows"] for entry in steps], "C2--", label="new rows")
ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, -0.32))
plt.show()

# %%
# The folds differ from each other by far more than a stage brings, and yet the
# stages can be judged: what counts is the difference *within* each fold.
# ``stages_`` has the numbers.

for stage in search.stages_[1:]:
    print(
        f"{stage.structure:18s} gain {stage.gain:.4f} ± "
        f"{stage.standard_error:.4f}, kept: {stage.kept}"
    )

# %%
# A search can be told to come to an end. ``TimeBudget`` looks at the clock
# after each step; what has been found until then is solved to convergence and
# refitted, so the result is a whole model. Ctrl-C does the same.

for seconds in (0.0, 0.1, 60.0):
    brief = HypergradientSearchCV(LogisticRegression(), random_state=0)
    begin = time.perf_counter()
    brief.set_callbacks(TimeBudget(seconds)).fit(X, y)
    print(
        f"budget {seconds:4.1f} s: took {time.perf_counter() - begin:.2f} s, "
        f"{brief.n_iter_:2d} steps, {brief.structure_.name:18s} "
        f"loss on new rows "
        f"{log_loss(y_new, brief.predict_proba(X_new)):.4f}"
    )

# %%
# A callback of your own needs four methods (``setup``, ``teardown``,
# ``on_fit_task_begin``, ``on_fit_task_end``); if the last one returns
# ``True``, the search ends there. ``sklearn.callback.ProgressBar`` works as
# well, and ``verbose=1`` prints a line for each step.
