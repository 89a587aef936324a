"""The parts of cross-fitting: from the splits of a search to the splits of their training rows."""

from dataclasses import replace
from functools import partial

import numpy as np

from sksid._data import NONE, Data
from sksid.crossfit import Part
from sksid.descent import Step
from sksid.joint import Joint


def make_parts(data: Data, before: Step) -> list[Part]:
    """What is cross-fitted: for each split, splits of its training rows, and its validation rows as their judge.

    A split keeps its preprocessing, of which its validation rows were no part.

    Parameters
    ----------
    data : Data
    before : Step
        From whose penalties the descents start.
    """
    return [_part(data, m, before) for m in range(len(data.samples.splits))]


def _part(data, m, before):
    samples, columns, split = slice(None), None, data.samples.splits[m]
    rows, inner = data.rows, data.samples.inner_splits(m)
    scale = data.samples.train_scale(data.target)[:, [m]]
    inner_scale = replace(data.samples, splits=inner).train_scale(data.target) if inner else None
    if data.split_views is not None:
        place, columns = np.empty(data.samples.n_samples, dtype=np.intp), data.split_views[m].columns
        place[split[0]] = np.arange(split[0].size)
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
    return Part(*problems, *_starts(data, m, [train for train, _ in inner], before))


def _starts(data, m, training, before):
    """The log penalties from which the inner splits of part m start, and those of the rest.

    Where descriptors have made them they are made anew for each inner split, from its own training rows.
    """
    if before.log_penalties.ndim == 1:
        return before.log_penalties, before.log_penalties
    whole, _ = data.training[m]
    own = data.described([(whole, train) for train in training]) if training else before.structure
    theta = dict(zip(before.structure.terms, before.theta, strict=True))
    offset = (before.log_penalties - before.structure.change(before.theta))[m]
    return offset + own.change([theta[term] for term in own.terms]), before.log_penalties[m]
