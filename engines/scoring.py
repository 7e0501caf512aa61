"""Scores from model artifacts that are never loaded here: each lives in a process of its own (``scoring_child``).

::

    with Scorer(path, load_class="skops", columns=columns) as scorer:
        scored = scorer.predict(table)

A scorer stays warm and may be used by several threads, one call at a time. What goes wrong with the artifact is
``Unscorable``: it can not be loaded, it takes too long, it takes down its process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engines import sandbox, scoring_wire
from engines.skops_types import Unscorable

__all__ = ["Scored", "Scorer", "Unscorable", "shut_down", "warm_up"]

MEMORY_LIMIT = 4 * 2**30
START_TIMEOUT = timedelta(seconds=60)
CALL_TIMEOUT = timedelta(seconds=120)
THREADS = 1
"""Threads of one scorer: more would make the time of a single row depend on what else the machine does."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """One float64 score per row, NaN where the model failed; ``errors`` has what it said, by row position."""

    scores: Floats
    errors: dict[int, str]


class Scorer:
    """A warm process that holds one model.

    ``columns`` are the model's inputs in order. ``memory_limit`` is in bytes on top of the libraries. The constructor
    returns when the model is loaded and raises ``Unscorable`` when it can not be.
    """

    def __init__(
        self,
        path: Path,
        *,
        load_class: str,
        columns: Sequence[str],
        memory_limit: int = MEMORY_LIMIT,
        start_timeout: timedelta = START_TIMEOUT,
        call_timeout: timedelta = CALL_TIMEOUT,
    ) -> None:
        if load_class != "skops":
            raise Unscorable(f"Artifacts of the load class {load_class!r} are not scored here; 'skops' is.")
        self.columns = tuple(columns)
        self._call_timeout = call_timeout.total_seconds()
        self._lock = threading.Lock()
        self._nursery = _nursery()
        self._pid, self._channel = self._nursery.start(path, self.columns, memory_limit)
        self._await_ready(start_timeout)

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked; a scorer that failed to answer in time or died can not."""
        return self._channel.fileno() >= 0

    def predict(self, table: pa.Table) -> Scored:
        """Scores of all rows. A row at which the model raises costs only itself."""
        header, body = self._ask({"op": "predict"}, table, answer_bytes=8 * len(table))
        if len(body) != 8 * len(table):
            self.close()
            raise Unscorable("The scorer answered another number of rows than it was asked.")
        errors = {int(row): str(text) for row, text in header.get("errors", {}).items()}
        return Scored(np.frombuffer(body, dtype=np.float64), errors)

    def time_rows(self, table: pa.Table, *, budget: timedelta) -> Floats:
        """Milliseconds for each row asked alone, in order, as many rows as fit into ``budget``; failed rows left out.

        Measured inside the scorer, from the Arrow row to the score.
        """
        header = {"op": "time", "seconds": budget.total_seconds()}
        _, body = self._ask(header, table, answer_bytes=8 * len(table))
        return np.frombuffer(body, dtype=np.float64)

    def close(self) -> None:
        """End the process."""
        if self.is_alive:
            self._channel.close()
            self._nursery.kill(self._pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_ready(self, limit: timedelta) -> None:
        self._channel.settimeout(limit.total_seconds())
        header, _ = self._receive(0, while_it="loaded")
        if not header.get("ready"):
            self.close()
            raise Unscorable(str(header.get("unscorable", "It did not say why it can not be loaded.")))
        self._channel.settimeout(self._call_timeout)

    def _ask(self, header: dict[str, Any], table: pa.Table, *, answer_bytes: int) -> tuple[dict[str, Any], bytearray]:
        missing = [name for name in self.columns if name not in table.column_names]
        if missing:
            raise ValueError(f"The rows lack the model's input columns {', '.join(missing)}.")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.select(list(self.columns)).schema) as writer:
            writer.write_table(table.select(list(self.columns)))
        with self._lock:
            if not self.is_alive:
                raise Unscorable("Its process has ended.")
            try:
                scoring_wire.send(self._channel, header, memoryview(sink.getvalue()))
            except OSError as error:
                self.close()
                raise Unscorable("Its process has ended.") from error
            return self._receive(answer_bytes, while_it="answered")

    def _receive(self, max_body: int, *, while_it: str) -> tuple[dict[str, Any], bytearray]:
        try:
            return scoring_wire.receive(self._channel, max_body=max_body)
        except TimeoutError as error:
            self.close()
            raise Unscorable(f"It had not {while_it} after {self._channel_timeout(while_it)}.") from error
        except (OSError, scoring_wire.WireError, ValueError) as error:
            self.close()
            raise Unscorable(f"Its process ended before it had {while_it}: too little memory, or a crash.") from error

    def _channel_timeout(self, while_it: str) -> str:
        return "its start time limit" if while_it == "loaded" else f"{self._call_timeout:.0f} s"


# ---------------------------------------------------------------------- the nursery


class _Nursery:
    """Our end of the process that scorers are forked from (``scoring_child.nursery``): one question, one answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        argv = [sys.executable, "-P", "-m", "engines.scoring_child", str(theirs.fileno())]
        self._process = subprocess.Popen(
            sandbox.command(argv, cwd=Path("/"), limits={}, outlives_thread=True),
            env=sandbox.environment(threads=THREADS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            cwd="/",
        )
        theirs.close()

    def is_alive(self) -> bool:
        return self._control.fileno() >= 0 and self._process.poll() is None

    def start(self, path: Path, columns: Sequence[str], memory_limit: int) -> tuple[int, socket.socket]:
        """Fork a scorer for the artifact: its pid (for ``kill``) and our end of its channel."""
        ours, theirs = socket.socketpair()
        request = {"op": "start", "columns": list(columns), "memory_limit": memory_limit}
        try:
            with theirs, path.open("rb") as artifact:
                reply = self._exchange(request, [theirs.fileno(), artifact.fileno()])
        except (OSError, Unscorable):
            ours.close()
            raise
        return int(reply["pid"]), ours

    def kill(self, pid: int) -> None:
        """End a scorer, also one that is busy. Quiet when the nursery has ended: its scorers have too."""
        with contextlib.suppress(Unscorable):
            self._exchange({"op": "kill", "pid": pid}, [])

    def close(self) -> None:
        """End the nursery with its scorers."""
        self._control.close()
        sandbox.kill_group(self._process)

    def let_go(self) -> None:
        """Forget it in a forked process: it belongs to the parent, and must notice when that has gone."""
        self._control.close()
        self._process.returncode = 0  # not ours to wait for

    def _exchange(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        text = json.dumps(request).encode() + b"\n"
        with self._lock:
            try:
                socket.send_fds(self._control, [text], descriptors)
                line = b""
                while not line.endswith(b"\n"):
                    chunk = self._control.recv(4096)
                    if not chunk:
                        raise ConnectionError
                    line += chunk
            except OSError as error:
                raise Unscorable("The process that scorers are started from has ended.") from error
        reply: dict[str, Any] = json.loads(line)
        return reply


_current: _Nursery | None = None
_starting = threading.Lock()


def _nursery() -> _Nursery:
    """The nursery of this process, started when there is none or when it has ended."""
    global _current
    with _starting:
        if _current is None or not _current.is_alive():
            _current = _Nursery()
        return _current


def warm_up() -> None:
    """Start importing the libraries now, in the background, so that the first scorer need not wait for them."""
    _nursery()


def shut_down() -> None:
    """End the nursery of this process and all its scorers (at exit, and in tests)."""
    global _current
    with _starting:
        if _current is not None and _current.is_alive():
            _current.close()
        _current = None


def _after_fork() -> None:
    global _current, _starting
    _starting = threading.Lock()
    if _current is not None:
        _current.let_go()
    _current = None


os.register_at_fork(after_in_child=_after_fork)
atexit.register(shut_down)
