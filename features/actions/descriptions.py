"""What may change about what is defined: the words and the promise, never the meaning."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from audit.errors import InvalidInput, NotPermitted
from audit.trail import Actor, Service, record
from features.actions.rules import require_member
from features.models import DataSource, Entity


def describe_entity(entity: Entity, *, description: str, reason: str, actor: Actor, now: datetime) -> None:
    """Change what an entity's description says; a member of a group that owns a view of it may."""
    if not (isinstance(actor, Service) or may_describe(entity, actor)):
        raise NotPermitted(f"Only members of a group that owns a feature view of {entity} can do this.")
    with transaction.atomic():
        Entity.objects.filter(pk=entity.pk).update(description=description)
        before, entity.description = entity.description, description
        record("entity.changed", entity, actor=actor, reason=reason, data={"before": before, "after": description})


def may_describe(entity: Entity, user: Any) -> bool:
    """Whether ``user`` belongs to a group that owns a view of the entity."""
    return bool(entity.views.filter(owner__in=user.groups.all()).exists())


def change_source(
    source: DataSource, *, description: str, freshness: timedelta | None, reason: str, actor: Actor, now: datetime
) -> None:
    """Change a source's description or promise; where it lies and how it tells time stay (``define_source``)."""
    require_member(actor, source.owner)
    if freshness is not None and freshness <= timedelta(0):
        raise InvalidInput({"freshness": "A promise is longer than zero."})
    data = {
        "before": {"description": source.description, "freshness": str(source.freshness)},
        "after": {"description": description, "freshness": str(freshness)},
    }
    with transaction.atomic():
        DataSource.objects.filter(pk=source.pk).update(description=description, freshness=freshness)
        source.description, source.freshness = description, freshness
        record("data_source.changed", source, actor=actor, reason=reason, data=data)
