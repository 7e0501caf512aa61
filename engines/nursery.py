"""Our end of the processes that hold models: a nursery per shelf of libraries, and the children forked from it.

``engines.scoring_child`` is the other end. A ``Child`` is asked one question at a time and answers with a frame
(``scoring_wire``); whatever goes wrong with it is ``Unscorable``.
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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from engines import sandbox, scoring_wire
from engines.skops_types import Unscorable

THREADS = 1
"""Threads of one child: more would make the time of a single row depend on what else the machine does."""
FRAMES, TENSORS = "frames", "tensors"
"""The shelves of libraries (``scoring_child.SHELVES``)."""


class Child:
    """A process that holds one artifact. The constructor returns once it is forked, not once it has loaded anything."""

    def __init__(self, path: Path, *, shelf: str, order: Mapping[str, Any]) -> None:
        self._lock = threading.Lock()
        self._nursery = _nursery(shelf)
        self._pid, self._channel = self._nursery.start(path, order)

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked; one that failed to answer in time or died can not."""
        return self._channel.fileno() >= 0

    def ask(
        self, header: Mapping[str, Any], table: pa.Table, *, answer_bytes: int, seconds: float
    ) -> tuple[dict[str, Any], bytearray]:
        """Its answer to a question with a table. Raises Unscorable, and then it has ended."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        with self._lock:
            if not self.is_alive:
                raise Unscorable("Its process has ended.")
            self._channel.settimeout(seconds)
            try:
                scoring_wire.send(self._channel, dict(header), memoryview(sink.getvalue()))
            except OSError as error:
                self.close()
                raise Unscorable("Its process has ended.") from error
            return self.receive(answer_bytes, seconds=seconds, verb="answered")

    def receive(self, answer_bytes: int, *, seconds: float, verb: str) -> tuple[dict[str, Any], bytearray]:
        """The next frame that it sends. Raises Unscorable, saying that it had not ``verb`` in time."""
        self._channel.settimeout(seconds)
        try:
            return scoring_wire.receive(self._channel, max_body=answer_bytes)
        except TimeoutError as error:
            self.close()
            limit = "its start time limit" if verb == "loaded" else f"{seconds:.0f} s"
            raise Unscorable(f"It had not {verb} after {limit}.") from error
        except (OSError, scoring_wire.WireError, ValueError) as error:
            self.close()
            raise Unscorable(f"Its process ended before it had {verb}: too little memory, or a crash.") from error

    def close(self) -> None:
        """End the process."""
        if self.is_alive:
            self._channel.close()
            self._nursery.kill(self._pid)


class _Nursery:
    """Our end of the process that children are forked from (``scoring_child.nursery``): one question, one answer."""

    def __init__(self, shelf: str) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        argv = [sys.executable, "-P", "-m", "engines.scoring_child", str(theirs.fileno()), shelf]
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

    def start(self, path: Path, order: Mapping[str, Any]) -> tuple[int, socket.socket]:
        """Fork a child for the artifact: its pid (for ``kill``) and our end of its channel."""
        ours, theirs = socket.socketpair()
        try:
            with theirs, path.open("rb") as artifact:
                reply = self._exchange({"op": "start", **order}, [theirs.fileno(), artifact.fileno()])
        except (OSError, Unscorable):
            ours.close()
            raise
        return int(reply["pid"]), ours

    def kill(self, pid: int) -> None:
        """End a child, also one that is busy. Quiet when the nursery has ended: its children have too."""
        with contextlib.suppress(Unscorable):
            self._exchange({"op": "kill", "pid": pid}, [])

    def close(self) -> None:
        """End the nursery with its children."""
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


_current: dict[str, _Nursery] = {}
_starting = threading.Lock()


def _nursery(shelf: str) -> _Nursery:
    """The nursery of this process for a shelf, started when there is none or when it has ended."""
    with _starting:
        found = _current.get(shelf)
        if found is None or not found.is_alive():
            found = _current[shelf] = _Nursery(shelf)
        return found


def warm_up(shelf: str) -> None:
    """Start importing a shelf's libraries now, in the background, so that the first child need not wait for them."""
    _nursery(shelf)


def shut_down() -> None:
    """End the nurseries of this process and all their children (at exit, and in tests)."""
    with _starting:
        for each in _current.values():
            if each.is_alive():
                each.close()
        _current.clear()


def _after_fork() -> None:
    global _starting
    _starting = threading.Lock()
    for each in _current.values():
        each.let_go()
    _current.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(shut_down)
