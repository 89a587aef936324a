"""
Rows that come in groups
========================

Several rows of each patient, speaker or machine: folds that tear them apart
know the answers to their own questions. The score is too good, and the penalty
that they choose is too weak.
"""

# %%
# 60 patients with ten recordings each, 80 features. A feature is mostly who
# the patient is, and to a small part whether he or she is ill.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, KFold

from sksid import HypergradientSearchCV, hypergradient

n_patients, n_recordings, n_features = 60, 10, 80
rng = np.random.default_rng(0)
effect = rng.normal(size=n_features) * 0.25


def recordings(n):
    """Rows of n patients, who is ill, and which rows are whose."""
    ill = rng.integers(0, 2, n)
    person = rng.normal(size=(n, n_features)) + np.outer(ill, effect)
    patient = np.repeat(np.arange(n), n_recordings)
    rows = person[patient] + rng.normal(size=(len(patient), n_features))
    return rows, ill[patient], patient


X, y, patient = recordings(n_patients)
X_new, y_new, _ = recordings(2000)

# %%
# The same search, once with folds of rows and once with folds of patients.
# ``groups`` goes to the splitter through ``fit``, as with ``GridSearchCV``.

folds = {
    "folds of rows": KFold(5, shuffle=True, random_state=0),
    "folds of patients": GroupKFold(5),
}
found = {}
for name, cv in folds.items():
    groups = patient if isinstance(cv, GroupKFold) else None
    search = HypergradientSearchCV(
        LogisticRegression(), structure="shared", cv=cv, random_state=0
    ).fit(X, y, groups=groups)
    found[name] = search.best_params_["C"], -search.best_score_
    test_loss = log_loss(y_new, search.predict_proba(X_new))
    print(
        f"{name:18s} C = {search.best_params_['C']:.4f}   "
        f"says {-search.best_score_:.3f}, "
        f"is {test_loss:.3f} on new patients"
    )

# %%
# Why: what each kind of folds believes at any ``C``, and what is true.

Cs = np.logspace(-4.5, 0, 19)
curves = {"folds of rows": [], "folds of patients": [], "new patients": []}
for C in Cs:
    for name, cv in folds.items():
        groups = patient if isinstance(cv, GroupKFold) else None
        splits = cv.split(X, y, groups)
        value = hypergradient(X, y, splits, -np.log(C), solver="aid").value
        curves[name].append(value)
    model = LogisticRegression(C=C, solver="newton-cholesky").fit(X, y)
    curves["new patients"].append(log_loss(y_new, model.predict_proba(X_new)))

fig, ax = plt.subplots(layout="constrained")
for (name, losses), color in zip(
    curves.items(), ("C1", "C0", "C2"), strict=True
):
    style = "-" if name in found else "--"
    ax.plot(Cs, losses, style, color=color, lw=3, label=name)
    if name in found:
        ax.plot(*found[name], "o", color=color, ms=13, mec="white", mew=1.5)
ax.set(
    xscale="log",
    ylim=(0.25, 1.0),
    xlabel="C, the inverse of the penalty",
    ylabel="log loss",
    title="What folds believe, and what is true",
)
ax.legend()
plt.show()

# %%
# Folds of rows have nine recordings of the very patient whose tenth they
# judge; learning the person by heart pays, and so a weak penalty seems best.
# For new patients it is the wrong one, and the score says nothing of it.
#
# Folds of patients are a little pessimistic, since they learn from fewer
# patients than the final model. Where a search cross-fits, it keeps groups
# together there, too, if the splitter does.
