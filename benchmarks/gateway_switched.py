"""The gateway with a log that can be switched off, to see what logging costs in one and the same process.

An application beside ``rollout.gateway.wsgi:application``. ``POST /switch/off``: rows are neither written as JSON nor
appended to the spool from now on; everything else is as it was. ``POST /switch/on``: as in production.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from audit import clock
from rollout.gateway import wsgi
from rollout.gateway.core import Gateway
from rollout.gateway.entry import Application, Start
from rollout.gateway.process import Process
from rollout.gateway.store import OnlineFeatures
from rollout.gateway.table import TableLine


class _Switched(Gateway):
    is_on = True

    def write(self, line: TableLine, columns: dict[str, Any], rows: int) -> None:
        if self.is_on:
            super().write(line, columns, rows)


class _Application:
    def __init__(self, inner: Application) -> None:
        process: Process = inner.process
        self._inner = inner
        self._gateway = _Switched(process.routes, process.models, process.spool, clock.now, features=OnlineFeatures())
        process.gateway = self._gateway

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        before, switch, wanted = environ["PATH_INFO"].partition("/switch/")
        if before or not switch:
            return self._inner(environ, start_response)
        self._gateway.is_on = wanted == "on"
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]


application = _Application(wsgi.application)
