"""Features by key, as the gateway reads them for a request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features import online
from features.models import FeatureService
from rollout.gateway.rules import MissingInputs
from rollout.gateway.store import FEW, OnlineFeatures
from rollout.gateway.table import Column, TableVersion
from tests.features.store import at, published, reading, service, source
from tests.rollout.gateways import version

pytestmark = pytest.mark.django_db


@pytest.fixture
def pinned() -> FeatureService:
    """Temperature and tag of airport and carrier; EWR/UA is known."""
    weather = published(source())
    row = reading(1, temp=4.0)
    times = {"event_timestamp": row["happened"], "known_at": at(1)}
    wanted = {name: row[name] for name in ("origin", "carrier", "temp", "seats", "tag", "wet")}
    online.write(weather, pa.table({name: [value] for name, value in (wanted | times).items()}))
    return service("weather.temp", "weather.tag")


def by_key(pinned: FeatureService) -> TableVersion:
    names = ("weather__temp", "weather__tag", "distance")
    keyed = version(1, names, service=pinned.pk, keys=("origin", "carrier"))
    assert keyed.inputs[0] == Column("weather__temp")
    return keyed


@pytest.mark.parametrize("rows", [1, 2, FEW + 1])
def test_read__by_key__is_what_the_store_has_however_many_ask(pinned: FeatureService, rows: int) -> None:
    now = at(2)
    asked: dict[str, Any] = {
        "origin": ["EWR", "JFK"][:rows] + ["EWR"] * (rows - 2),
        "carrier": ["UA"] * rows,
        "distance": np.ones(rows),
    }
    found = OnlineFeatures().read(by_key(pinned), asked, rows, now=now, at=[now] * rows)
    assert set(found) == {"weather__temp", "weather__tag"}
    assert found["weather__temp"][:2] == [4.0, None][:rows]
    assert found["weather__tag"][:2] == ["x", None][:rows]
    assert len(found["weather__temp"]) == rows


def test_read__without_a_join_key__says_which_inputs_are_missing_and_how_to_look_them_up(
    pinned: FeatureService,
) -> None:
    now = at(2)
    with pytest.raises(MissingInputs, match="carrier") as refused:
        OnlineFeatures().read(by_key(pinned), {"origin": ["EWR"], "distance": [1.0]}, 1, now=now, at=[now])
    assert set(refused.value.fields) == {"weather__temp", "weather__tag"}


def test_read__a_second_time__asks_the_database_only_for_values(
    pinned: FeatureService, django_assert_num_queries: Any
) -> None:
    now, store = at(2), OnlineFeatures()
    asked: dict[str, Any] = {"origin": ["EWR"], "carrier": ["UA"]}
    store.read(by_key(pinned), asked, 1, now=now, at=[now])
    with django_assert_num_queries(0):  # the store's own statement goes past Django's cursors
        store.read(by_key(pinned), asked, 1, now=now, at=[now])
