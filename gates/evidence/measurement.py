"""Measurements: one named number about a version, with its n and its interval. The policy judges it, nobody else."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from gates.evidence.report import SUMMARY, Report, UnreadableEvidence

KNOWN = ("metric", "value", "n", "low", "high", "confidence")
BARS = ("at_least", "at_most", "verdict", "passed", "threshold")
MAXIMUM_N = 2**31 - 1
_NAME = re.compile(
    r"[A-Za-z0-9_.:/ -]{1,100}"
)  # as gates.policy.checks.MeasurementName, so that a policy can ask for it


def read_measurement(payload: Any) -> Report:
    """The verdict is ``inconclusive``: by itself a number is neither good nor bad."""
    if not isinstance(payload, Mapping):
        raise UnreadableEvidence(f"A measurement is an object with metric and value, and optionally {_optional()}.")
    own = [name for name in BARS if name in payload]
    if own:
        raise UnreadableEvidence(
            f"The policy judges a measurement: {' and '.join(own)} of the sender count for nothing and are not "
            "accepted. Put the bar in a custom check of the policy."
        )
    unknown = sorted(str(name)[:40] for name in set(payload) - set(KNOWN))
    if unknown:
        raise UnreadableEvidence(f"A measurement has no {', '.join(unknown)}; it has metric, value and {_optional()}.")
    name = _name(payload.get("metric"))
    value = _number(payload, "value")
    if value is None:
        raise UnreadableEvidence("value has to be given; what could not be measured is not submitted.")
    n, (low, high), confidence = _n(payload), _interval(payload, value), _confidence(payload)
    if confidence is not None and low is None:
        raise UnreadableEvidence("confidence is that of an interval: give low and high with it.")
    facts = {"metric": name, "value": value, "n": n, "low": low, "high": high, "confidence": confidence}
    around = f" [{low:.6g}, {high:.6g}]" if low is not None else ""
    sure = f" at {confidence:.4g} confidence" if confidence is not None else ""
    counted = f", n = {n:,}" if n is not None else ""
    return Report("inconclusive", f"{name} {value:.6g}{around}{sure}{counted}: the policy judges it"[:SUMMARY], facts)


def _optional() -> str:
    return ", ".join(KNOWN[2:])


def _name(metric: Any) -> str:
    if not isinstance(metric, str) or not _NAME.fullmatch(metric):
        raise UnreadableEvidence("metric is the measurement's name: at most 100 letters, digits, spaces or _ . : / -")
    return metric


def _number(payload: Mapping[str, Any], name: str) -> float | None:
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableEvidence(f"{name} must be a number.")
    try:
        number = float(value)
    except OverflowError as problem:
        raise UnreadableEvidence(f"{name} is too large a number.") from problem
    if not math.isfinite(number):
        raise UnreadableEvidence(f"{name} must be a finite number.")
    return number


def _n(payload: Mapping[str, Any]) -> int | None:
    n = payload.get("n")
    if n is None:
        return None
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= MAXIMUM_N:
        raise UnreadableEvidence("n is how many observations the value is from: a whole number, 0 or more.")
    return n


def _interval(payload: Mapping[str, Any], value: float) -> tuple[float | None, float | None]:
    low, high = _number(payload, "low"), _number(payload, "high")
    if low is None and high is None:
        return None, None
    if low is None or high is None:
        raise UnreadableEvidence("An interval has two sides: give low and high, or neither.")
    if low > high:
        raise UnreadableEvidence(f"low ({low:g}) is above high ({high:g}).")
    if not low <= value <= high:
        raise UnreadableEvidence(f"value ({value:g}) lies outside of its own interval [{low:g}, {high:g}].")
    return low, high


def _confidence(payload: Mapping[str, Any]) -> float | None:
    confidence = _number(payload, "confidence")
    if confidence is not None and not 0 < confidence < 1:
        raise UnreadableEvidence(f"confidence is a share between 0 and 1, such as 0.95; {confidence:g} is not.")
    return confidence
