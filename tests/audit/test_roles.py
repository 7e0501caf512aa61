"""On PostgreSQL the portal's own role can add to the log and can not change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import StringIO

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, ProgrammingError, connection, transaction

from audit import chain
from audit.models import Checkpoint, Debt, Event
from audit.trail import record
from tests.audit.subjects import ROBOT, incident
from tests.builders import NOON

# Roles belong to the whole server, and each test process has a database of its own on it.
_PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "main")
OWNER, APP = f"gatehouse_{_PROCESS}_owner", f"gatehouse_{_PROCESS}_app"
on_postgresql = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

DENIED = {
    "update event": "UPDATE audit_event SET reason = 'forged'",
    "delete event": "DELETE FROM audit_event",
    "truncate event": "TRUNCATE audit_event CASCADE",
    "alter event": "ALTER TABLE audit_event DISABLE TRIGGER ALL",
    "drop trigger": "DROP TRIGGER guard_audit_event_update ON audit_event",
    "own trigger": "CREATE TRIGGER mine BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION audit_owe()",
    "replication role": "SET session_replication_role = replica",
    "insert link": "INSERT INTO audit_link (position, event_id, hash) VALUES (99, 1, 'x')",
    "update link": "UPDATE audit_link SET hash = 'x'",
    "delete link": "DELETE FROM audit_link",
    "truncate link": "TRUNCATE audit_link",
    "insert turn": "INSERT INTO audit_turn VALUES (1)",
    "pay a debt": "DELETE FROM audit_debt",
    "update checkpoint": "UPDATE audit_checkpoint SET head = 'x'",
    "delete checkpoint": "DELETE FROM audit_checkpoint",
    "update report": "UPDATE audit_report SET digest = 'x'",
    "delete report": "DELETE FROM audit_report",
    "replace function": "CREATE OR REPLACE FUNCTION audit_owe() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
    "call as own trigger": """
        CREATE TEMP TABLE mine (event_id bigint);
        CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION audit_write_link()
    """,
    "drop the log": "DROP TABLE audit_event CASCADE",
    "drop function": "DROP FUNCTION audit_owe() CASCADE",
    "new table": "CREATE TABLE mine (id int)",
    "become the owner": f"SET ROLE {OWNER}",
}  # fmt: skip


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def printed(*arguments: str) -> str:
    out = StringIO()
    call_command("audit_roles", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def as_app(governed_writes: None) -> Iterator[None]:
    """The rest of the test runs as the application's role."""
    statements = printed("--owner", OWNER, "--app", APP, "--database", connection.settings_dict["NAME"])
    sql(statements)
    sql(statements)  # again, as after an upgrade
    sql(f"SET SESSION AUTHORIZATION {APP}")
    yield
    sql("RESET SESSION AUTHORIZATION")
    sql(f"REASSIGN OWNED BY {OWNER} TO CURRENT_USER")
    sql(f"DROP OWNED BY {APP}, {OWNER}")
    sql(f"DROP ROLE {APP}; DROP ROLE {OWNER}")


def recorded() -> Event:
    with transaction.atomic():
        return record("incident.seen", incident(), actor=ROBOT)


class TestAsTheApplication:
    pytestmark = on_postgresql

    def test_record__works__and_has_its_link(self, as_app: None) -> None:
        event = recorded()

        assert chain.position_of(event) == 1
        assert chain.verify().is_intact
        assert not Debt.objects.exists()
        Checkpoint.objects.create(size=1, head="h", root="r", at=NOON, key_id="k", signature="s")

    def test_governed_write__without_event__is_refused_with_a_sentence(self, as_app: None) -> None:
        with pytest.raises(IntegrityError, match="auth_group: this is governed, and no event tells of the change"):
            Group.objects.create(name="silent")
        assert not Group.objects.exists()

    @pytest.mark.parametrize("statement", DENIED.values(), ids=DENIED)
    def test_log__changed__is_denied(self, as_app: None, statement: str) -> None:
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            sql(statement)


def test_audit_roles__one_role_for_both__is_refused() -> None:
    with pytest.raises(CommandError, match="two roles"):
        printed("--owner", "same", "--app", "same")


@pytest.mark.parametrize("name", ["x; DROP TABLE audit_event", "Ünï", "a b", '"q"'])
def test_audit_roles__a_name_that_is_none__is_refused(name: str) -> None:
    with pytest.raises(CommandError, match="plain name"):
        printed("--owner", "gatehouse_owner", "--app", name)
