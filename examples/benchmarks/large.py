"""More rows than memory: a search and its refit on made clicks in a folder on disk, against the same in memory.

39 one-hot fields hashed into 2²⁰ columns, 5 splits. Seconds of the search and of the refit, epochs, cross-validated loss, loss
on 100,000 more clicks; MB resident at most, of the whole process. What reads from disk is held to ``--limit`` MB of memory of
its own. SGDClassifier goes through the same blocks, ``partial_fit``, as often as the search has, with the alpha found.

``--structure`` is one penalty, or four groups of features, rare ones and frequent ones, or a penalty for each feature; what is
not ``shared`` is saved as ``large_structures``.

Each side is a process of its own, and what it has measured a line of ``results/large.jsonl``: stop it, and the same command
goes on where it was. Rows lie in ``--folder``, 320 MB for a million, and stay there.

    python examples/benchmarks/large.py --folder /tmp/clicks --rows 100000 1000000
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import _common as common
import _journal
import memory
import numpy as np
import scipy.sparse as sp
from _made import click_blocks
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss

from sksid import HypergradientSearchCV, blocks

TEST = 100_000
IN_MEMORY = 1_000_000  # rows at most
SETTINGS = {"cv": 5, "random_state": 0}


def made(folder, rows):
    """The rows on disk, written where they are not, and rows to test on."""
    place = Path(folder) / str(rows)
    if not place.exists():
        blocks.save(place, click_blocks(rows, seed=0))
    return place, *next(click_blocks(TEST, seed=0, fresh=1))


def structure_of(name, place):
    """The structure of that name; ``"groups"`` are four of features, by how often they occur in the first rows."""
    if name != "groups":
        return name
    first = next(iter(blocks.open(place).parts()))[1]
    return np.digitize(np.bincount(first.indices, minlength=first.shape[1]), [1, 4, 32])


def search(structure, *data):
    """Ours, and what it says of its own time."""
    found = HypergradientSearchCV(LogisticRegression(), structure=structure, **SETTINGS).fit(*data)
    table = found.cv_results_
    said = {
        "C": found.best_params_["C"],
        "cv loss": -float(found.best_score_),
        "epochs": float(np.sum(table["n_epochs"])),
        "search s": float(np.sum(table["mean_fit_time"])) * found.n_splits_,
        "refit s": found.refit_time_,
        "refit epochs": int(found.best_estimator_.n_iter_[0]),
    }
    return found, said


def from_disk(place, structure, C, epochs):
    """From the folder."""
    begin = time.perf_counter()
    rows = blocks.open(place)
    opened = time.perf_counter() - begin
    found, said = search(structure_of(structure, place), rows)
    return found, said | {"open s": opened}


def in_memory(place, structure, C, epochs):
    """The same rows, all of them at once."""
    rows = blocks.open(place)
    return search(structure_of(structure, place), sp.vstack([part for _, part in rows.parts()], format="csr"), rows.y)


def by_sgd(place, structure, C, epochs):
    """``partial_fit``, block by block, so many times."""
    rows = blocks.open(place)
    model = SGDClassifier(loss="log_loss", alpha=1.0 / (C * len(rows)), average=True, random_state=0)
    for _ in range(epochs):
        for where, part in rows.parts():
            model.partial_fit(part, rows.y[where], classes=[0, 1])
    return model, {"C": C, "epochs": float(epochs), "cv loss": np.nan, "refit epochs": np.nan}


SIDES = {"memory": in_memory, "disk": from_disk, "SGDClassifier": by_sgd}


def measure(args):
    """One side, in this process."""
    place, X_test, y_test = made(args.folder, args.rows[0])
    if args.side == "disk":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (args.limit << 20, args.limit << 20))
    (memory.PROCESS / "clear_refs").write_text("5")  # the peak begins here
    begin = time.perf_counter()
    found, said = SIDES[args.side](place, args.structure, args.C, args.epochs)
    row = {"seconds": time.perf_counter() - begin, "resident MB": memory.megabytes("VmHWM")}
    return row | said | {"test loss": log_loss(y_test, found.predict_proba(X_test))}


def main():
    """Each number of rows, each side."""
    parser = common.parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, IN_MEMORY])
    parser.add_argument("--folder", default="/tmp/sksid-clicks")
    parser.add_argument("--journal", default=str(common.HERE / "results" / "large.jsonl"))
    parser.add_argument("--limit", type=int, default=2000, help="MB that the process may have of its own, from disk")
    parser.add_argument("--structure", default="shared", help="or per_feature, or groups")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--side", choices=list(SIDES), help="this side, in this process")
    parser.add_argument("--C", type=float, default=1.0, help="of SGDClassifier")
    parser.add_argument("--epochs", type=int, default=1, help="of SGDClassifier")
    args = parser.parse_args()
    if args.side:
        return print(json.dumps(measure(args), default=float))
    if not (memory.PROCESS / "clear_refs").exists():
        common.skip("/proc/self/clear_refs is absent")
    args.rows = [10_000] if args.quick else args.rows
    journal, rows = _journal.Journal(args.journal), []
    for n_rows in args.rows:
        made(args.folder, n_rows)
        for side in args.sides:
            if side == "memory" and n_rows > IN_MEMORY:
                continue
            key = {"rows": n_rows, "structure": args.structure, "side": side}
            disk = journal.last(**(key | {"side": "disk"})) or {"C": 1.0, "epochs": 1.0}
            row = None if args.quick else journal.last(**key)
            row = row or journal.add(**key, **_apart(args, n_rows, side, disk))
            rows.append(row)
            print(common.line(row), flush=True)
    whole = {name: np.nan for row in journal.records for name in row}
    name = "large" if args.structure == "shared" else "large_structures"
    common.finish(name, args, {"rows": rows if args.quick else [whole | row for row in journal.records]})


def _apart(args, n_rows, side, found):
    """What a process of its own measures."""
    options = ["--rows", n_rows, "--folder", args.folder, "--structure", args.structure, "--limit", args.limit]
    options += ["--side", side, "--C", found["C"], "--epochs", round(found["epochs"])]
    command = [sys.executable, "-W", "ignore", __file__, *map(str, options)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
