"""Events that were recorded before the chain existed get their digest and their link when migrating."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection, transaction

from audit import chain, guards
from audit.models import Event, Link
from audit.trail import record
from monitoring.models import Incident
from tests.audit.subjects import ROBOT, incident

migration = import_module("audit.migrations.0003_seal_what_was_recorded")

pytestmark = pytest.mark.django_db(transaction=True)


def sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def unsealed(count: int) -> list[Event]:
    """Events as an older release wrote them."""
    thing = incident()
    events = [record("incident.seen", thing, actor=ROBOT, data={"n": n}) for n in range(count)]
    for name, table in (("guard_audit_event_update", "audit_event"), ("guard_audit_link_delete", "audit_link")):
        sql(f"DROP TRIGGER {name}" + (f" ON {table}" if connection.vendor == "postgresql" else ""))
    sql("DELETE FROM audit_link")
    sql("UPDATE audit_event SET digest = ''")
    guards.install()
    return events


def seal() -> None:
    with transaction.atomic():
        migration.seal(apps, Editor())
    guards.install()


class Editor:
    """What ``seal`` needs of a schema editor."""

    connection = connection

    def execute(self, statement: str) -> None:
        sql(statement)


def test_seal__of_events_without_digest__chains_them_in_order_and_later_ones_follow() -> None:
    events = unsealed(3)

    seal()

    assert list(Link.objects.order_by("position").values_list("event_id", flat=True)) == [each.pk for each in events]
    record("incident.seen", Incident.objects.get(), actor=ROBOT)
    assert chain.head().position == 4
    assert chain.verify().is_intact
    assert [each.digest for each in events] == list(Event.objects.order_by("id").values_list("digest", flat=True)[:3])


def test_seal__again__changes_nothing() -> None:
    unsealed(2)
    seal()
    before = chain.head()

    seal()

    assert chain.head() == before
