"""BLAS in one thread while any fit runs, and its own number of threads again after the last one."""

from threading import Lock
from types import TracebackType
from typing import Any

from threadpoolctl import ThreadpoolController


class BlasLimit:
    """A context that limits BLAS to one thread; it may be entered again, and by several threads at once.

    ``threadpoolctl.threadpool_limits`` remembers the number of threads that it finds. Of two contexts that overlap without
    being nested, the later one finds the limit of the earlier one and leaves it behind for the whole process. This context
    counts: the first to enter sets the limit, the last to leave takes it away. The libraries are looked up once for the
    process, since that takes longer than a small fit. So a BLAS that is loaded later is not limited.

    Examples
    --------
    >>> from sksid._threads import single_blas_thread
    >>> with single_blas_thread, single_blas_thread:
    ...     pass
    """

    def __init__(self) -> None:
        self._lock, self._entered = Lock(), 0
        self._libraries: Any = None
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._entered == 0:
                self._libraries = self._libraries or ThreadpoolController()
                self._limits = self._libraries.limit(limits=1, user_api="blas")
            self._entered += 1

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with self._lock:
            self._entered -= 1
            if self._entered == 0:
                self._limits.restore_original_limits()


single_blas_thread = BlasLimit()  # one for the process, as BLAS has one number of threads for the process
