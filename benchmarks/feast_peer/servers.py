"""Throwaway servers of online stores: Redis and PostgreSQL on this machine, gone after the ``with`` block."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import free_port, wait_for_port
from tests.postgres_cluster import Cluster, running_cluster, server_binaries

_GRACE_SECONDS = 20


class NoServer(Exception):
    """The server's program is not installed; the message says what to install."""


@contextmanager
def redis() -> Iterator[int]:
    """The port on 127.0.0.1 of an empty Redis that keeps nothing on disk. Raises NoServer."""
    program = shutil.which("redis-server")
    if program is None:
        raise NoServer("There is no redis-server here (Debian and Ubuntu: apt-get install redis-server).")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="gatehouse-redis-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
        with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
            try:
                wait_for_port(port)
                yield port
            finally:
                server.terminate()
                server.wait(_GRACE_SECONDS)


@contextmanager
def postgres() -> Iterator[Cluster]:
    """A running PostgreSQL on a Unix socket: ``folder`` is its socket folder, ``url`` its address. Raises NoServer."""
    binaries: Path | None = server_binaries()
    if binaries is None:
        raise NoServer("There is no PostgreSQL server here (Debian and Ubuntu: apt-get install postgresql).")
    with running_cluster(binaries) as cluster:
        yield cluster
