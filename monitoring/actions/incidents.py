"""Incidents: one per cause however many notice it, routed to the group whose duty it is, closed with the cause."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import F, Q

from audit.errors import NotPermitted, TransitionError
from audit.trail import Actor, Service, record
from monitoring.models import Incident, IncidentState
from registry import duties
from registry.models import AUDITORS, Duty, ModelVersion, RegisteredModel

REOPENED_WITHIN = timedelta(days=7)
"""The same cause again so soon after it was resolved is the same incident, opened again."""

_ATTEMPTS = 5


def raise_incident(
    *,
    kind: str,
    duty: str,
    registered_model: RegisteredModel | None,
    version: ModelVersion | None,
    cause_key: str,
    title: str,
    detail: str,
    evidence: Mapping[str, Any],
    severity: str,
    actor: Actor,
    now: datetime,
    owner: Group | None = None,
) -> Incident:
    """The open incident of ``cause_key``: a new one, the one that is open already, or one resolved a few days ago.

    Seen again, it counts the occurrence and shows the newest evidence; no event is written for that, the event of its
    opening keeps the first. ``owner`` defaults to the model's group with the duty. Safe under concurrent callers.
    """
    group = owner or (registered_model.owner(duty) if registered_model else None)
    newest = {"title": title[:200], "detail": detail, "evidence": dict(evidence), "severity": severity}
    for _ in range(_ATTEMPTS):
        if seen := _seen_again(cause_key, newest, actor=actor, now=now):
            return seen
        try:
            with transaction.atomic():
                incident = Incident.objects.create(
                    registered_model=registered_model,
                    version=version,
                    kind=kind,
                    duty=duty,
                    owner=group,
                    cause_key=cause_key,
                    state=IncidentState.OPEN,
                    state_reason=title,
                    state_since=now,
                    opened_at=now,
                    **newest,
                )
                routed = {"duty": duty, "owner": group.name if group else None}
                record("incident.opened", incident, actor=actor, reason=title, data={**routed, **newest})
                return incident
        except IntegrityError:
            # Somebody opened it between our look and our write (one_open_incident_per_cause): look again.
            continue
    raise TransitionError(f"The incident of {cause_key} was opened and closed {_ATTEMPTS} times meanwhile; try again.")


def _seen_again(cause_key: str, newest: Mapping[str, Any], *, actor: Actor, now: datetime) -> Incident | None:
    """Count the occurrence on the open incident, or open a freshly resolved one again; None when there is neither."""
    unresolved = Incident.objects.filter(cause_key=cause_key).exclude(state=IncidentState.RESOLVED)
    if unresolved.update(occurrences=F("occurrences") + 1, **newest):
        return unresolved.first()
    recent = Incident.objects.filter(cause_key=cause_key, resolved_at__gt=now - REOPENED_WITHIN).first()
    if recent is None:
        return None
    try:
        with transaction.atomic():
            reopen(recent, actor=actor, reason=f"It is back: {newest['title']}", now=now)
            Incident.objects.filter(pk=recent.pk).update(occurrences=F("occurrences") + 1, **newest)
    except (TransitionError, IntegrityError):
        return None  # somebody was faster; the next look finds theirs
    recent.refresh_from_db()
    return recent


def acknowledge(incident: Incident, *, actor: Actor, reason: str, now: datetime) -> None:
    """Somebody of the owning group takes it. Raises NotPermitted for anybody else, also for services."""
    if isinstance(actor, Service):
        raise NotPermitted("Only a person can acknowledge an incident.")
    require_owner(actor, incident)
    incident.move(IncidentState.ACKNOWLEDGED, actor=actor, reason=reason, acknowledged_at=now, acknowledged_by=actor)


def resolve(incident: Incident, *, actor: Actor, reason: str, now: datetime) -> None:
    """The cause is gone, says somebody of the owning group or the part of Gatehouse that watches the cause."""
    require_owner(actor, incident)
    incident.move(IncidentState.RESOLVED, actor=actor, reason=reason, resolved_at=now)


def reopen(incident: Incident, *, actor: Actor, reason: str, now: datetime) -> None:
    """It is back, or was resolved too early. Raises TransitionError while another incident of its cause is open."""
    require_owner(actor, incident)
    rivals = Incident.objects.filter(cause_key=incident.cause_key).exclude(
        Q(state=IncidentState.RESOLVED) | Q(pk=incident.pk)
    )
    if rival := rivals.first():
        raise TransitionError(f"Incident {rival.pk} is open for the same cause.")
    incident.move(
        IncidentState.OPEN,
        actor=actor,
        reason=reason,
        event="incident.reopened",
        resolved_at=None,
        acknowledged_at=None,
        acknowledged_by=None,
    )


def resolve_cause(cause_key: str, *, actor: Actor, reason: str, now: datetime) -> Incident | None:
    """Resolve the unresolved incident of a cause, if there is one."""
    incident = Incident.objects.filter(cause_key=cause_key).exclude(state=IncidentState.RESOLVED).first()
    if incident is not None:
        resolve(incident, actor=actor, reason=reason, now=now)
    return incident


def require_owner(actor: Actor, incident: Incident) -> None:
    """Refuse whoever is neither in the owning group nor has the duty. Services pass: they watch the causes."""
    if isinstance(actor, Service) or is_owner(actor, incident):
        return
    if incident.registered_model is not None:
        duties.require(actor, incident.registered_model, Duty(incident.duty))
        return
    raise NotPermitted(f"This incident belongs to {incident.owner or 'the groups with the platform duty'}.")


def is_owner(user: Any, incident: Incident) -> bool:
    """Whether ``user`` belongs to the incident's group; one without a group belongs to every platform group.

    Never an auditor, and nobody whose account is switched off.
    """
    mine = user.groups.all()
    if not user.is_active or mine.filter(name=AUDITORS).exists():
        return False
    if incident.owner is not None:
        return bool(mine.filter(pk=incident.owner.pk).exists())
    return RegisteredModel.objects.filter(platform__in=mine).exists()
