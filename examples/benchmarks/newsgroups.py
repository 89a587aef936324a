"""A whole 5-fold search on 20 newsgroups against one scikit-learn fit at a fixed C.

``HypergradientSearchCV(LogisticRegression(C=1), structure="shared", cv=5).fit``, refit included, and
``LogisticRegression(C=10).fit`` on the same tf-idf data: seconds, their ratio, and the quality of both on the test posts. And
the same search with two threads, each of which has half of the splits.

    python examples/benchmarks/newsgroups.py

``--per-feature`` adds a search of one penalty for each of 130,107 features; ``--check`` compares ``best_score_`` with
converged models at the C found, and at other C around it.
"""

import _common as common
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from sksid import HypergradientSearchCV
from sksid.problem import make_problem

FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


def search(X, y, structure, n_jobs=None):
    """Tune and refit."""
    found = HypergradientSearchCV(LogisticRegression(C=1), structure=structure, cv=5, n_jobs=n_jobs, random_state=0)
    return found.fit(X, y)


def quality(model, X_test, y_test):
    """On the test posts."""
    probabilities = model.predict_proba(X_test)
    return {
        "test log loss": log_loss(y_test, probabilities, labels=model.classes_),
        "test accuracy": float(np.mean(model.classes_[probabilities.argmax(axis=1)] == y_test)),
    }


def check(X, y, found):
    """The CV loss of converged float64 models at the C found and around it."""
    splits = list(StratifiedKFold(5).split(X, y))
    problem = make_problem(X, y, splits, n_classes=np.unique(y).size, dtype=np.float64)
    state, rows = None, []
    for factor in FACTORS:
        C = factor * found.best_params_["C"]
        losses, residual, state = common.converge(problem, -np.log(C), state=state, tol=1e-6, max_epochs=300)
        rows.append({"factor": factor, "C": C, "cv loss": float(losses.mean()), "residual": residual, "epochs": state.n_epochs})
    return rows


def main():
    """Time both sides, and check on demand."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--per-feature", action="store_true", help="search one penalty a feature as well")
    parser.add_argument("--check", action="store_true", help="compare best_score_ with converged models")
    args = parser.parse_args()
    X, y, X_test, y_test = common.load("20newsgroups", 2000 if args.quick else None)
    sides = {
        "search shared": lambda: search(X, y, "shared"),
        "the same, n_jobs=2": lambda: search(X, y, "shared", n_jobs=2),
        "one fit": lambda: LogisticRegression(C=10).fit(X, y),
    }
    if args.per_feature:
        sides["search per feature"] = lambda: search(X, y, "per_feature")
    seconds, results = common.interleave(sides, 1 if args.quick else args.repeats)

    rows = []
    for name, model in results.items():
        searched = isinstance(model, HypergradientSearchCV)
        rows.append(
            {
                "": name,
                "seconds": seconds[name],
                "ratio": seconds[name] / seconds["one fit"],
                "C": model.best_params_["C"] if searched else model.C,
                "best_score_": model.best_score_ if searched else float("nan"),
                "structure": model.structure_.name if searched else "-",
                "steps": model.n_iter_ if searched else "-",
                **quality(model, X_test, y_test),
            }
        )
    print(f"{X.shape[0]:,} x {X.shape[1]:,}, {np.unique(y).size} classes; medians, interleaved\n")
    common.table(rows)
    numbers = {"rows": rows}
    if args.check:
        numbers["check"] = check(X, y, results["search shared"])
        converged = numbers["check"][FACTORS.index(1)]["cv loss"]
        print("\nThe CV loss of converged models\n")
        common.table(numbers["check"])
        numbers["score difference"] = abs(-results["search shared"].best_score_ / converged - 1)
        print(f"best_score_ differs from it by {numbers['score difference']:.1e} (relative; target 1e-3)")
    common.finish("newsgroups", args, numbers)


if __name__ == "__main__":
    main()
