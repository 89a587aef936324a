"""The order of visits from disk: the duality gap of a row after each epoch from W = 0, on made clicks, by what blocks hold.

``at once``: all rows in one random order, as in memory. ``anew``: blocks of random pieces of the file, made anew each epoch, as
the search has them. ``fixed``: stretches of the file, always with the same rows, visited in a random order.

    python examples/benchmarks/block_order.py
"""

from dataclasses import dataclass, replace

import _common as common
import numpy as np
from _made import click_blocks
from sklearn.model_selection import StratifiedKFold

from sksid import blocks
from sksid._disk_rows import DiskRows
from sksid.problem import problem_of
from sksid.solvers import Dual

EPOCHS, LOG_PENALTY, BLOCKS = 10, 3.0, 4


@dataclass(frozen=True, eq=False)
class Fixed(DiskRows):
    """Blocks that always have the same rows."""

    def visits(self, random, size):
        """Blocks in a random order, and the groups of each."""
        groups = np.array_split(np.arange(self.n_visits(size)), BLOCKS)
        return np.concatenate([random.permutation(groups[block]) for block in random.permutation(BLOCKS)])


def gaps(rows, y):
    """After each epoch."""
    splits = list(StratifiedKFold(5).split(np.zeros(y.size), y))
    problem, solver, found = problem_of(rows, y, splits, n_classes=2, dtype=np.float32), Dual(), []
    state = solver.init(problem, np.full(rows.n_features, LOG_PENALTY))
    for _ in range(EPOCHS):
        state = solver.advance(problem, state)
        found.append(float(solver.evaluate(problem, state)[:, 4].sum() / problem.train_totals.sum()))
    return found


def main():
    """All three."""
    parser = common.parser(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    args = parser.parse_args()
    args.rows = 10_000 if args.quick else args.rows
    stored = blocks.open(click_blocks(args.rows, seed=0))
    rows = replace(stored.rows, block_entries=stored.rows.n_entries // BLOCKS)
    fixed = Fixed(**{name: getattr(rows, name) for name in rows.__dataclass_fields__})
    sides = {"at once": replace(rows, block_entries=10 * rows.n_entries), "anew": rows, "fixed": fixed}
    found = [
        {"blocks": name, **{f"epoch {n}": gap for n, gap in enumerate(common.rounded(gaps(own, stored.y)), 1)}}
        for name, own in sides.items()
    ]
    common.table(found)
    common.finish("block_order", args, {"rows": found})


if __name__ == "__main__":
    main()
