"""Incidents about gateways: whoever keeps the hosts hears when one is silent or refuses what it should serve."""

from __future__ import annotations

from datetime import datetime

from audit.trail import Actor
from monitoring import exposure
from monitoring.actions.incidents import raise_incident, resolve
from monitoring.gateways import Gateways, Refused
from monitoring.models import Incident, IncidentKind, IncidentState
from registry.models import Duty
from rollout.models import Endpoint

_CAUSE = f"{IncidentKind.SERVING}:gateway:"
"""No endpoint's name holds a colon, so no endpoint's cause begins like this."""
_TITLES = {"refused": "is refused by the gateway", "breaker_open": "keeps failing at the gateway"}
_NEXT = {
    "refused": "Its scores here are not those of its gates, or its artifact can not be loaded. What served before goes "
    "on, else the fallback answers. Look at the gateway's log and at the libraries installed there.",
    "breaker_open": "Its requests get the next best answer. A candidate is rolled back by itself; of a champion look "
    "at the errors in the prediction log, or pull the kill switch.",
}


def report_gateways(found: Gateways, *, actor: Actor, now: datetime) -> None:
    """Open an incident for each silent host and each version that is refused; close those that are over."""
    for host, seen_at in found.silent.items():
        _raise_silent(host, seen_at, actor=actor, now=now)
    for refused in found.refused:
        _raise_refused(refused, actor=actor, now=now)
    causes = {_silent_cause(host) for host in found.silent} | {f"{_CAUSE}{each.key}" for each in found.refused}
    open_ones = Incident.objects.filter(cause_key__startswith=_CAUSE).exclude(state=IncidentState.RESOLVED)
    for incident in open_ones.order_by("id"):
        is_of_host = incident.cause_key.startswith(_silent_cause(""))
        if incident.cause_key not in causes and (is_of_host or found.speaking):
            reason = "It was seen again, or is taken as retired." if is_of_host else "No gateway says so any more."
            resolve(incident, actor=actor, reason=reason, now=now)


def _silent_cause(host: str) -> str:
    return f"{_CAUSE}silent:{host}"[:200]


def _raise_silent(host: str, seen_at: datetime, *, actor: Actor, now: datetime) -> None:
    raise_incident(
        kind=IncidentKind.SERVING,
        duty=Duty.PLATFORM,
        registered_model=None,
        version=None,
        cause_key=_silent_cause(host),
        title=f"The gateway on {host} is silent",
        detail=f"It was last seen at {seen_at:%Y-%m-%d %H:%M:%S} and said no good-bye. It may serve without the "
        "database, or not at all: ask its /v2/health/live. A host that stays silent for a day is taken as retired.",
        evidence={"host": host, "seen_at": seen_at.isoformat()},
        severity="high",
        actor=actor,
        now=now,
        owner=exposure.platform_group(),
    )


def _raise_refused(refused: Refused, *, actor: Actor, now: datetime) -> None:
    endpoint = Endpoint.objects.select_related("registered_model").filter(name=refused.endpoint).first()
    raise_incident(
        kind=IncidentKind.SERVING,
        duty=Duty.PLATFORM,
        registered_model=endpoint.registered_model if endpoint else None,
        version=None,
        cause_key=f"{_CAUSE}{refused.key}"[:200],
        title=f"{refused.endpoint}: {refused.version} {_TITLES[refused.kind]}",
        detail=f"{refused.message} {_NEXT[refused.kind]}",
        evidence={"endpoint": refused.endpoint, "version": refused.version, "message": refused.message},
        severity="high",
        actor=actor,
        now=now,
        owner=None if endpoint else exposure.platform_group(),
    )
