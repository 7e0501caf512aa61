"""Stateful.move: one door, compare-and-swap, one event."""

import pytest
from django.db import IntegrityError, transaction

from audit import clock
from audit.errors import TransitionError
from audit.models import Event
from monitoring.models import Incident, IncidentState
from tests.audit.subjects import ROBOT, incident
from tests.builders import NOON, pete

pytestmark = pytest.mark.django_db


def test_move__to_an_allowed_state__saves_state_reason_time_and_fields() -> None:
    thing, user = incident(), pete()

    with clock.at(NOON):
        thing.move(IncidentState.ACKNOWLEDGED, actor=user, reason="On it", acknowledged_at=NOON, acknowledged_by=user)

    saved = Incident.objects.get()
    assert (saved.state, saved.state_reason, saved.state_since) == ("acknowledged", "On it", NOON)
    assert (saved.acknowledged_at, saved.acknowledged_by) == (NOON, user)
    assert thing.state == "acknowledged"


def test_move__to_an_allowed_state__records_who_why_from_and_to() -> None:
    user = pete()

    with clock.at(NOON):
        incident().move(IncidentState.ACKNOWLEDGED, actor=user, reason="On it", data={"page": 1})

    event = Event.objects.get()
    assert (event.name, event.actor, event.service, event.reason) == ("incident.acknowledged", user, "", "On it")
    assert event.data == {"from": "open", "to": "acknowledged", "page": 1}
    assert (event.at, event.subject_label, event.author) == (NOON, "Weather is stale", "pete")


def test_move__with_an_event_name_of_its_own__records_that_name() -> None:
    incident().move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="", event="incident.seen")

    assert Event.objects.get().name == "incident.seen"


def test_move__to_a_state_that_may_not_follow__is_refused_and_says_what_may() -> None:
    thing = incident(state=IncidentState.RESOLVED)

    with pytest.raises(TransitionError, match=r"is resolved; it can become: open\."):
        thing.move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="")

    assert not Event.objects.exists()


def test_move__when_somebody_was_faster__is_refused_and_records_nothing() -> None:
    thing = incident()
    stale = Incident.objects.get()
    thing.move(IncidentState.RESOLVED, actor=ROBOT, reason="Back")

    with pytest.raises(TransitionError, match="somebody was faster"):
        stale.move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="On it")

    assert Event.objects.count() == 1
    assert stale.state == "open"
    assert Incident.objects.get().state == "resolved"


def test_move__when_its_event_can_not_be_written__leaves_row_and_object_as_they_were() -> None:
    thing = incident()

    with pytest.raises(TypeError):
        thing.move(IncidentState.RESOLVED, actor=ROBOT, reason="Back", data={"not": {"json"}}, resolved_at=NOON)

    assert (thing.state, thing.state_reason, thing.resolved_at) == ("open", "", None)
    assert Incident.objects.get().state == "open"


def test_state__unknown_to_the_table__is_refused_by_the_database() -> None:
    thing = incident()

    with pytest.raises(IntegrityError), transaction.atomic():
        Incident.objects.filter(pk=thing.pk).update(state="forgotten")


def test_event__with_two_authors_or_none__is_refused_by_the_database() -> None:
    values = {"name": "a.b", "subject_type": "x", "subject_id": "1", "subject_label": "x", "at": NOON}

    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.create(**values)
    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.create(**values, actor=pete(), service="robot")
