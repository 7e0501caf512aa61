"""Differences between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gates.judge.verdicts import (
    SUPPRESSED_BELOW,
    Judgement,
    VerdictName,
    against,
    clears,
    judged,
    more_rows,
    stored,
    told,
)
from gates.policy import FairnessCheck
from stats.fairness import RATES
from stats.interval import Interval

Group = Mapping[str, Any]
_LABELS = {
    "equal_opportunity_difference": "Difference in real cases found",
    "demographic_parity_difference": "Difference in selection rates",
    "demographic_parity_ratio": "Ratio of selection rates",
    "equalized_odds_difference": "Difference in real cases found or in false alarms",
}
_ENDS = {"selection_rate": "selected", "tpr": "found", "fpr": "falsely alarmed"}


def judge(check: FairnessCheck, measured: Mapping[str, Any]) -> Judgement:
    """The gap between groups against its bar; groups under the minimum are listed as not enough evidence."""
    groups, compared = measured["groups"], set(measured["judged"])
    small = [group for group in groups if group["group"] not in compared]
    large = [group for group in groups if group["group"] in compared]
    gap = stored(measured["gap"])
    detail = {"by": check.by, "measure": check.measure, "groups": [_shown(each, compared) for each in groups]}
    if gap is None:
        message = _not_compared(check, large, small, total=len(groups))
        return judged(check, "inconclusive", message, n=measured["rows"], detail=detail)
    verdict = clears(gap, use=check.use, at_least=check.at_least, at_most=check.at_most)
    outcome = _outcome(check, verdict, gap, rows=measured["rows"])
    if verdict == "passed" and small and check.small_groups == "inconclusive":
        verdict = "inconclusive"
        outcome += ", but not every group has enough rows"
    message = (
        f"{_LABELS[check.measure]} {told(gap)} between {len(large)} groups by {check.by} {outcome}."
        f"{_ends(check, large)}{_too_small(check, small)}"
    )
    return judged(check, verdict, message, gap, detail=detail)


def _not_compared(check: FairnessCheck, large: Sequence[Group], small: Sequence[Group], *, total: int) -> str:
    if len(large) > 1:
        return f"Nobody is selected in any of {len(large)} groups by {check.by}: there is no ratio."
    return (
        f"{len(large)} of {total} groups by {check.by} have {_minimum(check)}; two are needed to compare."
        f"{_too_small(check, small)}"
    )


def _minimum(check: FairnessCheck) -> str:
    of = {"tpr": f"{check.minimum_positives:,} positives", "fpr": f"{check.minimum_positives:,} negatives"}
    return " and ".join([f"{check.minimum_group:,} rows", *(of[each] for each in RATES[check.measure] if each in of)])


def _outcome(check: FairnessCheck, verdict: VerdictName, gap: Interval, *, rows: int) -> str:
    outcome = against(verdict, check.at_least, check.at_most)
    if verdict != "inconclusive":
        return outcome
    bar = check.at_least if check.at_least is not None else check.at_most
    assert bar is not None
    return f"{outcome.partition(':')[0]}; {more_rows(gap, abs(gap.estimate - bar), rows=rows)} if it stays as measured"


def _shown(group: Group, compared: set[str]) -> dict[str, Any]:
    if group["n"] < SUPPRESSED_BELOW:
        return {"group": group["group"], "n": group["n"], "judged": False}
    shown = {name: value for name, value in group.items() if name != "cells"}
    return {**shown, "judged": group["group"] in compared}


def _too_small(check: FairnessCheck, small: Sequence[Group]) -> str:
    """The groups without enough evidence, and what each lacks."""
    if not small:
        return ""
    told = [f"{group['group']} ({_lacks(check, group)})" for group in small[:5]]
    rest = f" and {len(small) - 5} more" if len(small) > 5 else ""
    return f" Not enough evidence for {', '.join(told)}{rest}."


def _lacks(check: FairnessCheck, group: Group) -> str:
    rates, negatives = RATES[check.measure], group["n"] - group["positives"]
    lacking = {"rows": check.minimum_group - group["n"]}
    if "tpr" in rates:
        lacking["positive rows"] = check.minimum_positives - group["positives"]
    if "fpr" in rates:
        lacking["negative rows"] = check.minimum_positives - negatives
    return " and ".join(f"{number:,} more {what} needed" for what, number in lacking.items() if number > 0)


def _ends(check: FairnessCheck, compared: Sequence[Group]) -> str:
    """Which groups stand at the ends, with their base rates: a gap may be one of the world, not of the model."""
    widest = max(RATES[check.measure], key=lambda rate: _spread(compared, rate))
    ordered = sorted(compared, key=lambda group: group[widest])
    word = _ENDS[widest]
    ends = (ordered[0], ordered[-1])
    told = (f"{each['group']} {word} {each[widest]:.1%} (base rate {each['base_rate']:.1%})" for each in ends)
    return f" {'; '.join(told)}."


def _spread(compared: Sequence[Group], rate: str) -> float:
    values = [group[rate] for group in compared]
    return float(max(values) - min(values))
