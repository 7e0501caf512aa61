"""A metric of the version alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gates.judge.verdicts import Judgement, against, clears, judged, more_rows, stored, told, too_few, too_quiet
from gates.policy import MetricCheck, MetricName
from stats.metrics import METRICS

_NO_VALUE: Mapping[MetricName, str] = {
    "roc_auc": "it takes rows of both outcomes",
    "average_precision": "it takes rows with a positive outcome",
    "ece": "it takes 150 rows",
    "balanced_accuracy": "it takes rows of both outcomes",
    "precision": "the version acts on none of them",
    "recall": "none of them has a positive outcome",
    "specificity": "none of them has a negative outcome",
    "f1": "none of them is positive or acted on",
    "r2": "their outcomes are all the same",
}


def judge(check: MetricCheck, measured: Mapping[str, Any]) -> Judgement:
    """A metric of the version alone against its bar."""
    rows, value = measured["rows"], stored(measured["value"])
    label, detail = METRICS[check.metric].label, {"metric": check.metric}
    if few := too_few(check, rows, check.minimum_rows, detail=detail):
        return few
    if quiet := too_quiet(check, label, rows, measured.get("speaking"), detail=detail):
        return quiet
    if value is None:
        message = f"{label} has no value on these {rows:,} rows: {why_none(check.metric)}."
        return judged(check, "inconclusive", message, n=rows, detail=detail)
    verdict = clears(value, use=check.use, at_least=check.at_least, at_most=check.at_most)
    outcome = against(verdict, check.at_least, check.at_most)
    if verdict == "inconclusive":
        bar = check.at_least if check.at_least is not None else check.at_most
        assert bar is not None
        more = more_rows(value, abs(value.estimate - bar), rows=rows)
        outcome = f"{outcome.partition(':')[0]}; {more} if it stays as measured"
    return judged(check, verdict, f"{label} {told(value)} on {rows:,} rows {outcome}.", value, n=rows, detail=detail)


def why_none(metric: MetricName) -> str:
    """Why a metric has no value on some rows."""
    return _NO_VALUE.get(metric, "it takes two rows")
