"""Look for features that know the answer: each alone against the label, and the stored ones against their own past.

What comes with a request was never in the store: nothing says when it was known, so it is only looked at alone.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audit.errors import InvalidInput
from features import offline
from features.known_then import KnownThen, known_then
from features.models import Dataset
from gates.collect.training_table import dataset_of, spread
from gates.frozen import Frozen, Json, Missing, Unmeasurable
from gates.measure import leakage as measure
from gates.models import GateRun
from gates.policy import LeakageCheck
from registry.models import ModelVersion, Task
from stats.interval import FloatArray

MOST_ROWS = 40_000
STRIKING = {True: 0.8, False: 0.5}
"""From here on (AUC; squared correlation) it is also asked how well a feature does on the holdout."""


def collect(check: LeakageCheck, run: GateRun, frozen: Frozen) -> Json:
    """Everything that ``judge.leakage`` looks at. Raises Unmeasurable, Unavailable."""
    version, dataset = run.version, dataset_of(run.version)
    is_binary = frozen.task == Task.BINARY_CLASSIFICATION
    whole = offline.load(dataset)
    trained = spread(whole.filter(pc.is_valid(whole.column(dataset.label))), MOST_ROWS)
    y = _labels(trained, dataset.label, is_binary=is_binary)
    features = frozen.features or frozen.inputs
    requested = version.service.request_features if version.service is not None else []
    return {
        "measure": "auc" if is_binary else "squared_rank_correlation",
        "rows": trained.num_rows,
        "rarer_class": int(min(y.sum(), len(y) - y.sum())) if is_binary else None,
        "features": [
            _feature(name, trained.column(name), y, run, frozen, is_binary=is_binary)
            for name in features
            if name in trained.column_names
        ],
        "requested": [name for name in requested if name in features],
        "in_time": _in_time(version, dataset, whole),
    }


def _labels(table: pa.Table, label: str, *, is_binary: bool) -> FloatArray:
    y = np.asarray(pc.cast(table.column(label), pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    if is_binary and not np.isin(y, (0.0, 1.0)).all():
        raise Unmeasurable(f"The label {label} of the training data holds other values than 0 and 1.")
    if not np.isfinite(y).all():
        raise Unmeasurable(f"The label {label} of the training data holds values that are no numbers.")
    return y


def _feature(
    name: str, column: pa.ChunkedArray, y: FloatArray, run: GateRun, frozen: Frozen, *, is_binary: bool
) -> Json:
    """One feature alone; where it is striking, also on the holdout, and what the models make of it."""
    ways = measure.alone(y, column, is_binary=is_binary)
    best = max((way["estimate"] for way in ways.values()), default=0.0)
    on_holdout: Json = {}
    is_striking = best >= STRIKING[is_binary]
    if is_striking and not isinstance(frozen.table, Missing) and not isinstance(frozen.y, Missing):
        on_holdout = measure.alone(frozen.y, frozen.column(name), is_binary=is_binary)
    champion = run.champion.importance if run.champion is not None else {}
    return {
        "feature": name,
        "ways": ways,
        "on_holdout": on_holdout,
        "importance": run.version.importance.get(name),
        "champion_importance": champion.get(name),
    }


def _in_time(version: ModelVersion, dataset: Dataset, trained: pa.Table) -> Json:
    """The stored features as the join would have given them then; ``why`` says why that could not be asked."""
    service = dataset.service
    if version.service is None or not service.columns:
        return {"why": "", "instants": [], "features": []}
    try:
        found, instants = known_then(service, trained, timestamp=dataset.timestamp, as_of=dataset.as_of)
    except InvalidInput as problem:
        return {"why": str(problem), "instants": [], "features": []}
    return {
        "why": "",
        "instants": [instant.isoformat() for instant in instants],
        "features": [_known(each) for each in found],
    }


def _known(found: KnownThen) -> Json:
    return {
        "feature": found.column,
        "view": str(found.version),
        "limit": found.version.view.consistency_limit,
        "cells": found.cells,
        "late": found.late,
        "loaded_later": found.loaded_later,
        "compared": found.compared,
        "different": found.different,
    }
