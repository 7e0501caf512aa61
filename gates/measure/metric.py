"""A metric of the version alone."""

from __future__ import annotations

from dataclasses import asdict

from gates.frozen import Frozen, Json
from gates.policy import MetricCheck
from stats.contrast import rows_that_speak
from stats.metrics import METRICS


def measure(check: MetricCheck, frozen: Frozen) -> Json:
    """``rows``, how many of them the metric rests on (``speaking``), and ``value``, an interval (None without one)."""
    y, p = frozen.all_scored()
    threshold = frozen.document.threshold
    value = METRICS[check.metric].value(y, p, threshold=threshold, confidence=check.confidence)
    speaking = rows_that_speak(check.metric, y, p, threshold=threshold)
    return {"rows": len(y), "speaking": speaking, "value": asdict(value) if value else None}
