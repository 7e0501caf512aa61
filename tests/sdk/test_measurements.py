"""Measurements of a version, and reports of code, from the SDK and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gatehouse import cli
from gates import actions
from gates.models import Evidence
from tests.builders import pete
from tests.gates import rows
from tests.mlops.calls import token
from tests.sdk import portal

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def command(*words: str) -> int:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(pete()))
        return cli.main(words, transport=portal.transport())

    return command


@pytest.fixture
def measurement(tmp_path: Path) -> str:
    path = tmp_path / "revenue.json"
    path.write_text(json.dumps({"metric": "revenue-per-user", "value": 1.2}))
    return str(path)


def test_post_measurement__of_a_version__is_evidence_about_it() -> None:
    version = rows.version()
    with portal.client(pete()) as client:
        told = client.post_measurement(
            "late-arrival", version.number, "revenue-per-user", 1.2, n=300, low=1.1, high=1.3, confidence=0.95
        )

    assert (told.version, told.name, told.verdict) == (version.number, "revenue-per-user", "inconclusive")
    assert repr(told).startswith(f"<Evidence revenue-per-user of v{version.number}: inconclusive")
    kept = actions.evidence_about(version).get().payload
    assert kept == {"metric": "revenue-per-user", "value": 1.2, "n": 300, "low": 1.1, "high": 1.3, "confidence": 0.95}


def test_evidence__measurement_by_the_command__exits_well_when_it_was_taken(run: Any, measurement: str) -> None:
    version = rows.version()

    assert run("evidence", "late-arrival", "measurement", measurement, "--version", str(version.number)) == 0
    assert Evidence.objects.get().version == version


def test_evidence__measurement_without_version_or_report_without_code__is_wrong_usage(
    run: Any, measurement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.version()

    assert run("evidence", "late-arrival", "measurement", measurement) == 2
    assert "--version N" in capsys.readouterr().err
    assert run("evidence", "late-arrival", "lint", measurement) == 2
    assert "--code FOLDER" in capsys.readouterr().err


def test_evidence__text_of_flake8_by_the_command__fails_with_its_findings(run: Any, tmp_path: Path) -> None:
    rows.version()
    report = tmp_path / "lint.txt"
    report.write_text("model/train.py:1:1: F401 'os' imported but unused\n1\n")

    assert run("evidence", "late-arrival", "lint", str(report), "--code-digest", rows.CODE) == 1
