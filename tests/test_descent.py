"""Optimizers on functions whose minimum is known, the descent on cross-validated losses, and its stages."""

from dataclasses import dataclass

import numpy as np
import pytest
from oracles import split_losses
from sklearn.model_selection import StratifiedKFold

from sksid.descent import Bilevel, Descent, best_of, compact
from sksid.optimizers import Momentum, QuasiNewton, Secant
from sksid.problem import make_problem
from sksid.solvers import Aid, Dual
from sksid.stages import continuation
from sksid.structures import groups, matrix, moments, per_feature, shared


def drive(optimizer, value, gradient, theta, n_steps):
    """The points that an optimizer visits."""
    points, memory = [np.atleast_1d(np.array(theta, dtype=float))], optimizer.init(np.size(theta))
    for _ in range(n_steps):
        here = points[-1]
        step, memory = optimizer.update(
            memory, here, gradient(here), float(np.sum(value(here))), lambda step: np.abs(step).max()
        )
        points.append(here + step)
    return np.array(points)


# ---- optimizers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [-9.0, 0.0, 2.9, 12.0])
@pytest.mark.parametrize(
    ("value", "slope"),
    [
        (lambda t: 0.5 * (t - 3) ** 2, lambda t: t - 3),
        (lambda t: np.log(np.cosh(t - 3)), lambda t: np.tanh(t - 3)),
        (lambda t: np.sqrt(1 + (t - 3) ** 4), lambda t: 2 * (t - 3) ** 3 / np.sqrt(1 + (t - 3) ** 4)),
        (lambda t: np.exp(t - 3) - t, lambda t: np.exp(t - 3) - 1),
    ],
    ids=["parabola", "log_cosh", "flat_bottom", "exponential"],
)
def test_secant_finds_the_root_of_the_derivative(value, slope, start):
    points = drive(Secant(), value, slope, start, 30)
    assert abs(slope(points[-1][0])) <= 1e-5
    assert np.abs(np.diff(points[:, 0])).max() <= Secant().longest * (1 + 1e-12)


def test_the_first_secant_step_is_as_long_as_the_slope_is_steep():
    lengths = []
    for slope in (0.01, 0.1, 0.5, 0.5e3):
        step, _ = Secant().update(Secant().init(1), np.zeros(1), np.array([slope]), 1.0 if slope < 1 else 1e3, np.max)
        lengths.append(-step[0])
    np.testing.assert_allclose(lengths, [0.5, 0.1 / 0.07, 2.5, 2.5])


def test_secant_stays_in_its_bracket():
    """A derivative with a jump defeats the secant; the bracket must shrink all the same."""
    points = drive(Secant(), abs, lambda t: np.where(t < 1.234, -1.0, 5.0), 0.0, 60)
    assert points[-1][0] == pytest.approx(1.234, abs=0.1)
    assert abs(points[-1][0] - points[-2][0]) < 0.2


@pytest.mark.parametrize("condition", [1.0, 30.0, 1000.0])
def test_quasi_newton_minimizes_a_quadratic(condition):
    rotation, _ = np.linalg.qr(np.random.RandomState(0).randn(4, 4))
    H = rotation @ np.diag(np.geomspace(1.0, condition, 4)) @ rotation.T
    target = np.array([1.0, -2.0, 3.0, 0.5])
    points = drive(
        QuasiNewton(), lambda t: 1 + 0.5 * (t - target) @ H @ (t - target), lambda t: H @ (t - target), np.zeros(4), 60
    )
    np.testing.assert_allclose(points[-1], target, atol=1e-5)


def test_quasi_newton_minimizes_rosenbrocks_valley():
    def value(t):
        return (1 - t[0]) ** 2 + 10 * (t[1] - t[0] ** 2) ** 2

    def gradient(t):
        return np.array([-2 * (1 - t[0]) - 40 * t[0] * (t[1] - t[0] ** 2), 20 * (t[1] - t[0] ** 2)])

    points = drive(QuasiNewton(tol=1e-12), value, gradient, [-1.2, 1.0], 120)
    np.testing.assert_allclose(points[-1], [1.0, 1.0], atol=1e-4)


def test_momentum_descends_and_leaves_features_without_signal_alone():
    target = np.r_[np.linspace(-1, 1, 20), np.zeros(20)]

    def gradient(t):
        return np.where(np.arange(40) < 20, t - target, 0.0)

    points = drive(Momentum(), lambda t: 0.5 * gradient(t) @ gradient(t), gradient, np.zeros(40), 150)
    assert np.abs(points[-1, :20] - target[:20]).max() <= 0.1
    np.testing.assert_array_equal(points[-1, 20:], 0.0)


def test_momentum_does_not_know_the_scale_of_the_loss():
    one, million = (drive(Momentum(), np.sum, lambda t, s=s: s * (t - 1), np.zeros(9), 20) for s in (1.0, 1e6))
    np.testing.assert_allclose(one, million, rtol=1e-9)
    assert not drive(Momentum(), np.sum, np.zeros_like, np.zeros(3), 5).any()


# ---- the descent --------------------------------------------------------------------------------------------------------


def bilevel_of(X, y, solver):
    splits = list(StratifiedKFold(3).split(X, y))
    return Bilevel(make_problem(X, y, splits, n_classes=y.max() + 1, dtype=np.float64), solver)


def run(bilevel, structure, start=0.0, **settings):
    state = bilevel.solver.init(bilevel.problem, np.full(bilevel.problem.n_features, start))
    return Descent(**settings).run(bilevel, state, structure, state.log_penalties)[1]


def aid_losses(bilevel, grid):
    """The criterion along a grid, by the exact solver."""
    solver, losses = Aid(tol=1e-10, first_tol=None), []
    state = solver.init(bilevel.problem, np.zeros(bilevel.problem.n_features))
    for log_penalty in grid:
        state = solver.rescale(bilevel.problem, state, np.full(bilevel.problem.n_features, log_penalty))
        state = solver.advance(bilevel.problem, state)
        losses.append(solver.losses(bilevel.problem, state).mean())
    return np.array(losses)


@pytest.mark.parametrize("solver", [Dual(), Aid()], ids=["dual", "aid"])
@pytest.mark.parametrize("start", [-5.0, 0.0, 6.0])
def test_shared_optimum_on_cancer_is_that_of_a_fine_grid(start, solver, cancer, cancer_optimum):
    X, y = cancer
    steps = run(bilevel_of(X, y, solver), shared(30), start)
    splits = list(StratifiedKFold(3).split(X, y))
    assert split_losses(X, y, splits, steps[-1].theta[0]).mean() == pytest.approx(cancer_optimum, rel=1e-3)
    assert len(steps) <= 12


def test_shared_optimum_on_digits_is_that_of_a_fine_grid(digits):
    X, y = digits[0][:200], digits[1][:200]
    best = aid_losses(bilevel_of(X, y, Aid()), np.linspace(-7, 1, 40)).min()
    for solver in (Dual(), Aid()):
        bilevel = bilevel_of(X, y, solver)
        ends = [run(bilevel, shared(64), start)[-1].theta[0] for start in (-4.0, 5.0)]
        np.testing.assert_allclose(aid_losses(bilevel, ends), best, rtol=1e-3)


def test_a_few_hyperparameters_reach_a_stationary_point(cancer):
    X, y = cancer
    A = np.column_stack([np.ones(30), np.linspace(-1, 1, 30)])
    for structure in (groups(np.arange(30) // 10), matrix(A), moments(X)):
        steps = run(bilevel_of(X, y, Aid()), structure)
        values = [step.value for step in steps]
        assert np.abs(steps[int(np.argmin(values))].gradient).max() <= 0.03 * min(values)
        assert min(values) < values[0]


@pytest.mark.parametrize("structure", [shared(30), groups(np.arange(30) // 10), per_feature(30)], ids=lambda s: s.name)
def test_no_log_penalty_moves_further_than_the_limit(structure, cancer):
    """A fifth of ``max_change`` for many hyperparameters; for a few, twice that on the way back from a worse point."""
    steps = run(bilevel_of(*cancer, Aid()), structure, start=8.0, max_change=0.7, max_iter=12)
    moves = np.abs(np.diff([step.log_penalties for step in steps], axis=0)).max(axis=1)
    limit, back = (0.7, 1.4) if structure.is_few else (0.14, 0.14)
    assert moves[0] <= limit * (1 + 1e-12)
    assert moves.max() <= back * (1 + 1e-12)


def test_penalties_stay_in_range_where_the_optimum_is_infinite(cancer):
    """On noise no penalty is too strong."""
    random = np.random.RandomState(0)
    X, y = random.randn(200, 5), np.arange(200) % 2
    bilevel = bilevel_of(X, y, Aid())
    steps = run(bilevel, shared(5), start=3.0, tol=1e-12)
    log_penalties, (low, high) = np.array([step.log_penalties for step in steps]), bilevel.log_range
    assert (log_penalties >= low).all()
    assert (log_penalties <= high).all()
    assert steps[-1].value == pytest.approx(np.log(2), rel=2e-2)


def test_max_iter_and_the_callers_word_end_the_descent(cancer):
    bilevel = bilevel_of(*cancer, Aid())
    for structure in (shared(30), groups(np.arange(30) // 10), per_feature(30)):
        assert len(run(bilevel, structure, start=9.0, max_iter=2)) == 2
        state = bilevel.solver.init(bilevel.problem, np.full(30, 9.0))
        _, steps = Descent().run(bilevel, state, structure, state.log_penalties, lambda step, state: True)
        assert len(steps) == 1


@dataclass(frozen=True)
class Downhill:
    """A toy optimizer: a step of fixed length against the gradient, halved where F has grown."""

    length: float = 1.0
    inexact = False

    def init(self, n_params):
        return np.inf, self.length

    def update(self, memory, theta, gradient, value, reach):
        length = memory[1] if value <= memory[0] else 0.5 * memory[1]
        return -length * gradient / max(reach(gradient), 1e-300), (value, length)

    def slack(self, memory):
        return 1.0

    def may_end(self, memory):
        return memory[1] < 0.1


@pytest.mark.parametrize("structure", [shared(30), per_feature(30)], ids=lambda s: s.name)
def test_the_descent_takes_an_optimizer_of_ones_own(structure, cancer, cancer_optimum):
    bilevel = bilevel_of(*cancer, Aid())
    steps = run(bilevel, structure, start=6.0, optimizer=Downhill())
    assert steps[-1].value <= cancer_optimum * (1 + 1e-2)
    state = bilevel.solver.init(bilevel.problem, np.full(30, 6.0))
    path = continuation(bilevel, state, structure.stages(), Descent(optimizer=Downhill()))
    assert path.chosen.value <= cancer_optimum * (1 + 1e-2)


# ---- stages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [Dual(), Aid()], ids=["dual", "aid"])
def test_a_continuation_keeps_the_best_confirmed_step(solver, cancer):
    X, y = cancer
    bilevel = bilevel_of(X, y, solver)
    state, seen = solver.init(bilevel.problem, np.zeros(30)), []
    path = continuation(bilevel, state, per_feature(30).stages(), Descent(max_iter=25), lambda step, state: seen.append(step))
    assert seen == path.steps
    names = [step.structure.name for step in path.steps]
    confirmed = [i for i, name in enumerate(names) if name == "shared"] + [len(path.steps) - 1]
    assert path.chosen.value == min(path.steps[i].value for i in confirmed if not path.steps[i].rough)
    assert path.chosen is path.steps[path.best]
    np.testing.assert_array_equal(path.state.log_penalties, path.chosen.log_penalties)
    shared, per_feature_ = path.stages
    assert np.isnan(shared.gain) and per_feature_.gain > 0 and per_feature_.kept


def test_a_stage_that_gains_less_than_its_noise_is_not_kept(cancer):
    bilevel = bilevel_of(*cancer, Aid())
    stages, descent = per_feature(30).stages(), Descent(max_iter=10)
    state = bilevel.solver.init(bilevel.problem, np.zeros(30))
    path = continuation(bilevel, state, stages, descent, margin=1e6)
    assert path.chosen.structure.name == "shared"
    assert [stage.kept for stage in path.stages] == [True, False]


def test_a_stage_that_is_stopped_is_confirmed_and_the_last(cancer):
    bilevel = bilevel_of(*cancer, Aid())
    state = bilevel.solver.init(bilevel.problem, np.zeros(30))
    stages = [per_feature(30), shared(30)]
    path = continuation(bilevel, state, stages, Descent(), lambda step, state: True)
    assert [step.structure.name for step in path.steps] == ["per_feature", "per_feature"]
    assert path.best == 1


# ---- rough steps ----------------------------------------------------------------------------------------------------------


def test_steps_on_the_way_are_rough_and_the_last_one_is_not(cancer):
    steps = run(bilevel_of(*cancer, Dual()), shared(30), start=6.0)
    assert [step.rough for step in steps] == [True] * (len(steps) - 1) + [False]
    assert best_of(steps) == len(steps) - 1


def test_a_history_keeps_equal_penalties_as_one_number():
    many = compact(np.full(1000, 0.5))
    np.testing.assert_array_equal(many, np.full(1000, 0.5))
    assert many.base.size == 1
    assert compact(np.arange(3.0)).base is None
