"""
Text in a pipeline
==================

Which library is a function from: NumPy, SciPy or scikit-learn? The beginning
of its docstring tells. The vectorizer stands inside the search, so every fold
has the vocabulary of its own training rows.
"""

# %%
# Real text that is on your machine already: the docstrings of three libraries.
# The first 400 characters of each, every text once.

import inspect
import time
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from sksid import HypergradientSearchCV, PenaltyDisplay

modules = {
    "numpy": "numpy numpy.linalg numpy.random numpy.fft numpy.ma numpy.char",
    "scipy": "scipy.cluster scipy.fft scipy.integrate scipy.interpolate "
    "scipy.io scipy.linalg scipy.ndimage scipy.optimize scipy.signal "
    "scipy.sparse scipy.spatial scipy.special scipy.stats",
    "sklearn": "sklearn.calibration sklearn.cluster sklearn.covariance "
    "sklearn.datasets sklearn.decomposition sklearn.ensemble "
    "sklearn.feature_selection sklearn.linear_model sklearn.metrics "
    "sklearn.model_selection sklearn.neighbors sklearn.pipeline "
    "sklearn.preprocessing sklearn.utils",
}
library_of = {
    inspect.getdoc(value)[:400]: library
    for library, names in modules.items()
    for module in names.split()
    for name, value in vars(import_module(module)).items()
    if callable(value) and value.__doc__ and not name.startswith("_")
}
texts, libraries = np.array(list(library_of.items()), dtype=object).T
labels, counts = np.unique(libraries.astype(str), return_counts=True)
print(dict(zip(labels.tolist(), counts.tolist(), strict=True)))

# %%
# A name of a library would give it away: words that begin like one are left
# out. The pipeline goes into the search as it would into ``GridSearchCV``.

X_train, X_test, y_train, y_test = train_test_split(
    texts, libraries, test_size=0.4, stratify=libraries, random_state=0
)
words = r"\b(?!np\b|num|scipy|scikit|sklearn)[a-z]{2,}\b"
pipeline = make_pipeline(
    TfidfVectorizer(sublinear_tf=True, token_pattern=words),
    LogisticRegression(max_iter=1000),
)
grid = GridSearchCV(
    pipeline,
    {"logisticregression__C": np.logspace(-1, 4, 6)},
    scoring="neg_log_loss",
)
search = HypergradientSearchCV(pipeline, structure="shared", random_state=0)

for name, tuner in (("grid", grid), ("search", search)):
    begin = time.perf_counter()
    tuner.fit(X_train, y_train)
    seconds = time.perf_counter() - begin
    probabilities = tuner.predict_proba(X_test)
    accuracy = np.mean(tuner.classes_[probabilities.argmax(1)] == y_test)
    print(
        f"{name:7s} {seconds:5.1f} s   "
        f"C = {tuner.best_params_['logisticregression__C']:6.2f}   "
        f"CV loss {-tuner.best_score_:.3f}   "
        f"test loss {log_loss(y_test, probabilities):.3f}, {accuracy:.1%}"
    )

# %%
# A grid search builds the vocabulary again for each fold *and* each value of
# ``C``. The search builds it once for each fold, and has it for all of its
# steps; a word has the same penalty in every fold that knows it.
#
# ``best_estimator_`` is an ordinary fitted ``Pipeline``, so the usual
# questions get the usual answers. Which words speak for a library most?

vectorizer, model = search.best_estimator_
vocabulary = vectorizer.get_feature_names_out()

fig, axes = plt.subplots(
    1, 3, figsize=(8, 4.2), sharex=True, layout="constrained"
)
for ax, library, coef, color in zip(
    axes, search.classes_, model.coef_, ("C0", "C1", "C2"), strict=True
):
    top = np.argsort(coef)[-12:]
    ax.barh(vocabulary[top], coef[top], color=color)
    ax.set_title(library, color=color, weight="bold")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
axes[1].set_xlabel("coefficient of the word's tf-idf")
plt.show()

# %%
# No step of this needed a word about folds: the search has fitted the
# vectorizer to the training rows of each, and once more to all rows for the
# final model. If what your preprocessing learns does not depend on the rows (a
# ``HashingVectorizer``, say), the search notices, and transforms once.

# %%
# The next thing to try with text is one penalty for each word. Thousands of
# them are more than the folds could choose honestly, so the search
# cross-fits, and stays with one penalty for all if that is better.

each = HypergradientSearchCV(
    pipeline, structure="per_feature", random_state=0
).fit(X_train, y_train)
print(
    f"one for each word: test loss "
    f"{log_loss(y_test, each.predict_proba(X_test)):.3f}"
)

fig, ax = plt.subplots(figsize=(7.2, 5), layout="constrained")
PenaltyDisplay.from_estimator(each, ax=ax, color="C1")
plt.show()

# %%
# At the bottom are the words that are trusted most, at the top those that are
# held back most, and in between the many on which there is too little to go
# by: they stay near the one penalty for all.
