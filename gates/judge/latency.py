"""How long answers take, and whether the machine was steady enough to say so.

A limit on a quantile is judged by the share of calls that were slower, with its interval (Wilson). Which part of the
A/A control (two copies of one model, timed in turn) has to agree for that:

* The medians always. Timed in turn they differ by a few percent, on an overloaded machine by a tenth; where they are
  further apart, nothing that was measured beside them is worth a verdict, and every limit is inconclusive.
* The same quantile, for a limit on p95 or p99, where it could have turned the verdict. On a loaded machine the tails of
  two equal models often differ by more than a tenth, whoever is measured, and that says nothing about a version which
  is far from its limit. A pass stands when the calls, slowed by as much as the control's copies differ, would still
  pass. A failure stands when more than half of the calls are above the limit: then it rests on the median.

An unsteady control makes a limit inconclusive, never failed; also when even the fastest call was above it, which
a quieter machine will hardly mend. The message says so.

A call that the model failed has no time: it counts as slower than any limit. When more than one in a hundred of those
that a limit is about failed, the check fails by that alone, whatever the control says: no quiet machine mends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gates.judge.verdicts import Judgement, VerdictName, clears
from gates.policy import LatencyCheck
from gates.policy.checks import QUANTILES
from stats import latency
from stats.interval import FloatArray, Interval, quantile_interval, wilson

Json = dict[str, Any]
FAILING_AT_MOST = 0.01
"""Of the calls: a larger share that the model failed is no matter of time any more."""
NEVER = 1e300
"""Milliseconds of a call that failed: finite, so that quantiles stay numbers, and beyond every limit."""
WORST_FIRST: tuple[VerdictName, ...] = ("failed", "error", "inconclusive", "passed")


@dataclass(frozen=True)
class _Finding:
    """One limit, judged. ``nearness`` is the measured number over its limit; ``unsteady``: the control was why."""

    name: str
    verdict: VerdictName
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    nearness: float = 0.0
    unsteady: bool = False


@dataclass(frozen=True)
class _Calls:
    """Single or batch calls of all arms in milliseconds, in rounds; NaN where a model failed."""

    arms: Mapping[str, FloatArray]
    twin: str

    def of(self, arm: str) -> FloatArray:
        """The answered calls of one arm."""
        times = self.arms.get(arm, np.empty(0))
        return times[np.isfinite(times)]

    def failed(self, arm: str) -> int:
        """How many calls of one arm the model failed."""
        return int((~np.isfinite(self.arms.get(arm, np.empty(0)))).sum())

    def counted(self, arm: str) -> FloatArray:
        """All calls of one arm, those that failed slower than any other."""
        times = self.arms.get(arm, np.empty(0))
        return np.where(np.isfinite(times), times, NEVER)

    def in_turn(self, first: str, second: str) -> tuple[FloatArray, FloatArray]:
        """The calls of two arms in the rounds that both answered."""
        one, other = (self.arms.get(arm, np.empty(0)) for arm in (first, second))
        rounds = min(len(one), len(other))
        both = np.isfinite(one[:rounds]) & np.isfinite(other[:rounds])
        return one[:rounds][both], other[:rounds][both]

    @property
    def has_control(self) -> bool:
        """Whether two copies of one model were timed at all."""
        return self.control_ratio(0.5) is not None

    def control_ratio(self, q: float) -> float | None:
        """A quantile of the control over the same quantile of its twin; None without calls of both."""
        return latency.ratio(*self.in_turn("control", self.twin), q=q)


def judge(check: LatencyCheck, measured: Mapping[str, Any]) -> Judgement:
    """Every limit of the check judged; the worst verdict counts, and of equal ones the limit that is nearest."""
    single, batch = _calls(measured, "single"), _calls(measured, "batch")
    findings = [
        _limit(check, name, bar, batch if name == "batch_p95" else single) for name, bar in check.limits.items()
    ]
    findings += _failing(check, single, batch)
    if check.ratio_to_champion is not None:
        findings.append(_ratio(check, check.ratio_to_champion, measured, single))
    binding = min(findings, key=lambda each: (WORST_FIRST.index(each.verdict), -each.nearness))
    n = len(single.counted("candidate"))
    return Judgement(
        check.id,
        check.kind,
        check.blocking,
        binding.verdict,
        _message(findings, single, measured),
        binding.value,
        binding.low,
        binding.high,
        n,
        check.rule()[:120],
        _detail(check, measured, single, batch, findings, binding),
    )


def _calls(measured: Mapping[str, Any], sort: str) -> _Calls:
    arms = {name: np.asarray(times, dtype=np.float64) for name, times in measured[sort].items()}  # None becomes NaN
    return _Calls(arms, measured["control_of"])


# ---------------------------------------------------------------------- calls that failed


def _failing(check: LatencyCheck, single: _Calls, batch: _Calls) -> list[_Finding]:
    """Too many failed calls of the sorts that the check is about."""
    is_about_single = check.ratio_to_champion is not None or set(check.limits) - {"batch_p95"}
    about = {"calls": single} if is_about_single else {}
    about |= {"batch calls": batch} if check.batch_p95_ms is not None else {}
    found = []
    for name, calls in about.items():
        failed, n = calls.failed("candidate"), len(calls.counted("candidate"))
        if n and failed / n > FAILING_AT_MOST:
            said = f"it failed {failed:,} of {n:,} {name}, at most {FAILING_AT_MOST:.0%} may"
            found.append(_Finding(f"failed {name}", "failed", said, nearness=failed / n / FAILING_AT_MOST))
    return found


# ---------------------------------------------------------------------- limits in milliseconds


def _limit(check: LatencyCheck, name: str, limit: float, calls: _Calls) -> _Finding:
    times, q = calls.counted("candidate"), QUANTILES[name.removeprefix("batch_")]
    words = name.replace("_", " ")
    if not len(calls.of("candidate")):
        return _Finding(name, "inconclusive", f"{words}: it answered none of its calls")
    verdict = _verdict(check, times, limit, q)
    value, low, high = _quantile(times, q, check.confidence)
    numbers = (value, low, high, np.inf if value is None else value / limit)
    if why := _doubt(check, calls, times, limit, q, verdict):
        sentence = f"{words} {_shown(value, None, None)} is not judged: {why}"
        return _Finding(name, "inconclusive", sentence, *numbers, unsteady=calls.has_control)
    return _Finding(name, verdict, f"{words} {_shown(value, low, high)} {_told(check, times, limit, q)}", *numbers)


def _verdict(check: LatencyCheck, times: FloatArray, limit: float, q: float) -> VerdictName:
    """The q-quantile is within the limit exactly when at most 1 − q of all calls are slower."""
    slow, n = int((times > limit).sum()), len(times)
    if n < check.minimum_calls:
        return "failed" if _can_not_be_chance(slow, n, 1 - q, check.confidence) else "inconclusive"
    share = wilson(slow, n, confidence=check.confidence)
    assert share is not None  # the caller has calls
    return clears(share, use="upper_bound", at_most=1 - q)


def _can_not_be_chance(count: int, n: int, share: float, confidence: float) -> bool:
    """Few calls can not show that a version is fast enough, but they can show that it is not.

    If no more than ``share`` of all calls did it, so many among n would be a binomial accident of probability
    P(X >= count), X ~ Binomial(n, share).
    """
    from scipy.stats import binom

    return bool(count) and float(binom.sf(count - 1, n, share)) < 1 - confidence


def _told(check: LatencyCheck, times: FloatArray, limit: float, q: float) -> str:
    """The verdict about one limit, in words that follow the measured number."""
    slow, n = int((times > limit).sum()), len(times)
    verdict = _verdict(check, times, limit, q)
    if verdict == "passed":
        return f"is within {limit:g} ms"
    if verdict == "failed":
        few = f" (only {n} calls fitted, {slow} of them slower)" if n < check.minimum_calls else ""
        return f"is above {limit:g} ms{few}"
    needed = latency.calls_needed(slow, n, allowed=1 - q, confidence=check.confidence)
    more = "more calls" if needed is None else f"about {max(check.minimum_calls, needed) - n:,} more calls than {n:,}"
    return f"may be above {limit:g} ms: {more} would tell (raise calls and budget_seconds)"


def _doubt(check: LatencyCheck, calls: _Calls, times: FloatArray, limit: float, q: float, verdict: VerdictName) -> str:
    """Why the control forbids a verdict; empty when it does not."""
    if why := _unsteady(check, calls, 0.5):
        return why + (
            f"; even its fastest call took {times.min():.3g} ms, above the {limit:g} ms allowed, which a quieter "
            "machine may not mend"
            if times.min() > limit
            else ""
        )
    tail = _unsteady(check, calls, q)
    if not tail or verdict == "inconclusive":
        return ""
    apart = calls.control_ratio(q)
    assert apart is not None  # it is outside the tolerance
    if verdict == "passed" and _verdict(check, times * max(apart, 1 / apart), limit, q) == "passed":
        return ""
    slow = wilson(int((times > limit).sum()), len(times), confidence=check.confidence)
    if verdict == "failed" and slow is not None and slow.low > 0.5:
        return ""
    return tail


def _unsteady(check: LatencyCheck, calls: _Calls, q: float) -> str:
    """How far the two copies are apart at a quantile when that is further than the tolerance; empty when it is not."""
    apart = calls.control_ratio(q)
    name = next(each for each, quantile in QUANTILES.items() if quantile == q)
    if apart is None:
        return "there is no control, two copies of one model, to say how steady the machine was"
    if max(apart, 1 / apart) <= 1 + check.control_tolerance:
        return ""
    return (
        f"two copies of the {calls.twin} differed by a factor of {max(apart, 1 / apart):.2f} at {name}, up to "
        f"{1 + check.control_tolerance:g} is accepted"
    )


# ---------------------------------------------------------------------- against the champion


def _ratio(check: LatencyCheck, limit: float, measured: Mapping[str, Any], single: _Calls) -> _Finding:
    """The ratio of the medians, from the rounds in which both answered."""
    name = "ratio_to_champion"
    if not measured["champion"]:
        return _Finding(name, "passed", "there is no champion to compare with")
    mine, theirs = _beside(measured, single).in_turn("candidate", "champion")
    if not len(mine):
        why = measured["champion_missing"] or "it answered no call that the version answered too"
        return _Finding(name, "error", f"the champion {measured['champion']} could not be timed: {why}")
    value = float(np.median(mine) / np.median(theirs))
    interval = _ratio_interval(check, measured, mine, theirs)
    verdict = _ratio_verdict(check, limit, mine / theirs, interval)
    low, high = (interval.low, interval.high) if interval else (None, None)
    numbers = (value, low, high, value / limit)
    if why := _unsteady(check, single, 0.5):
        sentence = f"median {value:.2f} × the champion's is not judged: {why}"
        return _Finding(name, "inconclusive", sentence, *numbers, unsteady=single.has_control)
    shown = f"median {value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if interval else "") + " × the champion's"
    told = {"passed": f"is within {limit:g}", "failed": f"is above {limit:g}"}
    more = f"may be above {limit:g}: more than {len(mine)} calls beside it would tell"
    return _Finding(name, verdict, f"{shown} {told.get(verdict, more)}", *numbers)


def _beside(measured: Mapping[str, Any], single: _Calls) -> _Calls:
    """The calls that were made beside the champion: all, unless it was so slow that it was then left out."""
    return _calls(measured, "beside_champion") if measured.get("beside_champion") else single


def _ratio_interval(
    check: LatencyCheck, measured: Mapping[str, Any], mine: FloatArray, theirs: FloatArray
) -> Interval | None:
    seed = int(measured["workload"]["seed"])
    return latency.ratio_interval(mine, theirs, confidence=check.confidence, seed=seed)


def _ratio_verdict(check: LatencyCheck, limit: float, ratios: FloatArray, interval: Interval | None) -> VerdictName:
    """By the interval; of few rounds by their signs: were the ratio at the limit, half of them would be above it."""
    if interval is not None and len(ratios) >= check.minimum_calls:
        return clears(interval, use="upper_bound", at_most=limit)
    above, n = int((ratios > limit).sum()), len(ratios)
    if _can_not_be_chance(above, n, 0.5, check.confidence):
        return "failed"
    return "passed" if _can_not_be_chance(n - above, n, 0.5, check.confidence) else "inconclusive"


# ---------------------------------------------------------------------- what is told


def _shown(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "of calls that failed"
    if low is None:
        return f"{value:.3g} ms"
    return f"{value:.3g} ms [{low:.3g}, {'failed' if high is None else f'{high:.3g}'}]"


def _message(findings: list[_Finding], single: _Calls, measured: Mapping[str, Any]) -> str:
    sentences = "; ".join(each.sentence for each in findings)
    failed = single.failed("candidate")
    aside = f", of which it failed {failed:,} (counted as slower than any)" if failed else ""
    timed = f"{sentences}. {len(single.counted('candidate')):,} single-row calls{aside}"
    attempts = len(measured.get("attempts", ())) or 1
    if any(each.unsteady for each in findings):
        tried = f" in each of {attempts} attempts" if attempts > 1 else ""
        return f"{timed}; the machine was too unsteady{tried}: run the gates again when it is quieter."
    slow = " The champion was too slow to be timed as often." if measured.get("beside_champion") else ""
    return f"{timed}.{slow}"


def _detail(
    check: LatencyCheck,
    measured: Mapping[str, Any],
    single: _Calls,
    batch: _Calls,
    findings: list[_Finding],
    binding: _Finding,
) -> Json:
    mine, theirs = _beside(measured, single).in_turn("candidate", "champion")
    ratio = _ratio_interval(check, measured, mine, theirs)
    return {
        "quantiles": _quantiles(single, check.confidence),
        "batch": {"rows": measured["batch_rows"], "quantiles": _quantiles(batch, check.confidence)},
        "ratio_to_champion": {"estimate": ratio.estimate, "low": ratio.low, "high": ratio.high} if ratio else None,
        "control_ratio": {
            **{name: single.control_ratio(q) for name, q in QUANTILES.items()},
            **{f"batch_{name}": batch.control_ratio(q) for name, q in QUANTILES.items() if name != "p99"},
        },
        "control_of": measured["control_of"],
        "attempts": len(measured.get("attempts", ())) or 1,
        "limits": [
            {
                "limit": each.name,
                "verdict": each.verdict,
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "unsteady": each.unsteady,
            }
            for each in findings
        ],
        "binding": binding.name,
        "unsteady": [each.name for each in findings if each.unsteady],
        "champion": measured["champion"],
        "champion_missing": measured["champion_missing"],
        "workload": dict(measured["workload"]),
        "failed": {"single": single.failed("candidate"), "batch": batch.failed("candidate")},
        "histogram": _histogram(single),
    }


def _histogram(calls: _Calls) -> Json | None:
    shape = latency.histogram({name: calls.of(name) for name in calls.arms})
    if shape is None:
        return None
    edges = [round(each, 5) for each in shape.edges.tolist()]
    return {"edges": edges, "counts": {name: counts.tolist() for name, counts in shape.counts.items()}}


def _quantiles(calls: _Calls, confidence: float) -> Json:
    return {arm: _quantiles_of(calls.counted(arm), confidence) for arm in calls.arms}


def _quantiles_of(times: FloatArray, confidence: float) -> Json:
    if not len(times):
        return {}
    found: Json = {}
    for name, q in QUANTILES.items():
        estimate, low, high = _quantile(times, q, confidence)
        found[name] = {"estimate": estimate, "low": low, "high": high}
    return found


def _quantile(times: FloatArray, q: float, confidence: float) -> tuple[float | None, float | None, float | None]:
    """A quantile with its interval, as far as it lies among calls that were answered."""
    interval = quantile_interval(times, q, confidence=confidence)
    found = (float(np.quantile(times, q)), *((interval.low, interval.high) if interval else (None, None)))
    value, low, high = (None if each is None or each > times[times < NEVER].max(initial=0) else each for each in found)
    return value, low, high
