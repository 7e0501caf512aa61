"""A keyed sample of the values that were read over REST and SDK, for the consistency audit.

What the gateway serves is in the prediction log. Everybody else who reads the online store is noted here: one read in a
hundred, chosen by a hash of entity and time, so that nobody can tell beforehand which. Noting never waits and never
fails a read: rows go to a bounded buffer, a thread writes them to small Parquet files below the data root
(``served/<service>/<day>``), and what does not fit is dropped and counted.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features import files
from features.meaning import TYPES
from features.models import FeatureService

log = logging.getLogger(__name__)

SHARE = 0.01
CAPACITY = 5_000
FLUSH_ROWS = 500
FLUSH_SECONDS = 30.0

AT = "served_at"
"""Column with the instant of reading (event time, UTC)."""

_FOLDER = "served"
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class _Row:
    service: int
    at: datetime
    asked: Mapping[str, Any]
    names: tuple[str, ...]
    types: Mapping[str, str]
    values: Sequence[Any]


class ServedLog:
    """A buffered writer. ``share`` of the reads is kept; ``dropped`` counts the rows that were lost.

    At most ``capacity`` rows wait. They are written when there are ``flush_rows``, when the first has waited
    ``flush_seconds``, and when the process ends.
    """

    def __init__(
        self,
        *,
        share: float = SHARE,
        capacity: int = CAPACITY,
        flush_rows: int = FLUSH_ROWS,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self.dropped = 0
        self._up_to = min(int(share * 2**64), 2**64 - 1).to_bytes(8, "big")
        self._capacity, self._flush_rows, self._flush_seconds = capacity, flush_rows, flush_seconds
        self._start()
        os.register_at_fork(after_in_child=self._start)  # the parent writes its own rows
        atexit.register(self.flush)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[_Row] = []
        self._writer: threading.Timer | None = None

    def note(
        self,
        service: FeatureService,
        entities: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        now: datetime,
    ) -> None:
        """Keep a sample of what was read at ``now``: for each of ``entities`` (what was asked) a row over ``names``."""
        when = f"{service.pk}|{now.isoformat()}|"
        kept = [place for place, entity in enumerate(entities) if self._chosen(when, entity)]
        if not kept:
            return
        types = {each.column: each.view_version.types[each.feature] for each in service.pinned()}
        columns = tuple(names)
        self._add([_Row(service.pk, now, dict(entities[each]), columns, types, rows[each]) for each in kept])

    def flush(self) -> int:
        """Write what waits; the count of rows written. What can not be written is dropped, counted and logged."""
        with self._lock:
            rows, self._rows, self._writer = self._rows, [], None
        folders: dict[str, list[_Row]] = {}
        for row in rows:
            folders.setdefault(f"{_FOLDER}/{row.service}/{row.at.astimezone(UTC).date()}", []).append(row)
        return sum(self._written(folder, each) for folder, each in folders.items())

    def _chosen(self, when: str, entity: Mapping[str, Any]) -> bool:
        key = when + "|".join(map(str, entity.values()))
        return blake2b(key.encode("utf-8", "replace"), digest_size=8).digest() <= self._up_to

    def _add(self, rows: list[_Row]) -> None:
        with self._lock:
            room = self._capacity - len(self._rows)
            self.dropped += max(0, len(rows) - room)
            self._rows += rows[:room] if room > 0 else []
            if len(self._rows) >= self._flush_rows:
                self._write_in(0.0)
            elif self._rows and self._writer is None:
                self._write_in(self._flush_seconds)

    def _write_in(self, seconds: float) -> None:
        """Let a thread write, now or later; the caller holds the lock."""
        if self._writer is not None:
            if not self._writer.interval:
                return  # it is on its way
            self._writer.cancel()
        self._writer = threading.Timer(seconds, self.flush)
        self._writer.name, self._writer.daemon = "served-log", True
        self._writer.start()

    def _written(self, folder: str, rows: Sequence[_Row]) -> int:
        try:
            files.write_once(f"{folder}/{time.time_ns()}-{uuid.uuid4().hex}.parquet", _table(rows))
        except (OSError, pa.ArrowException) as problem:
            self.dropped += len(rows)
            log.warning("%s served rows could not be noted: %s", len(rows), problem)
            return 0
        return len(rows)


_log = ServedLog()
note = _log.note
flush = _log.flush


def dropped() -> int:
    """Rows that this process lost because the buffer was full or the disk refused."""
    return _log.dropped


def services() -> list[int]:
    """Primary keys of the feature services that something was noted of."""
    return [int(name) for name in files.names_in(_FOLDER) if name.isdigit()]


def read(service: int, *, since: datetime, until: datetime) -> pa.Table:
    """What was noted of a service at ``since`` <= served_at < ``until``: ``AT``, what was asked, and its columns."""
    first, last = since.astimezone(UTC).date(), until.astimezone(UTC).date()
    folders = [f"{_FOLDER}/{service}/{day}" for day in _days(service) if first <= day <= last]
    tables = [files.read(f"{folder}/{name}") for folder in folders for name in files.names_in(folder)]
    whole = _joined(tables)
    if not whole.num_rows:
        return whole
    at = whole.column(AT)
    return whole.filter(pc.and_(pc.greater_equal(at, pa.scalar(since, _TIME)), pc.less(at, pa.scalar(until, _TIME))))


def forget(*, before: date) -> int:
    """Delete the days before ``before``: the audit has long read them. The count of day folders deleted."""
    old = [(service, day) for service in services() for day in _days(service) if day < before]
    for service, day in old:
        with suppress(FileNotFoundError):  # another worker was faster
            files.delete_folder(f"{_FOLDER}/{service}/{day}")
    return len(old)


def _days(service: int) -> list[date]:
    return [date.fromisoformat(name) for name in files.names_in(f"{_FOLDER}/{service}")]


def _table(rows: Sequence[_Row]) -> pa.Table:
    asked = dict.fromkeys(name for row in rows for name in row.asked)
    columns: dict[str, Any] = {AT: pa.array([row.at for row in rows], _TIME)}
    columns |= {name: _inferred(row.asked.get(name) for row in rows) for name in asked}
    places = [dict(zip(row.names, row.values, strict=True)) for row in rows]
    for name in dict.fromkeys(name for row in rows for name in row.names):
        values = [each.get(name) for each in places]
        dtype = rows[0].types.get(name)
        columns[name] = pa.array(values, TYPES[dtype]) if dtype else _inferred(values)
    return pa.table(columns)


def _inferred(values: Iterable[Any]) -> pa.Array:
    """A column of values as JSON gives them; of several kinds, their texts."""
    found = list(values)
    kinds = {type(value) for value in found if value is not None}
    if len(kinds) > 1 and kinds != {int, float}:
        found = [None if value is None else str(value) for value in found]
    return pa.array(found)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows; a column that has a different kind in some file becomes text in all."""
    if not tables:
        return pa.table({AT: pa.array([], _TIME)})
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for each in table.schema:
            kinds.setdefault(each.name, set()).add(each.type)
    mixed = {name for name, found in kinds.items() if len(found - {pa.null()}) > 1}
    texts = [
        table.cast(
            pa.schema([pa.field(each.name, pa.string()) if each.name in mixed else each for each in table.schema])
        )
        for table in tables
    ]
    return pa.concat_tables(texts, promote_options="default")
