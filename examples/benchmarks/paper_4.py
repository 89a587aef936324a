"""Figure 4 at full size: one penalty for each of 130,107 features of 20 newsgroups, tuned by gradient descent, five runs.

Validation loss, validation accuracy and test accuracy after each outer step: means and the band from the least to the largest.
The features are those of scikit-learn's ``fetch_20newsgroups_vectorized`` (counts, rows of length 1), the train part in two
stratified halves of 5,657. Lower level: mean loss + 1/2 mean_{j,c}(e^{λ_j} W_jc²), no intercept, so that log_penalties is
λ + log(S/pK) in the sum that the solvers minimize. λ_0 = 0; λ ← λ - 100 ∂F/∂λ. Each hypergradient of Batch, Stoch const and
Stoch dec has 20 epochs: 10 + 10, or 15 for the lower level and 5 for the linear system.

Choices of ours: six outer steps; a new λ starts from the w and v of the one before (from zero, Batch would not leave the
neighbourhood of w = 0), with step sizes begun anew; minibatches of 57 through a new order of the rows in each epoch; float32;
what is plotted is measured at the w_t that the hypergradient was taken at, as that is what a method knows. ``dual`` makes 10
joint passes, 20 epochs and its revisits, a hypergradient, and in a second line 2 passes, with five times as many steps; a third
goes on to 200 steps in one run, to see what becomes of the test accuracy. ``aid`` is conjugate gradient with HOAG's decreasing
tolerance, one run, until 60 s are over; its epochs are pairs of products. Seconds are the hypergradients' processor time, on
one thread: neither the evaluation nor the set-up counts. "Converged" is w(λ) at the last λ of the first run.

    python examples/benchmarks/paper_4.py --save
    python examples/benchmarks/paper_4.py --draw paper_4.png

What the search does to the test accuracy: it is 77.6% at λ_0, once w(λ_0) is reached. Batch and the stochastic steps spend
their 120 epochs on reaching it: their λ has hardly moved, and at the last one w(λ) has 77.6% still. ``dual`` gains 2 points in
30 steps (79.6%) and nearly 3 in 100 (80.4%). From there the validation accuracy goes on, from 93.8% to 95.9% after 200 steps,
while the test accuracy falls to 80.0%: what the validation rows still gain is overfitting.

A step β/(γ + i) with γ = 2/(1 - q²), q so near 1, hardly falls in a thousand steps: Stoch dec is Stoch const here.
"""

from typing import NamedTuple

import _common as common
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import normalize

from sksid.objective import Objective
from sksid.problem import make_problem
from sksid.solvers import BATCH, Aid, Dual, Sgd, Steps

STEPS, RUNS, STEP_SIZE, AID_SECONDS = 6, 5, 100.0, 60.0
FAR = "dual, 200 steps"
METRICS = ("validation loss", "validation accuracy", "test accuracy")


class Method(NamedTuple):
    """A solver, what one hypergradient asks of its ``advance``, and how many steps it makes."""

    solver: object
    passes: float = 1.0
    steps: int = STEPS
    runs: int = RUNS
    seconds: float = np.inf


def pair(steps):
    """Both ways to share 20 epochs."""
    return Method(Sgd(steps, steps)), Method(Sgd(steps, steps, lower_epochs=15, adjoint_epochs=5))


METHODS = {}
for name, steps in {"Batch": BATCH, "Stoch const": Steps("constant"), "Stoch dec": Steps()}.items():
    METHODS[name], METHODS[f"{name} 75/25"] = pair(steps)
METHODS |= {
    "dual": Method(Dual(), 10.0),
    "dual, 2 passes": Method(Dual(), 2.0, 5 * STEPS),
    FAR: Method(Dual(), 2.0, 200, runs=1),
    "aid": Method(Aid(max_direct=0, first_tol=1e-4, tightening=0.5, tol=1e-7), runs=1, seconds=AID_SECONDS),
}


class Posts(NamedTuple):
    """One run's data."""

    problem: object
    X_val: object
    y_val: np.ndarray
    X_test: object
    y_test: np.ndarray

    @property
    def offset(self):
        """log(S/pK)."""
        return np.log(self.problem.train_totals[0] / (self.problem.n_features * self.problem.n_outputs))

    def measures(self, solver, state):
        """METRICS at the solver's w."""
        W = solver.coefficients(self.problem, state)[0][0].T
        hits = [float(np.mean((X @ W).argmax(axis=1) == y)) for X, y in ((self.X_val, self.y_val), (self.X_test, self.y_test))]
        return [float(solver.losses(self.problem, state, self.problem)[0]), *hits]


def posts(seed, quick=False):
    """Stratified halves, drawn by the seed."""
    X, y, X_test, y_test = common.load("20newsgroups", 2000 if quick else None, raw=True)
    X, X_test = normalize(X.astype(np.float64)), normalize(X_test.astype(np.float64))
    train, val = train_test_split(np.arange(y.size), test_size=0.5, stratify=y, random_state=seed)
    problem = make_problem(X, y, [(train, val)], n_classes=20, fit_intercept=False, dtype=np.float32, seed=seed)
    return Posts(problem, X[val], y[val], X_test, y_test)


def descend(data, method, seed):
    """Plain gradient descent: [(epochs, seconds, *METRICS)] of each step, and the last λ."""
    solver, problem = method.solver, data.problem
    lam, spent, rows = np.zeros(problem.n_features), 0.0, []
    state = solver.init(problem, lam + data.offset, seed=seed)

    def hypergradient(state):
        state = solver.rescale(problem, state, lam + data.offset) if rows else state
        state = solver.advance(problem, state, method.passes)
        return state, solver.log_gradient(problem, state)

    with common.counted(Objective, "pull") as pairs:
        while len(rows) < method.steps and spent < method.seconds:
            seconds, (state, gradient) = common.timed(hypergradient, state)
            spent, lam = spent + seconds, lam - STEP_SIZE * gradient
            epochs = pairs() or state.n_epochs * (2 if isinstance(solver, Dual) else 1)
            rows.append((epochs, spent, *data.measures(solver, state)))
    return rows, lam


def converged(data, lam):
    """METRICS at w(λ)."""
    solver = Dual()
    _, _, state = common.converge(data.problem, lam + data.offset, solver=solver, tol=1e-4, max_epochs=60)
    return data.measures(solver, state)


def summary(runs):
    """Mean, least and largest over the runs."""
    epochs, seconds, *measures = np.array(runs).transpose(2, 0, 1)
    record = {"epochs": epochs.mean(axis=0), "seconds": seconds.mean(axis=0)}
    for name, values in zip(METRICS, measures, strict=True):
        record |= {name: values.mean(axis=0), f"{name} least": values.min(axis=0), f"{name} largest": values.max(axis=0)}
    return {name: common.rounded(values) for name, values in record.items()}


def measure(quick):
    """All runs of all methods, method after method within a run."""
    runs, at_end = {name: [] for name in METHODS}, {}
    for seed in range(2 if quick else RUNS):
        data = posts(seed, quick)
        for name, method in METHODS.items():
            if seed < method.runs:
                rows, lam = descend(data, method, seed)
                runs[name].append(rows)
                print(
                    f"run {seed}, {name}: " + common.line(dict(zip(("epochs", "seconds", *METRICS), rows[-1], strict=True))),
                    flush=True,
                )
                if seed == 0:
                    at_end[name] = converged(data, lam)
        if seed == 0:
            at_end["λ_0 = 0"] = converged(data, np.zeros(data.problem.n_features))
    return {"methods": {name: summary(of) for name, of in runs.items()}, "converged": at_end}


def report(numbers):
    """The end of each method's line, and its test accuracy on the way."""
    rows = []
    for name, record in numbers["methods"].items():
        test, end = record["test accuracy"], numbers["converged"][name]
        rows.append(
            {
                "": name,
                "steps": len(test),
                "epochs": record["epochs"][-1],
                "seconds": record["seconds"][-1],
                **{metric: record[metric][-1] for metric in METRICS},
                "test, first step": test[0],
                "best": max(test),
                "converged": end,
            }
        )
    print("\nAfter the last step; converged: validation loss / validation accuracy / test accuracy of w(λ)\n")
    common.table(rows)
    start = numbers["converged"]["λ_0 = 0"]
    print("converged at λ_0 = 0: " + " / ".join(f"{value:.4g}" for value in start))
    for name, record in numbers["methods"].items():
        test = record["test accuracy"]
        print(f"{name}: test accuracy {test[0]:.1%} after the first step, best {max(test):.1%}, {test[-1]:.1%} after the last")
        print(f"    converged: validation {start[1]:.1%} -> {numbers['converged'][name][1]:.1%}, ", end="")
        print(f"test {start[2]:.1%} -> {numbers['converged'][name][2]:.1%}")


def draw(numbers, path):
    """A row a metric, against epochs and against seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(3, 2, figsize=(12, 12), sharey="row", layout="constrained")
    for row, metric in zip(axes, METRICS, strict=True):
        for ax, unit in zip(row, ("epochs", "seconds"), strict=True):
            for i, (name, record) in enumerate(numbers["methods"].items()):
                style = "-" if name.startswith(("Batch", "Stoch")) else "--"
                ax.plot(record[unit], record[metric], style, marker="o", ms=3, color=f"C{i}", label=name)
                ax.fill_between(record[unit], record[f"{metric} least"], record[f"{metric} largest"], color=f"C{i}", alpha=0.2)
            ax.set(xlabel=unit, xscale="log")
        row[0].set_ylabel(metric)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    fig.savefig(path, dpi=80)


def main():
    """Measure and report, or draw what was saved."""
    parser = common.parser(__doc__)
    parser.add_argument("--draw", metavar="PNG", help="draw the saved results and do nothing else")
    args = parser.parse_args()
    if args.draw:
        return draw(common.saved("paper_4"), args.draw)
    numbers = measure(args.quick)
    report(numbers)
    common.finish("paper_4", args, numbers)


if __name__ == "__main__":
    main()
