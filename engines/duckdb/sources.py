"""Data sources in DuckDB: small ones stand in memory, sorted by arrival; large ones are scanned where they lie.

What is scanned is read with only the columns and row groups a query needs: by DuckDB itself from files below the
``roots`` it was opened for, through Arrow from anywhere else. Either way, all times come out as naive UTC
microseconds: naive, because time zones in DuckDB depend on a session setting, and that may not decide a value.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from itertools import count
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from engines.duckdb.sql import from_raw, not_after, not_before, quoted, quoted_text
from engines.offline import SourceError, SourceTable

File = tuple[str, int, int]  # path, modification time (ns), size


@dataclass(frozen=True)
class Bounds:
    """What rows of a view can matter at all, in microseconds: a filter that may be applied early, or not."""

    event_from: int | None = None
    event_until: int | None = None
    known_until: int | None = None


@dataclass(frozen=True)
class OpenSource:
    """A source that can be read: the files it was read from, and how SQL names it.

    ``types`` are DuckDB's, by column, as they are before times are normalised. ``scanned`` is an Arrow dataset that
    each cursor must register under the relation's name before it reads.
    """

    source: SourceTable
    files: tuple[File, ...]
    relation: str
    types: dict[str, str]
    rows: int
    resident: bool
    scanned: ds.Dataset | None = None

    @property
    def normalised_types(self) -> dict[str, str]:
        """DuckDB's types by column, as SQL over the visible rows sees them."""
        return {name: "TIMESTAMP" if type_.startswith("TIMESTAMP") else type_ for name, type_ in self.types.items()}

    def attach(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the relation visible to a cursor. Cheap; a registered dataset is not read."""
        if self.scanned is not None:
            cursor.register(self.relation, self.scanned)

    def visible(self, until: str, after: str | None = None, also: Iterable[str] = ()) -> str:
        """SQL for the rows that had arrived at ``until`` and not yet at ``after``, each an SQL timestamp."""
        arrival = self.arrival(until, after)
        return f"SELECT {self._normalised()} FROM {self.relation} WHERE {' AND '.join([arrival, *also])}"

    def arrival(self, until: str, after: str | None) -> str:
        """SQL condition on the arrival time, exact."""
        column = from_raw(quoted(self.source.arrival), self.types[self.source.arrival])
        condition = f"{column} <= {until}"
        return condition if after is None else f"{condition} AND {column} > {after}"

    def within(self, column: str, low: int | None, high: int | None) -> list[str]:
        """SQL conditions that a time column lies in ``[low, high]``, in the column's own type, for early filters."""
        type_, name = self.types.get(column, ""), quoted(column)
        if not type_.startswith("TIMESTAMP"):
            return []
        conditions = [not_before(name, type_, low) if low is not None else None]
        conditions.append(not_after(name, type_, high) if high is not None else None)
        return [each for each in conditions if each]

    def _normalised(self) -> str:
        if self.resident:
            return "*"
        return ", ".join(f"{from_raw(quoted(name), type_)} AS {quoted(name)}" for name, type_ in self.types.items())


class Sources:
    """The sources an engine has opened. Safe to use from several threads."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, *, roots: Sequence[str] = (), resident_bytes: int
    ) -> None:
        self._connection = connection
        self._roots = tuple(roots)
        self._resident_bytes = resident_bytes
        self._open: dict[SourceTable, OpenSource] = {}
        self._superseded: list[OpenSource] = []
        self._readers = 0
        self._lock = threading.RLock()
        self._numbers = count(1)
        # Outside the search path, so that no expression can name a source by its stored name.
        connection.execute("CREATE SCHEMA sources")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While inside, no table that ``open`` gave is dropped."""
        with self._lock:
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._drop_superseded()

    def open(self, source: SourceTable) -> OpenSource:
        """The source as its files are now. Call inside ``reading``. Raises SourceError."""
        filesystem, files = files_of(source)
        with self._lock:
            known = self._open.get(source)
            if known and known.files == files:
                return known
            opened = self._opened(source, filesystem, files)
            if known:
                self._superseded.append(known)
            self._open[source] = opened
            return opened

    def _opened(self, source: SourceTable, filesystem: pafs.FileSystem, files: tuple[File, ...]) -> OpenSource:
        if sum(size for _, _, size in files) <= self._resident_bytes:
            return self._resident(source, filesystem, files)
        if isinstance(filesystem, pafs.LocalFileSystem) and all(self._is_below_roots(path) for path, _, _ in files):
            return self._native(source, files)
        return self._through_arrow(source, filesystem, files)

    def _resident(self, source: SourceTable, filesystem: pafs.FileSystem, files: tuple[File, ...]) -> OpenSource:
        dataset = _dataset(source, filesystem, files)
        table = f"sources.s{next(self._numbers)}"
        # Sorted by arrival, the zone maps of the table let an increment skip all older row groups.
        self._connection.register("incoming", _in_microseconds(dataset))
        self._connection.execute(f"CREATE TABLE {table} AS SELECT * FROM incoming ORDER BY {quoted(source.arrival)}")
        self._connection.unregister("incoming")
        (rows,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0]
        return OpenSource(source, files, table, self._types(f"FROM {table}"), rows, resident=True)

    def _native(self, source: SourceTable, files: tuple[File, ...]) -> OpenSource:
        paths = "[" + ", ".join(quoted_text(os.path.abspath(path)) for path, _, _ in files) + "]"
        relation = f"read_parquet({paths}, union_by_name = {len(files) > 1}, hive_partitioning = false)"
        try:
            types = self._types(f"FROM {relation}")
            ((rows,),) = self._connection.execute(
                f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({paths})"
            ).fetchall()
        except duckdb.Error as error:
            raise SourceError(f"data source {source.name} cannot be read: {error}") from error
        _check_times(source, types)
        return OpenSource(source, files, relation, types, rows, resident=False)

    def _through_arrow(self, source: SourceTable, filesystem: pafs.FileSystem, files: tuple[File, ...]) -> OpenSource:
        dataset = _dataset(source, filesystem, files)
        name = f"__scanned_{next(self._numbers)}"
        self._connection.register(name, dataset)
        types = self._types(f"FROM {name}")
        self._connection.unregister(name)
        return OpenSource(source, files, name, types, dataset.count_rows(), resident=False, scanned=dataset)

    def _types(self, sql: str) -> dict[str, str]:
        return {name: type_ for name, type_, *_ in self._connection.execute(f"DESCRIBE {sql}").fetchall()}

    def _is_below_roots(self, path: str) -> bool:
        place = os.path.abspath(path)
        return any(place.startswith(root.rstrip("/") + "/") for root in self._roots)

    def _drop_superseded(self) -> None:
        for each in self._superseded:
            if each.resident:
                self._connection.execute(f"DROP TABLE {each.relation}")
        self._superseded.clear()


# ---------------------------------------------------------------------- files


def files_of(source: SourceTable) -> tuple[pafs.FileSystem, tuple[File, ...]]:
    """Where the source's Parquet files are, and which they are now. Raises SourceError where there are none."""
    filesystem, path = _located(source.uri)
    files = tuple((info.path, info.mtime_ns, info.size) for info in _file_infos(filesystem, path))
    if not files:
        raise SourceError(f"data source {source.name}: no Parquet file at {source.uri}")
    return filesystem, files


def _located(uri: str) -> tuple[pafs.FileSystem, str]:
    if "://" in uri:
        filesystem, path = pafs.FileSystem.from_uri(uri)
        return filesystem, path
    return pafs.LocalFileSystem(), uri


def _file_infos(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    if isinstance(filesystem, pafs.LocalFileSystem) and any(mark in path for mark in "*?["):
        return [info for info in filesystem.get_file_info(sorted(glob(path, recursive=True))) if info.is_file]
    info = filesystem.get_file_info(path)
    if info.type != pafs.FileType.Directory:
        return [info] if info.is_file else []
    inside = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    return sorted((f for f in inside if f.is_file and f.path.endswith(".parquet")), key=lambda f: f.path)


def _dataset(source: SourceTable, filesystem: pafs.FileSystem, files: tuple[File, ...]) -> ds.Dataset:
    try:
        dataset = ds.dataset([path for path, _, _ in files], filesystem=filesystem, format="parquet")
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"data source {source.name} cannot be read: {error}") from error
    for name in (source.event_timestamp, source.arrival):
        if name not in dataset.schema.names:
            raise SourceError(_no_column(source, name, dataset.schema.names))
        if not pa.types.is_timestamp(dataset.schema.field(name).type):
            raise SourceError(_no_timestamp(source, name, dataset.schema.field(name).type))
    return dataset


def _check_times(source: SourceTable, types: dict[str, str]) -> None:
    for name in (source.event_timestamp, source.arrival):
        if name not in types:
            raise SourceError(_no_column(source, name, types))
        if not types[name].startswith("TIMESTAMP"):
            raise SourceError(_no_timestamp(source, name, types[name]))


def _no_column(source: SourceTable, name: str, columns: Iterable[str]) -> str:
    return f"data source {source.name} has no column {name}; it has {', '.join(columns)}"


def _no_timestamp(source: SourceTable, name: str, type_: Any) -> str:
    return f"data source {source.name}: {name} must be a timestamp, not {type_}"


def _in_microseconds(dataset: ds.Dataset) -> ds.Scanner:
    """The dataset with every timestamp as naive UTC microseconds, read lazily."""
    columns = {
        field.name: ds.field(field.name).cast(pa.timestamp("us"), safe=False)
        if pa.types.is_timestamp(field.type)
        else ds.field(field.name)
        for field in dataset.schema
    }
    return dataset.scanner(columns=columns)
