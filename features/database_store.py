"""The online store in the portal's own database, in plain SQL: one statement for a read, whatever it asks for.

On PostgreSQL a read is a prepared statement with binary answers on the connection that Django keeps open: that halves
the time of a read of one entity. Set GATEHOUSE_PREPARED_READS=off behind a pooler that hands statements to changing
sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from engines.online import OnlineStoreError, Records, Stored
from features.models import OnlineValue

_TABLE = OnlineValue._meta.db_table
_KEYS_PER_QUERY = 5000
_ROWS_AT_A_TIME = 10_000
_NEWER = f"""
    DO UPDATE SET event_us = excluded.event_us, known_us = excluded.known_us, packed = excluded.packed
    WHERE excluded.event_us > {_TABLE}.event_us
       OR (excluded.event_us = {_TABLE}.event_us AND excluded.known_us >= {_TABLE}.known_us)
"""
_INSERT = f"INSERT INTO {_TABLE} (view_version_id, entity_key, event_us, known_us, packed)"


class DatabaseStore:
    """``engines.online.OnlineStore`` on the default database connection of the calling thread."""

    name = "database"

    def read(self, wanted: Mapping[int, Sequence[str]]) -> Mapping[int, Mapping[str, Stored]]:
        """See ``OnlineStore.read``."""
        asked = {view: keys for view, keys in wanted.items() if keys}
        found: dict[int, dict[str, Stored]] = {view: {} for view in wanted}
        if not asked:
            return found
        rows = self._read_prepared(asked) if connection.vendor == "postgresql" else self._read_lists(asked)
        for view, key, event, packed in rows:
            found[view][key] = (event, packed)
        return found

    def write(self, records: Sequence[Records]) -> list[int]:
        """See ``OnlineStore.write``. Rows in key order, so that two writers can not wait for each other."""
        write = self._write_arrays if connection.vendor == "postgresql" else self._write_rows
        kept = [0] * len(records)
        with _explained(), transaction.atomic():
            for place in sorted(range(len(records)), key=lambda place: records[place].view):
                if len(records[place]):
                    kept[place] = write(records[place])
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

    # ------------------------------------------------------------------ reading

    def _read_prepared(self, asked: Mapping[int, Sequence[str]]) -> Iterable[tuple[int, str, int, bytes]]:
        one = f"SELECT view_version_id, entity_key, event_us, packed FROM {_TABLE} WHERE view_version_id = %s"
        statement = " UNION ALL ".join([f"{one} AND entity_key = ANY(%s)"] * len(asked))
        parameters = [value for view, keys in asked.items() for value in (view, list(keys))]
        with _explained():
            connection.ensure_connection()
            raw: Any = connection.connection
            if settings.PREPARED_READS and raw.prepare_threshold is None:
                raw.prepare_threshold = 2  # only cursors that bind on the server prepare; Django's own do not
            with psycopg.Cursor(raw) as cursor:
                cursor.execute(statement.encode(), parameters, binary=True)
                return cursor.fetchall()

    def _read_lists(self, asked: Mapping[int, Sequence[str]]) -> Iterable[tuple[int, str, int, bytes]]:
        pieces: list[str] = []
        parameters: list[Any] = []
        with connection.cursor() as cursor:
            for view, keys in asked.items():
                for start in range(0, len(keys), _KEYS_PER_QUERY):
                    part = keys[start : start + _KEYS_PER_QUERY]
                    if len(parameters) + len(part) > _KEYS_PER_QUERY * 2:
                        yield from _fetched(cursor, pieces, parameters)
                        pieces, parameters = [], []
                    pieces.append(_select(len(part)))
                    parameters += [view, *part]
            yield from _fetched(cursor, pieces, parameters)

    # ------------------------------------------------------------------ writing

    def _write_rows(self, records: Records) -> int:
        rows = sorted(zip(records.keys, records.events, records.knowns, records.packed, strict=True))
        with connection.cursor() as cursor:
            cursor.executemany(
                f"{_INSERT} VALUES (%s, %s, %s, %s, %s) ON CONFLICT (view_version_id, entity_key) {_NEWER}",
                [(records.view, *row) for row in rows],
            )
            return int(cursor.rowcount)

    def _write_arrays(self, records: Records) -> int:
        kept = 0
        rows = sorted(zip(records.keys, records.events, records.knowns, records.packed, strict=True))
        raw: Any = connection.connection
        with psycopg.Cursor(raw) as cursor:
            for start in range(0, len(rows), _ROWS_AT_A_TIME):
                keys, events, knowns, packed = map(list, zip(*rows[start : start + _ROWS_AT_A_TIME], strict=True))
                cursor.execute(
                    f"{_INSERT} SELECT %s, * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %b::bytea[]) "
                    f"ON CONFLICT (view_version_id, entity_key) {_NEWER}".encode(),
                    [records.view, keys, events, knowns, packed],
                )
                kept += cursor.rowcount
        return kept


@contextmanager
def _explained() -> Iterator[None]:
    """What the driver or Django raises, as the store's own error."""
    try:
        yield
    except (psycopg.Error, DatabaseError) as error:
        raise OnlineStoreError(f"The online store's database did not answer: {error}") from error


def _select(keys: int) -> str:
    marks = ", ".join(["%s"] * keys)
    return (
        f"SELECT view_version_id, entity_key, event_us, packed FROM {_TABLE} "
        f"WHERE view_version_id = %s AND entity_key IN ({marks})"
    )


def _fetched(cursor: Any, pieces: Sequence[str], parameters: Sequence[Any]) -> list[tuple[int, str, int, bytes]]:
    if not pieces:
        return []
    cursor.execute(" UNION ALL ".join(pieces), parameters)
    rows: list[tuple[int, str, int, bytes]] = cursor.fetchall()
    return rows
