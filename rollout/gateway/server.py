"""``python -m rollout.gateway.server``: granian with the gateway's WSGI entry, as ``manage.py gateway`` starts it.

The command line is ``<pid of the parent> <host> <port> <workers> <threads>``. The server ends with its parent, its
workers with the server, however any of them dies.
"""

from __future__ import annotations

import os
import sys

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels

from engines.sandbox_child import die_with

PARENT = "GATEHOUSE_GATEWAY_SERVER"
"""The environment variable that names the server's pid to its workers."""
RESPAWN_AFTER = 1.0
STOP_WITHIN = 10


def command(*, host: str, port: int, workers: int, threads: int) -> list[str]:
    """The command line of the server, to be started by this process."""
    every = (os.getpid(), host, port, workers, threads)
    return [sys.executable, "-m", "rollout.gateway.server", *map(str, every)]


APPLICATION = "rollout.gateway.wsgi:application"


def serve(host: str, port: int, *, workers: int, threads: int, application: str = APPLICATION) -> None:
    """Serve until SIGTERM; a worker that dies is replaced."""
    os.environ[PARENT] = str(os.getpid())
    Granian(
        application,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        respawn_interval=RESPAWN_AFTER,
        workers_kill_timeout=STOP_WITHIN,
    ).serve()


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    serve(sys.argv[2], int(sys.argv[3]), workers=int(sys.argv[4]), threads=int(sys.argv[5]))
