"""The metric in each segment against all rows.

Every segment with enough rows is tested one-sidedly: is it worse than all rows by more than the margin? The p-values of
all of them are corrected together (Holm 1979), so that the chance of failing a version that has no such segment stays
below 1 − confidence, however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gates.judge.metric import why_none
from gates.judge.verdicts import LEAST_SPEAKING, SUPPRESSED_BELOW, Judgement, VerdictName, judged, stored, told
from gates.policy import SliceCheck
from stats.contrast import Contrast
from stats.metrics import METRICS
from stats.multiple import holm

MOST_SHOWN = 200
MOST_NAMED = 3
Json = dict[str, Any]


def judge(check: SliceCheck, measured: Mapping[str, Any]) -> Judgement:
    """Failed when a segment is clearly worse; inconclusive when none has enough rows to be judged.

    A check that names no columns asks for nothing (and never blocks): it passes and tells what was found.
    """
    overall = stored(measured["overall"])
    segments = _tested(check, measured["segments"])
    judgeable = [each for each in segments if each["verdict"] != "inconclusive"]
    failed = [each for each in judgeable if each["verdict"] == "failed"]
    detail = {
        "metric": check.metric,
        "overall": measured["overall"],
        "segments": [_rounded(each) for each in segments[:MOST_SHOWN]],
        "found": [_found(each) for each in measured["found"]],
    }
    label = METRICS[check.metric].label
    if overall is None:
        message = f"{label} has no value on these {measured['rows']:,} rows: {why_none(check.metric)}."
        return judged(check, "inconclusive", message, n=measured["rows"], detail=detail)
    if not judgeable:
        message = f"{_none_judged(check, segments)}{_worst_found(check, measured['found'])}"
        is_only_told = not check.by and bool(measured["found"])  # it asks for nothing, and can only report
        verdict: VerdictName = "passed" if is_only_told else "inconclusive"
        return judged(check, verdict, message, n=measured["rows"], detail=detail)
    counted = f"{len(judgeable)} segments by {', '.join(check.by)} (overall {told(overall)})"
    if failed:
        named = "; ".join(_in_words(each) for each in failed[:MOST_NAMED])
        rest = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
        verb = "is" if len(failed) == 1 else "are"
        message = f"{label}: {len(failed)} of {counted} {verb} clearly worse: {named}{rest}."
    else:
        allowed = f"by more than {check.not_worse_than_overall_by:g}"
        message = f"{label}: none of {counted} is clearly worse {allowed}; worst is {_in_words(judgeable[0])}."
    worst = stored(judgeable[0]["interval"])
    return judged(check, "failed" if failed else "passed", message, worst, n=measured["rows"], detail=detail)


def _tested(check: SliceCheck, segments: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Every segment with its verdict, the most certainly worse first."""
    enough = [_is_judged(check, each) for each in segments]
    p_values = [
        Contrast(**each["contrast"]).p_value(check.not_worse_than_overall_by)
        for each, judgeable in zip(segments, enough, strict=True)
        if judgeable
    ]
    corrected = iter(holm(p_values))
    tested = [
        _told(check, each, float(next(corrected)) if ok else None) for each, ok in zip(segments, enough, strict=True)
    ]
    return sorted(tested, key=lambda each: (each["p_holm"] is None, each["p_holm"] or 0.0, -(each["worse_by"] or 0.0)))


def _is_judged(check: SliceCheck, segment: Mapping[str, Any]) -> bool:
    if segment["contrast"] is None or segment["value"] is None:
        return False
    return bool(segment["n"] >= check.minimum_rows and segment["speaking"] >= min(LEAST_SPEAKING, check.minimum_rows))


def _told(check: SliceCheck, segment: Mapping[str, Any], p_holm: float | None) -> Json:
    verdict = "inconclusive" if p_holm is None else "failed" if p_holm <= 1 - check.confidence else "passed"
    told = {"by": segment["by"], "level": segment["level"], "n": segment["n"]}
    value = None if segment["n"] < SUPPRESSED_BELOW else segment["value"]
    worse = None if value is None or segment["contrast"] is None else segment["contrast"]["worse_by"]
    return {**told, "interval": value, "worse_by": worse, "p_holm": p_holm, "verdict": verdict}


def _rounded(segment: Json) -> Json:
    """As pages show it: the interval's numbers beside the rest."""
    interval = segment["interval"] or {}
    numbers = {"value": interval.get("estimate"), "low": interval.get("low"), "high": interval.get("high")}
    numbers |= {"worse_by": segment["worse_by"], "p_holm": segment["p_holm"]}
    told = {name: None if number is None else float(f"{number:.5g}") for name, number in numbers.items()}
    return {"by": segment["by"], "level": segment["level"], "n": segment["n"], **told, "verdict": segment["verdict"]}


def _found(segment: Mapping[str, Any]) -> Json:
    value = None if segment["n"] < SUPPRESSED_BELOW else segment["value"]
    numbers = value or {"estimate": None, "low": None, "high": None}
    told = {"value": numbers["estimate"], "low": numbers["low"], "high": numbers["high"]}
    return {"condition": segment["condition"], "n": segment["n"], **told}


def _in_words(segment: Json) -> str:
    interval = stored(segment["interval"])
    worse = segment["worse_by"] or 0.0
    by = f"worse by {worse:.2g}" if worse > 0 else "not worse"
    where = f"{segment['by']} = {segment['level']}"
    return f"{where} with {told(interval) if interval else 'no value'} on {segment['n']:,} rows, {by}"


def _none_judged(check: SliceCheck, segments: Sequence[Json]) -> str:
    if not check.by:
        return "No columns are named, so no segment is judged."
    largest = max(segments, key=lambda each: each["n"], default=None)
    if largest is None:
        return f"There is no segment by {', '.join(check.by)}."
    if largest["n"] >= check.minimum_rows:
        on = f"rows that {check.metric} rests on"
        return f"No segment by {', '.join(check.by)} has {LEAST_SPEAKING} {on}: more rows are needed."
    lacking = check.minimum_rows - largest["n"]
    return (
        f"No segment by {', '.join(check.by)} has {check.minimum_rows:,} rows; the largest "
        f"({largest['by']} = {largest['level']}) needs {lacking:,} more rows."
    )


def _worst_found(check: SliceCheck, found: Sequence[Mapping[str, Any]]) -> str:
    if not found or (value := stored(found[0]["value"])) is None:
        return ""
    return f" The worst that was found: {found[0]['condition']} with {METRICS[check.metric].label} {told(value)}."
