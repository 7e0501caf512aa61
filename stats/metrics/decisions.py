"""How good decisions (score ≥ threshold) are: functions of the four counts of outcome and decision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.interval import FloatArray, Interval, wilson
from stats.metrics.rows import Linear, binary


@dataclass(frozen=True)
class Share:
    """``counted`` over ``among``, both weights of the cells (y=0 not acted, y=0 acted, y=1 not acted, y=1 acted)."""

    counted: tuple[int, int, int, int]
    among: tuple[int, int, int, int]


RECALL = Share((0, 0, 0, 1), (0, 0, 1, 1))
SPECIFICITY = Share((1, 0, 0, 0), (1, 1, 0, 0))
SHARES: Mapping[str, tuple[Share, ...]] = {
    "accuracy": (Share((1, 0, 0, 1), (1, 1, 1, 1)),),
    "precision": (Share((0, 0, 0, 1), (0, 1, 0, 1)),),
    "recall": (RECALL,),
    "specificity": (SPECIFICITY,),
    "f1": (Share((0, 0, 0, 2), (0, 1, 1, 2)),),
    "balanced_accuracy": (RECALL, SPECIFICITY),
}
"""Each metric is the mean of its shares."""


@dataclass(frozen=True)
class CountMetric:
    """A metric at a cell of counts: its value, each cell's influence, and half a row's worth of it."""

    value: float
    influence: FloatArray
    half_step: float


def cells_of(y: FloatArray, p: FloatArray, threshold: float) -> NDArray[np.int64]:
    """The cell of each row, 0 to 3, in the order of ``Share``."""
    return 2 * y.astype(np.int64) + (p >= threshold)


def at_counts(metric: str, counts: FloatArray) -> CountMetric | None:
    """The metric for counts of shape (4,), which may be fractions; None where one of its shares has no rows."""
    value, half_step, influence = 0.0, 0.0, np.zeros(4)
    shares = SHARES[metric]
    for share in shares:
        counted, among = np.array(share.counted, dtype=np.float64), np.array(share.among, dtype=np.float64)
        rows = float(among @ counts)
        if rows <= 0:
            return None
        part = float(counted @ counts) / rows
        value += part / len(shares)
        influence += (counted - part * among) * float(counts.sum()) / rows / len(shares)
        half_step += 0.5 * counted.max() / rows / len(shares)
    return CountMetric(value, influence, half_step)


def decision_rows(metric: str, y: FloatArray, p: FloatArray, threshold: float) -> Linear | None:
    """The metric and the influence of each row, which depends on its cell only."""
    cells = cells_of(y, p, threshold)
    found = at_counts(metric, np.bincount(cells, minlength=4).astype(np.float64))
    return None if found is None else Linear(found.value, found.influence[cells], reach=float(np.ptp(found.influence)))


def _counts(y: ArrayLike, p: ArrayLike, threshold: float) -> tuple[int, int, int, int]:
    outcomes, scores = binary(y, p)
    counts = np.bincount(cells_of(outcomes, scores, threshold), minlength=4)
    return int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3])


def accuracy(y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5) -> Interval | None:
    """Share of rows whose decision (p ≥ threshold) equals the outcome."""
    rejected, false_alarms, missed, found = _counts(y, p, threshold)
    return wilson(rejected + found, rejected + false_alarms + missed + found, confidence=confidence)


def precision(y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5) -> Interval | None:
    """Share of positives among the rows acted on."""
    _, false_alarms, _, found = _counts(y, p, threshold)
    return wilson(found, false_alarms + found, confidence=confidence)


def recall(y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5) -> Interval | None:
    """Share of the positives that were acted on."""
    _, _, missed, found = _counts(y, p, threshold)
    return wilson(found, missed + found, confidence=confidence)


def specificity(y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5) -> Interval | None:
    """Share of the negatives that were left alone."""
    rejected, false_alarms, _, _ = _counts(y, p, threshold)
    return wilson(rejected, rejected + false_alarms, confidence=confidence)


def balanced_accuracy(
    y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5
) -> Interval | None:
    """Mean of recall and specificity. Their Wilson intervals are combined by MOVER (Zou & Donner 2008, eq. 4).

    None when a class is missing.
    """
    positives = recall(y, p, confidence, threshold=threshold)
    negatives = specificity(y, p, confidence, threshold=threshold)
    if positives is None or negatives is None:
        return None
    estimate = (positives.estimate + negatives.estimate) / 2
    below = math.hypot(positives.estimate - positives.low, negatives.estimate - negatives.low) / 2
    beyond = math.hypot(positives.high - positives.estimate, negatives.high - negatives.estimate) / 2
    return Interval(estimate, estimate - below, estimate + beyond, positives.n + negatives.n, confidence)


def f1(y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5) -> Interval | None:
    """Harmonic mean of precision and recall.

    F1 = 2J/(1 + J), where J is the share found among all rows that are positive or acted on: the interval is that of J
    (Wilson 1927), carried over. None where there is no such row.
    """
    _, false_alarms, missed, found = _counts(y, p, threshold)
    overlap = wilson(found, false_alarms + missed + found, confidence=confidence)
    if overlap is None:
        return None
    value, low, high = (2 * each / (1 + each) for each in (overlap.estimate, overlap.low, overlap.high))
    return Interval(value, low, high, overlap.n, confidence)
