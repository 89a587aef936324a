"""BLAS in one thread while any fit runs, and its own number of threads again after the last one."""

import os
from threading import Lock, local
from types import TracebackType
from typing import Any

from threadpoolctl import ThreadpoolController


class BlasLimit:
    """A context that limits BLAS to one thread; it may be entered again, and by several threads at once.

    ``threadpoolctl.threadpool_limits`` remembers the number of threads that it finds. Of two contexts that overlap without
    being nested, the later one finds the limit of the earlier one and leaves it behind for the whole process. This context
    counts: the first to enter sets the limit, the last to leave takes it away. The libraries are looked up once for the
    process, since that takes longer than a small fit. So a BLAS that is loaded later is not limited.

    What an interrupt leaves undone is done when the context is left the next time. In a process that is forked, only the
    thread that has forked it goes on, and only what this one has entered counts.

    Examples
    --------
    >>> from sksid._threads import single_blas_thread
    >>> with single_blas_thread, single_blas_thread:
    ...     pass
    """

    def __init__(self) -> None:
        self._lock, self._entered, self._of_thread = Lock(), 0, local()
        self._libraries: list = []
        self._before: list[tuple[Any, int]] = []
        os.register_at_fork(after_in_child=self._go_on_alone)

    def __enter__(self) -> None:
        with self._lock:
            if self._entered == 0:
                self._limit()
            self._entered += 1
        self._of_thread.entered = getattr(self._of_thread, "entered", 0) + 1

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._of_thread.entered -= 1
        with self._lock:
            self._entered -= 1
            if self._entered == 0:
                self._restore()

    def _limit(self):
        self._libraries = self._libraries or ThreadpoolController().select(user_api="blas").lib_controllers
        self._before = self._before or [(library, library.num_threads) for library in self._libraries]
        try:
            for library in self._libraries:
                library.set_num_threads(1)
        except BaseException:
            self._restore()
            raise

    def _restore(self):
        for library, n_threads in self._before:
            library.set_num_threads(n_threads)
        self._before = []

    def _go_on_alone(self):
        self._lock, self._entered = Lock(), getattr(self._of_thread, "entered", 0)
        if self._entered == 0:
            self._restore()


single_blas_thread = BlasLimit()  # one for the process, as BLAS has one number of threads for the process
