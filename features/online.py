"""Serve features: what the online store holds, as the training join would answer at the same instant.

Two rules keep both sides equal, whichever store is behind (``engines.online``). A value older than its view's TTL *at
the moment of reading* is null. And a value never replaces a newer one, so backfills, late rows and two writers at once
may come in any order.

What a feature service asks of which view, in which order, is worked out once per service object (``plan_of``); a read
is then one question to the store and one pass over its records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings

from audit.errors import InvalidInput, Unavailable
from engines.online import OnlineStore, OnlineStoreError, Records, Stored
from engines.packing import TIME, Layout
from features import cells, json_rows, transforms
from features.database_store import DatabaseStore
from features.meaning import TYPES
from features.models import FeatureService, FeatureServiceFeature, FeatureViewVersion

PRESENT, NULL, EXPIRED, UNKNOWN = "present", "null", "expired", "unknown"
"""What became of a value: it is there; the newest is null; the newest is older than the TTL; nothing is known."""

MOST_ENTITIES = 1000
"""Of one question over HTTP."""

STATUSES = (PRESENT, NULL, EXPIRED, UNKNOWN)

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def store() -> OnlineStore:
    """The online store that the settings name."""
    return _store_at(settings.ONLINE_STORE)


@lru_cache(maxsize=8)
def _store_at(place: str) -> OnlineStore:
    if place == "database":
        return DatabaseStore()
    from engines.redis_store import RedisStore  # an extra: a portal without Redis does not install its client

    return RedisStore(place)


@dataclass  # not frozen: that alone would be a tenth of the time of a read of one entity
class Vectors:
    """What was read for some entities: one row per entity, one place per name.

    ``ages`` are seconds since the value's event (None where nothing is known), ``statuses`` one of ``PRESENT``,
    ``NULL``, ``EXPIRED`` and ``UNKNOWN``; both are laid out when they are first asked for. A value whose status is not
    ``PRESENT`` is None.
    """

    names: tuple[str, ...]
    rows: list[list[Any]]
    _plan: Plan
    _parts: Sequence[_Part]

    @cached_property
    def ages(self) -> list[list[float | None]]:
        """What is computed on demand is of this moment: zero."""
        found = _in_order(self._plan, [part.ages() for part in self._parts], len(self.rows))
        return [row + [0.0] * len(self._plan.computed) for row in found] if self._plan.computed else found

    @cached_property
    def statuses(self) -> list[list[str]]:
        found = _in_order(self._plan, [part.statuses() for part in self._parts], len(self.rows))
        if not self._plan.computed:
            return found
        return [
            row + [NULL if value is None else PRESENT for value in values[len(row) :]]
            for row, values in zip(found, self.rows, strict=True)
        ]


class _Part(NamedTuple):
    """What was read of one view, entity by entity; the sequences inside may be shared, and are never changed.

    ``found``: what the store had, of which that before ``oldest`` has expired. ``values``: those wanted, or nulls.
    """

    moment: int
    oldest: int
    width: int
    found: Sequence[Stored | None]
    values: Sequence[Sequence[Any]]

    def ages(self) -> list[Sequence[float | None]]:
        moment, count, unknown = self.moment, self.width, [None] * self.width
        return [unknown if each is None else [(moment - each[0]) / 1e6] * count for each in self.found]

    def statuses(self) -> list[Sequence[str]]:
        present, expired, unknown = ([each] * self.width for each in (PRESENT, EXPIRED, UNKNOWN))
        oldest = self.oldest
        return [
            unknown
            if each is None
            else expired
            if each[0] < oldest
            else present
            if None not in values
            else [NULL if value is None else PRESENT for value in values]
            for each, values in zip(self.found, self.values, strict=True)
        ]


@dataclass(frozen=True)
class ViewPlan:
    """What is read of one view version: ``places`` in its records, and the columns they become."""

    version: int
    view: str
    join_keys: tuple[str, ...]
    longest: int | None
    layout: Layout
    places: tuple[int, ...]
    columns: tuple[str, ...]
    pick: Callable[[Sequence[Any]], Sequence[Any]] | None
    """Takes ``places`` out of a whole record's values; None where that is all of them in order."""


@dataclass(frozen=True)
class Plan:
    """How a service's vector is read. ``arrange`` brings what came view by view into the vector's order."""

    views: tuple[ViewPlan, ...]
    columns: tuple[str, ...]
    arrange: Callable[[list[Any]], list[Any]] | None
    types: tuple[pa.DataType, ...]
    computed: tuple[str, ...]
    """Columns of on-demand transforms, after ``columns``."""
    join_keys: tuple[tuple[str, ...], ...]
    """Each different one of the views."""


def plan_of(service: FeatureService) -> Plan:
    """The service's read plan; services never change, so it is kept with the object."""
    known: Plan | None = service.__dict__.get("_read_plan")
    if known is None:
        known = service.__dict__["_read_plan"] = _planned(service.pinned(), service.computed)
    return known


def read(service: FeatureService, keys: pa.Table, *, now: datetime, at: Sequence[datetime] | None = None) -> pa.Table:
    """The service's columns (``FeatureService.columns``, then ``computed``) for each row of ``keys``, as of ``now``.

    ``keys`` carries the join keys of every entity of the service, and the request features where it has on-demand
    transforms; other columns are ignored. A row whose entity is unknown, or whose value is older than its view's TTL,
    gets nulls. The age is measured at the row's own time where ``at`` gives one per row (a batch of requests asked one
    after the other), else at ``now``. Raises InvalidInput where a join key is missing.
    """
    plan = plan_of(service)
    _check_keys(plan, keys.column_names)
    asked = [microseconds(each) for each in at] if at is not None else [microseconds(now)] * len(keys)
    keys_of = {names: cells.entity_keys(keys, names) for names in plan.join_keys}
    found = _found(plan, keys_of)
    columns: dict[str, pa.Array] = {}
    for view in plan.views:
        there = found[view.version]
        records: list[bytes | None] = []
        for key, moment in zip(keys_of[view.join_keys], asked, strict=True):
            event, record = there.get(key, _NOTHING) if key is not None else _NOTHING
            alive = view.longest is None or moment - event <= view.longest
            records.append(record if alive else None)
        columns.update(zip(view.columns, view.layout.columns(records, view.places), strict=True))
    stored = pa.table({name: columns[name] for name in plan.columns}) if plan.columns else keys.select([])
    if not plan.computed:
        return stored
    return _with_computed(service, keys, stored).select([*plan.columns, *plan.computed])


def vectors(service: FeatureService, entities: Sequence[Mapping[str, Any]], *, now: datetime) -> Vectors:
    """The service's columns for each entity (join key to value), with the age and the status of every value.

    For few entities this is several times faster than ``read``, and it says why a value is missing. The columns of
    on-demand transforms follow those of the store; an entity then carries the request features beside its join keys.
    Raises InvalidInput where a join key or a request feature is missing.
    """
    plan = plan_of(service)
    keys_of = {names: _keys_of(entities, names) for names in plan.join_keys}
    found = _found(plan, keys_of)
    moment = microseconds(now)
    parts = [_part(view, keys_of[view.join_keys], found[view.version], moment) for view in plan.views]
    rows = _in_order(plan, [part.values for part in parts], len(entities))
    if not plan.computed:
        return Vectors(plan.columns, rows, plan, parts)
    _compute(service, plan, entities, rows)
    return Vectors((*plan.columns, *plan.computed), rows, plan, parts)


def stored(service: FeatureService, keys: pa.Table, *, now: datetime) -> Vectors:
    """What ``vectors`` says, without on-demand transforms: what the store itself holds for each row of join keys."""
    plan = replace(plan_of(service), computed=())
    _check_keys(plan, keys.column_names)
    keys_of = {names: cells.entity_keys(keys, names) for names in plan.join_keys}
    found = _found(plan, keys_of)
    moment = microseconds(now)
    parts = [_part(view, keys_of[view.join_keys], found[view.version], moment) for view in plan.views]
    return Vectors(plan.columns, _in_order(plan, [part.values for part in parts], len(keys)), plan, parts)


def write(version: FeatureViewVersion, values: pa.Table) -> int:
    """Keep each row (join keys, ``event_timestamp``, ``known_at``, features) unless a newer one is there.

    Newer is a later event time, then a later known time. The count of rows kept.
    """
    return keep([packed(version, values)])[0]


def keep(records: Sequence[Records]) -> list[int]:
    """Write records of several versions; how many of each were newer than what was there. Raises Unavailable."""
    with _answering():
        return store().write(records)


def packed(version: FeatureViewVersion, values: pa.Table) -> Records:
    """Rows of an engine (``write`` says which columns) as the records that a store keeps."""
    return Records(
        view=version.pk,
        keys=[key or "" for key in cells.entity_keys(values, version.view.entity.join_keys)],
        events=_microsecond_list(values.column("event_timestamp")),
        knowns=_microsecond_list(values.column("known_at")),
        packed=layout_of(version).pack([values.column(name) for name in version.feature_names]),
    )


def contents(version: FeatureViewVersion, *, limit: int | None = None) -> pa.Table:
    """What the store holds of a version: ``entity_key``, ``event_timestamp``, ``known_at`` and the features."""
    with _answering():
        rows = list(store().contents(version.pk, limit=limit))
    keys, events, knowns, records = zip(*rows, strict=True) if rows else ((), (), (), ())
    layout = layout_of(version)
    columns = layout.columns(records, range(len(layout.types)))
    times = {"event_timestamp": events, "known_at": knowns}
    return pa.table(
        {
            "entity_key": pa.array(keys, pa.string()),
            **{name: pa.array(each, pa.int64()).cast(TIME) for name, each in times.items()},
            **dict(zip(version.feature_names, columns, strict=True)),
        }
    )


def layout_of(version: FeatureViewVersion) -> Layout:
    """How the records of a version look."""
    return _layout(tuple(version.types.values()))


def microseconds(moment: datetime) -> int:
    """Since 1970 in UTC."""
    return (moment - _EPOCH) // _MICROSECOND


_NOTHING: tuple[int, None] = (0, None)
_ALWAYS = -(2**63)
_Found = Mapping[int, Mapping[str, Stored]]


@contextmanager
def _answering() -> Iterator[None]:
    """A store that does not answer is an outage."""
    try:
        yield
    except OnlineStoreError as error:
        raise Unavailable(str(error)) from error


def _found(plan: Plan, keys_of: Mapping[tuple[str, ...], Sequence[str | None]]) -> _Found:
    """What the store has of every view's keys, asked at once."""
    wanted = {each: _distinct(keys) for each, keys in keys_of.items()}
    try:
        return store().read({view.version: wanted[view.join_keys] for view in plan.views})
    except OnlineStoreError as error:
        raise Unavailable(str(error)) from error


@lru_cache(maxsize=4096)
def _layout(types: tuple[str, ...]) -> Layout:
    return Layout(types)


def _planned(pinned: Sequence[FeatureServiceFeature], computed: tuple[str, ...]) -> Plan:
    by_view: dict[int, list[FeatureServiceFeature]] = {}
    for each in pinned:
        by_view.setdefault(each.view_version_id, []).append(each)
    views = tuple(_view_plan(wanted) for wanted in by_view.values())
    columns = tuple(each.column for each in pinned)
    grouped = [name for view in views for name in view.columns]
    types = tuple(TYPES[each.view_version.types[each.feature]] for each in pinned)
    join_keys = tuple(dict.fromkeys(view.join_keys for view in views))
    if grouped == list(columns):
        return Plan(views, columns, None, types, computed, join_keys)
    pick = itemgetter(*(grouped.index(name) for name in columns))  # more than one column, or the order would be right
    return Plan(views, columns, lambda values: list(pick(values)), types, computed, join_keys)


def _view_plan(wanted: Sequence[FeatureServiceFeature]) -> ViewPlan:
    version = wanted[0].view_version
    position = {name: place for place, name in enumerate(version.feature_names)}
    places = tuple(position[each.feature] for each in wanted)
    return ViewPlan(
        version=version.pk,
        view=version.view.name,
        join_keys=tuple(version.view.entity.join_keys),
        longest=None if version.ttl is None else version.ttl // _MICROSECOND,
        layout=layout_of(version),
        places=places,
        columns=tuple(each.column for each in wanted),
        pick=_picking(places) if places != tuple(range(len(position))) else None,
    )


def _picking(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(places) == 1:
        (only,) = places
        return lambda values: (values[only],)
    return itemgetter(*places)


def _part(view: ViewPlan, keys: Sequence[str | None], stored: Mapping[str, Stored], moment: int) -> _Part:
    """What is wanted of one view."""
    found = [stored.get(key) for key in keys]  # type: ignore[arg-type]  # no store has the key None
    oldest = _ALWAYS if view.longest is None else moment - view.longest
    alive = [each[1] for each in found if each is not None and each[0] >= oldest]
    values: Sequence[Sequence[Any]] = view.layout.unpack_many(alive)
    count = len(view.places)
    if view.pick:
        values = [view.pick(row) for row in values]
    if len(alive) < len(found):
        nothing, next_row = [None] * count, iter(values).__next__
        values = [nothing if each is None or each[0] < oldest else next_row() for each in found]
    return _Part(moment, oldest, count, found, values)


def _in_order(plan: Plan, parts: Sequence[Sequence[Sequence[Any]]], entities: int) -> list[list[Any]]:
    """One row per entity, in the vector's order, of what was read of it view by view."""
    rows = _side_by_side(parts, entities)
    return [plan.arrange(row) for row in rows] if plan.arrange else rows


def _compute(
    service: FeatureService,
    plan: Plan,
    entities: Sequence[Mapping[str, Any]],
    rows: list[list[Any]],
) -> None:
    """Add the columns of the service's on-demand transforms to the rows."""
    given = [{name: entity[name] for name in service.request_features if name in entity} for entity in entities]
    asked = json_rows.table(given, field="rows") if any(given) else pa.table({})
    by_column = zip(*rows, strict=True) if rows else [()] * len(plan.columns)
    typed = zip(plan.columns, by_column, plan.types, strict=True)
    stored = pa.table({name: pa.array(values, dtype) for name, values, dtype in typed})
    computed = _with_computed(service, asked, stored).select(plan.computed)
    by_row = zip(*(column.to_pylist() for column in computed.columns), strict=True)
    for row, values in zip(rows, by_row, strict=True):
        row += values


def _with_computed(service: FeatureService, asked: pa.Table, stored: pa.Table) -> pa.Table:
    """Request features, stored columns and what the service's transforms make of them."""
    given = {name: asked.column(name) for name in service.request_features if name in asked.column_names}
    return transforms.apply(service, pa.table({**given, **dict(zip(stored.column_names, stored.columns, strict=True))}))


def _side_by_side(parts: Sequence[Sequence[Sequence[Any]]], entities: int) -> list[list[Any]]:
    """One row per entity of what was read of it view by view."""
    if len(parts) == 2:  # the common small cases, at half the time of the general one
        return [[*first, *second] for first, second in zip(*parts, strict=True)]
    if len(parts) == 1:
        return [list(only) for only in parts[0]]
    if not parts:
        return [[] for _ in range(entities)]
    return [list(chain.from_iterable(each)) for each in zip(*parts, strict=True)]


def _keys_of(entities: Sequence[Mapping[str, Any]], join_keys: Sequence[str]) -> list[str | None]:
    """The store's key of each entity; the common case, one plain text or integer, is not taken through Arrow."""
    try:
        if len(join_keys) == 1:
            (name,) = join_keys
            quick = [cells.quick_key(entity[name]) for entity in entities]
            if None not in quick:
                return quick
        values = [[entity[name] for name in join_keys] for entity in entities]
    except KeyError as missing:
        raise InvalidInput({str(missing.args[0]): "Each entity needs this join key."}) from missing
    try:
        table = pa.table({name: pa.array([row[place] for row in values]) for place, name in enumerate(join_keys)})
    except pa.ArrowException as problem:
        raise InvalidInput({", ".join(join_keys): f"The values of a join key are of one type: {problem}"}) from problem
    return cells.entity_keys(table, join_keys)


def _distinct(keys: Sequence[str | None]) -> Sequence[str]:
    if len(keys) == 1 and keys[0] is not None:
        return keys  # type: ignore[return-value]  # None is not in it
    distinct = dict.fromkeys(keys)
    distinct.pop(None, None)
    return list(distinct)  # type: ignore[arg-type]  # None is out


def _check_keys(plan: Plan, present: Iterable[str]) -> None:
    there = set(present)
    missing = {
        name: f"{view.view} needs this join key." for view in plan.views for name in view.join_keys if name not in there
    }
    if missing:
        raise InvalidInput(missing)


def _microsecond_list(times: pa.ChunkedArray) -> list[int]:
    values: list[int] = pc.cast(pc.cast(times, TIME), pa.int64()).to_pylist()
    return values
