"""The demo's business metric is computed from its answers and what became of the flights."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa

from mlops.demo.advice import BAD_ADVICE, Advice
from rollout import business
from tests.builders import NOON


def test_advice__is_weighed_once_its_outcome_is_known() -> None:
    advice = Advice("delay-warning")
    requests = pa.table({"request_id": list("abcd"), "flight_number": ["UA1", "UA1", "B62", "B63"]})
    advice.give(requests, pa.table({"request_id": list("abcd"), "decision": [True, False, True, None]}))
    landed = NOON + timedelta(hours=2)
    known = {"request_id": ["a", "b", "c", "d", "unheard"], "label": [0.0, 1.0, 1.0, 0.0, 0.0]}
    outcomes = pa.table({**known, "arrived_at": pa.array([landed] * 5, pa.timestamp("us", "UTC"))})
    advice.weigh(outcomes)
    advice.weigh(outcomes)  # nothing is said twice

    found = business.read("delay-warning", BAD_ADVICE["name"], since=NOON, until=landed).sort_by("request_id")
    assert found["value"].to_pylist() == [1.0, 3.0, 0.0]
    assert found["entity"].to_pylist() == ["UA1", "UA1", "B62"]
    assert advice.given == {}
