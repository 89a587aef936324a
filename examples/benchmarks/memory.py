"""Peak memory of a search and its refit, against the data and the state that the solver needs.

``growth`` is the peak of the process over what it held with the data loaded; ``data`` are the bytes of X, which is laid out
once; ``state`` are (2 F K' + F) p + 2 F K' n numbers in float32, W, V and 1/λ of each column, β and u of each row, for F splits
and K' outputs. ``ratio`` is growth over data and state. Every set has a process of its own; Linux only.

    python examples/benchmarks/memory.py
"""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import _common as common
import _grid
import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from sksid import HypergradientSearchCV

SPLITS = 5
SETS = ("clicks", "made 100000 x 1000, 0.01, 10", "20newsgroups", "rcv1_small", "a9a", "isolet", "letter", "debian_sections")
ENTRIES = 1e7
PROCESS = Path("/proc/self")


def megabytes(which):
    """``VmRSS``, what the process holds, or ``VmHWM``, its peak."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def growth(call):
    """What a call returns, and megabytes of its peak over what the process holds."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is not held
    (PROCESS / "clear_refs").write_text("5")  # the peak begins here
    before = megabytes("VmRSS")
    result = call()
    return result, megabytes("VmHWM") - before


def search(X, y, structure):
    """Ours."""
    return HypergradientSearchCV(LogisticRegression(), structure=structure, cv=SPLITS, random_state=0).fit(X, y)


def examine(name, structure):
    """The row of a set, in this process."""
    X, y, _, _ = _grid.chosen([name], ENTRIES)[name]()
    search(*_grid.chosen(["iris"], 0)["iris"]()[:2], structure)  # what is imported late
    (n, p), classes = X.shape, np.unique(y).size
    outputs = 1 if classes == 2 else classes
    parts = (X.data, X.indices, X.indptr) if sp.issparse(X) else (X,)
    data = sum(part.nbytes for part in parts) / 2**20
    state = 4 * ((2 * SPLITS * outputs + SPLITS) * p + 2 * SPLITS * outputs * n) / 2**20
    found, grown = growth(lambda: search(X, y, structure))
    sizes = {"data": name, "n": n, "p": p, "classes": classes, "data MB": data, "state MB": state}
    return sizes | {"growth MB": grown, "ratio": grown / (data + state), "steps": found.n_iter_}


def main():
    """A row for each set."""
    parser = common.parser(__doc__)
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="as in everywhere.py")
    parser.add_argument("--structure", default="shared", choices=["shared", "per_feature"])
    parser.add_argument("--one", help="this set, in this process")
    args = parser.parse_args()
    if not (PROCESS / "clear_refs").exists():
        common.skip("/proc/self/clear_refs is absent")
    if args.one:
        return print(json.dumps(examine(args.one, args.structure), default=float))
    rows = []
    for name in ["a9a"] if args.quick else args.sets:
        command = [sys.executable, "-W", "ignore", __file__, "--structure", args.structure, "--one", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode == 0:
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(common.line(rows[-1]), flush=True)
    print()
    common.table(rows)
    common.finish("memory", args, {"rows": rows})


if __name__ == "__main__":
    main()
