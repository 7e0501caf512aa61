"""What the pages of reports need to tell values apart."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from django import template

register = template.Library()

HASH = re.compile(r"[0-9a-f]{40,128}")
REFERENCES = 12
"""So many proofs are named beside a field; the JSON has all."""


@register.filter
def is_hash(value: Any) -> bool:
    """A digest, key or signature: shown whole, in a fixed width."""
    return isinstance(value, str) and HASH.fullmatch(value) is not None


@register.filter
def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@register.filter
def is_list(value: Any) -> bool:
    return isinstance(value, list)


@register.filter
def plain(value: Any) -> str:
    """The value as it stands in the canonical JSON: no thousands separators, no rounding."""
    return value if isinstance(value, str) else json.dumps(value)


@register.filter
def event_name(content: str) -> str:
    """What an event is called and about what, from its sealed content."""
    values = json.loads(content)
    return f"{values[0]} · {values[3]}"


@register.filter
def references(evidence: Sequence[str]) -> str:
    """Events by number, digests by their first characters; they stand in full elsewhere."""
    events = [each.removeprefix("event:") for each in evidence if each.startswith("event:")]
    digests = [each.removeprefix("sha256:")[:12] + "…" for each in evidence if each.startswith("sha256:")]
    more = f" and {len(events) - REFERENCES} more" if len(events) > REFERENCES else ""
    named = f"event{'s' if len(events) > 1 else ''} {', '.join(events[:REFERENCES])}{more}" if events else ""
    return " · ".join(part for part in (named, ", ".join(f"sha256 {each}" for each in digests)) if part)
