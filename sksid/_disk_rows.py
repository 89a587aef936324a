"""Rows that are read block by block, one ahead of the computation: what the solvers ask of ``Rows``.

A block of an epoch is made anew each time, of pieces of rows from everywhere, drawn at random: rows that stayed together would
lean on each other, and what all blocks have in common, such as the sum of one-hot fields, would take hundreds of epochs.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sksid._checks import check_size
from sksid._sources import Source, Stretches
from sksid.rows import Rows

BLOCK = 1 << 22  # entries
PIECES = 64  # of a block, where rows are many
PIECE = 1 << 15  # entries of a piece, about, from which disks read as fast as they can
ROOM = 1 << 28  # bytes from which an array with a number for each row lies on disk, beside the rows
ZEROS = bytes(1 << 20)


@dataclass(frozen=True, eq=False)
class DiskRows:
    """Rows on disk, of which two blocks are in memory: the one in use, and the next.

    Attributes
    ----------
    source : Source
    dtype : numpy dtype
    is_sparse : bool
    n_entries : int
    squared_norms : ndarray of shape (n_rows,), float64
    mean_log_square : float
    block_entries : int
    """

    source: Source
    dtype: Any
    is_sparse: bool
    n_entries: int
    squared_norms: NDArray
    mean_log_square: float
    block_entries: int = BLOCK

    @property
    def n_rows(self) -> int:
        return self.source.n_rows

    @property
    def n_features(self) -> int:
        return self.source.n_features

    @property
    def samples(self) -> NDArray:
        """The sample of each row, which is its number, (n_rows,)."""
        return np.arange(self.n_rows)

    def each(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, Rows]]:
        """The rows ``start:stop`` in blocks, in their order, and which of all rows they are."""
        stretches = stretches_of(start, self.n_rows if stop is None else stop, self._rows_of(self.block_entries))
        for (first, end), rows in zip(stretches, read_ahead(self.source, ([one] for one in stretches)), strict=True):
            yield slice(first, end), rows

    def _rows_of(self, entries, size=1):
        """How many rows, in groups of ``size``, have so many entries, on average."""
        groups = entries * self.n_rows / max(self.n_entries, 1) / size
        return size * max(1, int(min(groups, self.n_rows)))

    # ---- the order of visits ----------------------------------------------------------------------------------------------

    def visits(self, random: np.random.RandomState, size: int) -> NDArray:
        """All groups of ``size`` rows: pieces at random, so many to a block, and at random the groups of a block."""
        in_piece, in_block = self._groups(size)
        n_pieces = -(-self.n_visits(size) // in_piece)
        found = []
        for pieces in np.array_split(random.permutation(n_pieces), -(-n_pieces // max(1, in_block // in_piece))):
            own = (pieces[:, None] * in_piece + np.arange(in_piece)).ravel()
            found.append(random.permutation(own[own < self.n_visits(size)]))
        return np.concatenate(found)

    def n_visits(self, size: int) -> int:
        """How many groups of ``size`` rows there are."""
        return -(-self.n_rows // size)

    def _groups(self, size):
        """How many groups of rows are a piece, and a block."""
        in_block = self._rows_of(self.block_entries, size) // size
        return min(self._rows_of(PIECE, size) // size, max(1, in_block // PIECES)), in_block

    def by_block(self, visits: NDArray, size: int) -> Iterator[tuple[NDArray, Rows, NDArray]]:
        """Visits, block by block: which of all rows a block's are, the block, and the visits in its own numbers."""
        in_piece, in_block = self._groups(size)
        runs = runs_of(visits // in_piece, in_block)
        pieces = [np.unique(visits[run] // in_piece) for run in runs]
        wanted = [[self._stretch(piece, in_piece * size) for piece in own] for own in pieces]
        for run, own, stretches, rows in zip(runs, pieces, wanted, read_ahead(self.source, wanted), strict=True):
            inside = np.searchsorted(own, visits[run] // in_piece) * in_piece + visits[run] % in_piece
            yield rows.samples, rows, inside
            del rows, stretches

    def _stretch(self, piece, n_rows):
        return int(piece) * n_rows, min((int(piece) + 1) * n_rows, self.n_rows)

    # ---- products -----------------------------------------------------------------------------------------------------------

    def outputs(self, W: NDArray) -> NDArray:
        """X W, (n_rows, n_outputs)."""
        return np.concatenate([rows.outputs(W) for _, rows in self.each()])

    def pull(self, R: NDArray) -> NDArray:
        """Xᵀ R, (n_features, n_outputs)."""
        return sum(rows.pull(R[place]) for place, rows in self.each())  # type: ignore[return-value]

    def mean_squares(self, weights: NDArray) -> NDArray:
        """Σ_i weights_i x_ij², (n_features,), for weights that sum to 1."""
        return sum(rows.mean_squares(weights[place]) for place, rows in self.each())  # type: ignore[return-value]

    def span(self, start: int, stop: int) -> Rows:
        """A few rows, in memory."""
        return self.source.load([(start, stop)])

    def gathered(self, chosen: NDArray) -> Rows:
        """Some rows in ascending order, in memory."""
        ends = np.append(np.flatnonzero(np.diff(chosen) > 1) + 1, chosen.size)
        return self.source.load([(int(chosen[a]), int(chosen[b - 1]) + 1) for a, b in zip([0, *ends], ends, strict=False)])

    def room(self, shape: tuple, dtype: DTypeLike) -> NDArray:
        """Zeros of that shape, a row for each row of X: in memory, or in a file that nobody else sees where they are many."""
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.zeros(shape, dtype=dtype) if n_bytes < ROOM else zeros_on_disk(shape, dtype, self.source.folder)


def stretches_of(start: int, stop: int, size: int) -> Stretches:
    """The rows ``start:stop``, so many at a time."""
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def runs_of(pieces: NDArray, most: int) -> list[slice]:
    """Runs, one after the other, of which none has a piece of another, of ``most`` numbers where there are such.

    Examples
    --------
    >>> import numpy as np
    >>> runs_of(np.array([3, 1, 3, 1, 0, 2, 0]), most=5)
    [slice(0, 4, None), slice(4, 7, None)]
    """
    _, first, number = np.unique(pieces[::-1], return_index=True, return_inverse=True)
    last = (pieces.size - 1 - first)[number[::-1]]
    ends = np.flatnonzero(np.maximum.accumulate(last) == np.arange(pieces.size)) + 1
    runs, start = [], 0
    while start < pieces.size:
        fitting = np.searchsorted(ends, start + most, side="right") - 1
        stop = int(ends[fitting] if fitting >= 0 and ends[fitting] > start else ends[fitting + 1])
        runs.append(slice(start, stop))
        start = stop
    return runs


def read_ahead(source: Source, wanted: Iterable[Stretches]) -> Iterator[Rows]:
    """The rows of each item, while those of the next one are being read."""
    with ThreadPoolExecutor(1) as pool:
        coming = None
        for stretches in wanted:
            before, coming = coming, pool.submit(source.load, stretches)
            if before is not None:
                yield before.result()
                del before
        if coming is not None:
            yield coming.result()


def zeros_on_disk(shape: tuple, dtype: DTypeLike, folder: Path | None) -> NDArray:
    """Zeros in a file without a name, all of whose bytes are there, so that a full disk is met here and not later.

    Raises
    ------
    OSError
        If the disk is full.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    beside = folder if folder is not None and os.access(folder, os.W_OK) else None
    with tempfile.TemporaryFile(dir=beside) as file:
        try:
            for start in range(0, size, len(ZEROS)):
                file.write(ZEROS[: size - start])
            file.flush()
        except OSError as error:
            where = beside or tempfile.gettempdir()
            error.add_note(f"X: {size / 2**20:.0f} MB of the search's state do not fit on the disk of {where}. Make room.")
            raise
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def survey(source: Source, name: str, n_entries: int, block_entries: int = BLOCK) -> DiskRows:
    """Look at every entry once: whether they are finite, and of a size that can be squared.

    Raises
    ------
    ValueError
        Naming the rows.
    """
    is_sparse = source.load([(0, 1)]).is_sparse
    room = DiskRows(source, source.load([(0, 1)]).dtype, is_sparse, n_entries, np.empty(0), 0.0, block_entries)
    norms, logs = room.room((source.n_rows,), np.float64), []
    for place, rows in room.each():
        bad = np.flatnonzero(~np.isfinite(rows.values))
        if bad.size:
            row = place.start + int(np.searchsorted(rows.indptr, bad[0], side="right")) - 1
            raise ValueError(f"X: row {row} of {name} has {rows.values[bad[0]]}. Impute or drop such rows.")
        check_size(rows.values, f"X, rows {place.start} to {place.stop - 1} of {name}", "Scale the features.")
        norms[place] = rows.squared_norms
        logs.append((rows.mean_log_square, rows.n_entries))
    means, weights = np.array(logs).T
    weights = np.where(np.isfinite(means), weights, 0.0)
    mean = float(weights @ np.where(weights > 0, means, 0.0) / weights.sum()) if weights.any() else -np.inf
    return DiskRows(source, room.dtype, is_sparse, n_entries, norms, mean, block_entries)
