"""A small real world for whole gate runs: requests with outcomes, a feature view, versions trained on it, real scoring.

Sixty days of requests end at NOW; the last fourteen are the holdout. Whether a request turns out badly depends on its
``distance`` and on the ``wind`` that the view knows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skops.io
from django.conf import settings
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression

from features import actions as store
from features.models import Dataset, FeatureService
from features.offline import training_frame
from registry import actions as registry
from registry import frames
from registry.models import ModelVersion, RegisteredModel, TrainingPipeline
from tests.builders import ROBOT, group, registered_model
from tests.gates.rows import CODE

NOW = datetime(2013, 4, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOLDOUT = NOW - 14 * DAY
ORIGINS = np.array(["EWR", "JFK", "LGA"])
REQUEST_FEATURES = ["distance", "carrier_size"]


def build(*, per_day: int = 200, seed: int = 1) -> TrainingPipeline:
    """Sources, view, service, model and pipeline."""
    _write_sources(per_day, np.random.default_rng(seed))
    owner: dict[str, Any] = {"owner": group("delay-science"), "actor": ROBOT, "now": NOW}
    weather = store.define_source(
        name="weather", uri="sources/weather.parquet", event_timestamp="happened", created_timestamp="arrived", **owner
    )
    store.define_source(name="requests", uri="sources/requests.parquet", event_timestamp="asked", **owner)
    store.define_source(
        name="outcomes", uri="sources/outcomes.parquet", event_timestamp="asked", created_timestamp="arrived", **owner
    )
    entity = store.define_entity(name="origin", join_keys=["origin"], actor=ROBOT, now=NOW)
    view = store.apply_view(
        name="weather",
        entity=entity,
        expression="SELECT origin, happened, arrived, wind FROM weather",
        sources=[weather],
        features=["wind"],
        event_timestamp="happened",
        known_at="arrived",
        lookback=timedelta(0),
        **owner,
    )
    store.publish(view, actor=ROBOT, reason="Reviewed.", now=NOW)
    return registry.define_pipeline(
        registered_model=registered_model(),
        name="delay",
        entry_point="tests.gates.world",
        code_path="tests",
        service=service("weather.wind"),
        entity_frame="requests",
        outcomes="outcomes",
        label="late",
        parameters={},
        windows=[{"name": "expanding"}],
        holdout_days=14,
        time_limit=timedelta(minutes=1),
        automatic=False,
        actor=ROBOT,
        now=NOW,
    )


def service(*features: str, request_features: Sequence[str] = REQUEST_FEATURES) -> FeatureService:
    return store.define_service(
        name="delay",
        features=features,
        request_features=request_features,
        owner=group("delay-science"),
        actor=ROBOT,
        now=NOW,
    )


def _write_sources(per_day: int, random: np.random.Generator) -> None:
    n = 60 * per_day
    asked = np.sort(random.uniform(0, 60 * 86400, n))
    origin = random.integers(0, 3, n)
    hour = (asked // 3600).astype(int)
    wind_of_hour = random.gamma(4, 3, (60 * 24 + 1, 3))
    distance = random.gamma(3, 300, n)
    logit = -1.6 + 0.12 * (wind_of_hour[hour, origin] - 12) + 0.001 * (distance - 900)
    late = random.random(n) < 1 / (1 + np.exp(-logit))
    times = _times(asked)
    requests = {
        "request_id": [f"r{number}" for number in range(n)],
        "asked": times,
        "origin": ORIGINS[origin],
        "distance": distance,
        "carrier_size": random.integers(1, 5, n).astype(float),
    }
    outcomes = {
        "request_id": requests["request_id"],
        "asked": times,
        "arrived": _times(asked + 4 * 3600),
        "late": late.astype(int),
    }
    hours = np.repeat(np.arange(60 * 24), 3) * 3600.0
    weather = {
        "origin": np.tile(ORIGINS, 60 * 24),
        "happened": _times(hours),
        "arrived": _times(hours),
        "wind": wind_of_hour[:-1].ravel(),
    }
    folder = Path(settings.DATA_ROOT, "sources")
    folder.mkdir(exist_ok=True)
    for name, columns in (("requests", requests), ("outcomes", outcomes), ("weather", weather)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def _times(seconds: Any) -> pa.Array:
    start = int((NOW - 60 * DAY).timestamp() * 1e6)
    return pa.array(start + (np.asarray(seconds) * 1e6).astype(np.int64), pa.timestamp("us", "UTC"))


def training_table(pipeline: TrainingPipeline, *, until: datetime = HOLDOUT) -> pa.Table:
    frame = frames.labelled_frame(pipeline, start=NOW - 60 * DAY, end=until, as_of=NOW)
    return training_frame(pipeline.service, frame, timestamp="asked", as_of=NOW)


def dataset(pipeline: TrainingPipeline, table: pa.Table) -> Dataset:
    return dataset_of(pipeline.service, table)


def dataset_of(service: FeatureService, table: pa.Table) -> Dataset:
    return store.snapshot(
        service=service,
        table=table,
        label="late",
        timestamp="asked",
        purpose="training",
        as_of=NOW,
        actor=ROBOT,
        now=NOW,
    )


def version(
    pipeline: TrainingPipeline,
    estimator: ClassifierMixin | None = None,
    *,
    table: pa.Table | None = None,
    noise: float = 0.0,
    **fields: Any,
) -> ModelVersion:
    """Train on all rows before the holdout (or ``table``) and register. ``noise``: share of labels made useless."""
    table = training_table(pipeline) if table is None else table
    columns = list(pipeline.service.vector)
    y = table.column("late").to_numpy().copy()
    random = np.random.default_rng(3)
    flipped = random.random(len(y)) < noise
    y[flipped] = random.integers(0, 2, int(flipped.sum()))
    fitted = (estimator or LogisticRegression(max_iter=1000)).fit(table.select(columns).to_pandas(), y)
    return register(pipeline, fitted, dataset=dataset(pipeline, table), **fields)


def register(pipeline: TrainingPipeline, fitted: Any, **fields: Any) -> ModelVersion:
    of: RegisteredModel = pipeline.registered_model
    values = {"service": pipeline.service, "label": "late", "code_digest": CODE, "actor": ROBOT, "now": NOW, **fields}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.skops")
        skops.io.dump(fitted, path)
        return registry.register_version(registered_model=of, artifact=path, artifact_name=path.name, **values)
