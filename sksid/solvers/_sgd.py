"""The paper's solvers: stochastic fixed-point iterations for the lower level, then for the linear system.

Algorithm 1 of Grazzi, Pontil, Salzo (AISTATS 2021), Eqs. (18) to (21), with Φ(w) = w − α∇f(w) and f the lower level divided by
the split's total training weight S (see ``sksid.bounds``, whose theorems bound the errors).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sksid import bounds
from sksid._kernels import _sgd as kernels
from sksid._kernels._layout import sgd_outputs, sgd_width
from sksid.objective import log_gradient
from sksid.problem import TRAIN, Problem
from sksid.solvers._contract import Progress, check_finite, is_count, is_positive, require

WORK_PER_CALL = 2e8  # multiply-adds in one kernel call: some tenths of a second, so that Ctrl-C soon takes effect
LOWER, ADJOINT = 0, 1


@dataclass(frozen=True)
class Steps:
    """Minibatches and step sizes of one of the two systems: w ← (1 − η_i) w + η_i Φ̂(w).

    Parameters
    ----------
    rule : {"decreasing", "constant"}, default="decreasing"
        η_i = β/(γ + i), or β/γ throughout.
    batch_size : int or inf, default=None
        Rows of one step; None is a hundredth of the training rows, and more than there are is all of them.
    beta, gamma : float, default=None
        None is β = 2/(1 − q²) and γ = β(1 + σ₂), from the problem's L and μ at each λ (``bounds.decreasing``). σ₂ = 0 for the
        lower level, whose gradients are bounded, and for "Batch": the paper's choice. For the linear system σ₂ is ours: its
        noise grows with v, and with small minibatches it would outgrow the contraction; σ₂ = R/(bL), with b the batch size and
        R the largest curvature of one row at w (``bounds.row_curvature``), is less than Theorem 4.3 asks for, which would take
        far smaller steps (``bounds.decreasing(constants.linear_system)``).

    Examples
    --------
    >>> Steps(batch_size=50).per_epoch(n_rows=1000)
    20
    """

    rule: str = "decreasing"
    batch_size: float | None = None
    beta: float | None = None
    gamma: float | None = None

    def __post_init__(self):
        require(self, lambda x: x in ("decreasing", "constant"), "Set 'decreasing' or 'constant'.", "rule")
        remedy = "Set a whole number of rows, np.inf for all, or None for a hundredth of them."
        require(self, lambda x: x is None or x == np.inf or is_count(x), remedy, "batch_size")
        remedy = "Set a positive number, or None for what the problem's curvature makes it."
        require(self, lambda x: x is None or is_positive(x), remedy, "beta", "gamma")

    def per_epoch(self, n_rows: int) -> int:
        """Steps in one epoch of so many rows: (n_rows / batch_size), at least one."""
        batch = max(1, n_rows / 100) if self.batch_size is None else min(self.batch_size, n_rows)
        return max(1, round(n_rows / batch))

    def sizes(self, curvature: bounds.Curvature, first: int, n_steps: int) -> NDArray:
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

    ``tables`` is (2, n_splits, n_features + 1, width): for the lower level and the adjoint, rows of [W_j or V_j | λ_j/S | the
    kernel's step], the intercept last. ``marks`` are W and V, without intercepts, at one and two thirds of the last budget.
    ``epochs`` counts those of either system since λ changed; ``data_curvatures`` is the part of L that does not depend on λ.
    """

    tables: NDArray
    marks: NDArray
    log_penalties: NDArray
    data_curvatures: NDArray
    losses: NDArray
    residuals: NDArray
    error_bounds: NDArray
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
        Minibatches from a new order of the rows in each epoch, which is ours, or drawn independently, as the theorems have
        them. A step on all rows takes each once.
    warm : bool, default=True
        Whether a change of λ keeps w and v as the next start, which is ours, or starts at zero, as the theorems do.
    averaging : bool, default=False
        Whether the lower level ends at the mean of its iterates at the ends of the last half of its epochs; ours.

    Notes
    -----
    ``Sgd(sampling="iid", warm=False)`` on a problem without an intercept is the paper's algorithm, but for the adjoint's σ₂
    (see Steps). With the theorems' steps in both systems, errors are below ``sksid.bounds``.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid import hypergradient
    >>> from sksid.solvers import BATCH, Sgd
    >>> X, y = np.eye(6) + 1.0, np.array([0, 1, 0, 1, 0, 1])
    >>> splits = [(np.arange(4), np.arange(4, 6))]
    >>> batch = Sgd(BATCH, BATCH, lower_epochs=15, adjoint_epochs=5)
    >>> hypergradient(X, y, splits, log_penalties=0.0, solver=batch, max_epochs=20).n_epochs
    20.0
    """

    lower_steps: Steps = Steps()
    adjoint_steps: Steps = Steps()
    lower_epochs: int = 10
    adjoint_epochs: int = 10
    sampling: str = "shuffle"
    warm: bool = True
    averaging: bool = False

    threads_itself = False
    precise = False  # the noise of its steps keeps it from the accuracy of a reported score
    takes_unpenalized = False  # its map contracts by the penalties
    takes_any_objective = takes_split_penalties = False

    def __post_init__(self):
        require(self, lambda x: isinstance(x, Steps), "Set BATCH or Steps(...).", "lower_steps", "adjoint_steps")
        require(self, is_count, "Set a whole number of epochs, at least 1.", "lower_epochs", "adjoint_epochs")
        require(self, lambda x: x in ("shuffle", "iid"), "Set 'shuffle' or 'iid'.", "sampling")
        require(self, lambda x: isinstance(x, bool), "Set True or False.", "warm", "averaging")

    def init(self, problem: Problem, log_penalties: NDArray, seed: int = 0, start: tuple | None = None) -> SgdState:
        """W = 0, v = 0, or those of ``start``."""
        if not (problem.train_totals > 0).all():
            raise ValueError("solver='sgd' needs training rows of positive weight in every split. Use other splits or weights.")
        n_splits, n_features, n_outputs = problem.n_splits, problem.n_features, problem.n_outputs
        state = SgdState(
            tables=np.zeros((2, n_splits, n_features + 1, sgd_width(n_outputs)), dtype=problem.dtype),
            marks=np.zeros((2, 2, n_splits, n_features, sgd_outputs(n_outputs)), dtype=problem.dtype),
            log_penalties=np.array(log_penalties, dtype=np.float64),
            data_curvatures=np.array([bounds.data_curvature(problem, k) for k in range(n_splits)]),
            losses=np.full(n_splits, np.nan),
            residuals=np.full(n_splits, np.inf),
            error_bounds=np.full(n_splits, np.inf),
            random=np.random.RandomState(seed),
        )
        for table, (coef, intercept) in zip(state.tables, start or (), strict=False):
            table[:, :-1, :n_outputs] = np.transpose(coef, (0, 2, 1))
            table[:, -1, :n_outputs] = intercept
        return _set_rates(problem, state)

    def advance(self, problem: Problem, state: SgdState, n_epochs: float = 1.0) -> SgdState:
        """Algorithm 1 on every split; any ``n_epochs`` is one budget."""
        for split in range(problem.n_splits):
            self._advance_split(problem, state, split)
        state.epochs = [state.epochs[LOWER] + self.lower_epochs, state.epochs[ADJOINT] + self.adjoint_epochs]
        state.n_epochs += self.lower_epochs + self.adjoint_epochs
        check_finite(state.tables, "sgd")
        return state

    def _advance_split(self, problem, state, split):
        rows, total = np.flatnonzero(problem.roles.role[:, split] == TRAIN), problem.train_totals[split]
        curvature = bounds.curvature(problem, split, state.log_penalties, state.data_curvatures[split])
        weights = problem.roles.train_weights(split)
        shares = (weights * (rows.size / total)).astype(problem.dtype)
        self._iterate(problem, state, split, LOWER, rows, curvature, shares)
        predictions, right, gradient = _look(problem, state, split, weights)
        if (batch := rows.size / self.adjoint_steps.per_epoch(rows.size)) < rows.size:
            row = bounds.row_curvature(problem, split, predictions[:, : problem.n_outputs])
            curvature = replace(curvature, sigma2=row / (batch * curvature.L))
        offset = np.vstack([right[:-1] * np.exp(-state.log_penalties)[:, None], right[-1:] / total])
        level = {"proba": predictions, "offset": np.ascontiguousarray(offset, dtype=problem.dtype)}
        self._iterate(problem, state, split, ADJOINT, rows, curvature, shares, **level)
        state.error_bounds[split] = _error_bound(problem, state, split, weights, predictions, right, gradient)

    def _iterate(self, problem, state, split, side, rows, curvature, shares, **level):
        """All epochs of one of the two systems."""
        steps, n_epochs = ((self.lower_steps, self.lower_epochs), (self.adjoint_steps, self.adjoint_epochs))[side]
        table, n_steps = state.tables[side, split], steps.per_epoch(rows.size)
        starts = np.linspace(0, rows.size, n_steps + 1).round().astype(np.int64)
        per_call = _steps_per_call(problem, table, rows.size / n_steps)
        padded, ends = sgd_outputs(problem.n_outputs), 0.0
        averaged = n_epochs - n_epochs // 2 if self.averaging and side == LOWER else 0
        for epoch in range(n_epochs):
            for mark in (1, 2):
                if epoch == mark * n_epochs // 3:
                    state.marks[mark - 1, side, split] = table[:-1, :padded]
            order = self._draw(state.random, rows) if n_steps > 1 else rows
            eta = curvature.alpha * steps.sizes(curvature, (state.epochs[side] + epoch) * n_steps, n_steps)
            for first in range(0, n_steps, per_call):
                end = first + per_call
                kernels.descend(problem, split, table, shares, order, starts[first : end + 1], eta[first:end], **level)
            if epoch >= n_epochs - averaged:
                ends = ends + table[:, :padded] / averaged
        if averaged:
            table[:, :padded] = ends

    def _draw(self, random, rows):
        """The rows of one epoch's minibatches, in their order."""
        return random.permutation(rows) if self.sampling == "shuffle" else rows[random.randint(rows.size, size=rows.size)]

    def rescale(self, problem: Problem, state: SgdState, log_penalties: NDArray) -> SgdState:
        """New penalties: w and v stay, or begin at zero (``warm``), and the step sizes begin anew."""
        state.log_penalties = np.array(log_penalties, dtype=np.float64)
        state.epochs = [0, 0]
        state.tables = state.tables.astype(problem.dtype, copy=False)
        if not self.warm:
            state.tables[:] = 0
        return _set_rates(problem, state)

    def losses(self, problem: Problem, state: SgdState, rows: Problem | None = None) -> NDArray:
        """The validation loss of each split at w, (n_splits,); of other rows, where given."""
        if rows is None:
            return state.losses.copy()
        losses = []
        for split, table in enumerate(state.tables[LOWER]):
            outputs = rows.rows.outputs(table[:-1, : rows.n_outputs]) + table[-1, : rows.n_outputs]
            losses.append(rows.roles.val_weights(split) @ rows.loss.values(outputs.T, rows.roles.labels_of(split)))
        return np.array(losses, dtype=np.float64)

    def log_gradient(self, problem: Problem, state: SgdState) -> NDArray:
        """∂F/∂log λ, (n_features,), Eq. (4)."""
        return _log_gradient(problem, state, state.tables[:, :, :-1, : sgd_outputs(problem.n_outputs)])

    def progress(self, problem: Problem, state: SgdState) -> Progress:
        """The largest entry of the lower levels' gradients, per unit of weight; an error bound; two changes within the budget.

        The two are the changes of ∂F/∂log λ in the second and in the last third of the budget. An error that falls like 1/t
        is a third to four times what ``logistic.solve`` extrapolates from them; from the change of the last epoch alone it
        could not be estimated.
        """
        first, second = (_log_gradient(problem, state, mark) for mark in state.marks)
        here = self.log_gradient(problem, state)
        size = np.abs(here).sum()
        bound = float(state.error_bounds.mean() / size) if size > 0 else np.inf
        return Progress(float(state.residuals.max()), bound, changes=(second - first, here - second))

    def coefficients(self, problem: Problem, state: SgdState) -> tuple[NDArray, NDArray]:
        """W (n_splits, n_outputs, n_features) and b (n_splits, n_outputs), float64."""
        return _side(problem, state, LOWER)

    def adjoint(self, problem: Problem, state: SgdState) -> tuple[NDArray, NDArray]:
        """V and v in the same shapes."""
        return _side(problem, state, ADJOINT)


def _look(problem, state, split, weights):
    """At w: predictions (n_rows, padded), ∇₁E (n_features + 1, padded), and the lower level's gradient (…, n_outputs).

    Stores the split's loss and residual in the state.
    """
    K, padded, loss = problem.n_outputs, sgd_outputs(problem.n_outputs), problem.loss
    table, val = state.tables[LOWER, split], problem.roles.val_weights(split)
    labels = problem.roles.labels_of(split)
    outputs = problem.rows.outputs(table[:-1, :K]) + table[-1, :K]
    predictions = np.zeros((problem.n_rows, padded), dtype=problem.dtype)
    predictions[:, :K] = loss.predictions(outputs.T).T
    slopes = loss.gradient(predictions[:, :K].T, labels).T
    state.losses[split] = val @ loss.values(outputs.T, labels)
    pushed = np.hstack([slopes * val[:, None], slopes * weights[:, None]])
    last = pushed.sum(axis=0, keepdims=True, dtype=np.float64) * problem.fit_intercept
    pulled = np.vstack([problem.rows.pull(pushed), last])
    penalties = np.append(np.exp(state.log_penalties), 0.0)[:, None]
    lower = pulled[:, K:] + problem.penalty.gradient(table[:, :K], penalties)
    state.residuals[split] = np.abs(lower).max() / problem.train_totals[split]
    right = np.zeros((problem.n_features + 1, padded))
    right[:, :K] = pulled[:, :K]
    return predictions, right, lower


def _error_bound(problem, state, split, weights, predictions, right, gradient):
    """A bound on the error of Σ_j |λ_j W_j V_j|: the Λ-norm of δW is at most the Λ⁻¹-norm of its residual, and so for δV."""
    K, penalties = problem.n_outputs, np.exp(state.log_penalties)[:, None]
    W, V = (table[:, :K].astype(np.float64) for table in state.tables[:, split])
    adjoint = state.tables[ADJOINT, split]
    outputs = problem.rows.outputs(adjoint[:-1, :K]) + adjoint[-1, :K]
    bent = problem.loss.hessian_product(predictions[:, :K].T, outputs.T).T
    left = problem.rows.pull(weights[:, None] * bent) + penalties * V[:-1] - right[:-1, :K]
    scale = np.sqrt(penalties)
    errors = np.linalg.norm(gradient[:-1] / scale), np.linalg.norm(left / scale)
    sizes = np.linalg.norm(W[:-1] * scale), np.linalg.norm(V[:-1] * scale)
    return errors[LOWER] * sizes[ADJOINT] + errors[ADJOINT] * sizes[LOWER]


def _set_rates(problem, state):
    rates = np.exp(state.log_penalties) / problem.train_totals[:, None]
    state.tables[:, :, :-1, sgd_outputs(problem.n_outputs)] = rates
    return state


def _log_gradient(problem, state, sides):
    inner = np.sum(problem.penalty.inner(*sides), axis=(0, 2), dtype=np.float64)
    return log_gradient(state.log_penalties, inner, problem.n_splits)


def _side(problem, state, side):
    vectors = state.tables[side, :, :, : problem.n_outputs].astype(np.float64)
    return np.ascontiguousarray(vectors[:, :-1].transpose(0, 2, 1)), vectors[:, -1].copy()


def _steps_per_call(problem, table, batch):
    """The number of steps, of so many rows each, that one kernel call makes."""
    work = 2 * batch * (problem.rows.n_entries / problem.n_rows + 1) * table.shape[1]
    return int(np.clip(WORK_PER_CALL / work, 1, kernels.MAX_STEPS))
