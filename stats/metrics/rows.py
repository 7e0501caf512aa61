"""What metrics have in common: checked inputs, and how far each row pulls a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, Interval, finite, normal, wilson

FEW = 3.0


@dataclass(frozen=True)
class Linear:
    """A metric to first order: ``estimate`` behaves as the truth plus the mean of ``rows``.

    ``rows`` is the influence of each row, shape (n,), mean zero (infinitesimal jackknife, Efron 1982, section 6.3).
    ``bias``: by how much the estimate is expected to lie above the truth with so many rows.
    """

    estimate: float
    rows: FloatArray
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
    """Student's interval with as many degrees of freedom as rows speak, less one.

    When hardly any row speaks, as between two versions that differ in two of a thousand rows, there is no spread to go
    by. Then the share of rows that may speak unseen (Wilson 1927) times ``reach``, the most that one row could pull, is
    the half width.
    """
    speaking = effective(rows)
    if speaking >= FEW:
        half = t_for(confidence, speaking - 1) * standard_error(rows)
    else:
        unseen = wilson(min(math.ceil(speaking), len(rows)), len(rows), confidence=confidence)
        half = unseen.high * reach if unseen else math.inf
    return Interval(estimate, estimate - half, estimate + half, len(rows), confidence)


def reach(*influences: FloatArray) -> float:
    """The widest distance of two rows' influences."""
    return max((float(np.ptp(rows)) for rows in influences if len(rows)), default=0.0)


def on_logit_scale(estimate: float, error: float, *, n: int, confidence: float) -> Interval:
    """The normal interval formed on the logit scale, so that it stays inside [0, 1]."""
    if not 0 < estimate < 1 or error == 0:
        return Interval(estimate, estimate, estimate, n, confidence)
    logit = math.log(estimate / (1 - estimate))
    near = normal(logit, error / (estimate * (1 - estimate)), n=n, confidence=confidence)
    return Interval(estimate, _expit(near.low), _expit(near.high), n, confidence)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
