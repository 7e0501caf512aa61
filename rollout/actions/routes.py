"""The one way to change who serves an endpoint: a new revision of its route, seen by this process at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F

from registry.facts import version_facts
from rollout import routing
from rollout.models import Endpoint, Route

NO_CANDIDATE: dict[str, Any] = {"candidate": None, "rollout": None, "stage": "", "share": 0.0, "step": 0, "salt": ""}
"""The champion alone answers."""


def reroute(endpoint: Endpoint, *, now: datetime, **fields: Any) -> dict[str, Any]:
    """Write ``fields`` and a new revision in the caller's transaction; the gateway's copy here is dropped with it.

    The facts of the route as it is now, for the event that tells of it.
    """
    Route.objects.filter(endpoint=endpoint).update(revision=F("revision") + 1, changed_at=now, **fields)
    transaction.on_commit(lambda: routing.forget(endpoint.name))
    return {"route": route_facts(endpoint)}


def route_facts(endpoint: Endpoint) -> dict[str, Any]:
    """Who serves an endpoint, and whether it may: every event that changes it says so whole, so that one event is
    enough to know what served since (``mlops.lineage.as_of``)."""
    versions = ("champion__registered_model", "candidate__registered_model")
    route = Route.objects.select_related("endpoint", *versions).get(endpoint=endpoint)
    return {
        "endpoint": endpoint.name,
        "enabled": route.endpoint.enabled,
        "revision": route.revision,
        "champion": version_facts(route.champion) if route.champion else None,
        "candidate": version_facts(route.candidate) if route.candidate else None,
        "stage": route.stage,
        "step": route.step,
        "share": route.share,
    }
