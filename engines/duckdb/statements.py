"""Cursors with prepared statements, for the many small calls of which planning is the largest part."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import duckdb

# So many statements a cursor keeps; then it is replaced by a fresh one.
_KEPT = 200


class PreparedCursor:
    """A cursor for one thread at a time, and the statements prepared on it."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self.cursor = cursor
        self._names: dict[Hashable, str] = {}

    @property
    def is_full(self) -> bool:
        """Whether it is time for a fresh one."""
        return len(self._names) >= _KEPT

    def execute(self, key: Hashable, sql: Callable[[], str], parameters: Sequence[int]) -> duckdb.DuckDBPyConnection:
        """Run the statement that ``key`` stands for, with values for its ``$1``, ``$2`` …"""
        name = self._names.get(key)
        if name is None:
            name = f"statement_{len(self._names)}"
            self.cursor.execute(f"PREPARE {name} AS {sql()}")
            self._names[key] = name
        values = f"({', '.join(map(str, parameters))})" if parameters else ""
        return self.cursor.execute(f"EXECUTE {name}{values}")


class Statements:
    """A pool of such cursors, as many as there ever were calls at once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._idle: list[PreparedCursor] = []
        self._lock = threading.Lock()

    @contextmanager
    def lent(self) -> Iterator[PreparedCursor]:
        """A cursor that nobody else uses meanwhile."""
        with self._lock:
            taken = self._idle.pop() if self._idle else PreparedCursor(self._connection.cursor())
        try:
            yield taken
        except duckdb.Error:
            # what it was doing is unknown, so it is not used again
            taken.cursor.close()
            raise
        if taken.is_full:
            taken.cursor.close()
            return
        with self._lock:
            self._idle.append(taken)

    def close(self) -> None:
        """Close the idle cursors."""
        with self._lock:
            for each in self._idle:
                each.cursor.close()
            self._idle.clear()
