"""Measure what the checks judge: pure functions from tables and scores to numbers. No bars here (``gates.judge``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gates.judge import ColumnQuality
from gates.policy import FairnessCheck
from stats.fairness import FairnessGaps, GroupRow, gaps, group_table
from stats.interval import FloatArray, Interval, mean_interval
from stats.metrics import METRICS, accuracy, brier_rows, log_loss_rows, paired_auc_difference, precision, recall

_AT_THRESHOLD = {"accuracy": accuracy, "precision": precision, "recall": recall}
_UNKNOWN = "(unknown)"


def value(metric: str, y: FloatArray, p: FloatArray, *, threshold: float, confidence: float) -> Interval | None:
    """A metric of one version; those of decisions are taken at ``threshold``. None where it has no value."""
    if metric in _AT_THRESHOLD:
        return _AT_THRESHOLD[metric](y, p, confidence, threshold=threshold)
    return METRICS[metric].measure(y, p, confidence)


def gain(
    metric: str, y: FloatArray, candidate: FloatArray, champion: FloatArray, *, threshold: float, confidence: float
) -> Interval | None:
    """By how much the candidate is better than the champion on the same rows; positive is better for every metric."""
    if metric == "roc_auc":
        return paired_auc_difference(y, candidate, champion, confidence)
    better = _goodness(metric, y, candidate, threshold) - _goodness(metric, y, champion, threshold)
    return mean_interval(better, confidence=confidence)


def _goodness(metric: str, y: FloatArray, p: FloatArray, threshold: float) -> FloatArray:
    """Each row's contribution to a metric that is a mean over rows, turned so that more is better."""
    if metric == "brier":
        return -brier_rows(y, p)
    if metric == "log_loss":
        return -log_loss_rows(y, p)
    if metric == "accuracy":
        right: FloatArray = ((p >= threshold) == (y == 1)).astype(np.float64)
        return right
    if metric == "mae":
        return -np.abs(y - p)
    raise ValueError(f"{metric} is no mean over rows")


def group_gaps(
    check: FairnessCheck, groups: pa.ChunkedArray, y: FloatArray, p: FloatArray, *, threshold: float, seed: int
) -> tuple[FairnessGaps, tuple[GroupRow, ...]]:
    """The differences between the groups of a column in decisions at ``threshold``; a null is a group of its own."""
    names = pc.fill_null(pc.cast(groups, pa.string()), _UNKNOWN).to_numpy(zero_copy_only=False)
    table = group_table(names, y, p >= threshold)
    measured = gaps(
        table,
        minimum_group=check.minimum_group,
        minimum_positives=check.minimum_positives,
        confidence=check.confidence,
        seed=seed,
    )
    return measured, table


def quality(
    holdout: pa.Table,
    columns: Sequence[str],
    *,
    trained: Mapping[str, Mapping[str, Any]],
    trained_rows: int,
    levels: Mapping[str, Collection[str]],
    range_margin: float,
) -> tuple[ColumnQuality, ...]:
    """Each feature of the holdout against the training dataset.

    ``trained`` is the training dataset's profile (column to nulls, min, max), ``levels`` the values its text columns
    had. A value is out of range when it lies beyond the trained range by more than ``range_margin`` of
    the range's width.
    """
    return tuple(
        _column_quality(
            name,
            holdout.column(name),
            trained=trained.get(name, {}),
            trained_rows=trained_rows,
            levels=levels.get(name),
            range_margin=range_margin,
        )
        for name in columns
    )


def _column_quality(
    name: str,
    column: pa.ChunkedArray,
    *,
    trained: Mapping[str, Any],
    trained_rows: int,
    levels: Collection[str] | None,
    range_margin: float,
) -> ColumnQuality:
    n = max(len(column), 1)
    nulls = int(pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0)
    outside = unseen = None
    if levels is not None and is_text(column.type):
        known = pc.is_in(column, value_set=pa.array(sorted(levels), column.type))
        strange = pc.and_(pc.is_valid(column), pc.invert(known))
        unseen = int(pc.sum(strange).as_py() or 0) / n
    elif "min" in trained and "max" in trained and is_number(column.type):
        margin = range_margin * (trained["max"] - trained["min"])
        below = pc.less(column, trained["min"] - margin)
        above = pc.greater(column, trained["max"] + margin)
        outside = int(pc.sum(pc.or_(below, above)).as_py() or 0) / n
    trained_nulls = int(trained.get("nulls", 0)) / max(trained_rows, 1)
    return ColumnQuality(name, nulls / n, trained_nulls, out_of_range=outside, unseen=unseen)


def duplicates(column: pa.ChunkedArray) -> float:
    """Share of rows whose value occurred before."""
    return 1 - pc.count_distinct(column, mode="all").as_py() / len(column) if len(column) else 0.0


def is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))
