"""The kernels on layouts that nobody thought of: valid ones give finite numbers, broken ones are refused before any is read."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sksid._kernels import _dual, _layout, _sgd

REALS = [np.float32, np.float64]
FEW = {"max_examples": 60, "derandomize": True, "database": None, "deadline": None, "suppress_health_check": [*HealthCheck]}
MANY = settings(**{**FEW, "max_examples": max(60, settings.default.max_examples)})


def layout(seed):
    """A problem and a state of random shapes, empty ones among them; entries, labels and roles are in range."""
    rng = np.random.RandomState(seed)
    n, p, F, K = (int(rng.choice(sizes)) for sizes in ([0, 1, 2, 9, 33], [1, 2, 5, 17], [1, 2, 3, 8, 9], [2, 3, 7, 21]))
    dense, n_sides, real, values = rng.randint(2), rng.randint(1, 3), REALS[rng.randint(2)], REALS[rng.randint(2)]
    lengths = np.full(n, p) if dense else rng.randint(0, p + 1, n)
    indptr = np.append(0, np.cumsum(lengths)).astype(np.int64)
    columns = np.concatenate([np.sort(rng.permutation(p)[:length]) for length in lengths] or [np.empty(0)])
    rows = SimpleNamespace(
        values=(rng.standard_normal(indptr[-1]) * 10.0 ** rng.randint(-3, 4)).astype(values),
        columns=None if dense else _layout.as_columns(columns.astype(np.int64), p),
        indptr=indptr,
        n_features=p,
    )
    per_split = n and rng.randint(2)
    roles = SimpleNamespace(
        labels=rng.randint(K, size=(n, F if per_split else 1)).astype(np.int32),
        role=rng.randint(3, size=(n, F)).astype(np.int8),
        weights=rng.uniform(0, 2, n) if rng.randint(2) else np.broadcast_to(1.0, n),
        train_scale=rng.uniform(0.1, 2, (K, F)),
        val_scale=rng.uniform(0.0, 1, F),
    )
    n_outputs = 1 if K == 2 else K
    settings = {"n_splits": F, "n_outputs": n_outputs, "fit_intercept": bool(rng.randint(2))}
    problem = SimpleNamespace(rows=rows, roles=roles, **settings)
    return problem, state_of(problem, n_sides, real, rng), rng


def state_of(problem, n_sides, real, rng):
    n, p = problem.rows.indptr.size - 1, problem.rows.n_features
    used, n_inverses = n_sides * problem.n_splits * problem.n_outputs, problem.n_splits if rng.randint(4) == 0 else 1
    unpenalized = np.sort(rng.permutation(p)[: rng.randint(p)]).astype(np.int64)
    table = np.zeros((p + 1, _layout.dual_width(used, real, n_inverses)), dtype=real)
    table[:, used : used + n_inverses] = rng.uniform(0.1, 2.0)
    return SimpleNamespace(
        table=table,
        duals=np.zeros((n, n_sides, used // n_sides), dtype=real),
        residuals=np.zeros((n, 2), dtype=real),
        imbalance=np.zeros((n_sides, used // n_sides)),
        reference_step=0.5 / max(n, 1),
        n_inverses=n_inverses,
        unpenalized=unpenalized,
        reference=np.zeros((unpenalized.size, used), dtype=real),
    )


def check(problem):
    _layout.check_rows(problem.rows.values, problem.rows.columns, problem.rows.indptr, problem.rows.n_features)
    _layout.check_roles(problem.roles.labels, problem.roles.role, problem.roles.train_scale.shape[0])


def calls(problem, state, rng):
    """Every call of the kernels, with blocks, ranges and steps that fit."""
    n, p = problem.rows.indptr.size - 1, problem.rows.n_features
    size = int(rng.randint(1, 12))
    blocks = rng.permutation(-(-n // size)).astype(np.int64)
    start, stop = np.sort(rng.randint(n + 1, size=2))
    shape = (p,) if state.n_inverses == 1 else (state.n_inverses, p)
    yield lambda: _dual.advance(problem, state, blocks, size)
    yield lambda: _dual.evaluate(problem, state, start, stop, bool(rng.randint(2)))
    yield lambda: _dual.rebuild(problem, state, start, stop)
    yield lambda: _dual.rescale(problem, state, rng.uniform(0.1, 9.0, shape), 0.5)
    if state.imbalance.shape[0] == 2:
        yield lambda: _dual.contract(problem, state)
    if n:
        steps = steps_of(problem, state.table.dtype, rng)
        yield lambda: _sgd.descend(problem, **steps)


def steps_of(problem, real, rng):
    n, p, padded = problem.rows.indptr.size - 1, problem.rows.n_features, _layout.sgd_outputs(problem.n_outputs)
    table = np.zeros((p + 1, _layout.sgd_width(problem.n_outputs)), dtype=real)
    table[:-1, padded] = rng.uniform(0.01, 1.0, p)
    n_steps, adjoint = int(rng.randint(1, 9)), rng.randint(2)
    starts = np.append(0, np.cumsum(rng.randint(0, 5, n_steps))).astype(np.int64)
    return {
        "split": int(rng.randint(problem.n_splits)),
        "table": table,
        "weights": np.ascontiguousarray(problem.roles.weights, dtype=real),
        "rows": rng.randint(n, size=starts[-1]).astype(np.int64),
        "starts": starts,
        "eta": 1e-4 / (1.0 + np.arange(n_steps)),
        "proba": rng.uniform(0, 1, (n, padded)).astype(real) if adjoint else None,
        "offset": rng.standard_normal((p + 1, padded)).astype(real) if adjoint else None,
    }


@given(st.integers(0, 2**32 - 1))
@MANY
def test_any_valid_layout_gives_finite_numbers(seed):
    problem, state, rng = layout(seed)
    check(problem)
    for call in calls(problem, state, rng):
        call()
        for name in ("table", "duals", "residuals", "imbalance"):
            assert np.isfinite(getattr(state, name)).all(), name


@given(st.integers(0, 2**32 - 1))
@MANY
def test_threads_with_states_of_their_own_do_not_meet(seed):
    """They share a problem; each finds what one finds alone. The thread sanitizer looks on (``.ci/sanitize``)."""

    def found(problem, state, rng):
        return [call() for call in calls(problem, state, rng)], vars(state)

    alone, *others = (layout(seed) for _ in range(4))
    of_one = found(*alone)
    with ThreadPoolExecutor(3) as pool:
        of_each = list(pool.map(lambda own: found(alone[0], *own[1:]), others))
    for of_thread in of_each:
        np.testing.assert_equal(of_thread, of_one)


BREAKS = {
    "list": lambda a, rng: a.tolist(),
    "none": lambda a, rng: None,
    "fewer": lambda a, rng: a[:-1],
    "more": lambda a, rng: np.concatenate([a, a[-1:]]) if len(a) else np.ones((1, *a.shape[1:]), a.dtype),
    "empty": lambda a, rng: a[:0],
    "one axis more": lambda a, rng: a[..., None],
    "flat": lambda a, rng: a.ravel(),
    "transposed": lambda a, rng: a.T,
    "Fortran": lambda a, rng: np.asfortranarray(a),
    "strided": lambda a, rng: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a, rng: a[::-1],
    "swapped": lambda a, rng: a.astype(a.dtype.newbyteorder()),
    "narrow": lambda a, rng: a.astype(np.float16 if a.dtype.kind == "f" else np.int16),
    "wide": lambda a, rng: a.astype(np.longdouble if a.dtype.kind == "f" else np.uint64),
    "objects": lambda a, rng: a.astype(object),
    "complex": lambda a, rng: a.astype(complex),
    "read-only": lambda a, rng: np.lib.stride_tricks.as_strided(a, writeable=False),
    "misaligned": lambda a, rng: misaligned(a),
    "a view of one number": lambda a, rng: np.broadcast_to(a.ravel()[:1][0] if a.size else a.dtype.type(0), a.shape),
    "beyond": lambda a, rng: changed(a, rng, np.iinfo(np.int8).max),
    "far beyond": lambda a, rng: changed(a, rng, np.iinfo(a.dtype).max if a.dtype.kind in "iu" else np.inf),
    "negative": lambda a, rng: changed(a, rng, -1),
    "far below": lambda a, rng: changed(a, rng, np.iinfo(a.dtype).min if a.dtype.kind in "iu" else -np.inf),
    "NaN": lambda a, rng: changed(a, rng, np.nan if a.dtype.kind == "f" else 0),
}
FIELDS = {
    "rows": ("values", "columns", "indptr"),
    "roles": ("labels", "role", "weights", "train_scale", "val_scale"),
    "state": ("table", "duals", "residuals", "imbalance", "unpenalized", "reference"),
    "steps": ("table", "weights", "rows", "starts", "eta", "proba", "offset"),
}


def misaligned(a):
    room = np.empty(a.nbytes + 1, dtype=np.uint8)
    room[1:] = np.frombuffer(np.ascontiguousarray(a).tobytes(), dtype=np.uint8)
    return room[1:].view(a.dtype).reshape(a.shape)


def changed(a, rng, value):
    """One entry of it set to a value."""
    a = a.copy()
    if a.size:
        a.reshape(-1)[rng.randint(a.size)] = value
    return a


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(st.integers(0, 2**32 - 1), st.sampled_from([*FIELDS]), st.sampled_from([*BREAKS]))
@MANY
def test_a_broken_layout_is_refused_or_does_no_harm(seed, owner, kind):
    """Whatever is let through reads and writes in bounds: the sanitizers look on (``.ci/sanitize``)."""
    problem, state, rng = layout(seed)
    name = FIELDS[owner][rng.randint(len(FIELDS[owner]))]
    if owner == "steps" and problem.rows.indptr.size == 1:
        return
    steps = steps_of(problem, state.table.dtype, rng) if owner == "steps" else {}
    of = SimpleNamespace(**steps) if owner == "steps" else state if owner == "state" else getattr(problem, owner)
    if getattr(of, name) is None:
        return
    attempts = [lambda: _sgd.descend(problem, **vars(of))] if owner == "steps" else [*calls(problem, state, rng)]
    setattr(of, name, BREAKS[kind](getattr(of, name), rng))
    try:
        check(problem)
    except (TypeError, ValueError, AttributeError):
        return  # rows and roles are not made of it
    for attempt in attempts:
        try:
            attempt()
        except (TypeError, ValueError) as error:
            assert str(error)
