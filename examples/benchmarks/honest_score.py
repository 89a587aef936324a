"""Is a score true? What a search reports of its model, and what 10,000 fresh rows say: means over 200 made data sets.

``optimism`` is the log loss on fresh rows minus the reported one, -best_score_: above zero, a score is too good to be true.
``of one score`` is the standard error that the splits give a single score, for comparison. 150 rows, 40 normal features, of
which four matter, or none: then labels are coins. The searches:

- one penalty; moments, evidence; auto: as they come. "moments, evidence, cross-fitted": with ``early_stopping=True``.
- per feature, CV score: with ``early_stopping=False``, where the validation rows choose 40 penalties and score them.
- per feature, held-out rows: 15% of the rows are kept out of all splits, and choose the number of steps of a descent on the
  splits of the others. Their loss at that step is the score: the least of many, on one part of the rows.
- per feature, cross-fitted: as it comes.

``larger`` has three of them on 1,000 rows, in the mean over a fifth as many data sets. Two more tables are for pictures:
``course``, a descent on 50 penalties step by step, with and without cross-fitting, and
``leak``, evidence of all rows and of training rows, where labels are coins.

    python examples/benchmarks/honest_score.py
    python examples/benchmarks/honest_score.py --searches auto --save    # others as they were saved
    python examples/benchmarks/honest_score.py --draw course.png --picture course
"""

import warnings

import _common as common
import numpy as np
from _honest_pictures import PICTURES
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, train_test_split

from sksid import HypergradientSearchCV
from sksid.crossfit import CrossFit, Descents, Nest
from sksid.descent import Bilevel, Descent
from sksid.descriptors import evidence
from sksid.problem import make_problem
from sksid.solvers import Aid
from sksid.stages import continuation
from sksid.structures import matrix, per_feature, shared

NONE = np.arange(0)
FRESH = 10_000
TRUTHS = {"four features matter": 4, "coins": 0}
DESCRIPTORS = ["moments", "evidence"]
LARGER = ("one penalty", "moments, evidence, cross-fitted", "auto")  # on 1,000 rows
PATIENCE = 10  # steps without a smaller loss on the held-out rows


# ---- data ---------------------------------------------------------------------------------------------------------------


def made(n_informative, n_features, n_rows, seed):
    """Rows to fit and fresh ones, ``X, y, X_fresh, y_fresh``: normal features, the first ones matter alike."""
    random = np.random.default_rng(seed)
    X, coef = random.standard_normal((n_rows + FRESH, n_features)), np.zeros(n_features)
    coef[:n_informative] = 2.0 / np.sqrt(max(n_informative, 1))
    y = (random.random(len(X)) < 1.0 / (1.0 + np.exp(-X @ coef))).astype(np.int64)
    return X[:n_rows], y[:n_rows], X[n_rows:], y[n_rows:]


def problem_of(X, y, splits):
    """Rows and their roles."""
    return make_problem(X, y, splits, n_classes=2, dtype=np.float64)


def fresh_loss(log_penalties, X, y, X_fresh, y_fresh):
    """The log loss on fresh rows of a model of all rows with these penalties."""
    scale = np.exp(-0.5 * log_penalties)  # a penalty λ_j is a penalty of 1 on x_j / √λ_j
    model = LogisticRegression(tol=1e-6, max_iter=1000).fit(X * scale, y)
    return log_loss(y_fresh, model.predict_proba(X_fresh * scale))


# ---- scores, reported and true ------------------------------------------------------------------------------------------


def searched(structure, **settings):
    """A search as a function of data and seed: the loss it reports, its standard error, its model's loss on fresh rows."""

    def losses(X, y, X_fresh, y_fresh, seed):
        search = HypergradientSearchCV(LogisticRegression(), structure=structure, random_state=seed, **settings).fit(X, y)
        error = search.cv_results_["std_test_score"][search.best_index_] / np.sqrt(search.n_splits_ - 1)
        return -search.best_score_, error, log_loss(y_fresh, search.predict_proba(X_fresh))

    return losses


def descend(problem, on_step, max_iter):
    """One penalty, and from there one for each feature, by the validation loss of a problem."""
    n_features, solver = problem.n_features, Aid()
    state = solver.init(problem, np.zeros(n_features))
    stages, descent = [shared(n_features), per_feature(n_features)], Descent(max_iter=max_iter, n_iter_no_change=max_iter)
    return continuation(Bilevel(problem, solver), state, stages, descent, on_step)


def held_out(X, y, X_fresh, y_fresh, seed):
    """As ``searched``: one part of the rows, which no split has, chooses the number of steps, and scores it."""
    kept, out = train_test_split(np.arange(len(y)), test_size=0.15, stratify=y, random_state=seed)
    splits = [(kept[train], kept[val]) for train, val in StratifiedKFold(5).split(X[kept], y[kept])]
    problem, judge = problem_of(X, y, splits), problem_of(X, y, [(NONE, out)] * 5)
    judged = []

    def on_step(step, state):
        judged.append((float(Aid().losses(problem, state, judge).mean()), step.log_penalties))
        since = len(judged) - 1 - np.argmin([loss for loss, _ in judged])
        return step.structure.name == "per_feature" and since >= PATIENCE

    descend(problem, on_step, max_iter=60)
    loss, log_penalties = min(judged, key=lambda pair: pair[0])
    return loss, np.nan, fresh_loss(log_penalties, X, y, X_fresh, y_fresh)


SEARCHES = {
    "one penalty": searched("shared"),
    "moments, evidence": searched(DESCRIPTORS),
    "moments, evidence, cross-fitted": searched(DESCRIPTORS, early_stopping=True),
    "per feature, CV score": searched("per_feature", early_stopping=False, max_iter=30),
    "per feature, held-out rows": held_out,
    "per feature, cross-fitted": searched("per_feature"),
    "auto": searched("auto"),
}


def scores(repeats, n_rows, searches):
    """A row for each truth and search."""
    for truth, n_informative in TRUTHS.items():
        found = {name: [] for name in searches}
        for seed in range(repeats):
            data = made(n_informative, 40, n_rows, seed)
            for name in searches:
                found[name].append(SEARCHES[name](*data, seed))
        for name, losses in found.items():
            reported, error, fresh = np.transpose(losses)
            yield {
                "data": truth,
                "search": name,
                "reported": reported.mean(),
                "fresh": fresh.mean(),
                "optimism": (fresh - reported).mean(),
                "standard error": (fresh - reported).std(ddof=1) / np.sqrt(repeats),
                "of one score": error.mean(),
            }


def with_saved(table, rows, searches):
    """These rows, and those of other searches as they were saved."""
    rows = list(rows)
    if set(searches) == set(SEARCHES):
        return rows
    kept = [row for row in common.saved("honest_score").get(table, ()) if row["search"] not in searches]
    order = {name: place for place, name in enumerate([*TRUTHS, *SEARCHES])}
    return sorted([*kept, *rows], key=lambda row: (order[row["data"]], order[row["search"]]))


# ---- for the pictures ---------------------------------------------------------------------------------------------------


def course(repeats, n_steps=40):
    """Mean losses after each step on 50 penalties, five of which matter: of the rows that choose, and of fresh ones."""
    plain, crossed, taken = [], [], np.cumsum(CrossFit().intervals(per_feature(50)))
    for seed in range(repeats):
        data = made(5, 50, 300, seed)
        X, y = data[:2]
        splits, steps = list(StratifiedKFold(5).split(X, y)), []
        path = descend(problem_of(X, y, splits), lambda step, _, kept=steps: kept.append(step), n_steps)
        own = [step for step in path.steps if step.structure.name == "per_feature"][:n_steps]
        plain.append([(step.value, fresh_loss(step.log_penalties, *data)) for step in own])
        start = next(step for step in reversed(path.steps) if step.structure.name == "shared").log_penalties
        settings = CrossFit(patience=len(taken))
        descents = Descents(settings, nest(X, y, splits), start, path.bilevel.log_range)
        judged = descents.run(per_feature(50), [(per_feature(50), per_feature(50))] * 5)
        crossed.append([(step.value, fresh_loss(step.log_penalties, *data)) for step in judged])
    found = {}
    for name, n_taken, losses in (("not cross-fitted", np.arange(n_steps), plain), ("cross-fitted", taken, crossed)):
        own, fresh = np.mean(losses, axis=0).T
        found[name] = {"steps": n_taken.tolist(), "reported": common.rounded(own), "fresh": common.rounded(fresh)}
    return found


def nest(X, y, splits):
    """Each split as a judge of the next two, in turn, without its validation rows."""
    inner = []
    for m, (train, _) in enumerate(splits):
        others = [*splits[m + 1 :], *splits[:m]][:2]
        inner += [(np.intersect1d(train, other), np.intersect1d(train, judge)) for other, judge in others]
    rest, judge = [(train, NONE) for train, _ in splits], [(NONE, val) for _, val in splits]
    inner, rest, judge = (problem_of(X, y, these) for these in (inner, rest, judge))
    return Nest(Bilevel(inner, Aid()), np.full(len(splits), 2), Bilevel(rest, Aid()), judge)


def leak(counts, repeats):
    """100 rows whose labels are coins: the loss reported, and on 1,000 fresh rows, by the number of features."""
    for n_features in counts:
        found = {"training rows": [], "all rows": []}
        for seed in range(repeats):
            random = np.random.default_rng(seed)
            X, y = random.standard_normal((1100, n_features)), np.arange(1100) % 2
            column = evidence(X[:100], y[:100])
            leaking = matrix(np.column_stack([np.ones(n_features), (column - column.mean()) / column.std()]))
            for name, structure in (("training rows", "evidence"), ("all rows", leaking)):
                found[name].append(searched(structure)(X[:100], y[:100], X[100:], y[100:], seed))
        for name, losses in found.items():
            reported, _, fresh = np.mean(losses, axis=0)
            yield {"features": n_features, "evidence of": name, "reported": reported, "fresh": fresh}


def main():
    """Three tables, or a picture of those that were saved."""
    parser = common.parser(__doc__, repeats=200)
    parser.add_argument("--draw", metavar="PNG", help="draw the saved results and do nothing else")
    parser.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=list(SEARCHES))
    parser.add_argument("--picture", choices=list(PICTURES), default="scores", help="which one to draw")
    args = parser.parse_args()
    if args.draw:
        return PICTURES[args.picture](common.saved("honest_score"), args.draw)
    repeats, larger = 2 if args.quick else args.repeats, [name for name in LARGER if name in args.searches]
    warnings.filterwarnings("ignore", message="The C found")  # coins ask for no features
    rows = with_saved("rows", scores(repeats, 150, args.searches), args.searches)
    common.table(rows)
    many_rows = with_saved("larger", scores(max(2, repeats // 5), 1000, larger), args.searches)
    print("\n1,000 rows\n")
    common.table(many_rows)
    by_step = course(max(1, repeats // 10))
    leaks = list(leak((10, 100) if args.quick else (10, 30, 100, 300, 1000, 3000, 10_000), max(1, repeats // 20)))
    print("\nEvidence, where labels are coins\n")
    common.table(leaks)
    common.finish("honest_score", args, {"rows": rows, "larger": many_rows, "course": by_step, "leak": leaks})


if __name__ == "__main__":
    main()
