"""What one joint epoch costs: inner, adjoint and validation for 5 splits, against plain scipy products.

The peer is ``X @ W`` plus ``X.T @ R`` in scipy, float32, with one column for each output of each split: what any method
must do at least to see the data once in both directions. The ratio should be at most 1.5. With it, what the epoch reads of
its table and computes for each non-zero, against what one core can copy and multiply, and from what share of non-zeros the
dense layout is faster than CSR (``sksid.rows.DENSE_FROM``).

    python examples/benchmarks/kernel.py
"""

from unittest import mock

import _common as common
import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import StratifiedKFold

from sksid import problem as problems
from sksid import rows as laid_out
from sksid._kernels import _layout
from sksid.solvers import Dual

N_SPLITS = 5
DENSITIES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)


def make_problem(X, y):
    """The rows for 5 stratified splits, in float32."""
    classes, labels = np.unique(y, return_inverse=True)
    splits = list(StratifiedKFold(N_SPLITS).split(X, y))
    return problems.make_problem(X.astype(np.float32), labels, splits, n_classes=classes.size, dtype=np.float32)


def epochs_of(problem, C):
    """A callable that goes on by one epoch from a warm state; no revisits, so that every epoch is the same work."""
    solver = Dual(revisits=0)
    state = solver.advance(problem, solver.init(problem, np.full(problem.n_features, -np.log(C))), 3.0)
    return lambda: solver.advance(problem, state, 1.0)


def products_of(problem):
    """A callable for the plain products with the same rows, precision and number of columns."""
    X, columns = problem.rows.matrix, problem.n_splits * problem.n_outputs
    rng = np.random.RandomState(0)
    W = rng.standard_normal((problem.n_features, columns)).astype(np.float32)
    R = rng.standard_normal((problem.n_rows, columns)).astype(np.float32)
    return lambda: (X @ W, X.T @ R)


def against_scipy(name, X, y, C, repeats):
    """One row of the first table."""
    problem = make_problem(X, y)
    seconds, _ = common.interleave({"epoch": epochs_of(problem, C), "scipy": products_of(problem)}, repeats)
    vectors, rate = 2 * problem.n_splits * problem.n_outputs, problem.rows.n_entries / seconds["epoch"] / 1e9
    width = _layout.dual_width(vectors, np.float32)
    return {
        "data": name,
        "rows": problem.n_rows,
        "non-zeros": problem.rows.n_entries,
        "outputs": problem.n_outputs,
        "epoch s": seconds["epoch"],
        "scipy s": seconds["scipy"],
        "ratio": seconds["epoch"] / seconds["scipy"],
        "bytes": 4 * width,
        "GB/s": 4 * width * rate,
        "flop": 4 * vectors,
        "Gflop/s": 4 * vectors * rate,
        "table MB": 4e-6 * width * problem.n_features,
    }


def intents(n_rows=18_000, n_features=3056, n_classes=150, length=9, seed=0):
    """Short sentences of many classes, as tf-idf: a third of the words are of the twelve that a class has."""
    rng, y = np.random.RandomState(seed), np.arange(n_rows) % n_classes
    frequency = 1.0 / (np.arange(n_features) + 3.0) ** 0.9
    words = rng.choice(n_features, (n_rows, length), p=frequency / frequency.sum())
    own = rng.randint(n_features, size=(n_classes, 12))[y[:, None], rng.randint(12, size=words.shape)]
    words = np.where(rng.random_sample(words.shape) < 0.35, own, words)
    entries = np.ones(words.size), (np.repeat(np.arange(n_rows), length), words.ravel())
    return TfidfTransformer().fit_transform(sp.csr_matrix(entries, shape=(n_rows, n_features))), y


def machine(repeats):
    """What one core copies, GB/s read and written, and multiplies and adds in single precision, Gflop/s."""
    source, target = np.ones(2**26, dtype=np.float32), np.ones(2**26, dtype=np.float32)
    A = np.ones((1024, 1024), dtype=np.float32)
    seconds, _ = common.interleave({"copy": lambda: np.copyto(target, source), "multiply": lambda: A @ A}, repeats)
    return {"GB/s": 2e-9 * source.nbytes / seconds["copy"], "Gflop/s": 2e-9 * 1024**3 / seconds["multiply"]}


def layouts(X, y, repeats):
    """Dense against CSR, the same pixels thinned out to each density."""
    rng = np.random.RandomState(0)
    X = (X / 255.0 + rng.uniform(0.05, 0.1, X.shape)).astype(np.float32)
    draw = rng.random_sample(X.shape)
    for density in DENSITIES:
        thinned = np.where(draw < density, X, np.float32(0))
        with mock.patch.object(laid_out, "DENSE_FROM", 0.0):
            dense = make_problem(thinned, y)
        csr = make_problem(sp.csr_array(thinned), y)
        seconds, _ = common.interleave({"dense": epochs_of(dense, 1e-3), "CSR": epochs_of(csr, 1e-3)}, repeats)
        yield {
            "non-zeros": density,
            "outputs": dense.n_outputs,
            "dense s": seconds["dense"],
            "CSR s": seconds["CSR"],
            "dense / CSR": seconds["dense"] / seconds["CSR"],
        }


def main():
    """Both tables."""
    args = common.parser(__doc__, repeats=15).parse_args()
    repeats, rows = (3, 2000) if args.quick else (args.repeats, None)
    X, y, _, _ = common.synthetic_text(rows or 20_000, 0)
    products = [against_scipy("synthetic text", X, y, 1.0, repeats)]
    X, y, _, _ = common.load("20newsgroups", rows)
    products.append(against_scipy("20 newsgroups", X, y, 10.0, repeats))
    products.append(against_scipy("150 intents", *intents(rows or 18_000), 5.0, repeats))
    print(f"One joint epoch of {N_SPLITS} splits against X @ W and X.T @ R, medians of {repeats} (target: ratio at most 1.5)\n")
    common.table(products)
    peaks = machine(repeats)
    print(f"\nOne core copies {peaks['GB/s']:.0f} GB/s, read and written, and reaches {peaks['Gflop/s']:.0f} Gflop/s")
    X, y, _, _ = common.load("mnist", rows or 6000, raw=True)
    tables = [list(layouts(X, labels, repeats)) for labels in (y % 2, y)]
    for found in tables:
        print(f"\nOne joint epoch on MNIST thinned out, {X.shape[0]} rows; sksid.rows.DENSE_FROM = {laid_out.DENSE_FROM}\n")
        common.table(found)
        faster = [row["non-zeros"] for row in found if row["dense / CSR"] < 1]
        print(f"dense is faster from {min(faster)} on" if faster else "dense is never faster")
    common.finish("kernel", args, {"products": products, "machine": peaks, "layouts": tables})


if __name__ == "__main__":
    main()
