import pytest

from gates import actions
from gates.standing import standing
from tests.builders import NOON, ROBOT
from tests.gates import rows

pytestmark = pytest.mark.django_db


def test_standing__without_a_policy__says_what_to_do() -> None:
    found = standing(rows.version())

    assert found.state == "unjudged"
    assert "adopt one" in found.message
    assert not found.may_enter_rollout


def test_standing__waiting__names_the_missing_evidence() -> None:
    rows.policy(rows.AUC, rows.CI)
    run = rows.running()
    rows.evidence("lint", "[]")
    found = standing(run.version)

    assert (found.state, found.missing_evidence) == ("open", ("unit",))
    assert "evidence: unit" in found.message


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
