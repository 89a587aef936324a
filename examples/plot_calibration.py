"""
Probabilities to rely on
========================

A classifier that is right as often as another can still be far too sure of
itself. How sure it is depends on the penalty, and accuracy does not see it;
the log loss does.
"""

# %%
# 500 rows, 150 columns that all matter a little, and 40,000 rows to see what
# the probabilities are worth.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

from sksid import HypergradientSearchCV

rng = np.random.default_rng(0)
n_rows, n_features = 500, 150
truth = rng.normal(size=n_features) / np.sqrt(n_features) * 2
X = rng.normal(size=(40_000 + n_rows, n_features))
y = rng.random(len(X)) < 1 / (1 + np.exp(-X @ truth))
X, X_test, y, y_test = X[:n_rows], X[n_rows:], y[:n_rows], y[n_rows:]

# %%
# Three ways to a penalty: do not tune; tune for accuracy, which is what
# ``GridSearchCV`` does unless told otherwise; tune for the log loss.

model = LogisticRegression(max_iter=10_000)
models = {
    "not tuned, C=1": model,
    "tuned for accuracy": GridSearchCV(model, {"C": np.logspace(-4, 4, 10)}),
    "tuned for log loss": HypergradientSearchCV(
        model, structure="shared", random_state=0
    ),
}

# %%
# In the picture test rows are put into ten bins by what a model says. Below
# the diagonal on the right, and above it on the left, it promises too much.

fig, ax = plt.subplots(figsize=(6, 5.4), layout="constrained")
ax.axline((0, 0), slope=1, color="0.5", ls="--", lw=1)
for (name, model), color, marker in zip(
    models.items(), ("0.5", "C1", "C0"), "so^", strict=True
):
    model.fit(X, y)
    probabilities = model.predict_proba(X_test)
    sure = probabilities.max(axis=1).mean()
    right = np.mean(model.predict(X_test) == y_test)
    print(
        f"{name:19s} right {right:.0%} of the time, thinks {sure:.0%}; "
        f"log loss {log_loss(y_test, probabilities):.3f}"
    )
    observed, said = calibration_curve(y_test, probabilities[:, 1], n_bins=10)
    label = f"{name}: thinks {sure:.0%}, is {right:.0%}"
    ax.plot(said, observed, color=color, marker=marker, ms=8, label=label)
ax.set(
    aspect="equal",
    xlim=(0, 1),
    ylim=(0, 1),
    xlabel="probability that the model says",
    ylabel="share of such test rows that are positive",
)
ax.legend(loc="upper left", fontsize="small", title="how often right")
plt.show()

# %%
# All three are right about equally often. Their decisions are the same for
# most rows, so accuracy is almost flat over a wide range of ``C``, and where
# it is highest on five folds is a matter of chance. The log loss is not flat:
# it punishes a wrong row the more, the surer the model was.
#
# A second model on top, such as ``CalibratedClassifierCV``, can mend what a
# wrong penalty has done to the probabilities. With the right penalty there is
# little to mend, and no rows have to be set aside for it.
