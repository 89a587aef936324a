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
    return [_part(data, m) for m in range(len(data.samples.splits))]


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


def _part(data, m):
    samples, columns, split = slice(None), None, data.samples.splits[m]
    rows, inner = data.rows, data.samples.inner_splits(m)
    scale = data.samples.train_scale(data.target)[:, [m]]
    inner_scale = replace(data.samples, splits=inner).train_scale(data.target) if inner else None
    if data.split_views is not None:
        place, columns = _places(data, m), data.split_views[m].columns
        rows, samples, split = data.own_rows[m]
        inner = [(place[train], place[val]) for train, val in inner]
    make = partial(data.problem_of, rows, samples=samples, dtype=data.dtype)
    problems = [
        make(inner, train_scale=inner_scale) if inner else None,
        make([(split[0], NONE)], train_scale=scale),
        make([(NONE, split[1])]),
    ]
    if data.split_views is not None:
        problems = [problem and Joint((problem,), (columns,), data.features.n_features) for problem in problems]
    return Part(*problems)


def _places(data, m):
    """Where a sample stands among the training rows of split m, (n_samples,)."""
    train = data.samples.splits[m][0]
    place = np.empty(data.samples.n_samples, dtype=np.intp)
    place[train] = np.arange(train.size)
    return place


def _on_inner_splits(data, m, structure):
    """The structure with a matrix for each inner split of part m; a column of zeros where a descriptor has no spread."""
    training = [train for train, _ in data.samples.inner_splits(m)]
    if not training:
        return structure.for_refit
    if data.split_views is not None:
        training = [_places(data, m)[train] for train in training]
    own = data.described([(data.training[m][0], train) for train in training])
    columns = [structure.terms.index(term) for term in own.terms or structure.terms[:1]]
    matrices = [np.zeros((structure.n_features, structure.n_params)) for _ in training]
    for matrix, A in zip(matrices, own.per_split or [own.matrix] * len(training), strict=True):
        matrix[:, columns] = A
    return replace(structure, per_split=tuple(matrices))
