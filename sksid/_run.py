"""One search as a value: its data and settings, its descent, its report and its refit."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from sksid import _estimators, logistic, solvers
from sksid._data import Data, prepare
from sksid._estimators import Target
from sksid._parts import make_nest, structures_of
from sksid._refit import MAX_EPOCHS, at_once, final_fit, finite_intercepts, mean_model
from sksid._report import LOG_LOSS, SplitScorer, Table, warn_at_edge, warn_if_not_optimal
from sksid._scan import grid
from sksid.crossfit import CrossFit, Descents
from sksid.descent import MANY_ROWS, Bilevel, Descent, Step, within_range
from sksid.joint import Joint, groups_of_splits, in_groups, parts_of, whole
from sksid.solvers import Solver
from sksid.stages import Path, continuation, cross_fitted, path_of

REPORTED_TOL = 5e-5  # relative accuracy that is asked of the reported score
FEW_ROWS_TOL = 2e-5  # the same with fewer than MANY_ROWS, whose epochs are short
START_BELOW = 3.0  # the search starts at a twentieth of the mean s_i ‖x_i‖², the median optimum of 20 sets
FEW_TOL, FEW_ITER = 2e-3, 20  # where few hyperparameters are cross-fitted: relative decrease of F, outer steps at most,
FEW_INNER_TOL, FEW_CHANGE = 1.5, 6.0  # relative accuracy of a hypergradient, largest change of any log λ in a step
START_MARGIN = 4.0  # nearer to the ends of the range of log penalties a search does not start

OnModel = Callable[[Step, Callable[[], dict]], bool | None]


@dataclass(frozen=True, eq=False)
class Last:
    """Results of the last fit from which this one starts (``warm_start``); by default nothing.

    Attributes
    ----------
    penalties : ndarray of shape (n_own,), or None
    models : pair of (W, b) and (V, v), or None
        Of every split, as ``Run.models`` gives them.
    """

    penalties: NDArray | None = None
    models: Any = None


@dataclass(frozen=True, eq=False)
class Run:
    """One search.

    Attributes
    ----------
    estimator : estimator
        The final step, unfitted.
    data : Data
        Rows, splits, structure and target.
    table : Table
        Makes ``cv_results_`` and chooses the best step.
    score : SplitScorer, or None
        None where the losses are the scores.
    solver : Solver, or None
        None for the one that ``solver="auto"`` stands for.
    descent : Descent
    last : Last
    n_jobs : int or None
        Splits with features of their own, or groups of the others, that are advanced at the same time.
    """

    estimator: Any
    data: Data
    table: Table
    score: SplitScorer | None
    solver: Solver | None
    descent: Descent
    last: Last
    n_jobs: int | None

    # ---- the search -----------------------------------------------------------------------------------------------------

    def problem(self) -> Bilevel:
        """The problem to descend on, with its solver."""
        return self._bilevel(self.data.problem(), self.solver)

    def _bilevel(self, problem, solver=None, tol=None):
        """A problem in the groups that suit its solver, by default that of ``solver="auto"``; ``tol`` is for ``at_once``."""
        solver = solvers.choose(problem, rough=not self.data.unpenalized.any()) if solver is None else _of_one_part(solver)
        solver = solver if tol is None else at_once(solver, tol)
        if not solver.threads_itself:
            problem = in_groups(problem, groups_of_splits(problem))
        return Bilevel(problem, self._together(problem, solver), self.score)

    def _together(self, problem, solver):
        """The solver for all parts of a problem, in this search's threads."""
        if isinstance(solver, solvers.Relay):
            first, then = self._together(problem, solver.first), self._together(whole(problem), solver.then)
            return replace(solver, first=first, then=then)
        if isinstance(problem, Joint):
            return solvers.Together(solver, self.n_jobs)
        if isinstance(solver, solvers.Rotated):
            return replace(solver, solver=self._together(problem, solver.solver))
        return replace(solver, n_jobs=self.n_jobs) if isinstance(solver, solvers.Aid) else solver

    @property
    def max_steps(self) -> int:
        """An upper bound on the number of outer steps: those of each stage, and the solve that confirms it."""
        plain, crossed = self._stages
        return (len(plain) + len(crossed)) * (self.descent.max_iter + 1)

    @cached_property
    def _stages(self):
        plain, crossed = self.data.stages(warm=self._warm_penalties is not None)
        if self.solver is not None and self.solver.precise and not self.solver.takes_split_penalties:
            crossed = tuple(stage for stage in crossed if stage.per_split is None or stage is crossed[-1])
        return plain, crossed

    def search(self, on_step: OnModel) -> Path:
        """Descend, stage by stage.

        Parameters
        ----------
        on_step : callable
            ``on_step(step, model)``, after every outer step; true ends the search. ``model()`` is the dict of fitted
            attributes that a fit would leave if it had ended there; it is computed when called.
        """
        bilevel, (plain, crossed) = self.problem(), self._stages
        (log_penalties, levels), top = self._start(bilevel), self._warm_penalties
        if top is not None:
            levels = []
            if crossed:  # the rows of a part may have had their say in all but the level
                log_penalties, top = self.data.start(np.mean(top[np.isfinite(top)])), None
            else:
                log_penalties = top
            log_penalties = within_range(log_penalties, bilevel.log_range)
        solvers.check_supported(bilevel.solver, bilevel.problem, log_penalties + _changes(self.data.structure))
        models = self._warm_models(bilevel.problem)
        state = bilevel.solver.init(bilevel.problem, log_penalties, seed=self.data.seed, start=models)
        after_step, margin = partial(self._on_step, on_step, bilevel), self.data.margin
        path = continuation(bilevel, state, plain, self.descent, after_step, top, margin, levels)
        return self._cross_fit(path, crossed, on_step) if crossed and not path.stopped else path

    def _cross_fit(self, path, structures, on_step):
        path = self._with_precise_solver(path)
        bilevel = path.bilevel
        solver = bilevel.solver if bilevel.solver.takes_split_penalties else None
        nest = make_nest(self.data, partial(self._bilevel, solver=solver))
        settings = CrossFit(max_steps=min(self.descent.max_iter, CrossFit.max_steps))
        models = bilevel.solver.coefficients(bilevel.problem, path.state)
        start = path.chosen.final_log_penalties
        descents = Descents(settings, nest, start, bilevel.log_range, models, self.score, self.data.seed)
        stages = [(structure, partial(structures_of, self.data, structure)) for structure in structures]
        after_step = partial(self._on_step, on_step, bilevel)
        return cross_fitted(
            path, stages, descents, self._few, after_step, self.data.margin, until_kept=self.data.wanted.is_auto
        )

    @property
    def _few(self):
        """The descent on few hyperparameters, before cross-fitting confirms them: long steps, no idle accuracy."""
        if not self.data.samples.bears_many:
            return None
        settings = {"max_iter": min(self.descent.max_iter, FEW_ITER), "max_change": FEW_CHANGE, "inner_tol": FEW_INNER_TOL}
        return replace(self.descent, tol=max(self.descent.tol, FEW_TOL), **settings)

    def _on_step(self, on_step, bilevel, step, state):
        return on_step(step, partial(self._model, Path(bilevel, state, [step], 0)))

    def _model(self, path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a model that is not the last one
            return self.report(path) | self.refit(path)

    def best_of(self, steps: list[Step]) -> Path:
        """The path of an interrupted search, from its steps; with a new state, as the old one may be inconsistent."""
        path = self.path_of(steps)
        bilevel = path.bilevel
        state = bilevel.solver.init(bilevel.problem, path.chosen.log_penalties, seed=self.data.seed)
        return replace(path, state=state)

    def path_of(self, steps: list[Step]) -> Path:
        """The path that these steps have taken, without a state."""
        return path_of(self.problem(), None, steps, self.data.margin)

    # ---- the chosen step ------------------------------------------------------------------------------------------------

    def polish(self, path: Path) -> Path:
        """Solve the chosen step to convergence; if another step is then better, that one too, and so on.

        A solver that is not ``precise`` is replaced by the one that ``solver="auto"`` stands for.
        """
        precise, path = path.bilevel.solver.precise, self._with_precise_solver(path)
        polished: list[int] = []
        while (best := self.table.best(path, polished)) not in polished:
            if not path.steps[best].is_nested:  # whose losses were solved when they were judged
                path = self._polish_step(path, best)
            polished.append(best)
        path = replace(path, best=best)  # which may have been solved before the last one
        warn_at_edge(path.chosen, path.bilevel.log_range, self.data.target)
        if not precise and self.solver is not None:
            warn_if_not_optimal(path.chosen, self.solver)
        return path

    def _with_precise_solver(self, path):
        problem, solver = path.bilevel.problem, path.bilevel.solver
        if solver.precise:
            return path
        solver = self._together(problem, solvers.choose(problem))
        state = solver.init(problem, path.state.log_penalties, seed=self.data.seed, start=self.models(path))
        return replace(path, bilevel=replace(path.bilevel, solver=solver), state=state)

    def _polish_step(self, path, best):
        bilevel, state, step, steps = path.bilevel, path.state, path.steps[best], list(path.steps)
        since = time.perf_counter() - step.seconds, state.n_epochs - step.n_epochs  # they add up
        precise = replace(bilevel, problem=bilevel.problem.reported(step.log_penalties))
        same = np.array_equal(state.log_penalties, step.log_penalties)
        rtols = 0.1, FEW_ROWS_TOL if bilevel.problem.n_rows < MANY_ROWS else REPORTED_TOL
        settings = replace(self.descent, max_epochs=MAX_EPOCHS)
        if same and precise.problem is bilevel.problem and settings.is_solved(step, *rtols):
            steps[best] = replace(step, losses=precise.solver.losses(precise.problem, state, precise.problem))
            return replace(path, bilevel=precise, steps=steps, best=best)
        if not same or precise.problem is not bilevel.problem:
            state = precise.solver.rescale(precise.problem, state, step.log_penalties)
        state, result = settings.solve(precise, state, step.structure, *rtols, warm=same and state.n_epochs > 0)
        if result.reason == "stalled":  # where the search has led it; it may not from W = 0
            since = since[0], since[1] - state.n_epochs
            state = precise.solver.init(precise.problem, step.log_penalties, seed=self.data.seed)
            state, result = settings.solve(precise, state, step.structure, *rtols)
        logistic.warn_unless_converged(result, "The score of the chosen step")
        result = replace(result, losses=precise.solver.losses(precise.problem, state, precise.problem))
        steps[best] = precise.record(step.structure, step.theta, step.log_penalties, state, result, since)
        return replace(path, bilevel=precise, state=state, steps=steps, best=best)

    # ---- what it leaves behind ------------------------------------------------------------------------------------------

    def report(self, path: Path) -> dict:
        """The fitted attributes that describe the search, by name."""
        return self.table.attributes(path)

    def refit(self, path: Path, start: Any = None) -> dict:
        """The fitted attributes that the final fit at the chosen penalties makes, by name.

        ``start`` is what ``mean_model`` has made of the path, which then needs no state.
        """
        begin = time.perf_counter()
        data, target, step = self.data, self.data.target, path.chosen
        solver = _of_one_part(path.bilevel.solver)
        start = self.mean_model(path) if start is None else start
        coef, intercept, n_epochs = final_fit(data, solver, start, self.table.final_log_penalties(step))
        dtype = data.view.X.dtype
        parameters = target.parameters(step.final_log_penalties[: data.n_own], data.samples.n_train)
        model = _estimators.build(
            self.estimator,
            {target.parameter: parameters[target.full_name]},
            coef.astype(dtype),
            intercept.astype(dtype),
            data.samples.classes,
            max(1, round(n_epochs)),
            data.samples.n_final,
            data.view.seen_names,
        )
        found = {"best_estimator_": data.view.with_model(model)}
        if hasattr(found["best_estimator_"], "feature_names_in_"):
            found["feature_names_in_"] = found["best_estimator_"].feature_names_in_
        return found | {"refit_time_": time.perf_counter() - begin}

    def mean_model(self, path: Path) -> Any:
        """The mean of the splits' models, where a refit starts."""
        return mean_model(path, self.data)

    def models(self, path: Path) -> Any:
        """The final lower-level and adjoint solutions of every split, for ``Last``."""
        ends = path.bilevel.problem, path.state
        coef, intercept = path.bilevel.solver.coefficients(*ends)
        return (coef, finite_intercepts(intercept, self.data)), path.bilevel.solver.adjoint(*ends)

    # ---- where it starts ------------------------------------------------------------------------------------------------

    def _start(self, bilevel):
        """Where it begins, and what it looks at before: the estimator's own penalty and nothing else; or what the data say.

        They say it where that penalty is the default, or near an end of the range.
        """
        (low, high), level = bilevel.log_range, self.data.target.log_penalty(self.data.samples.n_train)
        if not self.data.target.is_default and low + START_MARGIN <= level <= high - START_MARGIN:
            return self.data.start(level), []
        top, first = bilevel.problem.log_scale - START_BELOW, self.data.stages()[0][0]
        levels = grid(bilevel.problem, top) if self.descent.optimizer is None and first.n_params == 1 else []
        return self.data.start(top), [within_range(self.data.start(level), bilevel.log_range) for level in levels]

    @property
    def _warm_penalties(self):
        """The last log penalties, (n_features,); None if there were none, or of other features.

        Features that had no penalty, or are those of a split only, start in the middle of the others.
        """
        penalties, data = self.last.penalties, self.data
        if penalties is None or penalties.shape != (data.n_own,):
            return None
        bounded = np.isfinite(penalties) & (penalties > 0)
        if not bounded.any():
            return None
        logs = np.log(penalties[bounded]) - np.log(data.target.refit_scale(data.samples.n_final, data.samples.n_train))
        start = data.start(logs.mean()).copy()
        start[: data.n_own][bounded] = logs
        return np.where(data.unpenalized, -np.inf, start)

    def _warm_models(self, problem):
        """The splits' last models; None if there were none, or of other shapes."""
        shapes = [(problem.n_outputs, part.n_features) for part in parts_of(problem) for _ in range(part.n_splits)]
        if self.last.models is None or [W.shape for W in self.last.models[0][0]] != shapes:
            return None
        return self.last.models


def _changes(structure):
    """Zeros in the shape of the structure's log penalties: (n_features,), or (n_splits, n_features) where they differ."""
    return structure.change(np.zeros(structure.n_params))


def _of_one_part(solver):
    """The solver that works on each part of a Joint."""
    return solvers.on_each(solver, lambda one: one.solver if isinstance(one, solvers.Together) else one)


def make_run(
    estimator: Any,
    X: Any,
    y: Any,
    target: Target,
    routed: Bunch,
    scorers: Any,
    last: Last,
    *,
    solver: str | Solver,
    scoring: Any,
    refit: Any,
    max_iter: int,
    tol: float,
    n_iter_no_change: int,
    n_jobs: int | None,
    **settings: Any,
) -> Run:
    """Check everything and prepare a search.

    Parameters
    ----------
    estimator : estimator
        Unfitted: what ``target`` was read from.
    X, y : array-like
        As they were given to ``fit``.
    target : Target
    routed : Bunch
        The metadata for estimator, splitter and scorer.
    scorers : callable
        What ``scoring`` stands for.
    last : Last
    solver, scoring, refit, max_iter, tol, n_iter_no_change, n_jobs
        As HypergradientSearchCV has them.
    **settings
        Likewise; for ``prepare``.
    """
    resolved = None if isinstance(solver, str) and solver == "auto" else solvers.resolve(solver)
    data = prepare(estimator, X, y, target, routed, n_jobs=n_jobs, **settings)
    final = _estimators.final_step(estimator)[1]
    score = None
    if scoring not in LOG_LOSS:
        score = SplitScorer(final, scorers, X, y, data, routed.scorer.score, n_jobs)
    return Run(
        estimator=final,
        data=data,
        table=Table(data, scoring, refit, tol, scorers),
        score=score,
        solver=resolved,
        descent=Descent(max_iter=max_iter, tol=tol, n_iter_no_change=n_iter_no_change),
        last=last,
        n_jobs=n_jobs,
    )
