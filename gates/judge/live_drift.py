"""Training data against live traffic: a feature moved when the lower bound of its effect lies above the tolerance.

A feature whose nulls grew by more than that has moved, too. One that training had and today nobody can compare (all of
its values are gone, or of another type) leaves the check inconclusive, never passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gates.judge.verdicts import Judgement, could_not, judged
from gates.policy.checks import LiveDriftCheck
from stats.drift import Effect
from stats.interval import z_for
from stats.proportions import difference_z

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
    alpha = SIGNIFICANCE / max(1, len(features) + sum(each["effect"] is not None for each in features))
    told = sorted((_told(each, check, alpha) for each in features), key=lambda each: -(each["low"] or 0.0))
    detail = {"features": told[:150], "requests": n, "tolerance": check.effect_at_most}
    moved, vague = [each for each in told if each["moved"]], [each for each in told if _is_vague(each)]
    largest = max((each["low"] for each in told if each["low"] is not None), default=None)
    by = f"by {n:,} requests {days}"
    if moved:
        message = (
            f"{len(moved)} of {len(told)} features moved since training, {by}: {_listed(moved)}. "
            "Weigh each by its importance; how good the version still is, the checks on the holdout say."
        )
        return judged(check, "failed", message, n=n, value=largest, detail=detail)
    if vague:
        message = f"{len(vague)} of {len(told)} features can not be compared, {by}: {_listed(vague)}."
        return judged(check, "inconclusive", message, n=n, value=largest, detail=detail)
    message = f"None of {len(told)} features moved by more than {check.effect_at_most:g}, {by}.{_asides(told)}"
    return judged(check, "passed", message, n=n, value=largest, detail=detail)


def _told(each: Stored, check: LiveDriftCheck, alpha: float) -> dict[str, Any]:
    """One feature for the page, with the lower bounds of its effect and of what its nulls grew by."""
    effect = None if each["effect"] is None else Effect(**each["effect"])
    has_moved = effect is not None and effect.p_value(check.effect_at_most) < alpha
    nulls_low = _null_increase(each, alpha)
    return {
        "feature": each["feature"],
        "effect": None if effect is None else effect.debiased,
        "low": None if effect is None else lower_bound(effect, alpha),
        "values_moved": has_moved,
        "nulls_low": nulls_low,
        "nulls_moved": nulls_low > check.effect_at_most,
        "moved": has_moved or nulls_low > check.effect_at_most,
        "compared": each["compared"],
        "importance": each["importance"],
        "null_share": each["null_share"],
        "trained_null_share": each["trained_null_share"],
        "unseen_share": each["unseen_share"],
    }


def _is_vague(each: Stored) -> bool:
    """Training had values of it, and there is none today that could be compared."""
    return each["effect"] is None and each["trained_null_share"] < 1 and each["compared"] != "never"


def _null_increase(each: Stored, alpha: float) -> float:
    """By how much the share of nulls grew since training at least, one-sided at ``alpha``; 0 where it may not have.

    By inverting the score test for a difference of shares (``stats.proportions.difference_z``).
    """
    m, n = each["rows"], each["trained_rows"]
    grown = each["null_share"] - each["trained_null_share"]
    if not m or not n or grown <= 0:
        return 0.0
    sizes = np.array([each["null_share"] * m]), np.array([m]), np.array([each["trained_null_share"] * n]), np.array([n])
    z = z_for(1 - 2 * alpha)
    return _highest(lambda tolerance: float(difference_z(*sizes, tolerance)[0]) > z, grown)


def lower_bound(effect: Effect, alpha: float) -> float:
    """The largest tolerance that the effect exceeds at ``alpha``; 0 where it may be no effect at all."""
    return _highest(lambda tolerance: effect.p_value(tolerance) < alpha, effect.distance)


def _highest(is_exceeded: Callable[[float], bool], most: float) -> float:
    """The largest tolerance up to ``most`` that is surely exceeded; what exceeds one exceeds all below it."""
    if not is_exceeded(0.0):
        return 0.0
    low, high = 0.0, most
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_exceeded(middle) else (low, middle)
    return low


def _listed(features: Sequence[Stored]) -> str:
    more = f"; and {len(features) - SHOWN} more" if len(features) > SHOWN else ""
    return "; ".join(_in_words(each) for each in features[:SHOWN]) + more


def _asides(told: Sequence[Stored]) -> str:
    """Of which features only the nulls were held against training."""
    names = [each["feature"] for each in told if each["compared"] == "never"]
    return f" Only nulls were compared of {', '.join(names[:SHOWN])}{' …' * (len(names) > SHOWN)}." if names else ""


def _in_words(each: Stored) -> str:
    if each["compared"] == "type":
        return f"{each['feature']} is of another type than in training"
    found = []
    if each["values_moved"]:
        found.append(f"effect {each['effect']:.2f} (surely above {each['low']:.2f})")
    if each["nulls_moved"] or each["effect"] is None:
        found.append(f"{each['null_share']:.0%} null (trained {each['trained_null_share']:.0%})")
    importance = "" if each["importance"] is None else f", importance {each['importance']:.0%}"
    return f"{each['feature']} {' and '.join(found)}{importance}"
