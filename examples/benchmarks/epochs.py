"""What the outer search costs: outer steps and epochs of every set, and the loss where it ends.

- steps: penalties that were tried; epochs: of the solver, the confirmation of the chosen step among them;
- seconds: of processor time, for search and confirmation without a refit;
- loss: cross-validated, at the end, to be compared between versions.

Any version of sksid that is on the path is measured, so that two can be compared:

    PYTHONPATH=../before python examples/benchmarks/epochs.py --save
"""

import warnings

import _common as common
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from sksid import HypergradientSearchCV

SETS = ("breast_cancer", "digits", "wine", "a9a", "w8a", "spambase", "farm_ads", "trec6", "dexter", "dorothea", "madelon")
SETS += ("isolet", "dna", "ma_west", "ma_khan", "ma_sorlie", "letter", "subj", "pcmac", "rcv1_small", "mushrooms")


def measure(X, y, args):
    """One search, and what it says of itself."""
    structure = np.arange(X.shape[1]) % 3 if args.structure == "blocks" else args.structure
    search = HypergradientSearchCV(
        LogisticRegression(C=args.C),
        structure=structure,
        solver=args.solver,
        cv=StratifiedKFold(5),
        refit=False,
        random_state=0,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        seconds, search = common.timed(search.fit, X, y)
    epochs = search.cv_results_["n_epochs"]
    return {
        "steps": search.n_iter_,
        "epochs": round(float(np.sum(epochs)), 1),
        "each": " ".join(f"{n:.0f}" for n in epochs[:12]),
        "seconds": seconds,
        "log C": round(float(np.log(search.best_params_["C"])), 2),
        "loss": round(-float(search.best_score_), 7),
        "warned": len([w for w in caught if issubclass(w.category, ConvergenceWarning)]),
    }


def main():
    """A row for each set."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--structure", default="shared", help="shared, blocks (three of interleaved features) or per_feature")
    parser.add_argument("--solver", default="auto")
    parser.add_argument("--C", type=float, default=1.0, help="where the search starts")
    args = parser.parse_args()
    rows = []
    for name in args.sets:
        X, y, _, _ = common.load(name, 300 if args.quick else None)
        kept = np.isin(y, np.flatnonzero(np.bincount(y) >= 5))
        rows.append({"data": name, **measure(X[kept], y[kept], args)})
        print(common.line(rows[-1]), flush=True)
    print()
    common.table(rows)
    ratios = [sum(row[what] for row in rows) / len(rows) for what in ("steps", "epochs")]
    print("means of steps and epochs:", *common.rounded(ratios))
    common.finish("epochs", args, {"rows": rows})


if __name__ == "__main__":
    main()
