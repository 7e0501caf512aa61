"""Evidence and gate runs over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from gates import actions
from gates.models import GateRun
from tests.builders import NOON, ROBOT, alice, audrey, charlie, paula, pete
from tests.gates import rows
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields

pytestmark = pytest.mark.django_db

EVIDENCE = "models/late-arrival/evidence/"
LINT = [{"code": "F401", "filename": "train.py"}]
COVERED = {
    "files": {"a.py": {"executed_lines": [1], "missing_lines": []}},
    "totals": {"num_statements": 1, "covered_lines": 1},
}


@pytest.mark.parametrize(
    ("kind", "report", "verdict"),
    [
        ("unit", rows.JUNIT, "passed"),
        ("integration", rows.RED, "failed"),
        ("unit", "<testsuite/>", "error"),
        ("lint", LINT, "failed"),
        ("lint", "[]", "passed"),
        ("lint", "train.py:1:1: F401 'os' imported but unused", "failed"),
        ("coverage", COVERED, "passed"),
    ],
)
def test_evidence__submitted__has_the_verdict_that_we_read(kind: str, report: Any, verdict: str) -> None:
    rows.policy()
    caller = Caller(pete())
    response = caller.post(EVIDENCE, {"kind": kind, "code_digest": rows.CODE, "report": report})

    assert response.status_code == 201
    found = caller.client.get(response["Location"]).json()
    assert (found["verdict"], found["submitted_by"]) == (verdict, "pete")


def test_measurement__submitted__is_about_its_version_and_found_by_it() -> None:
    version, caller = rows.version(), Caller(pete())
    report = {"metric": "revenue-per-user", "value": 1.2, "n": 300, "low": 1.1, "high": 1.3, "confidence": 0.95}
    body = {"kind": "measurement", "version": version.number, "report": report}
    response = caller.post(EVIDENCE, body)

    assert response.status_code == 201, response.content
    answer = response.json()
    assert (answer["version"], answer["name"], answer["verdict"]) == (
        version.number,
        "revenue-per-user",
        "inconclusive",
    )
    found = caller.get(EVIDENCE, version=version.number, name="revenue-per-user").json()["results"]
    assert [each["payload"] for each in found] == [report]
    assert caller.get(EVIDENCE, version=version.number + 1).json()["results"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": None}, "version"),
        ({"code_digest": rows.CODE}, "code_digest"),
        ({"report": {"metric": "x", "value": 1, "at_least": 0}}, "report"),
        ({"report": {"metric": "x", "value": 1, "n": -1}}, "report"),
        ({"name": "y"}, "name"),
    ],
)
def test_measurement__with_something_wrong__is_refused_by_field(change: dict[str, Any], field: str) -> None:
    body = {"kind": "measurement", "version": rows.version().number, "report": {"metric": "x", "value": 1}, **change}

    assert refused_fields(Caller(alice()).post(EVIDENCE, body)) == {field}


def test_measurement__of_a_version_that_is_not_there__is_not_found() -> None:
    body = {"kind": "measurement", "version": rows.version().number + 1, "report": {"metric": "x", "value": 1}}

    assert Caller(alice()).post(EVIDENCE, body).status_code == 404


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


def test_gate_run__under_way__tells_how_far_it_is_and_what_it_is_measured_on() -> None:
    rows.policy(rows.AUC, {**rows.AUC, "id": "second"})
    run = rows.running()
    rows.prepared(run)
    actions.record_result(run, rows.judged("auc-floor"), measured={"value": 0.7}, wall_seconds=1.5)

    answer = Caller(alice()).get(f"models/late-arrival/gate-runs/{run.pk}/").json()

    assert answer["progress"] == {"done": 1, "all": 2, "waiting_for": ["second"], "running": []}
    assert answer["checks"][0]["wall_seconds"] == 1.5
    assert answer["preparation"]["inputs"]["seed"] == run.seed
    assert answer["preparation"]["inputs_hash"] == run.preparation.inputs_hash


def test_gate_run__not_prepared_yet__has_no_preparation() -> None:
    run = rows.running()

    assert Caller(alice()).get(f"models/late-arrival/gate-runs/{run.pk}/").json()["preparation"] is None


def test_gate_run_check__tells_the_numbers_that_were_judged() -> None:
    run = rows.running()
    actions.record_result(run, rows.judged("auc-floor"), measured={"value": 0.7}, wall_seconds=1.5)
    url = f"models/late-arrival/gate-runs/{run.pk}/checks/"

    assert Caller(alice()).get(f"{url}auc-floor/").json()["measured"] == {"value": 0.7}
    assert problem(Caller(alice()).get(f"{url}brier/"))[0] == 404
    assert problem(Caller(charlie()).get(f"{url}auc-floor/"))[0] == 404


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
