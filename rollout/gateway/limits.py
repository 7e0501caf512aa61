"""Work that can be given up: done in a thread of its own, waited for only so long. Pure.

A thread can not be stopped, so what was given up goes on until it ends. There are few threads, and when all of them are
busy with such work the next piece is refused at once: a version that hangs holds up nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Waited
from typing import TypeVar

T = TypeVar("T")
THREADS = 4


class GivenUp(Exception):
    """It was not done in time, or not begun because earlier work still runs."""


class Limited:
    """A few threads for work with a time limit."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="limited")
        self._free = threading.Semaphore(threads)

    def call(self, work: Callable[[], T], *, seconds: float) -> T:
        """What ``work`` returns or raises. Raises GivenUp after so many seconds."""
        if not self._free.acquire(blocking=False):
            raise GivenUp("It is still busy with requests that were given up.")
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._free.release())
        try:
            return future.result(timeout=seconds)
        except Waited:
            future.cancel()
            raise GivenUp(f"It took longer than {seconds * 1000:g} ms.") from None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
