"""A process of Feast's environment that answers our requests."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from benchmarks.feast_peer import environment

_ROOT = Path(__file__).resolve().parents[2]
_GRACE_SECONDS = 20


class PeerError(Exception):
    """Feast could not do it, and said why; or its process died, and this is the end of what it said."""


class Session:
    """``python -m benchmarks.feast_peer.inside``, for the length of a ``with`` block.

    It has loaded Feast when the block starts. ``variables`` are added to its environment.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = variables or {}

    def __enter__(self) -> Session:
        self._said: IO[str] = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [str(environment.binaries() / "python"), "-W", "ignore", "-m", "benchmarks.feast_peer.inside"],
            cwd=_ROOT,
            env={**os.environ, **self._variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        try:
            self.call("ready")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """What the command (``inside/__main__.py``) answers. Raises PeerError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(f"{command}: {self._last_words()}") from error
        answer = self._process.stdout.readline()
        if not answer:
            raise PeerError(f"{command}: {self._last_words()}")
        result: dict[str, Any] = json.loads(answer)
        if "error" in result:
            raise PeerError(f"{command}: {result['error']}")
        return result

    def _last_words(self) -> str:
        self._said.seek(0)
        return self._said.read()[-3000:]

    def _end(self) -> None:
        """Close its input, at which it ends by itself; kill it where it does not."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(BrokenPipeError):  # it is dead already
                self._process.stdin.close()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()
