"""Rows that do not fit into memory: written once, or found where they are, and read block by block.

``open`` makes of them what ``HypergradientSearchCV.fit`` takes in the place of X, with labels and weights of its own where the
rows have them. ``save`` writes a folder of rows. Every entry is looked at once, before any work is done.
"""

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sksid._cluster import column_names, computed, is_dask
from sksid._disk_rows import BLOCK, DiskRows, survey
from sksid._sources import CsrSource, DenseSource, FlatFile, as_matrix, checked_blocks, readable
from sksid._spread import SpreadRows, spread_rows

__all__ = ["Blocks", "open", "save"]

MAPPED_FROM = 1 << 28  # bytes from which a mapped X is read block by block, and not copied
FORMAT = 1
ABOUT = "rows.json"
OF_ROWS = ("y", "sample_weight")


@dataclass(frozen=True, eq=False)
class Blocks:
    """Rows on disk: what ``open`` returns, and ``HypergradientSearchCV.fit`` takes in the place of X.

    Attributes
    ----------
    rows : DiskRows or SpreadRows
        All entries of which have been looked at.
    y : ndarray of shape (n_rows,), or None
        Labels that came with the rows.
    sample_weight : ndarray of shape (n_rows,), or None
    names : ndarray of shape (n_features,), or None
        Of the columns, where they came with names.
    """

    rows: DiskRows | SpreadRows
    y: NDArray | None = None
    sample_weight: NDArray | None = None
    names: NDArray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.n_rows, self.rows.n_features

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> Any:
        return self.rows.dtype

    def __len__(self) -> int:
        return self.rows.n_rows

    def parts(self) -> Iterable[tuple[slice, Any]]:
        """The rows in their order, block by block: which of all rows these are, and a CSR array or an ndarray of them."""
        return ((place, _matrix_of(rows)) for place, rows in self.rows.each())


def open(
    rows: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None, *, block_entries: int = BLOCK
) -> Blocks:
    """Rows on disk, to be read block by block.

    What is mapped, or in a folder, is read where it is. Blocks that a program makes, or packed files, are written first, once,
    into a folder that is removed with the result, where ``tempfile`` has its files; ``save`` writes one that stays.

    Parameters
    ----------
    rows : path, ndarray, CSR array, Dask array or frame, or iterable
        A folder that ``save`` has written. An ``np.memmap`` of shape (n_rows, n_features). A CSR array whose data, indices and
        indptr are ``np.memmap``, or a tuple of these three and the shape. Blocks ``(X, y)`` or ``(X, y, sample_weight)``, X an
        ndarray or a sparse array: a list or any other iterable. A list of ``.npz`` files, of ``scipy.sparse.save_npz`` or with
        an array ``X``, and perhaps with ``y`` and ``sample_weight``. A Dask array in chunks of rows, dense or sparse, or a
        ``dask.dataframe`` of numbers: they stay on the workers of the client that is in use.
    y : array-like of shape (n_rows,), default=None
        Labels, where they are not with the rows.
    sample_weight : array-like of shape (n_rows,), default=None
    block_entries : int, default=4194304
        Entries of a block, about. Two are in memory.

    Returns
    -------
    Blocks

    Raises
    ------
    OSError
        If the disk is full; nothing is left of what was written.
    TypeError, ValueError
        Naming the file and the row, where rows are damaged, not finite, or not alike.

    Examples
    --------
    >>> import numpy as np
    >>> from sksid import blocks
    >>> halves = [(np.eye(4), [0, 1, 0, 1]), (2.0 * np.eye(4), [0, 1, 1, 1])]
    >>> rows = blocks.open(halves)
    >>> rows.shape, rows.y
    ((8, 4), array([0, 1, 0, 1, 0, 1, 1, 1]))
    """
    if isinstance(rows, Blocks):
        found = rows
    elif is_dask(rows):
        found = Blocks(spread_rows(rows), names=column_names(rows))
        y, sample_weight = computed(y), computed(sample_weight)
    elif isinstance(rows, str | Path):
        found = _folder(Path(rows), block_entries)
    elif sp.issparse(rows) or isinstance(rows, np.ndarray):
        found = Blocks(_in_place(rows, block_entries))
    elif isinstance(rows, tuple) and len(rows) == 4 and isinstance(rows[0], np.ndarray):
        found = Blocks(_of_parts(*rows, block_entries))
    else:
        place = TemporaryFolder()
        _write(place.path, checked_blocks(rows))
        found = _folder(place.path, block_entries, place)
    own = [held if one is None else np.asarray(one) for one, held in ((y, found.y), (sample_weight, found.sample_weight))]
    for values, name in zip(own, OF_ROWS, strict=True):
        if values is not None and values.shape != (len(found),):
            raise ValueError(f"{name} has the shape {values.shape}, but X has {len(found)} rows. Give one number for each row.")
    return replace(found, y=own[0], sample_weight=own[1])


def save(
    folder: str | Path,
    X: Any,
    y: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    block_entries: int = BLOCK,
) -> Blocks:
    """Write rows into a new folder, from where they are read fastest.

    The folder is there once all of it is written; if anything fails, nothing is left behind.

    Parameters
    ----------
    folder : path
        Which does not exist yet.
    X : ndarray, sparse array, Blocks or iterable
        All rows; or blocks of them, or files, as ``open`` takes them, one after the other in memory.
    y, sample_weight : array-like of shape (n_rows,), default=None
        Where blocks do not bring their own.
    block_entries : int, default=4194304
        As for ``open``.

    Returns
    -------
    Blocks
        What ``open(folder)`` returns.

    Raises
    ------
    FileExistsError
        If the folder exists.
    OSError
        If the disk is full.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from sksid import blocks
    >>> with tempfile.TemporaryDirectory() as place:
    ...     rows = blocks.save(f"{place}/rows", np.eye(6, dtype=np.float32), [0, 1] * 3)
    ...     blocks.open(f"{place}/rows").shape
    (6, 6)
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"folder: {folder} exists. Give the name of a new one, or remove it first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(unfinished, _blocks_of(X), y, sample_weight)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return open(folder, block_entries=block_entries)


def is_mapped(X: Any) -> bool:
    """Whether X, an ndarray or a CSR array, is mapped from a file so large that it is read block by block."""
    values = X.data if sp.issparse(X) and X.format == "csr" else X
    own = values if isinstance(values, np.memmap) else getattr(values, "base", None)
    if not isinstance(own, np.memmap) or values.nbytes < MAPPED_FROM or values.dtype.kind not in "biuf":
        return False
    return sp.issparse(X) or X.ndim == 2 and X.flags.c_contiguous


class TemporaryFolder:
    """A new folder, which is removed with this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sksid-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _matrix_of(rows):
    """A block as a matrix whose indices are of 32 bits, as many of scikit-learn's estimators ask."""
    if rows.columns is None:
        return rows.matrix
    parts = rows.values, rows.columns[: rows.n_entries], rows.indptr.astype(np.int32)
    return sp.csr_array(parts, shape=(rows.n_rows, rows.n_features))


# ---- the folder ----------------------------------------------------------------------------------------------------------


def _blocks_of(X):
    """X, y and weights of all blocks."""
    if isinstance(X, Blocks):
        own = X.y, X.sample_weight
        return ((part, *(None if one is None else one[place] for one in own)) for place, part in X.parts())
    if sp.issparse(X) or isinstance(X, np.ndarray):
        return iter([(as_matrix(X, "X"), None, None)])
    return checked_blocks(X)


def _write(folder, blocks, y=None, sample_weight=None):
    """The entries of all blocks in flat files, labels and weights, and last a small file that says what they are."""
    own, about = ([], []), {"format": FORMAT, "n_rows": 0, "n_entries": 0}
    try:
        with (folder / "values.bin").open("wb") as values, (folder / "columns.bin").open("wb") as columns:
            with (folder / "indptr.bin").open("wb") as indptr:
                np.zeros(1, dtype=np.int64).tofile(indptr)
                for X, *of_rows in blocks:
                    _append(X, values, columns, indptr, about)
                    for parts, values_of in zip(own, of_rows, strict=True):
                        parts.append(values_of)
        if not about["n_rows"]:
            raise ValueError("X: there is no row. Give one at least.")
        for name, parts, given in zip(OF_ROWS, own, (y, sample_weight), strict=True):
            whole = np.asarray(given) if given is not None else None if parts[0] is None else np.concatenate(parts)
            _save(folder / f"{name}.npy", whole, name, about["n_rows"])
        (folder / ABOUT).write_text(json.dumps(about))
    except OSError as error:
        error.add_note(f"X: the rows could not be written into {folder.parent}; nothing is left of them. Make room there.")
        raise


def _append(X, values, columns, indptr, about):
    """A block at the end of the files."""
    if sp.issparse(X):
        X.data.tofile(values)
        X.indices.astype(np.int32).tofile(columns)
        (X.indptr[1:].astype(np.int64) + about["n_entries"]).tofile(indptr)
    else:
        X.tofile(values)
    about |= {"n_features": X.shape[1], "dtype": str(X.dtype), "is_sparse": bool(sp.issparse(X))}
    about["n_rows"] += X.shape[0]
    about["n_entries"] += int(X.nnz if sp.issparse(X) else X.size)


def _save(path, values, name, n_rows):
    """Labels or weights, without pickle."""
    if values is None:
        return
    plain = np.array(values.tolist()) if values.dtype == object else values
    if plain.dtype == object or plain.shape != (n_rows,):
        raise ValueError(f"{name}: of shape {plain.shape} and type {plain.dtype}. Give {n_rows} values of one type.")
    np.save(path, plain, allow_pickle=False)


def _folder(folder, block_entries, owner=None):
    """The rows of a folder, once its files are as long as they should be."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        n_rows, n_features, n_entries = (int(about[name]) for name in ("n_rows", "n_features", "n_entries"))
        dtype, is_sparse, known = np.dtype(about["dtype"]), about["is_sparse"], about["format"] == FORMAT
        paths = [folder / f"{name}.npy" for name in OF_ROWS]
        own = [np.load(path, allow_pickle=False) if path.exists() else None for path in paths]
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"X: {folder} is no folder of sksid.blocks.save, or it is damaged: {error}") from error
    if not known:
        raise ValueError(f"X: {folder} was written by another version of sksid.blocks. Write it again.")
    values = FlatFile(folder / "values.bin", dtype, n_entries)
    columns = FlatFile(folder / "columns.bin", np.dtype(np.int32), n_entries if is_sparse else 0)
    indptr = FlatFile(folder / "indptr.bin", np.dtype(np.int64), n_rows + 1 if is_sparse else 1)
    for file in (values, columns, indptr):
        size = file.path.stat().st_size if file.path.exists() else 0
        if size != file.size * file.dtype.itemsize:
            raise ValueError(
                f"X: {file.path} has {size} bytes of {file.size * file.dtype.itemsize}: it is truncated. Write it again."
            )
    if not is_sparse:
        source: Any = DenseSource(values, n_rows, n_features, str(folder), folder, owner)
    else:
        source = CsrSource(values, columns, indptr, n_rows, n_features, str(folder), folder, owner)
    return Blocks(survey(source, str(folder), n_entries, block_entries), *own)


# ---- rows where they are -------------------------------------------------------------------------------------------------


def _in_place(X, block_entries):
    """Rows of an array, or of a CSR array."""
    if sp.issparse(X):
        if X.format != "csr":
            raise ValueError(f"X is a sparse array in {X.format}, whose rows are not in one place. Give CSR.")
        return _of_parts(X.data, X.indices, X.indptr, X.shape, block_entries)
    if X.ndim != 2 or not X.size or X.dtype.kind not in "biuf" or not X.flags.c_contiguous:
        raise ValueError(
            f"X is of shape {X.shape} and type {X.dtype}. Give numbers of shape (n_rows, n_features), row after row."
        )
    return survey(DenseSource(readable(X), *X.shape, _named(X)), _named(X), X.size, block_entries)


def _of_parts(data, indices, indptr, shape, block_entries):
    """The same of the three arrays of a CSR array."""
    n_rows, n_features = map(int, shape)
    if not n_rows or indptr.shape != (n_rows + 1,) or data.shape != indices.shape or indptr[0] or indptr[-1] > data.size:
        raise ValueError(f"X: data, indices and indptr are not those of a CSR array of shape {(n_rows, n_features)}.")
    parts = [readable(part) for part in (data, indices, indptr)]
    return survey(CsrSource(*parts, n_rows, n_features, _named(data)), _named(data), int(indptr[-1]), block_entries)


def _named(array):
    own = array if isinstance(array, np.memmap) else array.base
    return str(own.filename) if isinstance(own, np.memmap) and own.filename else "X"
