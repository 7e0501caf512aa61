"""The database keeps the rules, whoever writes."""

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.core.management.commands import migrate
from django.db import IntegrityError, OperationalError, connection, transaction
from django_q.models import Schedule

from audit import guards
from audit.models import Event
from audit.trail import record
from jobs import schedule
from tests.audit.subjects import ROBOT, incident


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def drop_all() -> None:
    for guard in guards.declared():
        sql(f'DROP TRIGGER IF EXISTS "{guard.name}"' + (f' ON "{guard.table}"' if on_postgresql() else ""))


def on_postgresql() -> bool:
    return connection.vendor == "postgresql"


CHANGES: dict[str, Callable[[], object]] = {
    "save": lambda: Event(pk=Event.objects.get().pk, name="forged", at=Event.objects.get().at, service="x").save(),
    "save one field": lambda: Event.objects.get().save(update_fields=["reason"]),
    "queryset update": lambda: Event.objects.update(reason="forged"),
    "bulk update": lambda: Event.objects.bulk_update(Event.objects.all(), ["reason"]),
    "raw update": lambda: sql("UPDATE audit_event SET reason = 'forged'"),
    "raw no-op update": lambda: sql("UPDATE audit_event SET reason = reason"),
    "delete": lambda: Event.objects.get().delete(),
    "queryset delete": lambda: Event.objects.all().delete(),
    "raw delete": lambda: sql("DELETE FROM audit_event"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_event__changed_by_any_door__is_refused_and_unchanged(change: Callable[[], object]) -> None:
    written = record("incident.seen", incident(), actor=ROBOT, reason="as it was")

    with pytest.raises(IntegrityError, match=r"audit_event|protected foreign keys"), transaction.atomic():
        change()

    assert Event.objects.get().reason == written.reason


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_event__truncated__is_refused() -> None:
    record("incident.seen", incident(), actor=ROBOT)

    with pytest.raises(IntegrityError, match="can not be deleted"):
        sql("TRUNCATE audit_event CASCADE")

    assert Event.objects.count() == 1


@pytest.mark.django_db
def test_missing__after_migrate__is_empty(governed_writes: None) -> None:
    assert guards.missing() == []


@pytest.mark.django_db(transaction=True)
def test_missing__after_a_flush__is_empty() -> None:
    drop_all()
    assert "guard_audit_event_update" in guards.missing()

    call_command("flush", interactive=False, verbosity=0)

    assert [name for name in guards.missing() if not name.startswith("owes_")] == []  # tests/conftest.py drops those
    record("incident.seen", incident(), actor=ROBOT)
    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.update(reason="forged")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_flush__of_a_database_under_guard__is_refused() -> None:
    with pytest.raises(CommandError, match="couldn't be flushed"):
        call_command("flush", interactive=False, verbosity=0)


@pytest.mark.django_db
def test_missing__when_a_trigger_was_dropped__names_it(governed_writes: None) -> None:
    sql("DROP TRIGGER guard_audit_event_update" + (" ON audit_event" if on_postgresql() else ""))

    assert guards.missing() == ["guard_audit_event_update"]
    guards.install()
    assert guards.missing() == []


@pytest.mark.django_db
def test_guards__while_migrations_run__stand_aside_on_sqlite_only(governed_writes: None) -> None:
    """A table that another one's trigger names can not be rebuilt there."""
    guards.step_aside_before_migrate(apps.get_app_config("mlops"), plan=[("a migration", False)])
    assert bool(guards.missing()) is not on_postgresql()

    guards.install_after_migrate(apps.get_app_config("mlops"))
    assert guards.missing() == []
    guards.step_aside_before_migrate(apps.get_app_config("mlops"), plan=[])
    assert guards.missing() == []


@pytest.mark.django_db
def test_migrate__that_fails__leaves_the_guards_standing(
    governed_writes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: migrate.Command, *args: Any, **options: Any) -> None:
        guards.step_aside_before_migrate(apps.get_app_config("mlops"), plan=[("a migration", False)])
        raise OperationalError("no such column")

    monkeypatch.setattr(migrate.Command, "handle", fail)
    with pytest.raises(OperationalError):
        call_command("migrate")

    assert guards.missing() == []


@pytest.mark.postgres
@pytest.mark.django_db
def test_missing__when_a_trigger_is_disabled__names_it(governed_writes: None) -> None:
    sql("ALTER TABLE audit_event DISABLE TRIGGER guard_audit_event_delete")

    assert guards.missing() == ["guard_audit_event_delete"]


@pytest.mark.django_db
def test_declared__each_guard__has_a_name_of_its_own_that_postgresql_does_not_cut() -> None:
    names = [guard.name for guard in guards.declared()]

    assert len(set(names)) == len(names)
    assert [name for name in names if len(name) > 63] == []


@pytest.mark.django_db
def test_schedule__any_but_the_tick__is_refused_by_the_database() -> None:
    schedule.install()

    with pytest.raises(IntegrityError, match="one schedule"), transaction.atomic():
        Schedule.objects.create(func="os.system", args="'true'")
    with pytest.raises(IntegrityError, match="one schedule"), transaction.atomic():
        Schedule.objects.update(func="os.system")
    with pytest.raises(IntegrityError, match="one schedule"), transaction.atomic():
        Schedule.objects.update(hook="os.abort")
