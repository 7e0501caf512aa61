import json
from typing import Any

import pytest

from gates.evidence import MAXIMUM_BYTES, UnreadableEvidence, read

CASE = '<testcase classname="tests.test_model" name="test_{}" time="0.1">{}</testcase>'
FAILURE = '<failure message="assert 1 == 2">trace</failure>'


def junit(*cases: str, totals: str = "") -> str:
    """A report of one suite; each case is the inside of its element."""
    inside = "".join(CASE.format(position, case) for position, case in enumerate(cases))
    return f'<?xml version="1.0"?><testsuites><testsuite name="pytest" {totals}>{inside}</testsuite></testsuites>'


def refusal(kind: str, payload: Any) -> str:
    with pytest.raises(UnreadableEvidence) as refused:
        read(kind, payload)
    return str(refused.value)


def test_junit__all_green__passes_and_keeps_a_digest_instead_of_the_report() -> None:
    report = read("unit", junit("", "", "<skipped/>"))

    assert report.verdict == "passed"
    assert report.summary == "2 tests passed, 1 skipped"
    assert report.payload["tests"] == 2
    assert len(report.payload["report_sha256"]) == 64


def test_junit__single_suite_as_root__is_read() -> None:
    assert read("integration", '<testsuite><testcase name="a"/></testsuite>').payload["tests"] == 1


def test_junit__nested_suites__are_counted() -> None:
    nested = f"<testsuites><testsuite><testsuite>{CASE.format(1, FAILURE)}</testsuite></testsuite></testsuites>"

    assert read("unit", nested).verdict == "failed"


def test_junit__a_failure__fails_and_names_the_test() -> None:
    report = read("unit", junit("", FAILURE))

    assert report.verdict == "failed"
    assert report.summary == "1 of 2 tests failed (tests.test_model::test_1)"


def test_junit__an_error__fails() -> None:
    assert read("unit", junit("", '<error message="fixture"/>')).verdict == "failed"


def test_junit__failure_only_in_the_suites_totals__fails() -> None:
    assert read("unit", junit("", totals='tests="2" failures="0" errors="1"')).verdict == "failed"


@pytest.mark.parametrize("report", [junit(), "<testsuites/>", junit("<skipped/>"), junit(totals='tests="40"')])
def test_junit__no_test_ran__is_an_error(report: str) -> None:
    assert read("unit", report).verdict == "error"


@pytest.mark.parametrize(
    "raw", ["", "all good", "<html><body/></html>", "<testsuites>", junit("", totals='errors="many"')]
)
def test_junit__what_is_no_report__is_refused(raw: str) -> None:
    assert refusal("unit", raw)


EXTERNAL = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/hostname">]><testsuites>&secret;</testsuites>'
LAUGHS = '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;&a;">]><testsuites><testsuite name="&b;"/></testsuites>'


@pytest.mark.parametrize("raw", [EXTERNAL, LAUGHS, EXTERNAL.encode("utf-16")])
def test_junit__document_type_or_entities__is_refused(raw: str | bytes) -> None:
    assert "DOCTYPE" in refusal("unit", raw)


def test_junit__nested_beyond_reason__is_refused() -> None:
    assert "deep" in refusal("unit", "<testsuite>" * 5000 + "</testsuite>" * 5000)


@pytest.mark.parametrize("kind", ["unit", "lint"])
def test_report__too_large__is_refused(kind: str) -> None:
    assert "at most" in refusal(kind, " " * (MAXIMUM_BYTES + 1))


def test_lint__empty_list__passes() -> None:
    assert read("lint", "[]").verdict == "passed"
    assert read("lint", []).verdict == "passed"


def test_lint__findings__fail_and_are_counted_by_rule() -> None:
    findings = [{"code": "F401", "filename": "model/train.py"}, {"code": "F401", "filename": "a\0b.py"}]
    report = read("lint", json.dumps(findings))

    assert report.verdict == "failed"
    assert report.summary == "2 lint findings (F401 ×2)"
    assert report.payload["files"] == ["ab.py", "model/train.py"]


@pytest.mark.parametrize("raw", ["", "{}", "[1]", '[{"message": "x"}]', "[" * 100_000, b"\xff\xfe"])
def test_lint__what_is_no_report__is_refused(raw: str | bytes) -> None:
    assert refusal("lint", raw)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ({"value": 0.2, "at_most": 0.3}, "passed"),
        ({"value": 0.4, "at_most": 0.3}, "failed"),
        ({"value": 0.4, "at_least": 0.5}, "failed"),
        ({"value": 0.4}, "inconclusive"),
        ({"value": 0.4, "at_most": 0.5, "n": 0}, "inconclusive"),
        ({"value": None, "at_most": 0.5}, "error"),
        ({"value": float("nan"), "at_most": 0.5}, "error"),
    ],
)
def test_measurement__against_its_bar__has_our_verdict(measured: dict[str, Any], verdict: str) -> None:
    assert read("measurement", {"metric": "energy_kwh", **measured}).verdict == verdict


@pytest.mark.parametrize(
    "payload",
    [
        "0.4",
        {"metric": "x"},
        {"metric": "x", "value": "high"},
        {"metric": "x", "value": True},
        {"metric": "x", "value": 1, "verdict": "passed"},
        {"metric": "x", "value": 1, "at_most": float("nan")},
        {"metric": "x", "value": 10**400},
    ],
)
def test_measurement__what_is_none__is_refused(payload: Any) -> None:
    assert refusal("measurement", payload)
