"""The online store in the portal's own database: the newest known value of each entity, read by key.

Two rules keep it equal to the training join. A value older than its view's TTL *at the moment of reading* is null.
And a value never replaces a newer one: the database itself compares event time and known time at each write, so
backfills, late rows and two writers at once may come in any order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pyarrow as pa
from django.db import connection

from audit.errors import InvalidInput
from features import cells
from features.models import FeatureService, FeatureServiceFeature, FeatureViewVersion, OnlineValue

_KEYS_PER_QUERY = 500
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(service: FeatureService, keys: pa.Table, *, now: datetime, at: Sequence[datetime] | None = None) -> pa.Table:
    """The service's columns (``FeatureService.columns``) for each row of ``keys``, in its order, as of ``now``.

    ``keys`` carries the join keys of every entity of the service; other columns are ignored. A row whose entity is
    unknown, or whose value is older than its view's TTL, gets nulls. The age is measured at the row's own time where
    ``at`` gives one per row (a batch of requests asked one after the other), else at ``now``. Raises InvalidInput where
    a join key is missing.
    """
    asked = [_microseconds(each) for each in (at if at is not None else [now] * len(keys))]
    pinned = service.pinned()
    by_view: dict[int, list[FeatureServiceFeature]] = {}
    for each in pinned:
        by_view.setdefault(each.view_version_id, []).append(each)
    _check_keys(pinned, keys)
    keys_of: dict[tuple[str, ...], list[str | None]] = {}
    columns: dict[str, pa.Array] = {}
    for wanted in by_view.values():
        version = wanted[0].view_version
        join_keys = tuple(version.view.entity.join_keys)
        if join_keys not in keys_of:
            keys_of[join_keys] = cells.entity_keys(keys, join_keys)
        columns.update(_view_columns(version, wanted, keys_of[join_keys], asked))
    return pa.table({each.column: columns[each.column] for each in pinned}) if pinned else _no_columns(keys)


def write(version: FeatureViewVersion, values: pa.Table) -> int:
    """Keep each row (join keys, ``event_timestamp``, ``known_at``, features) unless a newer one is there.

    Newer is a later event time, then a later known time. The count of rows kept.
    """
    rows = list(
        zip(
            cells.entity_keys(values, version.view.entity.join_keys),
            _adapted(cells.instants(values.column("event_timestamp"))),
            _adapted(cells.instants(values.column("known_at"))),
            cells.encoded(values, version.types),
            strict=True,
        )
    )
    if not rows:
        return 0
    with connection.cursor() as cursor:
        # by key, so that two writers lock rows in the same order and can not wait for each other
        cursor.executemany(_UPSERT, [(version.pk, *row) for row in sorted(rows)])
        return int(cursor.rowcount)


_TABLE = OnlineValue._meta.db_table
_UPSERT = f"""
    INSERT INTO {_TABLE} (view_version_id, entity_key, event_timestamp, known_at, "values")
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (view_version_id, entity_key) DO UPDATE
    SET event_timestamp = excluded.event_timestamp, known_at = excluded.known_at, "values" = excluded."values"
    WHERE excluded.event_timestamp > {_TABLE}.event_timestamp
       OR (excluded.event_timestamp = {_TABLE}.event_timestamp AND excluded.known_at >= {_TABLE}.known_at)
"""


def _view_columns(
    version: FeatureViewVersion,
    wanted: Sequence[FeatureServiceFeature],
    keys: Sequence[str | None],
    asked: Sequence[int],
) -> dict[str, pa.Array]:
    """One column per wanted feature of a view version, aligned with ``keys`` and the times ``asked``."""
    stored = {
        key: (happened, values) for key, happened, values in _stored(version, {key for key in keys if key is not None})
    }
    types = version.types
    nothing: tuple[int, list[Any]] = (0, [None] * len(types))
    longest = None if version.ttl is None else version.ttl // _MICROSECOND
    rows: list[list[Any]] = []
    for key, moment in zip(keys, asked, strict=True):
        happened, values = stored.get(key, nothing) if key is not None else nothing
        alive = longest is None or moment - happened <= longest
        rows.append(values if alive else nothing[1])
    position = {name: index for index, name in enumerate(types)}
    return {
        each.column: cells.decoded((row[position[each.feature]] for row in rows), types[each.feature])
        for each in wanted
    }


def _stored(version: FeatureViewVersion, keys: set[str]) -> Iterator[tuple[str, int, list[Any]]]:
    """The newest values of these entities: key, event time in microseconds, decoded list."""
    remaining = iter(keys)
    with connection.cursor() as cursor:
        while chunk := list(islice(remaining, _KEYS_PER_QUERY)):
            marks = ", ".join(["%s"] * len(chunk))
            cursor.execute(
                f'SELECT entity_key, event_timestamp, "values" FROM {_TABLE} '
                f"WHERE view_version_id = %s AND entity_key IN ({marks})",
                [version.pk, *chunk],
            )
            for key, happened, values in cursor.fetchall():
                yield key, _microseconds(happened), json.loads(values)


def _microseconds(moment: datetime | str) -> int:
    """Since 1970 in UTC; SQLite's driver gives stored times back as text without a zone, which are UTC."""
    instant = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return (instant - _EPOCH) // _MICROSECOND


def _check_keys(pinned: Sequence[FeatureServiceFeature], keys: pa.Table) -> None:
    missing = {
        name: f"{each.view_version.view.name} needs this join key."
        for each in pinned
        for name in each.view_version.view.entity.join_keys
        if name not in keys.column_names
    }
    if missing:
        raise InvalidInput(missing)


def _adapted(moments: Sequence[datetime]) -> list[Any]:
    """The times as this database's driver takes them; each distinct one is converted once."""
    made = {each: connection.ops.adapt_datetimefield_value(each) for each in set(moments)}
    return [made[each] for each in moments]


def _no_columns(keys: pa.Table) -> pa.Table:
    return keys.select([])
