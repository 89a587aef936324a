"""
A weighting of words, learned
=============================

Rare words get a large weight and common ones a small weight: idf is a rule of
thumb from 1972. ``structure="moments"`` learns such a rule from the folds, for
the task at hand.
"""

# %%
# The task: which of three libraries is a docstring from? Each text is a row of
# zeros and ones, one column for each word. Weighting a column by w is the same
# as dividing its penalty by w², so a rule for weights is a rule for penalties,
# and those can be tuned.

import inspect
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sksid import HypergradientSearchCV

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
texts_train, texts_test, y_train, y_test = train_test_split(
    texts, libraries, test_size=0.4, stratify=libraries, random_state=0
)
words = r"\b(?!np\b|num|scipy|scikit|sklearn)[a-z]{2,}\b"
vectorizer = CountVectorizer(binary=True, token_pattern=words)
X_train = vectorizer.fit_transform(texts_train).astype(float)
X_test = vectorizer.transform(texts_test).astype(float)

# %%
# Four models: without any weighting, with idf, with a learned rule in its
# place, and with a learned rule on top of idf. The rule is a parabola in the
# log of the document frequency: three hyperparameters, not thousands.

idf = TfidfTransformer(norm=None).fit(X_train)
inputs = {"0/1": (X_train, X_test)}
inputs["idf"] = idf.transform(X_train), idf.transform(X_test)
searches = {}
for words_are, structure in (
    ("0/1", "shared"),
    ("idf", "shared"),
    ("0/1", "moments"),
    ("idf", "moments"),
):
    rows, rows_test = inputs[words_are]
    search = HypergradientSearchCV(
        LogisticRegression(), structure=structure, random_state=0
    ).fit(rows, y_train)
    searches[words_are, structure] = search
    test_loss = log_loss(y_test, search.predict_proba(rows_test))
    print(
        f"words {words_are:4s} structure {structure:8s} "
        f"CV loss {-search.best_score_:.3f}   test loss {test_loss:.3f}"
    )

# %%
# Now the rule itself. The penalty of a word, λ, is as good as a weight of
# 1/√λ. Both curves are scaled to a mean weight of one over the words.

learned = searches["0/1", "moments"].penalties_ ** -0.5
frequency = np.asarray(X_train.sum(axis=0)).ravel()
order = np.argsort(frequency)
share = 100 * frequency / len(y_train)

fig, ax = plt.subplots(layout="constrained")
for name, weight, style in (
    ("idf", idf.idf_, {"color": "0.5", "ls": "--"}),
    ("learned", learned, {"color": "C1", "lw": 3}),
):
    relative = weight / weight.mean()
    ax.plot(share[order], relative[order], label=name, **style)
beside = {"xytext": (6, 5), "textcoords": "offset points"}
for word in ("the", "array", "matrix", "sparse", "estimator", "bessel"):
    column = vectorizer.vocabulary_[word]
    place = share[column], relative[column]
    ax.plot(*place, "oC1", ms=6)
    ax.annotate(word, place, **beside)
ax.set(
    xscale="log",
    xlabel="documents that have the word (%)",
    ylabel="weight of the word (mean = 1)",
    title="A rule for weights, found by the folds themselves",
)
ax.xaxis.set_major_formatter("{x:g}")
ax.legend()
plt.show()

# %%
# On zeros and ones the search comes to a rule that does for this task what idf
# does. It has not been told of idf, nor of anything else than how often each
# word occurs. On the left it goes a way of its own: a word that stands in one
# text only says little about the next one, and idf trusts it most.
#
# On top of idf there is little left to learn: the two slopes, which say what
# one standard deviation adds to log λ, are close to zero there.

for words_are in ("0/1", "idf"):
    slopes = searches[words_are, "moments"].descriptor_params_
    print(words_are, {name: round(value, 2) for name, value in slopes.items()})

# %%
# That is how to use it: where a good rule is known, take it; where none is
# (counts of clicks, of genes, of parts), let the folds find one. A rule in
# terms of your own is ``structure=`` a function of yours.
