"""A search on a Dask cluster of two worker processes with one thread each, against the same in one process with two threads.

Two chunks of rows, which the workers hold before the clock starts. Seconds of the whole ``fit``, cross-validated loss, outer
steps; rounds, the times that the client waits for its workers; megabytes that have gone to the client, from it, and between
workers; those that the larger worker had at the end. ``solver="auto"`` is ``Local`` and then ``Aid`` on a cluster; beside it,
``"aid"`` alone. 5 splits, one shared penalty.

    python examples/benchmarks/cluster.py --sets text newsgroups clicks
"""

import time
import warnings

import _common as common
import _journal
import numpy as np
from _made import make_clicks
from sklearn.linear_model import LogisticRegression

from sksid import HypergradientSearchCV, _spread, blocks
from sksid.solvers import _local

SETS = {
    "text": lambda: common.synthetic_text()[:2],
    "newsgroups": lambda: common.load("20newsgroups")[:2],
    "clicks": lambda: make_clicks(100_000, seed=0),
    "million clicks": lambda: make_clicks(1_000_000, seed=0),
    "quick": lambda: common.synthetic_text(2000, 10)[:2],
}
SETTINGS = {"cv": 5, "random_state": 0, "structure": "shared"}
OF_CLUSTER = ["rounds", "MB to client", "MB from client", "MB between", "worker MB"]
SIDES = ["memory", "cluster", "cluster, aid"]


def searched(X, y, **settings):
    """Seconds of a search, and what it has found."""
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = HypergradientSearchCV(LogisticRegression(), **SETTINGS, **settings).fit(X, y)
    seconds = time.perf_counter() - begin
    C, loss, epochs = found.best_params_["C"], -float(found.best_score_), float(found.cv_results_["n_epochs"].sum())
    said = {"seconds": seconds, "C": C, "cv loss": loss, "steps": found.n_iter_, "epochs": epochs}
    return said | {"search s": float(found.cv_results_["mean_fit_time"].sum()) * found.n_splits_, "refit s": found.refit_time_}


def on_cluster(X, y, solver):
    """The search on two worker processes."""
    import dask.array as da
    import distributed
    import psutil
    from dask.sizeof import sizeof

    half = -(-X.shape[0] // 2)
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 60}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        parts = [da.from_array(X[k : k + half], chunks=(-1, -1), asarray=False) for k in (0, half)]
        rows, seen = blocks.open(da.concatenate(parts)), dict.fromkeys(["rounds", "to client", "from client"], 0)

        def fetched(client, future):
            value = _OWN[0](client, future)
            seen["rounds"] += 1
            seen["to client"] += sizeof(value)
            return value

        def submitted(client, function, *values, home=None):
            seen["from client"] += sum(map(sizeof, values))
            return _OWN[1](client, function, *values, home=home)

        _spread.fetched, _spread.submitted, _local.fetched, _local.submitted = [fetched, submitted] * 2
        said = searched(rows, y, solver=solver)
        between = client.run(lambda dask_worker: sum(one["total"] for one in dask_worker.transfer_incoming_log))
        workers = client.run(lambda: psutil.Process().memory_info().rss)
    _spread.fetched, _spread.submitted, _local.fetched, _local.submitted = [*_OWN, *_OWN]
    sizes = seen["to client"], seen["from client"], sum(between.values()), max(workers.values())
    return said | {"rounds": seen["rounds"]} | dict(zip(OF_CLUSTER[1:], (size / 1e6 for size in sizes), strict=True))


_OWN = _spread.fetched, _spread.submitted


def measure(X, y, side):
    """One side."""
    if side == "memory":
        return searched(X, y, n_jobs=2) | dict.fromkeys(OF_CLUSTER, np.nan)
    return on_cluster(X, y, "aid" if side.endswith("aid") else "auto")


def main():
    """Each set, each side."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["text", "newsgroups", "clicks"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--journal", default=str(common.HERE / "results" / "cluster.jsonl"))
    args = parser.parse_args()
    journal, rows = _journal.Journal(args.journal), []
    for name in ["quick"] if args.quick else args.sets:
        X, y = SETS[name]()
        for side in args.sides:
            key = {"set": name, "side": side}
            row = None if args.quick else journal.last(**key)
            row = row or key | {"load": round(common.os.getloadavg()[0], 1)} | measure(X, y, side)
            if not args.quick and journal.last(**key) is None:
                journal.add(**row)
            rows.append(row)
            print(common.line(row), flush=True)
    common.finish("cluster", args, {"rows": rows if args.quick else journal.records})


if __name__ == "__main__":
    main()
