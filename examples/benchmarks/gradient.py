"""How exact the hypergradient is after a few epochs: its relative error from a cold start, in float32.

Two errors, against a float64 solve run long: that of the gradient of 47,000 or 130,107 penalties (2-norm), and that of its
sum, the gradient of one shared penalty. Synthetic text with 5 splits, and 20 newsgroups with one.

    python examples/benchmarks/gradient.py
"""

import _common as common
import numpy as np
from sklearn.model_selection import StratifiedKFold

from sksid.logistic import solve
from sksid.problem import make_problem
from sksid.solvers import Dual

EPOCHS = (2, 3, 5, 8, 12)


def exact(problem, C):
    """The hypergradient of a float64 solve, and the error that is estimated to be left."""
    solver = Dual()
    state = solver.init(problem, np.full(problem.n_features, -np.log(C)))
    _, estimate = solve(problem, solver, state, rtol=1e-6, max_epochs=1000)
    return estimate.log_gradient, estimate.error / np.abs(estimate.log_gradient).max()


def errors(problem, C, reference):
    """Of the whole gradient, and of its sum, after each number of epochs; and the epochs with the revisits counted."""
    solver = Dual()
    state = solver.init(problem, np.full(problem.n_features, -np.log(C)))
    for n in range(1, max(EPOCHS) + 1):
        state = solver.advance(problem, state)
        if n in EPOCHS:
            gradient = solver.log_gradient(problem, state)
            whole = np.linalg.norm(gradient - reference) / np.linalg.norm(reference)
            yield float(whole), float(abs(gradient.sum() / reference.sum() - 1)), float(state.n_epochs)


def examine(name, X, y, splits, values):
    """Two rows for each C."""
    classes, labels = np.unique(y, return_inverse=True)
    double = make_problem(X, labels, splits, n_classes=classes.size, dtype=np.float64)
    single = double.astype(np.float32)
    for C in values:
        reference, left = exact(double, C)
        whole, shared, spent = zip(*errors(single, C, reference), strict=True)
        for what, values_of in (("per feature", whole), ("shared", shared)):
            yield {
                "data": name,
                "splits": double.n_splits,
                "C": float(C),
                "gradient": what,
                **{str(n): value for n, value in zip(EPOCHS, values_of, strict=True)},
                "epochs with revisits": spent[-1],
                "reference": left,
            }


def main():
    """The table of both sets."""
    args = common.parser(__doc__).parse_args()
    X, y, _, _ = common.synthetic_text(2000 if args.quick else 20_000, 0)
    rows = list(examine("synthetic text", X, y, list(StratifiedKFold(5).split(X, y)), (1, 10, 100)))
    X, y, _, _ = common.load("20newsgroups", 2000 if args.quick else None)
    rows += examine("20 newsgroups", X, y, list(StratifiedKFold(5).split(X, y))[:1], (10, 1000))
    print("Relative error of the hypergradient after so many epochs; the last column is the reference's own\n")
    common.table(rows)
    common.finish("gradient", args, rows)


if __name__ == "__main__":
    main()
