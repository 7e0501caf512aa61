"""Features that know the answer: one that alone ranks too well, or whose values were not there when they claim to be.

A suspicion, not a proof: the message says what to look at. Unless a policy says otherwise it stops nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gates.judge.verdicts import Judgement, could_not, judged
from gates.policy.checks import LeakageCheck
from stats.interval import Interval, z_for

PERFECT = 1 - 1e-9
"""The order of the label itself, up to rounding."""
SHOWN = 5
WORDS = {"auc": "AUC", "squared_rank_correlation": "squared rank correlation"}
ADVICE = (
    "A suspicion, not a proof: ask when each value is known, whether the outcome goes into it, and whether it would be "
    "there at the moment of the request."
)

Stored = Mapping[str, Any]


@dataclass(frozen=True)
class Alone:
    """One feature alone, by the way that ranks best for sure."""

    feature: str
    way: str
    interval: Interval
    stored: Stored

    @property
    def is_label(self) -> bool:
        return self.interval.estimate >= PERFECT


def judge(check: LeakageCheck, measured: Stored) -> Judgement:
    """Failed when a feature is suspect; passed only where there was enough to see one."""
    alone = [found for each in measured["features"] if (found := _alone(check, measured, each)) is not None]
    alone = sorted((each for each in alone if each.feature not in check.ignore), key=lambda each: -each.interval.low)
    in_time = [each for each in measured["in_time"]["features"] if each["feature"] not in check.ignore]
    suspects = [each for each in alone if each.interval.low > check.alone_at_most or each.is_label]
    late = [each for each in in_time if each["cells"] and each["late"] / each["cells"] > each["limit"]]
    other = [each for each in in_time if each["compared"] and each["different"] / each["compared"] > each["limit"]]
    detail = _detail(measured, alone, suspects, in_time)
    n, best = measured["rows"], alone[0] if alone else None
    value = best.interval if best else None
    told = [*_suspects(measured, suspects), *_late(late, measured), *_other(other)]
    if told:
        return judged(check, "failed", f"{' '.join(told)} {ADVICE}", value, n=n, detail=detail)
    if n < check.minimum_rows:
        message = f"{n:,} training rows, {check.minimum_rows:,} are needed: {check.minimum_rows - n:,} more."
        return judged(check, "inconclusive", message, n=n, detail=detail)
    if not measured["features"]:
        return could_not(check, "The training data have none of its features.", **detail)
    if not alone:
        message = f"Too few rows of the rarer outcome ({measured['rarer_class']}) to tell a leak from luck."
        return judged(check, "inconclusive", message, n=n, detail=detail)
    if measured["in_time"]["why"]:
        message = f"Whether stored features were known in time can not be told: {measured['in_time']['why']}"
        return judged(check, "inconclusive", message, value, n=n, detail=detail)
    assert best is not None  # there is one
    message = (
        f"None of {len(alone)} features alone ranks above {check.alone_at_most:g} "
        f"(best: {best.feature}, {WORDS[measured['measure']]} {_number(best.interval)}). {_asides(measured, in_time)}"
    )
    return judged(check, "passed", message.rstrip(), value, n=n, detail=detail)


def _alone(check: LeakageCheck, measured: Stored, each: Stored) -> Alone | None:
    """The way that is surest to rank well, of those with enough rows."""
    found = [
        Alone(each["feature"], way, interval(told, measured["measure"], check.confidence), each)
        for way, told in each["ways"].items()
        if told["n"] >= check.minimum_rows
    ]
    return max(found, key=lambda one: one.interval.low, default=None)


def interval(told: Stored, measure: str, confidence: float) -> Interval:
    """The stored strength with its interval at a confidence (``measure.leakage.strength`` says on which scale)."""
    estimate, margin, n = told["estimate"], z_for(confidence) * told["error"], told["n"]
    if measure == "auc":
        if not 0 < estimate < 1:
            return Interval(estimate, estimate, estimate, n, confidence)
        centre = math.log(estimate / (1 - estimate))
        low, high = (1 / (1 + math.exp(-(centre + side))) for side in (-margin, margin))
        return Interval(estimate, low, high, n, confidence)
    if estimate >= PERFECT:
        return Interval(estimate, estimate, estimate, n, confidence)
    centre = math.atanh(math.sqrt(estimate))
    low, high = (math.tanh(max(0.0, centre + side)) ** 2 for side in (-margin, margin))
    return Interval(estimate, low, high, n, confidence)


# ---------------------------------------------------------------------- words


def _suspects(measured: Stored, suspects: Sequence[Alone]) -> list[str]:
    if not suspects:
        return []
    told = "; ".join(_suspect(measured, each) for each in suspects[:SHOWN])
    more = f"; and {len(suspects) - SHOWN} more" if len(suspects) > SHOWN else ""
    return [f"Alone too good to be honest: {told}{more}."]


def _suspect(measured: Stored, each: Alone) -> str:
    if each.is_label:
        strength = "it orders the rows as the label itself does"
    else:
        strength = f"{WORDS[measured['measure']]} {_number(each.interval)} by its {each.way}"
    beside = []
    if each.stored["on_holdout"]:
        there = max(way["estimate"] for way in each.stored["on_holdout"].values())
        beside.append(f"{there:.3g} on the holdout")
    for name, whose in (("importance", "importance here"), ("champion_importance", "in the champion")):
        if each.stored[name] is not None:
            beside.append(f"{whose} {each.stored[name]:.0%}")
    return f"{each.feature}: {strength}" + (f" ({', '.join(beside)})" if beside else "")


def _late(late: Sequence[Stored], measured: Stored) -> list[str]:
    if not late:
        return []
    told = "; ".join(f"{each['feature']} {each['late']:,} of {each['cells']:,}" for each in late[:SHOWN])
    more = f"; and {len(late) - SHOWN} more" if len(late) > SHOWN else ""
    views = ", ".join(dict.fromkeys(each["view"] for each in late))
    return [
        f"Newer than they claim: {told}{more} values were given for instants ({_instants(measured)}) at which they had "
        f"not arrived; look at what {views} calls the time of being known."
    ]


def _other(other: Sequence[Stored]) -> list[str]:
    if not other:
        return []
    told = "; ".join(f"{each['feature']} {each['different']:,} of {each['compared']:,}" for each in other[:SHOWN])
    more = f"; and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
    return [
        f"Not what was known at the time: {told}{more} training values differ from the point-in-time join at their "
        "row's time: they were joined some other way, or their sources were rewritten since."
    ]


def _instants(measured: Stored) -> str:
    return ", ".join(each[:16].replace("T", " ") for each in measured["in_time"]["instants"])


def _asides(measured: Stored, in_time: Sequence[Stored]) -> str:
    cells = sum(each["cells"] for each in in_time)
    told = [f"{cells:,} values of {len(in_time)} stored features had arrived in time."] if cells else []
    if later := list(dict.fromkeys(each["view"] for each in in_time if each["loaded_later"] and not each["cells"])):
        told.append(f"Their history was loaded later, so when it was known is the views' word: {', '.join(later)}.")
    if measured["requested"]:
        named = ", ".join(measured["requested"][:SHOWN]) + (" …" if len(measured["requested"]) > SHOWN else "")
        told.append(f"When values that come with the request were known can not be checked: {named}.")
    return " ".join(told)


def _number(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _detail(
    measured: Stored, alone: Sequence[Alone], suspects: Sequence[Alone], in_time: Sequence[Stored]
) -> dict[str, Any]:
    named = {each.feature for each in suspects}
    return {
        "measure": measured["measure"],
        "features": [
            {
                "feature": each.feature,
                "alone": each.interval.estimate,
                "low": each.interval.low,
                "high": each.interval.high,
                "by": each.way,
                "importance": each.stored["importance"],
                "champion_importance": each.stored["champion_importance"],
                "on_holdout": max((way["estimate"] for way in each.stored["on_holdout"].values()), default=None),
                "is_suspect": each.feature in named,
            }
            for each in alone[:100]
        ],
        "in_time": [dict(each) for each in in_time[:100]],
        "instants": measured["in_time"]["instants"],
        "requested": measured["requested"][:100],
    }
