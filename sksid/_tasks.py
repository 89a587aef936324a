"""A search as scikit-learn's callbacks see it: a fit has two tasks, the search, with one for each outer step, and the refit."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sksid._cluster import ClusterLostError
from sksid._run import Run
from sksid._warn import warn
from sksid.descent import Step
from sksid.stages import Path


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

    def __init__(self, search: Any, X: Any, y: Any, params: dict) -> None:
        weight = params.get("sample_weight")
        metadata = None if weight is None else {"sample_weight": weight}
        self.hook = {"estimator": search, "X": X, "y": y, "metadata": metadata}
        self.refits = search.refit is not False
        self.verbose = search.verbose
        self.root = search._init_callback_context(max_subtasks=1 + self.refits)
        self.root.call_on_fit_task_begin(**self.hook)
        self.steps: list[Step] = []
        self.lost = False

    def search(self, run: Run) -> Path:
        """The task of the search: each outer step is a subtask, and what is done after them the last one.

        On KeyboardInterrupt, as in scikit-learn's MLPClassifier: a warning, and the best of the steps until then is kept.
        Before the first step is done, and during what follows the steps, the interrupt is raised.

        Where a cluster is lost, that is a warning too, and the best step is kept as it is: its path has no state. Before the
        first step is done, the error is raised.
        """
        self.context = self.root.subcontext("search", max_subtasks=run.max_steps + 1)
        self.context.call_on_fit_task_begin(**self.hook)
        self._begin_step()
        try:
            path = run.polish(self._steps_of(run))
        except ClusterLostError as error:
            if not self.steps:
                raise
            self._warn_of_loss(f"after {len(self.steps)} outer steps; the best of them is kept", error)
            path = run.path_of(self.steps)
        self.task.call_on_fit_task_end(**self.hook)
        self.context.call_on_fit_task_end(**self.hook)
        return path

    def _steps_of(self, run):
        try:
            return run.search(self.on_step)
        except KeyboardInterrupt:
            if not self.steps:
                raise
            warn(f"The search was interrupted after {len(self.steps)} outer steps; the best of them is kept.")
            return run.best_of(self.steps)

    def _warn_of_loss(self, when, error):
        self.lost = True
        without = ", but there is no refit and no best_estimator_" if self.refits else ""
        warn(f"The cluster was lost {when}{without} ({error}). To go on there, make a client, and fit with warm_start.")

    def on_step(self, step: Step, model: Callable[[], dict]) -> bool:
        """An outer step is done: print it, end its task, begin the next; whether a callback wants the search to end."""
        self.steps.append(step)
        if self.verbose:
            print(line_of(step))
        stop = self.task.call_on_fit_task_end(**self.hook, reconstruction_attributes=model if self.refits else None)
        self._begin_step()
        return stop

    def _begin_step(self):
        self.task = self.context.subcontext("outer-step").call_on_fit_task_begin(**self.hook)

    def refit(self, run: Run, path: Path, start: Any = None) -> dict:
        """The task of the refit: returns the fitted attributes that it sets, none where a cluster is lost."""
        context = self.root.subcontext("refit-with-best-params")
        context.call_on_fit_task_begin(**self.hook)
        try:
            found = run.refit(path, start)
        except ClusterLostError as error:
            self._warn_of_loss("after the search; its result is kept", error)
            found = {}
        context.call_on_fit_task_end(**self.hook)
        return found

    def end(self) -> None:
        """End the root task; callbacks that want a fitted estimator get the search itself."""
        self.root.call_on_fit_task_end(**self.hook, reconstruction_attributes={} if self.refits and not self.lost else None)


def line_of(step: Step) -> str:
    """What ``verbose`` prints of a step."""
    name, nested = one_line(step.structure.name), "nested " if step.is_nested else ""
    penalized = step.log_penalties[np.isfinite(step.log_penalties)]
    return (
        f"[HypergradientSearchCV] {name}: {nested}loss {step.value:.6f}, geometric mean of the penalties "
        f"{np.exp(penalized.mean()):.4g} ({step.n_epochs:.1f} epochs, {step.seconds:.2f} s)"
    )


def one_line(text: Any) -> str:
    r"""A name that a user or a table has given, as it may stand in a line of text: what cannot be printed is escaped.

    Examples
    --------
    >>> print(one_line("a\nb"))
    a\nb
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(text))
