"""Whether what is served is what was trained, answers the same twice, and answers rows with holes in them.

Nothing here is a sample of something unknown: a model that differs once differs. So there is no interval; where too few
rows could be asked the check is inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gates.judge.verdicts import Judgement, judged
from gates.policy import RobustnessCheck

FEWEST_ROWS = 10
MOST_SHOWN = 60
"""Columns of either kind on the report."""
ROUNDING = 1e-6
"""How far the score of a row may move with the rows beside it, as a share of its size (of 1 where it is smaller):
libraries add up in another order when there are more rows. Asked the same question again, nothing may move."""

Json = dict[str, Any]


def judge(check: RobustnessCheck, measured: Mapping[str, Any]) -> Judgement:
    """Failed when anything that the check asks for is not so; all that is wrong is told."""
    answered = int(measured["answered"])
    shown = {name: _least_answered(measured[name])[:MOST_SHOWN] for name in ("missing", "strange")}
    detail = {**measured, **shown, "wrong": [], "worst_missing": _worst(measured["missing"])}
    if answered < FEWEST_ROWS:
        more = FEWEST_ROWS - answered
        message = f"It answered {answered} of {measured['rows']} rows of the holdout; {more} more are needed to judge."
        return judged(check, "inconclusive", message, n=answered, detail=detail)
    wrong = list(_wrong(check, measured))
    detail["wrong"] = [name for name, _ in wrong]
    if wrong:
        message = " ".join(sentence for _, sentence in wrong)
        return judged(check, "failed", message, n=answered, value=_value(wrong[0][0], measured), detail=detail)
    value = _value("parity", measured)
    return judged(check, "passed", _well(check, measured), n=answered, value=value, detail=detail)


def _wrong(check: RobustnessCheck, measured: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong (parity, determinism, crash, missing), each with a sentence."""
    if sentence := _disparity(check, measured):
        yield "parity", sentence
    if check.deterministic and (sentence := _indeterminism(measured["determinism"])):
        yield "determinism", sentence
    for each in (*measured["missing"], *measured["strange"]):
        if each["died"]:
            yield "crash", f"A row with a missing or strange {each['column']} ended its process: {each['said']}"
            return
    worst = _worst(measured["missing"])
    if worst is not None and worst["answered"] < check.missing_values * worst["rows"]:
        yield "missing", _unanswered(check, measured["missing"], worst)


def _disparity(check: RobustnessCheck, measured: Mapping[str, Any]) -> str:
    """How served and registered form differ by more than the tolerance; empty when they do not."""
    parity = measured["parity"]
    if parity["only_one"]:
        return f"Of {parity['rows']:,} rows {parity['only_one']:,} were answered by one form only, {_forms(measured)}."
    if parity["max_difference"] <= check.parity_tolerance:
        return ""
    apart = f"up to {parity['max_difference']:.2g} apart on {parity['rows']:,} rows"
    allowed = f"{check.parity_tolerance:g} is allowed"
    return f"What is served is not what was trained: {_forms(measured)} are {apart}, {allowed}."


def _indeterminism(determinism: Mapping[str, Any]) -> str:
    """Which question got other scores than before; empty when none did."""
    again = determinism["again"]
    if again["differing"]:
        return f"Asked twice, {_moved(again)}."
    for way, words in (("order", "in another order"), ("alone", "one by one")):
        each = determinism[way]
        if each["only_one"] or each["relative"] > ROUNDING:
            return f"Asked {words}, {_moved(each)}: the score of a row depends on the rows beside it."
    return ""


def _moved(compared: Mapping[str, Any]) -> str:
    away = f"up to {compared['max_difference']:.2g} away"
    return f"{compared['differing']:,} of {compared['rows']:,} rows got another answer, {away}"


def _least_answered(columns: Sequence[Json]) -> list[Json]:
    return sorted(columns, key=lambda each: each["answered"] / each["rows"])


def _worst(missing: Sequence[Json]) -> Json | None:
    """The column whose absence leaves most rows unanswered."""
    return _least_answered(missing)[0] if missing else None


def _unanswered(check: RobustnessCheck, missing: Sequence[Json], worst: Json) -> str:
    below = [each["column"] for each in missing if each["answered"] < check.missing_values * each["rows"]]
    others = f" (and without {len(below) - 1} other inputs)" if len(below) > 1 else ""
    answered = f"it answers {worst['answered']} of {worst['rows']} rows, {check.missing_values:.0%} are asked for"
    said = f": {worst['said']}" if worst["said"] else "."
    return f"Without {worst['column']}{others} {answered}{said}"


def _well(check: RobustnessCheck, measured: Mapping[str, Any]) -> str:
    told = [_same(measured)]
    told += ["It gives the same answers twice."] if check.deterministic else []
    worst = _worst(measured["missing"])
    if worst is not None:
        answered = f"at least {worst['answered']} of {worst['rows']} rows"
        told.append(f"With any one of {len(measured['missing'])} inputs missing it answers {answered}.")
    return " ".join(told)


def _same(measured: Mapping[str, Any]) -> str:
    parity = measured["parity"]
    if parity["by"] == "scores":
        apart = f"at most {parity['max_difference']:.2g} apart on {parity['rows']:,} rows"
        return f"{_forms(measured)[:1].upper()}{_forms(measured)[1:]} are {apart}."
    if measured["served"]["load_class"] == "external":
        return "The endpoint that was registered is asked; what answers behind it is outside our sight."
    return f"The registered artifact itself is served ({measured['served']['digest'][:12]})."


def _forms(measured: Mapping[str, Any]) -> str:
    served, registered = measured["served"], measured["registered"]
    return (
        f"the served form ({served['load_class']} {served['digest'][:12]}) and the registered one "
        f"({registered['load_class']} {registered['digest'][:12]})"
    )


def _value(name: str, measured: Mapping[str, Any]) -> float | None:
    """The number behind one of the findings."""
    worst = _worst(measured["missing"])
    if name == "missing" and worst is not None:
        return float(worst["answered"] / worst["rows"])
    if name == "determinism":
        return max(float(each["max_difference"]) for each in measured["determinism"].values())
    return float(measured["parity"]["max_difference"]) if name == "parity" else None
