"""Two versions on the same rows."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from gates.frozen import Frozen, Json, Missing, Unmeasurable
from gates.policy import VersusChampionCheck
from stats.contrast import rows_that_speak
from stats.interval import FloatArray, Interval
from stats.metrics import METRICS
from stats.paired import gain, reach_of

SURE = 0.99
"""Two-sided: each error that the judgement excludes for certain is one of two hundred runs by the interval, and of a
hundred at most where few rows make the interval a little too narrow."""


def measure(check: VersusChampionCheck, frozen: Frozen) -> Json:
    """``gain``: by how much the version is better, at the check's confidence and (``sure``) at 99 %; both values alone.

    Only rows that the champion could score count; the version itself has to score all. ``speaking``: how many of them
    the metric rests on, for the version that has fewer. ``reach``: the most that one row could pull the gain by.
    """
    if not frozen.champion_name:
        return {"champion": ""}
    y, p, q = _same_rows(frozen)
    threshold = frozen.document.threshold

    def better(confidence: float) -> Interval | None:
        return gain(check.metric, y, p, q, threshold=threshold, confidence=confidence)

    def alone(scores: FloatArray) -> float | None:
        value = METRICS[check.metric].value(y, scores, threshold=threshold, confidence=check.confidence)
        return value.estimate if value else None

    measured, sure = better(check.confidence), better(SURE)
    return {
        "champion": frozen.champion_name,
        "rows": len(y),
        "speaking": min(rows_that_speak(check.metric, y, scores, threshold=threshold) for scores in (p, q)),
        "reach": reach_of(check.metric, y, p, q, threshold=threshold),
        "gain": asdict(measured) if measured else None,
        "sure": asdict(sure) if sure else None,
        "candidate_value": alone(p),
        "champion_value": alone(q),
    }


def _same_rows(frozen: Frozen) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Labels and both versions' scores of the rows that both scored. Raises Unmeasurable."""
    y, candidate = frozen.all_scored()
    name, champion = frozen.champion_name, frozen.champion
    if isinstance(champion, Missing):
        raise Unmeasurable(f"The champion {name} could not be scored: {champion.why}")
    if frozen.champion_is_unfair:
        raise Unmeasurable(f"The champion {name} was trained on rows of the holdout: the comparison would be unfair.")
    both = np.isfinite(champion.p)
    return y[both], candidate[both], champion.p[both]
