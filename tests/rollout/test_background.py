"""Reactions and tasks: propose what passed, start who waits, look when due, and the same again changes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from audit import clock
from audit.models import Event
from audit.trail import record
from gates import actions as gates
from gates.judge import Judgement
from jobs.drain import drain
from jobs.models import Job, JobState
from registry.models import ModelVersion, TrainingPipeline, TrainingRun
from rollout import actions, looks, prediction_log, reactions, tasks
from rollout.models import AnalysisRun, Measurement, Rollout, RolloutState
from tests import builders
from tests.builders import NOON, ROBOT
from tests.rollout import life

pytestmark = pytest.mark.django_db


def passed(version: ModelVersion) -> Event:
    return record("test.gates_passed", life.passed_gates(version), actor=ROBOT)


def held_run(story: life.Life) -> TrainingRun:
    pipeline = TrainingPipeline.objects.create(
        registered_model=story.registered_model,
        name="nightly",
        entry_point="train",
        code_path="mlops",
        service=life.service("x1", ["x1"], story.registered_model),
        label="late",
        time_limit=timedelta(minutes=1),
    )
    return TrainingRun.objects.create(
        registered_model=story.registered_model,
        pipeline=pipeline,
        state="succeeded",
        trigger="drift",
        held=True,
        requested_at=NOON,
    )


def test_propose_rollouts__a_version_passed__waits_at_the_endpoint() -> None:
    story = life.begin()
    version = life.a_version(story.registered_model)
    event = passed(version)
    for _ in range(2):
        reactions.propose_rollouts(event)
    assert Rollout.objects.get(version=version).state == RolloutState.PENDING


def test_propose_rollouts__held_by_a_retraining__proposes_nothing() -> None:
    story = life.begin()
    version = life.a_version(story.registered_model, training_run=held_run(story))
    reactions.propose_rollouts(passed(version))
    assert not Rollout.objects.filter(version=version).exists()


def test_propose_rollouts__a_newer_policy_voids_the_pass__proposes_nothing() -> None:
    story = life.begin()
    version = life.a_version(story.registered_model)
    event = passed(version)
    life.new_policy(story.registered_model)
    reactions.propose_rollouts(event)
    assert not Rollout.objects.filter(version=version).exists()


def test_start_waiting__two_wait__the_first_starts_and_the_second_after_it_ended() -> None:
    story = life.begin(plan={**life.PLAN, "queue": "every"})
    first, second = (life.proposed(life.a_version(story.registered_model)) for _ in range(2))
    story.background()
    states = dict(Rollout.objects.filter(pk__in=[first.pk, second.pk]).values_list("pk", "state"))
    assert states == {first.pk: RolloutState.SHADOW, second.pk: RolloutState.PENDING}
    first.refresh_from_db()
    actions.abort(first, actor=ROBOT, reason="Enough.", now=NOON)
    story.background()
    second.refresh_from_db()
    assert second.state == RolloutState.SHADOW


def test_start_waiting__its_gates_were_voided__is_aborted_and_the_next_starts() -> None:
    story = life.begin(plan={**life.PLAN, "queue": "every"})
    stale = life.proposed(life.a_version(story.registered_model))
    life.new_policy(story.registered_model)
    fresh = life.proposed(life.a_version(story.registered_model))
    reactions.start_waiting(story.endpoint)
    stale.refresh_from_db()
    fresh.refresh_from_db()
    assert (stale.state, fresh.state) == (RolloutState.ABORTED, RolloutState.SHADOW)
    assert "run the gates again" in stale.state_reason


def test_rollout__ended_by_a_new_policy__is_proposed_again_after_the_pass_and_starts() -> None:
    story = life.begin()
    version = life.a_version(story.registered_model, inputs=("x1", "x2"), training_run=held_run(story))
    rollout = life.proposed(version)
    actions.start(rollout, actor=ROBOT, reason="Its turn.", now=NOON)
    policy = life.new_policy(story.registered_model)
    actions.advance(rollout, actor=ROBOT, reason="Fine.", now=NOON)
    run = version.gate_runs.get(policy=policy)
    judged = Judgement("auc-floor", "metric", True, "passed", "Enough.")
    gates.conclude(run, [judged], actor=ROBOT, now=NOON)
    for _ in range(2):
        story.background()

    assert Rollout.objects.get(version=version, gate_run=run).state == RolloutState.SHADOW
    assert (version.gate_runs.count(), version.rollouts.count()) == (2, 2)


def test_start_waiting__kill_switch_pulled__waits() -> None:
    story = life.begin()
    rollout = life.proposed(life.a_version(story.registered_model))
    actions.decide(
        story.endpoint,
        kind="stop",
        registered_model=story.registered_model,
        note="Off.",
        actor=builders.paula(),
        now=NOON,
    )
    story.background()
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.PENDING


def test_reconcile__often__asks_for_one_look_per_interval() -> None:
    story = life.begin()
    rollout = story.candidate()
    for _ in range(13):
        story.hour(n=20)
    assert AnalysisRun.objects.filter(rollout=rollout).count() == 2
    assert not Job.objects.exclude(state=JobState.DONE).exists()


def test_ask_for_look__one_is_under_way__asks_for_no_second() -> None:
    rollout = life.begin().candidate()
    later = NOON + timedelta(hours=6)
    assert tasks.ask_for_look(rollout, now=later) is not None
    assert tasks.ask_for_look(rollout, now=later + timedelta(minutes=1)) is None


def test_look__repeated_on_the_same_log__measures_the_same_and_scores_nothing_twice() -> None:
    story = life.begin()
    rollout = story.candidate()
    for _ in range(4):
        story.hour()
    first, second = (looks.take(rollout, now=story.now) for _ in range(2))
    assert first == second
    shadowed = prediction_log.read_shadow(life.ENDPOINT, rollout.version_id, since=NOON, until=story.now)
    assert len(shadowed) == 480
    assert not Measurement.objects.exists()


def test_look__young_outcomes__are_not_read_although_they_arrived() -> None:
    story = life.begin()
    rollout = story.candidate()
    for _ in range(4):
        story.hour(n=50)  # outcomes arrive after one hour, the window closes after two
    first_two_hours_and_the_row_on_the_hour = 101
    assert looks.take(rollout, now=story.now).detail["outcomes"] == first_two_hours_and_the_row_on_the_hour
    assert looks.take(rollout, now=story.now + life.WINDOW).detail["outcomes"] == 200


def test_look__of_a_rollout_that_ended_meanwhile__writes_nothing() -> None:
    story = life.begin()
    rollout = story.candidate()
    with clock.at(NOON + timedelta(hours=6)):
        tasks.ask_for_look(rollout, now=clock.now())
        actions.abort(rollout, actor=ROBOT, reason="Enough.", now=clock.now())
        drain()
    assert not AnalysisRun.objects.exists()
    assert Job.objects.get(kind=tasks.LOOK).state == JobState.DONE


def test_look__rows_served_while_paused__do_not_count() -> None:
    story = life.begin()
    rollout = story.candidate()
    story.hour(n=50)
    actions.pause(rollout, actor=ROBOT, reason="Wait.", now=story.now)
    story.hour(n=50)
    actions.resume(rollout, actor=ROBOT, reason="Go on.", now=story.now)
    story.hour(n=50)
    assert looks.take(rollout, now=story.now).candidate_rows == 100
