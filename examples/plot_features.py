"""
Which features matter
=====================

One penalty holds back what is noise and what is signal alike. With one penalty
for each feature, noise can be pressed to zero without pressing the rest, and
the penalties themselves say which is which.
"""

# %%
# Made data, so that the truth is known: 60 columns of unit variance, of which
# the first ten matter. 600 rows to learn from, and many to test on.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from sksid import CoefficientDisplay, HypergradientSearchCV, PenaltyDisplay

rng = np.random.default_rng(0)
n_train, n_test, n_features, n_signals = 600, 20_000, 60, 10
truth = np.zeros(n_features)
truth[:n_signals] = np.linspace(1.0, 0.3, n_signals) * (-1) ** np.arange(10)
X = rng.normal(size=(n_train + n_test, n_features))
y = rng.random(len(X)) < 1 / (1 + np.exp(-X @ truth))
kinds = np.where(truth, "signal", "noise")

# %%
# One penalty for all, and one for each. So many penalties would overfit the
# rows that choose them; so they are cross-fitted unless you forbid it.

searches = {}
for structure in ("shared", "per_feature"):
    search = HypergradientSearchCV(
        LogisticRegression(), structure=structure, random_state=0
    ).fit(X[:n_train], y[:n_train])
    searches[structure] = search
    coef = search.best_estimator_.coef_.ravel()
    test_loss = log_loss(y[n_train:], search.predict_proba(X[n_train:]))
    print(
        f"{structure:12s} CV loss {-search.best_score_:.3f}   "
        f"test loss {test_loss:.3f}   "
        f"error of the coefficients {np.linalg.norm(coef - truth):.2f}"
    )

# %%
# Before and after: what a coefficient is under one penalty, against what it is
# under its own. Signals move outwards, to where they belong; noise moves to
# the line at zero.

before = searches["shared"].best_estimator_.coef_.ravel()
after = searches["per_feature"].best_estimator_.coef_.ravel()
fig, ax = plt.subplots(figsize=(6, 5.4), layout="constrained")
for kind, color in (("noise", "0.5"), ("signal", "C1")):
    own = np.flatnonzero(kinds == kind)
    CoefficientDisplay(before[own], after[own], own, name=kind).plot(
        ax=ax, n_named=n_signals * (kind == "signal"), color=color, ms=9
    )
ax.set(
    xlabel="coefficient with one penalty for all",
    ylabel="coefficient with a penalty of its own",
)
plt.show()

# %%
# The penalties are a ranking; x0 to x9 are the signals. Nobody has set a
# threshold: each penalty went where the validation losses wanted it.

fig, ax = plt.subplots(figsize=(7, 5.4), layout="constrained")
display = PenaltyDisplay.from_estimator(searches["per_feature"], ax=ax)
plt.show()

n_found = np.count_nonzero(
    kinds[np.argsort(searches["per_feature"].penalties_)[:n_signals]]
    == "signal"
)
print(f"{n_found} of the {n_signals} smallest penalties are of signals")

# %%
# A large penalty says that a column was of no use beside the others, not that
# it has nothing to do with the class: two columns that say the same share the
# work, or one of them does it all.
#
# With few rows, ask less of them: ``structure="evidence"`` gives each feature
# a penalty by what it says of the class alone, with two hyperparameters
# instead of one for each column. And do not forbid the cross-fitting:
# :ref:`sphx_glr_auto_examples_plot_scores_that_lie.py` shows why.
