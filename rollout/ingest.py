"""From the spools of gateways into the prediction log, each record exactly once.

A piece of a segment becomes one file per endpoint and day, named after the segment and the place where it begins. The
files are written aside; then, in one transaction that locks the segment's row in the manifest (``SpoolSegment``),
they are renamed into place and the row says how far the segment is in. Whoever dies in between is repeated by the next
one, from the same place, onto the same names: what a dead attempt left is replaced, never doubled. Compaction leaves
alone what the manifest does not know yet (``settled``). A segment is deleted after all of it is in and on the disk.

It runs as a job, in the loop of ``manage.py gateway``, and before everybody who reads the log.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings
from django.db import connection, transaction

from rollout import prediction_log, spool
from rollout.day_files import TIME, Staged, together
from rollout.models import SpoolSegment
from rollout.prediction_log import PREDICTION
from rollout.spool import Piece, Segment

log = logging.getLogger(__name__)

KEPT = timedelta(days=30)
"""Rows of the manifest stay this long after their segment: longer than days are compacted."""

_ENDPOINT = re.compile(r"[a-z][a-z0-9_-]{0,59}")
_FILE = re.compile(r"(?P<number>\d+)-(?P<process>[^-]+)-(?P<start>\d{12})\.parquet")
_WRITTEN_ONCE = re.compile(r"\d+-[0-9a-f]{32}\.parquet")
_REPEATED_WITHIN = 24 * 3600.0  # seconds in which an attempt that was cut short has been repeated
_AT_ONCE = 500
_MOVED = ("ingested_bytes", "rows", "torn_bytes", "damaged_bytes", "last_at", "finished_at")
_NOT_ROWS = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError)

Columns = Mapping[str, Sequence[Any]]
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_ready: dict[Path, int] = {}
"""How far this process knows segments to be in, so that looking at a spool without anything new asks no database."""


@dataclass(frozen=True)
class Ingested:
    """What one call took in: rows, the segments it touched, bytes torn off by dead processes, bytes it can not read."""

    rows: int = 0
    segments: int = 0
    torn: int = 0
    damaged: int = 0

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(
            self.rows + other.rows,
            self.segments + other.segments,
            self.torn + other.torn,
            self.damaged + other.damaged,
        )

    def as_dict(self) -> dict[str, int]:
        return {"rows": self.rows, "segments": self.segments, "torn": self.torn, "damaged": self.damaged}


def spool_folder() -> Path:
    """Where this host's gateways spool (GATEHOUSE_SPOOL, by default ``spool`` below the data root)."""
    return Path(settings.GATEHOUSE_SPOOL or Path(settings.DATA_ROOT) / "spool")


def ingest(*, folder: Path | None = None, now: datetime) -> Ingested:
    """Take in what the spool holds: when this returns, readers of the log see all that was acknowledged before it.

    Any number of processes may call it at once, also inside a transaction. Nothing new: one look at the folder.
    """
    folder = folder or spool_folder()
    if not any(_has_news(segment) for segment in spool.segments(folder)):
        return Ingested()
    # Inside a transaction nobody is waited for: they may wait for that transaction. It is right without, too.
    with spool.one_at_a_time(folder, waits=not connection.in_atomic_block):
        segments = spool.segments(folder)
        _forget_all_but(folder, segments)
        return sum((_take_in(each, now) for each in segments if _has_news(each)), Ingested())


def settled(files: Collection[Path]) -> set[Path]:
    """Those of the log's files that nobody will write again.

    Of ours: the manifest is beyond where they begin. Of others that are staged under a name of their own (traffic that
    was served elsewhere): they are old. Whatever else there is was written once.
    """
    ours = {file: found for file in files if (found := _FILE.fullmatch(file.name))}
    segments = {file: f"{found['process']}-{found['number']}" for file, found in ours.items()}
    reached = dict(_reached(sorted(set(segments.values()))))
    known = {file for file, found in ours.items() if int(found["start"]) < reached.get(segments[file], 0)}
    return known | {
        file for file in files if file not in ours and (_WRITTEN_ONCE.fullmatch(file.name) or _is_old(file))
    }


def _is_old(file: Path) -> bool:
    return time.time() - file.stat().st_mtime > _REPEATED_WITHIN


def tidy(*, now: datetime) -> int:
    """Keep the log's files few and forget old rows of the manifest; the count of files put together."""
    SpoolSegment.objects.filter(finished_at__lt=now - KEPT).delete()
    return sum(prediction_log.tidy(endpoint, settled=settled) for endpoint in prediction_log.endpoints())


def _reached(segments: Sequence[str]) -> Iterator[tuple[str, int]]:
    for start in range(0, len(segments), _AT_ONCE):
        batch = segments[start : start + _AT_ONCE]
        yield from SpoolSegment.objects.filter(name__in=batch).values_list("name", "ingested_bytes")


# ---------------------------------------------------------------------- one segment


def _has_news(segment: Segment) -> bool:
    """Whether there may be something to take in or to delete."""
    if _ready.get(segment.path) != segment.bytes:
        return True
    try:
        return spool.is_finished(segment)
    except FileNotFoundError:
        return False


def _forget_all_but(folder: Path, segments: Sequence[Segment]) -> None:
    """Of segments that another process has deleted nothing needs to be known."""
    gone = {path for path in list(_ready) if path.parent == folder} - {segment.path for segment in segments}
    for path in gone:
        _ready.pop(path, None)


def _take_in(segment: Segment, now: datetime) -> Ingested:
    """All of one segment that can be read now."""
    born = {"folder": str(segment.path.parent)[-500:], "first_at": now, "last_at": now}
    row = SpoolSegment.objects.get_or_create(name=segment.name, defaults=born)[0]
    if row.finished_at is not None:
        is_damaged = row.damaged_bytes > 0
        transaction.on_commit(lambda: _let_go(segment.path, is_damaged=is_damaged))
        return Ingested()
    done = Ingested(segments=1)
    while (piece := _piece(segment, row.ingested_bytes)) is not None:
        done += _take_in_piece(segment, row, piece, now)
        if piece.is_last or not piece.records:
            break
        row.refresh_from_db()
    return done


def _piece(segment: Segment, start: int) -> Piece | None:
    """The next piece; None when nothing (more) can be read."""
    try:
        return spool.read(segment.path, start)
    except FileNotFoundError:  # sealed since we looked, or another one took all of it in
        try:
            return spool.read(segment.path.with_suffix(spool.SEALED), start)
        except FileNotFoundError:
            return None
    except spool.UnknownForm as error:
        log.error("%s It stays in the spool.", error)
        return None


def _take_in_piece(segment: Segment, row: SpoolSegment, piece: Piece, now: datetime) -> Ingested:
    """Write the piece's files aside, then show them and move the manifest on, at once or not at all."""
    start = row.ingested_bytes
    tables, unreadable = read_records(piece.records)
    damaged = piece.damaged + unreadable
    rows = sum(len(table) for table in tables.values())
    name = f"{segment.number}-{segment.process}-{start:012d}"
    staged: list[Staged] = []
    try:
        for endpoint, table in tables.items():
            staged += prediction_log.stage(endpoint, table, name=name)
        with transaction.atomic():
            locked = SpoolSegment.objects.select_for_update().get(pk=row.pk)
            if locked.ingested_bytes != start or locked.finished_at is not None:
                return Ingested()  # somebody else did it meanwhile
            for file in staged:
                file.publish()
            locked.ingested_bytes = piece.end
            locked.rows += rows
            locked.torn_bytes += piece.torn
            locked.damaged_bytes += damaged
            if piece.records or piece.is_last:
                locked.last_at = now
            if piece.is_last:
                locked.finished_at = now
            if piece.end > start or piece.is_last:
                locked.save(update_fields=_MOVED)
            is_damaged = locked.damaged_bytes > 0
            transaction.on_commit(lambda: _settle(segment, piece, is_damaged=is_damaged))
    finally:
        for file in staged:
            file.discard()
    if piece.torn or damaged:
        log.warning("%s: %s bytes torn, %s bytes can not be read", segment.name, piece.torn, damaged)
    return Ingested(rows, 0, piece.torn, damaged)


def _settle(segment: Segment, piece: Piece, *, is_damaged: bool) -> None:
    """The manifest has it: remember how far, and let go of a segment that is wholly in."""
    if not piece.is_last:
        _ready[segment.path] = piece.end
        return
    for path in (segment.path, segment.path.with_suffix(spool.SEALED)):  # it may have been sealed since we looked
        _let_go(path, is_damaged=is_damaged)


def _let_go(path: Path, *, is_damaged: bool) -> None:
    """Delete a segment that is in, or keep it for a person to look at."""
    _ready.pop(path, None)
    with suppress(FileNotFoundError):
        if is_damaged:
            path.rename(path.with_suffix(spool.DAMAGED))
        else:
            path.unlink()


# ---------------------------------------------------------------------- records


def write_record(endpoint: str, columns: Columns) -> bytes:
    """A record as gateways spool it: some rows of one endpoint, each column as long as the others.

    Moments are datetimes (or whole microseconds since 1970); numbers that are not finite become null.
    """
    return orjson.dumps({"endpoint": endpoint, "columns": columns}, option=orjson.OPT_SERIALIZE_NUMPY)


def read_records(records: Sequence[bytes]) -> tuple[dict[str, pa.Table], int]:
    """Rows by endpoint with all their columns, and the bytes of records that are not rows of a prediction."""
    merged, unreadable = _merged(records)
    tables: dict[str, pa.Table] = {}
    for endpoint, rows in merged.items():
        good, bytes_of_bad = _tables(endpoint, rows)
        unreadable += bytes_of_bad
        if good:
            tables[endpoint] = good[0] if len(good) == 1 else together(good)
    return tables, unreadable


@dataclass
class _Rows:
    """Records of one endpoint below one another, column by column, and as they were.

    A record's own lists are let go at once: kept by the thousand they would keep the garbage collector busy.
    """

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in PREDICTION.names})
    count: int = 0
    records: list[bytes] = field(default_factory=list)

    def add(self, columns: Columns, count: int, record: bytes) -> None:
        for name, values in columns.items():
            column = self.columns.setdefault(name, [])
            if len(column) < self.count:  # earlier records did not have it
                column += [None] * (self.count - len(column))
            column += values
        self.count += count
        self.records.append(record)


def _merged(records: Sequence[bytes]) -> tuple[dict[str, _Rows], int]:
    by_endpoint: dict[str, _Rows] = {}
    unreadable = 0
    for record in records:
        if parsed := _parsed(record):
            endpoint, columns, count = parsed
            by_endpoint.setdefault(endpoint, _Rows()).add(columns, count, record)
        else:
            unreadable += len(record)
    return by_endpoint, unreadable


def _parsed(record: bytes) -> tuple[str, Columns, int] | None:
    """Endpoint, columns and how many rows; None when this is not what a gateway writes."""
    try:
        document = orjson.loads(record)
        endpoint, columns = document["endpoint"], document["columns"]
        count = len(columns["request_id"])
        for values in columns.values():
            if type(values) is not list or len(values) != count:
                return None
        is_named = _ENDPOINT.fullmatch(endpoint) is not None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return (endpoint, columns, count) if count and is_named else None


def _tables(endpoint: str, rows: _Rows) -> tuple[list[pa.Table], int]:
    """All rows as one table; where a record spoils that, as few tables as it takes without it, and its bytes."""
    try:
        return [_table(endpoint, rows)], 0
    except _NOT_ROWS:
        if len(rows.records) == 1:
            return [], len(rows.records[0])
    middle = len(rows.records) // 2
    tables, lost = [], 0
    for half in (rows.records[:middle], rows.records[middle:]):
        good, bytes_of_bad = _tables(endpoint, _merged(half)[0][endpoint])
        tables += good
        lost += bytes_of_bad
    return tables, lost


def _table(endpoint: str, rows: _Rows) -> pa.Table:
    """``PREDICTION`` and whatever other columns there are; raises one of ``_NOT_ROWS``."""
    columns = {name: [*values, *[None] * (rows.count - len(values))] for name, values in rows.columns.items()}
    columns["endpoint"] = [endpoint] * rows.count
    known = {each.name: _typed(columns.pop(each.name), each) for each in PREDICTION}
    return pa.table({**known, **{name: _free(values) for name, values in columns.items()}})


def _typed(values: list[Any], column: pa.Field) -> pa.Array:
    found = _moments(values) if column.type == TIME else pa.array(values, column.type)
    if found.null_count and column.name in ("request_id", "at"):
        raise ValueError(f"A row without {column.name}.")
    return found


def _moments(values: list[Any]) -> pa.Array:
    """Microseconds, or moments as JSON has them; those that no calendar has are refused."""
    if all(isinstance(each, int) for each in values):
        found = pa.array(values, TIME)
    else:
        found = pa.array(values, pa.string()).cast(TIME)
    earliest, latest = (pc.min(found).as_py(), pc.max(found).as_py())
    if earliest is not None and not _EARLIEST <= earliest <= latest <= _LATEST:
        raise ValueError(f"Rows from {earliest} to {latest}.")
    return found


def _free(values: list[Any]) -> pa.Array:
    """A column of whatever the model takes. What has no common type, or no flat one, is text."""
    try:
        found = pa.array(values)
    except _NOT_ROWS:
        return pa.array(map(_text, values), pa.string())
    return pa.array(map(_text, values), pa.string()) if pa.types.is_nested(found.type) else found


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
