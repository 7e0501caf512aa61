"""Two people click at once. Threads and row locks: PostgreSQL only."""

from typing import Any

import pytest

from audit.errors import TransitionError
from audit.models import Event
from audit.trail import record
from jobs.models import Job
from monitoring.models import Incident, IncidentState
from tests.audit.subjects import ROBOT, incident
from tests.races import THREADS, race

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def test_move__eight_at_once_to_one_state__one_wins_and_one_event_is_written() -> None:
    thing = incident()
    copies = [Incident.objects.get(pk=thing.pk) for _ in range(THREADS)]

    outcomes = race(lambda n: copies[n].move(IncidentState.ACKNOWLEDGED, actor=ROBOT, reason=f"thread {n}"))

    winners = [each for each in outcomes if isinstance(each, Event)]
    assert len(winners) == 1
    assert sum(isinstance(each, TransitionError) for each in outcomes) == THREADS - 1
    assert Event.objects.get() == winners[0]
    assert Incident.objects.get().state_reason == winners[0].reason


def test_move__eight_at_once_to_different_states__one_wins_and_its_state_stands() -> None:
    thing = incident()
    copies = [Incident.objects.get(pk=thing.pk) for _ in range(THREADS)]
    states = [IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED]

    race(lambda n: copies[n].move(states[n % 2], actor=ROBOT, reason=f"thread {n}"))

    assert Event.objects.get().data["to"] == Incident.objects.get().state


def test_record__eight_at_once_with_one_reaction_each__loses_no_event_and_no_job(settings: Any) -> None:
    settings.GATEHOUSE_REACTIONS = "tests.audit.subjects.REACTIONS"
    thing = incident()

    outcomes = race(lambda n: record("incident.acknowledged", thing, actor=ROBOT, reason=str(n)))

    assert all(isinstance(each, Event) for each in outcomes), outcomes
    assert sorted(Event.objects.values_list("reason", flat=True)) == [str(n) for n in range(THREADS)]
    assert Job.objects.count() == THREADS
