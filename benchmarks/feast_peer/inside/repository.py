"""A Feast repository over the views of a workload: two feature views of an entity, one feature service of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from feast.types import Float64
from feast.value_type import ValueType

SERVICE = "both"


def write(
    folder: str,
    *,
    views: Mapping[str, str],
    features: Mapping[str, Sequence[str]],
    offline: str,
    online: Mapping[str, Any],
    ttl_seconds: float,
) -> dict[str, Any]:
    """Write ``feature_store.yaml`` and apply views (name to Parquet file) of float features and the service of all."""
    configure(folder, offline=offline, online=online)
    entity = Entity(name="entity", join_keys=["entity_id"], value_type=ValueType.INT64)
    made = [
        view(name, entity, Path(path), features[name], ttl=timedelta(seconds=ttl_seconds))
        for name, path in views.items()
    ]
    opened(folder).apply([entity, *made, FeatureService(name=SERVICE, features=made)])
    return {}


def configure(folder: str, *, offline: str, online: Mapping[str, Any]) -> None:
    """Write ``feature_store.yaml``: local provider, a file as the registry, everything else as Feast sets it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    content = {
        "project": "bench",
        "provider": "local",
        "registry": f"{folder}/registry.db",
        "offline_store": {"type": offline},
        "online_store": dict(online),
        "entity_key_serialization_version": 3,
    }
    Path(folder, "feature_store.yaml").write_text(yaml.safe_dump(content))


def opened(folder: str) -> FeatureStore:
    return FeatureStore(repo_path=folder)


def view(name: str, entity: Entity, path: Path, features: Sequence[str], *, ttl: timedelta) -> FeatureView:
    source = FileSource(
        name=f"{name}_source",
        path=str(path),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    schema = [Field(name=feature, dtype=Float64) for feature in features]
    return FeatureView(name=name, entities=[entity], ttl=ttl, schema=schema, source=source)
