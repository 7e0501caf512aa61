"""An in-memory DuckDB that can reach nothing but the folders it is opened for, whatever SQL it is given."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from engines.duckdb.sql import quoted_text

_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    # no expression may depend on the order of rows, and keeping it costs memory
    "preserve_insertion_order": "false",
}


def locked_database(
    roots: Sequence[str], *, spill: str, threads: int | None = None, memory_limit: str | None = None
) -> duckdb.DuckDBPyConnection:
    """A new database. ``roots`` are absolute paths of folders whose files it may open; ``spill`` is its own folder.

    No network, no other file, no extension, no Python variable; and no statement can change that.
    """
    config: dict[str, str | bool | int | float | list[str]] = dict(_CONFIG)
    if threads:
        config["threads"] = str(threads)
    if memory_limit:
        config["memory_limit"] = memory_limit
    connection = duckdb.connect(":memory:", config=config)
    # These three can only be set on a running database, in this order.
    connection.execute(f"SET temp_directory = {quoted_text(spill)}")
    connection.execute(f"SET allowed_directories = [{', '.join(map(quoted_text, roots))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection
