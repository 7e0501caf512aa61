"""The gateway without its log, to see what logging costs: granian's ``benchmarks.gateway_unlogged:application``.

Rows are neither written as JSON nor appended to the spool; everything else is as in ``rollout.gateway.wsgi``.
"""

from __future__ import annotations

from typing import Any

from audit import clock
from rollout.gateway import wsgi
from rollout.gateway.core import Gateway
from rollout.gateway.entry import Application
from rollout.gateway.process import Process
from rollout.gateway.store import OnlineFeatures
from rollout.gateway.table import TableLine


class Unlogged(Gateway):
    def write(self, line: TableLine, columns: dict[str, Any], rows: int) -> None:
        """Nothing is written down."""


def _unlogged(application: Application) -> Application:
    process: Process = application.process
    process.gateway = Unlogged(process.routes, process.models, process.spool, clock.now, features=OnlineFeatures())
    return application


application = _unlogged(wsgi.application)
