"""HypergradientSearchCV: validate → splits → descend → report → refit."""

import numbers
import time
import warnings
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from sklearn.base import _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit, check_cv
from sklearn.utils import check_random_state, indexable
from sklearn.utils.multiclass import check_classification_targets

from sksid import _estimators, solvers
from sksid._report import SplitScorer, result_rows
from sksid._sklearn import (
    BaseSearchCV,
    HasMethods,
    Interval,
    MultimetricScorer,
    SGDClassifier,
    StrOptions,
    check_method_params,
    check_sample_weight,
    validate_data,
)
from sksid.descent import FEW, Bilevel, Descent, climb, ladder
from sksid.problem import make_problem
from sksid.sid import check_splits, solve
from sksid.structures import Structure, make_structure, moments

LOG_LOSS = (None, "neg_log_loss")
FINAL_TOL = 1e-4  # relative accuracy of the reported score
REFIT_TOL = 5e-6  # of the refitted probabilities
MAX_EPOCHS = 400
ASTRAY = 0.01  # relative change of the criterion for each unit of log λ at which a search by "sgd" has not found the optimum


@dataclass(frozen=True, eq=False)
class _Data:
    """What is searched on, checked: labels count from 0, splits and monitor are index arrays."""

    X: object
    labels: np.ndarray
    classes: np.ndarray
    feature_names: np.ndarray | None
    fit_intercept: bool
    sample_weight: np.ndarray | None
    splits: list
    train_scale: np.ndarray
    monitor: np.ndarray

    @property
    def n_train(self):
        """The mean number of training rows."""
        return float(np.mean([train.size for train, _ in self.splits]))

    @property
    def search_dtype(self):
        """float32, which is twice as fast, where there is enough data for that to matter."""
        entries = self.X.nnz if sp.issparse(self.X) else self.X.size
        return np.float32 if entries * len(self.splits) > 1e6 else np.float64

    def problem(self, splits=None, train_scale=None, **settings):
        """The rows laid out for the solvers: of these splits, or of the search's own."""
        if splits is None:
            splits, train_scale = self.splits, self.train_scale
        return make_problem(
            self.X,
            self.labels,
            splits,
            n_classes=self.classes.size,
            sample_weight=self.sample_weight,
            train_scale=train_scale,
            fit_intercept=self.fit_intercept,
            **settings,
        )

    def monitor_problem(self):
        """The monitor's rows, as validation rows of every split; None where there is no monitor."""
        if not self.monitor.size:
            return None
        nothing = np.empty(0, dtype=np.intp)
        return self.problem([(nothing, self.monitor)] * len(self.splits))


class HypergradientSearchCV(BaseSearchCV):
    """Tune the L2 penalties of a logistic regression on the cross-validated log loss, by hypergradient descent.

    The gradient of the cross-validated loss with respect to the log penalties is computed by stochastic implicit
    differentiation (SID, [1]_) in the same passes over the data that fit the models of all splits. One penalty, one for each
    group of features, or one for each feature.

    For split k the lower level is the *sum* Σ s_i ℓ_i + ½ Σ_j λ_j ‖W_j‖² over its training rows, λ_j = 1/C_j, intercepts
    unpenalised; the criterion is the mean over splits of the weighted *mean* log loss on its validation rows.

    Parameters
    ----------
    estimator : LogisticRegression or SGDClassifier
        With an L2 penalty; ``SGDClassifier`` with ``loss="log_loss"`` and two classes. Its ``C`` or ``alpha`` is where the
        search starts. ``fit_intercept`` and ``class_weight`` are honoured.
    structure : {"shared", "moments", "per_feature"}, array-like or Structure, default="per_feature"
        What has a penalty of its own. An array of shape (n_features,) labels the groups; a matrix A of shape (n_features,
        n_params) gives log λ = A θ above the tuned shared level. ``"moments"`` makes A of the features' log second moments:
        three hyperparameters.
    solver : {"auto", "dual", "aid", "sgd"}, default="auto"
        ``"dual"``: stochastic dual coordinate ascent. ``"aid"``: deterministic Newton steps and conjugate gradient. ``"sgd"``:
        the stochastic iterations of [1]_, for comparison: seldom the fastest. Their noise keeps them from the accuracy of a
        reported score: the chosen step is solved once more, and the refit done, by what ``"auto"`` takes.
        ``"auto"`` takes ``"aid"`` where a Hessian is small enough to be factorised.
    scoring : str, callable, list, tuple or dict, default=None
        What ``cv_results_`` reports and the best step is chosen by; None is ``"neg_log_loss"``. The descent is on the log
        loss in any case.
    cv : int, cross-validation generator or iterable, default=None
        As in GridSearchCV.
    refit : bool, str or callable, default=True
        As in GridSearchCV. The refit is on all rows, the monitor's among them.
    max_iter : int, default=100
        Outer steps at most, on each rung from the shared penalty to ``structure``.
    tol : float, default=1e-4
        With a few hyperparameters, the search ends where less than this relative decrease of the criterion is expected.
    early_stopping : bool or "auto", default="auto"
        Whether rows are kept out of every split to choose the step by. ``"auto"``: with more than 5 hyperparameters.
        Without it a search of many penalties overfits the validation rows, and its score is too good to be true.
    validation_fraction : float, default=0.15
        The share of rows in that monitor, stratified, or by group where ``groups`` are given.
    n_iter_no_change : int, default=10
        Steps without a better monitor loss after which a search of many penalties ends.
    n_jobs : int, default=None
        Threads for scoring, where ``scoring`` is not the log loss. The result is the same for any number.
    random_state : int, RandomState instance or None, default=None
        Of the order of visits and the choice of the monitor.
    verbose : int, default=0
        1 prints a line for each outer step.

    Attributes
    ----------
    best_estimator_ : estimator
        A plain fitted scikit-learn estimator in the original feature space; it needs no sksid to predict.
    best_params_ : dict
        ``C`` or ``alpha``: the geometric mean where there are many penalties.
    best_score_ : float
        Mean score of the chosen step: on the validation rows; on the monitor's rows, of all splits' models, where there is a
        monitor and ``scoring`` is the log loss.
    best_index_ : int
        Its row in ``cv_results_``.
    cv_results_ : dict of ndarrays
        A row for each outer step, with GridSearchCV's keys; ``mean_monitor_score`` where there is a monitor. Steps are solved
        to the accuracy of their step; the chosen one to convergence.
    penalties_ : ndarray of shape (n_features,)
        λ_j of the refit, 1/C_j in scikit-learn's scaling.
    theta_ : ndarray of shape (n_params,)
        The hyperparameters.
    structure_ : Structure
        Of the chosen step: ``"shared"`` where no finer structure was better on the monitor.
    hypergradient_ : ndarray of shape (n_params,)
        ∂F/∂θ at the result.
    n_iter_ : int
        Outer steps.
    n_splits_ : int
    scorer_ : callable or dict
    multimetric_ : bool
    refit_time_ : float
        Seconds.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Where X has string column names.

    See Also
    --------
    sksid.hypergradient : value and gradient at penalties of one's own.

    References
    ----------
    .. [1] R. Grazzi, M. Pontil, S. Salzo, "Convergence Properties of Stochastic Hypergradients", AISTATS 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from sksid import HypergradientSearchCV
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> search = HypergradientSearchCV(LogisticRegression(), structure="shared").fit(scale(X), y)
    >>> search.predict(scale(X)[:2])
    array([0, 0])
    >>> bool(search.best_score_ > -0.08)
    True
    """

    _parameter_constraints: dict = {
        **{name: BaseSearchCV._parameter_constraints[name] for name in ("scoring", "n_jobs", "refit", "cv", "verbose")},
        "estimator": [HasMethods(["fit"])],
        "structure": [str, "array-like", "sparse matrix", Structure],
        "solver": [StrOptions({"auto", *solvers.NAMES})],
        "max_iter": [Interval(numbers.Integral, 1, None, closed="left")],
        "tol": [Interval(numbers.Real, 0, None, closed="neither")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(numbers.Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    # what the inherited methods ask of a search
    error_score = "raise"
    return_train_score = False

    def __init__(
        self,
        estimator,
        *,
        structure="per_feature",
        solver="auto",
        scoring=None,
        cv=None,
        refit=True,
        max_iter=100,
        tol=1e-4,
        early_stopping="auto",
        validation_fraction=0.15,
        n_iter_no_change=10,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.structure = structure
        self.solver = solver
        self.scoring = scoring
        self.cv = cv
        self.refit = refit
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        if isinstance(self.estimator, SGDClassifier):
            tags.classifier_tags.multi_class = False
        return tags

    def _get_scorers(self):
        if self.scoring is None:
            return check_scoring(self.estimator, "neg_log_loss"), "score"
        return super()._get_scorers()

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        """Search, and refit with the penalties found.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite features; floats of either precision are kept.
        y : array-like of shape (n_samples,)
            Class labels.
        **params : dict
            ``sample_weight`` of shape (n_samples,), for both levels, the refit and the scorer, and ``groups`` of shape
            (n_samples,), for the splitter and the monitor; with metadata routing, whatever is requested.

        Returns
        -------
        self : HypergradientSearchCV

        Raises
        ------
        TypeError, ValueError
            Where the estimator has no such penalty, or data, splits or parameters do not fit; before any work is done.
        """
        target = _estimators.read(self.estimator)
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        data, structure = self._prepare(X, y, target, routed)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)

        problem = data.problem(dtype=data.search_dtype, seed=seed)
        score = None
        if self.scoring not in LOG_LOSS:
            score = SplitScorer(
                self.estimator, scorers, X, y, data.splits, data.classes, data.feature_names, routed.scorer.score, self.n_jobs
            )
        bilevel = Bilevel(problem, self._choose_solver(problem), data.monitor_problem(), score)
        climbed = self._climb(bilevel, structure, data, target, seed)
        if self.solver == "sgd":
            exact = solvers.choose(problem)
            bilevel = replace(bilevel, solver=exact)
            climbed = replace(climbed, state=exact.init(problem, climbed.state.log_penalties, seed=seed))
        bilevel, climbed = self._polish(bilevel, climbed)
        if self.solver == "sgd":
            self._warn_if_astray(climbed.steps[climbed.best])
        self._report(climbed, target, data, scorers, refit_metric)
        if self.refit:
            self._refit(bilevel, climbed, target, data)
        return self

    # ---- validate and split ---------------------------------------------------------------------------------------------

    def _prepare(self, X, y, target, routed):
        """Everything that can be wrong is found here, before any work is done."""
        checker = clone(self.estimator)
        checked, y = validate_data(
            checker, X, y, accept_sparse="csr", accept_large_sparse=True, dtype=[np.float64, np.float32], order="C"
        )
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        _estimators.check_classes(self.estimator, classes)
        structure = make_structure(self.structure, checked)
        sample_weight = self._fit_weights(routed, checked)
        cv = check_cv(self.cv, y, classifier=True)
        splits = [(np.asarray(train), np.asarray(val)) for train, val in cv.split(X, y, **routed.splitter.split)]
        check_splits(splits, labels, classes, sample_weight)
        monitor = np.empty(0, dtype=np.intp)
        if structure.n_params > FEW if self.early_stopping == "auto" else self.early_stopping:
            monitor = self._draw_monitor(checked, labels, routed.splitter.split.get("groups"))
            splits = [(_without(train, monitor), _without(val, monitor)) for train, val in splits]
            check_splits(splits, labels, classes, sample_weight)
        self.n_splits_ = len(splits)
        n_trains = np.array([train.size for train, _ in splits])
        weights = [
            target.class_weights(y[train], classes, None if sample_weight is None else sample_weight[train])
            for train, _ in splits
        ]
        train_scale = np.transpose(weights) * target.split_scales(n_trains)
        return _Data(
            X=checked,
            labels=labels,
            classes=classes,
            feature_names=getattr(checker, "feature_names_in_", None),
            fit_intercept=target.fit_intercept,
            sample_weight=sample_weight,
            splits=splits,
            train_scale=np.ascontiguousarray(train_scale),
            monitor=monitor,
        ), structure

    @staticmethod
    def _fit_weights(routed, X):
        unknown = set(routed.estimator.fit) - {"sample_weight"}
        if unknown:
            raise TypeError(f"fit got parameters that the search cannot pass on: {sorted(unknown)}. Give sample_weight only.")
        sample_weight = routed.estimator.fit.get("sample_weight")
        if sample_weight is None:
            return None
        return check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)

    def _draw_monitor(self, X, labels, groups):
        draw = StratifiedShuffleSplit if groups is None else GroupShuffleSplit
        splitter = draw(n_splits=1, test_size=self.validation_fraction, random_state=self.random_state)
        try:
            _, monitor = next(splitter.split(X, labels, groups))
        except ValueError as error:
            raise ValueError(
                f"early_stopping: no monitor of validation_fraction={self.validation_fraction} can be drawn: {error} Set "
                "another validation_fraction, or early_stopping=False, or structure='shared'."
            ) from error
        return np.sort(monitor)

    def _choose_solver(self, problem):
        if self.solver == "auto":
            return solvers.choose(problem)
        return solvers.NAMES[self.solver]()

    # ---- descend --------------------------------------------------------------------------------------------------------

    def _climb(self, bilevel, structure, data, target, seed):
        descent = Descent(max_iter=self.max_iter, tol=self.tol, n_iter_no_change=self.n_iter_no_change)
        start = np.full(data.X.shape[1], target.log_penalty(data.n_train))
        between = [moments(data.X)] if structure.name == "per_feature" and data.monitor.size else []
        state = bilevel.solver.init(bilevel.problem, start, seed=seed)
        return climb(bilevel, state, ladder(structure, between), descent, self._tell)

    def _tell(self, step):
        if self.verbose:
            print(
                f"[HypergradientSearchCV] {step.structure}: loss {step.value:.6f}"
                + ("" if step.monitor is None else f", monitor {np.mean(step.monitor):.6f}")
                + f", geometric mean of the penalties {np.exp(step.log_penalties.mean()):.4g}"
                + f" ({step.n_epochs:.1f} epochs, {step.seconds:.2f} s)"
            )
        return False

    def _polish(self, bilevel, climbed):
        """Solve the chosen step to convergence; where that makes another one look better, that one too."""
        state, steps, polished = climbed.state, list(climbed.steps), []
        while (best := self._choose(climbed, steps, polished)) not in polished:
            since = time.perf_counter(), state.n_epochs
            step, structure = steps[best], climbed.structures[best]
            precise = bilevel.solver.reported(bilevel.problem, step.log_penalties)
            if precise is not bilevel.problem:
                bilevel, state = replace(bilevel, problem=precise), bilevel.solver.convert(precise, state)
            same = np.array_equal(state.log_penalties, step.log_penalties)
            if not same:
                state = bilevel.solver.rescale(bilevel.problem, state, step.log_penalties)
            state, estimate = solve(
                bilevel.problem,
                bilevel.solver,
                state,
                rtol=0.1,
                value_tol=self.tol,
                value_rtol=FINAL_TOL,
                max_epochs=MAX_EPOCHS,
                project=structure.pull_back,
                warm=same and state.n_epochs > 0,
            )
            if not estimate.converged:
                _warn_not_converged("The score of the chosen step")
            losses = bilevel.solver.losses_on(bilevel.problem, state, bilevel.problem)
            gradient = structure.pull_back(estimate.log_gradient)
            steps[best] = bilevel.record(structure, step.theta, step.log_penalties, state, losses, gradient, since)
            polished.append(best)
        return bilevel, replace(climbed, state=state, steps=steps, best=best)

    @staticmethod
    def _warn_if_astray(step):
        """Say so if the chosen step, now that it is solved exactly, is not where few hyperparameters have their optimum."""
        slope = np.max(np.abs(step.gradient)) / step.value
        if step.theta.size <= FEW and step.monitor is None and step.scores is None and slope > ASTRAY:
            warnings.warn(
                f"solver='sgd' was not accurate enough to find the optimum: where it ended, the criterion still changes by "
                f"{slope:.0%} for each unit of a log penalty. Set solver='auto', or max_iter higher.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _choose(self, climbed, steps, polished):
        """The best step: by the monitor, where there is one; by the scorer, where there is one; else by the loss.

        Of losses that differ by less than the steps' own accuracy, the latest counts, whose hypergradient is converged.
        """
        if steps[0].monitor is not None:
            return climbed.best
        if steps[0].scores is not None:
            return self._choose_by_score(steps)
        candidates = range(len(steps)) if len(polished) < 3 else polished
        least = min(steps[i].value for i in candidates)
        return max(i for i in candidates if steps[i].value <= least * (1 + 3 * self.tol))

    def _choose_by_score(self, steps):
        refit = "score" if not isinstance(steps[0].scores[0], dict) else self.refit
        if not isinstance(refit, str):
            return len(steps) - 1
        means = [np.mean([score if refit == "score" else score[refit] for score in step.scores]) for step in steps]
        return int(np.argmax(means))

    # ---- report and refit -----------------------------------------------------------------------------------------------

    def _report(self, climbed, target, data, scorers, refit_metric):
        params, outcomes, more = result_rows(climbed.steps, target, data.n_train)
        results = self._format_results(params, self.n_splits_, outcomes, more)
        step = climbed.steps[climbed.best]
        self.multimetric_ = isinstance(outcomes[0]["test_scores"], dict)
        self.scorer_ = scorers._scorers if isinstance(scorers, MultimetricScorer) else scorers
        self.cv_results_ = results
        self.best_index_ = climbed.best
        self.best_params_ = results["params"][climbed.best]
        self.best_score_ = float(
            -np.mean(step.monitor)
            if step.monitor is not None and self.scoring in LOG_LOSS
            else results[f"mean_test_{refit_metric}"][climbed.best]
        )
        self.structure_ = climbed.structures[climbed.best]
        self.theta_ = step.theta
        self.hypergradient_ = step.gradient
        self.n_iter_ = len(climbed.steps)
        self.penalties_ = np.exp(step.log_penalties) * target.refit_scale(data.labels.size, data.n_train)

    def _refit(self, bilevel, climbed, target, data):
        begin = time.perf_counter()
        everything = np.arange(data.labels.size)
        y = data.classes[data.labels]
        scale = target.class_weights(y, data.classes, data.sample_weight)[:, None]
        problem = data.problem([(everything, everything[:0])], scale, dtype=np.float64)
        coef, intercept, n_epochs, converged = bilevel.solver.refit(
            problem,
            bilevel.problem,
            climbed.state,
            np.log(self.penalties_),
            tol=REFIT_TOL,
            max_epochs=MAX_EPOCHS,
        )
        if not converged:
            _warn_not_converged("The refit")
        self.best_estimator_ = _estimators.build(
            self.estimator,
            self.best_params_,
            coef.astype(data.X.dtype),
            intercept.astype(data.X.dtype),
            data.classes,
            max(1, round(n_epochs)),
            data.labels.size,
            data.feature_names,
        )
        if data.feature_names is not None:
            self.feature_names_in_ = data.feature_names
        self.refit_time_ = time.perf_counter() - begin


def _without(rows, monitor):
    return rows[~np.isin(rows, monitor)] if monitor.size else rows


def _warn_not_converged(what):
    warnings.warn(
        f"{what} has not converged in {MAX_EPOCHS} epochs. Scale the features, or start from a stronger penalty.",
        ConvergenceWarning,
        stacklevel=5,
    )
