"""The chain: every event gets its link, and whatever is done to the log is found and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from audit import canonical, chain, guards
from audit.chain import Head
from audit.models import Event, Link, Turn
from audit.trail import record
from tests.audit.subjects import ROBOT, incident
from tests.builders import NOON
from tests.races import THREADS, race

pytestmark = pytest.mark.django_db(transaction=True)

FIELDS: dict[str, Any] = {
    "name": "x", "subject_type": "t", "subject_id": "1", "subject_label": "l", "service": "s", "at": NOON,
}  # fmt: skip


def write(count: int = 5) -> list[Event]:
    thing = incident()
    return [record("incident.seen", thing, actor=ROBOT, reason=f"Look {n}", data={"look": n}) for n in range(count)]


def sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """Five events; then somebody switched triggers and foreign keys off. The flush after the test brings them back."""
    written = write(5)
    assert chain.verify().is_intact
    for guard in guards.declared():
        sql(f'DROP TRIGGER IF EXISTS "{guard.name}"' + (f' ON "{guard.table}"' if is_postgresql() else ""))
    sql("SET session_replication_role = replica" if is_postgresql() else "PRAGMA foreign_keys = OFF")
    yield written
    sql("SET session_replication_role = DEFAULT" if is_postgresql() else "PRAGMA foreign_keys = ON")


def is_postgresql() -> bool:
    return connection.vendor == "postgresql"


def problems() -> list[tuple[str, int, int]]:
    return [(each.kind, each.position, each.event_id) for each in chain.verify().problems]


# ---------------------------------------------------------------------- links


def test_link__of_each_event__follows_from_the_one_before() -> None:
    events = write(4)

    links = list(Link.objects.order_by("position"))
    assert [link.position for link in links] == [1, 2, 3, 4]
    before = ""
    for event, link in zip(events, links, strict=True):
        assert link.event_id == event.pk
        assert link.hash == canonical.link(before, event.pk, event.digest)
        before = link.hash
    assert chain.head() == Head(4, before)
    assert chain.position_of(events[2]) == 3
    assert not Turn.objects.exists()


def test_head__of_an_empty_log__is_nothing() -> None:
    assert chain.head() == Head(0, "")
    assert chain.verify().is_intact


def test_link__of_events_in_bulk__is_there() -> None:
    Event.objects.bulk_create([Event(**FIELDS, data={"n": n}) for n in range(3)])

    assert Link.objects.count() == 3
    assert chain.verify().is_intact


def by_raw_sql(digest: str) -> None:
    columns = "name, subject_type, subject_id, subject_label, registered_model, service, reason, data, at, recorded_at"
    texts = ", ".join(["'forged'", "'t'", "'1'", "'l'", "''", "'s'", "''", "'{}'"])
    sql(f"INSERT INTO audit_event ({columns}, digest) VALUES ({texts}, %s, %s, %s)", NOON, NOON, digest)


def test_link__of_an_event_by_raw_sql__is_there_and_its_digest_is_judged() -> None:
    by_raw_sql("0" * 64)

    event = Event.objects.get()
    assert Link.objects.get().event_id == event.pk
    assert problems() == [("edited", 1, event.pk)]


def test_event__without_a_digest__is_refused() -> None:
    with pytest.raises(IntegrityError, match="carries the digest"):
        by_raw_sql("")


class ChangedMyMind(Exception):
    """What makes a transaction roll back."""


def write_and_roll_back() -> None:
    with transaction.atomic():
        record("incident.seen", incident("never there"), actor=ROBOT)
        raise ChangedMyMind


def test_link__of_a_transaction_that_is_rolled_back__leaves_no_gap() -> None:
    write(2)
    with pytest.raises(ChangedMyMind):
        write_and_roll_back()
    with transaction.atomic():
        record("incident.seen", incident("other"), actor=ROBOT)
        with pytest.raises(ChangedMyMind):
            write_and_roll_back()

    assert list(Link.objects.order_by("position").values_list("position", flat=True)) == [1, 2, 3]
    assert chain.verify().is_intact


CHANGES = {
    "update": "UPDATE audit_link SET hash = hash",
    "delete": "DELETE FROM audit_link",
}


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES)
def test_link__changed__is_refused(statement: str) -> None:
    write(1)
    with pytest.raises(IntegrityError, match="audit_link"):
        sql(statement)


# ---------------------------------------------------------------------- what verify finds


EDITS: dict[str, Callable[[Event], dict[str, Any]]] = {
    "reason": lambda event: {"reason": "Look 2 "},
    "data": lambda event: {"data": {"look": 2.5}},
    "actor": lambda event: {"service": "nobody"},
    "time": lambda event: {"at": event.at.replace(microsecond=1)},
    "recorded": lambda event: {"recorded_at": NOON},
    "cause": lambda event: {"cause": None},
    "digest": lambda event: {"digest": "0" * 64},
    "subject": lambda event: {"subject_id": "999"},
    "name": lambda event: {"name": "incident.unseen"},
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_verify__one_event_edited__names_it(events: list[Event], edit: Callable[[Event], dict[str, Any]]) -> None:
    event = events[2]
    Event.objects.filter(pk=event.pk).update(**edit(event))

    assert problems() == [("edited", 3, event.pk)]


def test_verify__edited_with_a_digest_that_fits__names_it(events: list[Event]) -> None:
    event = events[2]
    event.reason = "Nothing happened."
    Event.objects.filter(pk=event.pk).update(reason=event.reason, digest=chain.digest_of(event))

    assert problems() == [("edited", 3, event.pk)]
    assert "digest that fits" in chain.verify().problems[0].message


def test_verify__event_deleted__names_it(events: list[Event]) -> None:
    Event.objects.filter(pk=events[1].pk)._raw_delete("default")

    assert problems() == [("deleted", 2, events[1].pk)]


def test_verify__event_and_link_deleted__names_the_gap(events: list[Event]) -> None:
    Link.objects.filter(position__in=[2, 3]).delete()
    sql("DELETE FROM audit_event WHERE id IN (%s, %s)", events[1].pk, events[2].pk)

    assert [(each.kind, each.position) for each in chain.verify().problems] == [("deleted", 2)]
    assert "links 2 to 3" in chain.verify().problems[0].message


def test_verify__link_deleted__names_the_event_too(events: list[Event]) -> None:
    Link.objects.filter(position=3).delete()

    assert problems() == [("unlinked", 0, events[2].pk), ("deleted", 3, 0)]


def test_verify__event_past_the_chain__is_unlinked(events: list[Event]) -> None:
    event = Event.objects.create(**FIELDS)

    assert problems() == [("unlinked", 0, event.pk)]


def test_verify__contents_of_two_events_swapped__names_both(events: list[Event]) -> None:
    one, other = events[1], events[3]
    changed = ("reason", "data", "digest", "at", "recorded_at", "cause_id")
    Event.objects.filter(pk=one.pk).update(**{name: getattr(other, name) for name in changed})
    Event.objects.filter(pk=other.pk).update(**{name: getattr(one, name) for name in changed})

    assert problems() == [("swapped", 2, one.pk), ("swapped", 4, other.pk)]


def test_verify__events_of_two_links_swapped__names_both(events: list[Event]) -> None:
    one, other = events[1].pk, events[3].pk
    sql("UPDATE audit_link SET event_id = -5 WHERE position = 2")
    sql("UPDATE audit_link SET event_id = %s WHERE position = 4", one)
    sql("UPDATE audit_link SET event_id = %s WHERE position = 2", other)

    assert problems() == [("swapped", 2, other), ("swapped", 4, one)]


def test_verify__two_links_swapped__names_both_and_not_those_after_them(events: list[Event]) -> None:
    sql("UPDATE audit_link SET position = -5 WHERE position = 2")
    sql("UPDATE audit_link SET position = 2 WHERE position = 4")
    sql("UPDATE audit_link SET position = 4 WHERE position = -5")

    assert problems() == [("swapped", 2, events[3].pk), ("swapped", 4, events[1].pk)]


def test_verify__data_that_can_not_be_read__is_edited(events: list[Event]) -> None:
    if is_postgresql():
        pytest.skip("jsonb refuses it")
    sql('UPDATE audit_event SET data = \'{"n": "\\ud800"}\' WHERE id = %s', events[0].pk)  # half a character

    assert problems() == [("edited", 1, events[0].pk)]


def test_verify__many_problems__are_told_up_to_a_limit(events: list[Event]) -> None:
    Event.objects.update(reason="All of them.")

    assert [each.kind for each in chain.verify().problems] == ["edited"] * 5


# ---------------------------------------------------------------------- many at once


@pytest.mark.postgres
def test_chain__eight_writers_of_fifty_events__has_no_gap_and_no_broken_link() -> None:
    things = [incident(f"cause:{n}") for n in range(THREADS)]

    def write_some(number: int) -> int:
        for n in range(50):
            with transaction.atomic():
                record("incident.seen", things[number], actor=ROBOT, data={"n": n})
        return number

    assert sorted(race(write_some)) == list(range(THREADS))
    found = chain.verify()
    assert found.problems == ()
    assert found.events == Event.objects.count() == THREADS * 50
    assert not Turn.objects.exists()


@pytest.mark.postgres
def test_chain__without_its_lock__breaks() -> None:
    """Why the lock is there: writers that wait for none read the same last link."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('audit_write_link'::regproc)")
        (definition,) = cursor.fetchone()
        cursor.execute(definition.replace("PERFORM pg_advisory_xact_lock", "-- "))
    things = [incident(f"cause:{n}") for n in range(THREADS)]
    try:
        outcomes = race(lambda n: [record("incident.seen", things[n], actor=ROBOT) for _ in range(20)])
    finally:
        guards.install()

    assert any(isinstance(each, IntegrityError) for each in outcomes), outcomes


@pytest.mark.postgres
def test_chain__writers_that_hold_each_others_rows__do_not_deadlock() -> None:
    """The chain's lock comes after every foreign key was checked, so that who holds it waits for nobody."""
    things = [incident(f"cause:{n}") for n in range(THREADS)]
    shared = record("incident.seen", things[0], actor=ROBOT)

    def write_some(number: int) -> int:
        for n in range(20):
            with transaction.atomic():
                type(things[0]).objects.select_for_update().get(pk=things[number].pk)
                record("incident.seen", things[(number + n) % THREADS], actor=ROBOT, cause=shared)
                record("incident.seen", things[number], actor=ROBOT)
        return number

    assert sorted(race(write_some)) == list(range(THREADS))
    assert chain.verify() == chain.Verification(1 + THREADS * 40, (), 0, chain.head())
