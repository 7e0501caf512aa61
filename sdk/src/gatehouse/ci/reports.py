"""Read the reports that the tools wrote: a verdict, and a sentence with the numbers that decided.

The portal reads the same reports again and believes only its own reading; this one is for whoever waits at a terminal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

PASSED, FAILED, ERROR = "passed", "failed", "error"
NAMED = 3
"""How many failing tests or rules a summary names."""
DETAILS = 20


class Unreadable(ValueError):
    """A tool did not write the report that it should have."""


@dataclass(frozen=True)
class Reading:
    """``details`` are lines for a person who has to mend it."""

    verdict: str
    summary: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One kind of report. ``report`` is None when the tool did not end properly: there is nothing to submit then."""

    kind: str
    verdict: str
    summary: str
    seconds: float
    report: Path | None = None
    log: Path | None = None
    details: tuple[str, ...] = ()
    evidence: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "verdict": self.verdict,
            "summary": self.summary,
            "seconds": round(self.seconds, 2),
            "report": str(self.report) if self.report else None,
            "log": str(self.log) if self.log else None,
            "details": list(self.details),
            "evidence": self.evidence,
        }


def read(kind: str, text: str) -> Reading:
    """Raises Unreadable."""
    return READERS[kind](text)


def read_lint(text: str) -> Reading:
    """Ruff's JSON: a list of findings, empty when clean."""
    findings = _json(text)
    if not isinstance(findings, list) or not all(isinstance(each, dict) for each in findings):
        raise Unreadable("ruff's report is no list of findings")
    if not findings:
        return Reading(PASSED, "no lint findings")
    rules = Counter(str(each.get("code") or "invalid-syntax") for each in findings)
    named = ", ".join(f"{code} ×{count}" for code, count in rules.most_common(NAMED))
    counted = "1 lint finding" if len(findings) == 1 else f"{len(findings)} lint findings"
    return Reading(FAILED, f"{counted} ({named})", tuple(_finding(each) for each in findings[:DETAILS]))


def _finding(finding: Mapping[str, Any]) -> str:
    row = (finding.get("location") or {}).get("row", 0)
    return f"{finding.get('filename', '?')}:{row}: {finding.get('code') or ''} {finding.get('message', '')}"


def read_tests(text: str) -> Reading:
    """JUnit XML as pytest writes it. Tests that were skipped prove nothing: when none is left, it is an error."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as problem:
        raise Unreadable(f"the test report is no XML: {problem}") from problem
    cases = list(root.iter("testcase"))
    broken = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(1 for case in cases if case.find("skipped") is not None)
    ran = len(cases) - skipped
    aside = f", {skipped} skipped" if skipped else ""
    if broken:
        names = ", ".join(_name(case) for case in broken[:NAMED])
        details = tuple(f"{_name(case)}: {_why(case)}" for case in broken[:DETAILS])
        return Reading(FAILED, f"{len(broken)} of {_tests(ran)} failed ({names}){aside}", details)
    if not cases:
        return Reading(ERROR, "no test was collected: nothing is proven")
    if not ran:
        return Reading(ERROR, f"no test ran{aside}: nothing is proven")
    return Reading(PASSED, f"{_tests(ran)} passed{aside}")


def _tests(count: int) -> str:
    return "1 test" if count == 1 else f"{count} tests"


def _name(case: ElementTree.Element) -> str:
    return "::".join(part for part in (case.get("classname"), case.get("name")) if part)


def _why(case: ElementTree.Element) -> str:
    told = case.find("failure") if case.find("failure") is not None else case.find("error")
    message = told.get("message", "") if told is not None else ""
    return message.partition("\n")[0]


def read_coverage(text: str) -> Reading:
    """coverage.py's JSON. How much is enough is the policy's to say; having measured nothing is an error."""
    report = _json(text)
    totals = report.get("totals") if isinstance(report, dict) else None
    if not isinstance(totals, dict) or not {"num_statements", "covered_lines"} <= set(totals):
        raise Unreadable("the coverage report has no totals")
    lines, covered = totals["num_statements"], totals["covered_lines"]
    if not lines:
        return Reading(ERROR, "no line of code was measured")
    return Reading(PASSED, f"{covered:,} of {lines:,} lines covered ({covered / lines:.1%})", _least_covered(report))


def _least_covered(report: Mapping[str, Any]) -> tuple[str, ...]:
    missing = {name: len(file["missing_lines"]) for name, file in report.get("files", {}).items()}
    worst = sorted(missing, key=lambda name: -missing[name])[:DETAILS]
    return tuple(f"{name}: {missing[name]} lines not covered" for name in worst if missing[name])


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise Unreadable(f"the report is no JSON: {problem}") from problem


READERS: Mapping[str, Callable[[str], Reading]] = {
    "lint": read_lint,
    "unit": read_tests,
    "integration": read_tests,
    "coverage": read_coverage,
}
