"""Does a search make a better model than the best single C? Test log loss, accuracy and seconds on every set there is.

Sets: the development data, scikit-learn's own, and made ones: few features that matter, all that matter, one block that
matters, none, and labels that are shuffled. Each seed draws test rows (30%, stratified), folds and what is random in a search.
Methods: sksid's structures; LogisticRegressionCV with 20 values, converged; its elastic net with saga; GridSearchCV over C and
SelectKBest's k. All get the same five folds. The sets of the data folder at odd places of their sorted names are those on which
sksid's settings were chosen; the others are shown apart.

    python examples/benchmarks/generalization.py --sets dna subj "made *" --seeds 3

All that is measured is kept, a line for each fit, in ``--journal``; what is there is not measured again. A difference to
LogisticRegressionCV, or to the shared penalty where that one runs out of time, is the mean over the seeds; its standard error
is that of test rows within the seeds and of the seeds. With ``--swing``, ten seeds of the search on one draw of the test rows:
how much the test loss of "auto" and of "per_feature" varies.

    python examples/benchmarks/generalization.py --draw generalization.png
"""

import fnmatch
import itertools
import time
import warnings

import _common as common
import numpy as np
import scipy.sparse as sp
from _journal import Journal
from sklearn.datasets import make_classification
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline

from sksid import HypergradientSearchCV

STRUCTURES = ("shared", "moments", "evidence", "per_feature", "auto")
VALUES = np.logspace(-4, 4, 20)
REFERENCE = "LogisticRegressionCV"
REFERENCES = REFERENCE, "shared"  # the second, where the first runs out of time


# ---- sets ---------------------------------------------------------------------------------------------------------------


def made(n_informative, n_features=500, n_rows=2000, truth=0):
    """Normal features, of which so many matter, the first ones; labels by a logistic model."""
    random = np.random.RandomState(truth)
    X, coef = random.standard_normal((n_rows, n_features)), np.zeros(n_features)
    coef[:n_informative] = random.standard_normal(n_informative)
    outputs = X @ coef * (2.0 / max(np.sqrt(n_informative), 1.0))
    return X, (random.random_sample(n_rows) < 1.0 / (1.0 + np.exp(-outputs))).astype(np.int64)


def shuffled():
    """A set of correlated features whose labels have been shuffled."""
    X, y = make_classification(1000, 100, n_informative=10, random_state=0)
    return X, np.random.RandomState(0).permutation(y)


MADE = {
    "made sparse": lambda: made(10),
    "made dense": lambda: made(500),
    "made block": lambda: made(100),
    "made nothing": lambda: made(0),
    "made shuffled": shuffled,
}


def sets():
    """Functions that return X and y, by name."""
    return {name: lambda name=name: together(*common.load(name)) for name in common.names_here()} | MADE


def together(X, y, X_test, y_test):
    """All rows; which are for the test, a seed decides."""
    if X_test is None:
        return X, y
    stacked = sp.vstack([X, X_test], format="csr") if sp.issparse(X) else np.concatenate([X, X_test])
    return stacked, np.concatenate([y, y_test])


# ---- methods ------------------------------------------------------------------------------------------------------------


def searched(structure):
    """Sksid with a structure."""
    return lambda folds, seed, p: HypergradientSearchCV(LogisticRegression(), structure=structure, cv=folds, random_state=seed)


def elastic_net(folds, seed, p):
    """As a user would ask for it."""
    return LogisticRegressionCV(
        Cs=VALUES, l1_ratios=[0.0, 0.5, 1.0], solver="saga", max_iter=1000, cv=folds, scoring="neg_log_loss",
        random_state=seed, use_legacy_attributes=False,
    )  # fmt: skip


def converged(folds, seed, p):
    """One C, of 20."""
    return LogisticRegressionCV(
        Cs=VALUES, l1_ratios=(0.0,), tol=1e-6, max_iter=10_000, cv=folds, scoring="neg_log_loss", use_legacy_attributes=False
    )


def selected(folds, seed, p):
    """GridSearchCV over C and the number of features."""
    model = make_pipeline(SelectKBest(f_classif), LogisticRegression(max_iter=1000))
    counts = sorted({int(k) for k in np.geomspace(min(10, p), p, 5)})
    grid = {"selectkbest__k": counts, "logisticregression__C": np.logspace(-3, 3, 7)}
    return GridSearchCV(model, grid, cv=folds, scoring="neg_log_loss")


METHODS = {name: searched(name) for name in STRUCTURES} | {
    REFERENCE: converged,
    "elastic net": elastic_net,
    "SelectKBest": selected,
}


# ---- measuring ----------------------------------------------------------------------------------------------------------


def row_losses(model, X, y):
    """The log loss of each row."""
    probabilities = model.predict_proba(X)[np.arange(y.size), np.searchsorted(model.classes_, y)]
    return -np.log(np.maximum(probabilities.astype(np.float64), 1e-15))


def fitted(method, folds, seed, X, y, seconds):
    """The fitted model, its processor time, and what has become of it."""
    begin = time.process_time()
    try:
        with common.limit(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = METHODS[method](folds, seed, X.shape[1]).fit(X, y)
    except TimeoutError:
        return None, time.process_time() - begin, {"status": "over"}
    except Exception as error:  # of one fit among thousands: the others go on
        return None, time.process_time() - begin, {"status": "failed", "why": repr(error)[:200]}
    return model, time.process_time() - begin, {"status": "ok"}


def measure(name, X, y, seed, methods, journal, seconds):
    """All methods on one draw of the test rows; a method that runs out of time on a set is not tried again there.

    Losses are compared, row by row, with those of the first of ``REFERENCES`` that comes to an end.
    """

    def is_known(method):
        late = journal.last(set=name, method=method, status="over")
        return late or journal.last(set=name, method=method, seed=seed)

    if all(is_known(method) for method in methods):
        return
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y))
    against, reference = None, None
    for method in [*REFERENCES, *(method for method in methods if method not in REFERENCES)]:
        late = journal.last(set=name, method=method, status="over")
        if late or is_known(method) and (method not in REFERENCES or against):
            continue
        model, spent, outcome = fitted(method, folds, seed, X, y, seconds)
        if model is None:
            journal.add(set=name, method=method, seed=seed, seconds=spent, **outcome)
            continue
        losses = row_losses(model, X_test, y_test)
        if against is None:
            against, reference = method, losses
        paired = losses - reference
        record = journal.add(
            set=name, method=method, seed=seed, **outcome, loss=losses.mean(), seconds=spent,
            accuracy=np.mean(model.predict(X_test) == y_test), against=against, difference=paired.mean(),
            error=paired.std(ddof=1) / np.sqrt(paired.size), cv=-getattr(model, "best_score_", np.nan),
        )  # fmt: skip
        print(common.line({key: record[key] for key in ("set", "method", "seed", "loss", "difference", "error", "seconds")}))


def swing(name, X, y, journal, seconds):
    """The test losses on one draw of the test rows over ten seeds of the search."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    for method, seed in itertools.product(("per_feature", "auto"), range(10)):
        if not journal.last(set=name, method=f"{method} again", seed=seed):
            model, spent, outcome = fitted(method, folds, seed, X, y, seconds)
            loss = np.nan if model is None else row_losses(model, X_test, y_test).mean()
            journal.add(set=name, method=f"{method} again", seed=seed, seconds=spent, loss=loss, **outcome)


# ---- what is shown ------------------------------------------------------------------------------------------------------


class Set:
    """The records of one set: of each method, the last of each seed, of fits that ended."""

    def __init__(self, name, records):
        self.name, self.methods = name, {}
        for record in records:
            if record["set"] == name and record["status"] == "ok":
                self.methods.setdefault(record["method"], {})[record["seed"]] = record

    def mean(self, method, key):
        """Over the seeds; NaN where there are none."""
        values = [record[key] for record in self.methods.get(method, {}).values()]
        return float(np.mean(values)) if values else np.nan

    @property
    def against(self):
        """The reference, and its mean loss."""
        method = next((name for name in REFERENCES if name in self.methods), None)
        return method, self.mean(method, "loss")

    def difference(self, method):
        """To the reference, and its standard error: that of test rows within the seeds, and of the seeds; in percent."""
        reference, loss = self.against
        records = [r for r in self.methods.get(method, {}).values() if r.get("against", REFERENCE) == reference]
        if not records:
            return np.nan, np.nan
        differences, errors = (np.array([record[key] for record in records]) for key in ("difference", "error"))
        spread = differences.var(ddof=1) if differences.size > 1 else 0.0
        return 100 * differences.mean() / loss, 100 * np.sqrt((spread + np.mean(errors**2)) / differences.size) / loss

    def between(self, first, second):
        """By how many percent the first method's loss is above the second's, and the standard error of that over the seeds."""
        one, other = self.methods.get(first, {}), self.methods.get(second, {})
        gaps = np.array([one[seed]["loss"] - other[seed]["loss"] for seed in one.keys() & other.keys()])
        if gaps.size == 0:
            return np.nan, np.nan
        error = gaps.std(ddof=1) / np.sqrt(gaps.size) if gaps.size > 1 else np.nan
        return 100 * gaps.mean() / self.mean(second, "loss"), 100 * error / self.mean(second, "loss")

    def row(self, half):
        """Of the table."""
        reference, loss = self.against
        row = {"set": self.name, "half": half, "against": reference, "loss": loss}
        for method in METHODS:
            if method != REFERENCE:
                row[method], row[f"{method} se"] = self.difference(method)
        row["auto to elastic net"], row["auto to elastic net se"] = self.between("auto", "elastic net")
        row["auto to shared"], row["auto to shared se"] = self.between("auto", "shared")
        row["auto / shared seconds"] = self.mean("auto", "seconds") / self.mean("shared", "seconds")
        for method in ("per_feature", "auto"):
            losses = [record["loss"] for record in self.methods.get(f"{method} again", {}).values()]
            row[f"{method} swing"] = 100 * np.std(losses) / loss if len(losses) > 1 else np.nan
        return row


def summarize(records, names):
    """A row for each set, and what they come to in each half of the sets."""
    chosen_on = sorted(set(names) - set(MADE) - set(common.FROM_SKLEARN))[::2]
    found = (Set(name, records) for name in names)
    rows = [one.row("chosen on" if one.name in chosen_on else "other") for one in found if one.against[0]]
    rows = [row for row in rows if np.isfinite(row["auto"])]
    halves = {half: [row for row in rows if row["half"] == half] for half in ("chosen on", "other")}
    return {"rows": rows, "summary": [_half(half, own) for half, own in halves.items() if own]}


def _half(half, rows):
    """How often "auto" is better or worse than one C, and than the elastic net; how long it takes; how it swings."""
    nets = [row for row in rows if np.isfinite(row["auto to elastic net"])]
    above = [row for row in nets if row["auto to elastic net"] > row["auto to elastic net se"]]
    auto, worst = np.array([row["auto"] for row in rows]), max(rows, key=lambda row: row["auto"], default=None)
    seconds = np.array([row["auto / shared seconds"] for row in rows])
    swings = np.array([row["auto swing"] / row["per_feature swing"] for row in rows if row["per_feature swing"] > 0])
    return {
        "half": half,
        "sets": len(rows),
        "mean": float(auto.mean()) if rows else np.nan,
        "better by 1%": int((auto <= -1).sum()),
        "better by 5%": int((auto <= -5).sum()),
        "worse by 0.5% and 2 se": sum(row["auto"] > max(0.5, 2 * row["auto se"]) for row in rows),
        "worst": f"{worst['set']} {worst['auto']:+.1f}%" if worst else "-",
        "not above elastic net": f"{len(nets) - len(above)} of {len(nets)}",
        "median seconds": float(np.median(seconds)) if rows else np.nan,
        "most seconds": float(seconds.max()) if rows else np.nan,
        "median swing": float(np.median(swings)) if swings.size else np.nan,
    }


def show(numbers):
    """The tables."""
    shown = [name for name in METHODS if name != REFERENCE]
    print("test log loss above that of one converged C, in percent, and its standard error\n")
    common.table(
        [
            {key: row[key] for key in ("set", "half", "loss")}
            | {name: _percent(row[name], row[f"{name} se"]) for name in shown}
            for row in numbers["rows"]
        ]
    )
    print()
    common.table(numbers["summary"])
    print('\n"auto" to one C; seconds are those of "auto" over those of "shared", swings over those of "per_feature"')


def _percent(difference, error):
    return f"{difference:+.1f} ± {error:.1f}" if np.isfinite(difference) else "-"


def draw(numbers, path):
    """Each method's difference to one C, a line for each set; the bar of "auto" is a standard error both ways."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = sorted(numbers["rows"], key=lambda row: np.nan_to_num(row["auto"]))
    figure, ax = plt.subplots(figsize=(8, 1.4 + 0.24 * len(rows)), layout="constrained")
    for method in (name for name in METHODS if name not in (REFERENCE, "shared", "auto")):
        ax.plot([row[method] for row in rows], range(len(rows)), "o", alpha=0.6, markersize=5, label=method)
    errors = [row["auto se"] for row in rows]
    ax.errorbar([row["auto"] for row in rows], range(len(rows)), xerr=errors, fmt="o", color="C5", label="auto", capsize=2)
    ax.axvline(0.0, color="gray", linewidth=1)
    ax.set_yticks(range(len(rows)), [row["set"] for row in rows])
    ax.set(xlabel="test log loss above that of one converged C, %")
    ax.set_xscale("symlog", linthresh=1.0)
    ax.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=100)


def main():
    """Measure what is missing, and show all."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="+", default=["*"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--swing", action="store_true", help="ten seeds of the search on one draw of the test rows, too")
    parser.add_argument("--limit-seconds", type=float, default=600.0, help="for one fit")
    parser.add_argument("--journal", default=str(common.HERE / "results" / "generalization.jsonl"))
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--draw", metavar="PNG", help="draw the saved results and do nothing else")
    args = parser.parse_args()
    if args.draw:
        return draw(common.saved("generalization"), args.draw)
    if args.quick:
        args.seeds, args.limit_seconds = 1, min(args.limit_seconds, 5.0)
    known, journal = sets(), Journal(args.journal)
    names = sorted({name for pattern in args.sets for name in fnmatch.filter(known, pattern)})
    for name in [] if args.report else names:
        X, y = known[name]()
        for seed in range(args.seeds):
            measure(name, X, y, seed, args.methods, journal, args.limit_seconds)
        if args.swing:
            swing(name, X, y, journal, args.limit_seconds)
    numbers = summarize(journal.records, sorted(known))
    show(numbers)
    common.finish("generalization", args, numbers)


if __name__ == "__main__":
    main()
