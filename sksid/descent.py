"""The outer descent: optimisers on θ, limited in log λ, with their stopping rules and their history (method.md, section 5).

Few hyperparameters are driven by converged hypergradients and a quasi-Newton model; many by half an epoch between steps, and
then it is the monitor, rows kept out of every split, that says which step to keep. ``climb`` goes from the shared penalty to
the structure that is asked for, and keeps the higher rung only if it is better.
"""

import time
from dataclasses import dataclass

import numpy as np

from sksid.sid import MANY_ROWS, solve
from sksid.structures import shared

LOG_PENALTY_RANGE = (-18.0, 18.0)
FEW = 5  # up to so many hyperparameters converged hypergradients and a quasi-Newton model are worth their price
FEW_BLOCKS = 30  # where each of them is the penalty of a whole block of features, of so many (examples/benchmarks/blocks.py)


@dataclass(frozen=True)
class Step:
    """One outer step, as the history keeps it.

    Attributes
    ----------
    structure : str
        Name of the rung.
    theta : ndarray of shape (n_params,)
    log_penalties : ndarray of shape (n_features,)
    losses : ndarray of shape (n_splits,)
        Validation losses.
    monitor : ndarray of shape (n_splits,), or None
        Losses of the splits' models on the rows kept out of all splits.
    gradient : ndarray of shape (n_params,)
        ∂F/∂θ.
    n_epochs : float
        Spent on this step.
    seconds : float
    scores : list of n_splits scores, or None
        Whatever ``Bilevel.score`` has made of the splits' models.
    """

    structure: str
    theta: np.ndarray
    log_penalties: np.ndarray
    losses: np.ndarray
    monitor: np.ndarray | None
    gradient: np.ndarray
    n_epochs: float
    seconds: float
    scores: list | None = None

    @property
    def value(self):
        """The mean validation loss."""
        return float(np.mean(self.losses))

    @property
    def criterion(self):
        """What chooses between steps: the monitor's mean loss, or the validation loss where there is no monitor."""
        return self.value if self.monitor is None else float(np.mean(self.monitor))


@dataclass(frozen=True)
class Bilevel:
    """The problem that is descended on.

    Attributes
    ----------
    problem : Problem
    solver : Solver
    monitor : Problem, or None
        The rows kept out of every split.
    score : callable, or None
        ``score(coef, intercept) -> list of n_splits scores``, called at every step with what the solver's ``coefficients``
        returns; ``None`` where losses are enough.
    """

    problem: object
    solver: object
    monitor: object = None
    score: object = None

    def record(self, structure, theta, log_penalties, state, losses, gradient, since):
        """The Step that ``state`` has come to, ``since`` being the time and the epochs at which it began."""
        seconds, epochs = time.perf_counter() - since[0], state.n_epochs - since[1]
        monitor = self.monitor_losses(state)
        scores = self.score(*self.solver.coefficients(self.problem, state)) if self.score else None
        return Step(structure.name, theta, log_penalties, losses, monitor, gradient, epochs, seconds, scores)

    def monitor_losses(self, state):
        """Mean loss of each split's model on the monitor, (n_splits,), or None."""
        if self.monitor is None:
            return None
        return self.solver.losses_on(self.problem, state, self.monitor)


# ---- optimisers: init(n_params) -> memory;  update(memory, θ, ∇F, F, reach) -> step, memory -------------------------


@dataclass(frozen=True)
class Secant:
    """One hyperparameter: the root of F′, by steps of growing length until it is bracketed, then by safeguarded secants.

    Parameters
    ----------
    first : float, default=1.5
        Length of the first step in θ.
    longest : float, default=2.5
        Longest step while there is no bracket.
    """

    first: float = 1.5
    longest: float = 2.5

    def init(self, n_params):
        """No point yet: (left end, right end, last point, last step, slope of F′), each point a pair (θ, F′)."""
        return None, None, None, None, 0.0

    @staticmethod
    def slack(memory):
        """How much less accurate a gradient may be: on the way to a bracket little more than its sign is needed."""
        return 1.0 if memory[0] is not None and memory[1] is not None else 3.0

    @staticmethod
    def may_end(memory):
        """Whether a small step means an optimum: not on a plateau, from where |F′| has grown or is not known to fall."""
        left, right, *_, slope = memory
        return (left is not None and right is not None) or slope > 0

    def update(self, memory, theta, gradient, value, reach):
        """The next step, given F′ at θ; neither F nor ``reach`` is asked for."""
        left, right, last, last_step, _ = memory
        here = (float(theta[0]), float(gradient[0]))
        if here[1] < 0:
            left = here
        else:
            right = here
        moved = last is not None and here[0] != last[0]
        slope = (here[1] - last[1]) / (here[0] - last[0]) if moved else 0.0
        if left is not None and right is not None:
            step = self._inside(left, right, here, slope)
        else:
            step = self._outwards(here, slope, last_step)
        return np.array([step]), (left, right, here, step, slope)

    def _outwards(self, here, slope, last_step):
        direction = -np.sign(here[1])
        reach = self.first if last_step is None else min(self.longest, 2.0 * abs(last_step))
        if slope > 0:
            reach = min(reach, 1.5 * abs(here[1]) / slope)
        return direction * reach

    @staticmethod
    def _inside(left, right, here, slope):
        width = right[0] - left[0]
        target = left[0] - left[1] * width / (right[1] - left[1])
        newton = here[0] - here[1] / slope if slope > 0 else np.inf
        if left[0] < newton < right[0]:
            target = newton
        margin = 0.05 * width
        return float(np.clip(target, left[0] + margin, right[0] - margin)) - here[0]


@dataclass(frozen=True)
class QuasiNewton:
    """A few hyperparameters: BFGS in a trust region that is measured in log λ.

    A point with a larger F than the best one is left again: its gradient improves the model, and the region shrinks.

    Parameters
    ----------
    first : float, default=1.0
        Radius of the first step: the largest change of any log λ_j.
    longest : float, default=2.5
        Largest radius.
    tol : float, default=1e-4
        Relative increase of F that does not count as one: the accuracy of its values.
    """

    first: float = 1.0
    longest: float = 2.5
    tol: float = 1e-4

    def init(self, n_params):
        """No point yet: (best θ, its gradient, its F, inverse Hessian, radius)."""
        return None, None, np.inf, np.eye(n_params), self.first

    @staticmethod
    def slack(memory):
        """How much less accurate a gradient may be: the model needs them all."""
        return 1.0

    @staticmethod
    def may_end(memory):
        """Whether a small step means an optimum."""
        return True

    def update(self, memory, theta, gradient, value, reach):
        """The next step from θ, given the gradient and F there; ``reach(step)`` is its largest change of a log λ_j."""
        best, best_gradient, best_value, inverse, radius = memory
        if best is None:
            inverse = np.eye(theta.size) * radius / max(reach(gradient), np.finfo(float).tiny)
        else:
            inverse = _bfgs(inverse, theta - best, gradient - best_gradient)
        if value <= best_value * (1 + self.tol):
            radius = radius if best is None else min(2.0 * radius, self.longest)
            best, best_gradient, best_value = theta.copy(), gradient.copy(), value
        else:
            radius = 0.25 * min(radius, reach(theta - best))
        step = -inverse @ best_gradient
        step *= min(1.0, radius / max(reach(step), np.finfo(float).tiny))
        return best + step - theta, (best, best_gradient, best_value, inverse, radius)


def _bfgs(inverse, step, change):
    """The BFGS update; left alone where the curvature along the step is not positive."""
    curvature = step @ change
    if curvature <= 1e-10 * np.linalg.norm(step) * np.linalg.norm(change):
        return inverse
    if np.allclose(inverse, np.eye(step.size) * inverse[0, 0]):
        inverse = np.eye(step.size) * curvature / (change @ change)
    left = np.eye(step.size) - np.outer(step, change) / curvature
    return left @ inverse @ left.T + np.outer(step, step) / curvature


@dataclass(frozen=True)
class Momentum:
    """Many hyperparameters: a normalised gradient with momentum.

    The step is rate · m / (√v + mean|m|), with running means m of the gradient and v of its square, so that a
    hyperparameter without signal does not drift.
    """

    rate: float = 0.15
    first_moment: float = 0.8
    second_moment: float = 0.95

    def init(self, n_params):
        """The running means (m, v) and the number of updates."""
        return np.zeros(n_params), np.zeros(n_params), 0

    def update(self, memory, theta, gradient, value, reach):
        """The next step, given the gradient at θ; neither F nor ``reach`` is asked for."""
        m, v, count = memory
        m = self.first_moment * m + (1 - self.first_moment) * gradient
        v = self.second_moment * v + (1 - self.second_moment) * gradient**2
        count += 1
        mean = m / (1 - self.first_moment**count)
        root = np.sqrt(v / (1 - self.second_moment**count))
        scale = root + np.mean(np.abs(mean))
        step = -self.rate * np.divide(mean, scale, out=np.zeros_like(mean), where=scale > 0)
        return step, (m, v, count)


def has_few(structure):
    """Whether it has few enough hyperparameters for a quasi-Newton model."""
    return structure.n_params <= (FEW_BLOCKS if structure.labels else FEW)


def within_range(log_penalties):
    """Log penalties, clipped; −∞, which is no penalty, stays."""
    return np.where(np.isneginf(log_penalties), -np.inf, np.clip(log_penalties, *LOG_PENALTY_RANGE))


# ---- the descent on one structure -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patience:
    """How many steps without a better criterion are too many."""

    n_iter_no_change: int
    tol: float

    def is_lost(self, steps):
        """Whether none of the last steps was better, by a tenth of ``tol``, than the best one before them."""
        if len(steps) <= self.n_iter_no_change:
            return False
        before = min(step.criterion for step in steps[: -self.n_iter_no_change])
        lately = min(step.criterion for step in steps[-self.n_iter_no_change :])
        return lately >= before * (1 - 0.1 * self.tol)


@dataclass(frozen=True)
class Descent:
    """Settings of the descent on one structure.

    Parameters
    ----------
    max_iter : int, default=100
        Outer steps at most.
    tol : float, default=1e-4
        Stop where the model expects less than this relative decrease of F (few hyperparameters).
    n_iter_no_change : int, default=10
        Patience: outer steps without a better criterion (many hyperparameters).
    inner_tol : float, default=0.1
        Relative accuracy of the hypergradients of a quasi-Newton step.
    max_change : float, default=2.5
        Largest change of any log λ_j in one step; a fifth of it for many hyperparameters.
    max_epochs : int, default=100
        Epochs of the solver for one hypergradient.
    """

    max_iter: int = 100
    tol: float = 1e-4
    n_iter_no_change: int = 10
    inner_tol: float = 0.1
    max_change: float = 2.5
    max_epochs: int = 100

    def run(self, bilevel, state, structure, log_penalties, on_step, roughly=False):
        """Descend from ``log_penalties``; ``on_step(Step, state) -> bool`` is told of every step and may stop it.

        ``roughly`` takes few hyperparameters like many: half an epoch a step, up to the monitor's word.
        Returns the state, where it stands now, and the steps.
        """
        run = self._run_few if has_few(structure) and not roughly else self._run_many
        return run(bilevel, state, structure, log_penalties, on_step)

    def _run_few(self, bilevel, state, structure, log_penalties, on_step):
        optimiser = Secant() if structure.n_params == 1 else QuasiNewton(longest=self.max_change, tol=self.tol)
        memory, steps, patience = optimiser.init(structure.n_params), [], Patience(self.n_iter_no_change, self.tol)
        theta, offset = structure.start(log_penalties)

        def reach(step):
            return np.max(np.abs(structure.change(step)), initial=0.0)

        while True:
            since = time.perf_counter(), state.n_epochs
            here = within_range(offset + structure.change(theta))
            state = bilevel.solver.rescale(bilevel.problem, state, here)
            slack = optimiser.slack(memory) if bilevel.problem.n_rows >= MANY_ROWS else 1.0
            state, estimate = self.solve(bilevel, state, structure, slack * self.inner_tol)
            gradient = structure.pull_back(estimate.log_gradient)
            step, updated = optimiser.update(memory, theta, gradient, estimate.value, reach)
            if optimiser.may_end(updated) and self._is_done(step, gradient, estimate.value):
                # the state may lag behind, and then read a gradient of zero: look again, more closely
                state, estimate = self.solve(bilevel, state, structure, 0.2 * self.inner_tol, value_rtol=self.tol, warm=True)
                gradient = structure.pull_back(estimate.log_gradient)
                step, updated = optimiser.update(memory, theta, gradient, estimate.value, reach)
            memory = updated
            steps.append(bilevel.record(structure, theta, here, state, estimate.losses, gradient, since))
            done = optimiser.may_end(memory) and self._is_done(step, gradient, estimate.value)
            if on_step(steps[-1], state) or done or len(steps) >= self.max_iter or patience.is_lost(steps):
                return state, steps
            limited = self._limit(structure, step, here, self.max_change)
            if not np.any(limited):
                return state, steps
            theta = theta + limited

    def solve(self, bilevel, state, structure, rtol, value_rtol=np.inf, warm=False):
        """``sid.solve`` with this descent's limits: the state, and an Estimate whose hypergradient is accurate to rtol."""
        return solve(
            bilevel.problem,
            bilevel.solver,
            state,
            rtol=rtol,
            value_tol=self.tol,
            value_rtol=value_rtol,
            max_epochs=self.max_epochs,
            project=structure.pull_back,
            warm=warm,
        )

    def _is_done(self, step, gradient, value):
        """Whether the model expects no more than a relative decrease of ``tol``."""
        return 0.5 * abs(gradient @ step) <= self.tol * max(value, 1e-2)

    def _run_many(self, bilevel, state, structure, log_penalties, on_step):
        optimiser = Momentum()
        memory, steps, patience = optimiser.init(structure.n_params), [], Patience(self.n_iter_no_change, self.tol)
        theta, offset = structure.start(log_penalties)
        while True:
            since = time.perf_counter(), state.n_epochs
            here = within_range(offset + structure.change(theta))
            state = bilevel.solver.rescale(bilevel.problem, state, here)
            state = bilevel.solver.advance(bilevel.problem, state, 0.5)
            gradient = structure.pull_back(bilevel.solver.log_gradient(bilevel.problem, state))
            losses = bilevel.solver.losses(bilevel.problem, state)
            steps.append(bilevel.record(structure, theta, here, state, losses, gradient, since))
            if on_step(steps[-1], state) or patience.is_lost(steps) or len(steps) >= self.max_iter:
                return state, steps
            step, memory = optimiser.update(memory, theta, gradient, None, None)
            theta = theta + self._limit(structure, step, here, 0.2 * self.max_change)

    @staticmethod
    def _limit(structure, step, here, max_change):
        """The step, shortened so that no log λ_j moves further than ``max_change``, nor all of them out of range."""
        change = structure.change(step)
        longest = np.max(np.abs(change), initial=0.0)
        penalized = np.isfinite(here)
        here, change = here[penalized], change[penalized]
        outward = np.all((here + change < LOG_PENALTY_RANGE[0]) & (here <= LOG_PENALTY_RANGE[0])) or np.all(
            (here + change > LOG_PENALTY_RANGE[1]) & (here >= LOG_PENALTY_RANGE[1])
        )
        if outward or not np.isfinite(longest):
            return np.zeros_like(step)
        return step * min(1.0, max_change / longest) if longest > 0 else step


# ---- the ladder -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Climb:
    """Where the ladder has led.

    Attributes
    ----------
    state
        The solver's state at the penalties that were tried last.
    steps : list of Step
        The history of all rungs.
    structures : list of Structure
        The rung of each step.
    best : int
        The best step.
    """

    state: object
    steps: list
    structures: list
    best: int


def climb(bilevel, state, rungs, descent, on_step, top=None):
    """Descend on each rung in turn, from the best step of the one below; keep a rung only if its criterion is better.

    A rung with a ``shift`` begins where the first one began: one penalty for all may have led to where nothing is left to see.

    At the end of a rung its best step is solved once more, to convergence, and recorded as the rung's last step: what a
    lagging state has promised must hold.

    Parameters
    ----------
    bilevel : Bilevel
    state
        The solver's state at the log penalties to start from.
    rungs : list of Structure
        From the coarsest to the one that was asked for.
    descent : Descent
    on_step : callable
        Told of every Step, and of the solver's state that it was made of; true stops the search.
    top : ndarray of shape (n_features,), default=None
        Log penalties from which the last rung starts, where they are not those of the best step below it.
    """
    steps, structures, best, stopped, origin = [], [], None, False, state.log_penalties.copy()

    def told(step, state):
        nonlocal stopped
        stopped = bool(on_step(step, state)) or stopped
        return stopped

    for rung, structure in enumerate(rungs):
        roughly = 0 < rung < len(rungs) - 1 and not has_few(rungs[-1])
        start = origin if best is None or structure.shift is not None else steps[best].log_penalties
        if top is not None and rung == len(rungs) - 1:
            start = top
        state, own = descent.run(bilevel, state, structure, start, told, roughly)
        chosen = min(range(len(own)), key=lambda i: own[i].criterion)
        if not has_few(structure) or roughly:
            state, confirmed = _confirm(bilevel, state, structure, own[chosen], descent)
            own.append(confirmed)
            chosen = len(own) - 1
        chosen += len(steps)
        steps.extend(own)
        structures.extend([structure] * len(own))
        if best is None or steps[chosen].criterion < steps[best].criterion:
            best = chosen
        if stopped:
            break
    return Climb(state, steps, structures, best)


def _confirm(bilevel, state, structure, step, descent):
    since = time.perf_counter(), state.n_epochs
    state = bilevel.solver.rescale(bilevel.problem, state, step.log_penalties)
    state, estimate = descent.solve(bilevel, state, structure, descent.inner_tol, value_rtol=descent.tol)
    gradient = structure.pull_back(estimate.log_gradient)
    return state, bilevel.record(structure, step.theta, step.log_penalties, state, estimate.losses, gradient, since)


def ladder(structure, between=()):
    """The rungs that lead to a structure: the shared penalty, those ``between``, itself."""
    return [structure] if structure.name == "shared" else [shared(structure.n_features), *between, structure]
