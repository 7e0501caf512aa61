"""Rules that the database itself keeps, on SQLite and PostgreSQL, whoever writes: triggers.

A guard is declared beside the models it protects (``<app>/guards.py``, a tuple ``GUARDS``) and installed after every
``migrate``: not in a migration, because SQLite rebuilds a table to alter it and silently drops its triggers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig, apps
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


@dataclass(frozen=True)
class Guard:
    """Refuse ``operation`` ("INSERT", "UPDATE", "DELETE", "TRUNCATE") on ``table`` unless ``condition`` holds.

    ``condition`` is SQL that both databases understand, over NEW and OLD; None refuses always. ``message`` is what the
    user reads in the IntegrityError.
    """

    name: str
    table: str
    operation: str
    message: str
    condition: str | None = None

    def sqlite(self) -> list[str]:
        if self.operation == "TRUNCATE":
            return []
        where = f" WHERE NOT COALESCE(({self.condition}), 0)" if self.condition else ""
        return [
            f'DROP TRIGGER IF EXISTS "{self.name}"',
            f'CREATE TRIGGER "{self.name}" BEFORE {self.operation} ON "{self.table}" FOR EACH ROW '
            f"BEGIN SELECT RAISE(ABORT, '{self.message}'){where}; END",
        ]

    def postgresql(self) -> list[str]:
        level = "STATEMENT" if self.operation == "TRUNCATE" else "ROW"
        refuse = f"RAISE EXCEPTION '{self.message}' USING ERRCODE = 'integrity_constraint_violation';"
        body = f"IF NOT COALESCE(({self.condition}), FALSE) THEN {refuse} END IF;" if self.condition else refuse
        row = "OLD" if self.operation == "DELETE" else "NEW"
        return [
            f"CREATE OR REPLACE FUNCTION {self.name}() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN {body} RETURN {row}; END $$",
            f'DROP TRIGGER IF EXISTS "{self.name}" ON "{self.table}"',
            f'CREATE TRIGGER "{self.name}" BEFORE {self.operation} ON "{self.table}" '
            f"FOR EACH {level} EXECUTE FUNCTION {self.name}()",
        ]


def append_only(table: str) -> tuple[Guard, ...]:
    """Rows are written once: no update, no delete, no truncate."""
    return (
        Guard(f"guard_{table}_update", table, "UPDATE", f"{table} is append-only: a row can not be changed"),
        *never_deleted(table),
    )


def never_deleted(table: str) -> tuple[Guard, ...]:
    """Rows may change but never disappear."""
    return (
        Guard(f"guard_{table}_delete", table, "DELETE", f"{table}: a row can not be deleted"),
        Guard(f"guard_{table}_truncate", table, "TRUNCATE", f"{table}: rows can not be deleted"),
    )


def frozen(table: str, columns: Iterable[str]) -> Guard:
    """These columns keep the value they were inserted with."""
    # "IS NOT DISTINCT FROM" exists in SQLite since 3.39; both databases read it.
    same = " AND ".join(f'OLD."{column}" IS NOT DISTINCT FROM NEW."{column}"' for column in columns)
    return Guard(f"guard_{table}_frozen", table, "UPDATE", f"{table}: this part of the row can not be changed", same)


def declared() -> list[Guard]:
    """The guards of all installed apps."""
    guards: list[Guard] = []
    for app in apps.get_app_configs():
        if app.name != "audit" and find_spec(f"{app.name}.guards") is not None:
            guards.extend(import_module(f"{app.name}.guards").GUARDS)
    return [*append_only("audit_event"), *guards]


def install(*, using: str = "default", **kwargs: Any) -> None:
    """(Re)create every guard whose table exists, in one transaction: there is no moment without them."""
    connection = connections[using]
    tables = set(connection.introspection.table_names())
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for guard in declared():
            if guard.table in tables:
                for statement in _statements(guard, connection):
                    cursor.execute(statement)


def missing(*, using: str = "default") -> list[str]:
    """Names of guards that should stand in the database and do not."""
    connection = connections[using]
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(query)
        standing = {row[0] for row in cursor.fetchall()}
    wanted = [guard.name for guard in declared() if _statements(guard, connection)]
    return [name for name in wanted if name not in standing]


def install_after_migrate(sender: AppConfig, using: str = "default", **kwargs: Any) -> None:
    """Runs once per migrate, after the last app with models has its tables."""
    install(using=using)


def _statements(guard: Guard, connection: BaseDatabaseWrapper) -> list[str]:
    return guard.sqlite() if connection.vendor == "sqlite" else guard.postgresql()
