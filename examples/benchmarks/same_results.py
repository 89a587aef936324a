"""Whether a change of the code changes results: every solver and structure on small sets, before and after.

    python examples/benchmarks/same_results.py record before.json      # with the old code
    python examples/benchmarks/same_results.py record after.json       # with the new code
    python examples/benchmarks/same_results.py compare before.json after.json

A record takes some minutes on one core. It uses nothing but ``HypergradientSearchCV`` and ``hypergradient``; sets of the
developers' ../shared/data are left out, and named, where that folder is absent.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import hashlib
import importlib.util
import json
import time
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn import datasets
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import scale

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SOLVERS = ("dual", "aid", "sgd")
STRUCTURES = ("shared", "moments", "groups", "per_feature", "matrix")
STEPS = 12  # of a search, on the way to each structure
EPOCHS = 60  # of a hypergradient
KEPT = 400  # entries of an array that go into the record, spread evenly; the digest is of all of them
BUNDLED = ("iris", "wine", "breast_cancer", "digits")
SHARED = {"dna": 600, "dexter": 150, "trec6": 600, "spambase": 600, "ma_khan": None, "a9a": 1500, "pcmac": 600}  # rows kept


# ---- the sets -----------------------------------------------------------------------------------------------------------


def sets():
    """Names, and functions that give ``X, y``; those that are absent are named."""
    found = {name: lambda name=name: bundled(name) for name in BUNDLED}
    found |= {"made_text": made_text, "made_dense": made_dense}
    if not (DATA / "load.py").exists():
        print(f"skipped, for {DATA} is absent: {', '.join(SHARED)}")
        return found
    spec = importlib.util.spec_from_file_location("load", DATA / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return found | {name: lambda name=name, rows=rows: shared(module, name, rows) for name, rows in SHARED.items()}


def bundled(name):
    """A set that comes with scikit-learn, standardized; 500 rows at most."""
    X, y = some_rows(*getattr(datasets, f"load_{name}")(return_X_y=True), 500)
    return scale(X), y


def made_text():
    """Two classes of made documents, as sparse tf-idf of single precision."""
    rng = np.random.RandomState(0)
    words = np.minimum(rng.zipf(1.4, size=(800, 30)), 2000) - 1
    counts = sp.csr_matrix((np.ones(words.size), (np.repeat(np.arange(800), 30), words.ravel())), shape=(800, 2000))
    X = TfidfTransformer(sublinear_tf=True).fit_transform(counts).astype(np.float32)
    logits = X @ rng.standard_normal(2000)
    return X, (logits + 0.3 * rng.standard_normal(800) > np.median(logits)).astype(int)


def made_dense():
    """Three classes, features of very different scales."""
    X, y = datasets.make_classification(400, 30, n_informative=8, n_redundant=4, n_classes=3, random_state=0)
    return X * np.logspace(-1, 1, 30), y


def shared(module, name, rows):
    """A set of ../shared/data; dense features of single precision, standardized."""
    X, y, _, _ = module.load(name)
    X, y = some_rows(X, y, rows)
    return (X if sp.issparse(X) else scale(X.astype(np.float64)).astype(np.float32)), y


def some_rows(X, y, rows):
    """A random part of the rows, in their order."""
    if rows is None or rows >= X.shape[0]:
        return X, y
    kept = np.sort(np.random.RandomState(0).permutation(X.shape[0])[:rows])
    return X[kept], y[kept]


def structure_of(name, n_features):
    """What the searches and hypergradients are given as ``structure``."""
    place = np.linspace(-1.0, 1.0, n_features)
    if name == "groups":
        return np.arange(n_features) % 4
    return np.column_stack([np.ones(n_features), place, np.cos(3.0 * place)]) if name == "matrix" else name


# ---- record -------------------------------------------------------------------------------------------------------------


def record(path, only):
    """Run all and write the record."""
    runs, begin = {}, time.perf_counter()
    for name, load in sets().items():
        if only and name not in only:
            continue
        X, y = load()
        since = time.perf_counter()
        for solver in SOLVERS:
            for structure in STRUCTURES:
                runs[f"{name} {solver} {structure}"] = one_run(X, y, solver, structure_of(structure, X.shape[1]))
        print(f"{name}: {X.shape[0]} x {X.shape[1]}, {time.perf_counter() - since:.1f} s", flush=True)
    path.write_text(json.dumps(runs) + "\n")
    print(f"{len(runs)} runs in {time.perf_counter() - begin:.0f} s, written to {path}")


def one_run(X, y, solver, structure):
    """What a search and a hypergradient give; of one that raises, what it raises."""
    results = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part, call in {"search": searched, "hypergradient": derived}.items():
            try:
                results |= {f"{part} {key}": packed(value) for key, value in call(X, y, solver, structure).items()}
            except Exception as error:  # a change may mend it
                results[f"{part} raised"] = f"{type(error).__name__}: {error}"
    return results


def searched(X, y, solver, structure):
    """What a search gives."""
    from sksid import HypergradientSearchCV

    search = HypergradientSearchCV(
        LogisticRegression(), structure=structure, solver=solver, cv=3, max_iter=STEPS, random_state=0
    ).fit(X, y)
    return {
        "steps": search.n_iter_,
        "score": search.best_score_,
        "C": list(search.best_params_.values()),
        "log penalties": np.log(search.penalties_),
        "theta": search.theta_,
        "coef": search.best_estimator_.coef_,
        "intercept": search.best_estimator_.intercept_,
        "rows": search.cv_results_["mean_test_score"],
    }


def derived(X, y, solver, structure):
    """What a hypergradient at the shared penalty 1 gives."""
    from sksid import hypergradient

    splits = list(StratifiedKFold(3).split(X, y))
    result = hypergradient(X, y, splits, 0.0, structure=structure, solver=solver, tol=1e-4, max_epochs=EPOCHS)
    return {
        "epochs": result.n_epochs,
        "value": result.value,
        "gradient": result.gradient,
        "theta gradient": result.theta_gradient,
    }


def packed(value):
    """The digest, shape and some entries of an array; ``repr`` of a float loses nothing."""
    values = np.asarray(value, dtype=np.float64)
    flat = values.ravel()
    return {
        "digest": hashlib.sha256(values.tobytes()).hexdigest()[:16],
        "shape": list(values.shape),
        "entries": flat[np.unique(np.linspace(0, max(flat.size - 1, 0), min(flat.size, KEPT)).astype(int))].tolist(),
    }


# ---- compare ------------------------------------------------------------------------------------------------------------


def compare(before, after):
    """Print a line for each run, and a table for each solver and structure; whether all is the same bit for bit."""
    before, after = (json.loads(path.read_text()) for path in (before, after))
    missing = sorted(set(before) ^ set(after))
    if missing:
        print(f"in one record only: {', '.join(missing)}\n")
    print(f"{'set solver structure':<36} what differs, and by how much of its largest entry")
    counted = {}
    for run in [run for run in before if run in after]:
        found = {key: difference(before[run], after[run], key) for key in dict.fromkeys([*before[run], *after[run]])}
        words = ", ".join(f"{key} {text}" for key, text in found.items() if text)
        print(f"{run:<36} {words or 'equal'}")
        counted.setdefault(run.partition(" ")[2], []).append((run, not words, gain(before[run], after[run])))
    print(f"\n{'solver structure':<20} equal  score to 1e-6  to 1e-3  better  worse   median, and worst set")
    for kind, runs in counted.items():
        gains = [value for _, _, value in runs if value is not None]
        worst = min((value, run.split()[0]) for run, _, value in runs if value is not None) if gains else (0.0, "-")
        counts = [sum(equal for _, equal, _ in runs), sum(abs(value) <= 1e-6 for value in gains)]
        counts += [sum(abs(value) <= 1e-3 for value in gains), sum(value > 1e-3 for value in gains)]
        counts += [sum(value < -1e-3 for value in gains)]
        columns = "{:>5}  {:>13}  {:>7}  {:>6}  {:>5}".format(*counts)
        print(f"{kind:<20} {columns}   {np.median(gains or [0.0]):+.1e}, {worst[0]:+.1e} {worst[1]}")
    return all(equal for runs in counted.values() for _, equal, _ in runs)


def gain(before, after):
    """By which share of it the best score has become better; None where there is none."""
    one, other = before.get("search score"), after.get("search score")
    if one is None or other is None:
        return None
    return (other["entries"][0] - one["entries"][0]) / abs(one["entries"][0])


def difference(before, after, key):
    """Nothing where a result is the same bit for bit, else how far it is, in words."""
    one, other = before.get(key), after.get(key)
    if one == other:
        return ""
    if one is None or other is None or isinstance(one, str):
        return f"({_brief(one)} -> {_brief(other)})"
    if one["shape"] != other["shape"]:
        return f"shape {one['shape']} -> {other['shape']}"
    if len(one["entries"]) == 1 and key.rpartition(" ")[2] in ("steps", "epochs"):
        return f"{one['entries'][0]:g} -> {other['entries'][0]:g}"
    x, y = np.array(one["entries"]), np.array(other["entries"])
    both = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~both], y[~both], equal_nan=True):
        return "not finite elsewhere"
    size = np.max(np.abs(x[both]), initial=0.0)
    return f"{np.max(np.abs(x - y)[both], initial=0.0) / (size if size > 0 else 1.0):.1e}"


def _brief(value):
    return "nothing" if value is None else value[:60] if isinstance(value, str) else "a result"


def main():
    """Record or compare; ends with 1 where two records differ."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = options.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("file", type=Path)
    recording.add_argument("--sets", nargs="+", help="only these")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    args = options.parse_args()
    if args.command == "record":
        record(args.file, args.sets)
    else:
        raise SystemExit(not compare(args.before, args.after))


if __name__ == "__main__":
    main()
