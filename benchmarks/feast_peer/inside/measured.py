"""The measured work: the historical join, the materialization, online reads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureService, FeatureStore

from benchmarks.feast_peer.inside.repository import SERVICE, opened
from benchmarks.processes import Meter, own_cpu

READ_AT_ONCE = 1000


def historical(folder: str, *, frame: str, result: str, as_known: bool) -> dict[str, Any]:
    """Join a frame, a pandas one in and out, and store the answer with each row's number in the frame.

    ``as_known`` asks Feast to leave out what was created after the asked time, which it does not by itself.
    """
    store, service = _store(folder)
    rows = pq.read_table(frame).to_pandas()
    if "row" not in rows:
        rows["row"] = np.arange(len(rows))
    with Meter() as meter:
        job = store.get_historical_features(
            rows, features=service, full_feature_names=True, filter_by_created_timestamp=as_known
        )
        joined = job.to_df()
    pq.write_table(pa.Table.from_pandas(joined, preserve_index=False), result)
    return {"cost": asdict(meter.cost), "rows": len(joined)}


def materialize(folder: str, *, start: str, end: str) -> dict[str, Any]:
    """The newest values with an event time in that range, of all views, to the online store."""
    store, _ = _store(folder)
    with Meter() as meter:
        store.materialize(datetime.fromisoformat(start), datetime.fromisoformat(end))
    return {"cost": asdict(meter.cost)}


def read(folder: str, *, keys: Sequence[Sequence[int]]) -> dict[str, Any]:
    """One online read of the whole service per list of entities: seconds of each call, CPU seconds of all."""
    store, service = _store(folder)
    walls = []
    cpu = own_cpu()
    for entities in keys:
        rows = [{"entity_id": entity} for entity in entities]
        start = time.perf_counter()
        store.get_online_features(features=service, entity_rows=rows).to_dict()
        walls.append(time.perf_counter() - start)
    return {"walls": walls, "cpu": own_cpu() - cpu}


def served(folder: str, *, entities: int, result: str) -> dict[str, Any]:
    """Store what is served for entities 0, 1, … with the features named as the historical join names them."""
    store, service = _store(folder)
    parts = []
    for first in range(0, entities, READ_AT_ONCE):
        rows = [{"entity_id": entity} for entity in range(first, min(first + READ_AT_ONCE, entities))]
        answer = store.get_online_features(features=service, entity_rows=rows, full_feature_names=True)
        parts.append(pa.table(answer.to_dict()))
    pq.write_table(pa.concat_tables(parts, promote_options="permissive"), result)
    return {}


def order(folder: str) -> dict[str, Any]:
    """The names of the served features in the order in which they come."""
    store, service = _store(folder)
    answer = store.get_online_features(features=service, entity_rows=[{"entity_id": 0}])
    return {"order": list(answer.to_dict())}


@lru_cache
def _store(folder: str) -> tuple[FeatureStore, FeatureService]:
    store = opened(folder)
    return store, store.get_feature_service(SERVICE)
