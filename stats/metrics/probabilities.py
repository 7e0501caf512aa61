"""How well probabilities rank and how close they come to the outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, Interval, mean_interval, normal
from stats.metrics.errors import mean_rows
from stats.metrics.rows import Linear, binary, mean_loss, pair, standard_error, t_for

CLIP = float(np.finfo(np.float64).eps)
"""As scikit-learn has it: the surest wrong answer costs 36, not infinity."""
STEPS = 60


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

    The bounds are where a score test stops excluding (Newcombe 2006, method 5): few rows of one class that happen to
    rank well have no spread of their own, but the variance at the bound they have (Hanley & McNeil 1982); DeLong's
    where that is larger. Student's t for as many rows as the rarer class has.
    """
    outcomes, scores = binary(y, p)
    if not _has_both(outcomes):
        return None
    auc, of_positives, of_negatives = _structural(outcomes, scores)
    positives, negatives = len(of_positives), len(of_negatives)
    seen = float(of_positives.var(ddof=1) / positives + of_negatives.var(ddof=1) / negatives)
    return _by_score(
        auc,
        lambda each: max(seen, _variance_of_auc(each, positives, negatives)),
        speaking=min(positives, negatives),
        n=len(outcomes),
        confidence=confidence,
    )


def _variance_of_auc(auc: float, positives: int, negatives: int) -> float:
    """Of an AUC estimated where it truly is ``auc``, for exponential scores (Hanley & McNeil 1982, eq. 2)."""
    by_negative, by_positive = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (by_negative - auc**2) + (negatives - 1) * (by_positive - auc**2)
    return spread / (positives * negatives)


def _by_score(
    estimate: float, variance: Callable[[float], float], *, speaking: int, n: int, confidence: float
) -> Interval:
    """All values in [0, 1] from which the estimate is not too far by the variance that it has there."""
    most = t_for(confidence, speaking - 1) ** 2

    def is_excluded(value: float) -> bool:
        return (estimate - value) ** 2 > most * variance(value)

    low, high = (_bound(is_excluded, end, estimate) for end in (0.0, 1.0))
    return Interval(estimate, low, high, n, confidence)


def _bound(is_excluded: Callable[[float], bool], end: float, estimate: float) -> float:
    """Between an end and the estimate: where exclusion stops, by halving. The end itself where it is not excluded."""
    if not is_excluded(end):
        return end
    out, kept = end, estimate
    for _ in range(STEPS):
        middle = (out + kept) / 2
        out, kept = (middle, kept) if is_excluded(middle) else (out, middle)
    return kept


def roc_auc_rows(y: FloatArray, p: FloatArray) -> Linear | None:
    """Influence of each row on the AUC: DeLong's structural components, centred and weighted by class."""
    if not _has_both(y):
        return None
    auc, of_positives, of_negatives = _structural(y, p)
    rows = np.empty(len(y))
    rows[y == 1] = (of_positives - auc) * len(y) / len(of_positives)
    rows[y == 0] = (of_negatives - auc) * len(y) / len(of_negatives)
    # a row of the rarer class may move from the one end of the ranking to the other
    return Linear(auc, rows, reach=len(y) / min(len(of_positives), len(of_negatives)))


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
    rows = pull * len(y) / positives
    return Linear(estimate, rows, reach=max(len(y) / positives, float(np.ptp(rows))))


def average_precision(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Precision at the score of each positive, on average (scikit-learn's definition, ties counted together).

    It is a mean over the positives of something between 0 and 1: the bounds are where a score test with the variance of
    such a share (Boyd, Eng & Page 2013, section 3.2) or of the rows' pulls, if that is larger, stops excluding.
    """
    outcomes, scores = binary(y, p)
    linear = average_precision_rows(outcomes, scores)
    if linear is None:
        return None
    positives, seen = int(outcomes.sum()), standard_error(linear.rows) ** 2
    return _by_score(
        linear.estimate,
        lambda each: max(seen, each * (1 - each) / positives),
        speaking=positives,
        n=len(outcomes),
        confidence=confidence,
    )


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
    return mean_loss(brier_rows(y, p), reach=1.0, confidence=confidence)


def brier_pulls(y: FloatArray, p: FloatArray) -> Linear | None:
    """The Brier score and each row's pull on it; a row costs 1 at most."""
    return mean_rows(brier_rows(y, p), reach=1.0)


def log_loss(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Mean negative log likelihood."""
    _, scores = pair(y, p)
    return mean_loss(log_loss_rows(y, p), reach=_surest(scores), confidence=confidence)


def log_loss_pulls(y: FloatArray, p: FloatArray) -> Linear | None:
    """The log loss and each row's pull on it."""
    return mean_rows(log_loss_rows(y, p), reach=_surest(p))


def _surest(p: FloatArray) -> float:
    """What the surest of all answers costs if it is wrong. Answers surer than any seen are not reckoned with."""
    nearest = float(np.minimum(p, 1 - p).min(initial=0.5))
    return -math.log(max(nearest, CLIP))


def brier_difference(
    y: ArrayLike, p_candidate: ArrayLike, p_champion: ArrayLike, confidence: float = 0.95
) -> Interval | None:
    """Brier score of the candidate minus that of the champion on the same rows; below zero is better."""
    return mean_interval(brier_rows(y, p_candidate) - brier_rows(y, p_champion), confidence=confidence)
