"""What a policy asks and what its checks found, in words for people who did not write them. Pure.

A check of a stored policy may be of an older form that today's ``gates.policy`` no longer reads; then its settings are
told as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gates.policy import (
    AnyCheck,
    Bar,
    CiEvidenceCheck,
    CustomCheck,
    DataQualityCheck,
    FairnessCheck,
    FeatureConsistencyCheck,
    LatencyCheck,
    LeakageCheck,
    LiveDriftCheck,
    MetricCheck,
    RobustnessCheck,
    SliceCheck,
    TrainingDataCheck,
    VersusChampionCheck,
)
from registry.measured import shown
from stats.metrics import METRICS as STATISTICS

READER: TypeAdapter[AnyCheck] = TypeAdapter(AnyCheck)
METRICS = {name: metric.label for name, metric in STATISTICS.items()}
MEASURES = {
    "equal_opportunity_difference": "difference in real cases found",
    "demographic_parity_difference": "difference in selection rates",
    "demographic_parity_ratio": "ratio of selection rates",
    "equalized_odds_difference": "difference in real cases found or in false alarms",
}
KINDS = {
    "metric": "Quality",
    "versus_champion": "Against the champion",
    "slice": "Quality by segment",
    "fairness": "Fairness",
    "latency": "Latency",
    "robustness": "Robustness",
    "data_quality": "Data quality",
    "training_data": "Training data",
    "leakage": "Leakage",
    "live_drift": "Drift against live traffic",
    "feature_consistency": "Served features",
    "ci_evidence": "Tests of the code",
    "custom": "Measured by a pipeline",
}
GROUPS = (
    ("How well it predicts", ("metric", "versus_champion", "slice")),
    ("How it treats groups", ("fairness",)),
    ("What is deployed", ("latency", "robustness")),
    ("What it learned from", ("data_quality", "training_data", "leakage", "live_drift", "feature_consistency")),
    ("What others measured", ("ci_evidence", "custom")),
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def named(text: str) -> str:
    """A message with metrics and measures by the names that people use."""
    for name, title in {**METRICS, **MEASURES}.items():
        text = re.sub(rf"\b{name}\b", title, text)
    return text


def counted(number: int) -> str:
    """Small numbers as words, as a person would write them."""
    return NUMBERS[number] if 0 <= number < len(NUMBERS) else f"{number:,}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def title(check_id: str) -> str:
    """A check's id as a title: ``auc-vs-champion`` as ``AUC vs champion``."""
    words = {"auc": "AUC", "ci": "CI", "mae": "MAE", "rmse": "RMSE", "f1": "F1"}
    told = " ".join(words.get(part, part) for part in check_id.split("-"))
    return told[:1].upper() + told[1:]


def points(value: float) -> str:
    """A difference of two shares in percentage points."""
    return f"{shown(round(abs(value) * 100, 2))}\u00a0points"


def small(value: float) -> str:
    """A tolerance without an exponent."""
    return f"{value:.12f}".rstrip("0").rstrip(".") if 0 < value < 0.001 else f"{value:g}"


def per_cent(value: float) -> str:
    """A share as per cent, with as many digits as it needs."""
    return f"{value * 100:.4g}\u00a0%"


# ---------------------------------------------------------------------- what a policy asks


def in_words(check: AnyCheck) -> str:
    """What a version must prove, in a sentence."""
    match check:
        case MetricCheck():
            return f"{_first(METRICS[check.metric])} {_bar(check)}, on {check.minimum_rows:,} rows or more."
        case VersusChampionCheck():
            return _versus(check)
        case SliceCheck():
            return _slices(check)
        case FairnessCheck():
            return _fairness(check)
        case LatencyCheck():
            return _latency(check)
        case RobustnessCheck():
            return _robustness(check)
        case DataQualityCheck():
            return _data_quality(check)
        case TrainingDataCheck():
            return _training_data(check)
        case LeakageCheck():
            return (
                f"No single feature predicts the answer better than {check.alone_at_most:g} by itself, and none is "
                "newer than the answer."
            )
        case LiveDriftCheck():
            return (
                f"No feature has moved from the training data by more than {check.effect_at_most:g} in the live "
                f"traffic of the last {check.days} days."
            )
        case CiEvidenceCheck():
            return _ci(check)
        case CustomCheck():
            age = f", not older than {check.maximum_age_days} days" if check.maximum_age_days else ""
            return f"{check.measurement} {_bar(check)}, posted by a pipeline about this very version{age}."
        case FeatureConsistencyCheck():
            return (
                "The feature values that were served are those that training sees, by the audits of the last "
                f"{check.maximum_age_days} days."
            )


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _bar(check: Bar, told: Callable[[float], str] = "{:g}".format) -> str:
    is_floor = check.at_least is not None
    bar = check.at_least if check.at_least is not None else check.at_most
    assert bar is not None  # a bar has exactly one of the two
    side = f"{'at least' if is_floor else 'at most'} {told(bar)}"
    if check.use == "point":
        return f"{side}, as measured"
    sure = per_cent(check.confidence)
    if (check.use == "lower_bound") == is_floor:
        return f"{side}, proven with {sure} confidence"
    return f"{side}; it fails only when clearly {'below' if is_floor else 'above'}, with {sure} confidence"


def _versus(check: VersusChampionCheck) -> str:
    sure = f"proven on the same rows with {per_cent(check.confidence)} confidence"
    return f"{_first(METRICS[check.metric])} at most {check.not_worse_by:g} worse than the champion's, {sure}."


def _slices(check: SliceCheck) -> str:
    find = f" The {check.find} worst segments that can be found are reported besides." if check.find else ""
    if not check.by:
        return f"{_first(METRICS[check.metric])} by segment is only looked at.{find}"
    return (
        f"{_first(METRICS[check.metric])} in no segment by {listed(check.by)} is clearly worse than overall by more "
        f"than {check.not_worse_than_overall_by:g} (segments of {check.minimum_rows:,} rows or more).{find}"
    )


def _fairness(check: FairnessCheck) -> str:
    told = per_cent if check.measure == "demographic_parity_ratio" else points
    few = " Groups too small to judge make it wait for more rows." if check.small_groups == "inconclusive" else ""
    size = f"groups of {check.minimum_group:,} rows and {check.minimum_positives:,} real cases or more"
    return f"{_first(MEASURES[check.measure])}, by {check.by}: {_bar(check, told)} ({size}).{few}"


LIMITS = {"p50": "half", "p95": "95 %", "p99": "99 %"}


def _latency(check: LatencyCheck) -> str:
    told = [f"{LIMITS[name]} of answers within {limit:g} ms" for name, limit in check.limits.items() if name in LIMITS]
    if check.batch_p95_ms is not None:
        told.append(f"95 % of batches of {check.batch_rows:,} rows within {check.batch_p95_ms:g} ms")
    if check.ratio_to_champion is not None:
        told.append(f"the median at most {check.ratio_to_champion:g} times the champion's")
    return f"{_first(listed(told))}, timed beside a control that tells whether the machine was steady."


def _robustness(check: RobustnessCheck) -> str:
    told = [f"What is served answers as what was trained, within {small(check.parity_tolerance)}"]
    told += ["it answers the same twice"] if check.deterministic else []
    if check.missing_values:
        told.append(f"{per_cent(check.missing_values)} of rows are answered with an input missing")
    return f"{listed(told)}."


def _data_quality(check: DataQualityCheck) -> str:
    told = [
        f"nulls may grow by {points(check.null_increase)}",
        f"{per_cent(check.out_of_range)} of values may lie out of range",
        f"{per_cent(check.unseen)} may be new levels",
        f"{per_cent(check.duplicates)} of rows may be duplicates",
    ]
    told += [f"{per_cent(check.stale)} of served values may be stale"] if check.stale is not None else []
    told += [f"{per_cent(check.served_nulls)} of entities may lack values"] if check.served_nulls is not None else []
    own = f" Promises of their own: {listed(list(check.columns))}." if check.columns else ""
    left = f" Not looked at: {listed(check.ignore)}." if check.ignore else ""
    return f"Of each feature at most: {', '.join(told)}.{own}{left}"


def _training_data(check: TrainingDataCheck) -> str:
    told = [f"{check.minimum_rows:,} rows or more"]
    told += [f"{check.minimum_positives:,} real cases or more"] if check.minimum_positives else []
    told += [f"over {check.minimum_days:g} days or more"] if check.minimum_days else []
    told += [f"not older than {check.maximum_age_days} days"] if check.maximum_age_days else []
    return f"Trained before the holdout starts, on {listed(told)}."


def _ci(check: CiEvidenceCheck) -> str:
    tests = {"lint": "lint", "unit": "unit tests", "integration": "integration tests", "coverage": "coverage report"}
    covered = f", {per_cent(check.minimum_coverage)} of the code covered" if check.minimum_coverage else ""
    age = f", not older than {check.maximum_age_days} days" if check.maximum_age_days else ""
    commit = ", of the same commit" if check.commit == "exact" else ""
    required = _first(listed([tests[kind] for kind in check.require]))
    return f"{required} passed for exactly this code{commit}{covered}{age}."


def told(settings: Mapping[str, Any]) -> str:
    """What a stored check asks, in a sentence; as it is written where its form is no longer read; empty for none."""
    if not settings:
        return ""
    try:
        return in_words(READER.validate_python(settings))
    except ValidationError:
        return f"{as_written(settings)}."


def as_written(settings: Mapping[str, Any]) -> str:
    """The settings of a check whose form is no longer read, as they stand."""
    told = {name: value for name, value in settings.items() if name not in {"id", "kind", "blocking"}}
    return ", ".join(
        f"{name.replace('_', ' ')}: {value}" for name, value in told.items() if value not in (None, [], {}, ())
    )


def in_short(settings: Mapping[str, Any]) -> str:
    """The bar of a check for a narrow column; empty for kinds that have more than one."""
    sure = settings.get("confidence")
    if settings.get("kind") == "versus_champion" and settings.get("not_worse_by") is not None:
        return f"at most {settings['not_worse_by']:g} worse{_sure(sure)}"
    if settings.get("kind") == "slice" and settings.get("not_worse_than_overall_by") is not None:
        return f"no segment clearly worse by more than {settings['not_worse_than_overall_by']:g}"
    for name, side, proof in (("at_least", "at least", "lower_bound"), ("at_most", "at most", "upper_bound")):
        if isinstance(bar := settings.get(name), int | float):
            use = settings.get("use", "point")
            how = "" if use == "point" else _sure(sure) if use == proof else ", unless clearly not"
            return f"{side} {_bar_of(settings, bar)}{how}"
    return ""


def _bar_of(settings: Mapping[str, Any], bar: float) -> str:
    is_gap = settings.get("kind") == "fairness" and "ratio" not in str(settings.get("measure"))
    return points(bar) if is_gap else f"{bar:g}"


def _sure(confidence: Any) -> str:
    return f", proven ({per_cent(confidence)})" if isinstance(confidence, int | float) else ", proven"
