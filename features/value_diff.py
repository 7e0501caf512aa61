"""What a changed definition does to values: two versions asked the same questions, compared cell by cell.

The questions are a *sample*: keys chosen by their hash, so that the same data gives the same sample on every machine,
each asked at several instants up to the newest the sources have. The work is bounded by the number of questions, and by
one computation of the view to find its keys.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.offline import OfflineEngine, ViewSpec
from features import cells, json_rows
from features.meaning import slot

MOST_KEYS = 500
EXAMPLES = 3
AT = "__sampled_at"
RECENT = timedelta(days=30)
_HOUR = timedelta(hours=1)
BACK = (0 * _HOUR, 5 * _HOUR, 29 * _HOUR, 75 * _HOUR, 7 * 24 * _HOUR, 11 * 24 * _HOUR, 19 * 24 * _HOUR, 28 * 24 * _HOUR)
"""How far before the newest instant the keys are asked; not whole days, so that the time of day varies."""


@dataclass(frozen=True)
class Sample:
    """Questions: one row per key and instant (column ``AT``). Nothing that arrived after ``as_of`` is used."""

    frame: pa.Table
    join_keys: tuple[str, ...]
    as_of: datetime
    keys: int
    instants: tuple[datetime, ...]


@dataclass(frozen=True)
class FeatureDifference:
    """One feature: of how many cells how many differ, with examples (join keys, at, before, after)."""

    cells: int
    differing: int
    examples: tuple[Mapping[str, Any], ...]

    @property
    def share(self) -> float:
        return self.differing / self.cells if self.cells else 0.0


@dataclass(frozen=True)
class Difference:
    """All features that both versions have. Nothing sampled (``rows`` 0) says nothing: it is no agreement."""

    rows: int
    keys: int
    instants: tuple[datetime, ...]
    features: Mapping[str, FeatureDifference]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def cells(self) -> int:
        return sum(each.cells for each in self.features.values())

    @property
    def differing(self) -> int:
        return sum(each.differing for each in self.features.values())

    @property
    def share(self) -> float | None:
        """Share of differing cells; None where there is no cell."""
        return self.differing / self.cells if self.cells else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON can keep it."""
        return {
            "rows": self.rows,
            "keys": self.keys,
            "instants": [each.isoformat() for each in self.instants],
            "cells": self.cells,
            "differing": self.differing,
            "share": self.share,
            "features": {name: {**asdict(each), "share": each.share} for name, each in self.features.items()},
            "added": list(self.added),
            "removed": list(self.removed),
        }


def sample_of(engine: OfflineEngine, view: ViewSpec, *, as_of: datetime, most_keys: int = MOST_KEYS) -> Sample:
    """Questions about a view: up to ``most_keys`` of its keys, each at several instants. Raises OfflineError."""
    newest = _newest(engine, view, as_of)
    if newest is None:
        return Sample(pa.table({AT: pa.array([], pa.timestamp("us", "UTC"))}), view.join_keys, as_of, 0, ())
    keys = _chosen(_keys(engine, view, newest, as_of), view.join_keys, most_keys)
    return _asked(keys, view.join_keys, as_of, tuple(newest - each for each in BACK))


def merged(samples: Sequence[Sample], *, most_keys: int = MOST_KEYS) -> Sample:
    """One sample of the keys of several views of one entity, at the instants of the one with the newest."""
    newest = max(samples, key=lambda each: each.instants[:1])
    names = list(newest.join_keys)
    parts = [each.frame.slice(0, each.keys).select(names) for each in samples if each.keys]
    alike = [each for each in parts if each.schema == newest.frame.select(names).schema]
    if len(alike) < 2:
        return newest
    keys = _chosen(pa.concat_tables(alike).group_by(names).aggregate([]), names, most_keys)
    return _asked(keys, newest.join_keys, newest.as_of, newest.instants)


def values_at(engine: OfflineEngine, views: Sequence[ViewSpec], sample: Sample) -> list[pa.Table]:
    """Each view's features at the sample's questions, one table per view. Raises OfflineError."""
    # named apart, because two of them may be versions of one view
    named = [replace(view, name=f"sampled{at}") for at, view in enumerate(views)]
    joined = engine.point_in_time(sample.frame, named, timestamp=AT, as_of=sample.as_of)
    return [pa.table({feature: joined.column(each.column(feature)) for feature in each.features}) for each in named]


def difference(
    before: pa.Table, after: pa.Table, sample: Sample, *, types: tuple[Mapping[str, str], Mapping[str, str]]
) -> Difference:
    """What differs between two versions' answers to the sample. ``types`` are their features' type names."""
    old, new = types
    both = [name for name in new if name in old]
    return Difference(
        rows=sample.frame.num_rows,
        keys=sample.keys,
        instants=sample.instants,
        features={
            name: _feature_difference(
                cells.conform(before.column(name), old[name]), cells.conform(after.column(name), new[name]), sample
            )
            for name in both
        },
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
    )


def unequal(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which cells differ. Numbers of two types are compared as numbers; of other types only two nulls are equal."""
    if left.type != right.type:
        if not (_is_number(left.type) and _is_number(right.type)):
            return np.asarray(pc.or_(pc.is_valid(left), pc.is_valid(right)).to_numpy(), dtype=np.bool_)
        left, right = (pc.cast(each, pa.float64(), safe=False) for each in (left, right))
    return cells.differing(left, right)


def _feature_difference(before: pa.ChunkedArray, after: pa.ChunkedArray, sample: Sample) -> FeatureDifference:
    wrong = unequal(before, after)
    at = np.flatnonzero(wrong)
    # from the whole sample, not all of one instant
    shown = at[np.unique(np.linspace(0, len(at) - 1, EXAMPLES).astype(int))] if len(at) else at
    examples = pa.table(
        {
            **{key: sample.frame.column(key).take(pa.array(shown)) for key in sample.join_keys},
            "at": sample.frame.column(AT).take(pa.array(shown)),
            "before": before.take(pa.array(shown)),
            "after": after.take(pa.array(shown)),
        }
    )
    return FeatureDifference(len(wrong), len(at), tuple(json_rows.rows(examples)))


def _newest(engine: OfflineEngine, view: ViewSpec, as_of: datetime) -> datetime | None:
    """The newest instant that says something: the newest event of any source, as of ``as_of``."""
    known = [engine.freshness(source, as_of=as_of) for source in view.sources]
    newest = max((each for each in known if each is not None), default=None)
    return None if newest is None else min(newest, as_of)


def _keys(engine: OfflineEngine, view: ViewSpec, newest: datetime, as_of: datetime) -> pa.Table:
    """The join keys of the view's entities, each once, in no promised order."""
    if view.aggregations:
        values = engine.values(view, as_of=slot(newest, view.cadence))
    elif view.lookback is None:
        values = engine.values(view, as_of=as_of)
    else:
        values = engine.values(view, as_of=as_of, known_after=newest - RECENT)
        if values.num_rows < MOST_KEYS:
            values = engine.values(view, as_of=as_of)
    return values.select(list(view.join_keys))


def _asked(keys: pa.Table, join_keys: tuple[str, ...], as_of: datetime, instants: tuple[datetime, ...]) -> Sample:
    """Every key at the first instant, then every key at the next, and so on."""
    rows = len(keys)
    repeated = pa.concat_tables([keys] * len(instants)) if rows else keys
    asked = pa.array([at for at in instants for _ in range(rows)], pa.timestamp("us", "UTC"))
    return Sample(repeated.append_column(AT, asked), join_keys, as_of, rows, instants)


def _chosen(keys: pa.Table, join_keys: Sequence[str], most: int) -> pa.Table:
    """The keys with the smallest hashes, in the order of those."""
    names = cells.entity_keys(keys, join_keys)
    hashes = ((hashlib.md5((name or "").encode(), usedforsecurity=False).digest(), at) for at, name in enumerate(names))
    return keys.take(pa.array([at for _, at in heapq.nsmallest(most, hashes)], pa.int64()))


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))
