"""Training data against live traffic: a feature moved when the lower bound of its effect lies above the tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gates.judge.verdicts import Judgement, could_not, judged
from gates.policy.checks import LiveDriftCheck
from stats.drift import Effect

SIGNIFICANCE = 0.01
"""Of all features together: how often nothing moved and something is called moved (Bonferroni)."""
SHOWN = 5
_STEPS = 40

Stored = Mapping[str, Any]


def judge(check: LiveDriftCheck, measured: Stored) -> Judgement:
    """The features that moved for sure; no traffic does not stop a version."""
    if check.days != measured["days"]:
        return could_not(check, f"The traffic of {measured['days']} days was looked at, not of {check.days}.")
    n, days = measured["requests"], f"in {check.days} days"
    if not n:
        message = f"Nobody asked {days}: a model without traffic has nothing to compare and is not stopped."
        return judged(check, "passed", message, n=0, detail={"features": [], "requests": 0})
    if n < check.minimum_rows:
        more = check.minimum_rows - n
        message = f"{n:,} requests {days}, {check.minimum_rows:,} are needed to compare: {more:,} more."
        return judged(check, "inconclusive", message, n=n, detail={"features": [], "requests": n})
    if not measured["features"]:
        return could_not(
            check, f"None of {n:,} requests was compared: the check asked for more of them, or no feature."
        )
    features = [each for each in measured["features"] if each["feature"] not in check.ignore]
    alpha = SIGNIFICANCE / max(1, sum(each["effect"] is not None for each in features))
    told = sorted((_told(each, check, alpha) for each in features), key=lambda each: -(each["low"] or 0.0))
    detail = {"features": told[:150], "requests": n, "tolerance": check.effect_at_most}
    moved = [each for each in told if each["moved"]]
    largest = max((each["low"] for each in told if each["low"] is not None), default=None)
    if moved:
        named = "; ".join(_in_words(each) for each in moved[:SHOWN])
        more = f"; and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
        message = (
            f"{len(moved)} of {len(told)} features moved since training, by {n:,} requests {days}: {named}{more}. "
            "Weigh each by its importance; how good the version still is, the checks on the holdout say."
        )
        return judged(check, "failed", message, n=n, value=largest, detail=detail)
    message = f"None of {len(told)} features moved by more than {check.effect_at_most:g}, by {n:,} requests {days}."
    return judged(check, "passed", message, n=n, value=largest, detail=detail)


def _told(each: Stored, check: LiveDriftCheck, alpha: float) -> dict[str, Any]:
    """One feature for the page, with the lower bound of its effect."""
    effect = None if each["effect"] is None else Effect(**each["effect"])
    return {
        "feature": each["feature"],
        "effect": None if effect is None else effect.debiased,
        "low": None if effect is None else lower_bound(effect, alpha),
        "moved": effect is not None and effect.p_value(check.effect_at_most) < alpha,
        "importance": each["importance"],
        "null_share": each["null_share"],
        "trained_null_share": each["trained_null_share"],
        "unseen_share": each["unseen_share"],
    }


def lower_bound(effect: Effect, alpha: float) -> float:
    """The largest tolerance that the effect exceeds at ``alpha``; 0 where it may be no effect at all."""
    if effect.p_value(0.0) >= alpha:
        return 0.0
    low, high = 0.0, effect.distance
    for _ in range(_STEPS):  # the p-value grows with the tolerance
        middle = (low + high) / 2
        low, high = (middle, high) if effect.p_value(middle) < alpha else (low, middle)
    return low


def _in_words(each: Stored) -> str:
    importance = "" if each["importance"] is None else f", importance {each['importance']:.0%}"
    return f"{each['feature']} effect {each['effect']:.2f} (surely above {each['low']:.2f}{importance})"
