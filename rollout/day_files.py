"""Append-only rows in Parquet files, one folder per day: what the prediction log, outcomes and shadow scores lie in.

Many processes append at once without locks: each writes a file of its own and renames it into place, so a reader sees
a file whole or not at all. A process killed while writing leaves a ``.tmp`` file that nobody reads. Rows that were
appended survive the death of the process (they are in the page cache), those that were staged a power cut too. Rows
with one key count once, whoever repeats them.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rollout.spool import one_at_a_time, sync_folder

TIME = pa.timestamp("us", tz="UTC")
_ENDING = ".parquet"
_UNFINISHED = ".tmp"
_ATTEMPTS = 5  # a reader meets a compaction at most once per day folder and try
_LEFT_BEHIND = 24 * 3600.0  # seconds after which nobody is writing an unfinished file any more

Settled = Callable[[Collection[Path]], set[Path]]
"""Which of these files hold their rows for good: another one (see ``DayFiles.stage``) may be written once more."""


def all_settled(files: Collection[Path]) -> set[Path]:
    return set(files)


@dataclass(frozen=True)
class Staged:
    """A file that is written and on the disk, but not yet in its place."""

    unfinished: Path
    place: Path

    def publish(self) -> None:
        """From now on every reader sees it; a file of this name is replaced. Survives a power cut."""
        self.unfinished.rename(self.place)
        sync_folder(self.place.parent)

    def discard(self) -> None:
        self.unfinished.unlink(missing_ok=True)


@dataclass(frozen=True)
class DayFiles:
    """Rows below ``folder/YYYY-MM-DD``, filed by the UTC day of column ``at``; ``key`` identifies a row.

    ``schema`` holds the columns that every row has; a table may bring more. Columns that only some files have are null
    elsewhere.
    """

    folder: Path
    schema: pa.Schema
    key: str
    at: str

    def append(self, table: pa.Table) -> None:
        """Write ``table``; when this returns, every later reader sees its rows.

        Raises ValueError when a column of the schema is missing or ``at`` or the key holds nulls.
        """
        for day, rows in self._by_day(table):
            _write(self._day(day), rows)

    def stage(self, table: pa.Table, *, name: str) -> list[Staged]:
        """Write ``table`` as one file of one row group per day, all called ``name`` (in the order of their names files
        count as older or newer), without showing them. Staging the same again replaces them, once published.

        Raises as ``append`` does, and OSError; then nothing is left behind.
        """
        staged: list[Staged] = []
        try:
            for day, rows in self._by_day(table):
                staged.append(_staged(self._day(day), rows, name))
        except OSError:
            for each in staged:
                each.discard()
            raise
        return staged

    def read(self, *, since: datetime, until: datetime, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows with ``since`` <= at < ``until``, the first written of each key, in no promised order.

        ``columns`` limits what is read (key and time are always there); one that no file has comes as nulls.
        """
        parts = [part for day in _days(since, until) for part in self._parts(day, columns)]
        table = together([self._empty(columns), *parts])
        inside = pc.and_(
            pc.greater_equal(table[self.at], pa.scalar(since, TIME)), pc.less(table[self.at], pa.scalar(until, TIME))
        )
        return first_of_each(table.filter(inside), self.key)

    def find(self, value: str, *, days: Sequence[date] | None = None) -> pa.Table | None:
        """The row with this key as a table of one row with all its columns; None when there is none.

        ``days`` are looked through in order; without them all, newest first. Of a day the first written row counts.
        """
        for day in reversed(self.days()) if days is None else days:
            for _ in range(_ATTEMPTS):
                try:
                    found = self._first(day, value)
                except FileNotFoundError:  # a compaction replaced it: the row is in another file now
                    continue
                if found is not None:
                    return found
                break
            else:
                raise OSError(f"{self._day(day)} changed during each of {_ATTEMPTS} readings")
        return None

    def compact(self, day: date, *, settled: Settled = all_settled, at_least: int = 2, below: int | None = None) -> int:
        """Put a day's files into one if there are ``at_least`` so many; the count of files replaced (0: nothing done).

        Only files that are ``settled``, and of these only those ``below`` so many bytes, so that a day that goes on is
        not written over and over. The new file takes the oldest one's place in the order, so the row that counted
        before still counts. A crash between the rename and the deletions leaves rows twice, which reading takes once.
        """
        folder = self._day(day)
        if len(_files(folder)) < at_least:
            return 0
        with one_at_a_time(self.folder):
            _forget_unfinished(folder)
            files = [file for file in _files(folder) if below is None or file.stat().st_size < below]
            for_good = settled(files)
            files = [file for file in files if file in for_good]
            return self._put_together(files) if len(files) >= at_least else 0

    def days(self) -> list[date]:
        """The days that have a folder, oldest first."""
        names = (
            sorted(entry.name for entry in os.scandir(self.folder) if entry.is_dir()) if self.folder.is_dir() else []
        )
        return [date.fromisoformat(name) for name in names]

    def _put_together(self, files: Sequence[Path]) -> int:
        tables = [pq.read_table(file, use_threads=False, partitioning=None) for file in files]
        whole = first_of_each(together(tables), self.key)
        _write(files[0].parent, whole, place=files[0].name.split("-", 1)[0])
        for file in files:
            file.unlink(missing_ok=True)
        return len(files)

    def _day(self, day: date) -> Path:
        return self.folder / day.isoformat()

    def _by_day(self, table: pa.Table) -> Iterator[tuple[date, pa.Table]]:
        if not table.num_rows:
            return
        whole = self._conforming(table)
        days = whole[self.at].cast(pa.date32())
        for day in pc.unique(days).to_pylist():
            yield day, whole.filter(pc.equal(days, day))

    def _conforming(self, table: pa.Table) -> pa.Table:
        missing = [name for name in self.schema.names if name not in table.column_names]
        if missing:
            raise ValueError(f"rows for {self.folder.name} lack the columns {', '.join(missing)}")
        for column in self.schema:
            cast = table[column.name].cast(column.type)
            if column.name in (self.key, self.at) and cast.null_count:
                raise ValueError(f"{column.name} of a row for {self.folder.name} is null")
            table = table.set_column(table.column_names.index(column.name), column, cast)
        return table

    def _empty(self, columns: Sequence[str] | None) -> pa.Table:
        wanted = self.schema.names if columns is None else _with(columns, (self.key, self.at))
        types = {field.name: field.type for field in self.schema}
        return pa.table({name: pa.array([], types.get(name, pa.null())) for name in wanted})

    def _parts(self, day: date, columns: Sequence[str] | None) -> list[pa.Table]:
        """The day's files, oldest first; read again from the start when a compaction replaced one meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                return [self._part(file, columns) for file in _files(self._day(day))]
            except FileNotFoundError:
                continue
        raise OSError(f"{self._day(day)} changed during each of {_ATTEMPTS} readings")

    def _first(self, day: date, value: str) -> pa.Table | None:
        """The first written row of a day with this key: only keys are read until it is found."""
        for path in _files(self._day(day)):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    keys = file.read_row_group(group, columns=[self.key], use_threads=False)[self.key]
                    place = pc.index(keys, pa.scalar(value, keys.type)).as_py()
                    if place >= 0:
                        return file.read_row_group(group, use_threads=False).slice(place, 1)
        return None

    def _part(self, path: Path, columns: Sequence[str] | None) -> pa.Table:
        with pq.ParquetFile(path) as file:
            if columns is None:
                return file.read(use_threads=False)
            there = set(file.schema_arrow.names)
            wanted = [name for name in _with(columns, (self.key, self.at)) if name in there]
            return file.read(columns=wanted, use_threads=False)


def _files(folder: Path) -> list[Path]:
    """Complete files, oldest first (their names start with the nanosecond of writing)."""
    if not folder.is_dir():
        return []
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(_ENDING))


def _write(folder: Path, table: pa.Table, *, place: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{place or time.time_ns()}-{uuid.uuid4().hex}{_ENDING}"
    unfinished = folder / f".{name}{_UNFINISHED}"
    pq.write_table(table, unfinished, **({"compression": "zstd"} if place else _QUICK))
    if place:  # what it replaces may be on the disk already
        _sync(unfinished)
    unfinished.rename(folder / name)


_QUICK: dict[str, Any] = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
"""A file lives until its day is compacted: quick to write and read, five times cheaper than small."""


def _staged(folder: Path, table: pa.Table, name: str) -> Staged:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
    # Two who stage the same at once must not write into one file.
    staged = Staged(folder / f".{name}.{uuid.uuid4().hex}{_UNFINISHED}", folder / f"{name}{_ENDING}")
    try:
        pq.write_table(table, staged.unfinished, row_group_size=len(table), **_QUICK)
        _sync(staged.unfinished)
    except OSError:  # a full disk must not be filled with attempts
        staged.discard()
        raise
    return staged


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _forget_unfinished(folder: Path) -> None:
    """Delete what processes left behind that died while they wrote."""
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            if entry.name.endswith(_UNFINISHED) and time.time() - entry.stat().st_mtime > _LEFT_BEHIND:
                os.unlink(entry.path)


def _days(since: datetime, until: datetime) -> Iterator[date]:
    day = since.astimezone(UTC).date()
    while day <= until.astimezone(UTC).date():
        yield day
        day += timedelta(days=1)


def _with(columns: Sequence[str], always: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*always, *columns]))


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables below one another. A column that is text in one and numbers in another is text, so that no client's
    odd value makes the others' unreadable."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.concat_tables(_reconciled(tables), promote_options="permissive")


def _reconciled(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """The tables with those columns as text that have no type in common."""
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    odd = {name for name in names if not _have_common_type(tables, name)}
    return [_as_text(table, odd & set(table.column_names)) for table in tables]


def _have_common_type(tables: Sequence[pa.Table], name: str) -> bool:
    schemas = [pa.schema([table.schema.field(name)]) for table in tables if name in table.column_names]
    try:
        pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def _as_text(table: pa.Table, names: Collection[str]) -> pa.Table:
    for name in names:
        place = table.column_names.index(name)
        column = table[name]
        simple = not pa.types.is_nested(column.type)
        text = column.cast(pa.string()) if simple else pa.array(map(_text, column.to_pylist()), pa.string())
        table = table.set_column(place, name, text)
    return table


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def first_of_each(table: pa.Table, key: str) -> pa.Table:
    """The first row of each key, order kept."""
    keyed = pa.table({"key": table[key], "place": np.arange(table.num_rows)})
    first = keyed.group_by("key", use_threads=False).aggregate([("place", "min")])["place_min"]
    return table if len(first) == table.num_rows else table.take(np.sort(first.to_numpy()))
