"""Figure 4 at full size: one penalty for each of 130,107 features of 20 newsgroups, tuned by gradient descent.

Validation loss, validation accuracy and test accuracy at the w_t that each hypergradient was taken at, which is what a method
knows, after steps 1 to 10 and every tenth; and those of *converged* models, w(λ), at the λ of every 50th step, which is what
tuning is about. Means over the runs, and the band from the least to the largest.

The features are those of scikit-learn's ``fetch_20newsgroups_vectorized`` (counts, rows of length 1), the train part in two
stratified halves of 5,657. ``--without-headers`` counts the words of the posts' bodies only, with scikit-learn's
CountVectorizer: the caption does not say which, and headers name the group's regulars. Lower level: mean loss + 1/2
mean_{j,c}(e^{λ_j} W_jc²), no intercept, so that log_penalties is λ + log(S/pK) in the sum that the solvers minimize. λ_0 = 0; λ
← λ - 100 ∂F/∂λ, for all methods, each λ by at most 1; 300 steps. Each hypergradient has 20 epochs: 10 + 10, or 15 for the lower
level and 5 for the linear system.

Choices of ours: the limit of 1, without which "Batch, step 100" does not get to 200 steps: where a w_j lags behind its w(λ)_j,
its ∂F/∂λ_j grows with e^{λ_j}, and λ_j runs away. A new λ starts from the w and v of the one before (from zero, Batch would not
leave the neighborhood of w = 0), with step sizes begun anew; minibatches of 57 through a new order of the rows in each epoch;
float32. Batch's step α = 2/(L + μ) is that of the theorems, from a bound on the curvature; "Batch, step 100" takes one that is
stable here, twenty classes' probabilities being far from 1/2, and half of it in the linear system; "heavy ball" adds a momentum
of 0.9 to 100, in both systems; "AID-CG" has it in the lower level and conjugate gradient in the linear system, whose 10
products are 6 iterations, a start and a test of symmetry. These three go through ``sksid.sid``. ``dual`` makes 10 joint passes,
or 2, a hypergradient: 20 or 4 epochs and its revisits. Seconds are the hypergradients' processor time, on one thread: neither
the evaluation nor the set-up counts.

    python examples/benchmarks/paper_4.py --runs 1 --save
    python examples/benchmarks/paper_4.py --draw paper_4.png

Every 50 steps a run is kept beside the results (``results/paper_4.jsonl``; where it stands in the folder ``results/paper_4``):
stopped, the same command goes on. ``--runs`` and ``--methods`` choose, ``--seconds 0 --save`` summarizes what there is. Beside
the methods, 60 heavy-ball steps at λ_0, looked at on their way, show what stopping early would do. What comes out is said in
docs/paper.rst, where a test holds every comparison against the numbers; the first six steps of five runs,
``results/paper_4_first_steps.json``, are those of an earlier version of this script.
"""

import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import _common as common
import joblib
import numpy as np
from _journal import Journal
from scipy.special import softmax
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize

from sksid import sid
from sksid.problem import TRAIN, make_problem
from sksid.solvers import BATCH, Dual, Sgd, Steps

STEPS, RUNS, LOOK, EARLY = 300, 5, 50, 60
OUTER_STEP, LIMIT = 100.0, 1.0
SEEN = (*range(1, 11), *range(20, STEPS + 1, 10))  # the steps at whose w_t METRICS are taken
METRICS = ("validation loss", "validation accuracy", "test accuracy")


@dataclass(frozen=True)
class Posts:
    """One run's data; ``n_features`` counts those of all posts, the matrices have those of training posts."""

    problem: object
    X_val: object
    y_val: np.ndarray
    X_test: object
    y_test: np.ndarray
    n_features: int

    @cached_property
    def text(self):
        """What ``sksid.sid`` takes."""
        return GradientStep(self)

    @property
    def offset(self):
        """log(S/pK)."""
        return np.log(self.problem.train_totals[0] / (self.n_features * self.problem.n_outputs))

    def measures(self, W, loss):
        """METRICS at W, (n_features, n_outputs)."""
        hits = [float(np.mean((X @ W).argmax(axis=1) == y)) for X, y in ((self.X_val, self.y_val), (self.X_test, self.y_test))]
        return [float(loss), *hits]


def posts(seed, quick=False, headers=True):
    """Stratified halves, drawn by the seed.

    Features that no training post has are left out: their coefficients stay zero. The others are sorted by frequency, which
    keeps them nearer together in memory.
    """
    if headers:
        X, y, X_test, y_test = common.load("20newsgroups", raw=True)
    else:
        (texts, y, _), (texts_test, y_test, _) = (common.loader().text("20newsgroups", part) for part in ("train", "test"))
        words, y, y_test = CountVectorizer(), np.asarray(y), np.asarray(y_test)
        X = words.fit_transform(text.partition("\n\n")[2] for text in texts)
        X_test = words.transform(text.partition("\n\n")[2] for text in texts_test)
    if quick:
        kept = np.random.RandomState(0).permutation(y.size)[:2000]
        X, y = X[kept], y[kept]
    X, X_test = (normalize(counts.astype(np.float64)).astype(np.float32) for counts in (X, X_test))
    train, val = train_test_split(np.arange(y.size), test_size=0.5, stratify=y, random_state=seed)
    frequencies = np.bincount(X[train].indices, minlength=X.shape[1])
    kept = np.argsort(-frequencies, kind="stable")[: np.count_nonzero(frequencies)]
    problem = make_problem(X[:, kept], y, [(train, val)], n_classes=20, fit_intercept=False, dtype=np.float32, seed=seed)
    return Posts(problem, X[val][:, kept], y[val], X_test[:, kept], y_test, X.shape[1])


# ---- methods: each takes a state and λ to a state, W, the loss at W, and the hypergradient -----------------------------------


@dataclass(frozen=True)
class Shipped:
    """A solver of the package, and how many of its passes a hypergradient has."""

    solver: object
    passes: float = 1.0

    def begin(self, data, seed):
        """The state at λ_0."""
        return self.solver.init(data.problem, np.full(data.problem.n_features, data.offset), seed=seed)

    def step(self, data, state, lam):
        """The state after one hypergradient at λ, and that."""
        problem = data.problem
        state = self.solver.rescale(problem, state, lam + data.offset) if state.n_epochs else state
        state = self.solver.advance(problem, state, self.passes)
        return state, self.solver.log_gradient(problem, state)

    def look(self, data, state):
        """W, the loss there, epochs."""
        W = self.solver.coefficients(data.problem, state)[0][0].T
        epochs = state.n_epochs * (2 if isinstance(self.solver, Dual) else 1)
        return W, self.solver.losses(data.problem, state, data.problem)[0], epochs


@dataclass(frozen=True)
class HeavyBall:
    """x ← x + length · (T(x) − x) + momentum · (the change before), on all rows and in single precision."""

    length: float = 1.0
    momentum: float = 0.9

    def __call__(self, system, start, n_steps, rng):
        """Where so many steps lead."""
        x = start.astype(np.float32)
        change = np.zeros_like(x)
        for _ in range(n_steps):
            moved = system.apply(x, None) - x
            moved *= self.length
            change *= self.momentum
            change += moved
            x += change
        return x


class GradientStep:
    """Φ, a gradient step of length 100 on all training posts, and E, the validation loss: the map and the outer loss of sid.

    Matrices are stored by columns: either product goes through the coefficients once, and what it jumps to and fro in is small.
    """

    length, draw, grad_hyper = 100.0, None, None

    def __init__(self, data):
        rows = np.flatnonzero(data.problem.roles.role[:, 0] == TRAIN)
        self.X, self.X_val = data.problem.rows.matrix[rows].tocsc(), data.X_val.tocsc()
        self.n_features = data.n_features
        classes = np.eye(20, dtype=np.float32)
        self.targets, self.targets_val = classes[data.problem.roles.labels_of(0)[rows]], classes[data.y_val]
        self.at = (None, None)

    def proba(self, w):
        """Of the training posts, remembered while the linear system is solved."""
        if self.at[0] is not w:
            self.at = w, softmax(self.X @ w, axis=1)
        return self.at[1]

    def rates(self, hyper):
        """What the penalty takes off each feature in a step."""
        return self.length / (20 * self.n_features) * np.exp(hyper)

    def step(self, x, slopes, hyper):
        """Less the gradient that these slopes of the outputs make."""
        moved = self.X.T @ (slopes * np.float32(-self.length / len(slopes)))
        moved += (1.0 - self.rates(hyper)).astype(np.float32)[:, None] * x
        return moved

    def apply(self, w, hyper, draw):
        """Φ."""
        return self.step(w, softmax(self.X @ w, axis=1) - self.targets, hyper)

    def pull_w(self, w, hyper, v, draw):
        """Its derivative in w, transposed, times v."""
        p, bent = self.proba(w), self.X @ v.astype(np.float32)
        return self.step(v, p * (bent - (p * bent).sum(axis=1, keepdims=True)), hyper)

    def pull_hyper(self, w, hyper, v, draw):
        """Its derivative in λ, transposed, times v."""
        return -self.rates(hyper) * (w * v).sum(axis=1)

    def value(self, w, hyper, draw):
        """E."""
        return -np.log(softmax(self.X_val @ w, axis=1)[self.targets_val > 0]).mean()

    def grad_w(self, w, hyper, draw):
        """∇₁E."""
        return self.X_val.T @ ((softmax(self.X_val @ w, axis=1) - self.targets_val) / len(self.targets_val))


@dataclass(frozen=True)
class General:
    """``sksid.sid`` with that step, 10 steps of either solver."""

    lower: object
    adjoint: object
    n_adjoint: int = 10

    def begin(self, data, seed):
        """The state at λ_0."""
        zero = np.zeros((data.problem.n_features, 20))
        return {"w": zero, "v": zero, "epochs": 0, "loss": np.nan}

    def step(self, data, state, lam):
        """The state after one hypergradient at λ, and that."""
        text, settings = data.text, {"lower": self.lower, "adjoint": self.adjoint, "n_lower": 10, "n_adjoint": self.n_adjoint}
        found = sid.differentiate(text, text, lam, state["w"], adjoint_start=state["v"], **settings)
        return {"w": found.w, "v": found.v, "epochs": state["epochs"] + 20, "loss": found.value}, found.hypergradient

    def look(self, data, state):
        """W, the loss there, epochs."""
        return state["w"], state["loss"], state["epochs"]


def both_ways(steps):
    """10 epochs for either system, and 15 and 5."""
    return Shipped(Sgd(steps, steps)), Shipped(Sgd(steps, steps, lower_epochs=15, adjoint_epochs=5))


METHODS = {}
for name, steps in {"Batch": BATCH, "Stoch const": Steps("constant"), "Stoch dec": Steps()}.items():
    METHODS[name], METHODS[f"{name} 75/25"] = both_ways(steps)
METHODS |= {
    "Batch, step 100": General(HeavyBall(momentum=0.0), HeavyBall(length=0.5, momentum=0.0)),
    "heavy ball": General(HeavyBall(), HeavyBall()),
    "AID-CG": General(HeavyBall(), sid.ConjugateGradient(), n_adjoint=6),
    "dual": Shipped(Dual(), 10.0),
    "dual, 2 passes": Shipped(Dual(), 2.0),
}


# ---- runs ---------------------------------------------------------------------------------------------------------------


def descend(data, name, seed, journal, kept, n_steps, end):
    """Gradient descent on λ from where it stands, in pieces of LOOK steps, each a line of the journal."""
    method = METHODS[name]
    if kept.exists():
        done, state, lam, spent = joblib.load(kept)
    else:
        done, state, lam, spent = 0, method.begin(data, seed), np.zeros(data.problem.n_features), 0.0
    while done < n_steps and time.monotonic() < end:
        rows, longest = [], 0.0
        for step in range(done + 1, min(done + LOOK, n_steps) + 1):
            seconds, (state, gradient) = common.timed(method.step, data, state, lam)
            spent, longest = spent + seconds, max(longest, OUTER_STEP * np.abs(gradient).max())
            lam = lam - np.clip(OUTER_STEP * gradient, -LIMIT, LIMIT)
            if step in SEEN:
                W, loss, epochs = method.look(data, state)
                rows.append(common.rounded([step, epochs, spent, *data.measures(W, loss)]))
        done = step
        joblib.dump((done, state, lam, spent), kept)
        journal.add(method=name, seed=seed, step=done, rows=rows, longest=longest, converged=converged(data, lam))
        print(f"run {seed}, {name}, step {done}: {rows[-1]}, converged {journal.records[-1]['converged']}", flush=True)


def converged(data, lam):
    """METRICS at w(λ)."""
    solver = Dual()
    losses, _, state = common.converge(data.problem, lam + data.offset, solver=solver, tol=1e-4, max_epochs=60)
    return common.rounded(data.measures(solver.coefficients(data.problem, state)[0][0].T, losses[0]))


def stopped_early(data):
    """METRICS after each of so many heavy-ball steps at λ_0, from zero."""
    hyper, text, rows = np.zeros(data.problem.n_features), data.text, []

    def looked(w, draw):
        rows.append(common.rounded(data.measures(w, text.value(w, hyper, None))))
        return text.apply(w, hyper, draw)

    HeavyBall()(sid.System(looked, lambda rng: None), np.zeros((data.problem.n_features, 20)), EARLY + 1, None)
    return rows[1:]


def measure(journal, args, n_steps):
    """All runs that were asked for, one after the other; within a run the methods take LOOK steps in turn."""
    end, folder = time.monotonic() + args.seconds, Path(journal.path).with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(args.runs if args.seconds else 0):
        data = posts(seed, args.quick, not args.without_headers)
        if journal.last(method="λ_0", seed=seed) is None:
            at_start = converged(data, np.zeros(data.problem.n_features))
            journal.add(method="λ_0", seed=seed, converged=at_start, early=stopped_early(data))
        for until in range(min(LOOK, n_steps), n_steps + 1, LOOK):
            for name in args.methods:
                descend(data, name, seed, journal, folder / f"{name.replace('/', '-')} {seed}.joblib", until, end)


def summary(journal):
    """Of each method, over the runs that have come as far as the first: w_t after each step of SEEN, w(λ) every LOOK steps."""
    starts = {record["seed"]: record for record in journal.records if record["method"] == "λ_0"}
    found = {}
    for name in METHODS:
        runs = []
        for seed, start in starts.items():
            records = [record for record in journal.records if (record["method"], record["seed"]) == (name, seed)]
            looks = [(0, *start["converged"]), *((record["step"], *record["converged"]) for record in records)]
            runs.append((sum((record["rows"] for record in records), []), looks))
        runs = [run for run in runs if len(run[0]) == len(runs[0][0]) > 0]
        if runs:
            found[name] = _mean([rows for rows, _ in runs], METRICS, ("step", "epochs", "seconds"))
            found[name] |= {"runs": len(runs), "converged": _mean([looks for _, looks in runs], METRICS, ("step",))}
    return {"methods": found, "stopped early": _mean([record["early"] for record in starts.values()], METRICS, ())}


def _mean(runs, metrics, units):
    """Means over the runs, least and largest of the metrics."""
    columns = np.array(runs).transpose(2, 0, 1)
    record = {unit: values.mean(axis=0) for unit, values in zip(units, columns, strict=False)}
    for name, values in zip(metrics, columns[len(units) :], strict=True):
        record |= {name: values.mean(axis=0), f"{name} least": values.min(axis=0), f"{name} largest": values.max(axis=0)}
    return {name: common.rounded(values) for name, values in record.items()}


def report(numbers):
    """The end of each method's line, and what its λ is worth."""
    rows = []
    for name, record in numbers["methods"].items():
        end = record["converged"]
        rows.append(
            {"": name, "runs": record["runs"], "steps": record["step"][-1]}
            | {key: record[key][-1] for key in ("epochs", "seconds", *METRICS)}
            | {f"converged, {key}": end[key][-1] for key in METRICS}
        )
    print("\nAfter the last step: at w_t, and converged at its λ\n")
    common.table(rows)


def draw(numbers, path):
    """A row a metric: against epochs, against seconds, and converged against steps on λ."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(3, 3, figsize=(16, 12), sharey="row", layout="constrained")
    for row, metric in zip(axes, METRICS, strict=True):
        for i, (name, whole) in enumerate(numbers["methods"].items()):
            style = "-" if name.startswith(("Batch", "Stoch")) else "--"
            for ax, unit, record in zip(row, ("epochs", "seconds", "step"), (whole, whole, whole["converged"]), strict=True):
                ax.plot(record[unit], record[metric], style, color=f"C{i}", label=name)
                ax.fill_between(record[unit], record[f"{metric} least"], record[f"{metric} largest"], color=f"C{i}", alpha=0.2)
                ax.set(xlabel="steps on λ, converged models" if unit == "step" else unit)
                ax.set_xscale("linear" if unit == "step" else "log")
        row[0].set_ylabel(metric)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    fig.savefig(path, dpi=80)


def main():
    """Measure and report, or draw what was saved."""
    parser = common.parser(__doc__)
    parser.add_argument("--draw", metavar="PNG", help="draw the saved results and do nothing else")
    parser.add_argument("--without-headers", action="store_true", help="count the words of the bodies only")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seconds", type=float, default=np.inf, help="begin no further 50 steps after so many seconds")
    args = parser.parse_args()
    name = "paper_4_without_headers" if args.without_headers else "paper_4"
    if args.draw:
        return draw(common.saved(name), args.draw)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal((Path(folder) if args.quick else common.HERE / "results") / f"{name}.jsonl")
        measure(journal, args, 3 if args.quick else STEPS)
    numbers = summary(journal)
    report(numbers)
    common.finish(name, args, numbers)


if __name__ == "__main__":
    main()
