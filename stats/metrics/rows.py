"""What metrics have in common: checked inputs, and how far each row pulls a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, Interval, finite, wilson

FEW = 3.0


@dataclass(frozen=True)
class Linear:
    """A metric to first order: ``estimate`` behaves as the truth plus the mean of ``rows``.

    ``rows`` is the influence of each row, shape (n,), mean zero (infinitesimal jackknife, Efron 1982, section 6.3).
    ``reach`` is the most that one row could pull, seen or not: nothing in the rows at hand tells of rows that none of
    them is like. ``bias``: by how much the estimate is expected to lie above the truth with so many rows.
    """

    estimate: float
    rows: FloatArray
    reach: float
    bias: float = 0.0


def pair(y: ArrayLike, p: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Outcomes and scores as finite vectors of one length. Raises ValueError."""
    outcomes, scores = finite(y, "y"), finite(p, "p")
    if outcomes.shape != scores.shape:
        raise ValueError(f"y has {len(outcomes)} rows, p has {len(scores)}")
    return outcomes, scores


def binary(y: ArrayLike, p: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """As ``pair``, with outcomes that are 0 or 1. Raises ValueError."""
    outcomes, scores = pair(y, p)
    if not np.isin(outcomes, (0.0, 1.0)).all():
        raise ValueError("y must hold 0 and 1 only")
    return outcomes, scores


def effective(rows: FloatArray) -> float:
    """How many rows speak: n for rows that pull alike, k when only k of them pull (after Satterthwaite 1946)."""
    squares = rows**2
    total = float((squares**2).sum())
    return float(squares.sum()) ** 2 / total if total > 0 else 0.0


def t_for(confidence: float, freedom: float) -> float:
    """Two-sided quantile of Student's t; ``freedom`` need not be whole."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def standard_error(rows: FloatArray) -> float:
    """Of the mean of influences, enlarged for the number of rows that speak."""
    speaking = effective(rows)
    if speaking <= 1:
        return 0.0
    return math.sqrt(float((rows**2).sum()) * speaking / (speaking - 1)) / len(rows)


def around(estimate: float, rows: FloatArray, *, reach: float, confidence: float) -> Interval:
    """Student's interval with as many degrees of freedom as rows speak, less one, and room for rows unseen.

    Rows that are all alike have no spread, yet one of a hundred of another kind would often not be among them. Such
    rows are given the share that may have gone unseen (Wilson 1927) times ``reach``: see ``with_unseen``. When hardly
    any row speaks, as between two versions that differ in two of a thousand rows, there is no spread to go by at all,
    and the half width is the share of rows that may speak times ``reach``.
    """
    speaking = effective(rows)
    if speaking >= FEW:
        student = t_for(confidence, speaking - 1) * standard_error(rows)
        half = with_unseen(student, len(rows), reach=reach, confidence=confidence)
    else:
        unseen = wilson(min(math.ceil(speaking), len(rows)), len(rows), confidence=confidence)
        half = unseen.high * reach if unseen else math.inf
    return Interval(estimate, estimate - half, estimate + half, len(rows), confidence)


def with_unseen(half: float, n: int, *, reach: float, confidence: float) -> float:
    """A half width enlarged for rows that none of the ``n`` at hand is like, each pulling by ``reach`` at most.

    u/2 + √(half² + u²/4), where u is ``reach`` times the share that may be unseen: for a mean of zeros and ones that is
    Wilson's interval, and for any other mean in an interval so long its variance is no larger.
    """
    unseen = wilson(0, n, confidence=confidence)
    if unseen is None:
        return math.inf
    most = unseen.high * reach
    return most / 2 + math.hypot(half, most / 2)


def mean_loss(losses: FloatArray, *, reach: float, confidence: float) -> Interval | None:
    """Mean of losses, which are never below zero; None for fewer than two.

    Only upwards there is room for rows unseen: those could cost much more than the mean, and hardly less.
    """
    if len(losses) < 2:
        return None
    mean = float(losses.mean())
    rows = losses - mean
    found = around(mean, rows, reach=reach, confidence=confidence)
    speaking = effective(rows)
    below = t_for(confidence, speaking - 1) * standard_error(rows) if speaking >= FEW else mean
    return Interval(mean, max(0.0, mean - below), found.high, len(losses), confidence)


def span(y: FloatArray, *predictions: FloatArray) -> float:
    """How far outcomes and predictions lie apart at most; outcomes of 0 or 1 span 1 though only one of them came."""
    if not len(y):
        return 0.0
    values = np.concatenate([y, *predictions])
    is_binary = bool(np.isin(y, (0.0, 1.0)).all())
    return max(float(np.ptp(values)), 1.0 if is_binary else 0.0)
