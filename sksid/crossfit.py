"""Cross-fitting of many hyperparameters: each part of the rows judges, once, a descent on the splits of the other rows.

Many hyperparameters can fit the very rows that choose them. So the descent of a part never sees it, and the mean loss of all
parts, each under the penalties found without it, chooses one number of steps for all. Eqs. (38) to (40).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from sksid._compact import compact
from sksid._threads import single_blas_thread
from sksid.descent import Step, reach, within_range
from sksid.optimizers import Momentum, Optimizer, QuasiNewton
from sksid.sid import fit, solve
from sksid.solvers import Solver
from sksid.structures import Structure

JUDGE_TOL = 1e-3  # of the fitted probabilities
INNER_TOL = 0.2  # relative accuracy of the first hypergradient
MAX_EPOCHS = 100  # of one solve
FEW_STEPS = 3, 5, 7  # of few hyperparameters, before each judgment


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the rows, and what is fitted to the others.

    Attributes
    ----------
    inner : Problem or Joint, or None
        The splits of the other rows. None where there are none: the part then judges, and its penalties stay as they are.
    rest : Problem or Joint
        One split: all other rows are its training rows. It has no validation rows.
    judge : Problem or Joint
        One split: the part is its validation rows.
    """

    inner: Any
    rest: Any
    judge: Any


def gain_of(before: NDArray, after: NDArray) -> tuple[float, float]:
    """By how much the loss has fallen from one stage to another in the mean over the splits, and the standard error of that.

    The splits are paired: what makes a split hard in both stages cancels.

    Parameters
    ----------
    before, after : ndarray of shape (n_splits,)
        Losses.

    Examples
    --------
    >>> import numpy as np
    >>> gain, error = gain_of(np.array([0.5, 0.7, 0.9]), np.array([0.4, 0.6, 0.9]))
    >>> round(gain, 3), round(error, 3)
    (0.067, 0.033)
    """
    gains = np.asarray(before) - np.asarray(after)
    error = np.std(gains, ddof=1) / np.sqrt(gains.size) if gains.size > 1 else 0.0
    return float(gains.mean()), float(error)


@dataclass(frozen=True)
class CrossFit:
    """Settings of cross-fitting.

    Parameters
    ----------
    max_steps : int, default=32
        Steps of each descent at most.
    patience : int, default=1
        The descents end after so many judged steps without a smaller mean loss. Steps 1, 2, 4, 7, 11, … are judged.
    max_change : float, default=0.5
        Largest change of any log penalty in one step of many hyperparameters.
    optimizer : Optimizer, default=Momentum(rate=0.3)
        Of many hyperparameters; few have ``QuasiNewton``.
    n_jobs : int, default=None
        Parts that are descended on at the same time, in threads.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.crossfit import CrossFit, Descents, Part
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Aid
    >>> from sksid.structures import per_feature
    >>> X, y = np.random.RandomState(0).randn(90, 4), np.arange(90) % 2
    >>> X[:, 0] += y
    >>> folds, none = np.arange(90) % 3, np.arange(0)
    >>> parts = []
    >>> for m in range(3):
    ...     others = [k for k in range(3) if k != m]
    ...     inner = [(np.flatnonzero((folds != m) & (folds != k)), np.flatnonzero(folds == k)) for k in others]
    ...     own = [[(np.flatnonzero(folds != m), none)], [(none, np.flatnonzero(folds == m))]]
    ...     parts.append(Part(*(make_problem(X, y, s, n_classes=2, dtype=np.float64) for s in (inner, *own))))
    >>> descents = Descents(CrossFit(), parts, Aid(), np.zeros(4), (-20.0, 20.0))
    >>> steps = list(descents.run(per_feature(4), [(per_feature(4), per_feature(4))] * 3))
    >>> steps[0].losses.shape, steps[0].log_penalties.shape
    ((3,), (4,))
    """

    max_steps: int = 32
    patience: int = 1
    max_change: float = 0.5
    optimizer: Optimizer = Momentum(rate=0.3)
    n_jobs: int | None = None

    def intervals(self, structure: Structure) -> list[int]:
        """How many steps are taken before each judgment."""
        taken = [0, *np.minimum(FEW_STEPS, self.max_steps).tolist()] if structure.is_few else [0]
        while not structure.is_few and taken[-1] < self.max_steps:
            taken.append(min(taken[-1] + 1 + taken[-1] // 2, self.max_steps))
        return [int(n_steps) for n_steps in np.diff(taken) if n_steps]


class Descents:
    """The descents of all parts, side by side, from stage to stage.

    Parameters
    ----------
    settings : CrossFit
    parts : sequence of Part
    solver : Solver
        For a part.
    log_penalties : ndarray of shape (n_features,)
        Where all of them start.
    log_range : pair of float
        The smallest and the largest log penalty.
    models : pair of sequences, default=None
        Coefficients and intercepts with which the rest of each part starts.
    score : callable, default=None
        As ``Bilevel.score``.
    seed : int, default=0

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.crossfit import CrossFit, Descents, Part
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Aid
    >>> from sksid.structures import shared
    >>> X, y, half, none = np.eye(8) + 1.0, np.arange(8) % 2, np.arange(4), np.arange(0)
    >>> splits = [(half[:2], half[2:])], [(half, none)], [(none, half + 4)]
    >>> part = Part(*(make_problem(X, y, these, n_classes=2, dtype=np.float64) for these in splits))
    >>> descents = Descents(CrossFit(), [part], Aid(), np.zeros(8), (-9.0, 9.0))
    >>> [step.is_nested for step in descents.run(shared(8), [(shared(8), shared(8))])][0]
    True
    """

    def __init__(
        self,
        settings: CrossFit,
        parts: Sequence[Part],
        solver: Solver,
        log_penalties: NDArray,
        log_range: tuple[float, float],
        models: tuple[Any, Any] | None = None,
        score: Callable | None = None,
        seed: int = 0,
    ) -> None:
        self.settings, self.log_penalties, self.log_range, self.score = settings, log_penalties, log_range, score
        self.each = [
            _Descent(settings, part, solver, log_penalties, log_range, _model_of(models, m), seed + m)
            for m, part in enumerate(parts)
        ]

    def run(
        self, structure: Structure, structures: Sequence[tuple[Structure, Structure]], least: float = np.inf
    ) -> Iterator[Step]:
        """Descend on a structure; the steps that are judged, one by one.

        Parameters
        ----------
        structure : Structure
            Of the final fit.
        structures : sequence of (Structure, Structure)
            The same hyperparameters on the inner splits of each part, and on its rest.
        least : float, default=inf
            The mean loss before the first step.

        Yields
        ------
        Step
            Its losses are those of each part, under the penalties that were found without it; its penalties those of the
            final fit, whose hyperparameters are the mean over the parts.
        """
        self.theta, self.offset = structure.start(self.log_penalties)
        for descent, own in zip(self.each, structures, strict=True):
            descent.begin(*own)
        without = 0
        for n_steps in self.settings.intervals(structure):
            since = time.perf_counter(), self._n_epochs
            with single_blas_thread:
                parallel = Parallel(n_jobs=self.settings.n_jobs, require="sharedmem")
                parallel(delayed(descent.take)(n_steps) for descent in self.each)
            step = self._step(structure, since)
            least, without = (step.value, 0) if step.value < least else (least, without + 1)
            yield step
            if without == self.settings.patience:
                break

    def keep(self, step: Step, number: int) -> None:
        """Go on from a step of the last run, the ``number``-th that was judged, in the next."""
        self.log_penalties = step.log_penalties
        for descent in self.each:
            descent.keep(number)

    @property
    def _n_epochs(self):
        return float(np.mean([descent.n_epochs for descent in self.each]))

    def _step(self, structure, since):
        moving = [descent for descent in self.each if descent.part.inner is not None]
        theta = np.mean([descent.theta for descent in moving], axis=0)
        coef, intercept = ([one for descent in self.each for one in descent.model[side]] for side in (0, 1))
        return Step(
            structure=structure.for_refit,
            theta=theta,
            log_penalties=compact(within_range(self.offset + structure.for_refit.change(theta), self.log_range)),
            losses=np.array([descent.loss for descent in self.each]),
            gradient=np.mean([descent.gradient for descent in moving], axis=0),
            n_epochs=self._n_epochs - since[1],
            seconds=time.perf_counter() - since[0],
            scores=self.score(coef, intercept) if self.score else None,
            is_nested=True,
        )


class _Descent:
    """The descent on the splits of all rows but one part, and that part's judgment of it."""

    def __init__(self, settings, part, solver, log_penalties, log_range, model, seed):
        self.settings, self.part, self.solver, self.log_range = settings, part, solver, log_range
        self.start, self.start_of_rest, self.model, self.seed = log_penalties, log_penalties, model, seed
        self.state, self.loss, self.of_judge = None, np.nan, 0.0

    @property
    def n_epochs(self):
        return self.of_judge + (self.state.n_epochs if self.state else 0.0)

    def begin(self, structure, of_rest):
        """A stage: its structure on the inner splits, and on the rest."""
        self.structure, self.of_rest, self.thetas = structure, of_rest, []
        self.theta, self.offset = structure.start(self.start)
        self.offset_of_rest = of_rest.start(self.start_of_rest)[1]
        self.optimizer = QuasiNewton(first=2.0) if structure.is_few else self.settings.optimizer
        self.memory, self.gradient = self.optimizer.init(structure.n_params), np.zeros(structure.n_params)
        self.is_new = True

    def keep(self, number):
        """The next stage starts from the hyperparameters that were judged ``number``-th in this one."""
        self.theta = self.thetas[number]
        self.start, self.start_of_rest = self._inner, self._rest

    @property
    def _inner(self):
        return within_range(self.offset + self.structure.change(self.theta), self.log_range)

    @property
    def _rest(self):
        return within_range(self.offset_of_rest + self.of_rest.change(self.theta), self.log_range)

    def take(self, n_steps):
        """Take so many steps, and let the part judge where they lead."""
        if self.part.inner is not None:
            for _ in range(n_steps):
                self._advance()
                self._move()
        self.thetas.append(self.theta)
        start = None if self.model is None else (self.model,)
        settings = {"tol": JUDGE_TOL, "max_epochs": MAX_EPOCHS, "seed": self.seed}
        state, result = fit(self.part.rest, self.solver, self._rest, start=start, **settings)
        self.of_judge += result.n_epochs
        self.model = self.solver.coefficients(self.part.rest, state)
        self.loss = float(self.solver.losses(self.part.rest, state, self.part.judge)[0])

    def _advance(self):
        """Half an epoch on the inner splits; as many as the hypergradient needs, where they are few or the stage is new."""
        inner, solver = self.part.inner, self.solver
        if self.state is None:
            state = solver.init(inner, self._inner, seed=self.seed, start=self.model and self._inner_models())
        else:
            state = solver.rescale(inner, self.state, self._inner)
        if self.is_new or not self.optimizer.inexact:
            project = self.structure.pull_back
            self.state, _ = solve(inner, solver, state, rtol=INNER_TOL, max_epochs=MAX_EPOCHS, project=project)
        else:
            self.state = solver.advance(inner, state, 0.5)
        self.is_new = False

    def _inner_models(self):
        """The model of the rest for every inner split, and an adjoint of zero."""
        models = [np.repeat(np.asarray(side[0])[None], self.part.inner.n_splits, axis=0) for side in self.model]
        return models, [np.zeros_like(side) for side in models]

    def _move(self):
        structure, inner = self.structure, self.part.inner
        self.gradient = structure.pull_back(self.solver.log_gradient(inner, self.state))
        value = float(np.mean(self.solver.losses(inner, self.state)))
        reaches = partial(reach, structure)
        step, self.memory = self.optimizer.update(self.memory, self.theta, self.gradient, value, reaches)
        if self.optimizer.inexact:
            step = step * min(1.0, self.settings.max_change / max(reaches(step), np.finfo(float).tiny))
        self.theta = self.theta + step


def _model_of(models, m):
    """The model of one split, as ``coefficients`` of a problem with that split alone has it."""
    return None if models is None else tuple(side[m : m + 1] for side in models)
