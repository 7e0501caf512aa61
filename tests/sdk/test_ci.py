"""``gatehouse ci`` on real folders with the real tools: verdicts, reports, and evidence of exactly that code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gatehouse import cli
from gatehouse.code import code_digest
from gates.models import Evidence
from tests.builders import alice, registered_model
from tests.mlops.calls import token
from tests.sdk import model_code, portal

CI_VARIABLES = ("GATEHOUSE_URL", "GATEHOUSE_TOKEN", "GITHUB_STEP_SUMMARY", "GITHUB_SHA", "CI_COMMIT_SHA")


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """No portal, no CI, and not the Django project of this suite."""
    for name in (*CI_VARIABLES, "DJANGO_SETTINGS_MODULE"):
        monkeypatch.delenv(name, raising=False)


def checked(at: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what was found by kind."""
    code = cli.main(["--json", "ci", str(at), "--no-submit", "--jobs", "2", *words])
    told = json.loads(capsys.readouterr().out)
    return code, {result["kind"]: result for result in told["results"]}


def test_ci__of_sound_code__passes_and_leaves_the_code_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = model_code.folder(tmp_path / "code")
    before, names = code_digest(at), sorted(each.name for each in at.iterdir())

    code, found = checked(at, capsys)

    assert code == 0
    assert {kind: result["verdict"] for kind, result in found.items()} == dict.fromkeys(found, "passed")
    assert found["unit"]["summary"] == found["integration"]["summary"] == "1 test passed"
    assert found["coverage"]["summary"] == "3 of 4 lines covered (75.0%)"
    assert code_digest(at) == before
    assert sorted(each.name for each in at.iterdir()) == sorted([*names, ".gatehouse"])
    assert (at / ".gatehouse" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("left_out", ['exclude = ["*"]', 'include = ["nothing.py"]'])
def test_ci__lint_that_leaves_out_all_code__is_an_error_and_hands_in_nothing(
    left_out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = model_code.folder(tmp_path / "code", ruff__dot__toml=f"{left_out}\n", scorer__dot__py="import os\n")

    code, found = checked(at, capsys, "--kind", "lint")

    assert code == 1
    assert (found["lint"]["verdict"], found["lint"]["report"]) == ("error", None)
    assert "leave out every Python file" in found["lint"]["summary"]
    assert not (at / ".gatehouse" / "lint.json").exists()


def test_ci__of_broken_code__says_what_is_broken_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = model_code.folder(tmp_path / "code", scorer__dot__py="import os\n\n\ndef score(minutes):\n    return 2\n")

    assert cli.main(["ci", str(at), "--no-submit", "--jobs", "2", "--reports", str(tmp_path / "reports")]) == 1

    said = capsys.readouterr()
    assert "lint         failed   1 lint finding (F401 ×1)" in said.out
    assert "unit         failed   1 of 1 test failed (tests.test_scorer::test_score__an_hour__is_one)" in said.out
    assert "Not submitted: code" in said.out
    assert "scorer.py:1: F401 `os` imported but unused" in said.err
    assert "test_score__an_hour__is_one: assert 2 == 1" in said.err
    assert json.loads((tmp_path / "reports" / "lint.json").read_text())[0]["filename"] == "scorer.py"
    assert ElementTree.parse(tmp_path / "reports" / "unit.xml").find(".//failure") is not None


def test_ci__without_tests_of_a_kind__is_an_error_not_a_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only_unit = "from scorer import score\n\n\ndef test_score() -> None:\n    assert score(60) == 1\n"
    at = model_code.folder(tmp_path / "code", tests__test_scorer__dot__py=only_unit)

    code, found = checked(at, capsys)

    assert code == 1
    assert (found["unit"]["verdict"], found["integration"]["verdict"]) == ("passed", "error")
    assert found["integration"]["summary"] == "no test was collected: nothing is proven"
    assert found["integration"]["report"]


def test_ci__of_tests_that_can_not_be_collected__fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = model_code.folder(tmp_path / "code", tests__test_scorer__dot__py="import nowhere\n")

    code, found = checked(at, capsys, "--kind", "unit")

    assert (code, found["unit"]["verdict"]) == (1, "failed")
    assert "nowhere" in (at / ".gatehouse" / "unit.log").read_text()


def test_ci__of_a_run_that_dies_or_never_ends__is_an_error_without_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dies = "import os\n\n\ndef test_dies() -> None:\n    os._exit(3)\n"
    waits = "import subprocess, sys\n\n\ndef test_waits() -> None:\n    subprocess.run(['sleep', '600'])\n"
    one = model_code.folder(tmp_path / "one", tests__test_scorer__dot__py=dies)
    two = model_code.folder(tmp_path / "two", tests__test_scorer__dot__py=waits)

    code, found = checked(one, capsys, "--kind", "unit")
    assert (code, found["unit"]["verdict"], found["unit"]["report"]) == (1, "error", None)
    assert "pytest ended with exit code 3" in found["unit"]["summary"]
    code, found = checked(two, capsys, "--kind", "unit", "--timeout", "3")
    assert (code, found["unit"]["verdict"]) == (1, "error")
    assert "took too long" in found["unit"]["summary"]


def test_ci__green_report_of_a_run_that_ended_badly__is_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends_badly = "def pytest_sessionfinish(session):\n    session.exitstatus = 1\n"
    at = model_code.folder(tmp_path / "code", conftest__dot__py=ends_badly)

    code, found = checked(at, capsys, "--kind", "unit")

    assert (code, found["unit"]["verdict"], found["unit"]["report"]) == (1, "error", None)


def test_ci__settings_of_another_test_run_and_the_token__do_not_reach_the_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = (
        "import os\n\n\ndef test_environment() -> None:\n"
        "    assert not {'GATEHOUSE_TOKEN', 'PYTEST_ADDOPTS', 'PYTEST_XDIST_WORKER'} & set(os.environ)\n"
    )
    at = model_code.folder(tmp_path / "code", tests__test_scorer__dot__py=looks)
    for name, value in (("GATEHOUSE_TOKEN", "secret"), ("PYTEST_ADDOPTS", "-k no"), ("PYTEST_XDIST_WORKER", "gw0")):
        monkeypatch.setenv(name, value)

    assert checked(at, capsys, "--kind", "unit")[0] == 0


def test_ci__that_can_not_begin__is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = model_code.folder(tmp_path / "code", gatehouse__dot__toml=None)

    assert cli.main(["ci", str(at)]) == 2
    assert "Set GATEHOUSE_URL" in capsys.readouterr().err
    assert cli.main(["ci", str(tmp_path / "none"), "--no-submit"]) == 2
    assert cli.main(["ci", str(at), "--no-submit", "--reports", str(at / "reports")]) == 2
    assert "would change the digest" in capsys.readouterr().err
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    assert cli.main(["ci", str(at), "--no-submit", "--python", str(bare)]) == 2
    assert "coverage, pytest, pytest-cov, ruff: not installed" in capsys.readouterr().err


def test_ci__tests_that_write_into_the_code__are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writes = "from pathlib import Path\n\n\ndef test_writes() -> None:\n    Path('left.txt').write_text('x')\n"
    at = model_code.folder(tmp_path / "code", tests__test_scorer__dot__py=writes)

    assert cli.main(["ci", str(at), "--no-submit", "--kind", "unit"]) == 1
    assert "The files changed while they were checked" in capsys.readouterr().out


def test_ci__in_github__adds_to_the_step_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (page := tmp_path / "page.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))

    assert cli.main(["ci", str(model_code.folder(tmp_path / "code")), "--no-submit", "--kind", "lint"]) == 0

    assert page.read_text().startswith("before\n## Code of late-arrival\n")
    assert "| lint | passed | no lint findings |" in page.read_text()


@pytest.mark.django_db
def test_ci__with_a_portal__submits_each_report_as_evidence_of_this_code_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered_model()
    at = model_code.folder(tmp_path / "code")
    commit = model_code.committed(at)
    monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
    monkeypatch.setenv("GATEHOUSE_TOKEN", token(alice()))

    assert cli.main(["ci", str(at), "--jobs", "2"], transport=portal.transport()) == 0

    found = Evidence.objects.order_by("id").values_list("kind", "verdict", "summary")
    assert list(found) == [
        ("lint", "passed", "no lint findings"),
        ("unit", "passed", "1 test passed"),
        ("integration", "passed", "1 test passed"),
        ("coverage", "passed", "3 of 4 lines covered (75.0%)"),
    ]
    assert set(Evidence.objects.values_list("code_digest", "commit")) == {(code_digest(at), commit)}
    assert "Submitted to late-arrival as evidence" in capsys.readouterr().out


@pytest.mark.django_db
def test_ci__with_a_portal_and_red_tests__submits_them_too_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered_model()
    at = model_code.folder(tmp_path / "code", tests__test_scorer__dot__py="def test_red() -> None:\n    assert False\n")
    monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
    monkeypatch.setenv("GATEHOUSE_TOKEN", token(alice()))

    assert cli.main(["ci", str(at), "--jobs", "2"], transport=portal.transport()) == 1

    found = dict(Evidence.objects.values_list("kind", "verdict"))
    assert (found["unit"], found["integration"]) == ("failed", "error")
    assert set(Evidence.objects.values_list("commit", flat=True)) == {""}
    bare = model_code.folder(tmp_path / "bare", gatehouse__dot__toml=None)
    assert cli.main(["ci", str(bare)], transport=portal.transport()) == 2
