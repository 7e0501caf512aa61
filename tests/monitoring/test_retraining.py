"""The closed loop: from a confirmed finding over its candidates to a champion, a refusal or a rethink."""

from datetime import timedelta
from typing import Any

import pytest

from audit import clock
from audit.errors import Conflict, NotPermitted
from audit.models import Event
from monitoring.actions import findings, rethinks, retraining
from monitoring.actions.incidents import raise_incident
from monitoring.models import Incident, Rethink, Retraining
from monitoring.reactions import on_training_failed
from registry.models import TrainingRun
from rollout.models import Rollout
from tests import builders
from tests.builders import NOON, ROBOT
from tests.monitoring.scene import (
    START,
    WEEK,
    Scene,
    a_version,
    candidate_judged,
    live,
    passed_gates,
    pipeline,
    rollout_ended,
    serve_week,
    tell,
    watch,
)

pytestmark = pytest.mark.django_db
NOW = START + WEEK


def trainable(*windows: str, **settings: Any) -> Scene:
    scene = live(**{"dataset": False, **settings})
    pipeline(scene.registered_model, scene.service, *(windows or ("expanding", "last-month")))
    return scene


def a_decay(scene: Scene, kind: str = "decay") -> Incident:
    return raise_incident(
        kind=kind,
        duty="data_science",
        registered_model=scene.registered_model,
        version=scene.version,
        cause_key=f"{kind}:{scene.registered_model}",
        title="It decays",
        detail="",
        evidence={},
        severity="high",
        actor=ROBOT,
        now=NOW,
    )


def started(scene: Scene, *, days: int = 0, kind: str = "decay") -> Retraining:
    incident = a_decay(scene, kind)
    now = NOW + timedelta(days=days)
    return retraining.start_retraining(
        registered_model=scene.registered_model, incident=incident, cause_kind=kind, actor=ROBOT, now=now
    )


def refused(scene: Scene, *, days: int) -> Retraining:
    """A retraining of which every candidate fails its gates."""
    running = started(scene, days=days)
    for _ in scene.registered_model.pipelines.get().windows:
        candidate_judged(scene, running, "failed", gain=-0.02, now=NOW + timedelta(days=days))
    return running


def test_start__asks_for_the_first_window_held_back() -> None:
    running = started(trainable())
    run = TrainingRun.objects.get()
    assert (running.state, run.window, run.held, run.trigger) == ("training", {"name": "expanding"}, True, "decay")


def test_start__one_is_open__is_refused_with_the_reason() -> None:
    scene = trainable()
    started(scene)
    with pytest.raises(Conflict, match=r"retraining \d+ has not ended"):
        started(scene)


def test_start__stranger__is_refused() -> None:
    scene = trainable()
    with pytest.raises(NotPermitted):
        retraining.start_retraining(
            registered_model=scene.registered_model,
            incident=None,
            cause_kind="person",
            actor=builders.charlie(),
            now=NOW,
        )


def test_held_back__automation_off__says_so() -> None:
    scene = trainable()
    scene.registered_model.automation = False
    assert "switched off" in retraining.held_back(scene.registered_model, now=NOW)


def test_held_back__data_incident_open__says_so() -> None:
    scene = trainable()
    a_decay(scene, kind="data")
    assert "broken" in retraining.held_back(scene.registered_model, now=NOW)


def test_held_back__model_without_pipeline__says_so() -> None:
    assert "no pipeline" in retraining.held_back(live().registered_model, now=NOW)


def test_proceed__candidate_failed__trains_the_next_window() -> None:
    scene = trainable()
    running = started(scene)
    candidate_judged(scene, running, "failed", gain=-0.02)
    assert running.state == "training"
    assert [each.passed_gates for each in running.candidates.all()] == [False, None]
    assert running.candidates.all()[0].gain == -0.02


def test_proceed__both_passed__rolls_out_the_larger_gain() -> None:
    scene = trainable()
    running = started(scene)
    candidate_judged(scene, running, "passed", gain=0.01)
    second = candidate_judged(scene, running, "passed", gain=0.03)
    assert running.state == "rolling_out"
    assert Rollout.objects.get(state="pending").version == second


def test_proceed__told_twice__acts_once() -> None:
    scene = trainable("expanding")
    running = started(scene)
    candidate_judged(scene, running, "passed", gain=0.03)
    retraining.proceed(running, actor=ROBOT, now=NOW)
    assert Event.objects.filter(name="retraining.rolling_out").count() == 1


def test_proceed__promoted__closes_the_loop_and_the_incident() -> None:
    scene = trainable("expanding")
    running = started(scene)
    version = candidate_judged(scene, running, "passed", gain=0.03)
    rollout_ended(version, "promoted")
    running.refresh_from_db()
    assert (running.state, running.improved) == ("promoted", True)
    assert running.ended_wall is not None
    assert Incident.objects.get().state == "resolved"


def test_proceed__best_rolled_back__the_next_best_goes_on() -> None:
    scene = trainable()
    running = started(scene)
    first = candidate_judged(scene, running, "passed", gain=0.03)
    second = candidate_judged(scene, running, "passed", gain=0.01)
    rollout_ended(first, "rolled_back")
    running.refresh_from_db()
    assert running.state == "rolling_out"
    assert Rollout.objects.get(state="pending").version == second


def test_proceed__nobody_survives_the_canary__is_refused() -> None:
    scene = trainable("expanding")
    running = started(scene)
    version = candidate_judged(scene, running, "passed", gain=0.03)
    rollout_ended(version, "rolled_back")
    running.refresh_from_db()
    assert running.state == "refused"
    assert "rolled back" in running.candidates.get().outcome


def test_proceed__passed_without_gain__is_refused() -> None:
    scene = trainable("expanding")
    running = started(scene)
    candidate_judged(scene, running, "passed", gain=0.0)
    assert running.state == "refused"
    assert not Rollout.objects.filter(state="pending").exists()


def test_proceed__no_candidate_could_be_judged__has_failed_which_is_no_refusal() -> None:
    scene = trainable("expanding")
    running = started(scene)
    candidate_judged(scene, running, "error")
    assert running.state == "failed"
    assert not Rethink.objects.exists()


def test_training_failed__next_window_is_tried_and_data_science_told() -> None:
    scene = trainable()
    running = started(scene)
    run = TrainingRun.objects.get()
    run.move("running", actor=ROBOT, reason="test")
    run.move("failed", actor=ROBOT, reason="out of memory", log="MemoryError")
    tell(on_training_failed, run, now=NOW)
    running.refresh_from_db()
    assert (running.state, running.candidates.count()) == ("training", 2)
    incident = Incident.objects.get(kind="training_failed")
    assert (incident.duty, incident.evidence["log"]) == ("data_science", "MemoryError")


def test_refused_twice__proposes_a_rethink_with_what_was_tried() -> None:
    scene = trainable()
    refused(scene, days=0)
    assert not Rethink.objects.exists()
    refused(scene, days=15)
    rethink = Rethink.objects.get()
    tried = rethink.evidence["what_was_tried"]
    assert [each["state"] for each in tried] == ["refused", "refused"]
    assert [each["gain"] for each in tried[0]["candidates"]] == [-0.02, -0.02]
    assert rethink.evidence["what_it_cost"] == {
        "retrainings": 2,
        "training_runs": 4,
        "training_wall_seconds": 12.0,
    }
    assert rethink.due_at == NOW + timedelta(days=15 + 7)


def test_rethink__proposed_or_approved__holds_retraining_back_until_closed() -> None:
    scene = trainable("expanding")
    refused(scene, days=0)
    refused(scene, days=15)
    rethink, later = Rethink.objects.get(), NOW + timedelta(days=90)
    assert f"rethink {rethink.pk}" in retraining.held_back(scene.registered_model, now=later)
    rethinks.approve(rethink, approach="x", actor=builders.paula(), now=later)
    assert f"rethink {rethink.pk}" in retraining.held_back(scene.registered_model, now=later)
    rethinks.close(rethink, reason="done", actor=builders.paula(), now=later)
    assert retraining.held_back(scene.registered_model, now=later) == ""


def test_rethink__declined__automation_goes_on_and_counts_anew() -> None:
    scene = trainable("expanding")
    refused(scene, days=0)
    refused(scene, days=15)
    with clock.at(NOW + timedelta(days=16)):
        rethinks.decline(Rethink.objects.get(), reason="Summer ends.", actor=builders.paula(), now=clock.now())
    refused(scene, days=60)
    assert Rethink.objects.count() == 1


def test_repair__too_little_of_the_loss__rolls_out_and_asks() -> None:
    scene = trainable("expanding", minimum_coverage=0.5)
    serve_week(scene, 0, skill=0.0, rows=2_000)
    watch(START + WEEK + timedelta(days=2))
    running = Retraining.objects.get()
    assert running.state == "failed"  # the pipeline's source does not exist: every training fails
    running = started(scene, days=30)
    candidate_judged(scene, running, "passed", gain=0.05)
    assert running.state == "rolling_out"
    assert "wins back 0.050" in Rethink.objects.get().question


def test_relapse__decay_soon_after_a_promotion__asks_instead_of_retraining() -> None:
    scene = trainable("expanding")
    running = started(scene)
    version = candidate_judged(scene, running, "passed", gain=0.03)
    since = START + 2 * WEEK
    rollout_ended(version, "promoted", now=since)
    serve_week(scene, 0, skill=0.0, rows=2_000, version=version, since=since)
    watch(since + WEEK + timedelta(days=2))
    assert "decayed again" in Rethink.objects.get().question
    assert Retraining.objects.count() == 1


def test_loop__decay_confirmed__is_one_chain_from_the_window_to_the_training() -> None:
    scene = trainable("expanding")
    serve_week(scene, 0, skill=0.0, rows=2_000)
    watch(START + WEEK + timedelta(days=2))
    event: Event | None = Event.objects.get(name="training_run.requested")
    chain = []
    while event is not None:
        chain.append(event.name)
        event = event.cause
    assert chain == ["training_run.requested", "retraining.started", "incident.opened", "decay.confirmed", *chain[4:]]


def test_reconcile__brake_released__starts_what_waited() -> None:
    scene = trainable("expanding")
    blocking = a_decay(scene, kind="data")
    incident = a_decay(scene)
    assert findings.retry_waiting(actor=ROBOT, now=NOW) == []
    blocking.move("resolved", actor=ROBOT, reason="mended", resolved_at=NOW)
    assert [each.incident for each in findings.retry_waiting(actor=ROBOT, now=NOW)] == [incident]


def test_reconcile__owner_wants_drift_noted_only__starts_nothing() -> None:
    scene = trainable("expanding", retrain_on=["decay"])
    a_decay(scene, kind="drift")
    assert findings.retry_waiting(actor=ROBOT, now=NOW) == []


def test_rolled_back__person_asked_for_the_version__is_an_incident_with_the_reason() -> None:
    scene = live()
    version = a_version(scene.registered_model)
    Rollout.objects.create(
        endpoint=scene.endpoint,
        registered_model=scene.registered_model,
        version=version,
        gate_run=passed_gates(version),
        plan={},
        salt="s",
        state="pending",
        created_at=NOON,
    )
    rollout_ended(version, "rolled_back")
    incident = Incident.objects.get()
    assert (incident.kind, incident.duty) == ("rolled_back", "data_science")
    assert "more late flights were missed" in incident.detail
    assert "delay-product" in incident.detail
