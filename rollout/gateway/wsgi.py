"""The gateway's own WSGI entry, for granian: no middleware, no session, no Django request.

``manage.py gateway`` starts it. Each worker process has its own spool, models and routes.
"""

from __future__ import annotations

import atexit
import os
import warnings
from multiprocessing import util
from typing import TYPE_CHECKING

import django

from engines.sandbox_child import die_with

if TYPE_CHECKING:
    from rollout.gateway.entry import Application


def _application() -> Application:
    """Start serving in this process, and have it end in order."""
    if server := os.environ.get("GATEHOUSE_GATEWAY_SERVER"):  # rollout.gateway.server started us: end with it
        die_with(int(server))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # requests are what runs at once, not the parts of one model call
    django.setup()
    from rollout.gateway.entry import Application
    from rollout.gateway.process import Process

    warnings.simplefilter("ignore")  # a model's warnings are for nobody here
    process = Process()
    process.start()
    atexit.register(process.stop)
    util.Finalize(process, process.stop, exitpriority=100)  # a worker of granian ends without atexit
    return Application(process)


application = _application()
