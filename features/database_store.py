"""The online store in the portal's own database, in plain SQL: one statement for a read, whatever it asks for.

On PostgreSQL a read is a prepared statement with binary answers on the connection that Django keeps open: that halves
the time of a read of one entity. Set GATEHOUSE_PREPARED_READS=off behind a pooler that hands statements to changing
sessions.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections, transaction

from engines.online import OnlineStoreError, Records, Stored
from features.models import OnlineValue

_TABLE = OnlineValue._meta.db_table
_SELECT = (
    f"SELECT view_version_id, entity_key, event_us, packed FROM {_TABLE} WHERE view_version_id = %s AND entity_key"
)
# SQLite takes 32,766 parameters and 500 parts of a UNION.
_LONGEST_LIST = 4096
_MOST_PARAMETERS = 30_000
_MOST_LISTS = 400
_ROWS_AT_A_TIME = 10_000
_NEWER = f"""
    DO UPDATE SET event_us = excluded.event_us, known_us = excluded.known_us, packed = excluded.packed
    WHERE excluded.event_us > {_TABLE}.event_us
       OR (excluded.event_us = {_TABLE}.event_us AND excluded.known_us >= {_TABLE}.known_us)
"""
_INSERT = f"INSERT INTO {_TABLE} (view_version_id, entity_key, event_us, known_us, packed)"
_ON_CONFLICT = f"ON CONFLICT (view_version_id, entity_key) {_NEWER}"
_FEWEST_TO_COPY = 2000
_INSERT_ARRAYS = (
    f"{_INSERT} SELECT %s, * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %b::bytea[]) {_ON_CONFLICT}"
).encode()
_INCOMING_TABLE = "gatehouse_incoming"
# Several views are written in one transaction, so the table may be there with the rows of the last.
_INCOMING = (
    f"CREATE TEMPORARY TABLE IF NOT EXISTS {_INCOMING_TABLE} (entity_key text, event_us bigint, known_us bigint, "
    f"packed bytea) ON COMMIT DROP; TRUNCATE {_INCOMING_TABLE}"
).encode()
_INSERT_INCOMING = (
    f"{_INSERT} SELECT %s, entity_key, event_us, known_us, packed FROM {_INCOMING_TABLE} {_ON_CONFLICT}"
).encode()


class DatabaseStore:
    """``engines.online.OnlineStore`` on the default database connection of the calling thread."""

    name = "database"

    def read(self, wanted: Mapping[int, Sequence[str]]) -> Mapping[int, Mapping[str, Stored]]:
        """See ``OnlineStore.read``. Past Django's cursors, which take as long as a read of one entity."""
        found: dict[int, dict[str, Stored]] = {view: {} for view in wanted}
        asked = wanted if all(wanted.values()) else {view: keys for view, keys in wanted.items() if keys}
        if not asked:
            return found
        try:
            for view, key, event, packed in _read(asked):
                found[view][key] = (event, packed)
        except _REFUSALS as error:
            raise _explained(error) from error
        return found

    def write(self, records: Sequence[Records]) -> list[int]:
        """See ``OnlineStore.write``. Rows in key order, so that two writers can not wait for each other."""
        write = self._write_many if connection.vendor == "postgresql" else self._write_rows
        kept = [0] * len(records)
        try:
            with transaction.atomic():
                for place in sorted(range(len(records)), key=lambda place: records[place].view):
                    if len(records[place]):
                        kept[place] = write(records[place])
        except _REFUSALS as error:
            raise _explained(error) from error
        return kept

    def contents(self, view: int, *, limit: int | None = None) -> Iterator[tuple[str, int, int, bytes]]:
        """See ``OnlineStore.contents``; in the order of the keys."""
        rows = OnlineValue.objects.filter(view_version_id=view).order_by("entity_key")
        fields = rows.values_list("entity_key", "event_us", "known_us", "packed")
        for key, event, known, packed in islice(fields.iterator(chunk_size=_ROWS_AT_A_TIME), limit):
            yield key, event, known, bytes(packed)

    def forget(self, view: int) -> None:
        """See ``OnlineStore.forget``."""
        OnlineValue.objects.filter(view_version_id=view).delete()

    # ------------------------------------------------------------------ writing

    def _write_rows(self, records: Records) -> int:
        rows = sorted(zip(records.keys, records.events, records.knowns, records.packed, strict=True))
        with connection.cursor() as cursor:
            cursor.executemany(
                f"{_INSERT} VALUES (%s, %s, %s, %s, %s) {_ON_CONFLICT}",
                [(records.view, *row) for row in rows],
            )
            return int(cursor.rowcount)

    def _write_many(self, records: Records) -> int:
        """On PostgreSQL: few rows as arrays in one statement, many by COPY through a temporary table, which takes two
        thirds of the time of arrays.
        """
        rows = sorted(zip(records.keys, records.events, records.knowns, records.packed, strict=True))
        raw: Any = connection.connection
        with psycopg.Cursor(raw) as cursor:
            if len(rows) < _FEWEST_TO_COPY:
                cursor.execute(_INSERT_ARRAYS, [records.view, *map(list, zip(*rows, strict=True))])
            else:
                cursor.execute(_INCOMING)
                with cursor.copy(f"COPY {_INCOMING_TABLE} FROM STDIN (FORMAT BINARY)".encode()) as copy:
                    copy.set_types(["text", "int8", "int8", "bytea"])
                    for row in rows:
                        copy.write_row(row)
                cursor.execute(_INSERT_INCOMING, [records.view])
            return cursor.rowcount


# ---------------------------------------------------------------------- reading

_Row = tuple[int, str, int, bytes]


class _ThisThread(threading.local):
    """Django's default connection of the calling thread, without asking its handler each time."""

    def __init__(self) -> None:
        self.connection = connections[DEFAULT_DB_ALIAS]


_this_thread = _ThisThread()


def _read(asked: Mapping[int, Sequence[str]]) -> list[_Row]:
    here = _this_thread.connection
    read = _read_arrays if here.vendor == "postgresql" else _read_lists
    if here.connection is None:
        here.ensure_connection()
    try:
        return read(here.connection, asked)
    except psycopg.OperationalError:
        if here.in_atomic_block or not here.connection.closed:
            raise
    here.close()  # the server was restarted: a new connection, once
    here.ensure_connection()
    return read(here.connection, asked)


def _read_arrays(raw: Any, asked: Mapping[int, Sequence[str]]) -> list[_Row]:
    """On PostgreSQL: the keys of each view as one array, so that the statement is the same for any number."""
    if settings.PREPARED_READS and raw.prepare_threshold is None:
        raw.prepare_threshold = 2  # only cursors that bind on the server prepare; Django's own do not
    parameters = [value for view, keys in asked.items() for value in (view, list(keys))]
    cursor = psycopg.Cursor(raw)
    cursor.execute(_arrays_statement(len(asked)), parameters, binary=True)
    rows: list[_Row] = cursor.fetchall()
    return rows


def _read_lists(raw: Any, asked: Mapping[int, Sequence[str]]) -> list[_Row]:
    """On SQLite: the keys in lists. Each is filled up to a power of two with its last key, so that few statements
    differ and SQLite finds most of them prepared.
    """
    rows: list[_Row] = []
    sizes: list[int] = []
    parameters: list[Any] = []
    for view, keys in asked.items():
        for start in range(0, len(keys), _LONGEST_LIST):
            part = keys[start : start + _LONGEST_LIST]
            size = 1 << (len(part) - 1).bit_length()
            if sizes and (len(parameters) + size >= _MOST_PARAMETERS or len(sizes) == _MOST_LISTS):
                rows += raw.execute(_lists_statement(tuple(sizes)), parameters).fetchall()
                sizes, parameters = [], []
            sizes.append(size)
            parameters += [view, *part, *[part[-1]] * (size - len(part))]
    rows += raw.execute(_lists_statement(tuple(sizes)), parameters).fetchall()
    return rows


@lru_cache(maxsize=256)
def _arrays_statement(views: int) -> bytes:
    return " UNION ALL ".join([f"{_SELECT} = ANY(%s)"] * views).encode()


@lru_cache(maxsize=256)
def _lists_statement(sizes: tuple[int, ...]) -> str:
    # "?" in place of Django's "%s": this goes to the driver itself
    return " UNION ALL ".join(f"{_SELECT} IN ({', '.join('?' * size)})".replace("%s", "?") for size in sizes)


_REFUSALS = (psycopg.Error, sqlite3.Error, DatabaseError)


def _explained(error: Exception) -> OnlineStoreError:
    """What a driver or Django raised, as the store's own error."""
    return OnlineStoreError(f"The online store's database did not answer: {error}")
