"""The one way to change who serves an endpoint: a new revision of its route, seen by this process at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F

from rollout import routing
from rollout.models import Endpoint, Route

NO_CANDIDATE: dict[str, Any] = {"candidate": None, "rollout": None, "stage": "", "share": 0.0, "step": 0, "salt": ""}
"""The champion alone answers."""


def reroute(endpoint: Endpoint, *, now: datetime, **fields: Any) -> None:
    """Write ``fields`` and a new revision in the caller's transaction; the gateway's copy here is dropped with it."""
    Route.objects.filter(endpoint=endpoint).update(revision=F("revision") + 1, changed_at=now, **fields)
    transaction.on_commit(lambda: routing.forget(endpoint.name))
