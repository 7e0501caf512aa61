"""How many rows would decide: the arithmetic of sample sizes."""

from __future__ import annotations

import math

from stats.interval import Interval, z_for

POWER = 0.9
"""The chance that so many rows decide. Planned from the spread of the rows at hand, at least .85 come of it."""
POWER_WITH_REACH = 0.95
"""Planned for where the most that a row could pull is estimated too: .85 and more come of it."""
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


def rows_to_decide(
    measured: Interval, distance: float, *, power: float | None = None, reach: float = 0.0
) -> int | None:
    """The same for an interval at hand, whose wider side tells the variance of a row.

    With ``reach``, the room for rows unseen that ``stats.metrics.rows.with_unseen`` gave is taken out of the variance:
    it shrinks with the rows themselves, not with their root.
    """
    if power is None:
        power = POWER_WITH_REACH if reach else POWER
    half, z = max(measured.high - measured.estimate, measured.estimate - measured.low), z_for(measured.confidence)
    unseen = reach * z**2 / (measured.n + z**2)
    variance = measured.n * half * max(half - unseen, 0.0) / z**2
    if reach == 0 or distance <= 0:
        return rows_to_show(variance, distance, confidence=measured.confidence, power=power)
    from scipy.special import ndtri

    def is_short(n: int) -> bool:
        error, room = math.sqrt(variance / n), reach * z**2 / (n + z**2) / 2
        return room + math.hypot(z * error, room) + float(ndtri(power)) * error > distance

    if is_short(MOST):
        return None
    short, enough = 0, MOST
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (middle, enough) if is_short(middle) else (short, middle)
    return enough
