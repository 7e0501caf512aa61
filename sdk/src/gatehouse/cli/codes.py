"""Exit codes, which a CI job decides by, and how answers are printed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

PASSED, FAILED, USAGE, WAITS, TIMED_OUT, SERVER = range(6)
CHANGES = 2


def print_json(answer: Any) -> None:
    """A dataclass, or a list of them, as JSON."""
    rows = [dataclasses.asdict(each) for each in answer] if isinstance(answer, Sequence) else dataclasses.asdict(answer)
    print(json.dumps(rows, default=_iso, indent=2))


def _iso(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")
