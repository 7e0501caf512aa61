"""Evidence and gate runs over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from gates import actions
from gates.models import GateRun
from tests.builders import NOON, ROBOT, alice, audrey, paula, pete
from tests.gates import rows
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields

pytestmark = pytest.mark.django_db

EVIDENCE = "models/late-arrival/evidence/"
LINT = [{"code": "F401", "filename": "train.py"}]
SPEED = {"metric": "training_minutes", "value": 12, "at_most": 30}


@pytest.mark.parametrize(
    ("kind", "report", "verdict"),
    [
        ("unit", rows.JUNIT, "passed"),
        ("integration", rows.RED, "failed"),
        ("unit", "<testsuite/>", "error"),
        ("lint", LINT, "failed"),
        ("lint", "[]", "passed"),
        ("measurement", SPEED, "passed"),
    ],
)
def test_evidence__submitted__has_the_verdict_that_we_read(kind: str, report: Any, verdict: str) -> None:
    rows.policy()
    caller = Caller(pete())
    response = caller.post(EVIDENCE, {"kind": kind, "code_digest": rows.CODE, "report": report})

    assert response.status_code == 201
    found = caller.client.get(response["Location"]).json()
    assert (found["verdict"], found["submitted_by"]) == (verdict, "pete")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "opinion"}, "kind"),
        ({"code_digest": "main"}, "code_digest"),
        ({"commit": "c" * 65}, "commit"),
        ({"report": "not xml"}, "report"),
        ({"report": {"xml": "\0"}}, "report"),
        ({"verdict": "passed"}, "verdict"),
    ],
)
def test_evidence__with_something_wrong__is_refused_by_field(change: dict[str, Any], field: str) -> None:
    rows.policy()
    body = {"kind": "unit", "code_digest": rows.CODE, "report": rows.JUNIT, **change}

    assert refused_fields(Caller(alice()).post(EVIDENCE, body)) == {field}


def test_evidence__of_somebody_without_the_duty__is_refused() -> None:
    rows.policy()
    body = {"kind": "unit", "code_digest": rows.CODE, "report": rows.JUNIT}

    assert [problem(Caller(user).post(EVIDENCE, body))[0] for user in (paula(), audrey())] == [403, 403]


def test_evidence__by_kind_and_code__is_found() -> None:
    rows.evidence("unit")
    rows.evidence("unit", code_digest="f00d" * 16)
    rows.evidence("lint", "[]")

    found = Caller(audrey()).get(EVIDENCE, kind="unit", code_digest=rows.CODE).json()["results"]

    assert [(row["kind"], row["verdict"]) for row in found] == [("unit", "passed")]


def test_gate_run__tells_every_check_with_its_numbers() -> None:
    world = building.build()
    answer = Caller(world.owner).get(f"models/delay-arrival/gate-runs/{world['refused_run'].pk}/").json()

    assert (answer["state"], answer["version"], answer["policy"]) == ("failed", 2, 1)
    check = answer["checks"][0]
    assert (check["check_id"], check["verdict"], check["value"], check["n"]) == ("auc-floor", "failed", 0.612, 9000)
    assert check["message"] == "AUC 0.612 [0.598, 0.626] is below 0.65"


def test_gate_run__that_waits__says_for_what() -> None:
    rows.policy(rows.AUC, rows.CI)
    version = rows.version()
    run = actions.open_run(version, actor=ROBOT, reason="Registered.", now=NOON)
    rows.evidence("lint", "[]")

    answer = Caller(alice()).get(f"models/late-arrival/gate-runs/{run.pk}/").json()

    assert (answer["state"], answer["missing_evidence"]) == ("open", ["unit"])


def test_gates__run_again__have_a_new_address_unless_passed_already() -> None:
    world = building.build()
    caller = Caller(world.scientist)
    again = caller.post("models/delay-arrival/gate-runs/", {"version": 2, "reason": "The data was mended."})

    assert again.status_code == 201
    assert caller.client.get(again["Location"]).json()["number"] == 2
    passed = caller.post("models/delay-arrival/gate-runs/", {"version": 1, "reason": "Once more."})
    assert problem(passed)[0] == 409


def test_gate_runs__of_one_version__are_listed() -> None:
    world = building.build()
    found = Caller(world.operator).get("models/delay-arrival/gate-runs/", version=2, state="failed").json()["results"]

    assert [row["id"] for row in found] == [world["refused_run"].pk]
    assert GateRun.objects.count() > 1
