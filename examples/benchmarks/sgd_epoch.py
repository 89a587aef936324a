"""What an epoch of the paper's stochastic iterations costs, against plain scipy products and against dense updates.

The peer is ``X @ W`` and ``X.T @ R`` in scipy, of the same training rows, precision and number of columns: one pass over the
non-zeros in each direction. An epoch of the lower level or of the linear system should take at most 3 times as long, at any
batch size. The other side is the minibatch step as one would write it in numpy, where the regularizer touches every weight:
a few of its steps are timed and taken for an epoch's.

    python examples/benchmarks/sgd_epoch.py
"""

import _common as common
import numpy as np
from scipy.special import softmax
from sklearn.model_selection import train_test_split

from sksid.problem import TRAIN, make_problem
from sksid.solvers import Sgd, Steps

PENALTIES = (1e-2, 1.0, 1e2)
BATCHES = (None, 32, 1000)
EPOCHS = 5
DENSE_STEPS = 3


def make_rows(X, y):
    """One split, a tenth of the rows for validation, in float32."""
    classes, labels = np.unique(y, return_inverse=True)
    split = train_test_split(np.arange(y.size), test_size=0.1, random_state=0, stratify=y)
    return make_problem(X.astype(np.float32), labels, [split], n_classes=classes.size, dtype=np.float32)


def budgets_of(problem, batch_size, penalty):
    """Callables for budgets that differ in the epochs of one system, each on a warm state of its own."""
    steps, log_penalties = Steps(batch_size=batch_size), np.full(problem.n_features, np.log(penalty))
    for name, lower, linear in (("least", 1, 1), ("lower", 1 + EPOCHS, 1), ("linear", 1, 1 + EPOCHS)):
        solver = Sgd(steps, steps, lower_epochs=lower, adjoint_epochs=linear)
        state = solver.advance(problem, solver.init(problem, log_penalties))
        yield name, lambda solver=solver, state=state: solver.advance(problem, state)


def products_of(problem):
    """A callable for the plain products with the training rows, and as many columns as there are outputs."""
    X, rng = problem.rows.matrix[problem.roles.role[:, 0] == TRAIN], np.random.RandomState(0)
    W = rng.standard_normal((X.shape[1], problem.n_outputs)).astype(np.float32)
    R = rng.standard_normal((X.shape[0], problem.n_outputs)).astype(np.float32)
    return lambda: (X @ W, X.T @ R)


def dense_steps_of(problem, batch_size, penalty):
    """A callable for some steps on the lower level in numpy and scipy, with dense updates."""
    rows = np.flatnonzero(problem.roles.role[:, 0] == TRAIN)
    size = rows.size // Steps(batch_size=batch_size).per_epoch(rows.size)
    draws = np.random.RandomState(0).permutation(rows)[: DENSE_STEPS * size].reshape(DENSE_STEPS, -1)
    X, targets = problem.rows.matrix, np.eye(problem.n_outputs, dtype=np.float32)[problem.roles.labels_of(0)]
    W, rate, eta = np.zeros((X.shape[1], problem.n_outputs), dtype=np.float32), np.float32(penalty / rows.size), np.float32(1)

    def steps():
        for draw in draws:
            batch = X[draw]
            W[:] -= eta * (batch.T @ (softmax(batch @ W, axis=1) - targets[draw]) / np.float32(size) + rate * W)

    return steps


def measure(problem, batch_size, penalty, repeats):
    """One row of the table."""
    sides = {
        **dict(budgets_of(problem, batch_size, penalty)),
        "scipy": products_of(problem),
        "dense": dense_steps_of(problem, batch_size, penalty),
    }
    seconds, _ = common.interleave(sides, repeats)
    n_steps = Steps(batch_size=batch_size).per_epoch(int((problem.roles.role == TRAIN).sum()))
    lower, linear = ((seconds[name] - seconds["least"]) / EPOCHS for name in ("lower", "linear"))
    dense = seconds["dense"] * n_steps / DENSE_STEPS
    return {
        "batch": "n/100" if batch_size is None else batch_size,
        "penalty": penalty,
        "lower s": lower,
        "linear s": linear,
        "scipy s": seconds["scipy"],
        "dense s": dense,
        "lower / scipy": lower / seconds["scipy"],
        "linear / scipy": linear / seconds["scipy"],
        "dense / lower": dense / lower,
    }


def main():
    """The table, on 20 newsgroups."""
    args = common.parser(__doc__, repeats=9).parse_args()
    X, y, _, _ = common.load("20newsgroups", 2000 if args.quick else None)
    problem = make_rows(X, y)
    print(
        f"An epoch on {problem.n_rows} rows, {problem.n_features} features, {problem.rows.n_entries} non-zeros, "
        f"{problem.n_outputs} outputs, float32; medians of {args.repeats} (target: at most 3 times scipy)\n"
    )
    found = [measure(problem, batch, penalty, args.repeats) for batch in BATCHES for penalty in PENALTIES]
    common.table(found)
    common.finish("sgd_epoch", args, found)


if __name__ == "__main__":
    main()
