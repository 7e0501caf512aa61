"""Say what there is: entities and the sources of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import Group
from django.db import transaction

from audit.errors import Conflict, NotPermitted
from audit.trail import Actor, Service, record
from features import files, meaning, push_files
from features.actions.rules import require_member, validate
from features.description import unreadable_join_keys
from features.models import DataSource, Entity

_MEANT = ("uri", "event_timestamp", "created_timestamp", "push_schema")
SOURCE_FIELDS = (*_MEANT, "freshness", "owner", "description")


def define_entity(*, name: str, join_keys: Sequence[str], description: str = "", actor: Actor, now: datetime) -> Entity:
    """Name what features describe. Its join keys never change, because every view of it is joined by them."""
    require_founder(actor)
    entity = checked_entity(name=name, join_keys=join_keys, description=description)
    with transaction.atomic():
        stored, created = Entity.objects.get_or_create(
            name=name, defaults={"join_keys": entity.join_keys, "description": description}
        )
        if stored.join_keys != entity.join_keys:
            raise Conflict(f"Entity {name} has the join keys {', '.join(stored.join_keys)}; choose another name.")
        if created:
            record("entity.defined", stored, actor=actor, data={"join_keys": stored.join_keys})
    return stored


def require_founder(actor: Actor) -> None:
    """An entity belongs to everybody: who works in the admin may define one, and Gatehouse itself."""
    if not (isinstance(actor, Service) or getattr(actor, "is_staff", False)):
        raise NotPermitted("Only somebody who works in the admin can define an entity.")


def checked_entity(*, name: str, join_keys: Sequence[str], description: str) -> Entity:
    """An entity that is not stored yet, if it may be. Raises InvalidInput by field."""
    entity = Entity(name=name, join_keys=list(join_keys), description=description)
    validate(entity, also={"join_keys": unreadable_join_keys(join_keys)})
    return entity


def define_source(
    *,
    name: str,
    uri: str,
    event_timestamp: str,
    created_timestamp: str = "",
    freshness: timedelta | None = None,
    push_schema: Mapping[str, str] | None = None,
    owner: Group,
    description: str = "",
    actor: Actor,
    now: datetime,
) -> DataSource:
    """Say where a table of events lies (``uri`` below the data root) and how it tells time.

    ``push_schema`` (column to type) is of a source that rows are pushed to. Description, promise and owner may change
    later; where it lies, its times and what is pushed only while no view reads it and nothing was pushed.
    """
    require_member(actor, owner)
    wanted = checked_source(
        name=name,
        uri=uri,
        event_timestamp=event_timestamp,
        created_timestamp=created_timestamp,
        freshness=freshness,
        push_schema=push_schema,
        owner=owner,
        description=description,
    )
    with transaction.atomic():
        values = {field: getattr(wanted, field) for field in SOURCE_FIELDS}
        stored, created = DataSource.objects.select_for_update().get_or_create(name=name, defaults=values)
        if created:
            if stored.push_schema:
                push_files.prepare(stored)
            record("data_source.defined", stored, actor=actor, data={"uri": uri})
            return stored
        require_member(actor, stored.owner)
        changed = changed_in_source(stored, wanted)
        if not changed:
            return stored
        for field in changed:
            setattr(stored, field, values[field])
        stored.save(update_fields=changed)
        if stored.push_schema and set(changed) & set(_MEANT):
            push_files.prepare(stored)
        record("data_source.changed", stored, actor=actor, data={"changed": changed})
    return stored


def checked_source(
    *,
    name: str,
    uri: str,
    event_timestamp: str,
    created_timestamp: str,
    freshness: timedelta | None,
    push_schema: Mapping[str, str] | None,
    owner: Group,
    description: str,
) -> DataSource:
    """A source that is not stored yet, if it may be. Raises InvalidInput by field."""
    wanted = DataSource(
        name=name,
        uri=uri,
        event_timestamp=event_timestamp,
        created_timestamp=created_timestamp,
        freshness=freshness,
        push_schema=dict(push_schema or {}),
        owner=owner,
        description=description,
    )
    outside = "" if files.is_below_root(uri) else "Give a path below the data root, without '..' and '://'."
    kept = "" if freshness is None or freshness > timedelta(0) else "A promise is longer than zero."
    validate(wanted, also={"uri": outside, "freshness": kept, "push_schema": _wrong_with_schema(wanted)})
    return wanted


def changed_in_source(stored: DataSource, wanted: DataSource) -> list[str]:
    """The fields that would change. Raises Conflict where a view reads what would."""
    changed = [field for field in SOURCE_FIELDS if getattr(stored, field) != getattr(wanted, field)]
    meant = [field for field in changed if field in _MEANT]
    if meant and stored.view_versions.exists():
        raise Conflict(
            f"Feature views read {stored.name}, so its {', '.join(meant)} can not change; choose another name."
        )
    if meant and stored.pushes.exists():
        raise Conflict(f"Rows were pushed to {stored.name}, so its {', '.join(meant)} can not change.")
    return changed


def _wrong_with_schema(source: DataSource) -> str:
    """What is wrong with the columns that are pushed; '' for nothing."""
    schema: Mapping[str, str] = source.push_schema
    if not schema:
        return ""
    unknown = sorted({dtype for dtype in schema.values() if dtype not in meaning.TYPES})
    if unknown:
        return f"{', '.join(unknown)}: the types are {', '.join(meaning.TYPES)}."
    if schema.get(source.event_timestamp) != "timestamp":
        return f"It needs {source.event_timestamp}, a timestamp: when a row happened."
    if not source.created_timestamp or source.created_timestamp in schema:
        return "Name a created_timestamp that is not pushed: Gatehouse writes there when a row arrived."
    if source.uri.endswith(".parquet") or any(mark in source.uri for mark in "*?["):
        return "The uri of a source that rows are pushed to is a folder."
    return ""
