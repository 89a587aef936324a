"""HypergradientSearchCV: validate → splits → descend → report → refit."""

import numbers
import time
import warnings
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.utils import check_random_state, get_tags, indexable
from threadpoolctl import threadpool_limits

from sksid import _estimators, solvers
from sksid._data import prepare
from sksid._report import SplitScorer, block_params, result_rows, warn_at_edge, warn_if_astray
from sksid._sklearn import (
    BaseSearchCV,
    HasMethods,
    Interval,
    MultimetricScorer,
    SGDClassifier,
    StrOptions,
    check_method_params,
)
from sksid._tasks import SearchTasks, fitted_at
from sksid._warm_start import last_log_penalties, last_models
from sksid.descent import Bilevel, Descent, ladder
from sksid.problem import Joint
from sksid.structures import Structure

LOG_LOSS = (None, "neg_log_loss")
FINAL_TOL = 1e-4  # relative accuracy of the reported score
REFIT_TOL = 2e-5  # of the refitted probabilities
MAX_EPOCHS = 400


class HypergradientSearchCV(BaseSearchCV):
    """Tune the L2 penalties of a logistic regression on the cross-validated log loss, by hypergradient descent.

    The gradient of the cross-validated loss with respect to the log penalties is computed by stochastic implicit
    differentiation (SID, [1]_) in the same passes over the data that fit the models of all splits. One penalty, one for each
    group of features, or one for each feature.

    For split k the lower level is the *sum* Σ s_i ℓ_i + ½ Σ_j λ_j ‖W_j‖² over its training rows, λ_j = 1/C_j, intercepts
    unpenalised; the criterion is the mean over splits of the weighted *mean* log loss on its validation rows.

    Parameters
    ----------
    estimator : LogisticRegression or SGDClassifier, or a Pipeline that ends in one
        With an L2 penalty; ``SGDClassifier`` with ``loss="log_loss"`` and two classes. Its ``C`` or ``alpha`` is where the
        search starts. ``fit_intercept`` and ``class_weight`` are honoured. Preprocessing is fitted once for each split, on its
        training rows only, and on all rows for the refit; where no step needs fitting, once for all.
    structure : {"shared", "moments", "blocks", "per_feature"}, dict, array-like or Structure, default="per_feature"
        What has a penalty of its own, among the features that reach the final step. ``"blocks"``: each transformer of a
        ColumnTransformer or FeatureUnion. A dict ``{name: columns}``: each block of columns, given by names (of features, or
        of transformers), positions, a slice or a mask; columns that it leaves out are the block "rest". An array of shape
        (n_features,) labels the groups; a matrix A of shape (n_features, n_params) gives log λ = A θ above the tuned shared
        level. ``"moments"`` makes A of the features' log second moments: three hyperparameters. In a Pipeline, a feature has
        the same penalty in all splits: that of its name, or of its position where there are no names. A feature that no
        split has seen keeps the penalty of the rung below, the shared one where there is no other.
    unpenalized : str, slice or array-like, default=None
        Features without a penalty, like the intercept: names (of features, or of transformers), positions, a slice or a mask
        of the features that reach the final step. Not with ``solver="sgd"``.
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
        As in GridSearchCV. The refit is on all rows, the monitor's among them. A callable, such as
        :func:`sksid.one_standard_error`, takes ``cv_results_`` and gives the index of a step.
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
    warm_start : bool, default=False
        Whether ``fit`` starts from the penalties of the last one, where X has as many features, and from its splits' models,
        which are kept for that, where they have the same shapes. The estimator's ``C`` then has no effect. The shared penalty
        is tuned again and stays a candidate.
    n_jobs : int, default=None
        Splits that are preprocessed at the same time, in processes; that are descended on at the same time, in threads (those
        with preprocessing of their own, and two halves of the others where there are more than two classes and much data);
        and that are scored at the same time, where ``scoring`` is not the log loss. The result is the same for any number,
        bit for bit.
    random_state : int, RandomState instance or None, default=None
        Of the order of visits and the choice of the monitor.
    verbose : int, default=0
        1 prints a line for each outer step.

    Attributes
    ----------
    best_estimator_ : estimator
        A plain fitted scikit-learn estimator, or Pipeline, in the original feature space; it needs no sksid to predict.
    best_params_ : dict
        ``C`` or ``alpha`` under its full name, such as ``logisticregression__C``: the geometric mean where there are many
        penalties.
    best_score_ : float
        Mean score of the chosen step: on the validation rows; on the monitor's rows, of all splits' models, where there is a
        monitor and ``scoring`` is the log loss. As in GridSearchCV, not there where ``refit`` is a callable.
    best_index_ : int
        Its row in ``cv_results_``.
    cv_results_ : dict of ndarrays
        A row for each outer step, with GridSearchCV's keys; ``mean_monitor_score`` and ``std_monitor_score``, minus the log
        loss of the splits' models on the monitor's rows, where there is a monitor. Steps are solved to the accuracy of their
        step; the chosen one to convergence. With blocks there is a column for each one's parameter, such as ``C_text``.
    penalties_ : ndarray of shape (n_features,)
        λ_j of the refit, 1/C_j in scikit-learn's scaling, of the features that reach the final step; 0 where there is none.
    block_params_ : dict
        ``C`` or ``alpha`` of each block or group, by name, where ``structure`` makes any.
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
        "structure": [str, "array-like", "sparse matrix", dict, Structure],
        "unpenalized": [None, str, slice, "array-like"],
        "solver": [StrOptions({"auto", *solvers.NAMES})],
        "max_iter": [Interval(numbers.Integral, 1, None, closed="left")],
        "tol": [Interval(numbers.Real, 0, None, closed="neither")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(numbers.Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
    }

    # where the HTML diagram's question mark leads
    _doc_link_module = "sksid"
    _doc_link_template = "https://sksid.readthedocs.io/en/stable/generated/{estimator_module}.{estimator_name}.html"

    # what the inherited methods ask of a search
    error_score = "raise"
    return_train_score = False

    def __init__(
        self,
        estimator,
        *,
        structure="per_feature",
        unpenalized=None,
        solver="auto",
        scoring=None,
        cv=None,
        refit=True,
        max_iter=100,
        tol=1e-4,
        early_stopping="auto",
        validation_fraction=0.15,
        n_iter_no_change=10,
        warm_start=False,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.structure = structure
        self.unpenalized = unpenalized
        self.solver = solver
        self.scoring = scoring
        self.cv = cv
        self.refit = refit
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags, tags.target_tags = deepcopy(inner.input_tags), deepcopy(inner.target_tags)
        tags.array_api_support = False
        if isinstance(self._final, SGDClassifier):
            tags.classifier_tags.multi_class = False
        return tags

    def _get_scorers(self):
        if self.scoring is None:
            scorer = check_scoring(self.estimator, "neg_log_loss")
            if get_config()["enable_metadata_routing"]:  # then the scorer asks for the weights that the final step asks for
                requests = self._final.get_metadata_routing().fit.requests
                scorer.set_score_request(sample_weight=requests.get("sample_weight"))
            return scorer, "score"
        return super()._get_scorers()

    @_fit_context(prefer_skip_nested_validation=False)
    @threadpool_limits.wrap(limits=1, user_api="blas")
    def fit(self, X, y=None, **params):
        """Search, and refit with the penalties found.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite features; floats of either precision are kept. Whatever its first step takes, for a Pipeline.
        y : array-like of shape (n_samples,)
            Class labels.
        **params : dict
            ``sample_weight`` of shape (n_samples,), for both levels, the refit and the scorer, and ``groups`` of shape
            (n_samples,), for the splitter and the monitor; with metadata routing, whatever is requested. Weights are given to
            a Pipeline as GridSearchCV's are, ``logisticregression__sample_weight``.

        Returns
        -------
        self : HypergradientSearchCV

        Raises
        ------
        TypeError, ValueError
            Where the estimator has no such penalty, or data, splits or parameters do not fit; before any work is done.
        """
        target = _estimators.read(self.estimator)
        scorers, _ = self._get_scorers()
        X, y = indexable(X, y)
        params = check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        tasks = SearchTasks(self, X, y, params)
        data = prepare(self, X, y, target, routed)
        self.n_splits_ = len(data.splits)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)

        problem, monitored = data.problems(dtype=data.search_dtype, seed=seed)
        score = None
        if self.scoring not in LOG_LOSS:
            score = SplitScorer(self._final, scorers, X, y, data, routed.scorer.score, self.n_jobs)
        bilevel = Bilevel(problem, self._make_solver(self.solver, problem), monitored, score)
        last = last_log_penalties(self, target, data)
        rungs = data.rungs if last is None else ladder(data.structure)

        def snapshot(bilevel, climbed):
            return fitted_at(
                self,
                lambda probe: probe._report(climbed, target, data, scorers),
                lambda probe: probe._refit(bilevel, climbed, target, data),
            )

        with tasks.searching(len(rungs) * self.max_iter, snapshot) as outer_steps:
            climbed = self._climb(bilevel, rungs, last, data, target, seed, outer_steps)
            bilevel, climbed = self._without_noise(bilevel, climbed, seed)
            bilevel, climbed = self._polish(bilevel, climbed, partial(self._tabulate, target=target, data=data))
        if self.warm_start:
            ends = bilevel.problem, climbed.state
            self._split_models = bilevel.solver.coefficients(*ends), bilevel.solver.adjoint(*ends)
        self._report(climbed, target, data, scorers)
        warn_at_edge(climbed.steps[climbed.best], self.structure_, target)
        if self.solver == "sgd":
            warn_if_astray(climbed.steps[climbed.best])
        if self.refit:
            with tasks.refitting():
                self._refit(bilevel, climbed, target, data)
        tasks.end()
        return self

    @property
    def _final(self):
        return _estimators.final_step(self.estimator)[1]

    def _make_solver(self, name, problem):
        solver = solvers.choose(problem) if name == "auto" else solvers.NAMES[name]()
        return solvers.Together(solver, self.n_jobs) if isinstance(problem, Joint) else solver

    # ---- descend --------------------------------------------------------------------------------------------------------

    def _climb(self, bilevel, rungs, last, data, target, seed, outer_steps):
        descent = Descent(max_iter=self.max_iter, tol=self.tol, n_iter_no_change=self.n_iter_no_change)
        start = data.start(target.log_penalty(data.n_train)) if last is None else last
        state = bilevel.solver.init(bilevel.problem, start, seed=seed, start=last_models(self, bilevel.problem))
        return outer_steps.climb(bilevel, state, rungs, descent, self._tell, top=last)

    def _tell(self, step):
        if self.verbose:
            print(
                f"[HypergradientSearchCV] {step.structure}: loss {step.value:.6f}"
                + ("" if step.monitor is None else f", monitor {np.mean(step.monitor):.6f}")
                + f", geometric mean of the penalties {np.exp(step.log_penalties[np.isfinite(step.log_penalties)].mean()):.4g}"
                + f" ({step.n_epochs:.1f} epochs, {step.seconds:.2f} s)"
            )

    def _without_noise(self, bilevel, climbed, seed):
        """After a climb by ``"sgd"``, whose noise keeps it from a score's accuracy: the solver of ``"auto"``, at its start."""
        if self.solver != "sgd":
            return bilevel, climbed
        solver = self._make_solver("auto", bilevel.problem)
        state = solver.init(bilevel.problem, climbed.state.log_penalties, seed=seed)
        return replace(bilevel, solver=solver), replace(climbed, state=state)

    def _polish(self, bilevel, climbed, tabulate):
        """Solve the chosen step to convergence; where that makes another one look better, that one too."""
        state, steps, polished = climbed.state, list(climbed.steps), []
        precisely = Descent(tol=self.tol, max_epochs=MAX_EPOCHS)
        while (best := self._choose(climbed, steps, polished, tabulate)) not in polished:
            since = time.perf_counter(), state.n_epochs
            step, structure = steps[best], climbed.structures[best]
            precise = bilevel.solver.reported(bilevel.problem, step.log_penalties)
            if precise is not bilevel.problem:
                bilevel, state = replace(bilevel, problem=precise), bilevel.solver.convert(precise, state)
            same = np.array_equal(state.log_penalties, step.log_penalties)
            if not same:
                state = bilevel.solver.rescale(bilevel.problem, state, step.log_penalties)
            warm = same and state.n_epochs > 0
            state, estimate = precisely.solve(bilevel, state, structure, 0.1, value_rtol=FINAL_TOL, warm=warm)
            if not estimate.converged:
                _warn_not_converged("The score of the chosen step")
            losses = bilevel.solver.losses_on(bilevel.problem, state, bilevel.problem)
            gradient = structure.pull_back(estimate.log_gradient)
            steps[best] = bilevel.record(structure, step.theta, step.log_penalties, state, losses, gradient, since)
            polished.append(best)
        return bilevel, replace(climbed, state=state, steps=steps, best=best)

    def _choose(self, climbed, steps, polished, tabulate):
        """The best step: by the monitor, where there is one; by the scorer, where there is one; else by the loss.

        Of losses that differ by less than the steps' own accuracy, the latest counts, whose hypergradient is converged.
        A callable ``refit`` has the last word, once the best step so found is polished.
        """
        if callable(self.refit) and polished:
            return self._select_best_index(self.refit, None, tabulate(steps))
        if steps[0].monitor is not None:
            return climbed.best
        if steps[0].scores is not None and (name := self._score_name(steps[0].scores[0])):
            return int(tabulate(steps)[f"rank_test_{name}"].argmin())
        candidates = range(len(steps)) if len(polished) < 3 else polished
        least = min(steps[i].value for i in candidates)
        return max(i for i in candidates if steps[i].value <= least * (1 + 3 * self.tol))

    def _score_name(self, score):
        """The score that decides, as ``cv_results_`` names it; None where several were asked for and none was named."""
        if not isinstance(score, dict):
            return "score"
        return self.refit if isinstance(self.refit, str) else None

    # ---- report and refit -----------------------------------------------------------------------------------------------

    def _tabulate(self, steps, target, data):
        params, outcomes, more = result_rows(steps, target, data)
        if callable(self.scoring) and isinstance(outcomes[0]["test_scores"], dict):
            self._check_refit_for_multimetric(outcomes[0]["test_scores"])
        return self._format_results(params, self.n_splits_, outcomes, more)

    def _report(self, climbed, target, data, scorers):
        results = self._tabulate(climbed.steps, target, data)
        step = climbed.steps[climbed.best]
        self.multimetric_ = step.scores is not None and isinstance(step.scores[0], dict)
        self.scorer_ = scorers._scorers if isinstance(scorers, MultimetricScorer) else scorers
        self.cv_results_ = results
        self.best_index_ = climbed.best
        self.best_params_ = results["params"][climbed.best]
        name = self._score_name(step.scores[0] if step.scores else None)
        if name and not callable(self.refit):
            monitored = step.monitor is not None and self.scoring in LOG_LOSS
            self.best_score_ = float(-np.mean(step.monitor) if monitored else results[f"mean_test_{name}"][climbed.best])
        self.structure_ = climbed.structures[climbed.best]
        self.theta_ = step.theta
        self.hypergradient_ = step.gradient
        self.n_iter_ = len(climbed.steps)
        self.penalties_ = np.exp(step.log_penalties[: data.n_own]) * target.refit_scale(data.labels.size, data.n_train)
        if data.structure.labels:
            self.block_params_ = block_params(data.structure, step.log_penalties, target, data.n_train)

    def _refit(self, bilevel, climbed, target, data):
        begin = time.perf_counter()
        problem = data.refit_problem(target)
        X = data.view.X
        with np.errstate(divide="ignore"):
            log_penalties = np.log(self.penalties_)  # −∞ where there is none
        coef, intercept, n_epochs, converged = bilevel.solver.refit(
            problem,
            bilevel.problem,
            climbed.state,
            log_penalties,
            tol=REFIT_TOL,
            max_epochs=MAX_EPOCHS,
        )
        if not converged:
            _warn_not_converged("The refit")
        model = _estimators.build(
            self._final,
            {target.parameter: self.best_params_[target.full_name]},
            coef.astype(X.dtype),
            intercept.astype(X.dtype),
            data.classes,
            max(1, round(n_epochs)),
            data.labels.size,
            data.view.seen_names,
        )
        self.best_estimator_ = data.view.with_model(model)
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
        self.refit_time_ = time.perf_counter() - begin


def _warn_not_converged(what):
    warnings.warn(
        f"{what} has not converged in {MAX_EPOCHS} epochs. Scale the features, or start from a stronger penalty.",
        ConvergenceWarning,
        stacklevel=6,
    )
