"""XML from outside, read without ever expanding anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from gates.evidence.report import UnreadableEvidence

MAXIMUM_DEPTH = 30
"""Elements inside elements; JUnit needs six, Cobertura eight."""

Opened = Callable[[str, dict[str, str]], None]
Closed = Callable[[str], None]


def walk(raw: bytes, opened: Opened, closed: Closed | None = None) -> None:
    """Call ``opened`` and ``closed`` for each element, in order.

    Refused are a document type (DOCTYPE), with it every entity, before anything could be expanded, and nesting that no
    report has. Raises UnreadableEvidence.
    """
    depth = 0

    def refuse(*_: Any) -> None:
        raise UnreadableEvidence("A report with a document type (DOCTYPE) or entities is not accepted.")

    def deeper(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAXIMUM_DEPTH:
            raise UnreadableEvidence(f"Elements are nested more than {MAXIMUM_DEPTH} deep; this is no report.")
        opened(name, attributes)

    def higher(name: str) -> None:
        nonlocal depth
        depth -= 1
        if closed is not None:
            closed(name)

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = deeper
    parser.EndElementHandler = higher
    try:
        parser.Parse(raw, True)
    except (expat.ExpatError, UnicodeError, LookupError) as problem:  # the latter two: an encoding that is none
        raise UnreadableEvidence(f"This is not XML: {problem}.") from problem


def count(digits: str, what: str) -> int:
    """A count from an attribute; empty is 0. Raises UnreadableEvidence."""
    if digits and not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise UnreadableEvidence(f"{what} {digits[:20]!r} is no count.")
    return int(digits or 0)
