"""How well probabilities rank and how close they come to the outcomes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, Interval, mean_interval, normal
from stats.metrics.rows import Linear, binary, on_logit_scale, pair, standard_error

CLIP = float(np.finfo(np.float64).eps)
"""As scikit-learn has it: the surest wrong answer costs 36, not infinity."""


def _structural(y: FloatArray, p: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """AUC and DeLong's structural components of positives and negatives (Sun & Xu 2014, algorithm 2)."""
    positives, negatives = p[y == 1], p[y == 0]
    m, n = len(positives), len(negatives)
    all_ranks = _midranks(np.concatenate([positives, negatives]))
    of_positives = (all_ranks[:m] - _midranks(positives)) / n
    of_negatives = 1 - (all_ranks[m:] - _midranks(negatives)) / m
    return float(of_positives.mean()), of_positives, of_negatives


def _midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, equal values share theirs. Not SciPy's: importing scipy.stats takes a child process a second."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2


def _has_both(y: FloatArray) -> bool:
    positives = int(y.sum())
    return positives >= 2 and len(y) - positives >= 2


def roc_auc(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Area under the ROC curve: how often a positive scores above a negative. DeLong et al. 1988.

    The interval is formed on the logit scale, so that it stays inside [0, 1] (Pepe 2003, section 5.2).
    """
    outcomes, scores = binary(y, p)
    if not _has_both(outcomes):
        return None
    auc, of_positives, of_negatives = _structural(outcomes, scores)
    variance = of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives)
    return on_logit_scale(auc, math.sqrt(variance), n=len(outcomes), confidence=confidence)


def roc_auc_rows(y: FloatArray, p: FloatArray) -> Linear | None:
    """Influence of each row on the AUC: DeLong's structural components, centred and weighted by class."""
    if not _has_both(y):
        return None
    auc, of_positives, of_negatives = _structural(y, p)
    rows = np.empty(len(y))
    rows[y == 1] = (of_positives - auc) * len(y) / len(of_positives)
    rows[y == 0] = (of_negatives - auc) * len(y) / len(of_negatives)
    return Linear(auc, rows)


def paired_auc_difference(
    y: ArrayLike, p_candidate: ArrayLike, p_champion: ArrayLike, confidence: float = 0.95
) -> Interval | None:
    """AUC of the candidate minus AUC of the champion on the same rows (DeLong et al. 1988, equation 6)."""
    outcomes, candidate = binary(y, p_candidate)
    _, champion = pair(y, p_champion)
    if not _has_both(outcomes):
        return None
    first, first_positives, first_negatives = _structural(outcomes, candidate)
    second, second_positives, second_negatives = _structural(outcomes, champion)
    variance = (first_positives - second_positives).var(ddof=1) / len(first_positives)
    variance += (first_negatives - second_negatives).var(ddof=1) / len(first_negatives)
    return normal(first - second, math.sqrt(variance), n=len(outcomes), confidence=confidence)


def average_precision_rows(y: FloatArray, p: FloatArray) -> Linear | None:
    """Average precision and the influence of each row on it, its derivative by the row's weight.

    With A positives and B rows at or above a score, AP is the mean of A/B over the positives; a row changes A and B of
    all positives at or below it.
    """
    positives = float(y.sum())
    if positives < 2:
        return None
    _, group = np.unique(-p, return_inverse=True)
    positives_in, rows_in = np.bincount(group, weights=y), np.bincount(group)
    above, among = np.cumsum(positives_in), np.cumsum(rows_in)
    precision = above / among
    estimate = float((positives_in * precision).sum() / positives)
    below_once = np.cumsum((positives_in / among)[::-1])[::-1]
    below_twice = np.cumsum((positives_in * precision / among)[::-1])[::-1]
    pull = y * (precision[group] - estimate) + y * below_once[group] - below_twice[group]
    return Linear(estimate, pull * len(y) / positives)


def average_precision(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Precision at the score of each positive, on average (scikit-learn's definition, ties counted together).

    The interval is formed on the logit scale (Boyd, Eng & Page 2013, section 3.2).
    """
    linear = average_precision_rows(*binary(y, p))
    if linear is None:
        return None
    return on_logit_scale(linear.estimate, standard_error(linear.rows), n=len(linear.rows), confidence=confidence)


def brier_rows(y: ArrayLike, p: ArrayLike) -> FloatArray:
    """Squared error of each row's probability; its mean is the Brier score (Brier 1950)."""
    outcomes, scores = pair(y, p)
    return (scores - outcomes) ** 2


def log_loss_rows(y: ArrayLike, p: ArrayLike) -> FloatArray:
    """Negative log likelihood of each row, probabilities clipped to [2.2e-16, 1 − 2.2e-16]."""
    outcomes, scores = pair(y, p)
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
