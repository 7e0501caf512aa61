"""The data of the feature benchmarks: histories of two views and the frames asked of them, the same on every machine.

A history is a log in the order of arrival. 5 % of the values are null, 5 % of the rows arrive up to five days late, and
1 % correct an earlier row: same entity, same event time, another value, created later.

    from benchmarks import workloads
    paths = workloads.write("M", folder)          # nothing is written twice
    paths.views["a"], paths.views["b"]            # Parquet: entity_id, event_timestamp, created, a1 … a5 (b1 … b5)
    paths.frames["full"], paths.frames["recent"]  # Parquet: entity_id, event_timestamp, label

``full`` has times all over the year; ``recent`` is 10,000 rows of its last month, as a retraining by increment asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

START = datetime(2025, 1, 1, tzinfo=UTC)
DAYS = 365
END = START + timedelta(days=DAYS)
# The last created time is at most this.
AS_OF = END + timedelta(days=10)
TTL = timedelta(days=30)
FEATURES_PER_VIEW = 5
VIEWS = ("a", "b")

_TIME = pa.timestamp("us", "UTC")
_DAY_US = 86_400_000_000
_START_US = int(START.timestamp()) * 1_000_000

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """How many entities, rows per view and rows of the full frame."""

    name: str
    entities: int
    rows: int
    frame_rows: int


WORKLOADS = {
    each.name: each
    for each in (
        Workload("M", 50_000, 2_000_000, 500_000),
        Workload("d40", 50_000, 2_000_000, 100_000),
        Workload("d400", 5_000, 2_000_000, 100_000),
        Workload("d4000", 500, 2_000_000, 100_000),
        Workload("tiny", 50, 2_000, 500),  # to try a benchmark out
    )
}


@dataclass(frozen=True)
class Paths:
    """Where the files of a workload are."""

    views: dict[str, Path]
    frames: dict[str, Path]


def feature_names(view: str) -> tuple[str, ...]:
    """The features of view ``a`` or ``b``, in their order."""
    return tuple(f"{view}{number}" for number in range(1, FEATURES_PER_VIEW + 1))


def write(name: str, folder: Path) -> Paths:
    """The files of a workload below ``folder``, written unless they are there."""
    workload = WORKLOADS[name]
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    paths = Paths(
        views={view: place / f"view_{view}.parquet" for view in VIEWS},
        frames={which: place / f"frame_{which}.parquet" for which in ("full", "recent")},
    )
    for number, (view, path) in enumerate(paths.views.items()):
        if not path.exists():
            _store(_history(workload, view, seed=number), path)
    spans = {"full": (workload.frame_rows, 0), "recent": (min(10_000, workload.frame_rows), DAYS - 30)}
    for number, (which, path) in enumerate(paths.frames.items()):
        if not path.exists():
            _store(_frame(workload, *spans[which], seed=100 + number), path)
    return paths


def _history(workload: Workload, view: str, *, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    rows = workload.rows
    corrections = rows // 100
    first = rows - corrections
    entity = random.integers(0, workload.entities, first)
    event = _START_US + random.integers(0, DAYS * _DAY_US, first)
    # most rows arrive within seconds
    created = event + random.integers(0, 10_000_000, first)
    late = random.random(first) < 0.05
    created[late] += random.integers(0, 5 * _DAY_US, int(late.sum()))
    corrected = random.choice(first, corrections, replace=False)
    entity = np.concatenate([entity, entity[corrected]])
    event = np.concatenate([event, event[corrected]])
    created = np.concatenate([created, created[corrected] + 1 + random.integers(0, _DAY_US, corrections)])
    order = np.argsort(created, kind="stable")
    columns = {
        "entity_id": pa.array(entity[order]),
        "event_timestamp": _times(event[order]),
        "created": _times(created[order]),
    }
    for feature in feature_names(view):
        columns[feature] = pa.array(random.normal(size=rows), mask=random.random(rows) < 0.05)
    return pa.table(columns)


def _frame(workload: Workload, rows: int, first_day: int, *, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    # whole seconds, so that what a pandas frame in nanoseconds asks is what we ask
    second = random.integers(first_day * 86_400, DAYS * 86_400, rows)
    return pa.table(
        {
            "entity_id": pa.array(random.integers(0, workload.entities, rows)),
            "event_timestamp": _times(_START_US + second * 1_000_000),
            "label": pa.array(random.integers(0, 2, rows)),
        }
    )


def _times(microseconds: Numbers) -> pa.Array:
    return pa.array(microseconds).cast(_TIME)


def _store(table: pa.Table, path: Path) -> None:
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.rename(path)
