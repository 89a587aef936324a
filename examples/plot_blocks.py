"""
One penalty per block of columns
================================

A table of text, numbers and categories: three kinds of columns, and one ``C``
that has to suit them all. With ``structure="blocks"`` each transformer of a
``ColumnTransformer`` gets its own.
"""

# %%
# A real table that needs no download: the functions and classes of NumPy,
# SciPy and scikit-learn, what their docstrings say, how long they are, and of
# which type Python says they are. Is it SciPy?

import inspect
import re
import time
from importlib import import_module

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PowerTransformer

from sksid import HypergradientSearchCV, PenaltyDisplay

modules = (
    "numpy numpy.linalg numpy.random numpy.fft numpy.ma numpy.char "
    "scipy.cluster scipy.fft scipy.integrate scipy.interpolate scipy.io "
    "scipy.linalg scipy.ndimage scipy.optimize scipy.signal scipy.sparse "
    "scipy.spatial scipy.special scipy.stats sklearn.cluster "
    "sklearn.covariance sklearn.datasets sklearn.decomposition "
    "sklearn.ensemble sklearn.feature_selection sklearn.linear_model "
    "sklearn.metrics sklearn.model_selection sklearn.neighbors "
    "sklearn.pipeline sklearn.preprocessing sklearn.utils"
)


def row(library, name, value):
    """What a row of the table says of a function or class."""
    doc = inspect.getdoc(value)
    parameters = re.findall(r"(?m)^(\w+(?:, \w+)*) ?: ", doc)
    return {
        "library": library,
        "summary": doc.partition("\n\n")[0],
        "parameters": " ".join(parameters),
        "n_parameters": len(parameters),
        "n_characters": len(doc),
        "n_examples": doc.count(">>>"),
        "n_references": doc.count("\n.. ["),
        "type": type(value).__name__,
        "name": "snake_case" if "_" in name else "one word",
    }


table = pd.DataFrame(
    row(module.partition(".")[0], name, value)
    for module in modules.split()
    for name, value in vars(import_module(module)).items()
    if callable(value) and value.__doc__ and not name.startswith("_")
).drop_duplicates()
print(table.iloc[1000])

# %%
# The usual preprocessing, as it would stand in any project. Names of libraries
# are left out of the text.

numbers = ["n_parameters", "n_characters", "n_examples", "n_references"]
words = r"\b(?!np\b|num|scipy|scikit|sklearn)[a-z]{2,}\b"
one_hot = OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist")
columns = ColumnTransformer(
    [
        ("summary", TfidfVectorizer(token_pattern=words), "summary"),
        ("parameters", CountVectorizer(binary=True), "parameters"),
        ("numbers", PowerTransformer(), numbers),
        ("categories", one_hot, ["type", "name"]),
    ]
)
pipeline = make_pipeline(columns, LogisticRegression())
is_scipy = table["library"] == "scipy"
X_train, X_test, y_train, y_test = train_test_split(
    table, is_scipy, test_size=0.5, stratify=is_scipy, random_state=0
)

# %%
# The only difference between the two searches is the word ``"blocks"``. A grid
# of ten values for each of four blocks would have ten thousand points.

searches, title = {}, []
for structure in ("shared", "blocks"):
    begin = time.perf_counter()
    search = HypergradientSearchCV(
        pipeline, structure=structure, random_state=0
    ).fit(X_train, y_train)
    seconds = time.perf_counter() - begin
    test_loss = log_loss(y_test, search.predict_proba(X_test))
    searches[structure] = search
    title.append(f"{structure} {test_loss:.3f}")
    print(
        f"{structure:7s} {seconds:4.1f} s   {search.n_iter_:2d} steps   "
        f"CV loss {-search.best_score_:.4f}   test loss {test_loss:.4f}"
    )

# %%
# ``PenaltyDisplay`` draws what was found: a dot for each block with its number
# of columns, and the one penalty that would have to serve all.

PenaltyDisplay.from_estimator(searches["blocks"], ms=13, color="C1")
plt.title("Test log loss: " + ", ".join(title), pad=22)
plt.show()

# %%
# A tf-idf row has length one, so a word's entry is a few tenths, while a
# standardized number is about one: coefficients of the same importance differ
# in size by several times before any data are seen. One penalty for both is
# too much for the words and too little for the numbers. Scaling the blocks by
# hand would be a search of its own; this is that search.
#
# The values are in ``block_params_``, in the units of ``C``, and
# ``best_estimator_`` is the fitted pipeline, as ever.

for block, C in searches["blocks"].block_params_.items():
    print(f"{block:10s} C = {C:.3g}")
