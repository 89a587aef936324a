"""Whether the dual solver ever diverges: a cold start at C from 1e-6 to 1e6 on every data set, in both precisions.

Ten epochs each, with and without an intercept. Coefficients and hypergradients must be finite, and without an intercept the
dual objective must never fall (the script fails otherwise): that is what the solver ascends. The primal objective of a dual
ascent is not monotone, so the duality gap can rise; printed are how often it did, the largest such factor, how far the last
gap is above the best so far, and the last gap over the first. Changes at the level of rounding (1e-6 of the gap at W = 0 in
float32, 1e-13 in float64) are not counted.

    python examples/benchmarks/divergence.py

``--raw`` leaves dense features as they are.
"""

import sys

import _common as common
import numpy as np
from sklearn.model_selection import StratifiedKFold

from sksid.problem import make_problem
from sksid.solvers import Dual, NotFiniteError
from sksid.solvers._dual import SUM

GRID = 10.0 ** np.arange(-6, 7, 2)
ROUNDING = {"float32": 1e-6, "float64": 1e-13}


def objectives(problem, C, n_epochs):
    """Gap and dual objective before the first epoch and after each, summed over splits; None if a number is not finite."""
    solver, history = Dual(), []
    state = solver.init(problem, np.full(problem.n_features, -np.log(C)))
    try:
        for epoch in range(n_epochs + 1):
            state = solver.advance(problem, state) if epoch else state
            sums = solver.evaluate(problem, state).sum(axis=0)
            coef, _ = solver.coefficients(problem, state)
            primal = sums[SUM["train_loss"]] + 0.5 / C * np.sum(coef**2)
            history.append((sums[SUM["gap"]], primal - sums[SUM["gap"]]))
    except NotFiniteError:
        return None
    outcome = (*solver.coefficients(problem, state), *solver.adjoint(problem, state), solver.log_gradient(problem, state))
    return np.transpose(history) if all(np.isfinite(values).all() for values in outcome) else None


def summary(gaps, duals, rounding):
    """Rises of the gap, the largest factor of one, last over best, last over first, and falls of the dual objective."""
    floor = rounding * gaps[0]
    counted = np.maximum(gaps, floor)
    factors = counted[1:] / counted[:-1]
    falls = int((np.diff(duals) < -floor).sum())
    return int((factors > 1 + 1e-6).sum()), factors.max(), counted[-1] / counted.min(), counted[-1] / counted[0], falls


def examine(name, args):
    """A row for each precision, with and without an intercept."""
    X, y, _, _ = common.load(name, 1000 if args.quick else None, raw=args.raw)
    classes, labels = np.unique(y, return_inverse=True)
    splits = list(StratifiedKFold(args.splits).split(X, y))
    for dtype, intercept in ((np.float32, True), (np.float32, False), (np.float64, True), (np.float64, False)):
        problem = make_problem(X, labels, splits, n_classes=classes.size, dtype=dtype, fit_intercept=intercept)
        runs = {float(C): objectives(problem, C, args.epochs) for C in GRID}
        found = {C: summary(*run, ROUNDING[problem.dtype.name]) for C, run in runs.items() if run is not None}
        count, factor, over_best, over_first, falls = np.transpose(list(found.values()))
        row = {
            "data": name,
            "classes": classes.size,
            "precision": problem.dtype.name,
            "intercept": "yes" if intercept else "no",
            "not finite": [f"{C:.0e}" for C in runs if C not in found] or "none",
            "dual falls": "-" if intercept else int(falls.sum()),
            "gap rises": int(count.sum()),
            "of": args.epochs * len(found),
            "largest": float(factor.max()),
            "last / best": float(over_best.max()),
            "last / first": float(over_first.max()),
        }
        print(common.line(row), flush=True)
        yield row


def main():
    """All sets; ends with status 1 where anything was not finite."""
    parser = common.parser(__doc__)
    parser.add_argument("--raw", action="store_true", help="do not standardize dense features")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--sets", nargs="*", help="these sets only")
    args = parser.parse_args()
    rows = [row for name in args.sets or [*common.FROM_SKLEARN, *common.loader().names()] for row in examine(name, args)]
    print()
    common.table(rows)
    for kind in ("yes", "no"):
        chosen = [row for row in rows if row["intercept"] == kind]
        total, of = sum(row["gap rises"] for row in chosen), sum(row["of"] for row in chosen)
        print(f"\nintercept {kind}: the gap rose in {total} of {of} epochs")
    common.finish("divergence", args, rows)
    bad = sum(row["not finite"] != "none" or row["dual falls"] not in ("-", 0) for row in rows)
    sys.exit(f"{bad} rows met numbers that are not finite, or a dual objective that fell" if bad else 0)


if __name__ == "__main__":
    main()
