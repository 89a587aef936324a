"""
A thousand genes, fifty patients
================================

Twenty times as many columns as rows: a fit is a matter of milliseconds and an
optimum is easy to find. The question is how much fifty patients can say.
"""

# %%
# Made data in the likeness of expression data: 20 modules of 50 genes, the
# genes of a module go up and down together, and three modules have to do with
# the disease. As the data are made, there can be many studies of fifty
# patients each, and 5,000 patients that tell how good a model really is.

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from sksid import HypergradientSearchCV

n_patients, n_genes, n_modules, n_studies = 50, 1000, 20, 12
module = np.repeat(np.arange(n_modules), n_genes // n_modules)


def patients(n, rng):
    """Expression of all genes, and who is ill."""
    activity = rng.normal(size=(n, n_modules))
    genes = activity[:, module] + 1.5 * rng.normal(size=(n, n_genes))
    risk = 1.5 * (activity[:, 0] + activity[:, 1] - activity[:, 2])
    return genes, rng.random(n) < 1 / (1 + np.exp(-risk))


X_new, y_new = patients(5000, np.random.default_rng(1))

# %%
# Three searches in each study: one penalty for all genes; one for each
# module, which is twenty; and ``structure="auto"``, which may choose. Up to 30
# penalties of groups a search trusts the rows that choose them, which is right
# with hundreds of rows. (The warning that a module's penalty has come to the
# end of its range is the first sign of trouble; it is silenced here, as there
# would be many.)

settings = {
    "one penalty": {"structure": "shared"},
    "20 penalties": {"structure": module},
    "auto": {"structure": "auto"},
}
warnings.filterwarnings("ignore", message=".* that is tried")
says, proves = np.zeros((2, n_studies, len(settings)))
begin = time.perf_counter()
for study, place in np.ndindex(says.shape):
    X, y = patients(n_patients, np.random.default_rng(100 + study))
    search = HypergradientSearchCV(
        LogisticRegression(), random_state=0, **list(settings.values())[place]
    ).fit(X, y)
    says[study, place] = -search.best_score_
    proves[study, place] = log_loss(y_new, search.predict_proba(X_new))
seconds = (time.perf_counter() - begin) / says.size
print(f"{says.size} searches, {seconds:.2f} s each on average")
for place, name in enumerate(settings):
    print(
        f"{name:17s} says {says[:, place].mean():.2f}, "
        f"is {proves[:, place].mean():.2f} on new patients"
    )

# %%
# Each dot is a study. On the line a study's cross-validation says the truth.

fig, ax = plt.subplots(figsize=(7.2, 5), layout="constrained")
ax.axline((0.6, 0.6), slope=1, color="0.5", ls="--", lw=1)
ax.text(0.97, 0.99, "says the truth ", color="0.5", ha="right")
ax.axhline(np.log(2), color="0.5", ls=":", lw=1)
ax.text(1.1, np.log(2), "a coin", color="0.5", va="bottom", ha="right")
for place, (name, color) in enumerate(
    zip(settings, ("C0", "C1", "C2"), strict=True)
):
    style = {"ls": "none", "color": color, "ms": 8, "marker": "os"[place % 2]}
    if name == "auto":
        style |= {"ms": 14, "mfc": "none", "mew": 2}
    ax.plot(says[:, place], proves[:, place], label=name, **style)
ax.set(
    xlim=(0, 1.1),
    ylim=(0.5, None),
    xlabel="log loss that cross-validation reports",
    ylabel="log loss on 5,000 new patients",
)
ax.legend()
plt.show()

# %%
# With one penalty the folds are nearly right on average, and any single study
# is off to one side or the other: that is what a sample of fifty is. Twenty
# penalties are too many to be chosen by fifty rows that also judge them, and
# the score shows nothing of it: the better it is, the worse the model.
#
# ``structure="auto"`` finds what one penalty finds, because it stays at one
# below a hundred rows. So few cannot tell more, and to ask them all the same
# is to be told what one would like to hear. How a score comes to lie is the
# subject of :ref:`sphx_glr_auto_examples_plot_scores_that_lie.py`.
