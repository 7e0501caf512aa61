"""What the product makes of each answer: a needless warning costs the traveller something, a delay unannounced more.

Weighed as the endpoint's threshold weighs them: who acts from 1/4 on holds a missed delay for three times as bad.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa

from rollout import business
from rollout.models import Better, MeasuredPer, Missing

NEEDLESS, UNANNOUNCED = 1.0, 3.0
BAD_ADVICE: dict[str, Any] = {
    "name": "bad-advice",
    "title": "Bad advice to a flight's travellers",
    "unit": "points",
    "per": MeasuredPer.ENTITY,
    "better": Better.LOWER,
    "window": timedelta(days=2),
    "missing": Missing.UNKNOWN,  # a flight that never lands is neither
    "tolerated_harm": 0.5,
    "guards": False,
    "reason": "A point for a needless warning, three for a delay that nobody announced. First we watch how it varies.",
}


@dataclass
class Advice:
    """What was answered about which flight, until it is known what became of it."""

    endpoint: str
    given: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def give(self, requests: pa.Table, answers: pa.Table) -> None:
        """Remember the decisions of a step; ``answers`` are ``gateway.serve``'s, in the order of ``requests``."""
        decided = zip(requests["flight_number"].to_pylist(), answers["decision"].to_pylist(), strict=True)
        self.given |= dict(zip(answers["request_id"].to_pylist(), decided, strict=True))

    def weigh(self, outcomes: pa.Table) -> None:
        """Report what the answers were worth of which the outcome has arrived."""
        reports = []
        columns = (outcomes[name].to_pylist() for name in ("request_id", "label", "arrived_at"))
        for request, late, arrived in zip(*columns, strict=True):
            flight, warned = self.given.pop(request, ("", None))
            if warned is not None:
                value = NEEDLESS if warned and not late else UNANNOUNCED if late and not warned else 0.0
                said = {"report": f"request:{request}", "entity": flight, "request_id": request, "value": value}
                reports.append({**said, "at": arrived, "arrived_at": arrived})
        if reports:
            table = pa.Table.from_pylist(reports, schema=business.REPORT)
            business.append(self.endpoint, BAD_ADVICE["name"], table)
