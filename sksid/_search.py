"""HypergradientSearchCV: check → prepare → descend → report → refit."""

import numbers
import sys
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import config_context, get_config
from sklearn.base import _fit_context
from sklearn.metrics import check_scoring
from sklearn.utils import Tags, get_tags

from sksid import _estimators, solvers
from sksid._autolog import log_score, unlogged
from sksid._run import Last, make_run
from sksid._sklearn import BaseSearchCV, HasMethods, Interval, SGDClassifier, StrOptions, check_method_params
from sksid._stored import BlockwisePredictions, as_given
from sksid._tasks import SearchTasks
from sksid._threads import single_blas_thread
from sksid._warn import warn
from sksid.structures import Structure

VERSION = sys.modules[__package__].__version__


class HypergradientSearchCV(BlockwisePredictions):
    """Tune the L2 penalties of a logistic regression on the cross-validated log loss, by hypergradient descent.

    The gradient of the cross-validated loss with respect to the log penalties is computed by stochastic implicit
    differentiation (SID, [1]_) in the same passes over the data that fit the models of all splits. One penalty, one for each
    group of features, penalties that follow descriptors of the features, or one for each feature.

    For split k the lower level is the *sum* Σ s_i ℓ_i + ½ Σ_j λ_j ‖W_j‖² over its training rows, λ_j = 1/C_j, intercepts
    unpenalized; the upper level is the mean over splits of the weighted *mean* log loss on its validation rows.

    Parameters
    ----------
    estimator : LogisticRegression or SGDClassifier, or a Pipeline that ends in one
        With an L2 penalty; ``SGDClassifier`` with ``loss="log_loss"`` and two classes. Its ``C`` or ``alpha`` is where the
        search starts, unless it is scikit-learn's default or means nothing in the units of the data: then the data say.
        ``fit_intercept`` and ``class_weight`` are honored.
        Preprocessing is fitted once for each split, on its training rows only, and on all rows for the refit; where no step
        needs fitting, once for all. So are samplers in a Pipeline of imbalanced-learn, which make or drop training rows, and
        leave validation rows alone; the rows that they make are not cross-fitted.
    structure : {"auto", "shared", "moments", "evidence", "blocks", "per_feature"}, callable, object, list, dict, array-like \
            or Structure, default="auto"
        What has a penalty of its own, among the features that reach the final step. ``"auto"`` goes from one penalty for all
        features to penalties that follow the features' moments and evidence, or, where these gain nothing, to one for each
        feature. It goes there only where the loss falls by more than half of a standard error, or by two with fewer than 500
        rows; with fewer than 100 rows, or 30 outside of the largest class, it stays at one penalty. ``"blocks"``: each
        transformer of a ColumnTransformer or FeatureUnion. A dict ``{name: columns}``: each block
        of columns, given by names (of features, or of transformers), positions, a slice or a mask; columns that it leaves out
        are the block "rest". An array of shape (n_features,) labels the groups; a matrix A of shape (n_features, n_params)
        gives log λ = A θ above the tuned shared level. Descriptors make A of what the training rows of each split say of the
        features: ``"moments"``, their log second moment and its square; ``"evidence"``, the log of one plus the score statistic
        of the feature alone; any ``f(X_train, y_train, sample_weight)`` that returns (n_features,) or (n_features, n_columns),
        or an object whose ``fit(X_train, y_train).transform(X_train)`` does; or a list of these. Columns are brought to unit
        spread; one without spread is left out. See :ref:`descriptors`. In a Pipeline, a feature has the same penalty, or the
        same hyperparameters, in all splits: those of its name, or of its position where there are no names; where features
        without names vary in number, ``"auto"`` goes as far as descriptors. A feature that no split has seen keeps its penalty
        of the stage before, the shared one where there is no other.
    unpenalized : str, slice or array-like, default=None
        Features without a penalty, like the intercept: names (of features, or of transformers), positions, a slice or a mask
        of the features that reach the final step. Not with ``solver="sgd"``.
    solver : {"auto", "dual", "aid", "sgd"} or Solver, default="auto"
        ``"dual"``: stochastic dual coordinate ascent. ``"aid"``: deterministic Newton steps and conjugate gradient. ``"sgd"``:
        the stochastic iterations of [1]_, for comparison: seldom the fastest. Their noise keeps them from the accuracy of a
        reported score: the chosen step is solved once more, and the refit done, by what ``"auto"`` takes.
        ``"auto"`` takes ``"aid"`` where a Hessian is small enough to be factorized. Settings are taken as well, such as
        ``sksid.solvers.Sgd(lower_epochs=15)``, and a solver of your own that fulfills :class:`sksid.solvers.Solver`.
    scoring : str, callable, list, tuple or dict, default=None
        What ``cv_results_`` reports and the best step is chosen by; None is ``"neg_log_loss"``. The descent is on the log
        loss in any case, and where a structure is cross-fitted, the log loss chooses.
    cv : int, cross-validation generator or iterable, default=None
        As in GridSearchCV. A class without a training row in a split has the probability zero there; the log loss leaves out
        its validation rows in that split, and a warning says so.
    refit : bool, str or callable, default=True
        As in GridSearchCV. A callable, such as
        :func:`sksid.one_standard_error`, takes ``cv_results_`` and gives the index of a step. Where hyperparameters are
        cross-fitted it should look at ``is_nested``: descriptors have steps whose scores are not, and too good.
    max_iter : int, default=100
        Outer steps at most, in each stage on the way from the shared penalty to ``structure``.
    tol : float, default=1e-4
        With a few hyperparameters, the search ends where less than this relative decrease of the loss is expected.
    early_stopping : bool or "auto", default="auto"
        Whether hyperparameters are cross-fitted: judged, in each split, by validation rows that were no part of the descent.
        Many are descended on within the training rows of each split, for a number of steps that the judges choose together; few
        are found on all splits, and judged, in each split, as the other splits would have them; with fewer than 1,000 rows, as
        its own training rows would. ``"auto"``: where hyperparameters
        are many, which is more than 5, or more than 30 where each is the penalty of a group or block; ``structure="auto"`` with
        five or fewer features is not. True: where there are two or more. Without cross-fitting a search of many penalties
        overfits the validation rows, and its score is too good to be true; that of a few is, too, with some hundred rows.
        Cross-fitting takes at least two splits, whose training rows the other splits divide again; where ``"auto"`` finds none,
        one shared penalty is tuned instead, with a warning unless ``structure="auto"``; True raises there.
    n_iter_no_change : int, default=10
        A stage that is not cross-fitted ends after so many steps without a smaller loss.
    warm_start : bool, default=False
        Whether ``fit`` starts from the penalties of the last one, where X has as many features, and from its splits' models,
        which are kept for that, where they have the same shapes. The estimator's ``C`` then has no effect. The shared penalty
        is tuned again and stays a candidate. What is cross-fitted starts anew from there.
    n_jobs : int, default=None
        Splits that are preprocessed at the same time, in processes; that are descended on at the same time, in threads (those
        with preprocessing of their own, and groups of the others where there is much data and many classes or splits); and that
        are scored at the same time, where ``scoring`` is not the log loss. The result is the same for any number, bit for bit.
    random_state : int, RandomState instance or None, default=None
        Of the order of visits.
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
        Mean score of the chosen step on the validation rows. Where that step was cross-fitted it is a nested score: a split's
        validation rows had no part in the descent that they judge. All splits together choose the shared level from which
        cross-fitting starts, the number of steps, the stage, and the curvature by which few hyperparameters are told apart from
        those of the other splits, whose training rows a split's validation rows are among. Without cross-fitting, few
        hyperparameters are chosen by the very rows that score them: with some hundred rows that score is too good, and cannot
        be compared with a nested one. See :ref:`honest-scores`. As in GridSearchCV, not there where ``refit`` is a callable.
    best_index_ : int
        Its row in ``cv_results_``.
    cv_results_ : dict of ndarrays
        A row for each outer step, with GridSearchCV's keys; where a structure is cross-fitted, ``is_nested`` says which rows
        have nested scores; of its stages only those can be the best, unless ``refit`` is a callable. A step is solved only as
        accurately as the descent needs it. The chosen one is solved once more, to convergence, unless it is nested; its time
        and epochs include that. With blocks there is a column for each one's parameter, such as ``C_text``; where
        ``structure`` is descriptors, one for each one's hyperparameter, such as ``theta_evidence``.
    penalties_ : ndarray of shape (n_features,)
        λ_j of the refit, 1/C_j in scikit-learn's scaling, of the features that reach the final step; 0 where there is none.
    block_params_ : dict
        ``C`` or ``alpha`` of each block or group, by name, where ``structure`` makes any.
    descriptor_params_ : dict
        What one standard deviation of each descriptor adds to log λ, by name, where ``structure_`` has any.
    theta_ : ndarray of shape (n_params,)
        The hyperparameters.
    structure_ : Structure
        Of the chosen step: ``"shared"`` where no finer structure was better.
    stages_ : tuple of sksid.stages.Stage
        What each stage has gained over the one before, in the mean validation loss, and whether it was kept.
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
        **{name: BaseSearchCV._parameter_constraints[name] for name in ("scoring", "refit", "cv", "verbose")},
        "estimator": [HasMethods(["fit"])],
        "structure": [str, "array-like", "sparse matrix", dict, Structure, callable, HasMethods(["fit", "transform"])],
        "unpenalized": [None, str, slice, "array-like"],
        "solver": [StrOptions({"auto", *solvers.NAMES}), HasMethods(["init", "advance", "coefficients"])],
        "max_iter": [Interval(numbers.Integral, 1, None, closed="left")],
        "tol": [Interval(numbers.Real, 0, None, closed="neither")],
        "n_jobs": [
            None,
            Interval(numbers.Integral, None, -1, closed="right"),
            Interval(numbers.Integral, 1, None, closed="left"),
        ],
        "early_stopping": ["boolean", StrOptions({"auto"})],
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
        estimator: Any,
        *,
        structure: Any = "auto",
        unpenalized: Any = None,
        solver: Any = "auto",
        scoring: Any = None,
        cv: Any = None,
        refit: Any = True,
        max_iter: int = 100,
        tol: float = 1e-4,
        early_stopping: bool | str = "auto",
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
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
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
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
    def fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> "HypergradientSearchCV":
        """Search, and refit with the penalties found.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite features; floats of either precision are kept. Whatever its first step takes, for a Pipeline.
        y : array-like of shape (n_samples,)
            Class labels.
        **params : dict
            ``sample_weight`` of shape (n_samples,), for both levels, the refit and the scorer, and ``groups`` of shape
            (n_samples,), for the splitter, which cross-fitting follows; with metadata routing, whatever is requested. Weights
            are given to a Pipeline as GridSearchCV's are, ``logisticregression__sample_weight``.

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
        X, y, params = as_given(X, y, params, self)
        params = check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        with single_blas_thread, np.errstate(), config_context(), unlogged():  # as they were also after an interrupt
            tasks = SearchTasks(self, X, y, params)
            run = make_run(self.estimator, X, y, target, routed, scorers, self._last_fit(), **self._settings())
            path = tasks.search(run)
            if self.warm_start and not tasks.lost:
                self._split_models = run.models(path)
            start = run.mean_model(path) if self.refit and not tasks.lost else None
            path = replace(path, state=None)  # whose memory the rest may have
            self._set(run.report(path))
            if self.refit and not tasks.lost:
                self._set(tasks.refit(run, path, start))
            if tasks.lost and hasattr(self, "best_estimator_"):
                del self.best_estimator_  # of a fit before
            tasks.end()
        if hasattr(self, "best_score_"):
            log_score(self.best_score_)
        return self

    def __getstate__(self):
        return {**super().__getstate__(), "_sksid_version": VERSION}

    def __setstate__(self, state):
        stored = state.get("_sksid_version")
        if stored != VERSION:
            warn(
                f"This search was stored by sksid {stored} and is loaded by {VERSION}: its attributes may mean something else. "
                "Use its best_estimator_, fit it again, or load it with the version that stored it."
            )
        super().__setstate__({name: value for name, value in state.items() if name != "_sksid_version"})

    @property
    def _final(self):
        return _estimators.final_step(self.estimator)[1]

    def _settings(self):
        """The parameters as plain values, but for those that are read here."""
        own = ("estimator", "warm_start", "verbose")
        return {name: getattr(self, name) for name in HypergradientSearchCV._parameter_constraints if name not in own}

    def _last_fit(self):
        if not self.warm_start:
            return Last()
        return Last(getattr(self, "penalties_", None), getattr(self, "_split_models", None))

    def _set(self, attributes):
        for name, value in attributes.items():
            setattr(self, name, value)
