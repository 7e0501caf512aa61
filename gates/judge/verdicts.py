"""Verdicts and the words they are told in. No data is inconclusive, could-not-measure is error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gates.policy import (
    AnyCheck,
    Use,
)
from stats.interval import Interval
from stats.planning import rows_to_decide

VerdictName = Literal["passed", "failed", "inconclusive", "error"]
SUPPRESSED_BELOW = 30
"""Groups smaller than this are named with their size only: rates of so few people describe persons."""
LEAST_SPEAKING = 10
"""A recall of fewer positives, or an AUC with fewer of a class, says little, however many rows there are."""


@dataclass(frozen=True)
class Judgement:
    """One check's verdict: the sentence for a person, and the numbers behind it."""

    check_id: str
    kind: str
    blocking: bool
    verdict: VerdictName
    message: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    threshold: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conclusion:
    """What all judgements of a run come to."""

    verdict: VerdictName
    message: str


def conclude(judgements: Sequence[Judgement], *, required: int) -> Conclusion:
    """Passed only if every blocking check passed; else failed before error before inconclusive, naming the checks."""
    blocking = [judgement for judgement in judgements if judgement.blocking]
    for verdict in ("failed", "error", "inconclusive"):
        stopped = [judgement for judgement in blocking if judgement.verdict == verdict]
        if stopped:
            reasons = " · ".join(f"{judgement.check_id}: {judgement.message}" for judgement in stopped)
            return Conclusion(verdict, f"{len(stopped)} of {required} blocking checks {verdict}. {reasons}")
    if len(blocking) < required:
        return Conclusion("error", f"Only {len(blocking)} of {required} blocking checks were judged.")
    noted = [judgement.check_id for judgement in judgements if not judgement.blocking and judgement.verdict != "passed"]
    aside = f" Reported only, not passed: {', '.join(noted)}." if noted else ""
    return Conclusion("passed", f"All {len(blocking)} blocking checks passed.{aside}")


def clears(interval: Interval, *, use: Use, at_least: float | None = None, at_most: float | None = None) -> VerdictName:
    """Whether a measured interval clears one bar, by the side that ``use`` names (``gates.policy``)."""
    if at_least is not None:
        value, low, high, bar = interval.estimate, interval.low, interval.high, at_least
        proof = use == "lower_bound"
    elif at_most is not None:
        value, low, high, bar = -interval.estimate, -interval.high, -interval.low, -at_most
        proof = use == "upper_bound"
    else:
        raise ValueError("a bar is needed")
    if use == "point":
        return "passed" if value >= bar else "failed"
    if high < bar:
        return "failed"
    if proof and low < bar:
        return "inconclusive"
    return "passed"


def could_not(check: AnyCheck, why: str, **detail: Any) -> Judgement:
    """The check could not be measured: an error, never a pass and never the version's fault."""
    return judged(check, "error", why, detail=detail)


def judged(
    check: AnyCheck,
    verdict: VerdictName,
    message: str,
    measured: Interval | None = None,
    *,
    n: int | None = None,
    value: float | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Judgement:
    return Judgement(
        check.id,
        check.kind,
        check.blocking,
        verdict,
        message,
        value=measured.estimate if measured else value,
        low=measured.low if measured else None,
        high=measured.high if measured else None,
        n=n if n is not None else measured.n if measured else None,
        threshold=check.rule()[:120],
        detail=dict(detail or {}),
    )


def too_few(check: AnyCheck, rows: int, minimum: int, *, detail: Mapping[str, Any] | None = None) -> Judgement | None:
    if rows >= minimum:
        return None
    message = f"{rows:,} labelled rows, {minimum:,} are needed to judge: {minimum - rows:,} more rows."
    return judged(check, "inconclusive", message, n=rows, detail=detail)


def too_quiet(
    check: AnyCheck, label: str, rows: int, speaking: int | None, *, detail: Mapping[str, Any] | None = None
) -> Judgement | None:
    """Inconclusive where the metric rests on fewer than ten rows: of the rarer outcome, of those acted on.

    ``speaking`` is None in results that were measured before it was counted, and 0 where the metric has no value.
    """
    if not speaking or speaking >= LEAST_SPEAKING:
        return None
    more = _about(math.ceil(rows * LEAST_SPEAKING / speaking) - rows)
    message = (
        f"{label} rests on {speaking} of these {rows:,} rows, {LEAST_SPEAKING} such rows are needed to judge: "
        f"about {more} more rows as they come."
    )
    return judged(check, "inconclusive", message, n=rows, detail=detail)


def interval_in_words(interval: Interval) -> str:
    return f"{interval.estimate:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def shown(name: str, interval: Interval) -> str:
    return f"{name} {interval_in_words(interval)}"


def against(verdict: VerdictName, at_least: float | None, at_most: float | None) -> str:
    bar = f"{at_least if at_least is not None else at_most:g}"
    wrong, limit = ("below", "at least") if at_least is not None else ("above", "at most")
    if verdict == "failed":
        return f"is {wrong} {bar}"
    if verdict == "inconclusive":
        return f"may be {wrong} {bar}: more rows are needed"
    return f"clears {limit} {bar}"


def told(interval: Interval) -> str:
    """An interval for a person, with as many digits as its width allows: ``0.712 [0.701, 0.723]``."""
    decimals = _decimals(interval)
    return f"{interval.estimate:.{decimals}f} [{interval.low:.{decimals}f}, {interval.high:.{decimals}f}]"


def told_gain(gain: Interval, rival: str) -> str:
    """By how much better or worse than a rival, in words; ``gain`` is positive where better."""
    decimals = _decimals(gain)
    size, near, far = (f"{abs(each):.{decimals}f}" for each in (gain.estimate, gain.low, gain.high))
    if gain.estimate < 0 and gain.high <= 0:
        near, far = far, near
    around = f"[{near} worse, {far} better]" if gain.low < 0 < gain.high else f"[{near}, {far}]"
    if float(size) == 0:
        return f"as good as {rival} {around}"
    return f"{'better' if gain.estimate > 0 else 'worse'} than {rival} by {size} {around}"


def _decimals(interval: Interval) -> int:
    half = (interval.high - interval.low) / 2
    return 3 if half <= 0 else min(6, max(0, 1 - math.floor(math.log10(half))))


def more_rows(measured: Interval, distance: float, *, rows: int | None = None, reach: float = 0.0) -> str:
    """How many more rows would decide about something ``distance`` away, rounded up to two digits, in words.

    Rows of the whole holdout: ``rows`` is how many there are, of which the interval rests on ``measured.n``. A recall
    of 200 positives among 4,000 rows takes twenty rows more for every positive more. ``reach``: see ``rows_to_decide``.
    """
    needed = rows_to_decide(measured, distance, reach=reach)
    if needed is None or measured.n == 0:
        return "no reachable number of rows would decide"
    share = 1.0 if rows is None else rows / measured.n
    return f"about {_about(max(math.ceil((needed - measured.n) * share), 1))} more rows would decide"


def _about(number: int) -> str:
    """Rounded up to two digits."""
    step = 10 ** max(len(str(number)) - 2, 0)
    return f"{math.ceil(number / step) * step:,}"


def stored(interval: Mapping[str, Any] | None) -> Interval | None:
    """An interval out of a result's JSON."""
    return None if interval is None else Interval(**interval)
