"""JUnit XML: what tests ran, and which of them failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import ParseError

from junitparser import JUnitXml, JUnitXmlError, TestCase

from gates.evidence.markup import count, walk
from gates.evidence.report import KEPT_NAMES, SUMMARY, Report, UnreadableEvidence, as_bytes, digest, text


@dataclass
class _Seen:
    """What our own walk over the elements counts, wherever they stand.

    ``claimed``: the most failures and errors that any suite's totals claim (a crashed fixture may have no case).
    """

    cases: int = 0
    broken: int = 0
    claimed: int = 0


def read_junit(payload: Any) -> Report:
    """Counts are taken from the test cases themselves; the suites' own totals can only make it worse.

    Cases outside of any suite prove nothing, but when one of them failed the report has failed. No test that ran (none
    collected, all skipped) is an error: a green report of nothing proves nothing.
    """
    raw = as_bytes(payload)
    seen = _walked(raw)
    try:
        suites = list(JUnitXml.fromstring(raw))
    except (JUnitXmlError, ParseError) as problem:
        raise UnreadableEvidence(f"This is not JUnit XML: {problem}.") from problem
    cases = [case for suite in suites for case in suite]
    skipped = [case for case in cases if case.is_skipped]
    broken = [case for case in cases if case.is_failure or case.is_error]
    bad, ran = max(len(broken), seen.broken, seen.claimed), min(len(cases), seen.cases) - len(skipped)
    facts = {
        "report_sha256": digest(raw),
        "tests": ran,
        "failed": bad,
        "skipped": len(skipped),
        "failures": [_name(case) for case in broken[:KEPT_NAMES]],
    }
    outside = seen.cases - len(cases)
    aside = f", {len(skipped)} skipped" if skipped else ""
    aside += f", {outside} outside of a suite" if outside > 0 else ""
    if bad:
        named = f" ({', '.join(_name(case) for case in broken[:3])})" if broken else ""
        return Report("failed", f"{bad} of {_tests(max(ran, bad))} failed{named}{aside}"[:SUMMARY], facts)
    if ran <= 0:
        return Report("error", f"no test ran{aside}", facts)
    return Report("passed", f"{_tests(ran)} passed{aside}", facts)


def _tests(ran: int) -> str:
    return "1 test" if ran == 1 else f"{ran} tests"


def _name(case: TestCase) -> str:
    return text("::".join(part for part in (case.classname, case.name) if part), 200)


def _walked(raw: bytes) -> _Seen:
    """Count cases, broken cases and claims; also what a namespace or a strange place hides from the library.

    This first pass also refuses what ``markup.walk`` refuses, before the library that reads the cases sees it.
    """
    seen = _Seen()
    is_broken: list[bool] = []  # of each case that is open

    def opened(name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if local in {"testsuite", "testsuites"}:
            totals = (count(attributes.get(total, ""), "A suite's total") for total in ("failures", "errors"))
            seen.claimed = max(seen.claimed, sum(totals))
        elif local == "testcase":
            seen.cases += 1
            is_broken.append(False)
        elif local in {"failure", "error"} and is_broken:
            is_broken[-1] = True
        elif local in {"failure", "error"}:
            seen.broken += 1  # of a suite as a whole

    def closed(name: str) -> None:
        if name.rpartition(":")[2] == "testcase" and is_broken.pop():
            seen.broken += 1

    walk(raw, opened, closed)
    return seen
