"""What the tools wrote, read: a verdict and the numbers that decided. Nothing measured is never a pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatehouse.ci import KINDS, Project, ProjectError, revision_of
from gatehouse.ci.reports import Unreadable, read
from gatehouse.code import code_digest
from tests.sdk import model_code

CASE = '<testcase classname="tests.test_a" name="test_b"{}'
SKIPPED = CASE.format("><skipped/></testcase>")
GREEN = CASE.format("/>")
RED = CASE.format('><failure message="assert 1 == 2&#10;where"/></testcase>')
BROKEN = CASE.format('><error message="collection failure"/></testcase>')
FINDING = {"code": "F401", "filename": "train.py", "location": {"row": 3}, "message": "`os` imported but unused"}


def suite(*cases: str) -> str:
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


@pytest.mark.parametrize(
    ("cases", "verdict", "summary"),
    [
        ((GREEN, GREEN), "passed", "2 tests passed"),
        ((GREEN, SKIPPED), "passed", "1 test passed, 1 skipped"),
        ((GREEN, RED), "failed", "1 of 2 tests failed (tests.test_a::test_b)"),
        ((BROKEN,), "failed", "1 of 1 test failed (tests.test_a::test_b)"),
        ((SKIPPED,), "error", "no test ran, 1 skipped: nothing is proven"),
        ((), "error", "no test was collected: nothing is proven"),
    ],
)
def test_tests__by_their_cases__are_judged(cases: tuple[str, ...], verdict: str, summary: str) -> None:
    reading = read("unit", suite(*cases))
    assert (reading.verdict, reading.summary) == (verdict, summary)


def test_tests__that_failed__are_named_with_the_first_line_of_why() -> None:
    assert read("integration", suite(RED)).details == ("tests.test_a::test_b: assert 1 == 2",)


@pytest.mark.parametrize(
    ("findings", "verdict", "summary"),
    [
        ([], "passed", "no lint findings"),
        ([FINDING], "failed", "1 lint finding (F401 ×1)"),
        ([FINDING, FINDING, {"code": None}], "failed", "3 lint findings (F401 ×2, invalid-syntax ×1)"),
    ],
)
def test_lint__any_finding__fails(findings: list[object], verdict: str, summary: str) -> None:
    reading = read("lint", json.dumps(findings))
    assert (reading.verdict, reading.summary) == (verdict, summary)


def test_coverage__of_some_lines__says_which_are_missing() -> None:
    files = {"a.py": {"missing_lines": []}, "b.py": {"missing_lines": [3, 4]}}
    reading = read("coverage", json.dumps({"totals": {"num_statements": 8, "covered_lines": 6}, "files": files}))
    assert (reading.verdict, reading.summary) == ("passed", "6 of 8 lines covered (75.0%)")
    assert reading.details == ("b.py: 2 lines not covered",)


def test_coverage__of_nothing__is_an_error() -> None:
    assert read("coverage", '{"totals": {"num_statements": 0, "covered_lines": 0}}').verdict == "error"


@pytest.mark.parametrize(
    ("kind", "text"),
    [("unit", "not xml"), ("lint", "no json"), ("lint", "{}"), ("coverage", "[]"), ("coverage", '{"totals": {}}')],
)
def test_report__that_no_tool_writes__is_unreadable(kind: str, text: str) -> None:
    with pytest.raises(Unreadable):
        read(kind, text)


# ---------------------------------------------------------------------- what a folder declares


def test_project__names_its_model_in_a_file_of_its_own_or_in_pyproject(tmp_path: Path) -> None:
    own = Project.read(model_code.folder(tmp_path / "a"))
    shared = Project.read(
        model_code.folder(
            tmp_path / "b", gatehouse__dot__toml=None, pyproject__dot__toml='[tool.gatehouse]\nmodel = "fare"\n'
        )
    )
    bare = Project.read(model_code.folder(tmp_path / "c", gatehouse__dot__toml=None))
    assert (own.model, shared.model, bare.model) == ("late-arrival", "fare", "")
    assert own.kinds == KINDS


def test_project__what_is_asked_for__counts_before_what_is_declared(tmp_path: Path) -> None:
    at = model_code.folder(tmp_path, gatehouse__dot__toml='model = "a"\nkinds = ["unit", "lint"]\n')
    assert Project.read(at).kinds == ("lint", "unit")
    asked = Project.read(at, model="b", kinds=["unit"])
    assert (asked.model, asked.kinds) == ("b", ("unit",))


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ("model = 3", "model is the name"),
        ("modle = 'a'", "no setting modle"),
        ("model =", "is not TOML"),
        ("kinds = []", "kinds is a list of some of lint"),
        ("kinds = ['opinion']", "kinds is a list of some of lint"),
        ("kinds = ['lint', 'coverage']", "add one of them"),
    ],
)
def test_project__that_declares_nonsense__is_refused(tmp_path: Path, declared: str, why: str) -> None:
    with pytest.raises(ProjectError, match=why):
        Project.read(model_code.folder(tmp_path, gatehouse__dot__toml=declared))


def test_project__folder_that_is_missing_or_holds_no_code__is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="no folder"):
        Project.read(tmp_path / "none")
    with pytest.raises(ProjectError, match="no Python file"):
        Project.read(tmp_path)


# ---------------------------------------------------------------------- which code it was


def test_revision__clean_checkout__names_its_commit(tmp_path: Path) -> None:
    at = model_code.folder(tmp_path)
    commit = model_code.committed(at)
    (at / ".env").write_text("hidden files are no code")
    found = revision_of(at, env={})
    assert (found.commit, found.code_digest, found.remarks) == (commit, code_digest(at), ())


def test_revision__uncommitted_change__names_no_commit_and_says_why(tmp_path: Path) -> None:
    at = model_code.folder(tmp_path)
    model_code.committed(at)
    (at / "scorer.py").write_text("pass\n")
    (at / "new.py").write_text("pass\n")
    found = revision_of(at, env={"GITHUB_SHA": "f" * 40})
    assert found.commit == ""
    assert "Not committed: scorer.py, new.py" in found.remarks[0]


def test_revision__ignored_file_that_counts_as_code__is_told(tmp_path: Path) -> None:
    at = model_code.folder(tmp_path, __dot__gitignore="out/\n__pycache__/\n")
    commit = model_code.committed(at)
    for name in ("out", "__pycache__"):
        (at / name).mkdir()
        (at / name / "left.txt").write_text("x")
    found = revision_of(at, env={})
    assert found.commit == commit
    assert [remark.partition(",")[0] for remark in found.remarks] == ["git ignores out/"]


@pytest.mark.parametrize("name", ["GITHUB_SHA", "CI_COMMIT_SHA"])
def test_revision__without_a_repository__is_what_ci_says_or_the_caller(tmp_path: Path, name: str) -> None:
    at = model_code.folder(tmp_path)
    assert revision_of(at, env={name: "a" * 40, "GIT_DIR": "none"}).commit == "a" * 40
    assert revision_of(at, env={}).commit == ""
    assert revision_of(at, commit="b" * 40, env={name: "a" * 40}).commit == "b" * 40
