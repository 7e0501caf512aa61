"""How long single predictions take. Milliseconds in, quantiles with distribution-free intervals out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import Interval, finite, quantile_interval


@dataclass(frozen=True)
class LatencySummary:
    """Quantiles of single-row latency in milliseconds; None where the sample is too small for an interval."""

    n: int
    p50: Interval | None
    p95: Interval | None
    p99: Interval | None
    longest: float | None


def summarize(milliseconds: ArrayLike, *, confidence: float = 0.95) -> LatencySummary:
    """p50, p95 and p99 of a sample of single-row latencies."""
    values = finite(milliseconds, "milliseconds")
    p50, p95, p99 = (quantile_interval(values, q, confidence=confidence) for q in (0.50, 0.95, 0.99))
    return LatencySummary(len(values), p50, p95, p99, float(values.max()) if len(values) else None)


def ratio(first: ArrayLike, second: ArrayLike, *, q: float = 0.5) -> float | None:
    """Quantile of the first sample over the same quantile of the second; None without values on both sides."""
    above, below = finite(first, "first"), finite(second, "second")
    if not len(above) or not len(below) or np.quantile(below, q) == 0:
        return None
    return float(np.quantile(above, q) / np.quantile(below, q))
