"""
What leaks when evidence is computed on all rows
================================================

Whatever looks at labels must not see the validation rows. Here is what happens
where it does, with labels of pure noise.
"""

# %%
# 100 rows, 2,000 columns of noise, labels that have nothing to do with them:
# nobody can do better than log 2 = 0.69. By chance some columns go with the
# labels all the same.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from sksid import HypergradientSearchCV
from sksid.descriptors import evidence

random = np.random.default_rng(0)
X, y = random.normal(size=(100, 2000)), np.arange(100) % 2
X_fresh, y_fresh = random.normal(size=(2000, 2000)), np.arange(2000) % 2
splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))

# %%
# A model uses a column in the direction in which it goes with the labels of
# the training rows. Does it go the same way in the validation rows? Columns
# with much evidence in the *training rows* do so no more often than others.
# But columns with much evidence in *all rows* have it because they go the same
# way in both: to prefer them is to have looked at the validation rows. (Each
# dot is a column; orange are the means of tenths of them.)


def direction(rows, of):
    """Each column's correlation with labels, times its sign elsewhere."""
    return np.corrcoef(X[rows].T, y[rows])[-1, :-1] * np.sign(
        np.corrcoef(X[of].T, y[of])[-1, :-1]
    )


train, val = splits[0]
agreement = direction(val, of=train)
figure, axes = plt.subplots(
    1, 2, figsize=(8, 3.6), layout="constrained", sharex=True, sharey=True
)
for ax, (rows, name) in zip(
    axes,
    [(train, "the training rows"), (np.arange(100), "all rows")],
    strict=True,
):
    known = evidence(X[rows], y[rows])
    order = np.argsort(known)
    ax.scatter(known, agreement, s=6, alpha=0.3, color="tab:blue", linewidth=0)
    tenths = [part.mean() for part in np.array_split(known[order], 10)]
    ax.plot(
        tenths,
        [part.mean() for part in np.array_split(agreement[order], 10)],
        "o-",
        color="tab:orange",
    )
    ax.axhline(0.0, color="gray", linewidth=1)
    ax.set(title=f"evidence of {name}", xlabel="log(1 + t²)")
axes[0].set_ylabel(
    "correlation in the validation rows,\n"
    "in the direction of the training rows"
)
plt.show()

# %%
# So a search that is given evidence of all rows, as a matrix that was made
# beforehand, finds that small penalties for these columns predict the
# validation rows. It reports a model that works; on fresh rows that model is
# worse than guessing. ``structure="evidence"``, which is computed on the
# training rows of each split, reports that there is nothing to be found.

column = evidence(X, y)
of_all_rows = np.column_stack(
    [np.ones(2000), (column - column.mean()) / column.std()]
)
for name, structure in {
    "evidence of training rows": "evidence",
    "evidence of all rows": of_all_rows,
}.items():
    search = HypergradientSearchCV(
        LogisticRegression(), structure=structure, cv=splits
    ).fit(X, y)
    fresh = log_loss(y_fresh, search.predict_proba(X_fresh))
    print(
        f"{name:27s} log loss reported {-search.best_score_:.3f}, "
        f"on fresh rows {fresh:.3f}"
    )

# %%
# The same holds for whatever is computed from labels: feature selection,
# target encoding, another model's coefficients. Give the function itself as
# ``structure``, or put the step into the Pipeline, and training rows are all
# that it sees.
