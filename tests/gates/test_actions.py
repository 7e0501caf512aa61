from datetime import timedelta
from typing import Any

import pytest

from audit.errors import Conflict, InvalidInput, NotPermitted, TransitionError
from audit.models import Event
from gates import actions
from gates.models import CheckResult, Evidence, GateRun, Policy
from jobs.models import Job
from tests.builders import NOON, ROBOT, alice, audrey, charlie, paula, pete, registered_model
from tests.gates import rows

pytestmark = pytest.mark.django_db


def adopt(**fields: Any) -> Policy:
    return actions.adopt_policy(registered_model(), **{"note": "Because.", "actor": ROBOT, "now": NOON, **fields})


def events(name: str) -> int:
    return Event.objects.filter(name=name).count()


# ---------------------------------------------------------------------- policies


def test_adopt_policy__from_a_template__is_numbered_and_recorded() -> None:
    alice_ = alice()
    policy = adopt(template="standard", overrides={"checks": {"fairness": {"by": "origin"}}}, actor=alice_)

    assert policy.number == 1
    assert policy.document["template"] == "standard@2"
    assert policy.created_by == alice_
    assert Event.objects.get(name="policy.adopted").reason == "Because."


def test_adopt_policy__same_content_again__is_the_same_policy() -> None:
    first, second = (adopt(document={"checks": [rows.AUC]}) for _ in range(2))

    assert first == second
    assert events("policy.adopted") == 1


def test_adopt_policy__other_content__gets_the_next_number() -> None:
    adopt(document={"checks": [rows.AUC]})

    assert adopt(document={"checks": [{**rows.AUC, "at_least": 0.7}]}).number == 2


def test_adopt_policy__unknown_setting__is_refused_with_its_path() -> None:
    with pytest.raises(InvalidInput) as refused:
        adopt(template="experimental", overrides={"checks": {"auc-floor": {"at_lest": 0.5}}})

    assert refused.value.errors == {"checks.auc-floor.at_lest": ["There is no such setting."]}


def test_adopt_policy__template_below_the_models_tier__is_refused() -> None:
    critical = registered_model("credit", tier="high-stakes")
    with pytest.raises(InvalidInput, match="lower stakes"):
        actions.adopt_policy(
            critical, template="standard", overrides={"checks": {"fairness": None}}, note="", actor=ROBOT, now=NOON
        )


@pytest.mark.parametrize("given", [{}, {"template": "standard", "document": {"checks": []}}])
def test_adopt_policy__neither_or_both_forms__is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        adopt(**given)


@pytest.mark.parametrize("somebody", [charlie, paula, pete, audrey])
def test_adopt_policy__by_somebody_without_the_duty__is_refused(somebody: Any) -> None:
    with pytest.raises(NotPermitted):
        adopt(document={"checks": [rows.AUC]}, actor=somebody())


def test_adopt_policy__while_a_run_waits__judges_the_version_anew() -> None:
    rows.policy(rows.AUC, rows.CI)
    waiting = rows.running()

    rows.policy()

    waiting.refresh_from_db()
    again = GateRun.objects.get(version=waiting.version, number=2)
    assert waiting.state == "inconclusive"
    assert (again.policy.number, again.state) == (2, "running")


# ---------------------------------------------------------------------- evidence


def test_submit_evidence__has_our_verdict_and_its_event() -> None:
    evidence = rows.evidence("unit", rows.RED, actor=pete(), commit="abc123")

    assert (evidence.verdict, evidence.summary) == ("failed", "1 of 1 test failed (tests::test_a)")
    assert events("evidence.submitted") == 1


@pytest.mark.parametrize("digest", ["", "abc", "C0DE" * 16, "g" * 64])
def test_submit_evidence__without_a_digest_of_code__is_refused(digest: str) -> None:
    with pytest.raises(InvalidInput, match="code_digest"):
        rows.evidence("unit", code_digest=digest)


def test_submit_evidence__unknown_kind__is_refused() -> None:
    with pytest.raises(InvalidInput, match="kind"):
        rows.evidence("vibes")


def test_submit_evidence__unreadable_report__is_refused_and_leaves_nothing() -> None:
    with pytest.raises(InvalidInput, match="payload"):
        rows.evidence("unit", "all green, I promise")

    assert not Evidence.objects.exists()


def test_submit_evidence__by_a_stranger__is_refused() -> None:
    with pytest.raises(NotPermitted):
        rows.evidence("unit", actor=charlie())


# ---------------------------------------------------------------------- opening and waiting


def test_open_run__without_a_policy__is_refused() -> None:
    with pytest.raises(Conflict, match="no policy"):
        actions.open_run(rows.version(), actor=ROBOT, reason="", now=NOON)


def test_open_run__nothing_to_wait_for__begins_and_asks_for_the_measuring_once() -> None:
    run = rows.running()

    assert run.state == "running"
    assert run.required_checks == 1
    assert Job.objects.filter(kind="gates.evaluate").count() == 1
    assert (events("gate_run.opened"), events("gate_run.running")) == (1, 1)


def test_open_run__evidence_missing__waits_until_the_deadline() -> None:
    rows.policy(rows.CI, evidence_wait_hours=48)
    run = rows.running()

    assert run.state == "open"
    assert run.deadline == NOON + timedelta(hours=48)
    assert actions.missing_evidence(run) == ("lint", "unit")
    assert not Job.objects.filter(kind="gates.evaluate").exists()


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


# ---------------------------------------------------------------------- conclusion


def test_conclude__all_passed__passes_with_results_and_one_event() -> None:
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
    assert "policy 2 was adopted" in run.state_reason
    assert GateRun.objects.get(version=run.version, number=2).policy.number == 2


def test_rerun__after_a_failure__opens_the_next_run() -> None:
    run = rows.running()
    actions.conclude(run, [rows.judged("auc-floor", "failed")], actor=ROBOT, now=NOON)

    assert actions.rerun(run.version, actor=alice(), reason="New data.", now=NOON).number == 2


def test_rerun__passed_under_the_policy_in_force__is_refused() -> None:
    run = rows.passed()
    with pytest.raises(Conflict, match="nothing to prove"):
        actions.rerun(run.version, actor=ROBOT, reason="", now=NOON)


def test_rerun__passed_under_an_older_policy__opens_the_next_run() -> None:
    run = rows.passed()
    rows.policy({**rows.AUC, "at_least": 0.9})

    assert actions.rerun(run.version, actor=ROBOT, reason="", now=NOON).policy.number == 2
    assert CheckResult.objects.filter(gate_run=run).count() == 1
