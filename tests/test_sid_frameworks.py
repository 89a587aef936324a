"""``sksid.sid`` with automatic derivatives: the recipes of docs/any_map.rst as they stand there; and jaxopt's.

    pip install torch jax jaxopt    # each may be missing: its test is skipped then

One problem for all, whose products are also written by hand.
"""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from sksid.sid import ConjugateGradient, FixedPoint, Map, Outer, differentiate

PAGE = Path(__file__).resolve().parents[1] / "docs" / "any_map.rst"
STEP, N_TRAIN = 0.5, 40
rng = np.random.default_rng(0)
X, y = rng.standard_normal((60, 5)), rng.integers(2, size=60).astype(float)
TRAIN, VAL = slice(N_TRAIN), slice(N_TRAIN, None)
LAM, DIRECTION = np.linspace(-2.0, 0.0, 5), rng.standard_normal(5)
WHOLE = FixedPoint(sampled=False)


def by_hand():
    """A gradient step on the mean log loss + ½ Σ e^λ_j w_j², and the validation loss + 0.01 |λ|²."""
    bend = lambda w: expit(X[TRAIN] @ w) * expit(-X[TRAIN] @ w)  # noqa: E731
    gradient = lambda rows, w: X[rows].T @ (expit(X[rows] @ w) - y[rows]) / len(y[rows])  # noqa: E731
    the_map = Map(
        apply=lambda w, lam, draw: w - STEP * (gradient(TRAIN if draw is None else draw, w) + np.exp(lam) * w),
        pull_w=lambda w, lam, v, draw: v - STEP * (X[TRAIN].T @ (bend(w) * (X[TRAIN] @ v)) / N_TRAIN + np.exp(lam) * v),
        pull_hyper=lambda w, lam, v, draw: -STEP * np.exp(lam) * w * v,
    )
    outer = Outer(
        value=lambda w, lam, draw: np.mean(np.logaddexp(0, X[VAL] @ w) - y[VAL] * (X[VAL] @ w)) + 0.01 * lam @ lam,
        grad_w=lambda w, lam, draw: gradient(VAL, w),
        grad_hyper=lambda w, lam, draw: 0.02 * lam,
    )
    return the_map, outer


def draw(random):
    return random.integers(N_TRAIN, size=10)


def recipe(framework, **names):
    """``the_map`` and ``outer`` that the block of the page makes of ``phi`` and ``loss``."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", PAGE.read_text(encoding="utf-8"))
    (block,) = [text for text in blocks if f"import {framework}\n" in text]
    scope = {"np": np, "Map": Map, "Outer": Outer, "draw": draw, **names}
    exec(textwrap.dedent(block), scope)
    return scope["the_map"], scope["outer"]


def exactly(the_map, outer, adjoint=WHOLE):
    settings = {"lower": WHOLE, "adjoint": adjoint, "n_lower": 400, "n_adjoint": 400}
    return differentiate(the_map, outer, LAM, np.zeros(5), **settings)


def check(the_map, outer):
    """The hypergradient is the one by hand, and a run with draws ends near it."""
    exact, found = exactly(*by_hand()), exactly(the_map, outer)
    assert found.value == pytest.approx(exact.value, rel=1e-12)
    np.testing.assert_allclose(found.hypergradient, exact.hypergradient, atol=1e-12)
    noisy = {"lower": FixedPoint((10.0, 20.0)), "adjoint": ConjugateGradient(), "n_lower": 300, "n_adjoint": 10}
    drawn = differentiate(the_map, outer, LAM, np.zeros(5), **noisy)
    assert 0 < np.linalg.norm(drawn.hypergradient - exact.hypergradient) < 0.2 * np.linalg.norm(exact.hypergradient)


def test_by_hand_it_is_the_slope_of_the_whole_map():
    the_map, outer = by_hand()
    value = lambda lam: differentiate(the_map, outer, lam, np.zeros(5), lower=WHOLE, n_lower=400, n_adjoint=0).value  # noqa: E731
    slope = (value(LAM + 1e-4 * DIRECTION) - value(LAM - 1e-4 * DIRECTION)) / 2e-4
    assert exactly(the_map, outer).hypergradient @ DIRECTION == pytest.approx(slope, rel=1e-7)


@pytest.mark.skipif(not PAGE.exists(), reason="sksid is not imported from its repository")
def test_the_recipe_for_pytorch():
    torch = pytest.importorskip("torch", reason="the recipe needs PyTorch")
    X_t, y_t = torch.tensor(X), torch.tensor(y)

    def mean_loss(w, rows):
        scores = X_t[rows] @ w
        return (torch.nn.functional.softplus(scores) - y_t[rows] * scores).mean()

    def phi(w, lam, draw):
        f = lambda w: mean_loss(w, TRAIN if draw is None else draw) + 0.5 * (torch.exp(lam) * w * w).sum()  # noqa: E731
        return w - STEP * torch.func.grad(f)(w)

    check(*recipe("torch", phi=phi, loss=lambda w, lam: mean_loss(w, VAL) + 0.01 * (lam * lam).sum()))


@pytest.mark.skipif(not PAGE.exists(), reason="sksid is not imported from its repository")
def test_the_recipe_for_jax():
    jax = pytest.importorskip("jax", reason="the recipe needs JAX")
    jnp = jax.numpy

    def mean_loss(w, rows):
        scores = jnp.asarray(X)[rows] @ w
        return (jnp.logaddexp(0, scores) - jnp.asarray(y)[rows] * scores).mean()

    def phi(w, lam, draw):
        f = lambda w: mean_loss(w, TRAIN if draw is None else draw) + 0.5 * (jnp.exp(lam) * w * w).sum()  # noqa: E731
        return w - STEP * jax.grad(f)(w)

    check(*recipe("jax", phi=phi, loss=lambda w, lam: mean_loss(w, VAL) + 0.01 * (lam * lam).sum()))


@pytest.mark.parametrize("adjoint", [WHOLE, ConjugateGradient()], ids=["fixed point", "conjugate gradient"])
def test_the_implicit_derivative_of_jaxopt(adjoint):
    jaxopt = pytest.importorskip("jaxopt", reason="the comparison needs jaxopt")
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def mean_loss(w, rows):
        return (jnp.logaddexp(0, X[rows] @ w) - y[rows] * (X[rows] @ w)).mean()

    solver = jaxopt.GradientDescent(
        lambda w, lam: mean_loss(w, TRAIN) + 0.5 * (jnp.exp(lam) * w * w).sum(), maxiter=3000, tol=1e-13, stepsize=STEP
    )
    value = lambda lam: mean_loss(solver.run(jnp.zeros(5), lam).params, VAL) + 0.01 * lam @ lam  # noqa: E731
    theirs = np.asarray(jax.grad(value)(jnp.asarray(LAM)))
    np.testing.assert_allclose(exactly(*by_hand(), adjoint).hypergradient, theirs, atol=1e-11)
