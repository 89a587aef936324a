"""What each tuner takes and what its model is worth: processor seconds and test log loss on every set that is not too large.

Sets, test rows and folds are those of generalization.py. Tuners, each as a user would ask for it: sksid with one penalty and
with its default structure; LogisticRegressionCV and GridSearchCV with 10 values of C; OptunaSearchCV with 40 trials. What does
not end in ``--limit-seconds`` is left out, with what sets are too large for all of them (``LARGE``), and sets where the grid's
test loss is near zero.

    python examples/benchmarks/tuners.py --seeds 3 --save
    python examples/benchmarks/tuners.py --draw tuners.svg
"""

import hashlib
import json

import _common as common
import generalization
import numpy as np
from _journal import Journal
from _peers import METHODS as PEERS
from _peers import Form
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split

from sksid import HypergradientSearchCV

LARGE = "20newsgroups", "debian_sections", "mnist"
SEPARABLE = 0.01  # a test log loss below this is one of a few rows
AGAINST = "GridSearchCV"
TUNERS = {
    "sksid, default": lambda folds: HypergradientSearchCV(LogisticRegression(), cv=folds, random_state=0),
    "sksid, one penalty": lambda folds: PEERS["sksid"].make(Form(), folds),
    "LogisticRegressionCV": lambda folds: PEERS["lbfgs"].make(Form(), folds),
    "Optuna, 40 trials": lambda folds: PEERS["optuna"].make(Form(), folds),
    AGAINST: lambda folds: PEERS["grid"].make(Form(), folds),
}
STYLE = {  # color, marker, and where its name stands, above or below
    "sksid, default": ("#e0752d", "o", -25),
    "sksid, one penalty": ("#a3820f", "s", 14),
    "LogisticRegressionCV": ("#3b83c9", "^", -25),
    "Optuna, 40 trials": ("#b470b8", "D", 14),
    AGAINST: ("#767d88", "P", 14),
}
INK = "#767d88"


def measure(name, X, y, seed, journal, seconds):
    """All tuners on one draw of the test rows; one that has run out of time on a set is not tried again there."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y))
    for tuner, make in TUNERS.items():
        if journal.last(set=name, tuner=tuner, seed=seed) or journal.last(set=name, tuner=tuner, status="over"):
            continue
        generalization.METHODS[tuner] = lambda folds, seed, p, make=make: make(folds)
        model, spent, outcome = generalization.fitted(tuner, folds, seed, X, y, seconds)
        loss = np.nan if model is None else generalization.row_losses(model, X_test, y_test).mean()
        record = journal.add(set=name, tuner=tuner, seed=seed, seconds=spent, loss=loss, **outcome)
        print(common.line({key: record[key] for key in ("set", "tuner", "seed", "seconds", "loss", "status")}), flush=True)


def summarize(records):
    """A row for each set and tuner, seconds and test loss over those of the grid, and what they come to for each tuner."""
    ended = [record for record in records if record["status"] == "ok"]
    rows = []
    for name in sorted({record["set"] for record in ended}):
        found = {tuner: [r for r in ended if (r["set"], r["tuner"]) == (name, tuner)] for tuner in TUNERS}
        means = {
            tuner: {key: np.mean([r[key] for r in of]) for key in ("seconds", "loss")} for tuner, of in found.items() if of
        }
        grid = means.get(AGAINST)
        if grid is not None and grid["loss"] > SEPARABLE:
            rows += [
                {"set": name, "tuner": tuner, **mean, "time": mean["seconds"] / grid["seconds"], "above": _percent(mean, grid)}
                for tuner, mean in means.items()
            ]
    return {"rows": rows, "summary": [_of_tuner(tuner, [row for row in rows if row["tuner"] == tuner]) for tuner in TUNERS]}


def _percent(mean, grid):
    return 100 * (mean["loss"] / grid["loss"] - 1)


def _of_tuner(tuner, rows):
    times, above = ([row[key] for row in rows] for key in ("time", "above"))
    return {
        "tuner": tuner,
        "sets": len(rows),
        "median time": float(np.median(times)),
        "median test log loss": float(np.median(above)),
        "mean test log loss": float(np.mean(above)),
        "lower by 1%": sum(value < -1 for value in above),
        "higher by 1%": sum(value > 1 for value in above),
    }


def digest(numbers):
    """What tells whether a picture is of these numbers."""
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()


def draw(numbers, path):
    """Time against test loss, both beside the grid's: a faint dot for each set, a large one for each tuner."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    inks = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with plt.rc_context({**inks, "font.size": 11, "svg.hashsalt": "sksid"}):
        figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
        for row in numbers["rows"]:
            color, marker, _ = STYLE[row["tuner"]]
            ax.plot(row["time"], np.clip(row["above"], -30, 30), marker, color=color, alpha=0.35, ms=5, mew=0)
        for row in numbers["summary"]:
            color, marker, above = STYLE[row["tuner"]]
            x, y = row["median time"], row["median test log loss"]
            ax.plot(x, y, marker, color=color, ms=14, mec="white", mew=1.5, zorder=3)
            ax.annotate(row["tuner"], (x, y), (0, above), textcoords="offset points", color=color, ha="center", weight="bold")
        ax.axhline(0.0, color=INK, lw=0.8, zorder=0)
        ax.axvline(1.0, color=INK, lw=0.8, zorder=0)
        ax.set_xscale("log")
        ax.set_yscale("symlog", linthresh=2.0)
        ax.set_xticks([0.1, 0.3, 1, 3, 10], ["1/10", "1/3", "as long", "3 times", "10 times"])
        ax.set_yticks(
            [-20, -10, -5, -2, 0, 2, 5, 10, 20], [f"{y:+d}%" if y else "same" for y in (-20, -10, -5, -2, 0, 2, 5, 10, 20)]
        )
        ax.minorticks_off()
        ax.set(xlabel="processor time, beside GridSearchCV of 10 values", ylabel="test log loss, beside GridSearchCV's")
        ax.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None, "Description": digest(numbers)})


def main():
    """Measure what is missing, and show all."""
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="draws of the test rows")
    parser.add_argument("--limit-seconds", type=float, default=60.0, help="of the clock, for one fit")
    parser.add_argument("--journal", default=str(common.HERE / "results" / "tuners.jsonl"))
    parser.add_argument("--draw", metavar="FILE", help="draw the saved results and do nothing else")
    args = parser.parse_args()
    if args.draw:
        return draw(common.saved("tuners"), args.draw)
    known, journal = generalization.sets(), Journal(args.journal)
    names = ["breast_cancer", "wine"] if args.quick else sorted(set(known) - set(LARGE))
    for seed in range(1 if args.quick else args.seeds):
        for name in names:
            measure(name, *known[name](), seed, journal, args.limit_seconds)
    numbers = summarize(journal.records)
    common.table(numbers["rows"])
    common.table(numbers["summary"])
    common.finish("tuners", args, numbers)


if __name__ == "__main__":
    main()
