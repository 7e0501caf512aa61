"""Read the reports that a pipeline submits, and judge them ourselves: the sender's own opinion counts for nothing.

* ``unit``, ``integration``: JUnit XML, as pytest, Jest, Maven and most others write it;
* ``lint``: ruff's JSON (``ruff check --output-format json``): a list of findings, empty when clean;
* ``measurement``: ``{"metric", "value", "n", "at_least" | "at_most"}``: something only the pipeline can measure.

Reports come from outside: their size is capped, and XML with a document type (external or nested entities) is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers import expat

from junitparser import JUnitXml, JUnitXmlError, TestCase

from gates.judge import VerdictName

MAXIMUM_BYTES = 5 * 2**20
MAXIMUM_DEPTH = 30
"""Elements inside elements; JUnit needs six."""
KEPT_NAMES = 20
"""How many failing tests or lint findings are kept by name."""


class UnreadableEvidence(ValueError):
    """The payload is no report of its kind; the message says what would be."""


@dataclass(frozen=True)
class Report:
    """What a report says: our verdict, a sentence, and the parts worth keeping (never the report itself)."""

    verdict: VerdictName
    summary: str
    payload: dict[str, Any] = field(default_factory=dict)


def read(kind: str, payload: Any) -> Report:
    """Judge one report of ``kind``. Raises UnreadableEvidence."""
    return _READERS[kind](payload)


# ---------------------------------------------------------------------- tests


def read_junit(payload: Any) -> Report:
    """Counts are taken from the test cases themselves; the suites' own totals can only make it worse."""
    raw = _bytes(payload)
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
        "report_sha256": hashlib.sha256(raw).hexdigest(),
        "tests": ran,
        "failed": bad,
        "skipped": len(skipped),
        "failures": [_name(case) for case in broken[:KEPT_NAMES]],
    }
    aside = f", {len(skipped)} skipped" if skipped else ""
    if bad:
        named = f" ({', '.join(_name(case) for case in broken[:3])})" if broken else ""
        return Report("failed", f"{bad} of {_tests(max(ran, bad))} failed{named}{aside}"[:300], facts)
    if ran == 0:
        return Report("error", f"no test ran{aside}", facts)
    return Report("passed", f"{_tests(ran)} passed{aside}", facts)


def _tests(count: int) -> str:
    return "1 test" if count == 1 else f"{count} tests"


def _name(case: TestCase) -> str:
    return _text("::".join(part for part in (case.classname, case.name) if part), 200)


def _claimed_failures(raw: bytes) -> int:
    """The most failures and errors that any suite's totals claim (a crashed fixture may have no case of its own).

    This first pass also refuses a document type, before anything can be expanded, and nesting that no test report has.
    """
    depth = claimed = 0

    def refuse(*_: Any) -> None:
        raise UnreadableEvidence("A report with a document type (DOCTYPE) or entities is not accepted.")

    def deeper(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, claimed
        depth += 1
        if depth > MAXIMUM_DEPTH:
            raise UnreadableEvidence(f"Elements are nested more than {MAXIMUM_DEPTH} deep; this is no test report.")
        if name in {"testsuite", "testsuites"}:
            claimed = max(claimed, sum(_count(attributes.get(total, "")) for total in ("failures", "errors")))

    def higher(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = deeper
    parser.EndElementHandler = higher
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as problem:
        raise UnreadableEvidence(f"This is not XML: {problem}.") from problem
    return claimed


def _count(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UnreadableEvidence(f"A suite's total {text[:20]!r} is no count.")
    return int(text or 0)


# ---------------------------------------------------------------------- lint


def read_ruff(payload: Any) -> Report:
    """A list of findings, each with a ``code`` and a ``filename``; any finding fails."""
    raw = _bytes(payload) if isinstance(payload, str | bytes) else _bytes(json.dumps(payload))
    findings = _loads(raw)
    if not isinstance(findings, list) or not all(isinstance(each, dict) and "code" in each for each in findings):
        raise UnreadableEvidence("A lint report is ruff's JSON: a list of findings with a code (empty when clean).")
    rules = Counter(_text(each["code"], 40) for each in findings)
    facts = {
        "report_sha256": hashlib.sha256(raw).hexdigest(),
        "findings": len(findings),
        "rules": dict(rules.most_common(KEPT_NAMES)),
        "files": sorted({_text(each.get("filename", ""), 200) for each in findings})[:KEPT_NAMES],
    }
    if findings:
        named = ", ".join(f"{code} ×{count}" for code, count in rules.most_common(3))
        counted = "1 lint finding" if len(findings) == 1 else f"{len(findings)} lint findings"
        return Report("failed", f"{counted} ({named})"[:300], facts)
    return Report("passed", "no lint findings", facts)


# ---------------------------------------------------------------------- measurements


def read_measurement(payload: Any) -> Report:
    """One number with at most two bars. Without one it is inconclusive: there is nothing to judge it by."""
    known = ("metric", "value", "n", "at_least", "at_most")
    if not isinstance(payload, Mapping) or not {"metric", "value"} <= set(payload) <= set(known):
        raise UnreadableEvidence(f"A measurement has metric and value; it may also have {', '.join(known[2:])}.")
    name = _text(payload["metric"], 100)
    value = _number(payload, "value")
    n, least, most = (_bar(payload, each) for each in ("n", "at_least", "at_most"))
    measured = value is not None and math.isfinite(value)
    facts = {"metric": name, "value": value if measured else None, "n": n, "at_least": least, "at_most": most}
    if value is None or not measured:
        return Report("error", f"{name} was not measured", facts)
    told = f"{name} {value:.6g}"
    if n == 0 or (least is None and most is None):
        return Report("inconclusive", f"{told}: nothing to judge it by", facts)
    short = (least is not None and value < least) or (most is not None and value > most)
    given = (("at least", least), ("at most", most))
    bars = " and ".join(f"{words} {bar:g}" for words, bar in given if bar is not None)
    return Report("failed" if short else "passed", f"{told}, {bars} is required", facts)


def _number(payload: Mapping[str, Any], name: str) -> float | None:
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableEvidence(f"{name} must be a number.")
    try:
        return float(value)
    except OverflowError as problem:
        raise UnreadableEvidence(f"{name} is too large a number.") from problem


def _bar(payload: Mapping[str, Any], name: str) -> float | None:
    """A NaN here would be a bar that everything clears."""
    number = _number(payload, name)
    if number is not None and not math.isfinite(number):
        raise UnreadableEvidence(f"{name} must be a finite number.")
    return number


# ---------------------------------------------------------------------- bytes


def _text(value: Any, longest: int) -> str:
    """The end of a text as it may be stored: PostgreSQL's JSON can not hold a NUL."""
    return str(value).replace("\0", "")[-longest:]


def _bytes(payload: Any) -> bytes:
    if isinstance(payload, str):
        payload = payload.encode()
    if not isinstance(payload, bytes):
        raise UnreadableEvidence("A report is sent as its text.")
    if len(payload) > MAXIMUM_BYTES:
        raise UnreadableEvidence(f"The report has {len(payload):,} bytes; at most {MAXIMUM_BYTES:,} are accepted.")
    return payload


def _loads(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise UnreadableEvidence(f"This is not JSON: {problem}.") from problem


_READERS: Mapping[str, Callable[[Any], Report]] = {
    "unit": read_junit,
    "integration": read_junit,
    "lint": read_ruff,
    "measurement": read_measurement,
}
