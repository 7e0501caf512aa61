"""The delivery report's numbers, by hand."""

from datetime import timedelta
from typing import Any

import pytest

from audit import clock, trail
from monitoring import delivery
from monitoring.actions import incidents, retraining
from monitoring.delivery import Path
from tests import builders
from tests.builders import NOON, ROBOT
from tests.monitoring.scene import START, WEEK, candidate_judged, live, pipeline, rollout_ended
from tests.monitoring.test_incidents import a_raised

DAY = timedelta(days=1)
YEAR: dict[str, Any] = {"since": NOON - 30 * DAY, "until": NOON + 330 * DAY}


@pytest.mark.django_db
def test_lead_times__person_and_retraining__are_told_apart() -> None:
    scene = live(dataset=False)
    pipeline(scene.registered_model, scene.service, "expanding")
    asked = START + WEEK
    running = retraining.start_retraining(
        registered_model=scene.registered_model, incident=None, cause_kind="drift", actor=ROBOT, now=asked
    )
    version = candidate_judged(scene, running, "passed", gain=0.02)
    rollout_ended(version, "promoted", now=asked + 9 * DAY)
    first, second = delivery.lead_times(**YEAR)
    assert (first.path, first.event_time) == (Path.PERSON, START - NOON)
    assert first.wall is None
    assert (second.path, second.event_time) == (Path.RETRAINING, 9 * DAY)
    assert second.wall is not None
    assert delivery.report(**YEAR).median_lead(Path.RETRAINING) == 9 * DAY
    assert delivery.report(**YEAR).retrainings == (("promoted", 1),)


@pytest.mark.django_db
def test_steps__one_of_four_by_a_person__is_three_quarters_automatic() -> None:
    model = builders.registered_model()
    with clock.at(NOON):
        for name in ("gate_run.passed", "rollout.canary", "rollout.canary"):
            trail.record(name, model, actor=ROBOT)
        trail.record("training_run.requested", model, actor=builders.alice())
        trail.record("policy.adopted", model, actor=builders.alice())  # no lifecycle step
    report = delivery.report(**YEAR)
    assert report.automatic_share == 0.75
    assert [(step.name, step.total, step.automatic) for step in report.steps] == [
        ("training_run.requested", 1, 0),
        ("gate_run.passed", 1, 1),
        ("rollout.canary", 2, 2),
    ]


@pytest.mark.django_db
def test_incidents__by_duty_and_kind__with_the_median_to_resolve() -> None:
    for key, days in (("a", 1), ("b", 3), ("c", None)):
        incident = a_raised(cause_key=key)
        if days:
            incidents.resolve(incident, actor=ROBOT, reason="gone", now=NOON + days * DAY)
    a_raised(cause_key="d", kind="data", duty="platform")
    assert [(each.duty, each.kind, each.total, each.open, each.to_resolve) for each in delivery.incidents(**YEAR)] == [
        ("data_science", "drift", 3, 1, 2 * DAY),
        ("platform", "data", 1, 1, None),
    ]


@pytest.mark.django_db
def test_report__other_model_or_period__is_left_out() -> None:
    other = builders.registered_model("other")
    a_raised()
    assert delivery.incidents(**YEAR, models=[other.pk]) == []
    assert delivery.incidents(since=NOON + DAY, until=NOON + 2 * DAY) == []


@pytest.mark.django_db
def test_report__nothing_happened__has_no_share() -> None:
    report = delivery.report(**YEAR)
    assert (report.automatic_share, report.median_lead(Path.PERSON), report.lead_times) == (None, None, ())
