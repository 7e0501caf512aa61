"""What a gate run found, in words: the verdict in a sentence, numbers with units, and who does what next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gates.models import CheckResult
from mlops import gate_words
from mlops.gate_words import counted, listed, per_cent, points
from registry.measured import shown
from registry.models import Duty

MOST_CLAUSES = 2
MOST_PLACES = 3
LONGEST_CLAUSE = 220
NOT_PASSED = ("failed", "error", "inconclusive")
DECIDES = ("failed", "error", "inconclusive", "passed")
"""Which verdict decides a run when there are several, and in which order checks are shown."""


# ---------------------------------------------------------------------- details of any age


def rows_of(detail: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The list of objects under this name; empty where an older run has none, or something else."""
    found = detail.get(name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list | tuple) else []


def part_of(detail: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under this name, or an empty one."""
    found = detail.get(name)
    return found if isinstance(found, Mapping) else {}


def number_of(detail: Mapping[str, Any], name: str) -> float | None:
    """The number under this name, or None."""
    found = detail.get(name)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


# ---------------------------------------------------------------------- the verdict in a sentence


def headline(state: str, results: Sequence[CheckResult], *, required: int, reason: str, rival: str = "") -> str:
    """What decided a run that has ended, in plain words; ``reason`` where no check did. ``rival``: such as ``v3``."""
    blocking = [each for each in results if each.blocking]
    if state == "passed":
        return _passed(blocking, [each for each in results if not each.blocking and each.verdict != "passed"])
    decided = [each for each in blocking if each.verdict == state]
    if not decided:
        return reason
    clauses = [clause(each, rival=rival) for each in decided[:MOST_CLAUSES]]
    rest = len(decided) - len(clauses)
    told = "; ".join(clauses) + (f"; and {counted(rest)} more" if rest else "")
    of = f"{counted(len(decided))} of {counted(required)} blocking checks"
    begin, end = {
        "failed": ("Failed", of),
        "inconclusive": ("Not decided", f"{of} can not be decided yet"),
        "error": ("Not measured", f"{of} could not be measured"),
    }[state]
    return f"{begin}: {told}; {end}."


def _passed(blocking: Sequence[CheckResult], noted: Sequence[CheckResult]) -> str:
    every = f"all {counted(len(blocking))} blocking checks" if len(blocking) > 1 else "its one blocking check"
    aside = f" Reported only, and not passed: {listed([_named(each) for each in noted])}." if noted else ""
    return f"Passed: {every}.{aside}"


def _named(result: CheckResult) -> str:
    return gate_words.title(result.check_id)


def clause(result: CheckResult, *, rival: str = "") -> str:
    """What one check that did not pass found, to stand inside a sentence."""
    metric = gate_words.METRICS.get(str(result.detail.get("metric")), "")
    if result.verdict == "failed" and result.value is not None:
        if result.kind == "versus_champion" and metric and result.value < 0:
            return f"it is worse than {rival or 'the champion'} by {shown_difference(result.value, 2)} {metric}"
        if result.kind == "metric" and metric and (bar := re.search(r"is (below|above) (\S+?)\.?$", result.message)):
            return f"its {metric} of {shown(result.value)} is {bar[1]} the {bar[2]} asked for"
        if result.kind == "slice" and metric and (places := where(result)):
            return f"its {metric} is clearly worse where {listed(places)}"
    return f"{_named(result)}: {_first_sentence(result.message)}"


def _first_sentence(message: str) -> str:
    """The first sentence, without intervals, with metrics by their names."""
    first = re.split(r"\.\s+(?=[A-Z0-9])|\.$", message.strip(), maxsplit=1)[0]
    first = re.sub(r"\s*\[[^\]]*\]", "", first)
    first = gate_words.named(first)
    return first if len(first) <= LONGEST_CLAUSE else f"{first[: LONGEST_CLAUSE - 1].rstrip()}…"


# ---------------------------------------------------------------------- numbers


def shown_difference(value: float, digits: int = 3) -> str:
    """The size of a difference to the digits that mean something; its direction is said in words."""
    return shown(float(f"{abs(value):.{digits}g}"))


def shown_gain(value: float) -> str:
    """A gain over the champion, positive is better, as words."""
    if value == 0:
        return "equal"
    return f"{shown_difference(value)} {'better' if value > 0 else 'worse'}"


def value_in_words(result: CheckResult) -> str:
    """The measured value with its unit; a dash where there is none."""
    return "—" if result.value is None else _with_unit(result, result.value)


def interval_in_words(result: CheckResult) -> str:
    """The interval with its unit; empty where there is none."""
    if result.low is None or result.high is None:
        return ""
    return f"{_with_unit(result, result.low)} to {_with_unit(result, result.high)}"


def _with_unit(result: CheckResult, value: float) -> str:
    if result.kind == "versus_champion":
        return shown_gain(value)
    if result.kind == "fairness":
        return per_cent(round(value, 4)) if "ratio" in str(result.detail.get("measure")) else points(value)
    if result.kind == "latency":
        return f"{value:.2f} times" if result.detail.get("binding") == "ratio_to_champion" else f"{shown(value)} ms"
    if result.kind == "robustness" and "missing" in (result.detail.get("wrong") or [])[:1]:
        return per_cent(round(value, 4))
    if result.kind == "robustness":
        return f"{gate_words.small(float(f'{value:.2g}'))} apart"
    if result.kind == "feature_consistency":
        return per_cent(round(value, 5))
    if result.kind == "data_quality":
        return f"nulls +{points(value)}" if result.verdict == "passed" else _defects(value)
    if result.kind == "training_data":
        return f"{value:.0f} days old"
    return shown(value)


def _defects(count: float) -> str:
    return "1 defect" if count == 1 else f"{count:.0f} defects"


UNITS = {
    "latency": "call",
    "live_drift": "request",
    "feature_consistency": "value",
    "ci_evidence": "report",
    "custom": "observation",
}


def counted_on(result: CheckResult) -> str:
    """What the check looked at, with its unit; a dash where it says nothing of that."""
    if result.n is None:
        return "—"
    unit = UNITS.get(result.kind, "row")
    return f"{result.n:,}\u00a0{unit}" + ("" if result.n == 1 else "s")


# ---------------------------------------------------------------------- where it failed


def where(result: CheckResult) -> list[str]:
    """The segments, groups or columns by which a check did not pass, worst first; at most three, then how many more."""
    if result.verdict == "passed":
        return []
    found = list(_places(result))
    more = len(found) - MOST_PLACES
    return [*found[:MOST_PLACES], f"{more} more"] if more > 0 else found


def _places(result: CheckResult) -> Iterator[str]:
    detail = result.detail
    if result.kind == "slice":
        for each in rows_of(detail, "segments"):
            if each.get("verdict") == "failed":
                yield segment(each)
    if result.kind == "fairness":
        yield from _extremes(detail)
    if result.kind == "latency":
        for each in rows_of(detail, "limits"):
            if each.get("verdict") == result.verdict:
                yield str(each.get("limit")).replace("_", " ")
    if result.kind == "robustness":
        wrong = detail.get("wrong")
        yield from (WRONG[each] for each in (wrong if isinstance(wrong, list) else ()) if each in WRONG)
        yield from (f"without {each.get('column')}" for each in _unanswered(detail))
    if result.kind == "data_quality" and isinstance(defects := detail.get("defects"), list):
        yield from dict.fromkeys(re.split(r"\s+(?:at least\s+)?[\d.]+\s?%", str(each))[0] for each in defects)
    if result.kind in ("leakage", "live_drift"):
        marks = ("is_suspect", "moved")
        yield from (str(each.get("feature")) for each in rows_of(detail, "features") if any(map(each.get, marks)))
    if result.kind == "feature_consistency":
        for each in rows_of(detail, "features"):
            if (number_of(each, "clean") or 0) < (number_of(each, "needed") or 0):
                yield str(each.get("feature"))


def segment(each: Mapping[str, Any]) -> str:
    """A segment as ``carrier = AA``."""
    return f"{each.get('by')} = {each.get('level')}"


WRONG = {"parity": "served against trained", "determinism": "asked again", "crash": "a strange input"}


def _unanswered(detail: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Inputs without which rows went unanswered, the worst first."""
    short = [
        (number_of(each, "answered") or 0.0, each)
        for each in rows_of(detail, "missing")
        if (number_of(each, "answered") or 0.0) < (number_of(each, "rows") or 0.0)
    ]
    return [each for _, each in sorted(short, key=lambda pair: pair[0])]


def _extremes(detail: Mapping[str, Any]) -> Iterator[str]:
    """The two groups that stand farthest apart in what the check compares."""
    rate = "selection_rate" if "parity" in str(detail.get("measure")) else "tpr"
    judged = [each for each in rows_of(detail, "groups") if each.get("judged") and number_of(each, rate) is not None]
    if len(judged) > 1:
        ordered = sorted(judged, key=lambda each: number_of(each, rate) or 0.0)
        for each in (ordered[0], ordered[-1]):
            yield f"{each.get('group')} {per_cent(round(number_of(each, rate) or 0.0, 3))}"


# ---------------------------------------------------------------------- what next, for whom


@dataclass(frozen=True)
class Step:
    """What somebody does about a check that did not pass."""

    check_id: str
    blocking: bool
    duties: tuple[Duty, ...]
    what: str

    @property
    def title(self) -> str:
        return gate_words.title(self.check_id)


SCIENCE, PLATFORM, PRODUCT = Duty.DATA_SCIENCE, Duty.PLATFORM, Duty.PRODUCT
FAILED: Mapping[str, tuple[tuple[Duty, ...], str]] = {
    "metric": ((SCIENCE,), "Improve the model (features, training window, parameters) and register a new version."),
    "versus_champion": (
        (SCIENCE,),
        "The champion stays. Compare the two versions to see what the new one lost, then register a better one.",
    ),
    "slice": (
        (SCIENCE,),
        "Look at the rows of the named segments: too few in training, a feature that is missing there, another world? "
        "Then register a version that holds there, too.",
    ),
    "fairness": (
        (SCIENCE, PRODUCT),
        "Look at the base rates beside the gap: does the model differ, or the world? Data science mends the model or "
        "its data; product decides whether the threshold and the use are right.",
    ),
    "latency": (
        (SCIENCE, PLATFORM),
        "Make the model smaller or let it be converted to ONNX; platform looks at the sandbox it was timed in.",
    ),
    "robustness": (
        (SCIENCE, PLATFORM),
        "What is served must be what was trained: mend the conversion, the seeds or how missing values are taken.",
    ),
    "data_quality": (
        (PLATFORM, SCIENCE),
        "Mend the source or the feature view behind the named columns; then build the dataset again and retrain.",
    ),
    "training_data": ((SCIENCE,), "Train on a dataset that fits the rule, and register the new version."),
    "leakage": (
        (SCIENCE,),
        "Find out when the named features are known. If only after the answer, take them out and retrain.",
    ),
    "live_drift": ((SCIENCE,), "Train on newer data, or leave out what has moved."),
    "feature_consistency": (
        (PLATFORM,),
        "Mend the materialization of the named views: what is served is not what the model learned from.",
    ),
    "ci_evidence": ((SCIENCE,), "Mend the code or its tests, run “gatehouse ci” on it, and register the version anew."),
    "custom": ((SCIENCE, PRODUCT), "Talk about the measured number: it is a check that product asked for."),
}
UNDECIDED: Mapping[str, tuple[tuple[Duty, ...], str]] = {
    "latency": ((PLATFORM,), "Run again when the machine is quieter."),
    "ci_evidence": ((SCIENCE,), "Submit the missing reports (“gatehouse ci” does), then run again."),
    "custom": ((SCIENCE,), "Let the pipeline post the measurement about this version, then run again."),
    "data_quality": ((SCIENCE,), "More rows are needed: wait for them, or take a longer holdout. Then run again."),
    "training_data": ((SCIENCE,), "A holdout is needed: wait for labelled rows, then run again."),
}
WAIT: tuple[tuple[Duty, ...], str] = (
    (SCIENCE,),
    "Wait for labelled rows, or take a longer holdout; then run again.",
)
BLAMELESS: tuple[tuple[Duty, ...], str] = ((PLATFORM, SCIENCE), "Mend what could not be had, then run again.")


def steps(results: Sequence[CheckResult]) -> list[Step]:
    """One for each check that did not pass, those that stop the version first."""
    stopped = [each for each in results if each.verdict in NOT_PASSED]
    return [_step(each) for each in sorted(stopped, key=lambda each: not each.blocking)]


def _step(result: CheckResult) -> Step:
    if result.verdict == "failed":
        duties, what = FAILED.get(result.kind, ((SCIENCE,), "Mend the version or its data, and register a new one."))
    elif result.verdict == "inconclusive":
        duties, what = UNDECIDED.get(result.kind, WAIT)
        what = f"{_needed(result)} {what}".strip()
    else:
        duties, what = BLAMELESS
        what = f"It could not be measured: {_first_sentence(result.message)}. {what}"
    return Step(result.check_id, result.blocking, duties, what)


def _needed(result: CheckResult) -> str:
    """The part of the message that says how many more rows would decide, where it does."""
    found = re.search(r"[^.;:]*\b(?:needs?|needed|more)\b[^.;]*\brows\b[^.;]*", result.message)
    text = found[0].strip() if found else ""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def by_severity(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Worst first: blocking before report only, and within these what decided the run before what passed."""
    return sorted(results, key=lambda each: (_rank(each), not each.blocking, each.check_id))


def _rank(result: CheckResult) -> int:
    """Not passed and blocking, then not passed and only reported, then passed."""
    if result.verdict == "passed":
        return 2 * len(DECIDES)
    return DECIDES.index(result.verdict) + (0 if result.blocking else len(DECIDES))
