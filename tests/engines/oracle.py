"""The rules of ``engines.offline`` in plain Python, one row at a time: slow, and obviously right.

Every engine is tested against it, with the same histories (``CASES``) and the same checks:

    @given(case=oracle.CASES)
    def test_…(engine, tmp_path, case):
        oracle.check_point_in_time(engine, tmp_path, case)
        oracle.check_values(engine, tmp_path, case)

``case.stored`` writes the history as a source, in the column types it was drawn with. ``PLAIN`` works row by row;
``NESTED`` is the same view in words that no engine can look through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from engines import offline
from engines.offline import Aggregation, OfflineEngine, SourceTable, ViewSpec

Row = dict[str, Any]
Key = tuple[Any, ...]

# Three hours before New York's clocks went forward, so that histories cross it.
START = datetime(2024, 3, 10, 4, tzinfo=UTC)
END = START + timedelta(days=300)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UTC_TIME = pa.timestamp("us", "UTC")

KEYS = ("shop", "till")
PLAIN = "SELECT shop, till, happened, arrived, amount, items, label, paid, due FROM sales"
NESTED = f"WITH told AS ({PLAIN}) SELECT shop, till, happened, arrived, amount, items, label, paid, due FROM told"
COLUMNS = ("amount", "items", "label", "paid", "due")

TIME_TYPES = (
    UTC_TIME,
    pa.timestamp("us"),
    pa.timestamp("ns"),
    pa.timestamp("ns", "UTC"),
    pa.timestamp("ms", "America/New_York"),
    pa.timestamp("ns", "America/New_York"),
)


def at(hours: float) -> datetime:
    """An instant, counted from ``START``."""
    return START + timedelta(hours=hours)


def hours(number: float) -> timedelta:
    """A length of time."""
    return timedelta(hours=number)


# ---------------------------------------------------------------------- histories


@dataclass(frozen=True)
class Case:
    """A history and how it is stored and asked; ``zone`` is the type of its time columns."""

    rows: Sequence[Row]
    time_type: pa.DataType
    expression: str
    ttl: timedelta | None
    cadence: timedelta | None
    as_of: datetime
    asked: Sequence[Row]
    steps: Sequence[int]

    def stored(self, folder: Path) -> SourceTable:
        """The history as a source of one Parquet file."""
        return store(folder, self.rows, time_type=self.time_type)

    def view(self, source: SourceTable, **changes: Any) -> ViewSpec:
        """The newest sale of a till."""
        spec = {"expression": self.expression, "ttl": self.ttl, "cadence": self.cadence, "lookback": hours(3)}
        return view_of(source, **(spec | changes))

    def windows(self, source: SourceTable) -> ViewSpec:
        """Every aggregation over the sales of a till."""
        features = tuple(each.name for each in AGGREGATIONS)
        cadence = self.cadence or hours(1)
        return self.view(source, ttl=None, cadence=cadence, features=features, aggregations=AGGREGATIONS)

    @property
    def frame(self) -> pa.Table:
        """What is asked."""
        return frame_of(self.asked)


AGGREGATIONS = tuple(
    Aggregation(f"{function}_{column}_{length}h".replace("None", "all"), function, column, hours(length))
    for function, column in (
        ("count", None),
        ("count", "amount"),
        ("sum", "amount"),
        ("sum", "items"),
        ("mean", "amount"),
        ("mean", "items"),
        ("share", "paid"),
        ("distinct", "label"),
        ("distinct", "amount"),
        *((function, column) for function in ("min", "max", "last") for column in COLUMNS),
    )
    for length in (1, 3, 6)
)

AMOUNTS = (None, None, 0.1, 0.2, 0.3, 2.5, -2.5, 5e-10, 1.5e-9, -0.0, 0.0, 4e15 + 0.5, 1e17, math.nan, math.inf, 1e300)

# Few keys and hours, so that ties, corrections, late rows and exact boundaries are common.
_ROW = st.fixed_dictionaries(
    {
        "shop": st.sampled_from(["a", "a", "a", "b", None]),
        "till": st.sampled_from([1, 1, 2]),
        "happened": st.integers(0, 8),
        "delay": st.sampled_from([0, 0, 1, 4, 4, -2, -2]),
        "amount": st.sampled_from(AMOUNTS),
        "items": st.sampled_from([None, 1, 2, -7, 2**53 + 1]),
        "label": st.sampled_from([None, "x", "y", "Z", "ü", ""]),
        "paid": st.sampled_from([None, True, False]),
        "due": st.sampled_from([None, 1, 2]),
    }
)


def arriving(row: Row) -> Row:
    """The drawn row with its times; a negative delay is a row known before it happens, such as a timetable's."""
    due = None if row["due"] is None else at(row["due"])
    happened = row["happened"]
    kept = {name: row[name] for name in (*KEYS, "amount", "items", "label", "paid")}
    return kept | {"happened": at(happened), "arrived": at(happened + row["delay"]), "due": due}


HISTORIES = st.lists(_ROW, min_size=0, max_size=16).map(lambda rows: [arriving(row) for row in rows])
_SPANS = st.none() | st.sampled_from([1, 3, 5]).map(hours)
# Every key is asked at every third of an hour: keys and times drawn at random nearly always miss, and then a broken
# join passes. Some are asked twice.
_ENTITIES = [(shop, till) for shop in ("a", "b", None) for till in (1, 2)]
_ASKED = [{"shop": shop, "till": till, "asked": at(third / 3)} for shop, till in _ENTITIES for third in range(-4, 52)]
_ASKED += [{"shop": "a", "till": 1, "asked": None}, {"shop": "nobody", "till": 1, "asked": at(5)}, *_ASKED[20:40]]


@st.composite
def _frames(draw: st.DrawFn) -> list[Row]:
    """The whole list in some order, or a few of it."""
    order = draw(st.randoms(use_true_random=False))
    asked = list(_ASKED)
    order.shuffle(asked)
    return asked[: draw(st.sampled_from([len(asked), len(asked), 3, 0]))]


CASES = st.builds(
    Case,
    rows=HISTORIES,
    time_type=st.sampled_from(TIME_TYPES),
    expression=st.sampled_from([PLAIN, NESTED]),
    ttl=_SPANS,
    cadence=_SPANS,
    as_of=st.sampled_from([at(5), at(8), END, END]),
    asked=_frames(),
    steps=st.lists(st.integers(1, 14), min_size=2, max_size=5, unique=True).map(sorted),
)


# ---------------------------------------------------------------------- builders


def store(folder: Path, rows: Sequence[Row], *, time_type: pa.DataType = UTC_TIME, name: str = "sales") -> SourceTable:
    """The rows as a source ``sales`` in ``folder``; all times in the type."""
    table = pa.table(
        {
            "shop": pa.array([row["shop"] for row in rows], pa.string()),
            "till": pa.array([row["till"] for row in rows], pa.int64()),
            "happened": _times([row["happened"] for row in rows], time_type),
            "arrived": _times([row["arrived"] for row in rows], time_type),
            "amount": pa.array([row["amount"] for row in rows], pa.float64()),
            "items": pa.array([row["items"] for row in rows], pa.int64()),
            "label": pa.array([row["label"] for row in rows], pa.string()),
            "paid": pa.array([row["paid"] for row in rows], pa.bool_()),
            "due": _times([row["due"] for row in rows], time_type),
        }
    )
    path = folder / f"{name}.parquet"
    pq.write_table(table, path, row_group_size=5)
    return SourceTable("sales", str(path), "happened", "arrived")


def view_of(source: SourceTable, **changes: Any) -> ViewSpec:
    """A view of the sales, by default the newest of each till, for ever."""
    spec: dict[str, Any] = {
        "name": "sale",
        "version": 1,
        "join_keys": KEYS,
        "features": COLUMNS,
        "expression": PLAIN,
        "event_timestamp": "happened",
        "known_at": "arrived",
        "ttl": None,
        "cadence": None,
        "sources": (source,),
        "lookback": timedelta(0),
    }
    return ViewSpec(**spec | changes)


def frame_of(asked: Sequence[Row], *, time_type: pa.DataType = UTC_TIME) -> pa.Table:
    """An entity frame with the join keys and the column ``asked``."""
    return pa.table(
        {
            "shop": pa.array([row["shop"] for row in asked], pa.string()),
            "till": pa.array([row["till"] for row in asked], pa.int64()),
            "asked": _times([row["asked"] for row in asked], time_type),
        }
    )


def _times(times: Sequence[datetime | None], type_: pa.DataType) -> pa.Array:
    return pa.array(times, UTC_TIME).cast(pa.int64()).cast(pa.timestamp("us")).cast(_naive(type_)).cast(type_)


def _naive(type_: pa.DataType) -> pa.DataType:
    return pa.timestamp(type_.unit)


# ---------------------------------------------------------------------- the rules


def floored(moment: datetime, cadence: timedelta | None) -> datetime:
    """The last multiple of the cadence since 1970."""
    return moment if cadence is None else EPOCH + (moment - EPOCH) // cadence * cadence


def answer(asked: Row, rows: Sequence[Row], view: ViewSpec, as_of: datetime) -> tuple[Row, str]:
    """The features of one row of the frame, and the reason."""
    nothing = dict.fromkeys(view.features)
    if any(asked[key] is None for key in (*view.join_keys, "asked")):
        return nothing, offline.NULL_KEY
    mine = [row for row in rows if all(row[key] == asked[key] for key in view.join_keys) and row["arrived"] <= as_of]
    if not mine:
        return nothing, offline.UNKNOWN_ENTITY
    bound = floored(asked["asked"], view.cadence)
    known = [row for row in mine if row["happened"] <= bound and row["arrived"] <= bound]
    if not known:
        return nothing, offline.NOT_KNOWN_YET
    if view.window is not None:
        features = aggregates(known, view, bound)
        return (nothing, offline.EXPIRED) if features is None else (features, offline.FOUND)
    newest = newest_row(known, view.features)
    if view.ttl is not None and asked["asked"] - newest["happened"] > view.ttl:
        return nothing, offline.EXPIRED
    return {name: newest[name] for name in view.features}, offline.FOUND


def newest_row(known: Sequence[Row], features: Sequence[str]) -> Row:
    """The newest event, its newest correction; of equals the one whose values sort first."""
    newest = max((row["happened"], row["arrived"]) for row in known)
    tied = [row for row in known if (row["happened"], row["arrived"]) == newest]
    return min(tied, key=lambda row: [in_sql_order(row[name]) for name in features])


def in_sql_order(value: Any) -> tuple[bool, bool, Any]:
    """A key that sorts as SQL does: numbers, then NaN, then null; text by code point."""
    if value is None:
        return (True, False, 0)
    if isinstance(value, float) and math.isnan(value):
        return (False, True, 0)
    return (False, False, value.encode() if isinstance(value, str) else value)


def aggregates(known: Sequence[Row], view: ViewSpec, bound: datetime) -> Row | None:
    """The aggregations over rows that had happened and were known at ``bound``; None if there was nothing at all."""
    assert view.window is not None
    if not any(row["happened"] > bound - view.window for row in known):
        return None
    return {each.name: _aggregate(each, known, bound) for each in view.aggregations}


def _aggregate(each: Aggregation, known: Sequence[Row], bound: datetime) -> Any:
    inside = [row for row in known if row["happened"] > bound - each.over]
    if each.column is None:
        return len(inside)
    column = each.column
    values = [row[column] for row in inside if row[column] is not None]
    if each.function == "count":
        return len(values)
    if each.function == "distinct":
        return len({in_sql_order(value) for value in values})
    if each.function == "sum":
        return _sum(values, fractional=column == "amount")
    if each.function in ("mean", "share"):
        fit = _fitting(values)
        return float(_sum(fit, fractional=column == "amount")) / len(fit) if fit else None
    if not values:
        return None
    if each.function == "last":
        newest = max((row["happened"], row["arrived"]) for row in inside if row[column] is not None)
        values = [
            row[column] for row in inside if (row["happened"], row["arrived"]) == newest and row[column] is not None
        ]
    return (max if each.function == "max" else min)(values, key=in_sql_order)


def _sum(values: Sequence[Any], *, fractional: bool) -> float | int:
    if not fractional:
        return sum(int(value) for value in values)
    return float(Fraction(sum(map(billionths, _fitting(values))), 10**9))


def _fitting(values: Sequence[Any]) -> list[Any]:
    """Numbers that take part in sums."""
    return [value for value in values if math.isfinite(value) and abs(value) < 1e18]


def billionths(value: float) -> int:
    """A number in fixed point with nine decimals, halves away from zero."""
    whole = math.trunc(value)
    rest = (value - whole) * 1e9
    return whole * 10**9 + int(math.copysign(math.floor(Fraction(abs(rest)) + Fraction(1, 2)), rest))


def newest_per_key(rows: Sequence[Row], view: ViewSpec, as_of: datetime) -> dict[Key, Row]:
    """What the online store should hold of a view without aggregations, as of a materialization."""
    held = {}
    for key in _keys_of(rows, view):
        mine = [row for row in rows if tuple(row[name] for name in view.join_keys) == key]
        known = [row for row in mine if row["happened"] <= as_of and row["arrived"] <= as_of]
        if known:
            newest = newest_row(known, view.features)
            times = {"event_timestamp": newest["happened"], "known_at": newest["arrived"]}
            held[key] = {name: newest[name] for name in view.features} | times
    return held


def windows_per_key(rows: Sequence[Row], view: ViewSpec, as_of: datetime, previous: datetime | None) -> dict[Key, Row]:
    """What a materialization of a view with aggregations should write, rows of nulls included."""
    written = {}
    times = {"event_timestamp": as_of, "known_at": as_of}
    for key in _keys_of(rows, view):
        mine = [row for row in rows if tuple(row[name] for name in view.join_keys) == key]
        now, before = (
            None
            if moment is None
            else aggregates([r for r in mine if max(r["happened"], r["arrived"]) <= moment], view, moment)
            for moment in (as_of, previous)
        )
        if now is not None:
            written[key] = now | times
        elif before is not None:
            written[key] = dict.fromkeys(view.features) | times
    return written


def _keys_of(rows: Sequence[Row], view: ViewSpec) -> list[Key]:
    keys = {tuple(row[name] for name in view.join_keys) for row in rows}
    return [key for key in keys if None not in key]


# ---------------------------------------------------------------------- the checks


def check_point_in_time(engine: OfflineEngine, folder: Path, case: Case) -> None:
    """Both views of a case, joined in one call, with reasons."""
    source = case.stored(folder)
    views = [case.view(source), case.windows(source)]
    views[1] = ViewSpec(**{**vars(views[1]), "name": "window"})
    frame = case.frame
    steps: list[tuple[int, int]] = []

    joined = engine.point_in_time(
        frame,
        views,
        timestamp="asked",
        as_of=case.as_of,
        reasons=True,
        progress=lambda done, total: steps.append((done, total)),
    )

    assert joined.select(frame.column_names).equals(frame)
    assert steps[-1][0] == steps[-1][1]
    found = joined.to_pylist()
    for view in views:
        expected = [answer(row, case.rows, view, case.as_of) for row in case.asked]
        assert [row[view.reason_column] for row in found] == [reason for _, reason in expected]
        for name in view.features:
            got = [row[view.column(name)] for row in found]
            assert_same(got, [features[name] for features, _ in expected], name)


def check_without_reasons(engine: OfflineEngine, folder: Path, case: Case) -> None:
    """Without reasons an engine may leave out more rows; the features are the same."""
    source = case.stored(folder)
    for view in (case.view(source), case.windows(source)):
        joined = engine.point_in_time(case.frame, [view], timestamp="asked", as_of=case.as_of)
        assert joined.column_names == [*KEYS, "asked", *(view.column(name) for name in view.features)]
        expected = [answer(row, case.rows, view, case.as_of)[0] for row in case.asked]
        for name in view.features:
            assert_same(joined.column(view.column(name)).to_pylist(), [each[name] for each in expected], name)


def check_values(engine: OfflineEngine, folder: Path, case: Case) -> None:
    """Increments merged as an online store merges them hold, at every step, what the rules say."""
    view = case.view(case.stored(folder), cadence=None)
    online: dict[Key, Row] = {}
    previous = None
    for step in case.steps:
        for row in engine.values(view, as_of=at(step), known_after=previous).to_pylist():
            key = tuple(row.pop(name) for name in view.join_keys)
            held = online.get(key)
            if held is None or (row["event_timestamp"], row["known_at"]) >= (held["event_timestamp"], held["known_at"]):
                online[key] = row
        previous = at(step)
        assert_same_rows(online, newest_per_key(case.rows, view, at(step)))
        full = engine.values(view, as_of=at(step)).to_pylist()
        assert_same_rows(_by_key(full, view), newest_per_key(case.rows, view, at(step)))


def check_window_values(engine: OfflineEngine, folder: Path, case: Case) -> None:
    """Each materialization writes one row per key with events, and forgets those whose events have expired."""
    view = case.windows(case.stored(folder))
    assert view.cadence is not None
    slots = sorted({floored(at(step * 1.5), view.cadence) for step in case.steps})
    previous = None
    for slot in slots:
        written = engine.values(view, as_of=slot, known_after=previous)
        assert written.column_names == [*KEYS, "event_timestamp", "known_at", *view.features]
        assert_same_rows(_by_key(written.to_pylist(), view), windows_per_key(case.rows, view, slot, previous))
        previous = slot


def _by_key(rows: Sequence[Row], view: ViewSpec) -> dict[Key, Row]:
    found = {tuple(row[name] for name in view.join_keys): row for row in rows}
    assert len(found) == len(rows), "a key comes twice"
    return {key: {n: v for n, v in row.items() if n not in view.join_keys} for key, row in found.items()}


def assert_same(got: Sequence[Any], expected: Sequence[Any], name: str) -> None:
    """Equal to the last bit, but for the sign of zero; NaN equals NaN."""
    assert [*map(_comparable, got)] == [*map(_comparable, expected)], name


def assert_same_rows(got: dict[Key, Row], expected: dict[Key, Row]) -> None:
    """The same keys with the same rows."""
    assert {key: _comparable_row(row) for key, row in got.items()} == {
        key: _comparable_row(row) for key, row in expected.items()
    }


def _comparable_row(row: Row) -> Row:
    return {name: _comparable(value) for name, value in row.items()}


def _comparable(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value
