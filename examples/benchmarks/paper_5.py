"""MNIST, multinomial: a penalty for each feature, then for each feature and class, tuned by stochastic hypergradients.

The experiment that the paper's summary names. 30,000 rows train, 30,000 validate, 10,000 test; pixels from 0 to 1, no
intercept; lower level: mean loss + 1/2 Σ e^{λ_jc} W_jc². λ_0 is the one λ for all features that is best on the validation rows,
among six. 60 steps against the gradient, each of such a length that the most changed log penalty changes by 0.1. Each
hypergradient has 4 epochs of minibatches of 300, two for either system, from the w and v of the λ before.

A penalty for each feature goes through the package's own solvers, decreasing steps (``sgd``) and ``dual``. For each feature and
class there is no structure in the package, whose penalties belong to features: it goes through ``sksid.sid``, which takes any
map. Seconds are the hypergradients' processor time on one thread. Errors and losses are those of w_t, and at the end those of
w(λ), converged.

    python examples/benchmarks/paper_5.py --save
    python examples/benchmarks/paper_5.py --draw paper_5.png

``--methods`` chooses; what has been measured is kept in ``results/paper_5.jsonl``. What comes out is said in docs/paper.rst,
where a test holds every comparison against the numbers.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import _common as common
import numpy as np
from _journal import Journal
from scipy.special import softmax

from sksid import bounds, sid
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual, Sgd

STEPS, FARTHEST, GRID = 60, 0.1, np.logspace(-4.5, -2, 6)
METRICS = ("validation loss", "validation error", "test error")


class Digits:
    """The halves and the test rows."""

    def __init__(self, quick):
        X, y, X_test, y_test = common.load("mnist", 3000 if quick else None, raw=True)
        halves = np.array_split(np.random.RandomState(0).permutation(y.size), 2)
        X = X / 255.0
        (self.X, self.y), (self.X_val, self.y_val) = ((X[half], y[half]) for half in halves)
        self.X_test, self.y_test = X_test / 255.0, y_test
        settings = {"n_classes": 10, "fit_intercept": False, "dtype": np.float32}
        self.problem = make_problem(X, y, [tuple(halves)], **settings)
        self.curvature, self.targets = bounds.data_curvature(self.problem, 0), np.eye(10)[self.y]

    def measures(self, W):
        """METRICS of W, (n_features, 10)."""
        p = softmax(self.X_val @ W, axis=1)[np.arange(self.y_val.size), self.y_val]
        errors = [np.mean((X @ W).argmax(axis=1) != y) for X, y in ((self.X_val, self.y_val), (self.X_test, self.y_test))]
        return [float(-np.log(np.maximum(p, 1e-300)).mean()), *map(float, errors)]

    def of_sum(self, lam):
        """What the solvers call log penalties."""
        return lam + np.log(self.y.size)

    def converged(self, lam):
        """W(λ), for one λ a feature or one for each feature and class."""
        if lam.ndim == 2:
            step = GradientStep(self, lam)
            momentum, W, change = 0.95, np.zeros(lam.shape), 0.0
            for _ in range(600):
                change = step.apply(W, lam, None) - W + momentum * change
                W = W + change
            return W
        solver = Aid(max_direct=0, tol=1e-5)
        state = solver.advance(self.problem, solver.init(self.problem, self.of_sum(lam)))
        return solver.coefficients(self.problem, state)[0][0].T


class GradientStep:
    """Φ, a gradient step on the rows drawn, and E, the validation loss, for ``sksid.sid``."""

    grad_hyper = None

    def __init__(self, data, lam):
        L, mu = data.curvature + np.exp(lam.max()), np.exp(lam.min())
        self.data, self.alpha = data, 2.0 / (L + mu)
        self.steps = bounds.decreasing(bounds.Curvature(L=L, mu=mu))

    def draw(self, rng):
        """The rows of a minibatch."""
        return rng.integers(self.data.y.size, size=self.data.y.size // 100)

    def rows(self, draw):
        """X and the labels of the rows drawn, or of all."""
        return (self.data.X, self.data.targets) if draw is None else (self.data.X[draw], self.data.targets[draw])

    def apply(self, w, lam, draw):
        """Φ̂."""
        X, targets = self.rows(draw)
        return w - self.alpha * (X.T @ (softmax(X @ w, axis=1) - targets) / len(X) + np.exp(lam) * w)

    def pull_w(self, w, lam, v, draw):
        """Its derivative in w, transposed, times v."""
        X, _ = self.rows(draw)
        p, bent = softmax(X @ w, axis=1), X @ v
        return v - self.alpha * (X.T @ (p * (bent - (p * bent).sum(axis=1, keepdims=True))) / len(X) + np.exp(lam) * v)

    def pull_hyper(self, w, lam, v, draw):
        """Its derivative in λ, transposed, times v."""
        return -self.alpha * np.exp(lam) * w * v


class Validation:
    """E."""

    grad_hyper = draw = None

    def __init__(self, data):
        self.data = data

    def value(self, w, lam, draw):
        """The mean validation loss."""
        return self.data.measures(w)[0]

    def grad_w(self, w, lam, draw):
        """∇₁E."""
        data = self.data
        return data.X_val.T @ (softmax(data.X_val @ w, axis=1) - np.eye(10)[data.y_val]) / data.y_val.size


@dataclass(frozen=True)
class Shipped:
    """A solver of the package; one λ a feature."""

    solver: object
    passes: float = 1.0

    def begin(self, data):
        """λ's shape and a state."""
        return (784,), self.solver.init(data.problem, data.of_sum(np.zeros(784)))

    def step(self, data, state, lam):
        """The state, W and the hypergradient at λ."""
        state = self.solver.advance(data.problem, self.solver.rescale(data.problem, state, data.of_sum(lam)), self.passes)
        W = self.solver.coefficients(data.problem, state)[0][0].T
        return state, W, self.solver.log_gradient(data.problem, state)


class General:
    """``sksid.sid``; one λ for each feature and class."""

    def begin(self, data):
        """λ's shape and a state."""
        return (784, 10), (np.zeros((784, 10)), np.zeros((784, 10)), 0)

    def step(self, data, state, lam):
        """The state, W and the hypergradient at λ."""
        (w, v, count), step = state, GradientStep(data, lam)
        noisy = sid.FixedPoint(step.steps)
        settings = {"lower": noisy, "adjoint": noisy, "n_lower": 200, "n_adjoint": 200, "adjoint_start": v, "seed": count}
        found = sid.differentiate(step, Validation(data), lam, w, **settings)
        return (found.w, found.v, count + 1), found.w, found.hypergradient


METHODS = {
    "a λ a feature, sgd": Shipped(Sgd(lower_epochs=2, adjoint_epochs=2)),
    "a λ a feature, dual": Shipped(Dual(), 2.0),
    "a λ a feature and class, sid": General(),
}


def best_of_one(data):
    """The best single λ on the validation rows, and METRICS of its model."""
    found = [(data.measures(data.converged(np.full(784, np.log(value)))), value) for value in GRID]
    measures, value = min(found)
    return float(np.log(value)), measures


def descend(data, method, start, n_steps):
    """Rows of (seconds, METRICS at w_t), and METRICS of the last λ's converged model."""
    shape, state = method.begin(data)
    lam, spent, rows = np.full(shape, start), 0.0, []
    for _ in range(n_steps + 1):
        seconds, (state, W, gradient) = common.timed(method.step, data, state, lam)
        spent += seconds
        rows.append(common.rounded([spent, *data.measures(W)]))
        lam = lam - FARTHEST / np.abs(gradient).max() * gradient
    return rows, common.rounded(data.measures(data.converged(lam)))


def draw(numbers, path):
    """A panel a metric, against seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    for ax, metric in zip(axes, METRICS, strict=True):
        ax.axhline(numbers["one λ"][metric], color="gray", lw=1, label="the best single λ, converged")
        for i, (name, record) in enumerate(numbers["methods"].items()):
            ax.plot(record["seconds"], record[metric], color=f"C{i}", label=name)
            ax.plot(record["seconds"][-1], record["converged"][metric], "o", color=f"C{i}")
        ax.set(title=metric, xlabel="seconds (dot: converged at the last λ)", xscale="log")
    axes[0].legend(fontsize=8)
    fig.savefig(path, dpi=80)


def main():
    """Measure and report, or draw what was saved."""
    parser = common.parser(__doc__)
    parser.add_argument("--draw", metavar="PNG", help="draw the saved results and do nothing else")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    args = parser.parse_args()
    if args.draw:
        return draw(common.saved("paper_5"), args.draw)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal((Path(folder) if args.quick else common.HERE / "results") / "paper_5.jsonl")
        data = Digits(args.quick)
        one = journal.last(method="one λ")
        if one is None:
            start, measures = best_of_one(data)
            one = journal.add(method="one λ", start=start, measures=measures)
        for name in args.methods:
            if journal.last(method=name) is None:
                rows, end = descend(data, METHODS[name], one["start"], 4 if args.quick else STEPS)
                journal.add(method=name, rows=rows, converged=end)
                print(f"{name}: {rows[-1]}, converged {end}", flush=True)
    named = {"one λ": dict(zip(METRICS, one["measures"], strict=True)) | {"log λ": one["start"]}, "methods": {}}
    for name in METHODS:
        if record := journal.last(method=name):
            columns = dict(zip(("seconds", *METRICS), map(list, zip(*record["rows"], strict=True)), strict=True))
            named["methods"][name] = columns | {"converged": dict(zip(METRICS, record["converged"], strict=True))}
    rows = [
        {"": name} | {f"{key}, converged": end["converged"][key] for key in METRICS} for name, end in named["methods"].items()
    ]
    common.table([{"": "one λ"} | {f"{key}, converged": named["one λ"][key] for key in METRICS}, *rows])
    common.finish("paper_5", args, named)


if __name__ == "__main__":
    main()
