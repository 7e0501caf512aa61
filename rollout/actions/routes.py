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
    _write(endpoint, now=now, **fields)
    return {"route": route_facts(endpoint)}


def take_off(endpoint: Endpoint, *, now: datetime) -> None:
    """No candidate any more: one update of one row, so that nothing stands between a decision and its effect."""
    _write(endpoint, now=now, **NO_CANDIDATE)


def _write(endpoint: Endpoint, *, now: datetime, **fields: Any) -> None:
    Route.objects.filter(endpoint=endpoint).update(revision=F("revision") + 1, changed_at=now, **fields)
    transaction.on_commit(lambda: routing.forget(endpoint.name))


def lock_endpoint(endpoint: Endpoint) -> Endpoint:
    """The endpoint as it is now; nobody else decides about it until the transaction ends.

    Whoever locks a rollout as well locks its endpoint first.
    """
    rows = Endpoint.objects.select_for_update(no_key=True, of=("self",))
    return rows.select_related("registered_model__product").get(pk=endpoint.pk)


def route_facts(endpoint: Endpoint) -> dict[str, Any]:
    """Who serves an endpoint, and whether it may: every event that changes it says so whole, so that one event is
    enough to know what served since (``mlops.lineage.as_of``)."""
    versions = ("champion__registered_model", "candidate__registered_model", "fallback__version__registered_model")
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
        "fallback": None if route.endpoint.enabled else _fallback_facts(route),
        "rollouts_paused": route.endpoint.rollouts_paused,
    }


def _fallback_facts(route: Route) -> dict[str, Any]:
    """What answers while the kill switch is pulled; without a named fallback the endpoint's fixed score, if any."""
    named = route.fallback
    if named is None:
        return {"name": "", "score": route.endpoint.fallback, "version": None}
    version = version_facts(named.version) if named.version is not None else None
    return {"name": named.name, "score": named.score, "version": version}
