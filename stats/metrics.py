"""How good predictions are, with uncertainty: one version alone, and two versions on the same rows.

Conventions: ``y`` holds outcomes (0 or 1 in classification), ``p`` scores in [0, 1], all of shape (n,). ``None`` where
the question has no answer (no rows, one class only).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, Interval, finite, mean_interval, normal, wilson

CLIP = 1e-12


@dataclass(frozen=True)
class Metric:
    """A named metric: the function from (y, p, confidence) to its interval, and which direction is good."""

    name: str
    measure: Callable[[ArrayLike, ArrayLike, float], Interval | None]
    greater_is_better: bool


def _pair(y: ArrayLike, p: ArrayLike) -> tuple[FloatArray, FloatArray]:
    outcomes, scores = finite(y, "y"), finite(p, "p")
    if outcomes.shape != scores.shape:
        raise ValueError(f"y has {len(outcomes)} rows, p has {len(scores)}")
    return outcomes, scores


def _labels(y: FloatArray) -> FloatArray:
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("y must hold 0 and 1 only")
    return y


def _structural(y: FloatArray, p: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """AUC and DeLong's structural components of positives and negatives (Sun & Xu 2014, algorithm 2)."""
    from scipy.stats import rankdata

    positives, negatives = p[y == 1], p[y == 0]
    m, n = len(positives), len(negatives)
    all_ranks = rankdata(np.concatenate([positives, negatives]))
    of_positives = (all_ranks[:m] - rankdata(positives)) / n
    of_negatives = 1 - (all_ranks[m:] - rankdata(negatives)) / m
    return float(of_positives.mean()), of_positives, of_negatives


def roc_auc(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Area under the ROC curve: how often a positive scores above a negative. DeLong et al. 1988.

    The interval is formed on the logit scale, so that it stays inside [0, 1] (Pepe 2003, section 5.2).
    """
    outcomes, scores = _pair(y, p)
    outcomes = _labels(outcomes)
    positives = int(outcomes.sum())
    if positives < 2 or len(outcomes) - positives < 2:
        return None
    auc, of_positives, of_negatives = _structural(outcomes, scores)
    variance = of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives)
    error = math.sqrt(variance)
    if not 0 < auc < 1 or error == 0:
        return Interval(auc, auc, auc, len(outcomes), confidence)
    logit = math.log(auc / (1 - auc))
    around = normal(logit, error / (auc * (1 - auc)), n=len(outcomes), confidence=confidence)
    return Interval(auc, _expit(around.low), _expit(around.high), len(outcomes), confidence)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def paired_auc_difference(
    y: ArrayLike, p_candidate: ArrayLike, p_champion: ArrayLike, confidence: float = 0.95
) -> Interval | None:
    """AUC of the candidate minus AUC of the champion on the same rows (DeLong et al. 1988, equation 6)."""
    outcomes, candidate = _pair(y, p_candidate)
    _, champion = _pair(y, p_champion)
    outcomes = _labels(outcomes)
    positives = int(outcomes.sum())
    if positives < 2 or len(outcomes) - positives < 2:
        return None
    first, first_positives, first_negatives = _structural(outcomes, candidate)
    second, second_positives, second_negatives = _structural(outcomes, champion)
    variance = (first_positives - second_positives).var(ddof=1) / positives
    variance += (first_negatives - second_negatives).var(ddof=1) / (len(outcomes) - positives)
    return normal(first - second, math.sqrt(variance), n=len(outcomes), confidence=confidence)


def brier_rows(y: ArrayLike, p: ArrayLike) -> FloatArray:
    """Squared error of each row's probability; its mean is the Brier score (Brier 1950)."""
    outcomes, scores = _pair(y, p)
    return (scores - outcomes) ** 2


def log_loss_rows(y: ArrayLike, p: ArrayLike) -> FloatArray:
    """Negative log likelihood of each row, probabilities clipped to [1e-12, 1 − 1e-12]."""
    outcomes, scores = _pair(y, p)
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    rows: FloatArray = -(outcomes * np.log(clipped) + (1 - outcomes) * np.log1p(-clipped))
    return rows


def brier(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Brier score: mean squared error of the probabilities (0 best, .25 for always answering ½)."""
    return mean_interval(brier_rows(y, p), confidence=confidence)


def log_loss(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Mean negative log likelihood."""
    return mean_interval(log_loss_rows(y, p), confidence=confidence)


def brier_difference(
    y: ArrayLike, p_candidate: ArrayLike, p_champion: ArrayLike, confidence: float = 0.95
) -> Interval | None:
    """Brier score of the candidate minus that of the champion on the same rows; below zero is better."""
    return mean_interval(brier_rows(y, p_candidate) - brier_rows(y, p_champion), confidence=confidence)


def ece(y: ArrayLike, p: ArrayLike, *, bins: int = 15) -> float | None:
    """Expected calibration error over ``bins`` equal-mass bins: mean distance of predicted and observed share.

    Debiased by subtracting each bin's sampling variance before the root (Kumar et al. 2019, section 4.3, per bin),
    because a perfectly calibrated model has a positive plug-in ECE. None for fewer than 2 rows a bin.
    """
    outcomes, scores = _pair(y, p)
    if len(outcomes) < 2 * bins:
        return None
    total = 0.0
    for rows in np.array_split(np.argsort(scores, kind="stable"), bins):
        observed = float(outcomes[rows].mean())
        gap = float(scores[rows].mean()) - observed
        noise = observed * (1 - observed) / (len(rows) - 1)
        total += len(rows) * math.sqrt(max(0.0, gap * gap - noise))
    return total / len(outcomes)


def accuracy(y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5) -> Interval | None:
    """Share of rows whose decision (p ≥ threshold) equals the outcome."""
    outcomes, scores = _pair(y, p)
    return wilson(int(((scores >= threshold) == (outcomes == 1)).sum()), len(outcomes), confidence=confidence)


def precision(y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5) -> Interval | None:
    """Share of positives among the rows acted on."""
    outcomes, scores = _pair(y, p)
    acted = outcomes[scores >= threshold]
    return wilson(int(acted.sum()), len(acted), confidence=confidence)


def recall(y: ArrayLike, p: ArrayLike, confidence: float = 0.95, *, threshold: float = 0.5) -> Interval | None:
    """Share of the positives that were acted on."""
    outcomes, scores = _pair(y, p)
    found = scores[outcomes == 1] >= threshold
    return wilson(int(found.sum()), len(found), confidence=confidence)


def mae(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Mean absolute error, in the label's unit."""
    outcomes, scores = _pair(y, p)
    return mean_interval(np.abs(outcomes - scores), confidence=confidence)


def rmse(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Root mean squared error, in the label's unit; the root of the mean square's interval."""
    outcomes, scores = _pair(y, p)
    square = mean_interval((outcomes - scores) ** 2, confidence=confidence)
    if square is None:
        return None
    low, high = math.sqrt(max(0.0, square.low)), math.sqrt(square.high)
    return Interval(math.sqrt(square.estimate), low, high, square.n, confidence)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", roc_auc, greater_is_better=True),
        Metric("brier", brier, greater_is_better=False),
        Metric("log_loss", log_loss, greater_is_better=False),
        Metric("accuracy", accuracy, greater_is_better=True),
        Metric("precision", precision, greater_is_better=True),
        Metric("recall", recall, greater_is_better=True),
        Metric("mae", mae, greater_is_better=False),
        Metric("rmse", rmse, greater_is_better=False),
    )
}
"""Metrics by name; ``greater_is_better`` tells which side of the interval has to clear a bar."""
