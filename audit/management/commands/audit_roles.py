"""``manage.py audit_roles``: the SQL that keeps the application from changing its own log, on PostgreSQL."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

KEPT = ("audit_event", "audit_checkpoint", "audit_report")
"""Written by the application, never changed by it."""
BY_TRIGGER = ("audit_link", "audit_turn", "audit_debt")
"""Written by triggers alone, which run as their owner."""

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class Command(BaseCommand):
    help = (
        "Print the SQL of the documented set-up on PostgreSQL: migrations run as one role, the portal as another that "
        "can not update, delete or truncate the log, nor switch its triggers off. Run it as a superuser, again after "
        "an upgrade: manage.py audit_roles --owner gatehouse_owner --app gatehouse | psql gatehouse"
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--owner", required=True, help="The role that migrates and owns every table.")
        parser.add_argument("--app", required=True, help="The role that the portal and the workers connect as.")
        parser.add_argument("--schema", default="public", help="Where the tables are (default: public).")
        parser.add_argument("--database", default=None, help="Name of the database (default: the configured one).")

    def handle(self, *args: Any, **options: Any) -> None:
        database = options["database"] or settings.DATABASES["default"]["NAME"]
        for option in ("owner", "app", "schema"):
            if not _NAME.fullmatch(options[option]):
                raise CommandError(f"--{option}: a plain name is needed, letters, digits and '_'.")
        if options["owner"] == options["app"]:
            raise CommandError("The owner and the application must be two roles: an owner may switch triggers off.")
        self.stdout.write(sql(options["owner"], options["app"], schema=options["schema"], database=str(database)))


def sql(owner: str, app: str, *, schema: str, database: str) -> str:
    """The statements; running them again changes nothing. Passwords are left to you (``\\password``)."""
    quoted = '"' + database.replace('"', '""') + '"'
    kept, by_trigger = _tables(schema, KEPT), _tables(schema, BY_TRIGGER)
    return f"""\
-- Migrations run as {owner}; the portal, the gateway and the workers as {app}.
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{owner}') THEN CREATE ROLE {owner} LOGIN; END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{app}') THEN CREATE ROLE {app} LOGIN; END IF;
END $$;
ALTER ROLE {app} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
REVOKE {owner} FROM {app};

-- Whoever owns the database or the schema may drop what is in it, and pg_write_all_data writes past every grant.
DO $$ BEGIN
    IF (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()) = '{app}' THEN
        EXECUTE format('ALTER DATABASE %I OWNER TO {owner}', current_database());
    END IF;
    IF (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = '{schema}') = '{app}' THEN
        ALTER SCHEMA {schema} OWNER TO {owner};
    END IF;
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'pg_write_all_data') THEN
        REVOKE pg_write_all_data FROM {app};
    END IF;
END $$;

-- Everything that is there belongs to {owner}, so that {app} can not alter it, nor disable a trigger.
DO $$ DECLARE each record; BEGIN
    FOR each IN SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = '{schema}' LOOP
        EXECUTE 'ALTER TABLE ' || each.name || ' OWNER TO {owner}';
    END LOOP;
    FOR each IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = '{schema}' AND p.prorettype = 'trigger'::regtype
    LOOP
        EXECUTE 'ALTER FUNCTION ' || each.name || ' OWNER TO {owner}';
    END LOOP;
END $$;
GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};
REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {app};

-- {app} reads and writes the tables, those of later migrations too.
GRANT CONNECT ON DATABASE {quoted} TO {owner}, {app};
GRANT USAGE ON SCHEMA {schema} TO {app};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {app};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {app};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {app};

-- But the log: added to, never changed. Links and debts are written by triggers, as {owner}.
REVOKE ALL ON {kept} FROM PUBLIC, {app};
GRANT SELECT, INSERT ON {kept} TO {app};
REVOKE ALL ON {by_trigger} FROM PUBLIC, {app};
GRANT SELECT ON {by_trigger} TO {app};
REVOKE INSERT, UPDATE, DELETE ON {schema}.django_migrations FROM {app};
"""


def _tables(schema: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{schema}.{name}" for name in names)
