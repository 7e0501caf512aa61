import pytest

from gates import actions
from gates.standing import progress, standing
from jobs.models import Job
from tests.builders import NOON, ROBOT
from tests.gates import rows

pytestmark = pytest.mark.django_db


def test_standing__without_a_policy__says_what_to_do() -> None:
    found = standing(rows.version())

    assert found.state == "unjudged"
    assert "propose one" in found.message
    assert not found.may_enter_rollout


def test_standing__waiting__names_the_missing_evidence() -> None:
    rows.policy(rows.AUC, rows.CI)
    run = rows.running()
    rows.evidence("lint", "[]")
    found = standing(run.version)

    assert (found.state, found.missing_evidence) == ("open", ("unit",))
    assert "evidence: unit" in found.message


def test_standing__running__says_how_far_it_is() -> None:
    run = rows.running()

    assert standing(run.version).message.endswith("UTC: 0 of 1 checks are done.")


def test_standing__failed__gives_the_reason() -> None:
    run = rows.running()
    actions.conclude(run, [rows.judged("auc-floor", "failed")], actor=ROBOT, now=NOON)

    assert standing(run.version).message == "1 of 1 blocking checks failed. auc-floor: It failed."


def test_standing__passed__may_enter_a_rollout() -> None:
    found = standing(rows.passed().version)

    assert found.as_dict()["may_enter_rollout"] is True
    assert found.as_dict()["policy"] == 1


def test_standing__passed_under_a_policy_replaced_since__is_void() -> None:
    run = rows.passed()
    rows.policy({**rows.AUC, "at_least": 0.9})
    found = standing(run.version)

    assert found.state == "void"
    assert not found.may_enter_rollout
    assert "policy 2 is in force" in found.message


# ---------------------------------------------------------------------- how far a run is

BRIER = {"id": "brier", "kind": "metric", "metric": "brier", "at_most": 0.3}
SPEED = {"id": "speed", "kind": "latency", "p95_ms": 20}


def test_progress__open__waits_for_evidence() -> None:
    rows.policy(rows.AUC, rows.CI)
    run = rows.running()
    rows.evidence("lint", "[]")

    assert progress(run).as_dict() == {"done": 0, "all": 2, "waiting_for": ["unit"], "running": []}


def test_progress__running__tells_what_is_done_under_way_and_to_come() -> None:
    rows.policy(rows.AUC, BRIER, SPEED)
    run = rows.running()
    Job.objects.filter(key=actions.job_key(run)).update(state="running")
    assert progress(run).running == ("preparation",)

    Job.objects.update(state="done")
    rows.prepared(run)
    actions.record_result(run, rows.judged("auc-floor"), measured={}, wall_seconds=1.0)
    Job.objects.create(kind=actions.CHECK, key=actions.check_key(run, "brier"), state="running")

    found = progress(run)
    assert (found.done, found.all) == (1, 3)
    assert (found.running, found.waiting_for) == (("brier",), ("speed",))


def test_progress__ended__waits_for_nothing() -> None:
    found = progress(rows.passed())

    assert found.as_dict() == {"done": 1, "all": 1, "waiting_for": [], "running": []}


def test_progress__of_one_run__counts_no_jobs_of_another() -> None:
    first = rows.running()
    second = rows.running(rows.version())
    Job.objects.filter(key=actions.job_key(second)).update(state="running")

    assert progress(first).running == ()
