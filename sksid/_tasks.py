"""A search as scikit-learn's callbacks see it: a fit has two tasks, the search, with one for each outer step, and the refit."""

import copy
import warnings
from contextlib import contextmanager

from sklearn.exceptions import ConvergenceWarning

from sksid.descent import Climb, climb


class SearchTasks:
    """The tree of a fit's tasks. The hooks are called in the thread that fits, between the steps.

    Parameters
    ----------
    search : HypergradientSearchCV
        The one that is fitted.
    X, y : array-like
        As they were given to ``fit``.
    params : dict
        Of ``fit``; the callbacks get ``sample_weight``.
    """

    def __init__(self, search, X, y, params):
        weight = params.get("sample_weight")
        metadata = None if weight is None else {"sample_weight": weight}
        self.hook = {"estimator": search, "X": X, "y": y, "metadata": metadata}
        self.refits = search.refit is not False
        self.root = search._init_callback_context(max_subtasks=1 + self.refits)
        self.root.call_on_fit_task_begin(**self.hook)

    @contextmanager
    def searching(self, max_steps, snapshot):
        """The task of the search: gives the OuterSteps to climb with. What is done after the climb is its last subtask."""
        context = self.root.subcontext("search", max_subtasks=max_steps + 1)
        context.call_on_fit_task_begin(**self.hook)
        steps = OuterSteps(context, self.hook, snapshot if self.refits else None)
        yield steps
        steps.task.call_on_fit_task_end(**self.hook)
        context.call_on_fit_task_end(**self.hook)

    @contextmanager
    def refitting(self):
        """The task of the refit."""
        context = self.root.subcontext("refit-with-best-params")
        context.call_on_fit_task_begin(**self.hook)
        yield
        context.call_on_fit_task_end(**self.hook)

    def end(self):
        """The fit is done: whoever wants a fitted estimator gets the search itself."""
        self.root.call_on_fit_task_end(**self.hook, reconstruction_attributes={} if self.refits else None)


class OuterSteps:
    """Climbs, and makes each outer step a task: at its end the callbacks may stop the climb."""

    def __init__(self, context, hook, snapshot):
        self.context, self.hook, self.snapshot = context, hook, snapshot
        self.steps = []
        self._begin()

    def _begin(self):
        self.task = self.context.subcontext("outer-step").call_on_fit_task_begin(**self.hook)

    def climb(self, bilevel, state, rungs, descent, tell, **settings):
        """``descent.climb``; on KeyboardInterrupt, the best of the steps until then, with the state at its beginning.

        As in scikit-learn's MLPClassifier: a warning, and the estimator is fitted with what there is. Before the first step
        is done, and during what follows the climb, the interrupt is raised.
        """

        def on_step(step, state):
            self.steps.append(step)
            tell(step)
            fitted = self.snapshot and (lambda: self.snapshot(bilevel, as_climb(step, state)))
            stop = self.task.call_on_fit_task_end(**self.hook, reconstruction_attributes=fitted)
            self._begin()
            return stop

        def as_climb(step, state):
            return Climb(state, [step], [by_name[step.structure]], 0)

        by_name = {structure.name: structure for structure in rungs}
        start = state.log_penalties.copy()
        try:
            return climb(bilevel, state, rungs, descent, on_step, **settings)
        except KeyboardInterrupt:
            if not self.steps:
                raise
            warnings.warn(
                f"The search was interrupted after {len(self.steps)} outer steps; the best of them is kept.", stacklevel=6
            )
        best = min(range(len(self.steps)), key=lambda i: self.steps[i].criterion)
        state = bilevel.solver.init(bilevel.problem, start)  # the interrupted one may be half way through a change
        return Climb(state, self.steps, [by_name[step.structure] for step in self.steps], best)


def fitted_at(search, report, refit):
    """The attributes that ``report`` and ``refit`` would leave on the search, as if its fit had stopped here."""
    probe = copy.copy(search)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of a model that is not the last one
        report(probe)
        refit(probe)
    return {name: value for name, value in vars(probe).items() if name.endswith("_") and not name.startswith("_")}
