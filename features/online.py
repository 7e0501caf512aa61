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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from audit.errors import InvalidInput, Unavailable
from engines.online import OnlineStore, OnlineStoreError, Records, Stored
from engines.packing import TIME, Layout
from features import cells
from features.database_store import DatabaseStore
from features.models import FeatureService, FeatureServiceFeature, FeatureViewVersion

PRESENT, NULL, EXPIRED, UNKNOWN = "present", "null", "expired", "unknown"
"""What became of a value: it is there; the newest is null; the newest is older than the TTL; nothing is known."""

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1)
def store() -> OnlineStore:
    """The online store that the settings name."""
    return DatabaseStore()


@dataclass(frozen=True)
class Vectors:
    """What was read for some entities: one row per entity, one place per name.

    ``ages`` are seconds since the value's event (None where nothing is known), ``statuses`` one of ``PRESENT``,
    ``NULL``, ``EXPIRED`` and ``UNKNOWN``. A value whose status is not ``PRESENT`` is None.
    """

    names: tuple[str, ...]
    rows: list[list[Any]]
    ages: list[list[float | None]]
    statuses: list[list[str]]


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

    @property
    def takes_all(self) -> bool:
        return self.places == tuple(range(len(self.layout.types)))


@dataclass(frozen=True)
class Plan:
    """How a service's vector is read. ``arrange`` brings what came view by view into the vector's order."""

    views: tuple[ViewPlan, ...]
    columns: tuple[str, ...]
    arrange: Callable[[list[Any]], list[Any]] | None


def plan_of(service: FeatureService) -> Plan:
    """The service's read plan; services never change, so it is kept with the object."""
    known: Plan | None = service.__dict__.get("_read_plan")
    if known is None:
        known = service.__dict__["_read_plan"] = _planned(service.pinned())
    return known


def read(service: FeatureService, keys: pa.Table, *, now: datetime, at: Sequence[datetime] | None = None) -> pa.Table:
    """The service's columns (``FeatureService.columns``) for each row of ``keys``, in its order, as of ``now``.

    ``keys`` carries the join keys of every entity of the service; other columns are ignored. A row whose entity is
    unknown, or whose value is older than its view's TTL, gets nulls. The age is measured at the row's own time where
    ``at`` gives one per row (a batch of requests asked one after the other), else at ``now``. Raises InvalidInput where
    a join key is missing.
    """
    plan = plan_of(service)
    _check_keys(plan, keys.column_names)
    asked = [microseconds(each) for each in at] if at is not None else [microseconds(now)] * len(keys)
    keys_of = {view.join_keys: cells.entity_keys(keys, view.join_keys) for view in plan.views}
    found = _found(plan, keys_of)
    columns: dict[str, pa.Array] = {}
    for view in plan.views:
        stored = found[view.version]
        records: list[bytes | None] = []
        for key, moment in zip(keys_of[view.join_keys], asked, strict=True):
            event, record = stored.get(key, _NOTHING) if key is not None else _NOTHING
            alive = view.longest is None or moment - event <= view.longest
            records.append(record if alive else None)
        columns.update(zip(view.columns, view.layout.columns(records, view.places), strict=True))
    return pa.table({name: columns[name] for name in plan.columns}) if plan.columns else keys.select([])


def vectors(service: FeatureService, entities: Sequence[Mapping[str, Any]], *, now: datetime) -> Vectors:
    """The service's columns for each entity (join key to value), with the age and the status of every value.

    For few entities this is several times faster than ``read``, and it says why a value is missing. Raises InvalidInput
    where a join key is missing.
    """
    plan = plan_of(service)
    keys_of = {view.join_keys: _keys_of(entities, view.join_keys) for view in plan.views}
    found = _found(plan, keys_of)
    moment = microseconds(now)
    read = [list(_view_values(view, keys_of[view.join_keys], found[view.version], moment)) for view in plan.views]
    rows: list[list[Any]] = []
    ages: list[list[float | None]] = []
    statuses: list[list[str]] = []
    for parts in zip(*read, strict=True) if read else [()] * len(entities):
        values: list[Any] = []
        old: list[float | None] = []
        what: list[str] = []
        for part, age, states in parts:
            values += part
            old += [age] * len(part)
            what += states
        rows.append(plan.arrange(values) if plan.arrange else values)
        ages.append(plan.arrange(old) if plan.arrange else old)
        statuses.append(plan.arrange(what) if plan.arrange else what)
    return Vectors(plan.columns, rows, ages, statuses)


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
    with _answering():
        return store().read({view.version: _distinct(keys_of[view.join_keys]) for view in plan.views})


@lru_cache(maxsize=4096)
def _layout(types: tuple[str, ...]) -> Layout:
    return Layout(types)


def _planned(pinned: Sequence[FeatureServiceFeature]) -> Plan:
    by_view: dict[int, list[FeatureServiceFeature]] = {}
    for each in pinned:
        by_view.setdefault(each.view_version_id, []).append(each)
    views = tuple(_view_plan(wanted) for wanted in by_view.values())
    columns = tuple(each.column for each in pinned)
    grouped = [name for view in views for name in view.columns]
    if grouped == list(columns):
        return Plan(views, columns, None)
    pick = itemgetter(*(grouped.index(name) for name in columns))  # more than one column, or the order would be right
    return Plan(views, columns, lambda values: list(pick(values)))


def _view_plan(wanted: Sequence[FeatureServiceFeature]) -> ViewPlan:
    version = wanted[0].view_version
    position = {name: place for place, name in enumerate(version.feature_names)}
    return ViewPlan(
        version=version.pk,
        view=version.view.name,
        join_keys=tuple(version.view.entity.join_keys),
        longest=None if version.ttl is None else version.ttl // _MICROSECOND,
        layout=layout_of(version),
        places=tuple(position[each.feature] for each in wanted),
        columns=tuple(each.column for each in wanted),
    )


def _view_values(
    view: ViewPlan, keys: Sequence[str | None], stored: Mapping[str, tuple[int, bytes]], moment: int
) -> Iterable[tuple[Sequence[Any], float | None, Sequence[str]]]:
    """Per key: the wanted values, their age in seconds, their statuses."""
    count, unpack, takes_all, longest = len(view.places), view.layout.unpack, view.takes_all, view.longest
    nothing, unknown, expired = [None] * count, [UNKNOWN] * count, [EXPIRED] * count
    present = [PRESENT] * count
    for key in keys:
        found = stored.get(key) if key is not None else None
        if found is None:
            yield nothing, None, unknown
            continue
        event, record = found
        age = (moment - event) / 1e6
        if longest is not None and moment - event > longest:
            yield nothing, age, expired
            continue
        values: Sequence[Any] = unpack(record)
        if not takes_all:
            values = [values[place] for place in view.places]
        yield values, age, [NULL if value is None else PRESENT for value in values] if None in values else present


def _keys_of(entities: Sequence[Mapping[str, Any]], join_keys: Sequence[str]) -> list[str | None]:
    """The store's key of each entity; the common case, one plain text or integer, is not taken through Arrow."""
    try:
        values = [[entity[name] for name in join_keys] for entity in entities]
    except KeyError as missing:
        raise InvalidInput({str(missing.args[0]): "Each entity needs this join key."}) from missing
    if len(join_keys) == 1:
        quick = [cells.quick_key(value) for (value,) in values]
        if None not in quick:
            return quick
    try:
        table = pa.table({name: pa.array([row[place] for row in values]) for place, name in enumerate(join_keys)})
    except pa.ArrowException as problem:
        raise InvalidInput({", ".join(join_keys): f"The values of a join key are of one type: {problem}"}) from problem
    return cells.entity_keys(table, join_keys)


def _distinct(keys: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(key for key in keys if key is not None))


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
