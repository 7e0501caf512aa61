"""JUnit XML: what tests ran, and which of them failed."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import ParseError

from junitparser import JUnitXml, JUnitXmlError, TestCase

from gates.evidence.markup import count, walk
from gates.evidence.report import KEPT_NAMES, SUMMARY, Report, UnreadableEvidence, as_bytes, digest, text


def read_junit(payload: Any) -> Report:
    """Counts are taken from the test cases themselves; the suites' own totals can only make it worse.

    No test that ran (none collected, all skipped) is an error: a green report of nothing proves nothing.
    """
    raw = as_bytes(payload)
    claimed = _claimed_failures(raw)
    try:
        suites = list(JUnitXml.fromstring(raw))
    except (JUnitXmlError, ParseError) as problem:
        raise UnreadableEvidence(f"This is not JUnit XML: {problem}.") from problem
    cases = [case for suite in suites for case in suite]
    skipped = [case for case in cases if case.is_skipped]
    broken = [case for case in cases if case.is_failure or case.is_error]
    bad, ran = max(len(broken), claimed), len(cases) - len(skipped)
    facts = {
        "report_sha256": digest(raw),
        "tests": ran,
        "failed": bad,
        "skipped": len(skipped),
        "failures": [_name(case) for case in broken[:KEPT_NAMES]],
    }
    aside = f", {len(skipped)} skipped" if skipped else ""
    if bad:
        named = f" ({', '.join(_name(case) for case in broken[:3])})" if broken else ""
        return Report("failed", f"{bad} of {_tests(max(ran, bad))} failed{named}{aside}"[:SUMMARY], facts)
    if ran == 0:
        return Report("error", f"no test ran{aside}", facts)
    return Report("passed", f"{_tests(ran)} passed{aside}", facts)


def _tests(ran: int) -> str:
    return "1 test" if ran == 1 else f"{ran} tests"


def _name(case: TestCase) -> str:
    return text("::".join(part for part in (case.classname, case.name) if part), 200)


def _claimed_failures(raw: bytes) -> int:
    """The most failures and errors that any suite's totals claim (a crashed fixture may have no case of its own).

    This first pass also refuses what ``markup.walk`` refuses, before the library that reads the cases sees it.
    """
    claimed = 0

    def opened(name: str, attributes: dict[str, str]) -> None:
        nonlocal claimed
        if name in {"testsuite", "testsuites"}:
            totals = (count(attributes.get(total, ""), "A suite's total") for total in ("failures", "errors"))
            claimed = max(claimed, sum(totals))

    walk(raw, opened)
    return claimed
