"""The Dask cluster that is in use: what is asked of it, what is waited for, and how it is found to be lost."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from threading import Event
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

PATIENCE = 300.0  # seconds without any worker before the cluster counts as lost, where Dask's own setting says nothing
OWN_PATIENCE = "distributed.scheduler.no-workers-timeout"
LOOK = 5.0  # seconds between looks at the workers


class ClusterLostError(RuntimeError):
    """The cluster cannot go on: it has no workers, or no scheduler, or what is asked of them kills them all."""


def is_dask(X: Any) -> bool:
    """Whether it is a collection of Dask."""
    return type(X).__module__.partition(".")[0] == "dask"


def computed(value: Any) -> Any:
    """What a collection of Dask stands for; any other value as it is."""
    return value.compute() if is_dask(value) else value


def delayed_parts(X: Any) -> list:
    """Its chunks of rows, or its partitions, in their order."""
    parts = X.to_delayed()
    return list(parts.ravel() if hasattr(parts, "ravel") else parts)


def column_names(X: Any) -> NDArray[np.object_] | None:
    """The names of a frame's columns, as scikit-learn's ``feature_names_in_``; None where they are not all strings."""
    names = np.asarray(getattr(X, "columns", ()), dtype=object)
    return names if names.size and all(isinstance(name, str) for name in names) else None


def numbers_of(part: Any) -> Any:
    """A partition of numeric columns as an ndarray; any other part as it is."""
    if not hasattr(part, "columns"):
        return part
    single = all(dtype == np.float32 for dtype in part.dtypes)
    return part.to_numpy(dtype=np.float32 if single else np.float64, na_value=np.nan)


def check_numeric(X: Any) -> None:
    """Refuse a collection that is not of numbers in rows and columns, each chunk with all columns.

    Raises
    ------
    TypeError, ValueError
        Naming the columns, and the remedy.
    """
    if X.ndim != 2:
        raise TypeError(
            f"X is a {type(X).__name__} of Dask, not of rows and columns. Give a Pipeline that makes columns of it."
        )
    if hasattr(X, "numblocks"):
        if X.numblocks[1] != 1:
            raise ValueError(
                f"X is in chunks {X.numblocks}, some of which have a part of the columns. Use X.rechunk({{1: -1}})."
            )
    elif others := {str(name): str(dtype) for name, dtype in X.dtypes.items() if dtype.kind not in "biuf"}:
        raise ValueError(
            f"X has columns that are not numbers: {others}. Leave them out, or give a Pipeline whose ColumnTransformer encodes "
            "them: with a OneHotEncoder that is fitted, sklearn.frozen.FrozenEstimator(encoder)."
        )


def client_in_use() -> Any:
    """The client that Dask has as the default one.

    Raises
    ------
    ValueError
        Where there is none.
    """
    from distributed import default_client

    try:
        return default_client()
    except ValueError as error:
        raise ValueError("X is of Dask, and there is no cluster. Make a client first: distributed.Client().") from error


def submitted(client: Any, function: Callable, *values: Any, home: str | None = None) -> Any:
    """A future of the function's result, which can be made anew where the worker that has it is lost.

    ``home`` is the address of the worker that is to have it, as long as there is that worker.
    """
    if client.status != "running":
        raise ClusterLostError(f"the client is {client.status}")
    key = f"{function.__name__.strip('_')}-{uuid4().hex}"
    return client.submit(_called, function, *values, key=key, workers=home, allow_other_workers=home is not None)


def _called(function, *values):
    return function(*map(aligned, values))


def aligned(value: Any) -> Any:
    """What has come over a wire, where an array begins anywhere, as kernels take it; also within tuples and dataclasses."""
    if isinstance(value, np.ndarray):
        return np.require(value, requirements=["A"])
    if isinstance(value, tuple):
        return tuple(map(aligned, value))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    parts = {field.name: getattr(value, field.name) for field in fields(value)}
    changed = {name: new for name, old in parts.items() if (new := aligned(old)) is not old and not isinstance(old, tuple)}
    return replace(value, **changed) if changed else value


def fetched(client: Any, futures: Any) -> Any:
    """What a future stands for, or each of a list of futures, once it is there.

    Dask repeats what lost workers had to do, on those that are left or come anew. So it is waited for, as long as there are
    workers, and for ``PATIENCE`` seconds where there are none, or as long as Dask's setting ``OWN_PATIENCE`` says.

    Raises
    ------
    ClusterLostError
        Where it will never be there.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.scheduler import NoWorkerError

    try:
        for future in futures if isinstance(futures, list) else [futures]:
            _wait(client, future)
        return client.gather(futures)
    except (KilledWorker, NoWorkerError, CancelledError, OSError, MemoryError) as error:
        raise ClusterLostError(str(error).partition("\n")[0] or type(error).__name__) from error


def _wait(client, future):
    import dask

    patience, alone = dask.config.get(OWN_PATIENCE, None), 0.0
    patience = PATIENCE if patience is None else dask.utils.parse_timedelta(patience)
    look, done = min(LOOK, patience), Event()
    future.add_done_callback(lambda _: done.set())
    while not done.wait(look):
        alone = 0.0 if client.nthreads() else alone + look
        if alone >= patience:
            raise ClusterLostError(f"it has had no worker for {patience:.0f} seconds")
