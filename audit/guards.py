"""Rules that the database itself keeps, on SQLite and PostgreSQL, whoever writes: triggers.

A guard is declared beside the models it protects (``<app>/guards.py``, a tuple ``GUARDS``) and installed after every
``migrate``: not in a migration, because SQLite rebuilds a table to alter it and silently drops its triggers. Three
kinds: a ``Guard`` refuses, an ``Owing`` lets no governed write commit without an event (``owes_event``), and those of
``audit.links`` chain each event to the one before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from django.apps import AppConfig, apps
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from audit import links


class Trigger(Protocol):
    """What stands in the database under ``name`` on ``table``, as the statements that (re)create it."""

    @property
    def name(self) -> str: ...

    @property
    def table(self) -> str: ...

    def sqlite(self) -> list[str]: ...

    def postgresql(self) -> list[str]: ...


@dataclass(frozen=True)
class Guard:
    """Refuse ``operation`` ("INSERT", "UPDATE", "DELETE", "TRUNCATE") on ``table`` unless ``condition`` holds.

    ``condition`` is SQL that both databases understand, over NEW and OLD; None refuses always. Where they differ
    (JSON), ``on_postgresql`` says it in PostgreSQL's words. ``message`` is what the user reads in the IntegrityError.
    """

    name: str
    table: str
    operation: str
    message: str
    condition: str | None = None
    on_postgresql: str | None = None

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
        condition = self.on_postgresql or self.condition
        body = f"IF NOT COALESCE(({condition}), FALSE) THEN {refuse} END IF;" if condition else refuse
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


@dataclass(frozen=True)
class Owing:
    """An ``operation`` on ``table`` is a debt that the next event of the transaction pays (audit.models.Debt).

    An UPDATE counts when one of ``columns`` changes its value; None: any but ``apart_from``.
    """

    table: str
    operation: str
    columns: tuple[str, ...] | None = None
    apart_from: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"owes_{self.table}_{self.operation.lower()}"

    def sqlite(self) -> list[str]:
        unless = f"""NOT EXISTS (SELECT 1 FROM audit_debt WHERE "table" = '{self.table}')"""
        when = f"({self._changed('IS NOT')}) AND {unless}" if self.operation == "UPDATE" else unless
        return [
            f'DROP TRIGGER IF EXISTS "{self.name}"',
            f'CREATE TRIGGER "{self.name}" AFTER {self.operation} ON "{self.table}" FOR EACH ROW WHEN {when} '
            f"""BEGIN INSERT INTO audit_debt ("table", event_id) VALUES ('{self.table}', {links.NO_EVENT}); END""",
        ]

    def postgresql(self) -> list[str]:
        when = f"WHEN ({self._changed('IS DISTINCT FROM')}) " if self.operation == "UPDATE" else ""
        return [
            f'DROP TRIGGER IF EXISTS "{self.name}" ON "{self.table}"',
            f'CREATE TRIGGER "{self.name}" AFTER {self.operation} ON "{self.table}" FOR EACH ROW {when}'
            "EXECUTE FUNCTION audit_owe()",
        ]

    def _changed(self, differs: str) -> str:
        return " OR ".join(f'OLD."{column}" {differs} NEW."{column}"' for column in self._watched())

    def _watched(self) -> list[str]:
        if self.columns is not None:
            return list(self.columns)
        every = apps.get_models(include_auto_created=True)
        model = next(each for each in every if each._meta.db_table == self.table)
        return [str(field.column) for field in model._meta.concrete_fields if field.column not in self.apart_from]


def owes_event(
    table: str, *, columns: Iterable[str] | None = None, apart_from: Iterable[str] = ()
) -> tuple[Owing, Owing, Owing]:
    """Rows of ``table`` are governed: who writes one records an event after it, in the same transaction.

    Updates count when one of ``columns`` changes (default: all, but for those ``apart_from``, which measure or note
    something that nobody decides). A write whose event is missing is refused at COMMIT.
    """
    watched = None if columns is None else tuple(columns)
    return (
        Owing(table, "INSERT"),
        Owing(table, "UPDATE", watched, tuple(apart_from)),
        Owing(table, "DELETE"),
    )


SEALED = Guard(
    "guard_audit_event_sealed",
    "audit_event",
    "INSERT",
    "an event carries the digest of its content: use audit.trail.record",
    "length(NEW.digest) = 64",
)


def declared() -> list[Trigger]:
    """The guards of all installed apps."""
    guards: list[Trigger] = []
    for app in apps.get_app_configs():
        if app.name != "audit" and find_spec(f"{app.name}.guards") is not None:
            guards.extend(import_module(f"{app.name}.guards").GUARDS)
    kept = ("audit_event", "audit_link", "audit_checkpoint", "audit_report")
    own = [guard for table in kept for guard in append_only(table)]
    return [*own, SEALED, *links.TRIGGERS, *owes_event("audit_apitoken", apart_from=("last_used_at",)), *guards]


def install(*, using: str = "default", **kwargs: Any) -> None:
    """(Re)create every guard whose table exists, in one transaction: there is no moment without them."""
    connection = connections[using]
    tables = set(connection.introspection.table_names())
    with transaction.atomic(using=using), connection.cursor() as cursor:
        if connection.vendor == "postgresql" and "audit_turn" in tables:
            cursor.execute("SELECT quote_ident(current_schema())")
            for statement in links.functions(cursor.fetchone()[0]):
                cursor.execute(statement)
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


def step_aside_before_migrate(sender: AppConfig, using: str = "default", plan: Any = (), **kwargs: Any) -> None:
    """On SQLite the triggers go while migrations run; ``install`` brings them back when they are done.

    SQLite refuses to rebuild a table that the trigger of another one names.
    """
    connection = connections[using]
    if plan and connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for guard in declared():
                cursor.execute(f'DROP TRIGGER IF EXISTS "{guard.name}"')


def install_after_migrate(sender: AppConfig, using: str = "default", **kwargs: Any) -> None:
    """Runs once per migrate, after the last app with models has its tables."""
    install(using=using)


def _statements(guard: Trigger, connection: BaseDatabaseWrapper) -> list[str]:
    return guard.sqlite() if connection.vendor == "sqlite" else guard.postgresql()
