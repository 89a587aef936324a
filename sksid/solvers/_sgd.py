"""The paper's solvers: stochastic fixed-point iterations for the lower level, then for the linear system.

Algorithm 1 of Grazzi, Pontil, Salzo (AISTATS 2021), with Φ(w) = w − α∇f(w) and f the lower level divided by the split's total
training weight S (see ``sksid.bounds``, whose theorems bound the errors).
"""

from dataclasses import dataclass, field, replace

import numpy as np

from sksid import bounds
from sksid._kernels import _sgd as kernels
from sksid.losses import probabilities, row_losses, targets
from sksid.problem import TRAIN
from sksid.solvers._aid import Aid
from sksid.solvers._base import check_finite, is_count, is_positive, mean_model, require

WORK_PER_CALL = 2e8  # multiply-adds in one kernel call: some tenths of a second, after which Ctrl-C is heard
VEC = 8  # lanes are padded to a multiple of this
LOWER, ADJOINT = 0, 1


@dataclass(frozen=True)
class Steps:
    """Minibatches and step sizes of one of the two systems: w ← (1 − η_i) w + η_i Φ̂(w).

    Parameters
    ----------
    rule : {"decreasing", "constant"}, default="decreasing"
        η_i = β/(γ + i), or β/γ throughout.
    batch_size : int, default=None
        Rows of one step; None is a hundredth of the training rows, and more than there are is all of them.
    beta, gamma : float, default=None
        None is the paper's choice, β = 2/(1 − q²) and γ = β(1 + σ₂), from the problem's L and μ at each λ
        (``bounds.decreasing``). σ₂ = 0 for the lower level, whose gradients are bounded, and for "Batch". The noise of the
        linear system grows with v, and with small minibatches it would outgrow the contraction: there σ₂ = R/(bL), with b
        the batch size and R the largest curvature of one row at w (``bounds.row_curvature``).
    """

    rule: str = "decreasing"
    batch_size: int | None = None
    beta: float | None = None
    gamma: float | None = None

    def __post_init__(self):
        require(self, lambda x: x in ("decreasing", "constant"), "Set 'decreasing' or 'constant'.", "rule")
        remedy = "Set a whole number of rows, np.inf for all, or None for a hundredth of them."
        require(self, lambda x: x is None or x == np.inf or is_count(x), remedy, "batch_size")
        remedy = "Set a positive number, or None for the paper's choice."
        require(self, lambda x: x is None or is_positive(x), remedy, "beta", "gamma")

    def per_epoch(self, n_rows):
        """Steps in one epoch of so many rows: (n_rows / batch_size), at least one."""
        batch = max(1, n_rows / 100) if self.batch_size is None else min(self.batch_size, n_rows)
        return max(1, round(n_rows / batch))

    def sizes(self, curvature, first, n_steps):
        """η_i of the steps first..first + n_steps - 1: (n_steps,)."""
        beta, gamma = bounds.decreasing(curvature)
        beta, gamma = self.beta or beta, self.gamma or gamma
        if self.rule == "constant":
            return np.full(n_steps, beta / gamma)
        return beta / (gamma + first + np.arange(n_steps))


BATCH = Steps(rule="constant", batch_size=np.inf)


@dataclass
class SgdState:
    """Where the stochastic iterations stand.

    ``tables`` is (2, n_splits, n_features + 1, width): for the lower level and the adjoint, rows [lanes | λ_j/S | the kernel's
    step], the intercept last. ``marks`` are their lanes, without the intercept's, at one and two thirds of the last budget.
    ``epochs`` counts those of either system since λ changed; ``data_curvatures`` is the part of L that does not depend on λ.
    """

    tables: np.ndarray
    marks: np.ndarray
    log_penalties: np.ndarray
    data_curvatures: np.ndarray
    losses: np.ndarray
    residuals: np.ndarray
    random: np.random.RandomState
    epochs: list = field(default_factory=lambda: [0, 0])
    n_epochs: float = 0.0


@dataclass(frozen=True)
class Sgd:
    """The stochastic solver's settings. An epoch is as many rows as the split trains on, for either system.

    One ``advance`` is Algorithm 1: ``lower_epochs`` on the lower level, then ``adjoint_epochs`` on the linear system at the w
    reached, ∇₁E taken once on all validation rows. Further calls at the same λ go on with both, and with their step sizes.

    Parameters
    ----------
    lower_steps, adjoint_steps : Steps
        Of the two systems. ``Sgd(BATCH, BATCH)`` is the paper's "Batch".
    lower_epochs, adjoint_epochs : int, default=10
        The budget of one hypergradient: 15 and 5 is the paper's 75%/25%.
    sampling : {"shuffle", "iid"}, default="shuffle"
        Minibatches from a new order of the rows in each epoch, or drawn independently, as the theorems have them. A step on
        all rows takes each once.
    warm : bool, default=True
        Whether a change of λ keeps w and v as the next start, or starts at zero.
    averaging : bool, default=False
        Whether the lower level ends at the mean of its iterates at the ends of the last half of its epochs.
    """

    lower_steps: Steps = Steps()
    adjoint_steps: Steps = Steps()
    lower_epochs: int = 10
    adjoint_epochs: int = 10
    sampling: str = "shuffle"
    warm: bool = True
    averaging: bool = False

    exact = False

    def __post_init__(self):
        require(self, lambda x: isinstance(x, Steps), "Set BATCH or Steps(...).", "lower_steps", "adjoint_steps")
        require(self, is_count, "Set a whole number of epochs, at least 1.", "lower_epochs", "adjoint_epochs")
        require(self, lambda x: x in ("shuffle", "iid"), "Set 'shuffle' or 'iid'.", "sampling")
        require(self, lambda x: isinstance(x, bool), "Set True or False.", "warm", "averaging")

    def init(self, problem, log_penalties, seed=0, start=None):
        """W = 0, v = 0, or those of ``start``."""
        if not (problem.train_totals > 0).all():
            raise ValueError("solver='sgd' needs training rows of positive weight in every split. Use other splits or weights.")
        lanes = _lanes(problem)
        width = -(-(lanes + 2) // VEC) * VEC if lanes > 1 else 4
        state = SgdState(
            tables=np.zeros((2, problem.n_splits, problem.n_features + 1, width), dtype=problem.dtype),
            marks=np.zeros((2, 2, problem.n_splits, problem.n_features, lanes), dtype=problem.dtype),
            log_penalties=np.array(log_penalties, dtype=np.float64),
            data_curvatures=np.array([bounds.data_curvature(problem, k) for k in range(problem.n_splits)]),
            losses=np.full(problem.n_splits, np.nan),
            residuals=np.full(problem.n_splits, np.inf),
            random=np.random.RandomState(seed),
        )
        for table, (coef, intercept) in zip(state.tables, start or (), strict=False):
            table[:, :-1, : problem.n_outputs] = np.transpose(coef, (0, 2, 1))
            table[:, -1, : problem.n_outputs] = intercept
        return self._set_rates(problem, state)

    def _set_rates(self, problem, state):
        if not np.isfinite(state.log_penalties).all():
            raise ValueError(
                "solver='sgd' needs a penalty on every feature: its map contracts by them. Set solver='dual' or 'aid'."
            )
        rates = np.exp(state.log_penalties) / problem.train_totals[:, None]
        state.tables[:, :, :-1, _lanes(problem)] = rates
        return state

    def advance(self, problem, state, n_epochs=1.0):
        """Algorithm 1 on every split; any ``n_epochs`` is one budget."""
        for split in range(problem.n_splits):
            self._advance_split(problem, state, split)
        state.epochs = [state.epochs[LOWER] + self.lower_epochs, state.epochs[ADJOINT] + self.adjoint_epochs]
        state.n_epochs += self.lower_epochs + self.adjoint_epochs
        check_finite(state.tables, "sgd")
        return state

    def _advance_split(self, problem, state, split):
        rows, total = np.flatnonzero(problem.roles[:, split] == TRAIN), problem.train_totals[split]
        curvature = bounds.curvature(problem, split, state.log_penalties, state.data_curvatures[split])
        weights = problem.train_weights(split)
        shares = (weights * (rows.size / total)).astype(problem.dtype)
        self._iterate(problem, state, split, LOWER, rows, curvature, shares)
        proba, right = self._look(problem, state, split, weights)
        if (batch := rows.size / self.adjoint_steps.per_epoch(rows.size)) < rows.size:
            row = bounds.row_curvature(problem, split, proba[:, : problem.n_outputs])
            curvature = replace(curvature, sigma2=row / (batch * curvature.L))
        offset = np.vstack([right[:-1] * np.exp(-state.log_penalties)[:, None], right[-1:] / total])
        level = {"proba": proba, "offset": np.ascontiguousarray(offset, dtype=problem.dtype)}
        self._iterate(problem, state, split, ADJOINT, rows, curvature, shares, **level)

    def _iterate(self, problem, state, split, side, rows, curvature, shares, **level):
        """All epochs of one of the two systems."""
        steps, n_epochs = ((self.lower_steps, self.lower_epochs), (self.adjoint_steps, self.adjoint_epochs))[side]
        table, n_steps = state.tables[side, split], steps.per_epoch(rows.size)
        starts = np.linspace(0, rows.size, n_steps + 1).round().astype(np.int64)
        per_call = _steps_per_call(problem, table, rows.size / n_steps)
        lanes, ends = _lanes(problem), 0.0
        averaged = n_epochs - n_epochs // 2 if self.averaging and side == LOWER else 0
        for epoch in range(n_epochs):
            for mark in (1, 2):
                if epoch == mark * n_epochs // 3:
                    state.marks[mark - 1, side, split] = table[:-1, :lanes]
            order = self._draw(state.random, rows) if n_steps > 1 else rows
            eta = curvature.alpha * steps.sizes(curvature, (state.epochs[side] + epoch) * n_steps, n_steps)
            for first in range(0, n_steps, per_call):
                end = first + per_call
                kernels.descend(problem, table, shares, order, starts[first : end + 1], eta[first:end], **level)
            if epoch >= n_epochs - averaged:
                ends = ends + table[:, :lanes] / averaged
        if averaged:
            table[:, :lanes] = ends

    def _draw(self, random, rows):
        """The rows of one epoch's minibatches, in their order."""
        return random.permutation(rows) if self.sampling == "shuffle" else rows[random.randint(rows.size, size=rows.size)]

    def _look(self, problem, state, split, weights):
        """At w: the probabilities (n_rows, lanes), and ∇₁E (n_features + 1, lanes); the split's loss and residual are kept."""
        K, lanes = problem.n_outputs, _lanes(problem)
        table, val = state.tables[LOWER, split], problem.val_weights(split)
        scores = problem.matrix @ table[:-1, :K] + table[-1, :K]
        proba = np.zeros((problem.n_rows, lanes), dtype=problem.dtype)
        proba[:, :K] = probabilities(scores)
        off = proba[:, :K] - targets(problem.labels, K).astype(problem.dtype)
        state.losses[split] = val @ row_losses(scores, problem.labels)
        pushed = np.hstack([off * val[:, None], off * weights[:, None]])
        last = pushed.sum(axis=0, keepdims=True, dtype=np.float64) * problem.fit_intercept
        pulled = np.vstack([problem.matrix.T @ pushed, last])
        lower = pulled[:, K:] + np.append(np.exp(state.log_penalties), 0.0)[:, None] * table[:, :K]
        state.residuals[split] = np.abs(lower).max() / problem.train_totals[split]
        right = np.zeros((problem.n_features + 1, lanes))
        right[:, :K] = pulled[:, :K]
        return proba, right

    def rescale(self, problem, state, log_penalties):
        """New penalties: w and v stay, or begin at zero (``warm``), and the step sizes begin anew."""
        state.log_penalties = np.array(log_penalties, dtype=np.float64)
        state.epochs = [0, 0]
        if not self.warm:
            state.tables[:] = 0
        return self._set_rates(problem, state)

    def convert(self, problem, state):
        """The state in the precision of ``problem``."""
        tables, marks = state.tables.astype(problem.dtype), state.marks.astype(problem.dtype)
        return self._set_rates(problem, replace(state, tables=tables, marks=marks))

    def reported(self, problem, log_penalties):
        """The problem itself: rounding is nothing beside the noise of the steps."""
        return problem

    def refit(self, problem, split_problem, state, log_penalties, tol, max_epochs, columns=None):
        """One fit on all rows, by Newton steps from the splits' mean w: a stochastic one would not reach ``tol``."""
        start = mean_model(*self.coefficients(split_problem, state), columns, problem.n_features)
        return Aid().refit_from(problem, start, log_penalties, tol)

    def losses(self, problem, state):
        """The validation loss of each split at w."""
        return state.losses.copy()

    def losses_on(self, problem, state, rows):
        """The weighted mean loss of each split's model on other rows, a Problem of their own with one validation role."""
        losses = []
        for split, table in enumerate(state.tables[LOWER]):
            scores = rows.matrix @ table[:-1, : rows.n_outputs] + table[-1, : rows.n_outputs]
            losses.append(rows.val_weights(split) @ row_losses(scores, rows.labels))
        return np.array(losses, dtype=np.float64)

    def log_gradient(self, problem, state):
        """−λ_j/n_splits Σ ⟨W_j, V_j⟩ over the splits."""
        return self._contract(problem, state, state.tables[:, :, :-1, : _lanes(problem)])

    def recent_changes(self, problem, state):
        """What the second and the last third of a budget have changed in ∂F/∂log λ: [(n_features,), (n_features,)].

        An error that falls like 1/t is a third to four times what ``sid.solve`` extrapolates from them; what the last epoch
        has changed would tell little of it.
        """
        first, second = (self._contract(problem, state, mark) for mark in state.marks)
        return [second - first, self.log_gradient(problem, state) - second]

    @staticmethod
    def _contract(problem, state, sides):
        inner = np.einsum("kjc,kjc->j", sides[LOWER], sides[ADJOINT], dtype=np.float64)
        return -np.exp(state.log_penalties) / problem.n_splits * inner

    def residual(self, problem, state):
        """The largest entry of the lower levels' gradients, per unit of weight."""
        return float(state.residuals.max())

    def coefficients(self, problem, state):
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs), float64."""
        return self._side(problem, state, LOWER)

    def adjoint(self, problem, state):
        """V and v in the same shapes."""
        return self._side(problem, state, ADJOINT)

    @staticmethod
    def _side(problem, state, side):
        lanes = state.tables[side, :, :, : problem.n_outputs].astype(np.float64)
        return np.ascontiguousarray(lanes[:, :-1].transpose(0, 2, 1)), lanes[:, -1].copy()


def _steps_per_call(problem, table, batch):
    """How many steps of so many rows one kernel call takes; Ctrl-C is heard after it."""
    work = 2 * batch * (problem.values.size / problem.n_rows + 1) * table.shape[1]
    return int(np.clip(WORK_PER_CALL / work, 1, kernels.MAX_STEPS))


def _lanes(problem):
    return 1 if problem.n_outputs == 1 else -(-problem.n_outputs // VEC) * VEC
