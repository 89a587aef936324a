"""The Dask cluster that is in use: what is asked of it, what is waited for, and how it is found to be lost."""

from collections.abc import Callable
from typing import Any

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


def submitted(client: Any, function: Callable, *values: Any) -> Any:
    """A future of the function's result, which can be made anew where the worker that has it is lost."""
    if client.status != "running":
        raise ClusterLostError(f"the client is {client.status}")
    return client.submit(function, *values, pure=False)


def fetched(client: Any, future: Any) -> Any:
    """What a future stands for, once it is there.

    Dask repeats what lost workers had to do, on those that are left or come anew. So it is waited for, as long as there are
    workers, and for ``PATIENCE`` seconds where there are none, or as long as Dask's setting ``OWN_PATIENCE`` says.

    Raises
    ------
    ClusterLostError
        Where it will never be there.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, wait
    from distributed.scheduler import NoWorkerError

    try:
        _wait(client, future, wait)
        return future.result()
    except (KilledWorker, NoWorkerError, CancelledError, OSError, MemoryError) as error:
        raise ClusterLostError(str(error).partition("\n")[0] or type(error).__name__) from error


def _wait(client, future, wait):
    import dask

    patience, alone = dask.config.get(OWN_PATIENCE, None), 0.0
    patience = PATIENCE if patience is None else dask.utils.parse_timedelta(patience)
    while not future.done():
        look = min(LOOK, patience)
        try:
            wait(future, timeout=look)
        except TimeoutError:
            alone = 0.0 if client.nthreads() else alone + look
            if alone >= patience:
                raise ClusterLostError(f"it has had no worker for {patience:.0f} seconds") from None
