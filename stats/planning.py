"""How many rows would decide: the arithmetic of sample sizes."""

from __future__ import annotations

import math

from stats.interval import Interval, z_for

POWER = 0.9
"""The chance that so many rows decide. Planned from the spread of the rows at hand, at least .85 come of it."""
MOST = 10**9


def rows_to_show(variance: float, distance: float, *, confidence: float, power: float = POWER) -> int | None:
    """Rows until the bound of a two-sided interval clears a bar ``distance`` away, with probability ``power``.

    n = (z_confidence + z_power)² · variance / distance² (Chow, Shao & Wang 2008, eq. 3.1.2), ``variance`` of one row's
    contribution. None where no reachable number would do.
    """
    if distance <= 0:
        return None
    from scipy.special import ndtri

    needed = (z_for(confidence) + float(ndtri(power))) ** 2 * variance / distance**2
    return math.ceil(needed) if needed <= MOST else None


def rows_to_decide(measured: Interval, distance: float, *, power: float = POWER) -> int | None:
    """The same for an interval at hand, whose wider side tells the variance of a row."""
    half = max(measured.high - measured.estimate, measured.estimate - measured.low)
    variance = measured.n * (half / z_for(measured.confidence)) ** 2
    return rows_to_show(variance, distance, confidence=measured.confidence, power=power)
