from dataclasses import replace
from datetime import timedelta

import pytest

from audit.errors import Conflict, NotPermitted, TransitionError
from audit.models import Event
from gates import actions
from gates.models import CheckResult, GateRun
from jobs.models import Job
from registry.models import ModelVersion
from tests.builders import NOON, ROBOT, alice, charlie, registered_model
from tests.gates import rows

pytestmark = pytest.mark.django_db


def events(name: str) -> int:
    return Event.objects.filter(name=name).count()


# ---------------------------------------------------------------------- opening and waiting


def test_policy__confirmed_while_a_run_waits__the_version_is_judged_anew() -> None:
    rows.policy(rows.AUC, rows.CI)
    waiting = rows.running()

    rows.policy()

    waiting.refresh_from_db()
    again = GateRun.objects.get(version=waiting.version, number=2)
    assert waiting.state == "inconclusive"
    assert (again.policy.number, again.state) == (2, "running")


def test_open_run__without_a_policy__is_refused() -> None:
    with pytest.raises(Conflict, match="no policy"):
        actions.open_run(rows.version(), actor=ROBOT, reason="", now=NOON)


def test_open_run__nothing_to_wait_for__begins_and_asks_for_the_measuring_once() -> None:
    run = rows.running()

    assert run.state == "running"
    assert run.required_checks == 1
    assert Job.objects.filter(kind="gates.prepare").count() == 1
    assert (events("gate_run.opened"), events("gate_run.running")) == (1, 1)


def test_open_run__evidence_missing__waits_until_the_deadline() -> None:
    rows.policy(rows.CI, evidence_wait_hours=48)
    run = rows.running()

    assert run.state == "open"
    assert run.deadline == NOON + timedelta(hours=48)
    assert actions.missing_evidence(run) == ("lint", "unit")
    assert not Job.objects.filter(kind="gates.prepare").exists()


def test_open_run__evidence_of_other_code__does_not_count() -> None:
    rows.policy(rows.CI)
    rows.evidence("lint", "[]")
    rows.evidence("unit", code_digest="beef" * 16)

    assert actions.missing_evidence(rows.running()) == ("unit",)


def test_open_run__evidence_of_another_model__does_not_count() -> None:
    rows.policy(rows.CI)
    rows.evidence("unit", registered_model=registered_model("other"))

    assert actions.missing_evidence(rows.running()) == ("lint", "unit")


def test_open_run__version_without_code__does_not_wait_for_what_can_not_come() -> None:
    rows.policy(rows.CI)

    assert rows.running(rows.version(code_digest="")).state == "running"


def test_open_run__while_one_is_open__is_refused() -> None:
    run = rows.running()
    with pytest.raises(Conflict, match="being judged already"):
        actions.open_run(run.version, actor=ROBOT, reason="", now=NOON)


def test_open_run__by_a_stranger__is_refused() -> None:
    rows.policy()
    with pytest.raises(NotPermitted):
        actions.open_run(rows.version(), actor=charlie(), reason="", now=NOON)


def test_begin__freezes_champion_and_seed() -> None:
    champion = rows.version()
    rollout = rows.rollout(rows.passed(champion))
    rollout.save()
    type(rollout).objects.update(state="promoted")
    champion.registered_model.aliases.create(name="champion", version=champion, since=NOON)

    run = rows.running()

    assert run.champion == champion
    assert run.seed == run.pk


# ---------------------------------------------------------------------- inputs and results


def test_record_preparation__fixes_the_inputs_with_one_event() -> None:
    run = rows.running()
    preparation = rows.prepared(run)

    assert preparation.inputs["seed"] == run.seed
    assert len(preparation.inputs_hash) == 64
    event = Event.objects.get(name="gate_run.prepared")
    assert event.data["inputs_hash"] == preparation.inputs_hash
    assert event.data["missing"] == {"holdout": "There are no rows."}


def test_record_preparation__of_a_run_that_ended_meanwhile__is_refused() -> None:
    run = rows.running()
    actions.give_up(GateRun.objects.get(pk=run.pk), actor=ROBOT, reason="Gone.", now=NOON)

    with pytest.raises(TransitionError, match="error already"):
        rows.prepared(run)


def test_record_result__twice__keeps_the_first() -> None:
    run = rows.running()
    first = actions.record_result(run, rows.judged("auc-floor"), measured={"value": 0.7}, wall_seconds=1.0)
    again = actions.record_result(run, rows.judged("auc-floor", "failed"), measured={}, wall_seconds=2.0)

    assert (first, again) == (True, False)
    result = run.results.get()
    assert (result.verdict, result.measured, result.wall_seconds) == ("passed", {"value": 0.7}, 1.0)


def test_record_result__of_a_run_that_ended__is_not_written() -> None:
    run = rows.running()
    actions.give_up(run, actor=ROBOT, reason="Gone.", now=NOON)

    assert not actions.record_result(run, rows.judged("auc-floor"), measured={}, wall_seconds=1.0)
    assert not run.results.exists()


# ---------------------------------------------------------------------- conclusion


def test_conclude__all_passed__passes_with_results_and_one_event() -> None:
    rows.policy(rows.AUC, {"id": "brier", "kind": "metric", "metric": "brier", "at_most": 0.3, "blocking": False})
    run = rows.running()
    actions.conclude(
        run, [rows.judged("auc-floor"), rows.judged("brier", "failed", blocking=False)], actor=ROBOT, now=NOON
    )

    run.refresh_from_db()
    assert run.state == "passed"
    assert run.state_reason == "All 1 blocking checks passed. Reported only, not passed: brier."
    assert [(result.check_id, result.verdict) for result in run.results.all()] == [
        ("auc-floor", "passed"),
        ("brier", "failed"),
    ]
    assert Event.objects.get(name="gate_run.passed").data["verdicts"] == {"auc-floor": "passed", "brier": "failed"}


@pytest.mark.parametrize("verdict", ["failed", "inconclusive", "error"])
def test_conclude__blocking_check_not_passed__ends_in_its_verdict(verdict: str) -> None:
    run = rows.running()
    actions.conclude(run, [rows.judged("auc-floor", verdict)], actor=ROBOT, now=NOON)

    assert run.state == verdict
    assert "auc-floor: It " in run.state_reason


def test_conclude__twice__is_refused_and_leaves_the_first_results() -> None:
    run = rows.running()
    stale = GateRun.objects.get(pk=run.pk)
    actions.conclude(run, [rows.judged("auc-floor", "failed")], actor=ROBOT, now=NOON)

    with pytest.raises(TransitionError, match="failed already"):
        actions.conclude(stale, [rows.judged("auc-floor")], actor=ROBOT, now=NOON)
    assert run.results.get().verdict == "failed"


def test_conclude__policy_replaced_meanwhile__passes_nothing_and_judges_anew() -> None:
    run = rows.running()
    rows.policy({**rows.AUC, "at_least": 0.9})

    actions.conclude(run, [rows.judged("auc-floor")], actor=ROBOT, now=NOON)

    assert run.state == "inconclusive"
    assert "policy 2 took force" in run.state_reason
    assert GateRun.objects.get(version=run.version, number=2).policy.number == 2


def test_conclude__after_results_were_written_one_by_one__tells_them_in_the_policys_order() -> None:
    rows.policy(rows.AUC, {**rows.AUC, "id": "second"})
    run = rows.running()
    for check_id in ("second", "auc-floor"):
        actions.record_result(run, rows.judged(check_id, "failed"), measured={}, wall_seconds=1.0)
    actions.conclude(run, wall_seconds=3.0, actor=ROBOT, now=NOON)

    assert run.wall_seconds == 3.0
    assert run.state_reason.index("auc-floor") < run.state_reason.index("second")
    assert Event.objects.get(name="gate_run.failed").data["verdicts"] == {"auc-floor": "failed", "second": "failed"}


def test_conclude__another_form_is_served_than_was_measured__passes_nothing_and_judges_anew() -> None:
    run = rows.running()
    rows.prepared(run, served_digest="f" * 64)

    actions.conclude(run, [rows.judged("auc-floor")], actor=ROBOT, now=NOON)

    assert run.state == "inconclusive"
    assert "Another form" in run.state_reason
    assert run.version.gate_runs.count() == 2


def test_rerun__after_a_failure__opens_the_next_run() -> None:
    run = rows.running()
    actions.conclude(run, [rows.judged("auc-floor", "failed")], actor=ROBOT, now=NOON)

    assert actions.rerun(run.version, actor=alice(), reason="New data.", now=NOON).number == 2
    assert run.results.get().verdict == "failed"


def test_rerun__passed_under_the_policy_in_force__is_refused() -> None:
    run = rows.passed()
    with pytest.raises(Conflict, match="nothing to prove"):
        actions.rerun(run.version, actor=ROBOT, reason="", now=NOON)


def test_rerun__passed_under_an_older_policy__opens_the_next_run() -> None:
    run = rows.passed()
    rows.policy({**rows.AUC, "at_least": 0.9})

    assert actions.rerun(run.version, actor=ROBOT, reason="", now=NOON).policy.number == 2
    assert CheckResult.objects.filter(gate_run=run).count() == 1


# ---------------------------------------------------------------------- a champion who was replaced

VERSUS = {"id": "versus", "kind": "versus_champion", "metric": "roc_auc", "not_worse_by": 0.01}
BEATS = [replace(rows.judged("versus"), kind="versus_champion")]


def won(version: ModelVersion | None = None) -> GateRun:
    run = rows.running(version)
    actions.conclude(run, BEATS, actor=ROBOT, now=NOON)
    return run


def test_conclude__another_champion_since_it_began__passes_nothing_and_judges_anew_once() -> None:
    rows.policy(VERSUS)
    rival = won()
    run = rows.running()
    rows.crown(rival)

    actions.conclude(run, BEATS, actor=ROBOT, now=NOON)

    assert run.state == "inconclusive"
    assert f"{rival.version} became champion" in run.state_reason
    again = GateRun.objects.get(version=run.version, number=2)
    assert (again.state, again.champion) == ("running", rival.version)
    actions.conclude(again, BEATS, actor=ROBOT, now=NOON)
    assert again.state == "passed"
    assert run.version.gate_runs.count() == 2


def test_conclude__failed_and_another_champion_since__stays_failed() -> None:
    rows.policy(VERSUS)
    rival = won()
    run = rows.running()
    rows.crown(rival)

    actions.conclude(run, [replace(BEATS[0], verdict="failed")], actor=ROBOT, now=NOON)

    assert (run.state, run.version.gate_runs.count()) == ("failed", 1)


def test_conclude__another_champion_where_nobody_must_beat_one__passes() -> None:
    rival = rows.passed()
    run = rows.running()
    rows.crown(rival)

    actions.conclude(run, [rows.judged("auc-floor")], actor=ROBOT, now=NOON)

    assert run.state == "passed"


def test_rerun__passed_against_a_champion_who_was_replaced__opens_the_next_run() -> None:
    rows.policy(VERSUS)
    run, rival = won(), won()
    rows.crown(rival)

    assert actions.rerun(run.version, actor=ROBOT, reason="", now=NOON).champion == rival.version
    with pytest.raises(Conflict, match="nothing to prove"):
        actions.rerun(rival.version, actor=ROBOT, reason="It is the champion itself.", now=NOON)


def test_conclude__policy_in_force_that_can_not_be_read__ends_the_run_all_the_same() -> None:
    run = rows.running()
    rows.unreadable_policy(run.registered_model)

    actions.conclude(run, [rows.judged("auc-floor")], actor=ROBOT, now=NOON)

    assert (run.state, run.version.gate_runs.count()) == ("inconclusive", 1)
