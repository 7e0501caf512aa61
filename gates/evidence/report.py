"""What every reader of evidence shares: the report that comes out, and the bytes that come in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from gates.judge import VerdictName

MAXIMUM_BYTES = 5 * 2**20
KEPT_NAMES = 20
"""How many failing tests, lint findings or files are kept by name."""
SUMMARY = 300
"""Characters of a summary."""


class UnreadableEvidence(ValueError):
    """The payload is no report of its kind; the message says what would be."""


@dataclass(frozen=True)
class Report:
    """What a report says: our verdict, a sentence, and the parts worth keeping (never the report itself)."""

    verdict: VerdictName
    summary: str
    payload: dict[str, Any] = field(default_factory=dict)


def as_bytes(payload: Any) -> bytes:
    """The report as it was sent. Raises UnreadableEvidence when it is no text, or too much of it."""
    if isinstance(payload, str):
        try:
            payload = payload.encode()
        except UnicodeEncodeError as problem:
            raise UnreadableEvidence(f"This is no text: {problem}.") from problem
    if not isinstance(payload, bytes):
        raise UnreadableEvidence("A report is sent as its text.")
    if len(payload) > MAXIMUM_BYTES:
        raise UnreadableEvidence(f"The report has {len(payload):,} bytes; at most {MAXIMUM_BYTES:,} are accepted.")
    return payload


def json_bytes(payload: Any) -> bytes:
    """The same of a report in JSON, which may also be sent as an object or a list."""
    return as_bytes(payload if isinstance(payload, str | bytes) else json.dumps(payload))


def loads(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as problem:  # a ValueError also for numbers of thousands of digits
        raise UnreadableEvidence(f"This is not JSON: {problem}.") from problem


def text(value: Any, longest: int) -> str:
    """The end of a text as it may be stored: PostgreSQL's JSON can hold neither a NUL nor half of a surrogate pair."""
    return str(value).replace("\0", "").encode(errors="replace").decode()[-longest:]


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
