"""Freezes: times in which the product owner wants nothing new at an endpoint."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from audit.errors import Conflict, InvalidInput
from audit.trail import Actor, record
from rollout.actions.persons import product_owner, said
from rollout.actions.routes import lock_endpoint
from rollout.models import Endpoint, FreezeWindow


def freeze(
    endpoint: Endpoint, *, starts_at: datetime, ends_at: datetime, note: str, actor: Actor, now: datetime
) -> FreezeWindow:
    """No candidate starts, gets more traffic or is promoted from ``starts_at`` to ``ends_at``; it may roll back.

    What runs keeps its share. Raises InvalidInput naming the field.
    """
    person = product_owner(actor, endpoint.registered_model)
    said(note, field="note")
    if ends_at <= starts_at:
        raise InvalidInput({"ends_at": "A freeze ends after it starts."})
    if ends_at <= now:
        raise InvalidInput({"ends_at": f"This has passed already; it is {now:%Y-%m-%d %H:%M} UTC."})
    with transaction.atomic():
        locked = lock_endpoint(endpoint)
        product_owner(actor, locked.registered_model)
        window = FreezeWindow.objects.create(
            endpoint=locked, starts_at=starts_at, ends_at=ends_at, note=note, decided_by=person, decided_at=now
        )
        record("endpoint.frozen", locked, actor=actor, reason=note, data=_facts(window))
    return window


def unfreeze(window: FreezeWindow, *, reason: str, actor: Actor, now: datetime) -> FreezeWindow:
    """End a freeze early, or call off one that is to come. Raises Conflict when it has ended."""
    product_owner(actor, window.endpoint.registered_model)
    said(reason, field="reason")
    with transaction.atomic():
        locked = lock_endpoint(window.endpoint)
        product_owner(actor, locked.registered_model)
        there = FreezeWindow.objects.filter(pk=window.pk, lifted_at=None, ends_at__gt=now)
        if not there.update(lifted_at=now):
            raise Conflict(f"{window} has ended already.")
        window.lifted_at = now
        record("endpoint.unfrozen", locked, actor=actor, reason=reason, data=_facts(window))
    return window


def _facts(window: FreezeWindow) -> dict[str, object]:
    return {
        "freeze": window.pk,
        "starts_at": window.starts_at.isoformat(),
        "ends_at": window.ends_at.isoformat(),
        "lifted_at": window.lifted_at.isoformat() if window.lifted_at else None,
    }
