"""``manage.py gateway``: answer live traffic, and take its predictions into the log."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from audit import clock
from rollout.gateway import server
from rollout.gateway.loop import EVERY, Loop, take_in

STOP_WITHIN = 20.0


class Command(BaseCommand):
    help = "Serve the endpoints' traffic until SIGTERM or Ctrl-C (docs/gateway.md)."
    requires_system_checks: list[str] = []  # it must start while the database is away

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
        parser.add_argument("--port", type=int, default=8400, help="Port to listen on (default: %(default)s).")
        parser.add_argument("--workers", type=int, default=1, help="Processes that answer (default: %(default)s).")
        parser.add_argument("--threads", type=int, default=4, help="Requests at once per process (%(default)s).")
        parser.add_argument(
            "--no-ingest", action="store_true", help="Only answer: something else takes the spool into the log."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {name: options[name] for name in ("host", "port", "workers", "threads")}
        serving = subprocess.Popen(server.command(**wanted), cwd=settings.BASE_DIR, env=os.environ)
        loop = None if options["no_ingest"] else Loop(clock.now)
        try:
            with suppress(KeyboardInterrupt), _signals_end():
                while serving.poll() is None:
                    if loop is not None:
                        loop.turn()
                    time.sleep(EVERY)
        finally:
            code = _stopped(serving)
        if loop is not None:
            take_in(clock.now())  # what was written last
        if code not in (0, -signal.SIGTERM, -signal.SIGINT):
            raise SystemExit(f"The gateway's server ended with code {code}.")


@contextmanager
def _signals_end() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped(serving: subprocess.Popen[bytes]) -> int:
    """End the server in order, or, when it takes too long, at once; its exit code."""
    if serving.poll() is None:
        serving.terminate()
    try:
        return serving.wait(timeout=STOP_WITHIN)
    except subprocess.TimeoutExpired:
        serving.kill()
        return serving.wait()
