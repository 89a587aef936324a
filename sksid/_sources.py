"""Rows on disk as they are read: any stretches of them at a time, from flat files or from mapped arrays."""

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sksid._kernels._layout import COLUMNS_AHEAD
from sksid.rows import Rows, as_rows

NPZ_ERRORS = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
Stretches = list[tuple[int, int]]  # start and stop of each


class Source(Protocol):
    """Rows on disk.

    Attributes
    ----------
    n_rows, n_features : int
    folder : Path or None
        Where there is room beside them.
    """

    n_rows: int
    n_features: int
    folder: Path | None

    def load(self, stretches: Stretches) -> Rows:
        """These rows, one stretch after the other."""


@dataclass(frozen=True)
class FlatFile:
    """Numbers of one type in a file, one after the other: what is asked for is read, nothing is mapped.

    Attributes
    ----------
    path : Path
    dtype : numpy dtype
    size : int
        How many there are.
    offset : int
        Bytes before the first.
    """

    path: Path
    dtype: np.dtype
    size: int
    offset: int = 0

    def read(self, stretches: Stretches, out: NDArray) -> None:
        """These numbers, into the beginning of ``out``."""
        filled, item = 0, self.dtype.itemsize
        own = out if out.dtype == self.dtype else np.empty(sum(stop - start for start, stop in stretches), self.dtype)
        with self.path.open("rb", buffering=0) as file:
            for start, stop in stretches:
                file.seek(self.offset + start * item)
                self._fill(file, own[filled : filled + stop - start].view(np.uint8), stop)
                filled += stop - start
        if own is not out:
            out[:filled] = own

    def _fill(self, file, room, stop):
        while room.size:
            n = file.readinto(room)
            if not n:
                raise ValueError(f"X: {self.path} is truncated: it ends before number {stop} of {self.size}. Write it again.")
            room = room[n:]


@dataclass(frozen=True, eq=False)
class Mapped:
    """The same of an array that is mapped, or in memory.

    Attributes
    ----------
    values : ndarray of one axis
    """

    values: NDArray

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def read(self, stretches: Stretches, out: NDArray) -> None:
        """These numbers, into the beginning of ``out``."""
        filled = 0
        for start, stop in stretches:
            out[filled : filled + stop - start] = self.values[start:stop]
            filled += stop - start


def readable(array: NDArray) -> Any:
    """A whole mapped file as a FlatFile, so that its pages do not stay in memory; any other array as Mapped."""
    own: Any = array if isinstance(array, np.memmap) else array.base
    whole = isinstance(own, np.memmap) and not isinstance(own.base, np.ndarray) and own.filename is not None
    if whole and own.flags.c_contiguous and own.size == array.size and own.dtype == array.dtype:
        return FlatFile(Path(own.filename), own.dtype, own.size, own.offset)
    return Mapped(array.reshape(-1))


@dataclass(frozen=True, eq=False)
class CsrSource:
    """The three arrays of a CSR array.

    Attributes
    ----------
    values, columns, indptr : FlatFile or Mapped
    n_rows, n_features : int
    what : str
        As messages name it.
    folder : Path or None
    owner
        What removes the folder where the rows are used no more.
    """

    values: Any
    columns: Any
    indptr: Any
    n_rows: int
    n_features: int
    what: str
    folder: Path | None = None
    owner: Any = None

    def load(self, stretches: Stretches) -> Rows:
        """These rows, one stretch after the other."""
        pointers, samples = self._pointers(stretches), samples_of(stretches)
        entries = [(int(own[0]), int(own[-1])) for own in pointers]
        counts = np.concatenate([np.diff(own) for own in pointers])
        self._check((counts >= 0).all(), samples[np.argmin(counts)] if counts.size else 0, "its end is before its beginning")
        indptr = np.append(0, np.cumsum(counts))
        values = np.empty(indptr[-1], dtype=real(self.values.dtype))
        columns = np.zeros(indptr[-1] + COLUMNS_AHEAD, dtype=np.int32)
        self.values.read(entries, values)
        self.columns.read(entries, columns)
        own = columns[: values.size]
        outside = np.flatnonzero((own < 0) | (own >= self.n_features))
        if outside.size:
            row = samples[int(np.searchsorted(indptr, outside[0], side="right")) - 1]
            self._check(False, row, f"it has the column {own[outside[0]]}, of {self.n_features}")
        return self._without_duplicates(values, columns, indptr, samples)

    def _pointers(self, stretches):
        """The ends of the rows of each stretch, and the beginning of its first."""
        longer = [(start, stop + 1) for start, stop in stretches]
        pointers = np.empty(sum(stop - start for start, stop in longer), dtype=np.int64)
        self.indptr.read(longer, pointers)
        return np.split(pointers, np.cumsum([stop - start for start, stop in longer])[:-1])

    def _without_duplicates(self, values, columns, indptr, samples):
        """The kernels take each column of a row once; rows whose columns do not ascend may have one twice."""
        own = columns[: values.size]
        ascends = np.ones(values.size, dtype=bool)
        ascends[1:] = own[1:] > own[:-1]
        ascends[indptr[:-1][indptr[:-1] < values.size]] = True
        if ascends.all():
            return Rows(values, columns, indptr, samples, self.n_features)
        X = sp.csr_array((values, own, indptr), shape=(samples.size, self.n_features))
        X.sum_duplicates()
        return as_rows(X, samples)

    def _check(self, fine, row, why):
        if not fine:
            raise ValueError(f"X: row {row} of {self.what} is damaged: {why}. Write it again.")


@dataclass(frozen=True, eq=False)
class DenseSource:
    """The entries of dense rows, row after row.

    Attributes
    ----------
    values : FlatFile or Mapped
    n_rows, n_features : int
    what : str
    folder : Path or None
    owner
        As above.
    """

    values: Any
    n_rows: int
    n_features: int
    what: str
    folder: Path | None = None
    owner: Any = None

    def load(self, stretches: Stretches) -> Rows:
        """These rows, one stretch after the other."""
        samples = samples_of(stretches)
        values = np.empty(samples.size * self.n_features, dtype=real(self.values.dtype))
        self.values.read([(start * self.n_features, stop * self.n_features) for start, stop in stretches], values)
        return as_rows(values.reshape(samples.size, self.n_features), samples)


def real(dtype: np.dtype) -> np.dtype:
    """float32 or float64, as entries of that type are read."""
    return dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)


def samples_of(stretches: Stretches) -> NDArray:
    """The numbers of their rows."""
    return np.concatenate([np.arange(start, stop) for start, stop in stretches])


# ---- blocks that are written before they are read ----------------------------------------------------------------------


def read_npz(path: Path) -> tuple[Any, NDArray | None, NDArray | None]:
    """The rows of a file, and its ``y`` and ``sample_weight``, where it has them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in file.files}
        X = parts.get("X")
        if X is None:
            X = sp.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(parts["shape"]))
    except NPZ_ERRORS as error:
        raise ValueError(
            f"X: {path} cannot be read: {error} Give files of scipy.sparse.save_npz in CSR, or with an array named X."
        ) from error
    return X, parts.get("y"), parts.get("sample_weight")


def checked_blocks(given: Iterable) -> Iterator[tuple[Any, Any, Any]]:
    """X, y and weights (or None) of each block, with a CSR array or an ndarray of float32 or float64 of one width.

    Raises
    ------
    TypeError, ValueError
        If a block is anything else.
    """
    first: Any = None
    for number, block in enumerate(given):
        name = str(block) if isinstance(block, str | Path) else f"block {number}"
        block = read_npz(Path(block)) if isinstance(block, str | Path) else block
        if not isinstance(block, tuple | list) or len(block) not in (2, 3):
            raise TypeError(f"X: {name} is no tuple (X, y) or (X, y, sample_weight), but {type(block).__name__}.")
        X, y, weight = block if len(block) == 3 else (*block, None)
        X = as_matrix(X, name)
        of_rows = [None if part is None else np.asarray(part) for part in (y, weight)]
        for part, what in zip(of_rows, ("labels", "weights"), strict=True):
            if part is not None and part.shape != (X.shape[0],):
                raise ValueError(f"X: {name} has {X.shape[0]} rows and {what} of shape {part.shape}. Give one for each row.")
        kind = X.shape[1], sp.issparse(X), str(X.dtype), [part is not None for part in of_rows]
        first = first or (name, kind)
        if kind != first[1]:
            raise ValueError(
                f"X: {name} is of another kind than {first[0]}: {kind[0]} columns, sparse {kind[1]}, {kind[2]}, labels "
                f"{kind[3][0]}, weights {kind[3][1]}; that one {first[1]}. Give all blocks alike."
            )
        yield X, *of_rows


def as_matrix(X: Any, name: str) -> Any:
    """A block as a CSR array without duplicates, or a C-contiguous ndarray, of float32 or float64."""
    X = sp.csr_array(X) if sp.issparse(X) else np.asarray(X, order="C")
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise ValueError(f"X: {name} is of shape {X.shape} and type {X.dtype}. Give numbers of shape (n_rows, n_features).")
    X = X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)
    if sp.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X
