"""A gate run as CI servers and pages read it: nothing that did not pass looks green."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml

from gatehouse import Check, GateRun, GateStanding, Standing
from gatehouse.gate_reports import junit, markdown, markdown_table
from tests.builders import NOON

GATES = GateStanding("failed", "auc-floor failed.", False, 7, 2, ())
STANDING = Standing("late-arrival", 3, "refused", "AUC is below 0.65.", None, False, True, GATES, ())


def check(check_id: str, verdict: str, *, blocking: bool = True, **fields: Any) -> Check:
    values: dict[str, Any] = {"value": 0.61, "low": 0.59, "high": 0.63, "n": 9000, "threshold": "roc_auc ≥ 0.65"}
    return Check(check_id, "metric", blocking, verdict, f"It {verdict}.", **values | fields)


def run(*checks: Check) -> GateRun:
    return GateRun(7, "late-arrival", 3, 1, 2, "failed", "", None, NOON, NOON, (), checks)


def passed() -> Standing:
    return replace(STANDING, gates=replace(GATES, state="passed", message="All passed.", may_enter_rollout=True))


def cases(xml: str) -> dict[str, str]:
    """Test case to what it has inside, output left out."""
    found = ElementTree.fromstring(xml).iter("testcase")
    return {case.get("name", ""): ",".join(each.tag for each in case if each.tag != "system-out") for case in found}


@pytest.mark.parametrize(
    ("verdict", "blocking", "inside"),
    [
        ("passed", True, ""),
        ("failed", True, "failure"),
        ("inconclusive", True, "error"),
        ("error", True, "error"),
        ("passed", False, ""),
        ("failed", False, "skipped"),
        ("error", False, "skipped"),
    ],
)
def test_junit__a_check__is_a_case_by_verdict_and_whether_it_blocks(verdict: str, blocking: bool, inside: str) -> None:
    xml = junit(passed(), run(check("auc-floor", verdict, blocking=blocking)))
    assert cases(xml) == {"auc-floor": inside, "gates": ""}


@pytest.mark.parametrize(
    ("state", "inside"), [("failed", "failure"), ("inconclusive", "error"), ("open", "error"), ("void", "error")]
)
def test_junit__gates_that_did_not_pass__are_never_green(state: str, inside: str) -> None:
    xml = junit(replace(STANDING, gates=replace(GATES, state=state)), None)
    assert cases(xml) == {"gates": inside}


def test_junit__as_another_library_reads_it__has_counts_messages_and_no_control_characters() -> None:
    xml = junit(
        STANDING, run(check("auc-floor", "failed"), replace(check("slow", "error"), message="odd \x00\x1b text"))
    )
    (suite,) = JUnitXml.fromstring(xml.encode())
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (3, 2, 1, 0)
    first, second, _ = list(suite)
    assert first.result[0].message == "It failed."
    assert "rule: roc_auc ≥ 0.65" in first.system_out
    assert second.result[0].message == "odd  text"


def test_markdown__verdict_first_then_a_row_per_check__with_numbers() -> None:
    page = markdown(STANDING, run(check("auc-floor", "failed"), check("drift", "passed", blocking=False, value=None)))
    assert page.splitlines()[0] == "## Gates of late-arrival v3: failed"
    assert "| auc-floor | failed | 0.61 \\[0.59, 0.63\\], n 9,000 | It failed. |" in page
    assert "| drift | passed (report only) |  | It passed. |" in page
    assert markdown(STANDING, None).splitlines()[2] == "AUC is below 0.65."


def test_markdown_table__text_of_somebody_else__stays_in_its_cell() -> None:
    table = markdown_table(("what",), [("a | b\n<img> `c`",)])
    assert table.splitlines()[2] == "| a \\| b \\<img\\> \\`c\\` |"
