"""``sksid.sid`` against numbers that a published implementation has printed.

The notebook ``examples/logistic_regression.ipynb`` of hypertorch, the library of the paper's first author, tunes a penalty for
each of twenty features on made data and prints losses along the way. Data, maps, step sizes and budgets are described in it;
no code is taken over. It computes in float32 and differentiates the last ten of the hundred iterations (reverse mode), where
Algorithm 1 takes ten steps on the linear system at w_100: the same once w has converged, nearly the same before.
"""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.model_selection import train_test_split

from sksid.sid import FixedPoint, Map, Outer, differentiate

# inner loss after t steps at λ_j = 1
INNER = {0: 0.6931472420692444, 10: 0.6285591125488281, 20: 0.6243906021118164, 50: 0.6240900754928589, 99: 0.6240898370742798}

# validation loss after so many steps on λ
OUTER = {
    0: 0.5743989944458008,
    10: 0.5337678790092468,
    20: 0.3615218698978424,
    30: 0.3225042521953583,
    40: 0.2987646162509918,
    50: 0.2944669723510742,
    60: 0.2905733585357666,
    70: 0.2885856032371521,
    80: 0.2871982753276825,
    90: 0.28584417700767517,
    100: 0.2853544056415558,
    150: 0.2824600040912628,
    200: 0.2816700041294098,
}
N_FEATURES, WHOLE = 20, FixedPoint(sampled=False)


class Notebook:
    """Its data, its map (a gradient step of 0.1 on the mean log loss + ½ Σ λ_j w_j²) and its outer loss."""

    def __init__(self):
        np.random.seed(1)
        true = np.random.randn(N_FEATURES)
        X = np.random.randn(1000, N_FEATURES)
        y = (X @ true + 0.1 * np.random.randn(1000) > 0).astype(float)
        self.X, self.X_val, self.y, self.y_val = train_test_split(X, y, test_size=0.5)
        self.map = Map(
            apply=lambda w, lam, draw: w - 0.1 * (self.X.T @ (expit(self.X @ w) - self.y) / 500 + lam * w),
            pull_w=lambda w, lam, v, draw: v - 0.1 * (self.X.T @ (self.bend(w) * (self.X @ v)) / 500 + lam * v),
            pull_hyper=lambda w, lam, v, draw: -0.1 * w * v,
        )
        self.outer = Outer(
            value=lambda w, lam, draw: self.loss(self.X_val, self.y_val, w),
            grad_w=lambda w, lam, draw: self.X_val.T @ (expit(self.X_val @ w) - self.y_val) / 500,
        )

    def bend(self, w):
        return expit(self.X @ w) * expit(-self.X @ w)

    def loss(self, X, y, w):
        return np.mean(np.logaddexp(0.0, X @ w) - y * (X @ w))

    def differentiate(self, lam, **settings):
        return differentiate(self.map, self.outer, lam, np.zeros(N_FEATURES), lower=WHOLE, adjoint=WHOLE, **settings)


@pytest.fixture(scope="module")
def notebook():
    return Notebook()


def test_the_lower_level_takes_the_same_course(notebook):
    lam = np.ones(N_FEATURES)
    for t, printed in INNER.items():
        w = notebook.differentiate(lam, n_lower=t, n_adjoint=0).w
        assert notebook.loss(notebook.X, notebook.y, w) + 0.5 * lam @ w**2 == pytest.approx(printed, rel=1e-6)


def test_the_descent_on_the_penalties_takes_the_same_course(notebook):
    """Gradient descent with step 1 and momentum 0.9, λ kept positive; 100 steps on the lower level, 10 on the linear system."""
    lam, change, off = np.ones(N_FEATURES), 0.0, {}
    for step in range(max(OUTER) + 1):
        found = notebook.differentiate(lam, n_lower=100, n_adjoint=10)
        if step in OUTER:
            off[step] = abs(found.value / OUTER[step] - 1)
        change = 0.9 * change + found.hypergradient
        lam = np.maximum(lam - change, 1e-8)
    assert off[0] < 1e-7
    assert max(off.values()) < 1e-3
    assert off[200] < 1e-5
