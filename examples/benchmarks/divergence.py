"""Whether the dual solver ever diverges: a cold start at C from 1e-6 to 1e6 on every data set, in both precisions.

Ten epochs each. Coefficients and hypergradients must be finite (the script fails otherwise). Printed besides: how often the
duality gap of the lower level rose from one epoch to the next, the largest such factor, and how far the last gap is above
the best so far. Gaps at the level of rounding (1e-6 of the gap at W = 0 in float32, 1e-13 in float64) are not counted.

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


def gaps_of(problem, C, n_epochs):
    """The gap before the first epoch and after each, summed over splits; None where a number is not finite."""
    solver = Dual()
    state = solver.init(problem, np.full(problem.n_features, -np.log(C)))
    gaps = [solver.evaluate(problem, state)[:, SUM["gap"]].sum()]
    try:
        for _ in range(n_epochs):
            state = solver.advance(problem, state)
            gaps.append(solver.evaluate(problem, state)[:, SUM["gap"]].sum())
    except NotFiniteError:
        return None
    outcome = (*solver.coefficients(problem, state), *solver.adjoint(problem, state), solver.log_gradient(problem, state))
    return np.array(gaps) if all(np.isfinite(values).all() for values in outcome) else None


def rises(gaps, rounding):
    """How many steps led upwards, the largest factor of one, and the last gap over the best."""
    floor = rounding * gaps[0]
    counted = np.maximum(gaps, floor)
    factors = counted[1:] / counted[:-1]
    return int((factors > 1 + 1e-6).sum()), float(factors.max()), float(counted[-1] / counted.min())


def examine(name, args):
    """A row for each precision; the gaps of every run beside them."""
    X, y, _, _ = common.load(name, 1000 if args.quick else None, raw=args.raw)
    classes, labels = np.unique(y, return_inverse=True)
    splits = list(StratifiedKFold(args.splits).split(X, y))
    for dtype in (np.float32, np.float64):
        problem = make_problem(X, labels, splits, n_classes=classes.size, dtype=dtype)
        runs = {float(C): gaps_of(problem, C, args.epochs) for C in GRID}
        finite = {C: rises(gaps, ROUNDING[problem.dtype.name]) for C, gaps in runs.items() if gaps is not None}
        worst = max(finite, key=lambda C: finite[C][1], default=float("nan"))
        row = {
            "data": name,
            "classes": classes.size,
            "precision": problem.dtype.name,
            "not finite": [f"{C:.0e}" for C in runs if C not in finite] or "none",
            "rises": sum(count for count, _, _ in finite.values()),
            "of": args.epochs * len(finite),
            "largest": max((factor for _, factor, _ in finite.values()), default=float("nan")),
            "at C": f"{worst:.0e}",
            "last / best": max((ratio for _, _, ratio in finite.values()), default=float("nan")),
        }
        print(common.line(row), flush=True)
        yield row, {f"{C:.0e}": None if gaps is None else gaps.tolist() for C, gaps in runs.items()}


def main():
    """All sets; ends with status 1 where anything was not finite."""
    parser = common.parser(__doc__)
    parser.add_argument("--raw", action="store_true", help="do not standardise dense features")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--sets", nargs="*", help="these sets only")
    args = parser.parse_args()
    found = [pair for name in args.sets or [*common.FROM_SKLEARN, *common.loader().names()] for pair in examine(name, args)]
    rows = [row for row, _ in found]
    print()
    common.table(rows)
    failures = sum(row["not finite"] != "none" for row in rows)
    print(f"\nby number of classes, two / more: {by_classes(rows)}")
    common.finish("divergence", args, [{**row, "gaps": gaps} for row, gaps in found])
    sys.exit(f"{failures} rows met numbers that are not finite" if failures else 0)


def by_classes(rows):
    """Rises in all epochs, of the binary and of the multiclass sets."""
    kinds = [row for row in rows if row["classes"] == 2], [row for row in rows if row["classes"] > 2]
    return " / ".join(f"{sum(row['rises'] for row in kind)} rises in {sum(row['of'] for row in kind)} epochs" for kind in kinds)


if __name__ == "__main__":
    main()
