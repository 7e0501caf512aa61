"""Lint: ruff's JSON, or a line per finding as flake8 and ruff print them."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from gates.evidence.report import KEPT_NAMES, SUMMARY, Report, UnreadableEvidence, digest, json_bytes, loads, text

SYNTAX = "invalid-syntax"
ACCEPTED = (
    "A lint report is ruff's JSON (a list of findings with a code, empty when clean), or text of one finding a line: "
    "path:line:col: CODE message."
)
# flake8's default format and ruff's concise one: "model/train.py:3:80: E501 line too long (91 > 79 characters)"
_FINDING = re.compile(r"(?P<path>.{1,1000}?):\d{1,7}:\d{1,7}: (?P<code>[A-Za-z][A-Za-z0-9-]{0,39})(?::? |$)")
_CLEAN = "All checks passed!"
_TOTAL = re.compile(r"(?:Found )?(\d{1,9})(?: errors?\b.*)?$")
_ASIDE = re.compile(r"\[\*\] \d+ fixable |No fixes available")


def read_lint(payload: Any) -> Report:
    """Any finding fails."""
    raw = json_bytes(payload)
    findings, total = _from_json(raw) if raw.lstrip()[:1] in (b"[", b"{") and not _is_text(raw) else _from_text(raw)
    rules = Counter(code for code, _ in findings)
    found = max(len(findings), total)
    facts = {
        "report_sha256": digest(raw),
        "findings": found,
        "rules": dict(rules.most_common(KEPT_NAMES)),
        "files": sorted({path for _, path in findings})[:KEPT_NAMES],
    }
    if found:
        named = ", ".join(f"{code} ×{times}" for code, times in rules.most_common(3))
        counted = "1 lint finding" if found == 1 else f"{found} lint findings"
        return Report("failed", (f"{counted} ({named})" if named else counted)[:SUMMARY], facts)
    return Report("passed", "no lint findings", facts)


def _is_text(raw: bytes) -> bool:
    """A text whose first path starts with a bracket."""
    return _FINDING.match(raw.lstrip().split(b"\n", 1)[0].decode(errors="replace")) is not None


def _from_json(raw: bytes) -> tuple[list[tuple[str, str]], int]:
    findings = loads(raw)
    if not isinstance(findings, list) or not all(isinstance(each, dict) and "code" in each for each in findings):
        raise UnreadableEvidence(ACCEPTED)
    # a file that can not be parsed has no rule in older releases of ruff
    return [(text(each["code"] or SYNTAX, 40), text(each.get("filename", ""), 200)) for each in findings], 0


def _from_text(raw: bytes) -> tuple[list[tuple[str, str]], int]:
    """The findings as (code, path), and the total that the text ends with, where it has one."""
    try:
        lines = [line.rstrip() for line in raw.decode().splitlines() if line.strip()]
    except UnicodeDecodeError as problem:
        raise UnreadableEvidence(ACCEPTED) from problem
    if not lines:
        raise UnreadableEvidence(
            "An empty text does not tell a clean run from one that never was: send flake8's with --count (it ends with "
            "0), or ruff's JSON."
        )
    findings: list[tuple[str, str]] = []
    total = 0
    for number, line in enumerate(lines, start=1):
        if found := _FINDING.match(line):
            findings.append((text(found["code"], 40), text(found["path"], 200)))
        elif summed := _TOTAL.match(line):
            total = max(total, int(summed[1]))
        elif line != _CLEAN and not _ASIDE.match(line):
            raise UnreadableEvidence(f"Line {number} ({text(line[:60], 60)!r}) is no finding. {ACCEPTED}")
    return findings, total
