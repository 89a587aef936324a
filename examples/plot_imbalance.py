"""
Rare classes and weights
========================

``class_weight="balanced"``, or leaving most of the common class out: both are
usual where one class is rare, and both multiply every risk that the model
reports. Sample weights put it right.
"""

# %%
# 40,000 rows of which a few in a hundred are positive, and 200,000 to see what
# the reported risks are worth.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from sksid import HypergradientSearchCV

rng = np.random.default_rng(0)
truth = np.r_[rng.normal(size=15) / 2, np.zeros(45)]


def draw(n):
    """Rows, and which of them are positive."""
    rows = rng.normal(size=(n, len(truth)))
    return rows, (rng.random(n) < 1 / (1 + np.exp(5 - rows @ truth))).astype(
        int
    )


X, y = draw(40_000)
X_test, y_test = draw(200_000)
print(f"{y.sum()} positive rows of {len(y)}, {y.mean():.1%}")

# %%
# Four ways to fit. For the last two as many negative rows are kept as there
# are positive ones, drawn by chance; in the last one each of them stands for
# all those that were left out, by its weight. ``sample_weight`` counts in the
# fits, in the folds' losses and in the final model.

negative = np.flatnonzero(y == 0)
kept_negative = rng.choice(negative, y.sum(), replace=False)
kept = np.r_[np.flatnonzero(y == 1), kept_negative]
stands_for = np.where(y[kept] == 1, 1.0, len(negative) / y.sum())
plain = LogisticRegression()
balanced = LogisticRegression(class_weight="balanced")
ways = {
    "all rows": (plain, X, y, None),
    'class_weight="balanced"': (balanced, X, y, None),
    "few negatives": (plain, X[kept], y[kept], None),
    "few negatives, weighted": (plain, X[kept], y[kept], stands_for),
}

# %%
# Test rows go into twelve bins of equal size by the risk that a model reports;
# the picture has the share of them that is positive.

fig, ax = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
ax.axline((1, 1), (10, 10), color="0.5", ls="--", lw=1)
for (name, (model, rows, labels, weights)), color, marker in zip(
    ways.items(), ("C0", "C1", "C3", "C2"), "^osD", strict=True
):
    search = HypergradientSearchCV(model, structure="shared", random_state=0)
    begin = time.perf_counter()
    search.fit(rows, labels, sample_weight=weights)
    seconds = time.perf_counter() - begin
    risk = search.predict_proba(X_test)[:, 1]
    print(
        f"{name:24s} {seconds:4.1f} s  mean risk {risk.mean():5.1%}, "
        f"true {y_test.mean():.1%}  mean precision "
        f"{average_precision_score(y_test, risk):.3f}"
    )
    observed, said = calibration_curve(
        y_test, risk, n_bins=12, strategy="quantile"
    )
    style = {"color": color, "marker": marker, "ms": 7}
    ax.plot(100 * said, 100 * observed, label=name, **style)
ax.set(
    xscale="log",
    yscale="log",
    xlim=(0.03, 100),
    ylim=(0.03, 100),
    xlabel="risk that the model reports (%)",
    ylabel="share of such test rows that are positive (%)",
)
ax.xaxis.set_major_formatter("{x:g}")
ax.yaxis.set_major_formatter("{x:g}")
ax.legend(loc="upper left", fontsize="small")
plt.show()

# %%
# All four put the rows in much the same order, as average precision shows:
# balancing does not make a logistic regression see rare rows better, it moves
# its intercept. If a decision is wanted, move the threshold; the risks stay
# risks.
#
# Leaving most negatives out saves most of the time and costs some of the
# precision, weighted or not. In a search ``class_weight`` changes what is
# fitted but not how it is judged: the folds' losses are those of the rows as
# they come.
