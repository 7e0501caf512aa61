"""Measurements that a pipeline posted of a version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gates.judge.verdicts import Judgement, against, clears, could_not, judged, shown
from gates.policy import CustomCheck
from stats.interval import Interval


def judge(check: CustomCheck, measured: Mapping[str, Any]) -> Judgement:
    """``measured``: the newest measurement of the version under each name (evidence, submitted_at, value, n, low, high,
    confidence), ``version`` in words, began and deadline of the run (``gates.reported.measurements``).

    What has not come is inconclusive, and so is too small an ``n``; an interval that the policy asks for and the
    measurement does not have is an error.
    """
    began, deadline = (datetime.fromisoformat(measured[each]) for each in ("began", "deadline"))
    newest = measured["measurements"].get(check.measurement)
    if newest is None:
        came = f"by {deadline:%Y-%m-%d %H:%M}" if began >= deadline else "yet"
        return judged(
            check, "inconclusive", f"No measurement {check.measurement} of {measured['version']} came {came}."
        )
    return _too_old(check, newest, began) or _too_few(check, newest) or _unfit(check, newest) or _judged(check, newest)


def _judged(check: CustomCheck, newest: Mapping[str, Any]) -> Judgement:
    interval = _interval(newest)
    verdict = clears(interval, use=check.use, at_least=check.at_least, at_most=check.at_most)
    has_interval = newest["low"] is not None
    told = shown(check.measurement, interval) if has_interval else f"{check.measurement} {newest['value']:.4g}"
    message = f"{told} {against(verdict, check.at_least, check.at_most)}."
    if has_interval:
        return judged(check, verdict, message, interval, n=newest["n"], detail=_detail(newest))
    return judged(check, verdict, message, value=newest["value"], n=newest["n"], detail=_detail(newest))


def _too_old(check: CustomCheck, newest: Mapping[str, Any], began: datetime) -> Judgement | None:
    age = (began - datetime.fromisoformat(newest["submitted_at"])) / timedelta(days=1)
    if check.maximum_age_days is None or age <= check.maximum_age_days:
        return None
    why = f"{check.measurement} is {age:.0f} days old; at most {check.maximum_age_days} are accepted: measure it again."
    return could_not(check, why, **_detail(newest))


def _too_few(check: CustomCheck, newest: Mapping[str, Any]) -> Judgement | None:
    """A number without n is taken as it is, unless the policy asks for more than one observation."""
    n = newest["n"]
    if n is None and check.minimum_n > 1:
        why = f"{check.measurement} does not say how many observations it is from; {check.minimum_n:,} are needed."
        return could_not(check, why, **_detail(newest))
    if n is None or n >= check.minimum_n:
        return None
    why = (
        f"{check.measurement} is from {n:,} observations, {check.minimum_n:,} are needed: "
        f"{check.minimum_n - n:,} more would decide."
    )
    return judged(check, "inconclusive", why, value=newest["value"], n=n, detail=_detail(newest))


def _unfit(check: CustomCheck, newest: Mapping[str, Any]) -> Judgement | None:
    """The policy looks at a side of the interval: there must be one, as sure as it asks for."""
    if check.use == "point":
        return None
    side, confidence = check.use.replace("_", " "), newest["confidence"]
    if newest["low"] is None:
        why = f"{check.measurement} came without an interval, and the policy judges its {side}: give low and high."
    elif confidence is None:
        why = f"{check.measurement} does not say the confidence of its interval; {check.confidence:.4g} is asked for."
    elif confidence < check.confidence:
        why = (
            f"The interval of {check.measurement} has confidence {confidence:.4g}; {check.confidence:.4g} is asked for."
        )
    else:
        return None
    return could_not(check, why, **_detail(newest))


def _interval(newest: Mapping[str, Any]) -> Interval:
    value = newest["value"]
    low, high = (value if newest[side] is None else newest[side] for side in ("low", "high"))
    return Interval(value, low, high, newest["n"] or 0, newest["confidence"] or 0.0)


def _detail(newest: Mapping[str, Any]) -> dict[str, Any]:
    return dict(newest)
