"""What the benchmarks share: the machine, timing, data, reports.

Import it before numpy: it pins BLAS and OpenMP to one thread.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import importlib.util
import json
import platform
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.special import expit
from sklearn import datasets
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from sksid.solvers import Dual

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = ROOT.parent / "shared" / "data"
FROM_SKLEARN = ("breast_cancer", "digits", "wine")


# ---- options, report ----------------------------------------------------------------------------------------------------


def parser(doc, repeats=None):
    """The options of every benchmark; its docstring is the help."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if repeats:
        options.add_argument("--repeats", type=int, default=repeats, help=f"timings of each side (default {repeats})")
    options.add_argument("--quick", action="store_true", help="little data, to see that the script works")
    options.add_argument("--save", action="store_true", help="write results/<name>.json beside the script")
    return options


def machine():
    """The processor, the threads and the versions that the numbers belong to."""
    cpu = [line.split(":")[1].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "threads": {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()},
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", "scikit-learn", "sksid")},
        "commit": commit.stdout.strip(),
    }


def _read(path):
    return Path(path).read_text() if Path(path).exists() else ""


def finish(name, args, numbers):
    """Print the machine; with ``--save`` keep machine, options and numbers."""
    described = machine()
    print("\n" + ", ".join(f"{key} {value}" for key, value in described.items()))
    if args.save:
        path = HERE / "results" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        record = {
            "machine": described,
            "options": {name: value for name, value in vars(args).items() if name != "journal"},
            "numbers": numbers,
        }
        path.write_text(json.dumps(record, indent=1, default=float) + "\n")
        print(f"saved {path.relative_to(ROOT)}")


def saved(name):
    """The numbers that ``--save`` kept."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())["numbers"]


def rounded(values):
    """Four digits, to keep the files small."""
    return [float(f"{value:.4g}") for value in values]


def table(rows):
    """Print dicts with the same keys as a table."""
    cells = [[_cell(value) for value in row.values()] for row in rows]
    names = list(rows[0]) if rows else []
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for line in [names, *cells]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def line(row):
    """A dict on one line, for progress."""
    return ", ".join(f"{name} {_cell(value)}" for name, value in row.items())


def _cell(value):
    if isinstance(value, list):
        return " / ".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- timing -------------------------------------------------------------------------------------------------------------


def interleave(sides, repeats):
    """Time named callables in turn, so that noise meets all: the median seconds and the last result of each."""
    seconds, results = {name: [] for name in sides}, {}
    for _ in range(repeats):
        for name, call in sides.items():
            begin = time.perf_counter()
            results[name] = call()
            seconds[name].append(time.perf_counter() - begin)
    return {name: float(np.median(times)) for name, times in seconds.items()}, results


def timed(call, *args):
    """Seconds of processor time, which what else runs disturbs less than the clock, and result of one call."""
    begin = time.process_time()
    result = call(*args)
    return time.process_time() - begin, result


@contextmanager
def counted(owner, name):
    """Meanwhile a method counts its calls; what is given tells how many."""
    method, seen = getattr(owner, name), 0

    def counting(*args):
        nonlocal seen
        seen += 1
        return method(*args)

    setattr(owner, name, counting)
    try:
        yield lambda: seen
    finally:
        setattr(owner, name, method)


# ---- data ---------------------------------------------------------------------------------------------------------------


def skip(reason):
    """End the script, and not as a failure."""
    print(f"skipped: {reason}")
    raise SystemExit(0)


def loader():
    """The module that reads ../shared/data, which is no part of the repository."""
    if not (DATA / "load.py").exists():
        skip(f"the development data are absent (looked for {DATA})")
    spec = importlib.util.spec_from_file_location("load", DATA / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names_here():
    """The sets that scikit-learn ships, and those of the data folder, where that is."""
    return [*FROM_SKLEARN, *(loader().names() if DATA.exists() else ())]


def load(name, rows=None, raw=False):
    """``X, y, X_test, y_test``, ready to fit: counts as sublinear tf-idf, dense features standardized; neither if ``raw``.

    ``rows`` keeps a random part of the training rows.
    """
    if name in FROM_SKLEARN:
        X, y, X_test, y_test = *getattr(datasets, f"load_{name}")(return_X_y=True), None, None
    else:
        X, y, X_test, y_test = loader().load(name)
    if rows is not None and rows < X.shape[0]:
        kept = np.sort(np.random.RandomState(0).permutation(X.shape[0])[:rows])
        X, y = X[kept], y[kept]
    if raw or (sp.issparse(X) and name != "20newsgroups"):
        return X, y, X_test, y_test
    if name == "20newsgroups":
        scaler = TfidfTransformer(sublinear_tf=True)
    else:
        scaler = StandardScaler()
    X = scaler.fit_transform(X)
    return X, y, None if X_test is None else scaler.transform(X_test), y_test


def synthetic_text(n_train=20_000, n_test=20_000, n_features=47_000, seed=0):
    """Text-like data: Zipf words, 80 a document, sublinear tf-idf; 300 of the 5,000 most frequent words carry the label."""
    rng = np.random.RandomState(seed)
    n = n_train + n_test
    frequency = 1.0 / (np.arange(n_features) + 3.0) ** 0.95
    lengths = rng.poisson(80, n)
    words = np.searchsorted(np.cumsum(frequency) / frequency.sum(), rng.random_sample(lengths.sum()))
    documents = np.repeat(np.arange(n), lengths)
    counts = sp.csr_matrix((np.ones(words.size), (documents, np.minimum(words, n_features - 1))), shape=(n, n_features))
    X = TfidfTransformer(sublinear_tf=True).fit(counts[:n_train]).transform(counts)
    true = np.zeros(n_features)
    true[rng.permutation(min(5000, n_features))[:300]] = rng.standard_normal(300)
    logits = X @ true
    y = (rng.random_sample(n) < expit(SIGNAL * (logits - logits.mean()) / logits.std())).astype(np.int64)
    return X[:n_train], y[:n_train], X[n_train:], y[n_train:]


SIGNAL = 2.5  # standard deviation of the logits


# ---- converged reference ------------------------------------------------------------------------------------------------


@contextmanager
def limit(seconds, error=TimeoutError):
    """Raise ``error`` in a block that takes longer; one long compiled call is waited for."""

    def stop(*_):
        raise error

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def converge(problem, log_penalty, *, solver=None, state=None, tol=1e-9, max_epochs=5000):
    """The splits' validation losses once the lower level's residual is ``tol``, that residual, and the state.

    On separable rows with large features a residual of 1e-6 still leaves 1% in a validation loss.
    """
    solver = solver or Dual()
    lower = replace(problem, roles=replace(problem.roles, val_scale=np.zeros(problem.n_splits)))  # and so without an adjoint
    log_penalties = np.full(problem.n_features, log_penalty, dtype=np.float64)
    state = solver.init(lower, log_penalties) if state is None else solver.rescale(lower, state, log_penalties)
    end = state.n_epochs + max_epochs
    while True:
        state = solver.advance(lower, state)
        residual = solver.progress(lower, state).residual
        if residual <= tol or state.n_epochs >= end:
            return solver.losses(lower, state, problem), residual, state
