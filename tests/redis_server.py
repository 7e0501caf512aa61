"""A throwaway Redis for tests: on a Unix socket in a temporary folder, nothing kept on disk, gone after the block."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GRACE_SECONDS = 20
MISSING = "NOT TESTED ON REDIS: there is no redis-server here (Debian and Ubuntu: apt-get install redis-server)"


def server_program() -> str | None:
    return shutil.which("redis-server")


def is_required() -> bool:
    """In CI a missing server fails instead of skipping."""
    return os.environ.get("CI") == "true" or os.environ.get("GATEHOUSE_REQUIRE_REDIS") == "1"


@contextmanager
def running_redis(program: str) -> Iterator[str]:
    """The address of an empty Redis. Raises TimeoutError when it does not start."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-redis-") as folder:
        socket = Path(folder) / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", "", "--appendonly", "no"]
        with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
            try:
                _wait_for(socket)
                yield f"unix://{socket}"
            finally:
                server.terminate()
                server.wait(GRACE_SECONDS)


def _wait_for(socket: Path) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    while not socket.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"redis-server did not open {socket}")
        time.sleep(0.02)
