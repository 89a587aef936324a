"""Does a search make a better model than the best single C? Test log loss, accuracy and seconds on every set there is.

Sets: the development data, scikit-learn's own, and made ones: few features that matter, all that matter, one block that
matters, none, and labels that are shuffled. Each seed draws test rows (30%, stratified), folds and what is random in a search.
Methods: sksid's structures; LogisticRegressionCV with 20 values, converged; its elastic net with saga; GridSearchCV over C and
SelectKBest's k. All get the same five folds. The sets of the data folder at odd places of their sorted names are those on which
sksid's settings were chosen; the others are shown apart.

    python examples/benchmarks/generalization.py --sets dna subj "made *" --seeds 3

All that is measured is kept, a line for each fit, in ``--journal``; what is there is not measured again. A difference to
LogisticRegressionCV is the mean over the seeds; its standard error is that of test rows within the seeds and of the seeds.
"""

import argparse
import fnmatch
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
    return -np.log(np.maximum(probabilities, 1e-15))


def measure(name, X, y, seed, methods, journal, seconds):
    """All methods on one draw of the test rows; a method that runs out of time on a set is not tried again there."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y))
    reference = None
    for method in [REFERENCE, *(method for method in methods if method != REFERENCE)]:
        known = journal.last(set=name, method=method, seed=seed)
        late = journal.last(set=name, method=method, status="over")
        if late or known and (method != REFERENCE or all(journal.last(set=name, method=m, seed=seed) for m in methods)):
            continue
        try:
            with common.limit(seconds), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                begin = time.process_time()
                model = METHODS[method](folds, seed, X.shape[1]).fit(X, y)
                spent = time.process_time() - begin
        except TimeoutError:
            journal.add(set=name, method=method, seed=seed, status="over")
            continue
        losses = row_losses(model, X_test, y_test)
        reference = losses if method == REFERENCE else reference
        paired = losses - reference if reference is not None else np.full(1, np.nan)
        record = journal.add(
            set=name, method=method, seed=seed, status="ok", loss=losses.mean(), seconds=spent,
            accuracy=np.mean(model.predict(X_test) == y_test), difference=paired.mean(),
            error=paired.std(ddof=1) / np.sqrt(paired.size) if paired.size > 1 else np.nan,
            cv=-getattr(model, "best_score_", np.nan),
        )  # fmt: skip
        print(common.line({key: record[key] for key in ("set", "method", "seed", "loss", "difference", "error", "seconds")}))


# ---- what is shown ------------------------------------------------------------------------------------------------------


def summarize(journal, names, methods):
    """A row for each set: the reference's loss, and of each method by how many percent it is less or more."""
    rows = []
    chosen_on = sorted(set(names) - set(MADE) - set(common.FROM_SKLEARN))[::2]
    for name in names:
        own = {m: _of_seeds(r for r in journal.records if (r["set"], r["method"]) == (name, m)) for m in methods}
        if not own.get(REFERENCE):
            continue
        loss = np.mean([record["loss"] for record in own[REFERENCE]])
        row = {"set": name, "half": "chosen on" if name in chosen_on else "other", "loss": loss}
        for method, records in own.items():
            if method == REFERENCE:
                continue
            differences, errors = (np.array([record[key] for record in records]) for key in ("difference", "error"))
            spread = differences.std(ddof=1) ** 2 / differences.size if differences.size > 1 else 0.0
            within = np.mean(errors**2) / max(differences.size, 1) if records else np.nan
            row[method] = 100 * differences.mean() / loss if records else np.nan
            row[f"{method} se"] = 100 * np.sqrt(spread + within) / loss if records else np.nan
        times = {m: np.median([record["seconds"] for record in own[m]]) for m in ("shared", "auto") if own.get(m)}
        row["auto / shared seconds"] = times["auto"] / times["shared"] if len(times) == 2 else np.nan
        rows.append(row)
    return rows


def _of_seeds(records):
    """The last record of each seed, of fits that ended."""
    return [record for record in {record["seed"]: record for record in records}.values() if record["status"] == "ok"]


def show(rows):
    """The table, and how often "auto" is better or worse."""
    common.table(rows)
    for half in ("chosen on", "other"):
        auto = np.array([row["auto"] for row in rows if row["half"] == half])
        auto = auto[np.isfinite(auto)]
        if auto.size:
            better = [int((auto <= -limit).sum()) for limit in (1, 5)]
            print(
                f"{half}: {auto.size} sets, mean {auto.mean():+.1f}%, better by 1% on {better[0]}, by 5% on {better[1]}, "
                f"worst {auto.max():+.1f}%"
            )


def draw(rows, path):
    """Each method's difference to one C, a line for each set."""
    import matplotlib.pyplot as plt

    methods = [m for m in METHODS if m != REFERENCE and any(np.isfinite(row.get(m, np.nan)) for row in rows)]
    rows = sorted(rows, key=lambda row: row.get("auto", 0.0))
    figure, ax = plt.subplots(figsize=(7, 1 + 0.28 * len(rows)), layout="constrained")
    for method in methods:
        strong = {"color": "black", "zorder": 3, "markersize": 7} if method == "auto" else {"alpha": 0.6, "markersize": 5}
        ax.plot([row.get(method, np.nan) for row in rows], range(len(rows)), "o", label=method, **strong)
    ax.axvline(0.0, color="grey", linewidth=1)
    ax.set_yticks(range(len(rows)), [row["set"] for row in rows])
    ax.set(xlabel="test log loss against one converged C, %", xscale="symlog")
    ax.legend()
    figure.savefig(path, dpi=120)


def main():
    """Measure what is missing, and show all."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="+", default=["*"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit-seconds", type=float, default=600.0, help="for one fit")
    parser.add_argument("--journal", default=str(common.HERE / "results" / "generalization.jsonl"))
    parser.add_argument("--report", action=argparse.BooleanOptionalAction, default=False, help="measure nothing")
    parser.add_argument("--draw", metavar="PNG", help="draw what there is")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.limit_seconds = 1, min(args.limit_seconds, 5.0)
    known, journal = sets(), Journal(args.journal)
    names = sorted({name for pattern in args.sets for name in fnmatch.filter(known, pattern)})
    for name in [] if args.report else names:
        X, y = known[name]()
        for seed in range(args.seeds):
            measure(name, X, y, seed, args.methods, journal, args.limit_seconds)
    rows = summarize(journal, sorted(known), list(METHODS))
    show(rows)
    if args.draw:
        draw(rows, args.draw)
    common.finish("generalization", args, rows)


if __name__ == "__main__":
    main()
