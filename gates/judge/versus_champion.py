"""The version against the champion on the same rows.

Passed when the interval of the gain lies above −margin, failed when it lies below. Two errors are excluded besides, at
99 % whatever the check's confidence, because with few rows the interval alone would let one in forty through:

* a version that is worse by twice the margin passes in 1 % of runs at most (the interval must lie above −2 margins);
* a version as good as the champion fails in 1 % of runs at most (it must lie below zero).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gates.judge.metric import why_none
from gates.judge.verdicts import Judgement, VerdictName, judged, more_rows, stored, told_gain, too_few, too_quiet
from gates.policy import VersusChampionCheck
from stats.interval import Interval
from stats.metrics import METRICS
from stats.planning import MOST, rows_to_decide


def judge(check: VersusChampionCheck, measured: Mapping[str, Any]) -> Judgement:
    """How much better the version is than the champion against the margin by which it may be worse."""
    champion = measured["champion"]
    if not champion:
        # a first version has nobody to be worse than
        none = {"metric": check.metric, "champion": ""}
        return judged(check, "passed", "There is no champion yet: nothing to be worse than.", detail=none)
    rows, gain, sure = measured["rows"], stored(measured["gain"]), stored(measured["sure"])
    alone = {name: measured[name] for name in ("candidate_value", "champion_value")}
    detail = {"metric": check.metric, "champion": champion, **alone}
    label, margin = METRICS[check.metric].label, check.not_worse_by
    if few := too_few(check, rows, check.minimum_rows, detail=detail):
        return few
    if quiet := too_quiet(check, label, rows, measured.get("speaking"), detail=detail):
        return quiet
    if gain is None or sure is None:
        message = f"{label} has no value on these {rows:,} rows: {why_none(check.metric)}."
        return judged(check, "inconclusive", message, n=rows, detail=detail)
    verdict = _verdict(gain, sure, margin)
    needed = _rows_needed(gain, sure, margin, reach=measured.get("reach", 0.0))
    meaning = {
        "passed": f"worse by {margin:g} is excluded" if margin else "it is better",
        "failed": f"more than the {margin:g} allowed" if margin else "it may not be worse at all",
        "inconclusive": f"worse by {margin:g} can not be excluded; {needed}",
    }[verdict]
    message = f"{label} {told_gain(gain, champion)} on the same {rows:,} rows: {meaning}."
    return judged(check, verdict, message, gain, n=rows, detail=detail)


def _verdict(gain: Interval, sure: Interval, margin: float) -> VerdictName:
    if gain.low >= -margin and sure.low >= -2 * margin:
        return "passed"
    if gain.high < -margin and sure.high < 0:
        return "failed"
    return "inconclusive"


def _rows_needed(gain: Interval, sure: Interval, margin: float, *, reach: float) -> str:
    """How many more rows would decide: for an equally good version, else (these would have done) as it was measured."""
    if margin == 0:
        return "no number of rows can show it of an equally good version"
    needed = [
        (rows_to_decide(interval, distance, reach=reach) or MOST, interval, distance)
        for interval, distance in ((gain, margin), (sure, 2 * margin))
    ]
    most, interval, distance = max(needed, key=lambda each: each[0])
    if most > gain.n:
        return f"{more_rows(interval, distance, reach=reach)} about a version as good as the champion"
    return f"{more_rows(gain, abs(gain.estimate + margin), reach=reach)} if it stays as measured"
