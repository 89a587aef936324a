"""
Many classes at once
====================

Many classes and thousands of words: far more coefficients than there are
texts. One softmax model of all classes is what is tuned, and it stays one
search.
"""

# %%
# Which module of NumPy, SciPy or scikit-learn is a function from? The first
# 400 characters of its docstring are given; modules with at least 40 functions
# are the classes.

import inspect
import time
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sksid import HypergradientSearchCV

names = (
    "numpy numpy.char numpy.linalg numpy.ma numpy.random scipy.fft "
    "scipy.integrate scipy.interpolate scipy.linalg scipy.ndimage "
    "scipy.optimize scipy.signal scipy.sparse scipy.sparse.linalg "
    "scipy.spatial.distance scipy.special scipy.stats scipy.stats.mstats "
    "sklearn.cluster sklearn.datasets sklearn.linear_model "
    "sklearn.metrics sklearn.model_selection sklearn.preprocessing"
)
module_of = {
    inspect.getdoc(value)[:400]: module
    for module in names.split()
    for name, value in vars(import_module(module)).items()
    if callable(value) and value.__doc__ and not name.startswith("_")
}
texts, modules = np.array(list(module_of.items()), dtype=object).T
modules = modules.astype(str)
kept = np.isin(modules, [m for m in set(modules) if (modules == m).sum() > 39])
X_train, X_test, y_train, y_test = train_test_split(
    texts[kept],
    modules[kept],
    test_size=0.4,
    stratify=modules[kept],
    random_state=0,
)

# %%
# One penalty for all, in five folds. For comparison one plain fit, with the
# ``C=1`` that it has if nobody sets it.

pipeline = make_pipeline(
    TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1000)
)
search = HypergradientSearchCV(pipeline, structure="shared", random_state=0)
for name, model in (("one fit, C=1", pipeline), ("search", search)):
    begin = time.perf_counter()
    model.fit(X_train, y_train)
    seconds = time.perf_counter() - begin
    probabilities = model.predict_proba(X_test)
    accuracy = np.mean(model.classes_[probabilities.argmax(1)] == y_test)
    print(
        f"{name:13s} {seconds:4.1f} s   test log loss "
        f"{log_loss(y_test, probabilities):.3f}, accuracy {accuracy:.1%}"
    )
n_classes, n_words = search.best_estimator_[-1].coef_.shape
print(
    f"{len(y_train)} texts, {n_classes} classes, {n_words} words, "
    f"C = {search.best_params_['logisticregression__C']:.0f}"
)

# %%
# What does it mix up? A column for each module that was predicted, a row for
# each that was true; areas are shares of the row.

labels = search.classes_
counts = confusion_matrix(y_test, search.predict(X_test), labels=labels)
shares = counts / counts.sum(axis=1, keepdims=True)
rows, columns = np.nonzero(shares)

fig, ax = plt.subplots(figsize=(7, 6.2), layout="constrained")
ax.scatter(
    columns,
    rows,
    s=240 * shares[rows, columns],
    c=np.where(rows == columns, "C0", "C1"),
    marker="s",
    linewidths=0,
)
short = [label.replace("sklearn", "sk") for label in labels]
ax.set_xticks(range(n_classes), short, rotation=90)
ax.set_yticks(range(n_classes), short)
ax.set(xlabel="predicted module", ylabel="true module")
ax.invert_yaxis()
ax.set_title("Right (blue) and wrong (orange), on test rows")
plt.show()

# %%
# The errors are those that a person would make. The most frequent ones:

wrong = shares * ~np.eye(n_classes, dtype=bool)
for place in np.argsort(wrong, axis=None)[:-6:-1]:
    true, predicted = np.unravel_index(place, wrong.shape)
    print(
        f"{labels[true]:20s} taken for {labels[predicted]:20s} "
        f"{wrong[true, predicted]:.0%}"
    )

# %%
# All classes are one model here, as in ``LogisticRegression`` itself: a
# penalty belongs to a word, and weighs on its coefficients for all classes.
