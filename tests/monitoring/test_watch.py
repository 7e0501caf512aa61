"""Windows of a live model, from the prediction log to incidents."""

from datetime import timedelta

import pytest

from audit.models import Event
from jobs.models import Job
from monitoring.health import health
from monitoring.models import DriftRun, Incident
from tests.monitoring.scene import START, WEEK, Scene, live, serve_week, watch

pytestmark = pytest.mark.django_db
DAYS = timedelta(days=2)
"""Long enough after a window's end for its outcomes to be in."""


def drift_runs() -> list[DriftRun]:
    return list(DriftRun.objects.filter(kind="drift").order_by("window_to"))


def performance_runs() -> list[DriftRun]:
    return list(DriftRun.objects.filter(kind="performance").order_by("window_to"))


def weeks(scene: Scene, *traffic: dict[str, float]) -> None:
    """Serve one week per argument, with a watch after each."""
    for week, moved in enumerate(traffic):
        serve_week(scene, week, **moved)  # type: ignore[arg-type]  # each value has its parameter's type
        watch(START + (week + 1) * WEEK + DAYS)


def test_watch__no_window_closed__judges_nothing() -> None:
    scene = live()
    serve_week(scene, 0)
    watch(START + WEEK - timedelta(minutes=1))
    assert not DriftRun.objects.exists()
    assert not Job.objects.filter(kind="monitoring.judge").exists()


def test_watch__quiet_week__passes_both_and_opens_nothing() -> None:
    weeks(live(), {})
    assert [run.verdict for run in drift_runs()] == ["passed"]
    assert [run.verdict for run in performance_runs()] == ["passed"]
    assert not Incident.objects.exists()


def test_watch__twice_on_one_day__judges_once() -> None:
    scene = live()
    serve_week(scene, 0)
    watch(START + WEEK + DAYS)
    watch(START + WEEK + DAYS + timedelta(minutes=1))
    assert DriftRun.objects.count() == 2


def test_watch__outcomes_not_matured__judges_inputs_only() -> None:
    scene = live()
    serve_week(scene, 0)
    watch(START + WEEK)
    assert [run.kind for run in DriftRun.objects.all()] == ["drift"]


def test_watch__champion_without_monitor__is_watched_by_the_defaults() -> None:
    scene = live()
    scene.monitor.delete()
    serve_week(scene, 0)
    watch(START + WEEK)
    assert DriftRun.objects.get().verdict == "passed"
    assert Event.objects.filter(name="monitor.configured", service="monitoring").exists()


def test_drift__one_week__is_seen_but_not_confirmed() -> None:
    weeks(live(), {"delay": 0.8})
    run = drift_runs()[0]
    assert (run.verdict, run.confirmed) == ("failed", False)
    assert not Incident.objects.exists()


def test_drift__two_of_three_weeks__is_one_incident_for_data_science() -> None:
    weeks(live(), {"delay": 0.8}, {}, {"delay": 0.8})
    incident = Incident.objects.get()
    assert (incident.kind, incident.duty, incident.owner.name if incident.owner else "") == (
        "drift",
        "data_science",
        "delay-science",
    )
    assert list(incident.evidence["features"]) == ["delay"]


def test_drift__confirmed_again__stays_one_incident() -> None:
    weeks(live(), {"delay": 0.8}, {"delay": 0.8}, {"delay": 0.8})
    assert Incident.objects.get().occurrences == 2


def test_drift__confirmed__is_the_cause_of_the_incident() -> None:
    weeks(live(), {"delay": 0.8}, {"delay": 0.8})
    opened = Event.objects.get(name="incident.opened")
    assert opened.cause is not None
    assert opened.cause.name == "drift.confirmed"


def test_drift__of_a_feature_without_weight__is_noted_and_nothing_more() -> None:
    weeks(live(), {"temperature": 3.0}, {"temperature": 3.0}, {"temperature": 3.0})
    assert [run.verdict for run in drift_runs()] == ["passed"] * 3
    assert drift_runs()[0].scores["noted"] == ["temperature"]
    assert not Incident.objects.exists()


def test_drift__of_the_answers__is_confirmed_like_an_important_feature() -> None:
    weeks(live(), {}, {"score_shift": 0.9}, {"score_shift": 0.9})
    assert drift_runs()[0].scores["references"]["answers"].startswith("none yet")
    assert drift_runs()[2].scores["confirmed"] == ["prediction score"]


def test_drift__three_quiet_weeks__closes_the_incident_by_itself() -> None:
    scene = live()
    weeks(scene, {"delay": 0.8}, {"delay": 0.8}, {}, {})
    assert Incident.objects.get().state == "open"
    serve_week(scene, 4)
    watch(START + 5 * WEEK + DAYS)
    incident = Incident.objects.get()
    assert (incident.state, incident.state_reason) == ("resolved", "3 quiet windows in a row.")


def test_drift__nulls_jump__is_a_data_incident_for_platform() -> None:
    weeks(live(), {"nulls": 0.3})
    incident = Incident.objects.get()
    assert (incident.kind, incident.duty, incident.severity) == ("data", "platform", "high")
    assert "delay: 3" in incident.detail


def test_drift__whole_window_after_a_data_incident__closes_it() -> None:
    weeks(live(), {"nulls": 0.3}, {})
    assert Incident.objects.get().state == "resolved"


def test_drift__no_traffic__is_inconclusive_and_red() -> None:
    scene = live()
    watch(START + WEEK + DAYS)
    assert drift_runs()[0].verdict == "inconclusive"
    assert health(scene.monitor, START + WEEK + DAYS).is_red


def test_drift__version_without_dataset__is_compared_with_its_first_window() -> None:
    weeks(live(dataset=False), {}, {"delay": 0.8})
    first, second = drift_runs()
    assert first.verdict == "inconclusive"
    assert second.scores["references"]["inputs"].startswith("no training dataset: first window served")
    assert second.scores["moved"] == ["delay"]


def test_drift__long_silence__catches_up_in_order() -> None:
    scene = live()
    for week in range(3):
        serve_week(scene, week, delay=0.8)
    watch(START + 3 * WEEK + DAYS)
    assert [run.confirmed for run in drift_runs()] == [False, True, True]


def test_performance__decay_twice__is_one_incident_with_numbers() -> None:
    weeks(live(), {"skill": 0.7, "rows": 4_000}, {"skill": 0.7, "rows": 4_000})
    incident = Incident.objects.get(kind="decay")
    assert (incident.duty, incident.severity) == ("data_science", "high")
    assert incident.evidence["benchmark"]["value"] == 0.75
    assert incident.evidence["loss"] > 0.02


def test_performance__gross_decay__is_confirmed_at_once() -> None:
    weeks(live(), {"skill": 0.0, "rows": 2_000})
    assert Incident.objects.get(kind="decay").state == "open"


def test_performance__few_outcomes_known__is_inconclusive() -> None:
    weeks(live(), {"known": 0.4})
    run = performance_runs()[0]
    assert run.verdict == "inconclusive"
    assert "70% are needed" in run.summary


def test_performance__gates_measured_no_auc__is_inconclusive_never_passed() -> None:
    weeks(live(auc=None), {})
    assert performance_runs()[0].verdict == "inconclusive"


def test_health__first_window_still_open__waits_without_being_red() -> None:
    scene = live()
    found = health(scene.monitor, START + timedelta(days=1))
    assert (found.verdict, found.is_red) == ("inconclusive", False)


def test_health__window_closed_and_nobody_watched__is_an_error() -> None:
    scene = live()
    serve_week(scene, 0)
    found = health(scene.monitor, START + WEEK + timedelta(days=3))
    assert (found.verdict, found.is_red) == ("error", True)
    assert "did not run" in found.message


def test_health__quiet_week_judged__is_green() -> None:
    scene = live()
    serve_week(scene, 0)
    watch(START + WEEK + DAYS)
    found = health(scene.monitor, START + WEEK + DAYS)
    assert (found.verdict, found.is_red) == ("passed", False)
