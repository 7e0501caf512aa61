"""What happens to definitions: adding views, their names and versions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity
from feast.value_type import ValueType

from benchmarks.feast_peer.inside.repository import opened, view


def add_view(folder: str, *, name: str, path: str, ttl_seconds: float) -> dict[str, Any]:
    """Apply one view of one feature as a fresh process would."""
    entity = Entity(name="entity", join_keys=["entity_id"], value_type=ValueType.INT64)
    ttl = timedelta(seconds=ttl_seconds)
    opened(folder).apply([entity, view(name, entity, Path(path), ["value"], ttl=ttl)])
    return {}


def view_names(folder: str) -> dict[str, Any]:
    return {"names": [each.name for each in opened(folder).list_feature_views()]}


def view_version(folder: str, *, name: str) -> dict[str, Any]:
    return {"version": f"v{opened(folder).get_feature_view(name).current_version_number or 0}"}
