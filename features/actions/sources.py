"""Say what there is: entities and the sources of events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import Group
from django.db import transaction

from audit.errors import Conflict, NotPermitted
from audit.trail import Actor, Service, record
from features import files
from features.actions.rules import require_member, validate
from features.description import unreadable_join_keys
from features.models import DataSource, Entity


def define_entity(*, name: str, join_keys: Sequence[str], description: str = "", actor: Actor, now: datetime) -> Entity:
    """Name what features describe. Its join keys never change, because every view of it is joined by them."""
    if not (isinstance(actor, Service) or getattr(actor, "is_staff", False)):
        raise NotPermitted("Only somebody who works in the admin can define an entity.")
    entity = Entity(name=name, join_keys=list(join_keys), description=description)
    validate(entity, also={"join_keys": unreadable_join_keys(join_keys)})
    with transaction.atomic():
        stored, created = Entity.objects.get_or_create(
            name=name, defaults={"join_keys": entity.join_keys, "description": description}
        )
        if stored.join_keys != entity.join_keys:
            raise Conflict(f"Entity {name} has the join keys {', '.join(stored.join_keys)}; choose another name.")
        if created:
            record("entity.defined", stored, actor=actor, data={"join_keys": stored.join_keys})
    return stored


def define_source(
    *,
    name: str,
    uri: str,
    event_timestamp: str,
    created_timestamp: str = "",
    freshness: timedelta | None = None,
    owner: Group,
    description: str = "",
    actor: Actor,
    now: datetime,
) -> DataSource:
    """Say where a table of events lies (``uri`` below the data root) and how it tells time.

    Description, promise and owner may change later; where it lies and its times only while no view reads it.
    """
    require_member(actor, owner)
    wanted = DataSource(
        name=name,
        uri=uri,
        event_timestamp=event_timestamp,
        created_timestamp=created_timestamp,
        freshness=freshness,
        owner=owner,
        description=description,
    )
    outside = "" if files.is_below_root(uri) else "Give a path below the data root, without '..' and '://'."
    kept = "" if freshness is None or freshness > timedelta(0) else "A promise is longer than zero."
    validate(wanted, also={"uri": outside, "freshness": kept})
    meant = ("uri", "event_timestamp", "created_timestamp")
    with transaction.atomic():
        values = {field: getattr(wanted, field) for field in (*meant, "freshness", "owner", "description")}
        stored, created = DataSource.objects.select_for_update().get_or_create(name=name, defaults=values)
        if created:
            record("data_source.defined", stored, actor=actor, data={"uri": uri})
            return stored
        require_member(actor, stored.owner)
        changed = [field for field in values if getattr(stored, field) != values[field]]
        if not changed:
            return stored
        if set(changed) & set(meant) and stored.view_versions.exists():
            raise Conflict(
                f"Feature views read {name}, so its {', '.join(changed)} can not change; choose another name."
            )
        for field in changed:
            setattr(stored, field, values[field])
        stored.save(update_fields=changed)
        record("data_source.changed", stored, actor=actor, data={"changed": changed})
    return stored
