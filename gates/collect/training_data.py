"""The facts about the training dataset: rows, period, positives, and where the holdout starts."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from features import offline
from features.models import Dataset
from gates.collect.training_table import dataset_of
from gates.frozen import Frozen, Json, had
from gates.models import GateRun
from gates.policy import TrainingDataCheck
from gates.preparation import pipeline_of
from registry import frames
from registry.models import Task


def collect(check: TrainingDataCheck, run: GateRun, frozen: Frozen) -> Json:
    """Everything that ``judge.training_data`` looks at. Raises Unmeasurable, Unavailable."""
    holdout, dataset = had(frozen.table), dataset_of(run.version)
    return {
        "rows": dataset.rows,
        "trained_from": _iso(dataset.time_from),
        "trained_to": _iso(dataset.time_to),
        "positives": _positives(dataset) if frozen.task == Task.BINARY_CLASSIFICATION else None,
        "holdout_from": _iso(_oldest(holdout, frames.timestamp_column(pipeline_of(run.version)))),
        "began": frozen.began.isoformat(),
    }


def _positives(dataset: Dataset) -> int:
    """Rows whose label is 1. The file is opened only where the dataset's profile does not tell it."""
    told = dataset.profile.get(dataset.label, {})
    if {"mean", "nulls", "min", "max"} <= told.keys() and told["min"] >= 0 and told["max"] <= 1:
        positives: int = round(told["mean"] * (dataset.rows - told["nulls"]))
        return positives
    ones = pc.equal(pc.cast(offline.load(dataset).column(dataset.label), pa.float64(), safe=False), 1.0)
    return int(pc.sum(ones).as_py() or 0)


def _oldest(table: pa.Table, timestamp: str) -> datetime | None:
    found: datetime | None = pc.min(table.column(timestamp)).as_py() if timestamp in table.column_names else None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
