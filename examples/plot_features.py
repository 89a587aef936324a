"""
Which features matter
=====================

One penalty holds back what is noise and what is signal alike. With one
penalty for each feature, noise can be pressed to zero without pressing the
rest, and the penalties themselves say which is which.
"""

# %%
# Made data, so that the truth is known: 60 columns of unit variance, of
# which the first ten matter. 600 rows to learn from, and many to test on.

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
names = np.array(
    [f"{'noise' if j >= n_signals else 'signal'} {j}" for j in range(n_features)]
)
