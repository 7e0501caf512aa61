"""Who splits an endpoint's traffic: the platform group says so; and what is told when a backend does not follow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from pydantic import ValidationError

from audit.errors import Conflict, InvalidInput
from audit.models import Event
from audit.trail import Actor, record
from engines.traffic.document import NginxTraffic, read_document
from registry.duties import require
from registry.models import Duty
from rollout.actions.persons import said
from rollout.actions.routes import lock_endpoint, reroute
from rollout.models import ACTIVE, Endpoint, TrafficPlan

ADRIFT, RESTORED = "endpoint.traffic_adrift", "endpoint.traffic_restored"


def check_traffic(document: Mapping[str, Any], *, endpoint: str) -> None:
    """Raises InvalidInput naming what is wrong in the traffic document of the endpoint with this name.

    Of two that listen on one port, nginx would send one's requests to the other's versions.
    """
    try:
        read = read_document(document)
    except ValidationError as problem:
        texts = [f"{'.'.join(map(str, each['loc'])) or 'document'}: {each['msg']}" for each in problem.errors()]
        raise InvalidInput({"traffic": texts}) from problem
    if isinstance(read, NginxTraffic):
        port = read.listen.rpartition(":")[2]
        others = Endpoint.objects.exclude(name=endpoint).filter(traffic__listen__endswith=f":{port}")
        if other := others.first():
            raise InvalidInput({"traffic": f"listen: nginx takes the requests of {other} on port {port} already."})


def set_traffic(endpoint: Endpoint, *, traffic: Mapping[str, Any], reason: str, actor: Actor, now: datetime) -> None:
    """From now on this backend splits the endpoint's traffic (``engines.traffic.document``; empty: our own gateway).

    Not while a rollout is active: half of its evidence would come from elsewhere. Raises InvalidInput, Conflict.
    """
    require(actor, endpoint.registered_model, Duty.PLATFORM)
    said(reason, field="reason")
    check_traffic(traffic, endpoint=endpoint.name)
    with transaction.atomic():
        locked = lock_endpoint(endpoint)
        active = locked.rollouts.filter(state__in=ACTIVE).first()
        if active is not None:
            raise Conflict(f"{active} is {active.state}: its evidence comes from one backend. Wait, or abort it.")
        before = locked.traffic
        Endpoint.objects.filter(pk=locked.pk).update(traffic=dict(traffic))
        route = reroute(locked, now=now)
        data = {"before": before, "after": dict(traffic), **route}
        record("endpoint.traffic_set", locked, actor=actor, reason=reason, data=data)
    endpoint.refresh_from_db()


def note_traffic_adrift(plan: TrafficPlan, *, since: datetime, actor: Actor) -> Event:
    """Say that an endpoint's backend has not done for long what the route says."""
    reason = f"{plan.backend} does not do what the route of {plan.endpoint} says: {plan.problem}"
    data = {"backend": plan.backend, "fence": plan.fence, "since": since.isoformat(), "wanted": plan.wanted["split"]}
    return record(ADRIFT, plan.endpoint, actor=actor, reason=reason, data=data)


def note_traffic_restored(plan: TrafficPlan, *, actor: Actor) -> Event:
    """Say that it does so again."""
    reason = f"{plan.backend} does what the route of {plan.endpoint} says."
    return record(RESTORED, plan.endpoint, actor=actor, reason=reason, data={"fence": plan.fence})
