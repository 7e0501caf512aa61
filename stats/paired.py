"""By how much one version is better than another on the same rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stats.interval import FloatArray, Interval
from stats.metrics import METRICS
from stats.metrics.calibration import mean_gap_gain
from stats.metrics.rows import around, span
from stats.proportions import paired_difference

OF_OUTCOME = {"recall": 1.0, "specificity": 0.0}


def gain(
    metric: str, y: FloatArray, candidate: FloatArray, champion: FloatArray, *, threshold: float, confidence: float
) -> Interval | None:
    """By how much the candidate is better than the champion on the same rows; positive is better for every metric.

    * shares of rows of one kind (accuracy, recall, specificity): the paired score interval of Tango (1998);
    * sizes of a mean distance (calibration gap, bias): from the rows' differences, folded at zero;
    * everything else: the difference of the two versions' influences row by row, which for the AUC is DeLong's test
      (DeLong et al. 1988), with Student's t for as many rows as speak and room for rows that none at hand is like.

    ``n`` of the interval is the number of rows. None where the metric has no value for either version.
    """
    if metric in ("accuracy", *OF_OUTCOME):
        return _share_gain(metric, y, candidate >= threshold, champion >= threshold, confidence)
    if METRICS[metric].is_folded:
        widest = span(y, candidate, champion)
        return mean_gap_gain(y, candidate, champion, lambda rows: _mean(rows, widest, confidence))
    mine = METRICS[metric].to_first_order(y, candidate, threshold=threshold)
    theirs = METRICS[metric].to_first_order(y, champion, threshold=threshold)
    if mine is None or theirs is None:
        return None
    sign = 1.0 if METRICS[metric].greater_is_better else -1.0
    rows = sign * (mine.rows - theirs.rows)
    estimate = sign * (mine.estimate - theirs.estimate)
    found = around(estimate, rows, reach=max(mine.reach, theirs.reach), confidence=confidence)
    room = max(abs(mine.bias), abs(theirs.bias))  # of the calibration error: what few rows a bin make of nothing
    return Interval(estimate, found.low - room, found.high + room, len(y), confidence)


def reach_of(metric: str, y: FloatArray, candidate: FloatArray, champion: FloatArray, *, threshold: float) -> float:
    """The most that one row could pull a gain by; 0 for shares of rows, whose interval knows it already."""
    if metric in ("accuracy", *OF_OUTCOME):
        return 0.0
    both = (METRICS[metric].to_first_order(y, each, threshold=threshold) for each in (candidate, champion))
    return max((each.reach for each in both if each is not None), default=0.0)


def _mean(rows: FloatArray, reach: float, confidence: float) -> Interval:
    mean = float(rows.mean())
    return around(mean, rows - mean, reach=reach, confidence=confidence)


def _share_gain(
    metric: str, y: FloatArray, candidate: NDArray[np.bool_], champion: NDArray[np.bool_], confidence: float
) -> Interval | None:
    """Decisions compared among all rows, or among those of one outcome."""
    among = y == OF_OUTCOME[metric] if metric in OF_OUTCOME else np.ones(len(y), dtype=bool)
    right, before = candidate[among] == (y[among] == 1), champion[among] == (y[among] == 1)
    better, worse = int((right & ~before).sum()), int((before & ~right).sum())
    found = paired_difference(better, worse, int(among.sum()), confidence=confidence)
    return None if found is None else Interval(found.estimate, found.low, found.high, len(y), confidence)
