"""Differences and ratios of shares by score tests, which stay sound for small counts and for shares of none or all."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, Interval, z_for

STEPS = 60
HALF_STEP = 0.5


def paired_z(better: ArrayLike, worse: ArrayLike, n: int, difference: float) -> FloatArray:
    """Tango's score statistic for H0: share A − share B = ``difference`` on the same ``n`` rows (Tango 1998, eq. 7).

    ``better`` counts rows that A alone got right, ``worse`` those that B alone did. Half a row is taken off the
    distance (continuity correction), so that the error stays below the nominal one at small counts as well.
    """
    b, c = np.asarray(better, dtype=np.float64), np.asarray(worse, dtype=np.float64)
    linear = -b - c + (2 * n - b + c) * difference
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * difference * (1 - difference), 0.0))
    variance = n * (2 * (root - linear) / (4 * n) + difference * (1 - difference))
    return _studentised(b - c - n * difference, variance, HALF_STEP)


def paired_difference(better: int, worse: int, n: int, *, confidence: float) -> Interval | None:
    """Share A minus share B on the same ``n`` rows, by inverting ``paired_z``; None without rows.

    Without a single discordant row the interval still has a width: about z²/n, what so few rows can not show.
    """
    if n == 0:
        return None
    if better < 0 or worse < 0 or better + worse > n:
        raise ValueError(f"{better} and {worse} discordant rows do not fit into {n}")
    z, estimate = z_for(confidence), (better - worse) / n

    def statistic(difference: float) -> float:
        return float(paired_z(better, worse, n, difference))

    low = _crossing(lambda each: statistic(each) >= z, -1.0, estimate)
    high = -_crossing(lambda each: statistic(-each) <= -z, -1.0, -estimate)
    return Interval(estimate, low, high, n, confidence)


def difference_z(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, difference: float) -> FloatArray:
    """Score statistic for H0: p1 − p2 = ``difference`` of independent shares x/n (Farrington & Manning 1990, A.1)."""
    p1, p2, ratio = x1 / n1, x2 / n2, n2 / n1
    a = 1 + ratio
    b = -(1 + ratio + p1 + ratio * p2 + difference * (ratio + 2))
    c = difference**2 + difference * (2 * p1 + ratio + 1) + p1 + ratio * p2
    d = -p1 * difference * (1 + difference)
    v = b**3 / (27 * a**3) - b * c / (6 * a**2) + d / (2 * a)
    u = np.where(v < 0, -1.0, 1.0) * np.sqrt(np.maximum(b**2 / (9 * a**2) - c / (3 * a), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.where(u == 0, 0.0, np.clip(v / u**3, -1.0, 1.0))
    first = np.clip(2 * u * np.cos((math.pi + np.arccos(turn)) / 3) - b / (3 * a), 0.0, 1.0)
    second = np.clip(first - difference, 0.0, 1.0)
    variance = first * (1 - first) / n1 + second * (1 - second) / n2
    return _studentised(p1 - p2 - difference, variance, HALF_STEP * (1 / n1 + 1 / n2))


def ratio_z(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, ratio: float) -> FloatArray:
    """Score statistic for H0: p1 = ``ratio`` · p2 of independent shares x/n (Farrington & Manning 1990, A.2)."""
    p1, p2, sizes = x1 / n1, x2 / n2, n2 / n1
    a = 1 + sizes
    b = -(ratio * (1 + sizes * p2) + sizes + p1)
    c = ratio * (p1 + sizes * p2)
    first = np.clip((-b - np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0))) / (2 * a), 0.0, 1.0)
    second = np.clip(first / ratio, 0.0, 1.0) if ratio > 0 else p2
    variance = first * (1 - first) / n1 + ratio**2 * second * (1 - second) / n2
    return _studentised(p1 - ratio * p2, variance, HALF_STEP * (1 / n1 + ratio / n2))


def _studentised(distance: FloatArray, variance: FloatArray, half_step: float | FloatArray) -> FloatArray:
    shrunk = np.sign(distance) * np.maximum(np.abs(distance) - half_step, 0.0)
    spread: FloatArray = np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
    return shrunk / spread


def _crossing(is_excluded: Callable[[float], bool], low: float, high: float) -> float:
    """Where a statistic that excludes ``low`` and not ``high`` stops excluding, by halving."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_excluded(middle) else (low, middle)
    return low
