"""A thing with a state to move, and a reaction to watch."""

from __future__ import annotations

from typing import Any

from audit.models import Event
from audit.trail import Service, record
from monitoring.models import Incident, IncidentKind, IncidentState
from registry.models import Duty
from tests.builders import NOON

ROBOT = Service("robot")
REACTIONS = {"incident.acknowledged": ["tests.audit.subjects.resolve"], "incident.resolved": []}


def incident(cause_key: str = "freshness:weather", **fields: Any) -> Incident:
    values = {
        "state": IncidentState.OPEN,
        "kind": IncidentKind.FRESHNESS,
        "duty": Duty.PLATFORM,
        "severity": "high",
        "title": "Weather is stale",
        "opened_at": NOON,
        **fields,
    }
    created: Incident = Incident.objects.create(cause_key=cause_key, **values)
    return created


def resolve(event: Event) -> None:
    """A reaction: what was acknowledged is resolved."""
    Incident.objects.get(pk=event.subject_id).move(IncidentState.RESOLVED, actor=ROBOT, reason="It came back")


def count_itself(event: Event) -> None:
    """A reaction that leaves one event each time it acts."""
    record("incident.counted", Incident.objects.get(pk=event.subject_id), actor=ROBOT)


def stumble(event: Event) -> None:
    """A reaction that writes, then fails."""
    count_itself(event)
    raise RuntimeError("stumbled after writing")
