"""Versions with a dataset that they were trained on: what a conversion to ONNX needs."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from features.actions import snapshot
from features.models import Dataset, FeatureService
from registry.models import ModelVersion
from tests.builders import NOON, ROBOT
from tests.registry import world

COLUMNS = ("shop_facts__size", "amount")


def frame(count: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    made = pd.DataFrame({name: rng.normal(size=count) for name in COLUMNS})
    made.loc[::13, "amount"] = np.nan
    return made


def labels(rows: pd.DataFrame) -> Any:
    return (rows[COLUMNS[0]] + rows["amount"].fillna(0) > 0).astype(int)


def boosted() -> Any:
    rows = frame()
    return make_pipeline(HistGradientBoostingClassifier(max_iter=20)).fit(rows, labels(rows))


def dataset(service: FeatureService, rows: pd.DataFrame) -> Dataset:
    at = pa.array([NOON] * len(rows), pa.timestamp("us", "UTC"))
    table = pa.Table.from_pandas(rows.assign(late=labels(rows)), preserve_index=False).append_column("at", at)
    return snapshot(
        service=service,
        table=table,
        label="late",
        timestamp="at",
        purpose="training",
        as_of=NOON,
        actor=ROBOT,
        now=NOON,
    )


def version(estimator: Any = None, rows: pd.DataFrame | None = None, **changes: Any) -> ModelVersion:
    """A version that names the dataset it was trained on, unless ``changes`` say otherwise."""
    service = world.service()
    given = frame() if rows is None else rows
    inputs = [{"name": name, "type": "double"} for name in COLUMNS]
    values: dict[str, Any] = {"service": service, "signature": {"inputs": inputs}, **changes}
    if "dataset" not in values:
        values["dataset"] = dataset(service, given)
    return world.version(content=world.skops_bytes(estimator or boosted()), **values)
