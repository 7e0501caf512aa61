"""A metric of the version alone."""

from __future__ import annotations

from dataclasses import asdict

from gates.frozen import Frozen, Json
from gates.policy import MetricCheck
from stats.metrics import METRICS


def measure(check: MetricCheck, frozen: Frozen) -> Json:
    """``rows`` and ``value``, an interval (None where the metric has no value on these rows)."""
    y, p = frozen.all_scored()
    value = METRICS[check.metric].value(y, p, threshold=frozen.document.threshold, confidence=check.confidence)
    return {"rows": len(y), "value": asdict(value) if value else None}
