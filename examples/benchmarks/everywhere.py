"""A search of one penalty against all that scikit-learn and its friends offer, on every set there is.

Sets: the development data, scikit-learn's own, made ones of forms that users meet (few rows of many correlated columns, faces,
sentence embeddings, 150 classes of short questions, redundant columns, a million clicks), and a grid of made ones over rows,
features, density and classes. Methods: sksid; LogisticRegressionCV (lbfgs, newton-cg, newton-cholesky), GridSearchCV and
HalvingGridSearchCV with 10 values of C; OptunaSearchCV with 40 trials and bbai, where they are installed. All get the same
five folds and features that were prepared before; BLAS has one thread.

A peer is timed as it comes, and again refined until it reaches our quality: its grid is made finer until it holds a C whose
converged CV loss is within 1e-4 of the best that any method found, and ``tol`` tighter until the loss that it reports is within
1e-4 of the converged one at its C; float64 then. All that was measured is kept, a line for each fit, in ``--journal``; what is
there is not measured again. Delete it, or name another one, to measure anew.

    python examples/benchmarks/everywhere.py --sets real named

``--sets`` takes groups (real, named, grid), names, and patterns such as "made 1000 x*"; ``--report`` measures nothing and
shows what there is.
"""

import contextlib
import subprocess
import sys
import time
import warnings

import _common as common
import _everywhere_report as shown
import _grid
import _peers as peers
import numpy as np
from _journal import Journal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold

QUALITY = 1e-4  # relative, of a CV loss
FINER = (10, 20, 40, 80, 160)
TIGHTER = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
FINAL = {"ok", "over", "died", "failed", "skipped"}


def _losses(journal, name):
    """The converged CV losses of what was chosen on a set."""
    return [r["converged"] for r in journal.records if r["set"] == name and r["status"] == "ok" and r["converged"] > 0]


class Bench:
    """One set, and what is known of it."""

    def __init__(self, name, make, journal, args):
        self.name, self.journal, self.args = name, journal, args
        self.X, self.y, self.X_test, self.y_test = make()
        self.size = peers.size_of(self.X, self.y)
        self.splits = list(StratifiedKFold(5).split(np.zeros(self.size.n), self.y))
        self.key = vars(self.size)
        self.judge = peers.Judge(self.X, self.y, self.splits)

    def attempt(self, method, form=None, repeat=0):
        """Run a method once, unless the journal knows the end of it; the record."""
        form = form or peers.Form()
        key = {"set": self.name, "method": method, "values": form.values, "tol": form.tol, "repeat": repeat}
        known = self.journal.last(**key)
        if known and known["status"] == "begun":  # and the process has died since
            return self.journal.add(**self.key, **key, status="died")
        if known and known["status"] in FINAL and not known.get("limit", np.inf) < self.args.limit_seconds:
            return known
        why = peers.METHODS[method].lacks(self.size) or self._too_long(method, form)
        if why:
            return self.journal.add(**self.key, **key, status="skipped", why=why, limit=self.args.limit_seconds)
        self.journal.add(**self.key, **key, status="begun")
        try:
            record = self.journal.add(**self.key, **key, **self._run(method, form))
        except (KeyboardInterrupt, SystemExit):
            self.journal.add(**self.key, **key, status="stopped")
            raise
        print(common.line({name: record[name] for name in record if name not in ("n", "p", "entries", "dense")}), flush=True)
        return record

    def _run(self, method, form):
        """Seconds, what was found, and what it is worth."""
        how = peers.METHODS[method]
        X = self.X if form.tol == peers.TOL else self.X.astype(np.float64)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                search = how.make(form, self.splits)
                begin = time.perf_counter()
                with peers.limit(self.args.limit_seconds):
                    search.fit(X, self.y)
                seconds = time.perf_counter() - begin
            except peers.Overtime:
                return {"status": "over", "seconds": self.args.limit_seconds, "limit": self.args.limit_seconds}
            except Exception as error:  # a peer's, of any kind: it is told in the table
                return {"status": "failed", "why": f"{type(error).__name__}: {error}"[:200]}
        C, reported = how.read(search)
        return {
            "status": "ok",
            "seconds": seconds,
            "C": C,
            "reported": reported,
            "converged": self.loss(C),
            "test": peers.loss_on(search, self.X_test, self.y_test, np.unique(self.y)),
            "warned": sum(issubclass(warning.category, ConvergenceWarning) for warning in caught),
        }

    def loss(self, C):
        """The converged CV loss at C; NaN where that takes too long."""
        known = self.journal.last(set=self.name, method="loss", C=float(C))
        if known:
            return known.get("loss", float("nan"))
        key = {"set": self.name, "method": "loss", "C": float(C)}
        self.journal.add(**key, status="begun")
        try:
            with peers.limit(self.args.limit_loss), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loss, residual, differs = self.judge(C)
        except peers.Overtime:
            self.journal.add(**key, status="over", loss=float("nan"))
            return float("nan")
        self.journal.add(**key, status="known", loss=loss, residual=residual, differs=differs)
        return loss

    def _too_long(self, method, form):
        """Why not: even at the best rate on smaller sets, values of C counted, the limit would be far."""
        work = peers.METHODS[method].work
        rates = [
            record["seconds"] / (record["values"] * work(size))
            for record in self.journal.records
            if record.get("method") == method and record["status"] in ("ok", "over") and record["tol"] == form.tol
            for size in [peers.Size(*(record[name] for name in ("n", "p", "entries", "classes", "dense")))]
            if 0 < work(size) < work(self.size)
        ]
        seconds = form.values * work(self.size) * min(rates) if rates else 0.0
        return f"would take some {seconds:.0f} s" if seconds > self.args.patience * self.args.limit_seconds else ""

    def again(self, method, form=None, repeat=1):
        """A repeat, where the first was short."""
        first = self.attempt(method, form)
        if first["status"] == "ok" and first["seconds"] < self.args.limit_seconds / self.args.repeats:
            self.attempt(method, form, repeat)

    def refine(self, method):
        """A peer's form that reaches our quality, step by step, and that form again for its median."""
        losses = _losses(self.journal, self.name)
        refines = peers.METHODS[method].refines
        if not refines or not losses:
            return
        known = self.attempt(method)
        values = self._fine_enough(min(losses)) if "values" in refines else peers.VALUES
        for tol in TIGHTER:
            form = peers.Form(values, tol)
            if tol == TIGHTER[0] and known["status"] == "ok" and not self._says_what_it_does(known):
                continue  # as it comes it stops too early: more values would not cure that
            known = self.attempt(method, form)
            if known["status"] != "ok" or "tol" not in refines or self._says_what_it_does(known):
                break
        for repeat in range(1, self.args.repeats):
            self.again(method, form, repeat)

    def _says_what_it_does(self, record):
        """Whether the loss that was reported is that of its C."""
        return not abs(record["reported"] / record["converged"] - 1.0) > QUALITY

    def _fine_enough(self, best):
        """How many values a grid needs to hold a C as good as the best; no more than it has, where none does."""
        chosen = self.journal.last(set=self.name, converged=best)["C"]
        for values in FINER:
            grid = peers.Form(values).grid
            near = grid[np.argsort(np.abs(np.log(grid / chosen)))[:2]]
            if min(self.loss(C) for C in near) <= best * (1.0 + QUALITY):
                return values
        return peers.VALUES  # the best lies outside


def measure(name, make, journal, args):
    """All methods on one set, in turns, then refined."""
    bench = Bench(name, make, journal, args)
    for repeat in range(args.repeats):
        for method in args.methods:
            bench.again(method, repeat=repeat)
    if not args.as_they_come:
        for method in args.methods:
            bench.refine(method)


def in_processes(sets, journal, args):
    """A process for each set, so that none inherits the memory of another; one that dies is begun again after its last fit."""
    for name in sets:
        while True:
            before = len(Journal(args.journal).records)
            done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--worker", name])
            if done.returncode == 0 or len(Journal(args.journal).records) == before:
                break
    journal.records = Journal(args.journal).records


def main():
    """Measure what is missing, and show all."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--sets", nargs="+", default=["real", "named", "grid"])
    parser.add_argument("--methods", nargs="+", default=list(peers.METHODS), choices=list(peers.METHODS))
    parser.add_argument("--entries", type=float, default=1e6, help="stored entries of a set of the grid at most (to 1e8)")
    parser.add_argument("--limit-seconds", type=float, default=60.0, help="for one fit of one method")
    parser.add_argument("--patience", type=float, default=3.0, help="a peer that would take so many limits is left out")
    parser.add_argument("--limit-loss", type=float, default=600.0, help="seconds for the converged loss of one choice")
    parser.add_argument("--as-they-come", action="store_true", help="no refined peers")
    parser.add_argument("--journal", default=str(common.HERE / "results" / "everywhere.jsonl"))
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--draw", metavar="PNG", help="draw the saved results and do nothing else")
    parser.add_argument("--picture", choices=list(shown.PICTURES), default="ratios", help="which one to draw")
    parser.add_argument("--worker", help="measure this set in this process")
    args = parser.parse_args()
    if args.draw:
        return shown.PICTURES[args.picture](common.saved("everywhere"), args.draw)
    if args.quick:
        args.repeats, args.entries, args.limit_seconds = 1, min(args.entries, 1e4), min(args.limit_seconds, 2.0)
    sets, journal = _grid.chosen(args.sets, args.entries), Journal(args.journal)
    if args.worker:
        return measure(args.worker, sets[args.worker], journal, args)
    if not args.report:
        with contextlib.suppress(KeyboardInterrupt):
            in_processes(sets, journal, args)
    numbers = shown.summarize(journal.records, list(sets), _grid.real())
    shown.show(numbers)
    common.finish("everywhere", args, numbers)


if __name__ == "__main__":
    main()
