"""
From GridSearchCV to HypergradientSearchCV
==========================================

The same model, the same folds, the same score: ten values of ``C`` by grid search, and the optimum by hypergradient
descent. Then one penalty for each feature, cross-fitted.
"""

# %%
# Handwritten digits: 1,797 images of 8 × 8 pixels, ten classes. A third is kept for the test.

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from threadpoolctl import threadpool_limits

from sksid import HypergradientSearchCV

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=1 / 3, stratify=y, random_state=0)


def report(name, search):
    """Fit, and print what it took and what it gave. BLAS has one thread: on small matrices more only wait for each other."""
    start = time.perf_counter()
    with threadpool_limits(limits=1, user_api="blas"):
        search.fit(X_train, y_train)
    seconds = time.perf_counter() - start
    test_loss = log_loss(y_test, search.predict_proba(X_test))
    accuracy = np.mean(search.predict(X_test) == y_test)
    C = search.best_params_["C"]
    print(f"{name:34s} {seconds:6.2f} s   C {C:8.3g}   cv {-search.best_score_:.4f}   test {test_loss:.4f}  {accuracy:.1%}")


# %%
# The grid fits 50 models, and the refit one more. The search fits the five models of the folds once and moves their penalty
# while it does. The ``cv`` loss of a per-feature search is nested: each fold's penalties are found without its
# validation rows.

model = LogisticRegression(max_iter=1000)
report("GridSearchCV, 10 values", GridSearchCV(model, {"C": np.logspace(-4, 4, 10)}, scoring="neg_log_loss"))
report("HypergradientSearchCV, shared", HypergradientSearchCV(model, structure="shared", random_state=0))
report("HypergradientSearchCV, per feature", HypergradientSearchCV(model, structure="per_feature", random_state=0))
