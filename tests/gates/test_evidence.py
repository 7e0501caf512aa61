import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

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


@pytest.mark.parametrize("inside", [FAILURE, '<error message="fixture"/>'])
@pytest.mark.parametrize(
    "around",
    [
        "<testsuites>{green}{red}</testsuites>",
        "<testsuites>{red}{green}</testsuites>",
        "<testsuites>{green}<other>{red}</other></testsuites>",
        '<testsuites xmlns:x="urn:x">{green}<x:testsuite>{hidden}</x:testsuite></testsuites>',
        "<testsuite><testcase name='a'/><testcase name='b'>{red}</testcase></testsuite>",
    ],
)
def test_junit__a_failing_case_anywhere__fails(around: str, inside: str) -> None:
    red = CASE.format(1, inside)
    hidden = red.replace("testcase", "x:testcase")
    report = read("unit", around.format(green=f"<testsuite>{CASE.format(0, '')}</testsuite>", red=red, hidden=hidden))

    assert report.verdict == "failed"
    assert report.payload["failed"] == 1


def test_junit__a_suite_that_failed_as_a_whole__fails() -> None:
    assert read("unit", f"<testsuites><testsuite>{CASE.format(0, '')}{FAILURE}</testsuite></testsuites>").verdict == (
        "failed"
    )


def test_junit__cases_outside_of_a_suite__prove_nothing() -> None:
    case = CASE.format(0, "")
    beside = read("unit", f"<testsuites><testsuite>{case}</testsuite>{case}{case}</testsuites>")

    assert (beside.verdict, beside.payload["tests"]) == ("passed", 1)
    assert beside.summary == "1 test passed, 2 outside of a suite"
    alone = read("unit", f"<testsuites>{case}</testsuites>")
    assert (alone.verdict, alone.summary) == ("error", "no test ran, 1 outside of a suite")


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


@pytest.mark.parametrize("kind", ["unit", "lint", "coverage"])
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


@pytest.mark.parametrize("raw", ["{}", "[1]", '[{"message": "x"}]', "[" * 100_000, b"\xff\xfe"])
def test_lint__what_is_no_report__is_refused(raw: str | bytes) -> None:
    assert refusal("lint", raw)


TEXT = """model/train.py:3:80: E501 line too long (91 > 79 characters)
model/features.py:1:1: F401 'os' imported but unused
"""
CONCISE = """n.py:1:8: F401 [*] `os` imported but unused
s.py:2:1: invalid-syntax: unexpected EOF while parsing
Found 2 errors.
[*] 1 fixable with `--fix`.
"""


@pytest.mark.parametrize(
    "raw", [TEXT, CONCISE, TEXT + "2\n", TEXT.replace("\n", "\r\n"), "[x].py:1:1: E9 bad\n1\n1\n2"]
)
def test_lint__text_of_flake8_or_ruff__fails_with_its_findings(raw: str) -> None:
    report = read("lint", raw)

    assert report.verdict == "failed"
    assert report.payload["findings"] == 2


def test_lint__text__is_counted_by_rule_and_file() -> None:
    report = read("lint", TEXT)

    assert report.payload["rules"] == {"E501": 1, "F401": 1}
    assert report.payload["files"] == ["model/features.py", "model/train.py"]


def test_lint__file_that_can_not_be_parsed__fails_by_that_name() -> None:
    assert read("lint", '[{"code": null, "filename": "s.py"}]').payload["rules"] == {"invalid-syntax": 1}


@pytest.mark.parametrize("raw", ["All checks passed!\n", "0\n", "0"])
def test_lint__clean_text__passes(raw: str) -> None:
    assert read("lint", raw).verdict == "passed"


def test_lint__total_above_the_findings__counts() -> None:
    assert read("lint", "7").summary == "7 lint findings"


@pytest.mark.parametrize("raw", ["", "\n \n"])
def test_lint__empty_text__is_refused_because_it_proves_no_clean_run(raw: str) -> None:
    assert "--count" in refusal("lint", raw)


@pytest.mark.parametrize("raw", ["a.py:1: E501 no column", "flake8: command not found", TEXT + "Traceback", "a:1:1:x"])
def test_lint__line_that_is_no_finding__is_refused(raw: str) -> None:
    assert "is no finding" in refusal("lint", raw)


def test_lint__long_lines_of_colons__are_refused_at_once() -> None:
    assert refusal("lint", ":1" * 500_000)


# ---------------------------------------------------------------------- coverage


def coverage_json(*files: tuple[int, int], **totals: int) -> dict[str, Any]:
    """coverage.py's report; of each file how many lines ran and how many did not."""
    told = {
        f"model/m{position}.py": {
            "executed_lines": list(range(1, ran + 1)),
            "missing_lines": list(range(ran + 1, ran + missed + 1)),
        }
        for position, (ran, missed) in enumerate(files)
    }
    ran, missed = (sum(file[side] for file in files) for side in (0, 1))
    return {"files": told, "totals": {"num_statements": ran + missed, "covered_lines": ran, **totals}}


def cobertura(lines: str, totals: str = 'lines-valid="4" lines-covered="3"', methods: str = "") -> str:
    inside = f'<class filename="a.py"><methods>{methods}</methods><lines>{lines}</lines></class>'
    return f"<coverage {totals}><packages><package><classes>{inside}</classes></package></packages></coverage>"


FOUR = "".join(f'<line number="{number}" hits="{hits}"/>' for number, hits in enumerate((1, 9, 0, 1), start=1))


def test_coverage__json__is_counted_from_its_files() -> None:
    report = read("coverage", json.dumps(coverage_json((90, 10), (0, 20))))

    assert (report.verdict, report.summary) == ("passed", "90 of 120 lines covered (75.0%)")
    facts = {part: report.payload[part] for part in ("lines", "covered", "share")}
    assert facts == {"lines": 120, "covered": 90, "share": 0.75}
    assert report.payload["uncovered"] == {"model/m1.py": 20, "model/m0.py": 10}


def test_coverage__own_totals__can_only_make_it_worse() -> None:
    better = read("coverage", coverage_json((1, 9), num_statements=5, covered_lines=5))
    worse = read("coverage", coverage_json((9, 1), num_statements=20, covered_lines=2))

    assert (better.payload["share"], worse.payload["share"]) == (0.1, 0.1)


def test_coverage__line_both_run_and_missed__is_missed() -> None:
    report = coverage_json((4, 0))
    report["files"]["model/m0.py"]["missing_lines"] = [3, 4]

    assert read("coverage", report).payload["share"] == 0.5


def test_coverage__cobertura__counts_each_line_once() -> None:
    method = f"<method><lines>{FOUR.replace('9', '0')}</lines></method>"

    assert read("coverage", cobertura(FOUR, methods=method)).payload["share"] == 0.75
    assert read("coverage", cobertura(FOUR, totals="line-rate='1'")).payload["share"] == 0.75
    assert read("coverage", cobertura(FOUR, totals="lines-valid='8' lines-covered='3'")).payload["share"] == 0.375


def test_coverage__written_by_the_tool_itself__is_read_alike_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f(a):\n    if a:\n        return 1\n    return 2\n\n\nf(1)\n")
    measured = Coverage(data_file=None, include=[str(tmp_path / "*")])
    with measured.collect():
        runpy.run_path(str(tmp_path / "m.py"))
    measured.json_report(outfile=str(tmp_path / "c.json"))
    measured.xml_report(outfile=str(tmp_path / "c.xml"))

    for written in ("c.json", "c.xml"):
        report = read("coverage", (tmp_path / written).read_text())
        assert (report.payload["lines"], report.payload["covered"]) == (5, 4)


@pytest.mark.parametrize(
    "raw", [coverage_json(), coverage_json((0, 0)), cobertura("", "lines-valid='0' lines-covered='0'"), "<coverage/>"]
)
def test_coverage__no_line_measured__is_an_error(raw: Any) -> None:
    report = read("coverage", raw)

    assert report.verdict == "error"
    assert report.payload["share"] is None


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "92%",
        "[]",
        "{}",
        {"files": {"a": {}}, "totals": {}},
        {"files": {}, "totals": {"num_statements": -1, "covered_lines": 0}},
        {"files": {}, "totals": {"num_statements": True, "covered_lines": 0}},
        {"files": {"a": {"executed_lines": ["1"], "missing_lines": []}}, "totals": {}},
        "<testsuites/>",
        "<coverage>",
        cobertura('<line number="1" hits="-1"/>'),
        cobertura("", totals='lines-valid="all" lines-covered="1"'),
        "9" * 5000,
    ],
)
def test_coverage__what_is_no_report__is_refused(raw: Any) -> None:
    assert refusal("coverage", raw)


@pytest.mark.parametrize("raw", [EXTERNAL, LAUGHS, EXTERNAL.encode("utf-16")[2:], "<coverage>" * 5000])
def test_coverage__xml_that_attacks__is_refused_like_a_test_report(raw: str | bytes) -> None:
    assert refusal("coverage", raw)


# ---------------------------------------------------------------------- measurements


def test_measurement__is_kept_with_its_numbers_and_without_a_verdict_of_its_own() -> None:
    numbers = {"value": 1.2, "n": 300, "low": 1.1, "high": 1.3, "confidence": 0.95}
    report = read("measurement", {"metric": "revenue-per-user", **numbers})

    assert report.verdict == "inconclusive"
    assert report.payload == {"metric": "revenue-per-user", **numbers}
    assert report.summary == "revenue-per-user 1.2 [1.1, 1.3] at 0.95 confidence, n = 300: the policy judges it"


@pytest.mark.parametrize("bar", ["at_least", "at_most", "verdict", "passed", "threshold"])
def test_measurement__with_a_bar_of_its_own__is_refused_by_name(bar: str) -> None:
    said = refusal("measurement", {"metric": "x", "value": 1, bar: 0})

    assert bar in said
    assert "The policy judges" in said


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"value": None}, "value"),
        ({"value": "high"}, "value"),
        ({"value": True}, "value"),
        ({"value": 10**400}, "value"),
        ({"value": float("nan")}, "value"),
        ({"value": float("inf")}, "value"),
        ({"metric": ""}, "metric"),
        ({"metric": "a" * 101}, "metric"),
        ({"metric": "a\0b"}, "metric"),
        ({"metric": 7}, "metric"),
        ({"n": -1}, "n is how many"),
        ({"n": 1.5}, "n is how many"),
        ({"n": True}, "n is how many"),
        ({"n": 10**12}, "n is how many"),
        ({"low": 0.5}, "two sides"),
        ({"high": 1.5}, "two sides"),
        ({"low": 2.0, "high": 1.0}, "above high"),
        ({"low": 1.1, "high": 1.5}, "outside"),
        ({"low": float("-inf"), "high": 2.0}, "low"),
        ({"low": 0.5, "high": 1.5, "confidence": 95}, "confidence"),
        ({"confidence": 0.95}, "low and high"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_measurement__that_makes_no_sense__is_refused_with_what_is_wrong(wrong: dict[str, Any], named: str) -> None:
    assert named in refusal("measurement", {"metric": "x", "value": 1.0, **wrong})


@pytest.mark.parametrize("payload", ["0.4", [], None, {"value": 1}, {"metric": "x"}])
def test_measurement__what_is_none__is_refused(payload: Any) -> None:
    assert refusal("measurement", payload)
