"""Cross-fitting of hyperparameters: each split judges, once, a descent on splits of its training rows.

Hyperparameters can fit the very rows that choose them. So the descent of a split never sees its validation rows, and the mean
loss of all splits, each under the penalties found without them, says what the descents are worth. Eqs. (38) to (40). The inner
splits of all descents are advanced in one pass over the rows, and so are the fits that are judged.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sksid._compact import compact
from sksid.descent import Bilevel, Step, reach, within_range
from sksid.logistic import fit, solve
from sksid.optimizers import Momentum, Optimizer, QuasiNewton
from sksid.structures import Structure

JUDGE_TOL = 1e-3  # of the fitted probabilities
INNER_TOL = 0.2  # relative accuracy of a converged hypergradient
MAX_EPOCHS = 100  # of one solve
FIRST_EPOCHS = 5  # of the first one of many hyperparameters
FEW_STEPS = 2  # of few hyperparameters, with the curvature that is known from all splits
FEW_JUDGED, FEW_FIRST = (3, 5, 7), 2.0  # without it: the steps that are judged, and the first one's largest change of log λ

Nested = Sequence[tuple[Structure, Structure]]  # a structure on the inner splits of each split, and on all its training rows


@dataclass(frozen=True, eq=False)
class Nest:
    """The splits of a search, and splits of the training rows of each.

    Attributes
    ----------
    inner : Bilevel
        The inner splits: those of one split's training rows, then those of the next.
    counts : ndarray of int, (n_splits,)
        How many inner splits each split has. One without any judges, too, and its penalties stay as they are.
    rest : Bilevel
        The training rows of every split. It has no validation rows.
    judge : Problem or Joint
        The validation rows of every split. It has no training rows.
    """

    inner: Bilevel
    counts: NDArray[np.integer]
    rest: Bilevel
    judge: Any

    @property
    def owner(self) -> NDArray[np.integer]:
        """The split whose training rows each inner split is made of, (n_inner_splits,)."""
        return np.repeat(np.arange(self.counts.size), self.counts)

    def own(self, values: NDArray) -> list[NDArray]:
        """Values of the inner splits, an array for each split of the search."""
        return np.split(values, np.cumsum(self.counts)[:-1])


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
        Steps of each descent on many hyperparameters at most.
    patience : int, default=1
        The descents end after so many judged steps without a smaller mean loss. Steps 1, 2, 4, 7, 11, … are judged.
    max_change : float, default=0.5
        Largest change of any log penalty in one step of many hyperparameters.
    optimizer : Optimizer, default=Momentum(rate=0.3)
        Of many hyperparameters.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.crossfit import CrossFit, Descents, Nest
    >>> from sksid.descent import Bilevel
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Aid
    >>> from sksid.structures import per_feature
    >>> X, y = np.random.RandomState(0).randn(90, 4), np.arange(90) % 2
    >>> X[:, 0] += y
    >>> thirds, none = np.split(np.arange(90), 3), np.arange(0)
    >>> training = [np.setdiff1d(np.arange(90), third) for third in thirds]
    >>> inner = [(thirds[k], thirds[3 - m - k]) for m in range(3) for k in range(3) if k != m]
    >>> splits = inner, [(train, none) for train in training], [(none, third) for third in thirds]
    >>> inner, rest, judge = (make_problem(X, y, these, n_classes=2, dtype=np.float64) for these in splits)
    >>> nest = Nest(Bilevel(inner, Aid()), np.array([2, 2, 2]), Bilevel(rest, Aid()), judge)
    >>> descents = Descents(CrossFit(), nest, np.zeros(4), (-20.0, 20.0))
    >>> steps = list(descents.run(per_feature(4), [(per_feature(4), per_feature(4))] * 3))
    >>> steps[0].losses.shape, steps[0].log_penalties.shape
    ((3,), (4,))
    """

    max_steps: int = 32
    patience: int = 1
    max_change: float = 0.5
    optimizer: Optimizer = Momentum(rate=0.3)

    def intervals(self, structure: Structure) -> list[int]:
        """How many steps are taken before each judgment."""
        taken = [0, *np.minimum(FEW_JUDGED, self.max_steps).tolist()] if structure.is_few else [0]
        while not structure.is_few and taken[-1] < self.max_steps:
            taken.append(min(taken[-1] + 1 + taken[-1] // 2, self.max_steps))
        return [int(n_steps) for n_steps in np.diff(taken) if n_steps]


class Descents:
    """The descents of all splits, side by side, from stage to stage.

    Parameters
    ----------
    settings : CrossFit
    nest : Nest
    log_penalties : ndarray of shape (n_features,)
        Where all of them start.
    log_range : pair of float
        The smallest and the largest log penalty.
    models : pair, default=None
        What ``coefficients`` of the search's splits are there.
    score : callable, default=None
        As ``Bilevel.score``.
    seed : int, default=0

    Examples
    --------
    >>> import numpy as np
    >>> from sksid.crossfit import CrossFit, Descents, Nest
    >>> from sksid.descent import Bilevel
    >>> from sksid.problem import make_problem
    >>> from sksid.solvers import Aid
    >>> from sksid.structures import per_feature
    >>> X, y, half, none = np.eye(8) + 1.0, np.arange(8) % 2, np.arange(4), np.arange(0)
    >>> splits = [(half[:2], half[2:])], [(half, none)], [(none, half + 4)]
    >>> inner, rest, judge = (make_problem(X, y, these, n_classes=2, dtype=np.float64) for these in splits)
    >>> nest = Nest(Bilevel(inner, Aid()), np.array([1]), Bilevel(rest, Aid()), judge)
    >>> descents = Descents(CrossFit(), nest, np.zeros(8), (-9.0, 9.0))
    >>> [step.is_nested for step in descents.run(per_feature(8), [(per_feature(8), per_feature(8))])][0]
    True
    """

    def __init__(
        self,
        settings: CrossFit,
        nest: Nest,
        log_penalties: NDArray,
        log_range: tuple[float, float],
        models: Any = None,
        score: Callable | None = None,
        seed: int = 0,
    ) -> None:
        self.settings, self.nest, self.log_range, self.score, self.seed = settings, nest, log_range, score, seed
        self.log_penalties, self.models, self.state, self.of_judges = log_penalties, models, None, 0.0
        self.fitted: Any = None
        self.logs = [np.broadcast_to(log_penalties, (n, log_penalties.size)) for n in (nest.counts.sum(), nest.counts.size)]

    def run(self, structure: Structure, nested: Nested, least: float = np.inf) -> Iterator[Step]:
        """Descend on the inner splits of each split; the steps that are judged, one by one.

        Parameters
        ----------
        structure : Structure
            Of the final fit.
        nested : sequence of (Structure, Structure), one for each split
            The same hyperparameters on its inner splits, and on its training rows.
        least : float, default=inf
            The mean loss before the first step.

        Yields
        ------
        Step
            Its losses are those of each split, under the penalties that were found without its validation rows; its penalties
            those of the final fit, whose hyperparameters have changed like the mean over the splits.
        """
        self._begin(nested, QuasiNewton(first=FEW_FIRST) if structure.is_few else self.settings.optimizer)
        (theta, offset), before, without = structure.start(self.log_penalties), self.thetas.copy(), 0
        moving = self.nest.counts > 0
        for n_steps in self.settings.intervals(structure):
            since = time.perf_counter(), self._n_epochs
            for _ in range(n_steps):
                self._advance()
                self._move()
            changed = theta + (self.thetas - before)[moving].mean(axis=0)
            logs = within_range(offset + structure.for_refit.change(changed), self.log_range)
            self.judged.append(self.thetas.copy())
            step = self._judged(structure.for_refit, changed, logs, np.concatenate(self._penalties(1)), since)
            least, without = (step.value, 0) if step.value < least else (least, without + 1)
            yield step
            if without == self.settings.patience:
                break

    def confirm(self, found: Step, memory: tuple, models: Any, longest: float) -> Step:
        """Judge few hyperparameters that all splits have found together.

        Each split judges those that the other splits would have found: one quasi-Newton step away, on the mean loss of these
        others, with the curvature that all have found. Only the models that are judged are fitted for that.

        Parameters
        ----------
        found : Step
            The best one on all splits, with ``shares``.
        memory : tuple
            Of ``QuasiNewton``, after the steps on all splits.
        models : pair
            What ``coefficients`` of the search's splits are at ``found``.
        longest : float
            Largest change of any log penalty in that step.

        Returns
        -------
        Step
            Hyperparameters, penalties and gradient of ``found``, and each split's loss under those that the others would find.
        """
        since, shares = (time.perf_counter(), self._n_epochs), np.asarray(found.shares)
        of_others = (found.gradient - shares) * (len(shares) / max(1, len(shares) - 1))
        steps = -of_others @ memory[3]
        changes = np.stack([A @ step for A, step in zip(found.structure.per_split or (), steps, strict=True)])
        parts = np.minimum(1.0, longest / np.maximum(np.abs(changes).max(axis=1), np.finfo(float).tiny))[:, None]
        self.thetas, self.gradients = found.theta + parts * steps, of_others
        logs = within_range(found.log_penalties + parts * changes, self.log_range)
        return self._confirmed(found, logs, models, since)

    def confirm_anew(self, found: Step, nested: Nested, memory: tuple, models: Any) -> Step:
        """The same for few rows, where a split's rows have a say in the models of the other splits that counts.

        To each split the hyperparameters are found anew, on its inner splits, from where the stage has started: a few
        quasi-Newton steps with the curvature that all splits have found.

        Parameters
        ----------
        found : Step
            The best one on all splits.
        nested : sequence of (Structure, Structure)
            As for ``run``.
        memory : tuple
            Of ``QuasiNewton``, after the steps on all splits.
        models : pair
            What ``coefficients`` of the search's splits are at ``found``.

        Returns
        -------
        Step
            Hyperparameters, penalties and gradient of ``found``, and each split's loss under those that were found without it.
        """
        since, optimizer = (time.perf_counter(), self._n_epochs), QuasiNewton()
        self._begin(nested, optimizer)
        self.memories = [optimizer.again(memory)] * len(nested)
        for _ in range(FEW_STEPS):
            self._advance()
            self._move()
        return self._confirmed(found, np.concatenate(self._penalties(1)), models, since)

    def _confirmed(self, found, logs, models, since):
        self.models, self.fitted = models, None
        judged = self._judged(found.structure.for_refit, found.theta, found.final_log_penalties, logs, since)
        return replace(judged, gradient=found.gradient)

    def keep_confirmed(self, step: Step, nested: Nested) -> None:
        """Go on from few hyperparameters that were confirmed, in the next stage."""
        thetas = self.thetas
        self._begin(nested, QuasiNewton())
        self.judged = [thetas]
        self.keep(step)

    def keep(self, step: Step, number: int = -1) -> None:
        """Go on from a step of the last stage, the ``number``-th that was judged, in the next."""
        self.log_penalties, self.thetas = step.final_log_penalties, self.judged[number]
        self.logs = [np.concatenate(rows) for rows in (self._inner, self._penalties(1))]

    # ---- one step ----------------------------------------------------------------------------------------------------------

    @property
    def _n_epochs(self):
        return self.of_judges + (self.state.n_epochs if self.state else 0.0)

    def _begin(self, nested, optimizer):
        """A stage: θ and offset of each split, on its inner splits and on its training rows."""
        self.nested, self.optimizer, self.judged, self.is_new = nested, optimizer, [], True
        starts = [
            (inner.start(own if own.size else rest), of_rest.start(rest))
            for (inner, of_rest), own, rest in zip(nested, self.nest.own(self.logs[0]), self.logs[1], strict=True)
        ]
        self.thetas = np.array([inner[0] for inner, _ in starts])
        self.offsets = [[inner[1] for inner, _ in starts], [rest[1] for _, rest in starts]]
        self.memories = [optimizer.init(self.thetas.shape[1])] * len(nested)
        self.gradients = np.zeros_like(self.thetas)

    @property
    def _inner(self):
        return [logs for logs, n in zip(self._penalties(0), self.nest.counts, strict=True) if n]

    def _penalties(self, side):
        """The log penalties of each split, a row for each of its inner splits, or one for its training rows."""
        rows = self.nest.counts if side == 0 else np.ones_like(self.nest.counts)
        return [
            np.broadcast_to(within_range(offset + own[side].change(theta), self.log_range), (n, offset.shape[-1]))
            for own, theta, offset, n in zip(self.nested, self.thetas, self.offsets[side], rows, strict=True)
        ]

    def _pull_back(self, log_gradient):
        """The gradient of each split's mean loss on its inner splits, (n_splits, n_params); zero where it has none."""
        share = self.nest.counts.sum() / np.maximum(self.nest.counts, 1)  # of F, the mean over the inner splits of all
        rows = self.nest.own(log_gradient)
        return np.array([inner.pull_back(own) * s for (inner, _), own, s in zip(self.nested, rows, share, strict=True)])

    def _advance(self):
        """Half an epoch on the inner splits; some more where the stage is new; as many as few hypergradients need."""
        problem, solver, logs = self.nest.inner.problem, self.nest.inner.solver, np.concatenate(self._inner)
        if self.state is None:
            self.state = solver.init(problem, logs, seed=self.seed, start=self.models and self._inner_models())
        else:
            self.state = solver.rescale(problem, self.state, logs)
        if self.is_new or not self.optimizer.inexact:
            epochs = FIRST_EPOCHS if self.optimizer.inexact else MAX_EPOCHS
            self.state, _ = solve(problem, solver, self.state, rtol=INNER_TOL, max_epochs=epochs, project=self._pull_back)
        else:
            self.state = solver.advance(problem, self.state, 0.5)
        self.is_new = False

    def _inner_models(self):
        """The model of its split for every inner split, and an adjoint of zero."""
        models = [[side[m] for m in self.nest.owner] for side in self.models]
        return models, [[np.zeros_like(one) for one in side] for side in models]

    def _move(self):
        """A step of each split's θ."""
        problem, solver = self.nest.inner.problem, self.nest.inner.solver
        self.gradients = self._pull_back(solver.log_gradient(problem, self.state))
        losses = self.nest.own(solver.losses(problem, self.state))
        for m in np.flatnonzero(self.nest.counts):
            reaches, theta, gradient = partial(reach, self.nested[m][0]), self.thetas[m], self.gradients[m]
            step, self.memories[m] = self.optimizer.update(self.memories[m], theta, gradient, float(losses[m].mean()), reaches)
            if self.optimizer.inexact:
                step = step * min(1.0, self.settings.max_change / max(reaches(step), np.finfo(float).tiny))
            self.thetas[m] += step

    def _judged(self, structure, theta, log_penalties, logs, since):
        """The step at which each split judges the penalties that were found without it: its row of ``logs``."""
        problem, solver = self.nest.rest.problem, self.nest.rest.solver
        settings = {"start": self.models and (self.models,), "seed": self.seed, "state": self.fitted}
        self.fitted, result = fit(problem, solver, logs, tol=JUDGE_TOL, max_epochs=MAX_EPOCHS, **settings)
        self.of_judges += result.n_epochs
        self.models = solver.coefficients(problem, self.fitted)
        return Step(
            structure=structure,
            theta=theta,
            log_penalties=compact(log_penalties),
            losses=solver.losses(problem, self.fitted, self.nest.judge),
            gradient=self.gradients[self.nest.counts > 0].mean(axis=0),
            n_epochs=self._n_epochs - since[1],
            seconds=time.perf_counter() - since[0],
            scores=self.score(*self.models) if self.score else None,
            is_nested=True,
        )
