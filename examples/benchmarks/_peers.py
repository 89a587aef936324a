"""The methods of everywhere.py: how each is made, what it found, where it applies, and what its choice is worth converged."""

import contextlib
import faulthandler
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import _common as common
import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

from sksid import HypergradientSearchCV, solvers
from sksid.problem import make_problem

ENDS = (-4, 4)  # of the grids of C, as powers of ten: LogisticRegressionCV's own
VALUES = 10
TOL = 1e-4  # scikit-learn's default
TRIALS = 40
MOST_UNKNOWNS = 6_000  # for a peer that forms Hessians
FEW_UNKNOWNS = 1_000  # up to here, and to MOST_WORK of forming a Hessian, a choice's loss is computed twice
MOST_WORK = 2e10


@dataclass(frozen=True)
class Form:
    """How finely a peer searches."""

    values: int = VALUES
    tol: float = TOL

    @property
    def settings(self):
        """Of a LogisticRegression."""
        return {} if self.tol == TOL else {"tol": self.tol, "max_iter": 100_000}

    @property
    def grid(self):
        """The values of C."""
        return np.logspace(*ENDS, self.values)


@dataclass(frozen=True)
class Size:
    """What is known of a set ahead."""

    n: int
    p: int
    entries: int
    classes: int
    dense: bool

    @property
    def outputs(self):
        """Columns of W."""
        return 1 if self.classes == 2 else self.classes

    @property
    def unknowns(self):
        """Of one fit."""
        return (self.p + 1) * self.outputs


@dataclass(frozen=True)
class Method:
    """``make(form, splits)`` is an unfitted search, ``read(search)`` its C and the CV loss that it reports.

    ``refines`` are what of its form can be refined; ``work(size)`` is what its seconds are in proportion to; ``lacks(size)``
    says why it is left out, or nothing.
    """

    make: Callable[[Form, list], Any]
    read: Callable[[Any], tuple[float, float]]
    refines: tuple = ("values", "tol")
    work: Callable[[Size], float] = lambda size: float(size.entries) * size.outputs
    lacks: Callable[[Size], str] = lambda size: ""


def size_of(X, y):
    """The size of a set."""
    dense = not sp.issparse(X)
    return Size(*X.shape, int(X.size if dense else X.nnz), int(np.unique(y).size), dense)


# ---- the methods --------------------------------------------------------------------------------------------------------


def _ours(form, splits):
    return HypergradientSearchCV(LogisticRegression(), structure="shared", cv=splits, random_state=0)


def _lrcv(solver):
    def make(form, splits):
        settings = {"solver": solver, "scoring": "neg_log_loss", "use_legacy_attributes": False}
        return LogisticRegressionCV(Cs=form.grid, cv=splits, **settings, **form.settings)

    return make


def _grid(form, splits):
    return GridSearchCV(LogisticRegression(**form.settings), {"C": form.grid}, cv=splits, scoring="neg_log_loss")


def _halving(form, splits):
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingGridSearchCV

    settings = {"scoring": "neg_log_loss", "random_state": 0}
    return HalvingGridSearchCV(LogisticRegression(**form.settings), {"C": form.grid}, cv=splits, **settings)


def _optuna(form, splits):
    import optuna
    from optuna_integration import OptunaSearchCV

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    space = {"C": optuna.distributions.FloatDistribution(*(10.0**end for end in ENDS), log=True)}
    settings = {"scoring": "neg_log_loss", "n_trials": TRIALS, "study": study, "error_score": "raise"}
    return OptunaSearchCV(LogisticRegression(**form.settings), space, cv=splits, **settings)


def _bbai(form, splits):
    from bbai.glm import LogisticRegression as ByLeaveOneOut

    return ByLeaveOneOut()


def _best(search):
    return float(search.best_params_["C"]), -float(search.best_score_)


def _best_of_scores(search):
    return float(search.C_), -float(search.scores_.reshape(search.scores_.shape[0], -1).mean(axis=0).max())


def _forms_hessians(size):
    return f"{size.unknowns:,} unknowns" if size.unknowns > MOST_UNKNOWNS else ""


def _absent(*modules):
    missing = [name for name in modules if name not in sys.modules and importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed" if missing else ""


def _lacks_halving(size):
    least = 2 * 5 * size.classes
    return f"its first round takes {least} of {size.n} rows" if size.n < 4 * least else ""


def _lacks_bbai(size):
    if not size.dense or size.unknowns > FEW_UNKNOWNS or size.n > 100_000:
        return "for small dense data"
    return _absent("bbai")


METHODS = {
    "sksid": Method(_ours, _best, refines=()),
    "lbfgs": Method(_lrcv("lbfgs"), _best_of_scores),
    "newton-cg": Method(_lrcv("newton-cg"), _best_of_scores),
    "newton-cholesky": Method(
        _lrcv("newton-cholesky"),
        _best_of_scores,
        work=lambda size: float(size.n) * size.unknowns**2 + float(size.unknowns) ** 3,
        lacks=_forms_hessians,
    ),
    "grid": Method(_grid, _best),
    "halving": Method(_halving, _best, lacks=_lacks_halving),
    "optuna": Method(_optuna, _best, refines=("tol",), lacks=lambda size: _absent("optuna", "optuna_integration")),
    "bbai": Method(
        _bbai,
        lambda model: (float(model.C_), float("nan")),
        refines=(),
        work=lambda size: float(size.n) * size.unknowns**2,
        lacks=_lacks_bbai,
    ),
}
GRID_OF = ("lbfgs", "newton-cg", "newton-cholesky")  # of LogisticRegressionCV


def loss_on(model, X_test, y_test, classes):
    """Of the refitted model; NaN without test rows."""
    if X_test is None:
        return float("nan")
    return float(log_loss(y_test, np.clip(model.predict_proba(X_test), 1e-300, 1.0), labels=classes))


# ---- what a choice is worth ---------------------------------------------------------------------------------------------


class Judge:
    """The CV losses of converged models on one set, each from the models before."""

    def __init__(self, X, y, splits):
        few_rows = not sp.issparse(X) and X.shape[0] < X.shape[1]
        self.X, self.y, self.splits = rotated(X) if few_rows else X, y, splits
        self.classes, labels = np.unique(y, return_inverse=True)
        self.problem = make_problem(self.X, labels, splits, n_classes=self.classes.size, dtype=np.float64)
        self.solver, self.state = solvers.choose(self.problem), None

    def __call__(self, C):
        """The loss, the residual of the solve, and what a second solver says (relative; NaN where there is none).

        The first solver is ours, in float64; the second, where unknowns are few, scikit-learn's newton-cholesky.
        """
        state, self.state = self.state, None  # which an interrupt would leave in the middle
        until = {"tol": 1e-8, "max_epochs": 30 if isinstance(self.solver, solvers.Aid) else 3000}
        losses, residual, self.state = common.converge(self.problem, -np.log(C), solver=self.solver, state=state, **until)
        loss = float(losses.mean())
        return loss, float(residual), self._second(C) / loss - 1.0

    def _second(self, C):
        size = size_of(self.X, self.y)
        if size.unknowns > FEW_UNKNOWNS or size.n * size.unknowns**2 > MOST_WORK:
            return float("nan")
        twin, X = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=10_000), self.X.astype(np.float64)
        models = [twin.fit(X[train], self.y[train]).predict_proba(X[val]) for train, val in self.splits]
        pairs = zip(models, self.splits, strict=True)
        return float(np.mean([log_loss(self.y[val], model, labels=self.classes) for model, (_, val) in pairs]))


def rotated(X):
    """As many columns as rows, with the same inner products: the same problem, where one penalty is shared."""
    X = X.astype(np.float64)
    values, vectors = eigh(X @ X.T)
    kept = values > values[-1] * 1e-12
    return vectors[:, kept] * np.sqrt(values[kept])


# ---- time limits --------------------------------------------------------------------------------------------------------


class Overtime(BaseException):
    """A fit has taken too long. No Exception, so that no search takes it for a failed fit and goes on."""


@contextlib.contextmanager
def limit(seconds):
    """Raise Overtime in a block that takes longer; where a compiled call goes on, end the process after three times that."""
    faulthandler.dump_traceback_later(3 * seconds + 5, exit=True)
    try:
        with common.limit(seconds, Overtime):
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()
