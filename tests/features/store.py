"""Builders for the feature store's tests: a source of readings, a view over it, a service of the view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings

from features import actions
from features.models import DataSource, Entity, FeatureService, FeatureViewVersion
from tests.builders import NOON, ROBOT, group

START = datetime(2013, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
READINGS = pa.schema(
    [
        ("origin", pa.string()),
        ("carrier", pa.string()),
        ("happened", pa.timestamp("us", "UTC")),
        ("arrived", pa.timestamp("us", "UTC")),
        ("temp", pa.float64()),
        ("seats", pa.int64()),
        ("tag", pa.string()),
        ("wet", pa.bool_()),
    ]
)
SELECT = "SELECT origin, carrier, happened, arrived, temp, seats, tag, wet FROM {}"


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def reading(hour: float = 0, **changes: Any) -> dict[str, Any]:
    """A reading that arrived when it happened."""
    row = {"origin": "EWR", "carrier": "UA", "happened": at(hour), "arrived": at(hour)}
    return row | {"temp": 1.0, "seats": 1, "tag": "x", "wet": True} | changes


def write_source(name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    folder = Path(settings.DATA_ROOT) / "sources"
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=READINGS), folder / f"{name}.parquet")


def entity() -> Entity:
    return actions.define_entity(name="carrier_origin", join_keys=["carrier", "origin"], actor=ROBOT, now=NOON)


def source(rows: Iterable[Mapping[str, Any]] = (), *, name: str = "readings", **changes: Any) -> DataSource:
    """A source with these rows in its file."""
    write_source(name, rows)
    fields: dict[str, Any] = {
        "name": name,
        "uri": f"sources/{name}.parquet",
        "event_timestamp": "happened",
        "created_timestamp": "arrived",
        "owner": group("delay-platform"),
        "actor": ROBOT,
        "now": NOON,
    }
    return actions.define_source(**fields | changes)


def applied(origin: DataSource, *, name: str = "weather", **changes: Any) -> FeatureViewVersion:
    """A draft of a view with four features of four types."""
    fields: dict[str, Any] = {
        "name": name,
        "entity": entity(),
        "expression": SELECT.format(origin.name),
        "sources": [origin],
        "features": ["temp", "seats", "tag", "wet"],
        "event_timestamp": "happened",
        "known_at": "arrived",
        "lookback": timedelta(0),
        "owner": group("delay-science"),
        "actor": ROBOT,
        "now": NOON,
    }
    return actions.apply_view(**fields | changes)


def published(origin: DataSource, *, name: str = "weather", **changes: Any) -> FeatureViewVersion:
    version = applied(origin, name=name, **changes)
    return actions.publish(version, actor=ROBOT, reason="Reviewed.", now=NOON)


def service(*features: str, name: str = "delay", **changes: Any) -> FeatureService:
    fields: dict[str, Any] = {"features": features or ("weather.temp",), "owner": group("delay-science")}
    return actions.define_service(name=name, actor=ROBOT, now=NOON, **fields | changes)


def asked(*times: datetime | None, origin: str | None = "EWR", carrier: str = "UA") -> pa.Table:
    """A frame that asks about one entity at each of these times."""
    return pa.table(
        {
            "origin": pa.array([origin] * len(times), pa.string()),
            "carrier": pa.array([carrier] * len(times), pa.string()),
            "asked": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )
