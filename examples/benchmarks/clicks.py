"""A million clicks: a 5-fold search with its refit, against one SGDClassifier at the ``C`` that was found.

39 one-hot fields hashed into 2²⁰ columns. Seconds of the search and of the refit, both in epochs of the search too; peak memory
over that of the process with the data loaded (Linux); loss on 100,000 more clicks. SGDClassifier is averaged, to its default
tolerance. Each side has a process of its own.

    python examples/benchmarks/clicks.py
"""

import json
import subprocess
import sys
import time

import _common as common
import _grid
import memory
import numpy as np
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss

from sksid import HypergradientSearchCV

MILLION, TEST = 1_000_000, 100_000


def by_sksid(X, y, C):
    """The search, and what it says of its own time."""
    found = HypergradientSearchCV(LogisticRegression(), structure="shared", cv=5, random_state=0).fit(X, y)
    epochs, seconds = (float(np.sum(found.cv_results_[name])) for name in ("n_epochs", "mean_fit_time"))
    seconds *= found.n_splits_  # that column is of one split
    of_epoch = seconds / epochs
    said = {
        "C": found.best_params_["C"],
        "epochs": epochs,
        "epoch s": of_epoch,
        "search s": seconds,
        "refit s": found.refit_time_,
    }
    return found, said | {"cv loss": -float(found.best_score_), "refit in epochs": found.refit_time_ / of_epoch}


def by_sgd(X, y, C):
    """One fit at C."""
    found = SGDClassifier(loss="log_loss", alpha=1.0 / (C * len(y)), average=True, random_state=0).fit(X, y)
    return found, {"C": C, "epochs": float(found.n_iter_)}


SIDES = {"sksid": by_sksid, "SGDClassifier": by_sgd}


def measure(side, rows, C):
    """A side in this process."""
    X, y, X_test, y_test = _grid.clicks(rows, TEST)
    SIDES[side](X[:1000], y[:1000], C)  # what is imported late
    begin = time.perf_counter()
    (found, said), grown = memory.growth(lambda: SIDES[side](X, y, C))
    seconds = time.perf_counter() - begin
    row = {
        "rows": rows,
        "seconds": seconds,
        "growth MB": grown,
        "data MB": (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / 2**20,
    }
    return row | {"test loss": log_loss(y_test, found.predict_proba(X_test))} | said


def main():
    """Ours first, for its C."""
    parser = common.parser(__doc__)
    parser.add_argument("--rows", type=int, default=MILLION)
    parser.add_argument("--side", choices=list(SIDES), help="this side, in this process")
    parser.add_argument("--C", type=float, default=1.0, help="of SGDClassifier")
    args = parser.parse_args()
    if args.side:
        return print(json.dumps(measure(args.side, args.rows, args.C), default=float))
    if not (memory.PROCESS / "clear_refs").exists():
        common.skip("/proc/self/clear_refs is absent")
    args.rows, rows = 10_000 if args.quick else args.rows, {}
    for side in SIDES:
        C = rows["sksid"]["C"] if rows else 1.0
        command = [sys.executable, "-W", "ignore", __file__, "--rows", str(args.rows), "--side", side, "--C", str(C)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows[side] = json.loads(done.stdout.splitlines()[-1])
        print(f"{side}: {common.line(rows[side])}", flush=True)
    ours = rows["sksid"]
    print(
        f"\nsearch and refit: {(ours['search s'] + ours['refit s']) / ours['epoch s'] / 13:.2f} times 13 epochs of the search"
    )
    common.finish("clicks", args, {"rows": [{"": side, **row} for side, row in rows.items()]})


if __name__ == "__main__":
    main()
