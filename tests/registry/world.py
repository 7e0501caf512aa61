"""A small world for the registry's tests: requests, outcomes, one feature view, a pipeline with a toy entry point."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skops.io
from django.conf import settings
from sklearn.linear_model import LogisticRegression

from features import actions as features
from features.models import DataSource, FeatureService, FeatureViewVersion
from registry import actions
from registry.models import ModelVersion, RegisteredModel, TrainingPipeline, TrainingRun
from tests.builders import NOON, ROBOT, group, registered_model

DAY = timedelta(days=1)
DAYS = 60
PER_DAY = 8
EXPANDING = {"name": "expanding"}


def write(name: str, table: pa.Table) -> None:
    folder = Path(settings.DATA_ROOT, "sources")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / f"{name}.parquet")


def times(moments: list[datetime]) -> pa.Array:
    return pa.array(moments, pa.timestamp("us", "UTC"))


def sources() -> dict[str, DataSource]:
    """Eight requests a day for sixty days before NOON, each answered a day later; five shops with a size."""
    rng = np.random.default_rng(7)
    asked = [NOON - DAYS * DAY + i * DAY / PER_DAY for i in range(DAYS * PER_DAY)]
    shops = [f"s{i}" for i in rng.integers(0, 5, len(asked))]
    amount = rng.normal(size=len(asked))
    size = {f"s{i}": float(i) for i in range(5)}
    late = [int(a + size[s] - 2 > 0) for a, s in zip(amount, shops, strict=True)]
    ids = [f"r{i}" for i in range(len(asked))]
    write(
        "requests",
        pa.table({"request_id": ids, "shop": shops, "amount": amount, "at": times(asked), "arrived": times(asked)}),
    )
    known = times([moment + DAY for moment in asked])
    write("outcomes", pa.table({"request_id": ids, "late": late, "at": known, "arrived": known}))
    began = times([NOON - 100 * DAY] * 5)
    write("shops", pa.table({"shop": list(size), "size": list(size.values()), "at": began, "arrived": began}))
    return {
        name: features.define_source(
            name=name,
            uri=f"sources/{name}.parquet",
            event_timestamp="at",
            created_timestamp="arrived",
            owner=group("delay-platform"),
            actor=ROBOT,
            now=NOON,
        )
        for name in ("requests", "outcomes", "shops")
    }


def view(shops: DataSource) -> FeatureViewVersion:
    entity = features.define_entity(name="shop", join_keys=["shop"], actor=ROBOT, now=NOON)
    version = features.apply_view(
        name="shop_facts",
        entity=entity,
        expression="SELECT shop, size, at, arrived FROM shops",
        sources=[shops],
        features=["size"],
        event_timestamp="at",
        known_at="arrived",
        owner=group("delay-science"),
        actor=ROBOT,
        now=NOON,
    )
    return features.publish(version, actor=ROBOT, reason="reviewed", now=NOON)


def service() -> FeatureService:
    view(sources()["shops"])
    return features.define_service(
        name="toy",
        features=["shop_facts.size"],
        request_features=["amount"],
        owner=group("delay-science"),
        description="",
        actor=ROBOT,
        now=NOON,
    )


def pipeline(model: RegisteredModel | None = None, **changes: Any) -> TrainingPipeline:
    values: dict[str, Any] = {
        "registered_model": model or registered_model(),
        "name": "toy",
        "entry_point": "tests.registry.toy_training",
        "code_path": "tests/registry",
        "entity_frame": "requests",
        "outcomes": "outcomes",
        "label": "late",
        "parameters": {},
        "windows": [EXPANDING],
        "holdout_days": 14,
        "time_limit": timedelta(minutes=2),
        "automatic": True,
        "actor": ROBOT,
        "now": NOON,
        **changes,
    }
    return actions.define_pipeline(**{"service": service(), **values} if "service" not in values else values)


def requested(of: TrainingPipeline | None = None, **changes: Any) -> TrainingRun:
    values: dict[str, Any] = {
        "window": EXPANDING,
        "trigger": "person",
        "parameters": None,
        "actor": ROBOT,
        "reason": "because",
        "now": NOON,
        **changes,
    }
    return actions.request_training(of or pipeline(), **values)


@cache
def model_bytes() -> bytes:
    """A fitted model of two columns as an artifact. Made once: skops writes other bytes at each dump."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    return skops_bytes(LogisticRegression().fit(rows, rows[:, 0] > 0))


def skops_bytes(content: Any) -> bytes:
    stream = io.BytesIO()
    skops.io.dump(content, stream)
    return stream.getvalue()


def artifact_file(content: bytes, name: str = "model.skops") -> Path:
    path = Path(settings.DATA_ROOT, name)
    path.write_bytes(content)
    return path


def version(**changes: Any) -> ModelVersion:
    content = changes.pop("content", None) or model_bytes()
    values: dict[str, Any] = {
        "registered_model": registered_model(),
        "artifact": changes.get("artifact") or artifact_file(content),
        "artifact_name": "model.skops",
        "actor": ROBOT,
        "now": NOON,
        **changes,
    }
    return actions.register_version(**values)
