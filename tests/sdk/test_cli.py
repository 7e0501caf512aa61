"""The command's exit codes are what a CI job decides by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User

from gatehouse import cli
from tests.builders import alice, registered_model
from tests.gates import rows
from tests.mlops import world as building
from tests.mlops.calls import token
from tests.sdk import portal

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command as somebody; the exit code."""

    def command(user: User, *words: str, transport: httpx.BaseTransport | None = None) -> int:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(user))
        return cli.main(words, transport=transport or portal.transport())

    return command


@pytest.mark.parametrize(
    ("version", "code", "said"), [(1, 0, "champion"), (2, 1, "AUC 0.612 [0.598, 0.626] is below 0.65")]
)
def test_status__tells_where_a_version_is_and_exits_by_its_gates(
    run: Any, capsys: pytest.CaptureFixture[str], version: int, code: int, said: str
) -> None:
    world = building.build()

    assert run(world.scientist, "status", "delay-arrival", str(version)) == code
    assert said in capsys.readouterr().out


def test_status__as_json__is_the_standing(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world = building.build()
    run(world.scientist, "--json", "status", "delay-arrival", "3")

    assert json.loads(capsys.readouterr().out)["stage"] == "canary"


def test_status_and_wait__of_a_version_that_waits__are_three_and_four(run: Any) -> None:
    world = building.build()
    building.a_version(world, "New.")

    assert run(world.scientist, "status", "delay-arrival", "5") == 3
    assert run(world.scientist, "wait", "delay-arrival", "5", "--timeout", "0") == 4
    assert run(world.scientist, "wait", "delay-arrival", "2") == 1


def test_register__with_a_lineage_file__prints_the_version(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registered_model()
    (artifact := tmp_path / "model.skops").write_bytes(b"weights")
    (lineage := tmp_path / "lineage.json").write_text(json.dumps({"seed": 3, "parameters": {"C": 1}}))
    words = ("register", "late-arrival", str(artifact), "--lineage", str(lineage), "--code", str(tmp_path))

    assert run(alice(), *words, "--note", "First.") == 0
    assert capsys.readouterr().out.startswith("late-arrival v1 ")
    lineage.write_text('{"sed": 3}')
    assert run(alice(), *words) == 2
    assert "a lineage is a JSON object with some of claims, code_digest, commit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "report", "code"), [("unit", rows.JUNIT, 0), ("unit", rows.RED, 1), ("lint", "[]", 0), ("lint", "{}", 2)]
)
def test_evidence__exits_by_the_verdict_that_was_read(
    run: Any, tmp_path: Path, kind: str, report: str, code: int
) -> None:
    registered_model()
    (path := tmp_path / "report").write_text(report)

    assert run(alice(), "evidence", "late-arrival", kind, str(path), "--code-digest", rows.CODE) == code


def test_command__that_is_refused_or_can_not_ask__exits_by_who_has_to_act(run: Any, tmp_path: Path) -> None:
    registered_model()
    gone = httpx.MockTransport(lambda request: httpx.Response(500))

    assert run(alice(), "status", "nobody", "1") == 2
    assert run(alice(), "register", "late-arrival", str(tmp_path / "missing")) == 2
    assert run(alice(), "status", "late-arrival", "1", transport=gone) == 5
    assert cli.main(["--url", "", "status", "late-arrival", "1"]) == 2
    with pytest.raises(SystemExit) as usage:
        run(alice(), "evidence", "late-arrival", "opinion", "x", "--code-digest", "y")
    assert usage.value.code == 2
