"""A ``C`` for each block of columns: the search against OptunaSearchCV with 40 trials; needs optuna and optuna-integration.

Optuna's Pipeline multiplies the columns of each block by a number of its own, which is the same as a ``C`` of its own. Seconds
to the trial that turned out the best, to our first step that is as good, and to the end of our fit, refit included; the CV loss
that each reports, and the loss on the test rows. Blocks: the two and the 20 of blocks.py's
made problem, and the 14 attributes of a9a.

    python examples/benchmarks/blocks_optuna.py
"""

import importlib.util
import time

import _common as common
import blocks
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from sksid import HypergradientSearchCV

TRIALS = 40
ENDS = (1e-4, 1e4)  # of each C


class Penalty(TransformerMixin, BaseEstimator):
    """Columns times sqrt(C): under a penalty of 1/2 |w|² they have the given C."""

    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, y=None):
        """Nothing to learn."""
        self.is_fitted_ = True
        return self

    def transform(self, X):
        """Scaled."""
        return X * np.sqrt(self.C)


def by_optuna(structure, splits, X, y):
    """The search of 40 trials, and the seconds to its best one."""
    import optuna
    from optuna_integration import OptunaSearchCV

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    columns = ColumnTransformer([(name, Penalty(), where) for name, where in structure.items()])
    pipeline = make_pipeline(columns, LogisticRegression())
    space = {f"columntransformer__{name}__C": optuna.distributions.FloatDistribution(*ENDS, log=True) for name in structure}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    search = OptunaSearchCV(pipeline, space, cv=splits, n_trials=TRIALS, scoring="neg_log_loss", study=study).fit(X, y)
    return search, (study.best_trial.datetime_complete - study.trials[0].datetime_start).total_seconds()


def by_sksid(structure, splits, X, y):
    """Ours, and its seconds."""
    begin = time.perf_counter()
    search = HypergradientSearchCV(LogisticRegression(), structure=structure, cv=splits, random_state=0).fit(X, y)
    return search, time.perf_counter() - begin


def problems(quick):
    """Data and blocks by name."""
    made = blocks.make(0, n=1000 if quick else 4000)
    yield "made, two blocks", made, blocks.MADE["two blocks"][1]
    yield "made, 20 blocks", made, blocks.MADE["20 blocks of 100"][1]
    if common.DATA.exists():
        X, y, X_test, y_test = common.load("a9a", 1000 if quick else None)
        yield "a9a, 14 attributes", (X, y, X_test, y_test), blocks.census()[2]


def main():
    """A row for each problem."""
    parser = common.parser(__doc__)
    args = parser.parse_args()
    if importlib.util.find_spec("optuna") is None or importlib.util.find_spec("optuna_integration") is None:
        common.skip("optuna and optuna-integration are not installed")
    rows = []
    for name, (X, y, X_test, y_test), structure in problems(args.quick):
        splits, row, searches = list(StratifiedKFold(5).split(X, y)), {"blocks": name}, {}
        for side, search in (("sksid", by_sksid), ("optuna", by_optuna)):
            found, row[f"{side} seconds"] = search(structure, splits, X, y)
            row[f"{side} cv loss"] = -float(found.best_score_)
            searches[side] = found
            row[f"{side} test"] = log_loss(y_test, found.predict_proba(X_test))
        steps = searches["sksid"].cv_results_
        as_good = -steps["mean_test_score"] <= row["optuna cv loss"]
        reached = np.cumsum(steps["mean_fit_time"])[as_good]
        row["sksid to that"] = float(reached[0]) if reached.size else float("nan")
        row["ratio"] = row["optuna seconds"] / row["sksid seconds"]
        rows.append(row)
        print(common.line(row), flush=True)
    print()
    common.table(rows)
    common.finish("blocks_optuna", args, {"rows": rows})


if __name__ == "__main__":
    main()
