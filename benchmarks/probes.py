"""Does a feature store tell the truth? Small questions with one right answer each, put to any store.

Each probe counts what is wrong, so zero is right. A store takes part by being a ``Subject``. Times are fixed, so a
probe gives the same count every time but for races (``lost_applies``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import workloads

DAY = timedelta(days=1)
ASKED = datetime(2025, 3, 1, tzinfo=UTC)
CORRECTED_ENTITIES, CORRECTIONS = 2000, 5
APPLIES = 100
SEEDS = (0, 1, 2, 3)

_TIME = pa.timestamp("us", "UTC")


class Subject(Protocol):
    """A feature store under test, which calls the one feature of a small history ``value``."""

    def joined(self, history: pa.Table, frame: pa.Table, *, ttl: timedelta) -> pa.Table:
        """The historical join of a frame: at least ``row`` and ``value``, for each row that is given back."""

    def served(self, history: pa.Table, *, backfill: pa.Table | None, ttl: timedelta) -> dict[int, float | None]:
        """What is served per entity today, after ``history`` was materialized and then ``backfill``."""

    def both_ways(self, workload: str, at: datetime) -> tuple[pa.Table, pa.Table]:
        """All features of all entities of a workload at an instant: computed offline, and served; ordered by entity."""

    def lost_applies(self, count: int) -> Finding:
        """Of ``count`` concurrent applies those that reported success and are not there afterwards."""

    def orders(self, seeds: Sequence[int]) -> set[tuple[str, ...]]:
        """The orders of the served features in processes with these ``PYTHONHASHSEED``."""

    def versions_of_ttls(self, *ttls: timedelta) -> list[str]:
        """The version that a view has after it was applied with each of these TTLs in turn."""


@dataclass(frozen=True)
class Finding:
    """``wrong`` of ``of`` answers were wrong."""

    wrong: int
    of: int

    def __str__(self) -> str:
        return f"{self.wrong:,} of {self.of:,}"


def lost_rows(subject: Subject) -> Finding:
    """Rows of the frame that do not come back: known, only older than the TTL, only in the future, unknown entity."""
    history = _history([(1, ASKED - DAY), (2, ASKED - 100 * DAY), (3, ASKED + DAY)])
    frame = _frame([1, 2, 3, 4])
    return Finding(len(frame) - len(subject.joined(history, frame, ttl=30 * DAY)), len(frame))


def lost_duplicates(subject: Subject) -> Finding:
    """Rows that do not come back because another one asks about the same entity at the same time."""
    frame = _frame([1, 1, 2])
    history = _history([(1, ASKED - DAY), (2, ASKED - DAY)])
    return Finding(len(frame) - len(subject.joined(history, frame, ttl=30 * DAY)), len(frame))


def wrong_corrections(subject: Subject) -> Finding:
    """Answers that are not the newest correction of an event, in a file of corrections in no order."""
    random = np.random.default_rng(7)
    entity = np.repeat(np.arange(CORRECTED_ENTITIES), CORRECTIONS)
    correction = np.tile(np.arange(CORRECTIONS), CORRECTED_ENTITIES)
    order = random.permutation(len(entity))
    happened = ASKED - 2 * DAY
    history = pa.table(
        {
            "entity_id": pa.array(entity[order]),
            "event_timestamp": pa.array([happened] * len(order), _TIME),
            "created": pa.array([happened + timedelta(hours=int(each)) for each in correction[order]], _TIME),
            "value": pa.array(correction[order].astype(float)),
        }
    )
    joined = subject.joined(history, _frame(range(CORRECTED_ENTITIES)), ttl=30 * DAY)
    right = pc.sum(pc.equal(joined.column("value"), CORRECTIONS - 1)).as_py() or 0
    return Finding(CORRECTED_ENTITIES - right, CORRECTED_ENTITIES)


def leaked_values(subject: Subject) -> Finding:
    """Answers that use a value which was written 17 days after the asked time."""
    entities = range(100)
    history = _history([(each, ASKED - DAY) for each in entities], late=18 * DAY)
    joined = subject.joined(history, _frame(entities), ttl=30 * DAY)
    return Finding(_count(joined.column("value")), len(entities))


def expired_values(subject: Subject) -> Finding:
    """Values served although they are years old and may live for a second."""
    history = _history([(each, ASKED - 682 * DAY) for each in range(100)])
    served = subject.served(history, backfill=None, ttl=timedelta(seconds=1))
    return Finding(sum(value is not None for value in served.values()), 100)


def clobbered_values(subject: Subject) -> Finding:
    """Newer values that an older one replaced, because January was materialized after March."""
    march = _history([(each, datetime(2025, 3, 10, tzinfo=UTC)) for each in range(100)], value=99.0)
    january = _history([(each, datetime(2025, 1, 10, tzinfo=UTC)) for each in range(100)], value=10.0)
    served = subject.served(march, backfill=january, ttl=3650 * DAY)
    return Finding(sum(served.get(each) != 99.0 for each in range(100)), 100)


def skewed_cells(subject: Subject) -> Finding:
    """Cells served that are not what the historical join gives at that instant: 50k entities × 10 features."""
    offline, online = subject.both_ways("M", workloads.END)
    names = [name for view in workloads.VIEWS for name in columns_of(view)]
    if not any(_count(online.column(name)) for name in names):
        raise ValueError("Nothing at all was served.")
    wrong = sum(int(differing(offline.column(name), online.column(name)).sum()) for name in names)
    return Finding(wrong, len(names) * workloads.WORKLOADS["M"].entities)


def lost_applies(subject: Subject) -> Finding:
    """Definitions that are gone although their apply reported success."""
    return subject.lost_applies(APPLIES)


def unstable_orders(subject: Subject) -> Finding:
    """Processes that serve the features in another order than the first one does."""
    return Finding(len(subject.orders(SEEDS)) - 1, len(SEEDS) - 1)


def silent_changes(subject: Subject) -> Finding:
    """Changes of the TTL, hence of values, that leave the version as it was."""
    before, after = subject.versions_of_ttls(30 * DAY, DAY)
    return Finding(int(before == after), 1)


OFFLINE: tuple[Callable[[Subject], Finding], ...] = (lost_rows, wrong_corrections, lost_duplicates, leaked_values)
ONLINE: tuple[Callable[[Subject], Finding], ...] = (expired_values, clobbered_values, skewed_cells, unstable_orders)
DEFINITIONS: tuple[Callable[[Subject], Finding], ...] = (lost_applies, silent_changes)
ALL = OFFLINE + ONLINE + DEFINITIONS


def all_entities(workload: str, at: datetime) -> pa.Table:
    """The frame that asks about every entity of a workload at one instant."""
    return _frame(range(workloads.WORKLOADS[workload].entities), at)


def differing(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which cells of two columns of numbers differ; two without a value do not."""
    left, right = _without_nan(left), _without_nan(right)
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    same = pc.or_(both_null, pc.fill_null(pc.equal(left, right), False))
    return ~np.asarray(same.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _history(events: Sequence[tuple[int, datetime]], *, value: float = 1.0, late: timedelta = timedelta(0)) -> pa.Table:
    """Events (entity, time) of one value, each created ``late`` after it happened."""
    return pa.table(
        {
            "entity_id": pa.array([entity for entity, _ in events], pa.int64()),
            "event_timestamp": pa.array([happened for _, happened in events], _TIME),
            "created": pa.array([happened + late for _, happened in events], _TIME),
            "value": pa.array([value] * len(events)),
        }
    )


def _frame(entities: Sequence[int], at: datetime = ASKED) -> pa.Table:
    return pa.table(
        {
            "entity_id": pa.array(entities, pa.int64()),
            "event_timestamp": pa.array([at] * len(entities), _TIME),
            "row": pa.array(range(len(entities)), pa.int64()),
        }
    )


def columns_of(view: str) -> list[str]:
    return [f"{view}__{feature}" for feature in workloads.feature_names(view)]


def _count(column: pa.ChunkedArray) -> int:
    """Values that are there: neither null nor the NaN by which pandas says null."""
    return int(pc.sum(pc.is_valid(_without_nan(column))).as_py() or 0)


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = pc.cast(column, pa.float64())
    return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
