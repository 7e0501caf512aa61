"""Rows that are pushed: stored for training and, in the same transaction, served."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pyarrow as pa
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.db.models import Max, Sum

from audit import clock
from audit.errors import Conflict, InvalidInput, Unavailable
from audit.trail import Actor, record
from features import cells, incoming, offline, online, push_files
from features.actions.rules import require_member
from features.materialize import served_versions
from features.meaning import TYPES
from features.models import DataSource, FeatureViewVersion, Materialization, PushReceipt

_MICROSECOND = timedelta(microseconds=1)
_TIME = TYPES["timestamp"]


def push(source: DataSource, rows: pa.Table, *, push_id: str, actor: Actor) -> PushReceipt:
    """Store rows (``features.pushed_rows``) and bring what they change to the online store; once per ``push_id``.

    The rows arrive when the source is locked for them, which is why the verb reads the clock itself: pushes of a source
    arrive one after another, each later than whatever was served before it. So training sees a row from the microsecond
    on from which it was served. Served at once is every view that reads this source alone, row by row and without a
    cadence; the others take the rows up at their next slot, as training assumes of them.

    Raises Conflict for a source that takes no pushes, and for a ``push_id`` that came with other rows before.
    """
    require_member(actor, source.owner)
    if not source.push_schema:
        raise Conflict(f"{source} takes no pushes: it has no push_schema.")
    if not rows.num_rows:
        raise InvalidInput({"rows": "At least one row is needed."})
    _check_name(push_id)
    rows = rows.select(sorted(rows.column_names))
    if rows.column_names != sorted(source.push_schema):
        raise InvalidInput({"rows": f"The columns of {source} are {', '.join(sorted(source.push_schema))}."})
    digest = cells.table_digest(rows)
    with transaction.atomic():
        DataSource.objects.select_for_update().get(pk=source.pk)
        earlier = source.pushes.filter(push_id=push_id).first()
        if earlier is not None:
            if earlier.digest != digest:
                raise Conflict(f"The push {push_id!r} came with other rows before; give each push an id of its own.")
            return earlier
        return _pushed(source, rows, push_id=push_id, digest=digest, actor=actor)


def _pushed(source: DataSource, rows: pa.Table, *, push_id: str, digest: str, actor: Actor) -> PushReceipt:
    """The receipt of a new push; the caller has locked the source."""
    last = source.pushes.order_by("-id").first()
    segment, committed = _room(source, last)
    arrived_at = _arrival(source, last)
    arrived = rows.append_column(source.created_timestamp, pa.array([arrived_at] * len(rows), _TIME)).cast(
        push_files.schema_of(source)
    )
    try:
        with push_files.appended(source.uri, segment, committed=committed, rows=arrived):
            written = _serve(source, arrived, arrived_at)
            receipt = PushReceipt.objects.create(
                source=source,
                push_id=push_id,
                digest=digest,
                rows=len(rows),
                segment=segment,
                arrived_at=arrived_at,
                written=written,
                pushed_by_id=actor.pk if isinstance(actor, AbstractBaseUser) else None,
            )
            data = {"push_id": push_id, "rows": len(rows), "written": written}
            record("source.pushed", source, actor=actor, data=data)
    except (OSError, pa.ArrowException) as error:
        raise Unavailable(f"The rows of {source} can not be stored: {error}") from error
    return receipt


def _room(source: DataSource, last: PushReceipt | None) -> tuple[int, int]:
    """The segment that a push goes to, and how many rows it has."""
    if last is None:
        return push_files.FIRST, 0
    rows = source.pushes.filter(segment=last.segment).aggregate(rows=Sum("rows"))["rows"]
    return (last.segment + 1, 0) if rows >= push_files.SEGMENT_ROWS else (last.segment, rows)


def _arrival(source: DataSource, last: PushReceipt | None) -> datetime:
    """Now, but later than any earlier push, and than the slots that were done without this one."""
    done = Materialization.objects.filter(view_version__sources=source).aggregate(latest=Max("up_to"))["latest"]
    moments = [clock.now()]
    if done is not None:
        moments.append(done + _MICROSECOND)
    if last is not None:
        moments.append(last.arrived_at + _MICROSECOND)
    return max(moments)


def _serve(source: DataSource, rows: pa.Table, arrived_at: datetime) -> dict[str, int]:
    """Write what the rows change in the views that are served at once: how many records of each were newer."""
    versions = [version for version in served_versions().filter(sources=source) if _is_served_at_once(version)]
    if not versions:
        return {}
    values = _values_of(versions, rows, arrived_at)
    kept = online.keep([online.packed(version, each) for version, each in zip(versions, values, strict=True)])
    return {str(version): count for version, count in zip(versions, kept, strict=True)}


def _is_served_at_once(version: FeatureViewVersion) -> bool:
    """With a cadence a value waits for its slot, online as in training; a joined source may hold the rest of a row."""
    return version.cadence is None and not version.aggregations and len(version.sources.all()) == 1


def _values_of(versions: Sequence[FeatureViewVersion], rows: pa.Table, arrived_at: datetime) -> list[pa.Table]:
    """What each view makes of the rows; one that looks back is asked over its whole source."""
    specs = {version.pk: offline.view_spec(version) for version in versions}
    alone = [version for version in versions if version.lookback == timedelta(0)]
    found = incoming.newest_values([specs[version.pk] for version in alone], rows, as_of=arrived_at)
    values = {version.pk: offline.conformed(version, each) for version, each in zip(alone, found, strict=True)}
    before = arrived_at - _MICROSECOND
    for version in versions:
        if version.pk not in values:
            spec = specs[version.pk]
            values[version.pk] = offline.newest_values(version, spec, as_of=arrived_at, known_after=before)
    return [values[version.pk] for version in versions]


def _check_name(push_id: str) -> None:
    longest = PushReceipt._meta.get_field("push_id").max_length
    if not 1 <= len(push_id) <= (longest or 0) or "\0" in push_id or not push_id.strip():
        raise InvalidInput({"push_id": f"A name for this push of 1 to {longest} characters is needed."})
