"""The problems of cross-fitting: from the splits of a search to the splits of their training rows."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from sksid._data import NONE, Data
from sksid.crossfit import JUDGE_TOL, Nest
from sksid.descent import Bilevel
from sksid.joint import Joint, like
from sksid.structures import Structure


def make_nest(data: Data, bilevel: Callable[..., Bilevel]) -> Nest:
    """What is cross-fitted: for each split, splits of its training rows, and its validation rows as their judge.

    A split keeps its preprocessing, of which its validation rows were no part.

    Parameters
    ----------
    data : Data
    bilevel : callable
        Gives a problem its solver, which solves to ``tol`` at once where that is given.
    """
    samples, nested = data.samples, [data.inner_splits(m) for m in range(len(data.samples.splits))]
    counts = np.array([len(inner) for inner in nested])
    flat = [pair for m in range(counts.size) for pair in samples.inner_splits(m)]
    scales = samples.train_scale(data.target), replace(samples, splits=flat).train_scale(data.target, samples.n_train)
    if data.split_views is None:
        training, judging = [(train, NONE) for train, _ in samples.splits], [(NONE, val) for _, val in samples.judged]
        make = partial(data.problem_of, data.rows, dtype=data.dtype)
        inner, rest, judge = make(flat, train_scale=scales[1]), make(training, train_scale=scales[0]), make(judging)
    else:
        owned = np.split(scales[1], np.cumsum(counts)[:-1], axis=1)
        inner, rest, judge = _joined(data, nested, owned, scales[0])
    fitted = bilevel(rest, tol=JUDGE_TOL)
    return Nest(bilevel(inner), counts, fitted, like(judge, fitted.problem))


def _joined(data, nested, inner_scales, scales):
    """The three problems, with a part for each split in its own features."""
    problems = [], [], []
    for m, (rows, own, (train, val)) in enumerate(data.own_rows):
        make, columns = partial(data.problem_of, rows, own=own, dtype=data.dtype), data.split_views[m].columns
        if nested[m]:
            problems[0].append((make(nested[m], train_scale=inner_scales[m]), columns))
        problems[1].append((make([(train, NONE)], train_scale=scales[:, [m]]), columns))
        problems[2].append((make([(NONE, val)]), columns))
    return (Joint(*map(tuple, zip(*parts, strict=True)), data.features.n_features) for parts in problems)


def structures_of(data: Data, structure: Structure) -> list[tuple[Structure, Structure]]:
    """A structure on the inner splits of each split, and on its training rows.

    Descriptors are those of the rows that a split trains on, so they are computed anew for the inner splits.
    """
    if structure.per_split is None:
        return [(structure, structure)] * len(data.samples.splits)
    matrices = iter(_of_inner_splits(data, structure))
    return [
        (_with(structure, tuple(islice(matrices, len(data.inner_splits(m))))), replace(structure, matrix=own, per_split=None))
        for m, own in enumerate(structure.per_split)
    ]


def _with(structure, matrices):
    return replace(structure, per_split=matrices) if matrices else structure.for_refit


def _of_inner_splits(data, structure):
    """The matrix of each inner split, one split's after another's; a column of zeros where a descriptor has no spread."""
    training = [(m, train) for m in range(len(data.samples.splits)) for train, _ in data.inner_splits(m)]
    if not structure.terms:  # a user's matrices, of which that of the split is the nearest
        return [structure.per_split[m] for m, _ in training]
    own = data.described([(data.training[m][0], train) for m, train in training])
    here = [k for k, term in enumerate(own.terms) if term in structure.terms]
    there = [structure.terms.index(own.terms[k]) for k in here]
    matrices = []
    for A in own.per_split or [own.matrix] * len(training):
        matrices.append(np.zeros((structure.n_features, structure.n_params)))
        matrices[-1][:, there or 0] = A[:, here or 0]
    return matrices
