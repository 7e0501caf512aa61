"""Whether two offline engines give the same answers to the same view, cell by cell over a sample.

Run before a version of a view is accepted wherever more than one engine is configured: a feature that is one number
in training on Spark and another in materialization by DuckDB is skew that no review of its text would show.
``engines.dialects`` refuses what it knows to differ; this finds the rest, above all answers that depend on the order of
storage (``row_number()`` over ties).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engines.offline import OfflineEngine, SourceTable, ViewSpec

RELATIVE = 1e-9
"""Floats agree up to this share of the larger one: engines add in different orders. NaN agrees with NaN, null with
null."""
EXAMPLES = 10
ASKED = "asked_at"
"""The time column of a sample."""


@dataclass(frozen=True)
class Difference:
    """A cell with two answers: the question (``point_in_time``, ``values``), the entity and time asked, the column."""

    question: str
    at: Mapping[str, Any]
    column: str
    answers: tuple[str, str]


@dataclass(frozen=True)
class Conformance:
    """What a comparison found. ``engines`` with their versions; ``cells`` compared, ``differing`` among them."""

    view: str
    engines: tuple[str, str]
    cells: int
    differing: int
    examples: tuple[Difference, ...]

    @property
    def verdict(self) -> str:
        """``passed``, ``failed``, or ``inconclusive`` where the sample held nothing to compare."""
        if not self.cells:
            return "inconclusive"
        return "failed" if self.differing else "passed"

    def sentence(self) -> str:
        """The verdict with its numbers, for people."""
        one, other = self.engines
        if not self.cells:
            return f"{self.view}: the sample holds nothing to compare {one} with {other} on"
        if not self.differing:
            return f"{self.view}: {one} and {other} agree on all {self.cells:,} cells (floats up to {RELATIVE:g})"
        first = self.examples[0]
        return (
            f"{self.view}: {one} and {other} differ in {self.differing:,} of {self.cells:,} cells, such as "
            f"{first.column} of {dict(first.at)} ({first.question}): {first.answers[0]} against {first.answers[1]}"
        )


def compare(
    view: ViewSpec,
    engines: Sequence[OfflineEngine],
    sample: pa.Table,
    *,
    as_of: datetime,
    second: ViewSpec | None = None,
) -> Conformance:
    """The training join and the values of ``view`` on two engines. ``sample`` holds its join keys and ``ASKED``.

    The other engine is asked about ``second`` if given: the same view over the same rows in another order
    (``reordered``). Two engines that both take the first row they meet would agree otherwise.

    Raises what an engine raises: one that can not evaluate the view, or refuses to translate it, has said why.
    """
    one, other = engines
    asked = list(zip(engines, (view, second or view), strict=True))
    joined = [e.point_in_time(sample, [spec], timestamp=ASKED, as_of=as_of, reasons=True) for e, spec in asked]
    values = [_by_key(e.values(spec, as_of=as_of), view) for e, spec in asked]
    found = _Tally()
    columns = [*(view.column(name) for name in view.features), view.reason_column]
    found.add("point_in_time", joined[0], joined[1], at=[*view.join_keys, ASKED], columns=columns)
    both = _aligned(values[0], values[1], view)
    found.add("values", both[0], both[1], at=view.join_keys, columns=["event_timestamp", "known_at", *view.features])
    names = (f"{one.name} {one.version}", f"{other.name} {other.version}")
    return Conformance(view.name, names, found.cells, found.differing, tuple(found.examples))


class _Tally:
    """Counts cells, and keeps the first differences."""

    def __init__(self) -> None:
        self.cells = 0
        self.differing = 0
        self.examples: list[Difference] = []

    def add(self, question: str, one: pa.Table, other: pa.Table, *, at: Sequence[str], columns: Sequence[str]) -> None:
        """Compare two tables of equally many rows, row by row."""
        for column in columns:
            left, right = one.column(column), other.column(column)
            rows = np.flatnonzero(~_agreeing(left, right))
            self.cells += len(left)
            self.differing += len(rows)
            for row in rows[: EXAMPLES - len(self.examples)].tolist():
                asked = {name: one.column(name)[row].as_py() for name in at}
                answers = (_shown(left, row), _shown(right, row))
                self.examples.append(Difference(question, asked, column, answers))


def _agreeing(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which cells hold the same; none do where the types differ, since the stores hold types, too."""
    if left.type != right.type:
        return np.zeros(len(left), np.bool_)
    nulls = _flags(pc.is_null(left)), _flags(pc.is_null(right))
    if pa.types.is_floating(left.type):
        one, two = (_doubles(each) for each in (left, right))
        limit = RELATIVE * np.maximum(np.abs(one), np.abs(two))
        with np.errstate(invalid="ignore"):
            near = (one == two) | (np.isnan(one) & np.isnan(two))
            near |= np.isfinite(one) & np.isfinite(two) & (np.abs(one - two) <= limit)
    else:
        near = _flags(pc.fill_null(pc.equal(left, right), True))
    both: np.ndarray[Any, np.dtype[np.bool_]] = (nulls[0] & nulls[1]) | (near & ~nulls[0] & ~nulls[1])
    return both


def _flags(values: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    flags: np.ndarray[Any, np.dtype[np.bool_]] = values.to_numpy().astype(np.bool_)
    return flags


def _doubles(values: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    doubles: np.ndarray[Any, np.dtype[np.float64]] = pc.fill_null(values, 0.0).to_numpy()
    return doubles


def _shown(column: pa.ChunkedArray, row: int) -> str:
    value = column[row].as_py()
    return "null" if value is None else f"{value!r} ({column.type})"


def _by_key(values: pa.Table, view: ViewSpec) -> pa.Table:
    return values.sort_by([(key, "ascending") for key in view.join_keys])


def _aligned(one: pa.Table, other: pa.Table, view: ViewSpec) -> tuple[pa.Table, pa.Table]:
    """Both with a row for each key that either has; where one lacks it, all of that row is null.

    A key that only one engine has so differs in its times at least, which are never null.
    """
    keys = list(view.join_keys)
    every = pa.concat_tables([one.select(keys), other.select(keys)], promote_options="permissive")
    every = every.group_by(keys).aggregate([]).sort_by([(key, "ascending") for key in keys])
    left, right = (_on_keys(every, each, keys) for each in (one, other))
    return left, right


def _on_keys(every: pa.Table, table: pa.Table, keys: list[str]) -> pa.Table:
    place = {key: row for row, key in enumerate(zip(*(table.column(k).to_pylist() for k in keys), strict=True))}
    wanted = zip(*(every.column(key).to_pylist() for key in keys), strict=True)
    rows = pa.array([place.get(key) for key in wanted], pa.int64())
    taken = table.drop_columns(keys).take(rows)
    for key in keys:
        taken = taken.append_column(key, every.column(key))
    return taken


# ---------------------------------------------------------------------- samples


def sample_of(view: ViewSpec, values: pa.Table, *, as_of: datetime, entities: int = 200) -> pa.Table:
    """Questions about some entities of ``values`` (an engine's answer), at the instants where answers change.

    For each: just before and at its newest event and arrival, when the TTL ends and has ended, a step of the cadence
    later, ``as_of``, and twice never: a null time, and a null key.
    """
    rows = np.unique(np.linspace(0, max(values.num_rows - 1, 0), min(entities, values.num_rows)).astype(np.int64))
    chosen = _by_key(values, view).take(pa.array(rows))
    asked: list[dict[str, Any]] = []
    for row in chosen.to_pylist():
        keys = {key: row[key] for key in view.join_keys}
        asked += [keys | {ASKED: at} for at in (*_instants(view, row, as_of), None)]
    asked += [dict.fromkeys(view.join_keys) | {ASKED: as_of}] if asked else []
    schema = pa.schema([*(chosen.schema.field(key) for key in view.join_keys), (ASKED, pa.timestamp("us", "UTC"))])
    return pa.Table.from_pylist(asked, schema=schema)


def _instants(view: ViewSpec, row: Mapping[str, Any], as_of: datetime) -> Iterator[datetime]:
    moment = timedelta(microseconds=1)
    for at in (row["event_timestamp"], row["known_at"]):
        yield from (at - moment, at, at + (view.cadence or moment))
        if view.ttl is not None:
            yield from (at + view.ttl, at + view.ttl + moment)
    if view.window is not None:
        yield from (row["event_timestamp"] - view.window / 2, row["event_timestamp"] + view.window / 2)
    yield as_of


def narrowed(view: ViewSpec, engine: OfflineEngine, folder: Path, *, as_of: datetime, rows: int = 200_000) -> ViewSpec:
    """The view over copies of its sources in ``folder`` that hold about the newest ``rows`` rows each.

    A comparison over the whole of a large source would take as long as computing the view on it twice.
    """
    copies = []
    for number, source in enumerate(view.sources):
        since = _since(engine, source, as_of, rows)
        path = folder / f"{number}.parquet"
        pq.write_table(engine.rows(source, as_of=as_of, since=since), path)
        copies.append(replace(source, uri=str(path)))
    return replace(view, sources=tuple(copies))


def reordered(view: ViewSpec, folder: Path) -> ViewSpec:
    """A view whose sources are single files, over copies of them in ``folder`` with the rows the other way round."""
    copies = []
    for number, source in enumerate(view.sources):
        rows = pq.read_table(source.uri)
        path = folder / f"{number}-reordered.parquet"
        pq.write_table(rows.take(pa.array(range(rows.num_rows - 1, -1, -1), pa.int64())), path)
        copies.append(replace(source, uri=str(path)))
    return replace(view, sources=tuple(copies))


def _since(engine: OfflineEngine, source: SourceTable, as_of: datetime, rows: int) -> datetime | None:
    """When the newest ``rows`` rows began to happen, if they come evenly; None for all."""
    profile = engine.profile(source, as_of=as_of)
    if profile.rows <= rows or profile.newest_event is None:
        return None
    event = next(column for column in profile.columns if column.name == source.event_timestamp)
    if not isinstance(event.minimum, datetime):
        return None
    return profile.newest_event - (profile.newest_event - event.minimum) * (rows / profile.rows)
