"""record: event and reactions in the caller's transaction; a reaction acts once; causes chain."""

from typing import Any

import pytest
from django.db import transaction
from django_q.models import OrmQ

from audit.models import Event
from audit.trail import because_of, record
from jobs.drain import drain
from jobs.models import Job, JobState
from jobs.run import redeliver, ring, run
from monitoring.models import Incident, IncidentState
from tests.audit.subjects import ROBOT, incident
from tests.builders import registered_model

pytestmark = pytest.mark.django_db

RESOLVE = "tests.audit.subjects.resolve"
COUNT = "tests.audit.subjects.count_itself"
STUMBLE = "tests.audit.subjects.stumble"


@pytest.fixture(autouse=True)
def _reactions(settings: Any) -> None:
    settings.GATEHOUSE_REACTIONS = "tests.audit.subjects.REACTIONS"


def react_with(monkeypatch: pytest.MonkeyPatch, *verbs: str) -> None:
    monkeypatch.setattr("tests.audit.subjects.REACTIONS", {"incident.acknowledged": verbs})


def test_record__of_an_event_with_a_reaction__asks_for_one_job_and_rings_once() -> None:
    event = record("incident.acknowledged", incident(), actor=ROBOT)

    job = Job.objects.get()
    assert (job.kind, job.key) == ("audit.react", f"reaction:{event.pk}:{RESOLVE}")
    assert job.payload == {"event": event.pk, "verb": RESOLVE}
    assert OrmQ.objects.count() == 1


def test_record__in_a_transaction_that_rolls_back__leaves_no_event_no_job_no_bell() -> None:
    thing = incident()

    with transaction.atomic():
        thing.move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="On it")
        assert (Event.objects.count(), Job.objects.count(), OrmQ.objects.count()) == (1, 1, 1)
        transaction.set_rollback(True)

    assert (Event.objects.count(), Job.objects.count(), OrmQ.objects.count()) == (0, 0, 0)
    assert Incident.objects.get().state == "open"


def test_record__of_something_about_a_model__names_the_model() -> None:
    thing = incident(registered_model=registered_model())

    assert record("incident.seen", thing, actor=ROBOT).registered_model == "late-arrival"
    assert record("incident.seen", incident("other"), actor=ROBOT).registered_model == ""


def test_reaction__when_its_bell_is_answered__acts_because_of_the_event() -> None:
    thing = incident()
    thing.move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="On it")

    drain()

    assert Incident.objects.get().state == "resolved"
    effect = Event.objects.get(name="incident.resolved")
    assert effect.cause is not None
    assert effect.cause.name == "incident.acknowledged"
    assert effect.is_automatic


def test_reaction__delivered_twice__acts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    react_with(monkeypatch, COUNT)
    incident().move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="On it")
    job = Job.objects.get()

    ring(job)
    drain()
    run(job.pk, renew=False)

    assert Event.objects.filter(name="incident.counted").count() == 1
    assert Job.objects.get().state == JobState.DONE


def test_reaction__that_fails_after_writing__leaves_nothing_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    react_with(monkeypatch, STUMBLE)
    incident().move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="On it")

    drain()

    job = Job.objects.get()
    assert not Event.objects.filter(name="incident.counted").exists()
    assert (job.state, job.attempts) == (JobState.QUEUED, 1)
    assert "stumbled after writing" in job.error


def test_reaction__redelivered_after_it_was_mended__acts(monkeypatch: pytest.MonkeyPatch) -> None:
    react_with(monkeypatch, COUNT)
    incident().move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="On it")
    Job.objects.update(state=JobState.DEAD, attempts=4)
    OrmQ.objects.all().delete()

    assert redeliver(Job.objects.get())
    drain()

    assert Event.objects.filter(name="incident.counted").count() == 1


def test_cause__none_given__is_the_subjects_last_event() -> None:
    thing = incident()
    first = record("incident.opened", thing, actor=ROBOT)
    record("incident.opened", incident("another"), actor=ROBOT)

    assert first.cause is None
    assert record("incident.seen", thing, actor=ROBOT).cause == first


def test_cause__within_because_of__is_that_event_unless_another_is_named() -> None:
    thing = incident()
    old, reason = record("incident.opened", thing, actor=ROBOT), record("drift.confirmed", incident("b"), actor=ROBOT)

    with because_of(reason):
        assert record("incident.seen", thing, actor=ROBOT).cause == reason
        assert record("incident.seen", thing, actor=ROBOT, cause=old).cause == old
    assert record("incident.seen", incident("c"), actor=ROBOT).cause is None


def test_cause__followed_back__tells_the_whole_story() -> None:
    thing = incident()
    thing.move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason="On it")
    drain()
    thing.refresh_from_db()
    event: Event | None = thing.move(IncidentState.OPEN, actor=ROBOT, reason="Stale again")

    story = []
    while event is not None:
        story.append(event.name)
        event = event.cause

    assert story == ["incident.open", "incident.resolved", "incident.acknowledged"]
