"""
Why per-feature CV scores lie
=============================

Cross-validation is honest as long as it judges a handful of candidates. Let it
choose hundreds of penalties, and it starts to believe its own rows.
"""

# %%
# 400 rows to learn from, 200 columns of which five matter, and 20,000 rows
# that nobody sees before the end.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from sksid import HypergradientSearchCV, hypergradient

rng = np.random.default_rng(0)
X = rng.normal(size=(20_400, 200))
y = rng.random(len(X)) < 1 / (1 + np.exp(-X[:, :5].sum(axis=1) / 2))
X, X_test, y, y_test = X[:400], X[400:], y[:400], y[400:]
folds = list(StratifiedKFold(5).split(X, y))

# %%
# First, one penalty for all: one hyperparameter, chosen by 400 rows. From
# there a descent with one penalty for each column, on the five folds' loss.
# After every step we look at what it has: the loss of the folds' models on
# their validation rows, and the loss of the *same* models on unseen rows.

shared = HypergradientSearchCV(
    LogisticRegression(), structure="shared", cv=folds
).fit(X, y)


def on_unseen_rows(found):
    """Mean loss of the folds' models on the test rows."""
    outputs = X_test @ found.coef[:, 0].T + found.intercept[:, 0]
    losses = np.logaddexp(0, np.where(y_test[:, None], -outputs, outputs))
    return losses.mean()


log_penalties = np.log(shared.penalties_)
believed, true = [], []
for _ in range(40):
    found = hypergradient(X, y, folds, log_penalties, solver="aid")
    believed.append(found.value)
    true.append(on_unseen_rows(found))
    step = found.gradient / np.abs(found.gradient).max()
    log_penalties = log_penalties - 0.5 * step

print(f"what the folds believe: {believed[0]:.3f} -> {believed[-1]:.3f}")
print(f"on unseen rows:         {true[0]:.3f} -> {true[-1]:.3f}")

# %%
# What the search does instead is to *cross-fit*: for each fold, the penalties
# are found on the other folds alone, and its rows judge, once, what was found
# without them. That score is ``best_score_``.

honest = HypergradientSearchCV(
    LogisticRegression(), structure="per_feature", cv=folds, random_state=0
).fit(X, y)
honest_test = log_loss(y_test, honest.predict_proba(X_test))
print(f"cross-fitted: says {-honest.best_score_:.3f}, is {honest_test:.3f}")

fig, ax = plt.subplots(layout="constrained")
steps = np.arange(len(true))
ax.fill_between(steps, believed, true, color="C1", alpha=0.15, lw=0)
ax.plot(steps, true, "C0", lw=3)
ax.plot(steps, believed, "C1", lw=3)
ax.axhline(np.log(2), color="0.5", ls=":", lw=1)
ax.axhline(honest_test, color="C2", ls="--", lw=1.5)
bold = {"ha": "center", "va": "center", "weight": "bold"}
text = "what these models do\non unseen rows"
ax.text(9, true[19], text, color="C0", **bold)
ax.text(24, believed[-1] - 0.04, "what the folds believe", color="C1", **bold)
end = {"ha": "right", "va": "bottom"}
ax.text(48, np.log(2), "a coin", color="0.5", **end)
ax.text(48, honest_test, "cross-fitted", color="C2", weight="bold", **end)
ax.set(
    xlim=(0, 48),
    ylim=(min(believed) - 0.07, None),
    xticks=range(0, 41, 10),
    xlabel="steps of the descent on 200 penalties",
    ylabel="log loss",
)
plt.show()

# %%
# The first steps help: they learn which columns matter. Then there is nothing
# left to learn but the validation rows themselves, and the folds follow them,
# down to models that are worse than a coin. The more rows there are for each
# penalty the later it turns, but it turns.
#
# Nothing of this is particular to gradients. Whoever tries enough settings and
# reports the best cross-validated score is on the same slope, only slower.
# Where a search has cross-fitted, ``cv_results_["is_nested"]`` tells which of
# its scores are of that kind:

for stage in honest.stages_:
    own = honest.cv_results_["structure"] == stage.structure
    nested = bool(honest.cv_results_["is_nested"][own].all())
    print(f"{stage.structure:18s} nested scores: {nested}")
