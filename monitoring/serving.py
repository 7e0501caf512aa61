"""Whether the champion of an endpoint answers at all: read from the prediction log, where its failures are kept.

The traveller gets the fallback when the champion fails, so nobody outside notices: this is who does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow.compute as pc

from rollout import prediction_log
from rollout.models import Endpoint

WINDOW = timedelta(hours=12)
MINIMUM = 30
TOLERATED = 0.02
"""Share of requests that a champion may fail on before somebody is called."""


@dataclass(frozen=True)
class Serving:
    """The champion's requests since ``since``: how many, how many failed, and with which words the first one."""

    endpoint: Endpoint
    since: datetime
    asked: int
    failed: int
    first_error: str

    @property
    def is_failing(self) -> bool:
        return self.asked >= MINIMUM and self.failed > TOLERATED * self.asked

    @property
    def is_answering(self) -> bool:
        return self.asked >= MINIMUM and not self.is_failing


def serving_of(endpoint: Endpoint, *, now: datetime) -> Serving:
    """How the champion of ``endpoint`` fared in the newest window. A canary's failures are the rollout's to judge."""
    since = now - WINDOW
    log = prediction_log.read(endpoint.name, since=since, until=now, columns=["arm", "status", "error"])
    asked = log.filter(pc.equal(log["arm"], "champion"))
    failed = asked.filter(pc.equal(asked["status"], "error"))
    first = failed["error"][0].as_py() if failed.num_rows else ""
    return Serving(endpoint, since, asked.num_rows, failed.num_rows, first or "")
