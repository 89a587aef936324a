"""The parts of cross-fitting: from the splits of a search to the splits of their training rows."""

from dataclasses import replace
from functools import partial

import numpy as np

from sksid._data import NONE, Data
from sksid.crossfit import Part
from sksid.joint import Joint
from sksid.structures import Structure


def make_parts(data: Data) -> list[Part]:
    """What is cross-fitted: for each split, splits of its training rows, and its validation rows as their judge.

    A split keeps its preprocessing, of which its validation rows were no part.
    """
    scale = data.samples.train_scale(data.target)
    return [_part(data, m, scale[:, [m]]) for m in range(len(data.samples.splits))]


def structures_of(data: Data, structure: Structure) -> list[tuple[Structure, Structure]]:
    """A structure on the inner splits of each part, and on its rest.

    Descriptors are those of the rows that a split trains on, so they are computed anew for each inner split.
    """
    if structure.per_split is None:
        return [(structure, structure)] * len(data.samples.splits)
    return [
        (_on_inner_splits(data, m, structure), replace(structure, matrix=matrix, per_split=None))
        for m, matrix in enumerate(structure.per_split)
    ]


def _part(data, m, scale):
    own, columns, split = None, None, data.samples.judged[m]
    rows, inner, inner_scale = data.rows, data.inner_splits(m), None
    if inner:
        nested = replace(data.samples, splits=data.samples.inner_splits(m))
        inner_scale = nested.train_scale(data.target, data.samples.n_train)
    if data.split_views is not None:
        columns = data.split_views[m].columns
        rows, own, split = data.own_rows[m]
    make = partial(data.problem_of, rows, own=own, dtype=data.dtype)
    problems = [
        make(inner, train_scale=inner_scale) if inner else None,
        make([(split[0], NONE)], train_scale=scale),
        make([(NONE, split[1])]),
    ]
    if data.split_views is not None:
        problems = [problem and Joint((problem,), (columns,), data.features.n_features) for problem in problems]
    return Part(*problems)


def _on_inner_splits(data, m, structure):
    """The structure with a matrix for each inner split of part m; a column of zeros where a descriptor has no spread."""
    training = [train for train, _ in data.inner_splits(m)]
    if not training:
        return structure.for_refit
    if not structure.terms:  # a user's matrices, of which that of the split is the nearest
        return replace(structure, per_split=(structure.per_split[m],) * len(training))
    own = data.described([(data.training[m][0], train) for train in training])
    names = own.terms or structure.terms[:1]
    here = [k for k, term in enumerate(names) if term in structure.terms]
    there = [structure.terms.index(names[k]) for k in here]
    matrices = [np.zeros((structure.n_features, structure.n_params)) for _ in training]
    for matrix, A in zip(matrices, own.per_split or [own.matrix] * len(training), strict=True):
        matrix[:, there] = A[:, here]
    return replace(structure, per_split=tuple(matrices))
