"""What ``solver="auto"`` rests on: searches with ``solver="dual"`` and with ``solver="aid"``, and a model of their seconds.

Every search has a process of its own, with a limit on its processor seconds. Beside the seconds stands what is known ahead:
rows n, columns p, stored entries, outputs K' (1 for two classes), splits F, ``log_scale`` (of the rows' mean squared norm).

The models are fitted to the logarithms of the seconds; a search that was stopped counts only where a model says that it is
shorter. With L = F K' lanes and m = min(n, p) where X is dense, else p:

- aid: ``product`` · L (n m, or SPARSE · entries, + VECTOR (n + p)) + ``form`` · F (n u² + u³) + ``fixed``, where the second
  term is for up to FORMED unknowns u = (m + 1) K';
- dual: (``entry`` · L · entries + ``row`` · L n) · (entries a row) ^ ``dense`` + ``fixed``.

The coefficients are printed in nanoseconds and in units of one multiply-add of a matrix product here, so that they mean the
same on another machine. Then: how often the models pick the faster solver or one within a tenth of it, the largest factor that
is lost by that, and the same for ``solvers.choose`` as it is.

    python examples/benchmarks/solver_costs.py --sets real named

Measurements are kept in ``--journal``, a line each, and not made again; ``--report`` makes none.
"""

import json
import resource
import subprocess
import sys
import time
import warnings

import _common as common
import _grid
import _peers as peers
import numpy as np
from _journal import Journal
from scipy.optimize import least_squares
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from sksid import HypergradientSearchCV, solvers
from sksid.problem import make_problem

SPLITS = 5
STRUCTURES = ("shared", "per_feature")
FORMED = 1000  # unknowns up to which a Hessian is formed
ALIKE = 1.1  # a ratio of seconds up to which both are right
SPARSE = 8.0  # dense multiply-adds that take as long as one of a sparse product
VECTOR = 10.0  # passes over the vectors of one product
WALL = 4.0  # a process may wait for its turn: its limit by the clock, over that of its processor seconds


# ---- one search ---------------------------------------------------------------------------------------------------------


def known_ahead(X, y, splits):
    """What a rule can know before it chooses."""
    size = peers.size_of(X, y)
    labels = np.unique(y, return_inverse=True)[1]
    problem = make_problem(X, labels, splits, n_classes=size.classes)
    today = "aid" if isinstance(solvers.choose(problem), solvers.Aid) else "dual"
    return {**vars(size), "outputs": size.outputs, "splits": SPLITS, "log_scale": problem.log_scale, "today": today}


def search(name, make, structure, solver, limit):
    """In a process of its own: print what is known ahead, then what was measured."""
    X, y, _, _ = make()
    splits = list(StratifiedKFold(SPLITS).split(np.zeros(X.shape[0]), y))
    print(json.dumps(known_ahead(X, y, splits)), flush=True)
    settings = {"structure": structure, "solver": solver, "cv": splits, "random_state": 0}
    HypergradientSearchCV(LogisticRegression(), **settings | {"cv": 2}).fit(
        *load_wine(return_X_y=True)
    )  # what is imported late
    spent = int(np.ceil(time.process_time()))
    resource.setrlimit(resource.RLIMIT_CPU, (spent + int(np.ceil(limit)), spent + int(np.ceil(limit)) + 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds, found = common.timed(lambda: HypergradientSearchCV(LogisticRegression(), **settings).fit(X, y))
    measured = {
        "seconds": seconds,
        "refit": found.refit_time_,
        "steps": found.n_iter_,
        "epochs": float(np.sum(found.cv_results_["n_epochs"])),
        "score": float(found.best_score_),
        "status": "ok",
    }
    print(json.dumps(measured))


def measure(name, structure, solver, args):
    """The record of a search in a process of its own."""
    command = [sys.executable, __file__, "--limit-seconds", str(args.limit_seconds), "--entries", str(args.entries)]
    case = ["--case", name, structure, solver]
    limit = WALL * args.limit_seconds + 60.0
    try:
        done = subprocess.run([*command, *case], stdout=subprocess.PIPE, text=True, timeout=limit)
        printed, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        printed, code = (error.stdout or b"").decode(), -1
    record = {"set": name, "structure": structure, "solver": solver}
    for line in printed.splitlines():
        record |= json.loads(line)
    if "n" not in record or code > 0:
        return record | {"status": "failed"}
    return {"seconds": args.limit_seconds, "status": "over"} | record


# ---- the models ---------------------------------------------------------------------------------------------------------


def columns(records):
    """What is known ahead, as arrays, in the units of the models' coefficients."""
    n, p, entries, outputs, splits, dense = (
        np.array([record[name] for record in records], dtype=float)
        for name in ("n", "p", "entries", "outputs", "splits", "dense")
    )
    lanes, narrow = splits * outputs, np.where(dense, np.minimum(n, p), p)
    unknowns = (narrow + 1.0) * outputs
    return {
        "product": lanes * (np.where(dense, n * narrow, SPARSE * entries) + VECTOR * (n + p)),
        "form": np.where(unknowns <= FORMED, splits * (n * unknowns**2 + unknowns**3), 0.0),
        "entry": lanes * entries,
        "row": lanes * n,
        "in a row": entries / n,
    }


def aid_seconds(coefficients, known):
    """Of one search with ``solver="aid"``, by the model."""
    product, form, fixed = coefficients
    return product * known["product"] + form * known["form"] + fixed


def dual_seconds(coefficients, known):
    """Of one search with ``solver="dual"``, by the model."""
    entry, row, dense, fixed = coefficients
    return (entry * known["entry"] + row * known["row"]) * known["in a row"] ** dense + fixed


MODELS = {  # seconds, coefficients to start from
    "aid": (aid_seconds, {"product": 1e-8, "form": 1e-10, "fixed": 1e-2}),
    "dual": (dual_seconds, {"entry": 1e-8, "row": 1e-6, "dense": 0.3, "fixed": 1e-2}),
}


def fit_model(solver, records):
    """Positive coefficients by name, from the searches of one solver and structure."""
    seconds, names = MODELS[solver]
    known, start = columns(records), np.log(list(names.values()))
    measured = np.log([record["seconds"] for record in records])
    ended = np.array([record["status"] == "ok" for record in records])

    def residuals(logs):
        off = np.log(seconds(np.exp(logs), known)) - measured
        return np.append(np.where(ended, off, np.minimum(off, 0.0)), 0.03 * (logs - start))

    found = least_squares(residuals, start, bounds=(start - 5.0, start + 5.0), loss="soft_l1")
    return dict(zip(names, np.exp(found.x), strict=True))


def pairs(records, structure):
    """The sets on which one of the two has ended, with both records."""
    found = {}
    for record in records:
        if record["structure"] == structure and record["status"] in ("ok", "over"):
            found.setdefault(record["set"], {})[record["solver"]] = record
    return {
        name: pair
        for name, pair in found.items()
        if len(pair) == 2 and any(record["status"] == "ok" for record in pair.values())
    }


def judge(picks, both):
    """How often a rule takes the faster one, and what it loses."""
    lost = {name: both[name][pick]["seconds"] / min(r["seconds"] for r in both[name].values()) for name, pick in picks.items()}
    worst = max(lost, key=lost.get)
    return {"right": f"{sum(ratio <= ALIKE for ratio in lost.values())} of {len(lost)}", "lost": lost[worst], "on": worst}


def summarize(records, rate):
    """Rows of the searches, of the coefficients, and of the rules."""
    searches, coefficients, rules = [], [], []
    for structure in STRUCTURES:
        both = pairs(records, structure)
        if not both:
            continue
        said = {}
        for solver, (seconds, _) in MODELS.items():
            of = [pair[solver] for pair in both.values()]
            found = fit_model(solver, of)
            said[solver] = seconds(found.values(), columns(of))
            for name, value in found.items():
                units = (1.0, 1.0) if name == "dense" else (1e9, 1.0 / rate)
                row = {"structure": structure, "solver": solver, "coefficient": name}
                coefficients.append(row | {"ns": value * units[0], "multiply-adds": value * units[1]})
        picks = {name: min(said, key=lambda solver, i=i: said[solver][i]) for i, name in enumerate(both)}
        today = {name: pair["dual"]["today"] for name, pair in both.items()}
        rules += [{"structure": structure, "rule": "models", **judge(picks, both)}]
        rules += [{"structure": structure, "rule": "choose", **judge(today, both)}]
        searches += [_row(pair, {s: said[s][i] for s in said}, picks[name]) for i, (name, pair) in enumerate(both.items())]
    return {"searches": searches, "coefficients": coefficients, "rules": rules}


def _row(pair, said, pick):
    """Of the table of searches."""
    record = pair["dual"]
    row = {name: record[name] for name in ("set", "structure", "n", "p", "entries", "outputs", "log_scale", "today")}
    for solver in MODELS:
        ended = pair[solver]["status"] == "ok"
        row[solver] = pair[solver]["seconds"] if ended else f">{pair[solver]['seconds']:.0f}"
        row[f"{solver} said"] = float(said[solver])
        row[f"{solver} epochs"] = pair[solver].get("epochs", float("nan"))
    return row | {"pick": pick}


def multiply_add():
    """Seconds of one multiply-add in a product of matrices, float64, one thread."""
    A, B = np.ones((1000, 500)), np.ones((500, 200))
    best = min(common.interleave({"product": lambda: A @ B}, 1)[0]["product"] for _ in range(10))
    return best / (A.size * B.shape[1])


def main():
    """Measure what is missing, fit, and show."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="+", default=["real", "named", "grid"], help="as in everywhere.py")
    parser.add_argument("--structures", nargs="+", default=list(STRUCTURES), choices=list(STRUCTURES))
    parser.add_argument("--entries", type=float, default=1e6, help="stored entries of a set of the grid at most")
    parser.add_argument("--limit-seconds", type=float, default=60.0, help="processor seconds of one search")
    parser.add_argument("--journal", default=str(common.HERE / "results" / "solver_costs.jsonl"))
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--case", nargs=3, metavar=("SET", "STRUCTURE", "SOLVER"), help="one search in this process")
    args = parser.parse_args()
    if args.quick:
        args.entries, args.limit_seconds = min(args.entries, 1e4), min(args.limit_seconds, 2.0)
    if args.case:
        name, structure, solver = args.case
        return search(name, _grid.chosen([name], args.entries)[name], structure, solver, args.limit_seconds)
    sets, journal = _grid.chosen(args.sets, args.entries), Journal(args.journal)
    for name in () if args.report else sets:
        for structure in args.structures:
            for solver in MODELS:
                if not journal.last(set=name, structure=structure, solver=solver):
                    record = journal.add(**measure(name, structure, solver, args))
                    print(common.line(record), flush=True)
    numbers = summarize([record for record in journal.records if record["set"] in sets], multiply_add())
    for title, rows in numbers.items():
        print(f"\n{title}\n")
        common.table(rows)
    common.finish("solver_costs", args, numbers)


if __name__ == "__main__":
    main()
