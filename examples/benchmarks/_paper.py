"""What the paper's Figures 1 to 3 share at full size: data, methods, errors, records and drawing.

Choices of ours, as the captions leave them open:

- MNIST, pixels from 0 to 1, ten classes, no intercept; a random half trains, the other validates: 30,000 rows each, and
  minibatches of 300, so that 100 steps are an epoch. A run draws its own halves and its own minibatches.
- Lower level: mean loss + 1/2 sum λ_j ‖W_j‖², so that ``log_penalties`` = log λ + log S, S = 30,000.
- The error is |g - g*|²/|g*|² for g = ∂F/∂log λ; g* is where ``dual`` ends in float64, and ``aid`` confirms it. The paper's
  methods compute in float32, which is a floor near 1e-12.
- λ_j = e^{ε_j} of "a penalty for each feature": ε_j uniform on [-2, 2], drawn anew for each run.
- Every point of the paper's methods is Algorithm 1 on that budget, from zero: half of the epochs for either system (or 75% for
  the lower level), w_t frozen while the linear system is solved. The linear system begins anew at each point of a run; the
  lower level, whose step sizes do not know the budget, goes on from the point before. ∇₁E is counted in seconds, not epochs.
- ``dual`` solves both systems in one pass, which counts as 2 epochs, its revisits of rows with it; its points are one run in
  float64, looked at on its way: it has no step sizes that know the budget, so a fresh run would pass through the same points.
- ``aid`` is Newton's method and conjugate gradient with the Hessian's diagonal as preconditioner, in float64. Its points are
  one run, its tolerance tightened tenfold from 1e-2 until the lower level's gradient is below 1e-6, on the first run's rows
  only, as nothing in it is random. One product with X and one with X' count as an epoch.
- Seconds are the solves' processor time on one thread: without the layout of the rows, and without the 64 products from which
  the paper's step sizes come.

The three figures share their records, a line for each run of a method in ``results/paper.jsonl``: stopped, a script goes on
where it was, and Figure 3 measures only what Figures 1 and 2 have not. ``--save`` summarizes what there is, ``--seconds`` ends
in time.
"""

import tempfile
import time
from dataclasses import replace
from typing import NamedTuple

import _common as common
import numpy as np
from _journal import Journal

from sksid import bounds
from sksid.objective import Objective
from sksid.problem import make_problem
from sksid.solvers import BATCH, Aid, Dual, Sgd, Steps

BUDGETS = (4, 6, 8, 12, 20, 32, 60, 100)
TO_60 = (4, 6, 8, 12, 16, 20, 32, 60)  # of the methods that only Figure 3 has
JOINT = (1, 2, 3, 4, 5, 7, 10, 15)  # dual's passes
TAIL = 8  # the slope is fitted on budgets from here: six of them
CONSTANT, DECREASING = Steps("constant"), Steps("decreasing")
FIRST_TOL, TOL, EXACT = 1e-2, 1e-6, 1e-11


class Method(NamedTuple):
    """A pair of solvers, how they share a budget, and the budgets."""

    solver: Sgd
    lower_share: float = 0.5
    budgets: tuple = BUDGETS

    def epochs(self, budget):
        """For the lower level and for the linear system, of so many in all."""
        lower = round(self.lower_share * budget)
        return lower, budget - lower


def method(lower, adjoint, *budget, sampling="iid"):
    """The paper's iterations for both systems, minibatches drawn as its theorems have them."""
    return Method(Sgd(lower, adjoint, sampling=sampling), *budget)


THREE = {
    "Batch": method(BATCH, BATCH),
    "Stoch const": method(CONSTANT, CONSTANT),
    "Stoch dec": method(DECREASING, DECREASING),
}
SHUFFLED = {"Stoch dec, shuffled": method(DECREASING, DECREASING, sampling="shuffle")}
EIGHT = THREE | {
    "dec + Batch": method(DECREASING, BATCH, 0.5, TO_60),
    "Batch + dec": method(BATCH, DECREASING, 0.5, TO_60),
    "Batch 75/25": method(BATCH, BATCH, 0.75, TO_60),
    "Stoch const 75/25": method(CONSTANT, CONSTANT, 0.75, TO_60),
    "Stoch dec 75/25": method(DECREASING, DECREASING, 0.75, TO_60),
}


class Setting(NamedTuple):
    """λ of the mean loss: a number or one for each feature."""

    penalties: object

    def log_penalties(self, problem):
        """Of the sum that the solvers minimize, one for each feature."""
        return np.broadcast_to(np.log(self.penalties) + np.log(problem.train_totals[0]), problem.n_features).copy()

    def error(self, gradient, reference):
        """Squared and relative; of the one hypergradient, where there is one λ, and of all features' in any case."""
        whole = np.sum((gradient - reference) ** 2) / np.sum(reference**2)
        return (gradient.sum() / reference.sum() - 1.0) ** 2 if np.isscalar(self.penalties) else whole, whole


def uneven(seed):
    """Figure 2's λ_j = e^{ε_j}, ε_j uniform on [-2, 2], drawn for this run."""
    return Setting(np.exp(np.random.RandomState(1000 + seed).uniform(-2.0, 2.0, 784)))


ONE = {f"λ = {value:g}": Setting(value) for value in (0.1, 1.0, 10.0, 100.0)}
EACH = "λ_j = exp(ε_j)"
RUNS = dict.fromkeys(ONE, 5) | {EACH: 10}


def setting_of(panel, seed):
    """The λ of a panel in one run."""
    return uneven(seed) if panel == EACH else ONE[panel]


# ---- one run ------------------------------------------------------------------------------------------------------------


def mnist(seed, quick=False):
    """The problem of one run in float64: a random half of the rows trains, the other validates."""
    X, y, _, _ = common.load("mnist", 2000 if quick else None, raw=True)
    order = np.random.RandomState(seed).permutation(y.size)
    halves = np.array_split(order, 2)
    return make_problem(X / 255.0, y, [tuple(halves)], n_classes=10, fit_intercept=False, dtype=np.float64, seed=seed)


def by_sgd(problem, state, setting, method, budgets, reference):
    """Algorithm 1 on each budget; ``state`` lends its room, its curvature and its random numbers.

    Seconds of the two systems are those of their epochs: a call's, divided by the number of epochs in it.
    """
    state = replace(method.solver, warm=False).rescale(problem, state, setting.log_penalties(problem))
    points, reached, spent = [], 0, 0.0
    for budget in budgets:
        lower, adjoint = method.epochs(budget)
        solver = replace(method.solver, lower_epochs=lower - reached, adjoint_epochs=adjoint)
        state.tables[1, :, :, : problem.n_outputs], state.epochs[1] = 0.0, 0
        seconds, state = common.timed(solver.advance, problem, state)
        for_adjoint = seconds * adjoint / (lower - reached + adjoint)
        spent += seconds - for_adjoint
        reached = lower
        points.append((budget, spent + for_adjoint, *setting.error(solver.log_gradient(problem, state), reference)))
    return points


def by_dual(problem, setting, seed):
    """One run: (epochs, seconds, gradient) after JOINT passes, revisits counted, and the gradient it ends with."""
    solver, looks, spent = Dual(), [], 0.0
    state = solver.init(problem, setting.log_penalties(problem), seed=seed)
    for n in range(1, 500):
        seconds, state = common.timed(solver.advance, problem, state)
        spent += seconds
        if n in JOINT:
            looks.append((2 * state.n_epochs, spent, solver.log_gradient(problem, state)))
        if n > max(JOINT) and solver.progress(problem, state).residual < EXACT:
            return looks, solver.log_gradient(problem, state)
    raise RuntimeError("dual has not converged")


def by_aid(problem, setting, reference):
    """One run, looked at after each tolerance."""
    solver = Aid(max_direct=0, first_tol=FIRST_TOL, tightening=0.1, tol=TOL)
    state, spent, points = solver.init(problem, setting.log_penalties(problem)), 0.0, []
    with common.counted(Objective, "pull") as pairs:
        while not points or solver.progress(problem, state).residual > TOL:
            seconds, state = common.timed(solver.advance, problem, state)
            spent += seconds
            points.append((pairs(), spent, *setting.error(solver.log_gradient(problem, state), reference)))
    return points


# ---- all runs -----------------------------------------------------------------------------------------------------------


def measure(journal, panels, methods, seconds, quick=False):
    """Whatever the journal has not, run after run of all panels; ``aid``, in which nothing is random, once a panel."""
    end = time.monotonic() + seconds
    for seed in range(2 if quick else max(RUNS.values())):
        missing = [
            (panel, name)
            for panel in panels
            if seed < RUNS[panel]
            for name in ("dual", *methods, *(["aid"] if seed == 0 else []))
            if journal.last(panel=panel, seed=seed, method=name) is None
        ]
        if not missing or time.monotonic() > end:
            continue
        problem = mnist(seed, quick)
        single = problem.astype(np.float32)
        state, references = THREE["Batch"].solver.init(single, np.zeros(problem.n_features), seed=seed), {}
        for panel, name in missing:
            if time.monotonic() > end:
                break
            setting = setting_of(panel, seed)
            looks, reference = references[panel] = references.get(panel) or by_dual(problem, setting, seed)
            if name == "dual":
                points = [(*spent, *setting.error(gradient, reference)) for *spent, gradient in looks]
            elif name == "aid":
                points = by_aid(problem, setting, reference)
            else:
                state.random = np.random.RandomState([seed, *name.encode()])  # whatever was measured before it
                budgets = methods[name].budgets[: 3 if quick else None]
                points = by_sgd(single, state, setting, methods[name], budgets, reference)
            q = bounds.curvature(problem, 0, setting.log_penalties(problem), state.data_curvatures[0]).q
            journal.add(panel=panel, seed=seed, method=name, q=float(q), points=[common.rounded(point) for point in points])
            print(f"run {seed}, {panel}, {name}", flush=True)


def summary(journal, panels, methods):
    """{panel: {"q": …, "methods": {method: …}}}: means over the runs, the error's standard deviation, and how many runs."""
    found = {}
    for panel in panels:
        records = {name: _mean(journal, panel, name) for name in (*methods, "dual", "aid")}
        of_panel = [record["q"] for record in journal.records if record["panel"] == panel]
        if of_panel:
            found[panel] = {"q": float(np.mean(of_panel)), "methods": {name: of for name, of in records.items() if of}}
    return found


def _mean(journal, panel, name):
    """Of one method's runs, the last of each seed."""
    runs = [journal.last(panel=panel, seed=seed, method=name) for seed in range(RUNS[panel])]
    runs = [run["points"] for run in runs if run]
    if not runs:
        return None
    epochs, seconds, error, whole = np.array(runs).transpose(2, 1, 0)
    return {
        "runs": len(runs),
        "epochs": common.rounded(epochs.mean(axis=1)),
        "seconds": common.rounded(seconds.mean(axis=1)),
        "mean": common.rounded(error.mean(axis=1)),
        "std": common.rounded(error.std(axis=1)),
        "all features": common.rounded(whole.mean(axis=1)),
    }


def slope(record, key="mean"):
    """Of log error against log epochs on the tail."""
    epochs, errors = np.array(record["epochs"]), np.array(record[key])
    tail = epochs >= (TAIL if epochs.max() > TAIL else 0)  # --quick has no tail
    return float(np.polyfit(np.log(epochs[tail]), np.log(errors[tail]), 1)[0])


def report(panels):
    """The tables, panel by panel."""
    for title, panel in panels.items():
        print(f"\n{title} (q = {panel['q']:.3f}): squared relative error / seconds after so many epochs\n")
        rows, empty = [], {f"{epochs:g}": "" for epochs in sorted({*BUDGETS, *TO_60})}
        for name, record in panel["methods"].items():
            points = zip(record["epochs"], record["mean"], record["seconds"], strict=True)
            if name not in ("dual", "aid"):
                cells = {f"{epochs:g}": f"{e:.1e} / {s:.2f}" for epochs, e, s in points}
                slopes = {"slope": slope(record), "of all features": slope(record, "all features")}
                rows.append({"": name, "runs": record["runs"]} | empty | cells | slopes)
            else:
                print(f"{name}: " + ", ".join(f"{e:.1e} after {epochs:.0f} ({s:.1f} s)" for epochs, e, s in points))
        common.table(rows)


# ---- a script -----------------------------------------------------------------------------------------------------------


def main(name, doc, panels, methods):
    """Measure and report, or draw what was saved."""
    parser = common.parser(doc)
    parser.add_argument("--draw", metavar="PNG", help="draw the saved results and do nothing else")
    parser.add_argument("--seconds", type=float, default=np.inf, help="begin nothing after so many seconds")
    parser.add_argument("--journal", default=common.HERE / "results" / "paper.jsonl", help="where the runs are kept")
    args = parser.parse_args()
    if args.draw:
        return draw(common.saved(name), args.draw)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(f"{folder}/quick.jsonl" if args.quick else args.journal)
        measure(journal, panels, methods, args.seconds, args.quick)
    panels = summary(journal, panels, methods)
    report(panels)
    common.finish(name, args, panels)


def draw(panels, path):
    """One column a panel: the error against epochs, and against seconds; bars are one standard deviation upwards."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(2, len(panels), figsize=(2 + 3.6 * len(panels), 7), squeeze=False, sharey=True)
    for column, (title, panel) in zip(axes.T, panels.items(), strict=True):
        column[0].set_title(f"{title}, q = {panel['q']:.3f}")
        for ax, unit in zip(column, ("epochs", "seconds"), strict=True):
            for i, (name, record) in enumerate(panel["methods"].items()):
                bars = np.array([np.zeros(len(record["std"])), record["std"]])
                style = {"fmt": "--o" if name in ("dual", "aid") else "-o", "color": f"C{i}", "ms": 3, "capsize": 2}
                ax.errorbar(record[unit], record["mean"], bars, label=name, **style)
            ax.set(xscale="log", yscale="log", ylim=(1e-14, 3.0), xlabel=unit)
            ax.xaxis.set_minor_formatter("")
    fig.supylabel("squared relative error of the hypergradient", fontsize="medium", color=plt.rcParams["axes.labelcolor"])
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=min(5, 1 + 2 * len(panels)))
    fig.set_layout_engine("constrained")
    fig.savefig(path, dpi=100)
