"""Judgements: measured numbers and a rule in, a verdict with its numbers out. Pure; every number is measured elsewhere.

No data is inconclusive, could-not-measure is error; only ``passed`` opens a gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from gates.policy import (
    AnyCheck,
    CiEvidenceCheck,
    DataQualityCheck,
    FairnessCheck,
    FeatureConsistencyCheck,
    LatencyCheck,
    MetricCheck,
    TrainingDataCheck,
    Use,
    VersusChampionCheck,
)
from stats.fairness import FairnessGaps, GroupRow
from stats.interval import FloatArray, Interval, wilson
from stats.latency import ratio, summarize

VerdictName = Literal["passed", "failed", "inconclusive", "error"]
SUPPRESSED_BELOW = 30
"""Groups smaller than this are named with their size only: rates of so few people describe persons."""


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
    return _judged(check, "error", why, detail=detail)


def metric(check: MetricCheck, measured: Interval | None, *, rows: int) -> Judgement:
    """A metric of the version alone against its bar; ``rows`` labelled rows of the holdout."""
    if few := _too_few(check, rows, check.minimum_rows):
        return few
    if measured is None:
        return _judged(check, "inconclusive", f"{check.metric} has no value on {rows:,} rows (one class only).", n=rows)
    verdict = clears(measured, use=check.use, at_least=check.at_least, at_most=check.at_most)
    message = f"{_shown(check.metric, measured)} on {rows:,} rows {_against(verdict, check.at_least, check.at_most)}."
    return _judged(check, verdict, message, measured, n=rows, detail={"metric": check.metric})


def versus_champion(
    check: VersusChampionCheck, gain: Interval | None, *, rows: int, champion: str, values: Mapping[str, float | None]
) -> Judgement:
    """``gain``: by how much the version is better than the champion (positive is better) on the same ``rows``.

    ``values`` holds the metric of both alone, for the message.
    """
    detail = {"metric": check.metric, "champion": champion, **values}
    if few := _too_few(check, rows, check.minimum_rows, detail=detail):
        return few
    if gain is None:
        message = f"{check.metric} has no value on these {rows:,} rows (one class only)."
        return _judged(check, "inconclusive", message, n=rows, detail=detail)
    margin = check.not_worse_by
    verdict = clears(gain, use="lower_bound", at_least=-margin)
    meaning = {
        "passed": f"worse by {margin:g} is excluded",
        "failed": f"it is worse by more than {margin:g}",
        "inconclusive": f"worse by {margin:g} can not be excluded; {_rows_needed(gain, margin)}",
    }[verdict]
    message = f"{check.metric} better than {champion} by {_interval(gain)} on the same {rows:,} rows: {meaning}."
    return _judged(check, verdict, message, gain, n=rows, detail=detail)


def no_champion(check: VersusChampionCheck) -> Judgement:
    """A first version has nobody to be worse than."""
    return _judged(
        check, "passed", "There is no champion yet: nothing to be worse than.", detail={"metric": check.metric}
    )


def fairness(check: FairnessCheck, gaps: FairnessGaps, groups: Sequence[GroupRow]) -> Judgement:
    """The gap between groups against its bar; groups under the minimum are listed as not enough evidence."""
    measured: Interval | None = getattr(gaps, check.measure)
    detail = {"by": check.by, "measure": check.measure, "groups": [_group(row, gaps) for row in groups]}
    aside = f" Not enough evidence for {', '.join(gaps.too_small)}." if gaps.too_small else ""
    if measured is None:
        message = (
            f"{len(gaps.judged)} of {len(groups)} groups by {check.by} have {check.minimum_group} rows and "
            f"{check.minimum_positives} positives; two are needed to compare.{aside}"
        )
        return _judged(check, "inconclusive", message, n=sum(row.n for row in groups), detail=detail)
    verdict = clears(measured, use=check.use, at_least=check.at_least, at_most=check.at_most)
    between = f" between {len(gaps.judged)} groups by {check.by}"
    outcome = _against(verdict, check.at_least, check.at_most)
    message = f"{_shown(check.measure, measured)}{between} {outcome}.{_extremes(check, gaps, groups)}{aside}"
    return _judged(check, verdict, message, measured, detail=detail)


def latency(check: LatencyCheck, milliseconds: FloatArray, *, champion: FloatArray | None = None) -> Judgement:
    """Single-row latencies against the limits: how large a share of calls is slower, with its interval (Wilson)."""
    n = len(milliseconds)
    summary = summarize(milliseconds, confidence=check.confidence) if n else None
    against = ratio(milliseconds, champion, q=0.5) if champion is not None and n else None
    detail: dict[str, Any] = {"ratio_to_champion": against, "longest_ms": summary.longest if summary else None}
    if n < check.minimum_calls:
        return _few_calls(check, milliseconds, detail)
    if unsteady := _unsteady(check, milliseconds):
        return _judged(check, "inconclusive", unsteady, n=n, detail=detail)
    verdicts: list[VerdictName] = []
    sentences: list[str] = []
    for name, q, limit in (("p50", 0.5, check.p50_ms), ("p95", 0.95, check.p95_ms)):
        value = float(np.quantile(milliseconds, q))
        detail[f"{name}_ms"] = value
        if limit is not None:
            verdict = _within(milliseconds, limit, q, check.confidence)
            verdicts.append(verdict)
            sentences.append(f"{name} {value:.1f} ms {_against(verdict, None, limit)} ms")
    worst: VerdictName = min(verdicts, key=("failed", "inconclusive", "passed").index)
    times = "" if against is None else f" {against:.2f} times the champion's median."
    message = f"{'; '.join(sentences)}, of {n} single-row calls.{times}"
    shown = summary.p95 if summary and check.p95_ms is not None else summary.p50 if summary else None
    value = detail["p95_ms" if check.p95_ms is not None else "p50_ms"]
    return Judgement(
        check.id,
        check.kind,
        check.blocking,
        worst,
        message,
        value,
        shown.low if shown else None,
        shown.high if shown else None,
        n,
        check.rule(),
        detail,
    )


def _few_calls(check: LatencyCheck, milliseconds: FloatArray, detail: dict[str, Any]) -> Judgement:
    """Few calls can not show that a version is fast enough, but they can show that it is not.

    If at least a share q of calls met the limit, so many slow ones among n would be a binomial accident of probability
    P(X >= slow), X ~ Binomial(n, 1 - q).
    """
    from scipy.stats import binom

    n = len(milliseconds)
    fitted = f"Only {n} calls fitted into {check.budget_seconds:g} s"
    for name, q, limit in (("p50", 0.5, check.p50_ms), ("p95", 0.95, check.p95_ms)):
        slow = 0 if limit is None else int((milliseconds > limit).sum())
        if slow and binom.sf(slow - 1, n, 1 - q) < 1 - check.confidence:
            message = f"{fitted}, and {slow} of them took longer than the {limit:g} ms allowed for {name}."
            return _judged(check, "failed", message, n=n, detail=detail)
    message = f"{fitted}; {check.minimum_calls} are needed to judge."
    return _judged(check, "inconclusive", message, n=n, detail=detail)


@dataclass(frozen=True)
class ColumnQuality:
    """One feature of the holdout against the training dataset; shares of the holdout's rows, None where meaningless."""

    column: str
    null_share: float
    trained_null_share: float
    out_of_range: float | None = None
    unseen: float | None = None

    @property
    def null_increase(self) -> float:
        return self.null_share - self.trained_null_share


def data_quality(
    check: DataQualityCheck, columns: Sequence[ColumnQuality], *, duplicates: float, rows: int
) -> Judgement:
    """The worst column of each kind of defect against its limit."""
    judged = [column for column in columns if column.column not in check.ignore]
    detail = {
        "duplicates": duplicates,
        "ignored": list(check.ignore),
        "columns": [{**asdict(column), "null_increase": column.null_increase} for column in judged],
    }
    if few := _too_few(check, rows, check.minimum_rows, detail=detail):
        return few
    defects = [f"{duplicates:.2%} duplicated {check.key}"] if duplicates > check.duplicates else []
    for column in judged:
        if column.null_increase > check.null_increase:
            defects.append(f"{column.column} null {column.null_share:.1%} (trained {column.trained_null_share:.1%})")
        if column.out_of_range is not None and column.out_of_range > check.out_of_range:
            defects.append(f"{column.column} {column.out_of_range:.1%} out of range")
        if column.unseen is not None and column.unseen > check.unseen:
            defects.append(f"{column.column} {column.unseen:.1%} unseen levels")
    increase = max((column.null_increase for column in judged), default=0.0)
    if not defects:
        message = (
            f"{len(judged)} features of {rows:,} rows look like the training data (nulls at most {increase:+.1%})."
        )
        return _judged(check, "passed", message, n=rows, value=increase, detail=detail)
    counted = "1 defect" if len(defects) == 1 else f"{len(defects)} defects"
    message = f"{counted} in {rows:,} rows: {'; '.join(defects[:8])}{'; …' if len(defects) > 8 else ''}."
    return _judged(check, "failed", message, n=rows, value=float(len(defects)), detail=detail)


def training_data(
    check: TrainingDataCheck,
    *,
    rows: int,
    trained_to: datetime | None,
    holdout_from: datetime | None,
    now: datetime,
) -> Judgement:
    """The newest training row (``trained_to``) must lie before the oldest row of the holdout (``holdout_from``)."""
    if trained_to is None:
        return could_not(check, "The training dataset does not say how far it reaches.")
    detail = {"trained_to": trained_to.isoformat(), "holdout_from": holdout_from.isoformat() if holdout_from else None}
    if holdout_from is None:
        return _judged(check, "inconclusive", "There is no holdout to lie before.", n=rows, detail=detail)
    if trained_to >= holdout_from:
        message = (
            f"It would be judged on rows it was trained on: training data reach {trained_to:%Y-%m-%d %H:%M}, "
            f"the holdout starts {holdout_from:%Y-%m-%d %H:%M}."
        )
        return could_not(check, message, **detail)
    age = (now - trained_to) / timedelta(days=1)
    facts = f"{rows:,} rows up to {trained_to:%Y-%m-%d}, {age:.0f} days old"
    if rows < check.minimum_rows:
        return _judged(check, "failed", f"{facts}: fewer than {check.minimum_rows:,} rows.", n=rows, detail=detail)
    if check.maximum_age_days is not None and age > check.maximum_age_days:
        message = f"{facts}: older than {check.maximum_age_days} days."
        return _judged(check, "failed", message, value=age, n=rows, detail=detail)
    return _judged(check, "passed", f"{facts}, before the holdout starts.", value=age, n=rows, detail=detail)


@dataclass(frozen=True)
class CiReport:
    """The newest evidence of one kind about the version's code."""

    kind: str
    verdict: VerdictName
    summary: str
    submitted_at: datetime
    tests: int | None = None
    evidence: int | None = None


def ci_evidence(
    check: CiEvidenceCheck, reports: Mapping[str, CiReport], *, code_digest: str, deadline: datetime, now: datetime
) -> Judgement:
    """``reports`` by kind, only of exactly this ``code_digest``. What has not come is inconclusive."""
    if not code_digest:
        return could_not(check, "The version does not say which code made it: no evidence can be about it.")
    detail = {"code_digest": code_digest, "evidence": {kind: reports[kind].evidence for kind in reports}}
    seen = [_report(check, reports[kind], now) for kind in check.require if kind in reports]
    missing = [kind for kind in check.require if kind not in reports]
    if missing:
        came = f"by {deadline:%Y-%m-%d %H:%M}" if now >= deadline else "yet"
        seen.append(("inconclusive", f"no {' and no '.join(missing)} report about code {code_digest[:12]} came {came}"))
    worst: VerdictName = min((verdict for verdict, _ in seen), key=("failed", "error", "inconclusive", "passed").index)
    told = "; ".join(text for verdict, text in seen if worst == "passed" or verdict != "passed")
    return _judged(check, worst, f"{told}.", n=len(seen) - bool(missing), detail=detail)


@dataclass(frozen=True)
class FeatureAudit:
    """What the consistency audits say of one feature that a version takes (``features.consistency.Standing``).

    The audit that decides, its view's ``limit``, and the ``clean`` cells since of those ``needed`` to be sure again.
    """

    feature: str
    at: datetime
    cells: int
    differing: int
    limit: float
    clean: int = 0
    needed: int = 0

    @property
    def share(self) -> float:
        return self.differing / self.cells if self.cells else 0.0

    @property
    def in_words(self) -> str:
        since = f", {self.clean:,} of {self.needed:,} needed agreed since" if self.clean else ""
        return (
            f"{self.feature} {self.differing:,} of {self.cells:,} differ ({self.share:.2%}, {self.limit:.2%} allowed, "
            f"audit of {self.at:%Y-%m-%d %H:%M}{since})"
        )


def feature_consistency(
    check: FeatureConsistencyCheck, audits: Sequence[FeatureAudit], *, unserved: Sequence[str]
) -> Judgement:
    """``audits``: one per feature that was served; ``unserved``: the view versions of which nothing was, in that time.

    What was never served has no evidence against it, and would never get any if that stopped a version.
    """
    days = f"in the last {check.maximum_age_days} days"
    aside = f" Not served {days}: {', '.join(unserved)}." if unserved else ""
    broken = sorted((each for each in audits if each.clean < each.needed), key=lambda each: -each.share)
    detail = {
        "features": [{**asdict(each), "at": each.at.isoformat(), "share": each.share} for each in audits],
        "unserved": list(unserved),
    }
    if broken:
        more = f" and {len(broken) - 5} more features" if len(broken) > 5 else ""
        told = "; ".join(each.in_words for each in broken[:5])
        message = f"Served values are not what training sees: {told}{more}.{aside}"
        return _judged(
            check, "failed", message, n=sum(each.cells for each in broken), value=broken[0].share, detail=detail
        )
    if not audits:
        nothing = f"Nothing of {', '.join(unserved)} was served {days}" if unserved else "It takes no stored features"
        return _judged(check, "passed", f"{nothing}: there is nothing to compare yet.", n=0, detail=detail)
    cells = sum(each.clean for each in audits)
    message = f"{cells:,} served values of {len(audits)} features agree with what training sees.{aside}"
    return _judged(check, "passed", message, n=cells, value=0.0, detail=detail)


# ---------------------------------------------------------------------- words and parts


def _judged(
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


def _too_few(check: AnyCheck, rows: int, minimum: int, *, detail: Mapping[str, Any] | None = None) -> Judgement | None:
    if rows >= minimum:
        return None
    message = f"{rows:,} labelled rows, {minimum:,} are needed to judge."
    return _judged(check, "inconclusive", message, n=rows, detail=detail)


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def _shown(name: str, interval: Interval) -> str:
    return f"{name} {_interval(interval)}"


def _against(verdict: VerdictName, at_least: float | None, at_most: float | None) -> str:
    bar = f"{at_least if at_least is not None else at_most:g}"
    wrong, limit = ("below", "at least") if at_least is not None else ("above", "at most")
    if verdict == "failed":
        return f"is {wrong} {bar}"
    if verdict == "inconclusive":
        return f"may be {wrong} {bar}: more rows are needed"
    return f"clears {limit} {bar}"


def _rows_needed(gain: Interval, margin: float) -> str:
    """How many rows an equally good version would need for its lower bound to clear the margin."""
    half = (gain.high - gain.low) / 2
    if margin <= 0:
        return "no number of rows can show it of an equal version"
    needed = math.ceil(gain.n * (half / margin) ** 2)
    if needed <= gain.n:
        return "these rows would do for an equal version"
    return f"an equal version needs about {needed:,} rows"


def _group(row: GroupRow, gaps: FairnessGaps) -> dict[str, Any]:
    if row.n < SUPPRESSED_BELOW:
        return {"group": row.group, "n": row.n, "judged": False}
    shown = {name: value for name, value in row.as_dict().items() if name != "cells"}
    return {**shown, "judged": row.group in gaps.judged}


def _extremes(check: FairnessCheck, gaps: FairnessGaps, groups: Sequence[GroupRow]) -> str:
    """Which groups stand at the ends, with their base rates: a gap may be one of the world, not of the model."""
    parity = check.measure.startswith("demographic_parity")
    judged = [row for row in groups if row.group in gaps.judged]
    rates = {row.group: row.selection_rate if parity else row.tpr for row in judged}
    known = {group: rate for group, rate in rates.items() if rate is not None}
    if len(known) < 2:
        return ""
    ends = (min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name]))
    base = {row.group: row.base_rate for row in judged}
    name = "acted on" if parity else "found"
    told = (f"{group} {name} {known[group]:.1%} (base rate {base[group]:.1%})" for group in ends)
    return f" {'; '.join(told)}."


def _within(milliseconds: FloatArray, limit: float, q: float, confidence: float) -> VerdictName:
    """The q-quantile is within the limit exactly when at most 1 − q of all calls are slower."""
    share = wilson(int((milliseconds > limit).sum()), len(milliseconds), confidence=confidence)
    assert share is not None  # the caller has calls
    return clears(share, use="upper_bound", at_most=1 - q)


def _unsteady(check: LatencyCheck, milliseconds: FloatArray) -> str:
    """The A/A control: the same version in the first and in the second half of the calls."""
    if check.drift_tolerance is None:
        return ""
    half = len(milliseconds) // 2
    change = ratio(milliseconds[half:], milliseconds[:half], q=0.5)
    if change is None or abs(change - 1) <= check.drift_tolerance:
        return ""
    return (
        f"The machine was too unsteady to judge: the second half of {len(milliseconds)} calls took {change:.2f} times "
        f"the first half's median, {1 - check.drift_tolerance:g} to {1 + check.drift_tolerance:g} is accepted."
    )


def _report(check: CiEvidenceCheck, report: CiReport, now: datetime) -> tuple[VerdictName, str]:
    told = f"{report.kind}: {report.summary}"
    if report.verdict != "passed":
        return report.verdict, told
    age = (now - report.submitted_at) / timedelta(days=1)
    if check.maximum_age_days is not None and age > check.maximum_age_days:
        return "error", f"{told}, but {age:.0f} days old; at most {check.maximum_age_days} are accepted"
    if report.tests is not None and report.tests < check.minimum_tests:
        return "error", f"{told}, but {check.minimum_tests} tests are required"
    return "passed", told
