"""``gate wait``, ``show`` and ``rerun``: what a CI job decides by, and the reports it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from django.contrib.auth.models import User

from gatehouse import cli
from gates import actions as gates
from tests.builders import NOON, alice, registered_model
from tests.gates import rows
from tests.mlops import world as building
from tests.mlops.calls import token
from tests.sdk import portal

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command as somebody; the exit code."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def command(user: User, *words: str) -> int:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(user))
        return cli.main(words, transport=portal.transport())

    return command


@pytest.mark.parametrize("verb", [("gate", "wait"), ("wait",), ("gate", "show")])
@pytest.mark.parametrize(("version", "code"), [("1", 0), ("2", 1)])
def test_gate__of_a_version_that_was_judged__exits_by_its_verdict(
    run: Any, verb: tuple[str, ...], version: str, code: int
) -> None:
    world = building.build()

    assert run(world.scientist, *verb, "delay-arrival", version) == code


def test_wait__for_a_failed_version__leaves_junit_and_a_summary(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = building.build()
    junit, page = tmp_path / "gates.xml", tmp_path / "gates.md"

    run(world.scientist, "gate", "wait", "delay-arrival", "2", "--junit", str(junit), "--summary", str(page))

    assert "failed       auc-floor: AUC 0.612" in capsys.readouterr().out
    assert [each.tag for each in ElementTree.parse(junit).iter() if each.tag in ("failure", "error")] == ["failure"] * 2
    assert page.read_text().startswith("## Gates of delay-arrival v2: failed")


def test_wait__without_a_policy_in_force__ends_at_once_for_a_person(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    version = rows.version()

    assert run(alice(), "gate", "wait", "late-arrival", str(version.number), "--timeout", "600") == 3
    assert "no policy in force: one has to be proposed" in capsys.readouterr().err
    document = {"checks": [rows.AUC]}
    gates.propose_policy(version.registered_model, document=document, note="First.", actor=alice(), now=NOON)
    assert run(alice(), "gate", "wait", "late-arrival", str(version.number), "--timeout", "600") == 3
    assert "Policy 1 of late-arrival is proposed: a second person has to confirm it." in capsys.readouterr().err


def test_wait__for_evidence_that_does_not_come__tells_for_what_when_the_time_is_over(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.policy(rows.CI)
    gate_run = rows.running()
    number = str(gate_run.version.number)
    junit = tmp_path / "gates.xml"

    assert run(alice(), "gate", "wait", "late-arrival", number, "--timeout", "0", "--junit", str(junit)) == 3

    said = capsys.readouterr().err
    assert "Somebody has to act" in said
    assert "lint, unit" in said
    assert ElementTree.parse(junit).find(".//error") is not None


def test_wait__while_it_is_measured__times_out(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    gate_run = rows.running()

    assert run(alice(), "gate", "wait", "late-arrival", str(gate_run.version.number), "--timeout", "0") == 4
    assert "After 0 s:" in capsys.readouterr().err


def test_wait__of_a_pass_under_an_older_policy__takes_a_person_to_rerun(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gate_run = rows.passed()
    rows.policy({**rows.AUC, "at_least": 0.7})
    number = str(gate_run.version.number)

    assert run(alice(), "gate", "wait", "late-arrival", number) == 3
    assert run(alice(), "gate", "rerun", "late-arrival", number, "--reason", "A new policy.") == 0
    assert f"of late-arrival v{number}: running" in capsys.readouterr().out
    assert run(alice(), "gate", "rerun", "late-arrival", number, "--reason", "Again.") == 2


def test_register__asked_for_the_number__prints_it_alone(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registered_model()
    (artifact := tmp_path / "model.skops").write_bytes(b"weights")

    assert run(alice(), "register", "late-arrival", str(artifact), "--number") == 0
    assert capsys.readouterr().out == "1\n"


def test_wait__while_checks_come_in__tells_each_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A portal that has more to say at each question; no job runs in a test of the command."""
    floor: dict[str, Any] = {
        "check_id": "auc-floor",
        "kind": "metric",
        "blocking": True,
        "verdict": "passed",
        "message": "Good.",
    }
    numbers = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 100, "threshold": "roc_auc ≥ 0.6"}
    runs: Iterator[dict[str, Any]] = iter(
        [
            {"checks": [], "progress": {"done": 0, "all": 2, "waiting_for": [], "running": ["auc-floor"]}},
            {"checks": [floor | numbers], "progress": {"done": 1, "all": 2, "waiting_for": [], "running": ["latency"]}},
            {"checks": [floor | numbers], "progress": {"done": 1, "all": 2, "waiting_for": [], "running": ["latency"]}},
            {"checks": [floor | numbers, floor | numbers | {"check_id": "latency"}], "progress": None},
        ]
    )
    states = iter(["running", "running", "running", "passed"])

    def answer(request: httpx.Request) -> httpx.Response:
        if "/gate-runs/" in request.url.path:
            told: dict[str, Any] = {
                "id": 7,
                "model": "late-arrival",
                "version": 3,
                "number": 1,
                "policy": 2,
                "champion": None,
            }
            times = {"state": "", "state_reason": "", "opened_at": NOON.isoformat(), "deadline": NOON.isoformat()}
            return httpx.Response(200, json=told | times | next(runs))
        state = next(states)
        gates: dict[str, Any] = {
            "state": state,
            "message": f"It is {state}.",
            "may_enter_rollout": state == "passed",
            "gate_run": 7,
        }
        place: dict[str, Any] = {
            "model": "late-arrival",
            "version": 3,
            "stage": "judged",
            "why": "So.",
            "since": None,
            "rollouts": [],
        }
        whole = {"is_champion": False, "gates_ended": state == "passed"}
        return httpx.Response(200, json=place | whole | {"gates": gates | {"policy": 2, "missing_evidence": []}})

    for name, value in (("GATEHOUSE_URL", portal.URL), ("GATEHOUSE_TOKEN", "gh_x")):
        monkeypatch.setenv(name, value)

    assert cli.main(["gate", "wait", "late-arrival", "3"], transport=httpx.MockTransport(answer)) == 0

    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "It is running.",
        "  0 of 2 checks done; running: auc-floor",
        "  passed       auc-floor",
        "  1 of 2 checks done; running: latency",
    ]
    assert "  passed       latency: Good." in said.out
