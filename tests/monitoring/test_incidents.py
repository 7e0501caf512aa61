"""One incident per cause, routed to the group whose duty it is."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from audit.errors import NotPermitted, TransitionError
from audit.models import Event
from monitoring.actions import incidents
from monitoring.models import Incident
from tests import builders
from tests.builders import NOON, ROBOT
from tests.races import race

DAY = timedelta(days=1)


def a_raised(now: datetime = NOON, **fields: Any) -> Incident:
    values: dict[str, Any] = {
        "kind": "drift",
        "duty": "data_science",
        "registered_model": builders.registered_model(),
        "version": None,
        "cause_key": "drift:late-arrival",
        "title": "Drift of late-arrival",
        "detail": "",
        "evidence": {"n": 1},
        "severity": "medium",
        **fields,
    }
    return incidents.raise_incident(**values, actor=ROBOT, now=now)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("duty", "group"),
    [("data_science", "delay-science"), ("platform", "delay-platform"), ("product", "delay-product")],
)
def test_raise__duty__goes_to_the_group_that_has_it(duty: str, group: str) -> None:
    incident = a_raised(duty=duty)
    assert incident.owner is not None
    assert incident.owner.name == group


@pytest.mark.django_db
def test_raise__seen_again__counts_and_shows_the_newest_evidence() -> None:
    first = a_raised()
    again = a_raised(evidence={"n": 2})
    assert again.pk == first.pk
    assert (again.occurrences, again.evidence) == (2, {"n": 2})
    assert Event.objects.filter(name="incident.opened").count() == 1


@pytest.mark.django_db
def test_raise__resolved_yesterday__is_opened_again() -> None:
    first = a_raised()
    incidents.resolve(first, actor=ROBOT, reason="gone", now=NOON)
    again = a_raised(now=NOON + DAY)
    assert (again.pk, again.state, again.resolved_at) == (first.pk, "open", None)
    assert Event.objects.filter(name="incident.reopened").count() == 1


@pytest.mark.django_db
def test_raise__resolved_long_ago__is_a_new_incident() -> None:
    first = a_raised()
    incidents.resolve(first, actor=ROBOT, reason="gone", now=NOON)
    assert a_raised(now=NOON + 8 * DAY).pk != first.pk


@pytest.mark.django_db
def test_acknowledge__owner__takes_it() -> None:
    incident = a_raised()
    incidents.acknowledge(incident, actor=builders.alice(), reason="on it", now=NOON)
    assert (incident.state, incident.acknowledged_by) == ("acknowledged", builders.alice())


@pytest.mark.django_db
@pytest.mark.parametrize("who", [builders.charlie, builders.audrey, builders.pete])
def test_acknowledge__without_the_duty__is_refused(who: Any) -> None:
    with pytest.raises(NotPermitted):
        incidents.acknowledge(a_raised(), actor=who(), reason="on it", now=NOON)


@pytest.mark.django_db
def test_acknowledge__auditor_in_the_owning_group__is_refused() -> None:
    auditor = builders.person("olga", "auditors", "delay-science")
    with pytest.raises(NotPermitted):
        incidents.acknowledge(a_raised(), actor=auditor, reason="on it", now=NOON)


@pytest.mark.django_db
def test_acknowledge__service__is_refused() -> None:
    with pytest.raises(NotPermitted):
        incidents.acknowledge(a_raised(), actor=ROBOT, reason="on it", now=NOON)


@pytest.mark.django_db
def test_resolve__twice__is_refused_the_second_time() -> None:
    incident = a_raised()
    incidents.resolve(incident, actor=builders.alice(), reason="mended", now=NOON)
    with pytest.raises(TransitionError):
        incidents.resolve(incident, actor=builders.alice(), reason="mended", now=NOON)


@pytest.mark.django_db
def test_reopen__another_is_open_for_the_cause__is_refused() -> None:
    old = a_raised()
    incidents.resolve(old, actor=ROBOT, reason="gone", now=NOON)
    a_raised(now=NOON + 8 * DAY)
    with pytest.raises(TransitionError, match="open for the same cause"):
        incidents.reopen(old, actor=builders.alice(), reason="look again", now=NOON + 9 * DAY)


@pytest.mark.django_db
def test_incident__of_no_model_and_no_group__belongs_to_every_platform_group() -> None:
    builders.registered_model()
    incident = a_raised(registered_model=None, kind="dead_job", duty="platform", cause_key="dead_job:x")
    assert incident.owner is None
    with pytest.raises(NotPermitted):
        incidents.acknowledge(incident, actor=builders.alice(), reason="on it", now=NOON)
    incidents.acknowledge(incident, actor=builders.pete(), reason="on it", now=NOON)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_raise__eight_at_once__is_one_incident_and_one_event() -> None:
    builders.registered_model()
    assert _raised_by_eight() == {Incident.objects.get().pk}
    assert Incident.objects.get().occurrences == 8
    assert Event.objects.filter(name="incident.opened").count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_raise__eight_at_once_after_a_resolution__reopens_once() -> None:
    incidents.resolve(a_raised(), actor=ROBOT, reason="gone", now=NOON)
    assert _raised_by_eight() == {Incident.objects.get().pk}
    assert Incident.objects.get().occurrences == 9
    assert Event.objects.filter(name="incident.reopened").count() == 1


def _raised_by_eight() -> set[int]:
    """The ids of the incidents that eight callers at once were given."""
    raised = race(lambda number: a_raised(now=NOON + timedelta(hours=1)).pk)
    assert len(raised) == 8
    return set(raised)
