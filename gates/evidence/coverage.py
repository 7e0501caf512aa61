"""Coverage: which share of the code's lines the tests ran, from coverage.py's JSON or from Cobertura XML."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from gates.evidence.markup import count, walk
from gates.evidence.report import KEPT_NAMES, Report, UnreadableEvidence, digest, json_bytes, loads, text

ACCEPTED = "A coverage report is coverage.py's JSON (`coverage json`) or Cobertura XML (`coverage xml`)."

Lines = tuple[int, int]
"""(lines, covered)"""


def read_coverage(payload: Any) -> Report:
    """Lines are counted file by file; the report's own totals can only make it worse. What share is enough is the
    policy's to say: here a report passes when anything was measured at all.
    """
    raw = json_bytes(payload)
    by_file, (claimed, claimed_covered) = _from_xml(raw) if raw.lstrip()[:1] == b"<" else _from_json(raw)
    lines = max(sum(lines for lines, _ in by_file.values()), claimed)
    covered = min(sum(covered for _, covered in by_file.values()), claimed_covered)
    share = covered / lines if lines else None
    worst = sorted(by_file, key=lambda name: by_file[name][1] - by_file[name][0])[:KEPT_NAMES]
    facts = {
        "report_sha256": digest(raw),
        "lines": lines,
        "covered": covered,
        "share": share,
        "uncovered": {
            text(name, 200): by_file[name][0] - by_file[name][1] for name in worst if _uncovered(by_file[name])
        },
    }
    if share is None:
        return Report("error", "no line of code was measured", facts)
    return Report("passed", f"{covered:,} of {lines:,} lines covered ({share:.1%})", facts)


def _uncovered(lines: Lines) -> bool:
    return lines[1] < lines[0]


def _from_json(raw: bytes) -> tuple[dict[str, Lines], Lines]:
    report = loads(raw)
    files, totals = (report.get(part) for part in ("files", "totals")) if isinstance(report, dict) else (None, None)
    if not isinstance(files, dict) or not isinstance(totals, dict):
        raise UnreadableEvidence(ACCEPTED)
    by_file = {}
    for name, file in files.items():
        ran, missed = (_line_numbers(file, part) for part in ("executed_lines", "missing_lines"))
        by_file[name] = (len(ran | missed), len(ran - missed))
    return by_file, (_total(totals, "num_statements"), _total(totals, "covered_lines"))


def _line_numbers(file: Any, part: str) -> set[int]:
    numbers = file.get(part) if isinstance(file, Mapping) else None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise UnreadableEvidence(f"Each file of a coverage report lists its {part}. {ACCEPTED}")
    return set(numbers)


def _total(totals: Mapping[str, Any], name: str) -> int:
    number = totals.get(name)
    if type(number) is not int or not 0 <= number < 10**9:
        raise UnreadableEvidence(f"The totals of a coverage report have {name}. {ACCEPTED}")
    return number


def _from_xml(raw: bytes) -> tuple[dict[str, Lines], Lines]:
    """Lines of classes, once each: a line of a method stands there a second time, and a file may hold many classes."""
    hits: dict[str, dict[int, int]] = defaultdict(dict)
    claimed: list[Lines] = []
    files: list[str] = []

    def opened(name: str, attributes: dict[str, str]) -> None:
        if name == "coverage":
            valid, covered = (attributes.get(total) for total in ("lines-valid", "lines-covered"))
            if valid is not None and covered is not None:
                claimed.append((count(valid, "lines-valid"), count(covered, "lines-covered")))
            else:
                claimed.append((0, 10**9))  # older writers give rates alone: nothing that could make it worse
        elif not claimed:
            raise UnreadableEvidence(ACCEPTED)
        elif name == "class":
            files.append(attributes.get("filename", ""))
        elif name == "line" and files:
            number, times = (count(attributes.get(part, ""), f"A line's {part}") for part in ("number", "hits"))
            lines = hits[files[-1]]
            lines[number] = max(lines.get(number, 0), times)

    def closed(name: str) -> None:
        if name == "class":
            files.pop()

    walk(raw, opened, closed)
    by_file = {name: (len(lines), sum(times > 0 for times in lines.values())) for name, lines in hits.items()}
    return by_file, claimed[0]
