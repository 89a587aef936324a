"""Whether the search solves the problem that scikit-learn states: every data set, against converged scikit-learn models.

- score: ``best_score_`` of a shared search against the mean test score of converged models at that C (target 1e-3, relative);
- excess: the converged CV loss at that C against the best of 40 values of C around it, a decade each way (relative);
- proba: ``best_estimator_.predict_proba`` against a converged fit on all rows, the largest difference on those rows and, after
  the slash, on the test rows where there are any (target 1e-4);
- per feature: the same after a search of one penalty a feature, where scikit-learn fits features scaled by
  ``penalties_ ** -0.5`` at C = 1.

A set whose reference takes longer than ``--limit`` seconds is skipped, saying so.

    python examples/benchmarks/same_problem.py
"""

import contextlib
import time
import warnings

import _common as common
import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from sksid import HypergradientSearchCV, solvers
from sksid.problem import make_problem

FEW_UNKNOWNS = 1000  # up to here the reference is a Newton step with a factorized Hessian


def reference(X, y, C):
    """A converged scikit-learn model, in float64."""
    classes = np.unique(y).size
    few = X.shape[1] * (1 if classes == 2 else classes) <= FEW_UNKNOWNS
    settings = {"solver": "newton-cholesky", "tol": 1e-10} if few else {"solver": "lbfgs", "tol": 1e-8}
    return LogisticRegression(C=C, max_iter=100_000, **settings).fit(X.astype(np.float64), y)


def search(X, y, splits, **settings):
    """Ours, and whether it has warned that it did not converge."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        found = HypergradientSearchCV(LogisticRegression(), cv=splits, random_state=0, **settings).fit(X, y)
    return found, any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def cv_loss(X, y, splits, C):
    """The mean test log loss of converged scikit-learn models."""
    models = [reference(X[train], y[train], C) for train, _ in splits]
    losses = [log_loss(y[val], m.predict_proba(X[val]), labels=m.classes_) for m, (_, val) in zip(models, splits, strict=True)]
    return float(np.mean(losses))


def grid_losses(X, y, splits, grid):
    """The CV loss at each C, by our own solvers in float64: from strong to weak penalties, each from the one before."""
    classes, labels = np.unique(y, return_inverse=True)
    problem = make_problem(X, labels, splits, n_classes=classes.size, dtype=np.float64)
    solver, state, losses = solvers.choose(problem), None, []
    tol = 1e-9 if isinstance(solver, solvers.Dual) else 1e-6  # residuals of different kinds
    for C in grid:
        found, _, state = common.converge(problem, -np.log(C), solver=solver, state=state, tol=tol)
        losses.append(found.mean())
    return np.array(losses)


def largest_difference(model, twin, scale, X, X_test):
    """Of the predicted probabilities, on the training and on the test rows; the twin takes scaled features."""
    sets = [rows for rows in (X, X_test) if rows is not None]
    return [float(np.abs(model.predict_proba(rows) - twin.predict_proba(scaled(rows, scale))).max()) for rows in sets]


def scaled(X, scale):
    """The features times ``scale``, in float64."""
    X = X.astype(np.float64)
    return sp.csr_matrix(X @ sp.diags(scale)) if sp.issparse(X) else X * scale


def examine(name, args):
    """One row of the table."""
    X, y, X_test, _ = common.load(name, 500 if args.quick else None)
    if np.unique(y, return_counts=True)[1].min() < 5:
        raise ValueError("a class has fewer than 5 rows")
    splits = list(StratifiedKFold(5).split(X, y))
    begin = time.perf_counter()
    shared, warned = search(X, y, splits, structure="shared", early_stopping=False)
    row = {"data": name, "seconds": time.perf_counter() - begin, "C": shared.best_params_["C"], "loss": -shared.best_score_}
    many, warned_many = search(X, y, splits, structure="per_feature", max_iter=args.steps)
    one, scale = np.ones(X.shape[1]), many.penalties_**-0.5
    with common.limit(args.limit):
        row["score"] = abs(cv_loss(X, y, splits, row["C"]) / row["loss"] - 1)
        row["proba"] = largest_difference(shared, reference(X, y, row["C"]), one, X, X_test)
        row["per feature"] = largest_difference(many, reference(scaled(X, scale), y, 1.0), scale, X, X_test)
    row |= {"excess": float("nan"), "warned": f"{warned:d}{warned_many:d}"}
    with contextlib.suppress(TimeoutError), common.limit(args.limit):
        grid = np.sort(np.append(np.logspace(-1, 1, 40), 1.0))
        losses = grid_losses(X, y, splits, row["C"] * grid)
        row["excess"] = float(losses[grid == 1.0][0] / losses.min() - 1)
    return row


def main():
    """A row for each set."""
    parser = common.parser(__doc__)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for the reference of one set")
    parser.add_argument("--steps", type=int, default=30, help="steps of the search per feature in each stage")
    parser.add_argument("--sets", nargs="*", help="these sets only")
    args = parser.parse_args()
    if args.quick:
        args.limit = 5.0
    rows, skipped = [], {}
    for name in args.sets or [*common.FROM_SKLEARN, *common.loader().names()]:
        try:
            rows.append(examine(name, args))
            print(common.line(rows[-1]), flush=True)
        except TimeoutError:
            skipped[name] = f"its reference takes longer than {args.limit:.0f} s"
        except (ValueError, FloatingPointError) as error:
            skipped[name] = f"{type(error).__name__}: {error}"
        if name in skipped:
            print(f"{name}: skipped, {skipped[name]}", flush=True)
    print()
    common.table(rows)
    common.finish("same_problem", args, {"rows": rows, "skipped": skipped})


if __name__ == "__main__":
    main()
