"""The DuckDB engine against a plain-Python oracle that states the rules of ``engines.offline`` one row at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.duckdb_engine import DuckDBEngine
from engines.expressions import ExpressionError
from engines.offline import FrameError, SourceError, SourceTable, ViewError, ViewSpec

START = datetime(2024, 3, 1, tzinfo=UTC)
END = START + timedelta(days=300)
SCHEMA = pa.schema(
    [
        ("shop", pa.string()),
        ("till", pa.int64()),
        ("happened", pa.timestamp("us", "UTC")),
        ("arrived", pa.timestamp("us", "UTC")),
        ("amount", pa.float64()),
        ("label", pa.string()),
    ]
)


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=1)
    yield engine
    engine.close()


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def sale(**changes: Any) -> dict[str, Any]:
    row = {"shop": "a", "till": 1, "happened": at(0), "arrived": at(0), "amount": 1.0, "label": "x"}
    return row | changes


def stored(folder: Path, rows: list[dict[str, Any]], *, name: str = "sales.parquet") -> SourceTable:
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / name)
    return SourceTable("sales", str(folder / name), "happened", "arrived")


def view_of(source: SourceTable, **changes: Any) -> ViewSpec:
    spec: dict[str, Any] = {
        "name": "sale",
        "version": 1,
        "join_keys": ("shop", "till"),
        "features": ("amount", "label"),
        "expression": "SELECT shop, till, happened, arrived, amount, label FROM sales",
        "event_timestamp": "happened",
        "known_at": "arrived",
        "ttl": None,
        "cadence": None,
        "sources": (source,),
        "lookback": timedelta(0),
    }
    return ViewSpec(**spec | changes)


def frame_of(*times: datetime | None, shop: str | None = "a", till: int = 1) -> pa.Table:
    return pa.table(
        {
            "shop": pa.array([shop] * len(times), pa.string()),
            "till": pa.array([till] * len(times)),
            "asked": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


def amounts(engine: DuckDBEngine, frame: pa.Table, view: ViewSpec, *, as_of: datetime = END) -> list[float | None]:
    joined = engine.point_in_time(frame, [view], timestamp="asked", as_of=as_of)
    answer: list[float | None] = joined.column("sale__amount").to_pylist()
    return answer


# ---------------------------------------------------------------------- the oracle


def floored(moment: datetime, cadence: timedelta | None) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return moment if cadence is None else epoch + (moment - epoch) // cadence * cadence


def by_nulls_last(row: dict[str, Any]) -> tuple[bool, float, str]:
    return (row["amount"] is None, row["amount"] or 0.0, row["label"])


def best_row(rows: list[dict[str, Any]], bound: datetime) -> dict[str, Any] | None:
    eligible = [row for row in rows if row["happened"] <= bound and row["arrived"] <= bound]
    newest = max(((row["happened"], row["arrived"]) for row in eligible), default=None)
    tied = [row for row in eligible if (row["happened"], row["arrived"]) == newest]
    return min(tied, key=by_nulls_last, default=None)


def expected(asked: dict[str, Any], rows: list[dict[str, Any]], view: ViewSpec, as_of: datetime) -> tuple[Any, Any]:
    if asked["asked"] is None:
        return None, None
    mine = [r for r in rows if (r["shop"], r["till"]) == (asked["shop"], asked["till"]) and r["shop"] is not None]
    visible = [r for r in mine if r["arrived"] <= as_of]
    row = best_row(visible, floored(asked["asked"], view.cadence))
    if row is None or (view.ttl is not None and asked["asked"] - row["happened"] > view.ttl):
        return None, None
    return row["amount"], row["label"]


# Few keys and hours, so that ties, corrections, late rows and exact boundaries are common. Every key is asked at every
# third of an hour: keys and times drawn at random nearly always miss, and then a broken join passes.
HOURS = st.integers(0, 8)
ROW = st.fixed_dictionaries(
    {
        "shop": st.sampled_from(["a", "a", "a", "b", None]),
        "till": st.sampled_from([1, 1, 2]),
        "happened": HOURS,
        "delay": st.sampled_from([0, 0, 1, 4, 4, -2, -2]),
        "amount": st.sampled_from([None, 1.0, 2.0]),
        "label": st.sampled_from(["x", "y"]),
    }
)
SALES = st.lists(ROW, min_size=6, max_size=16).map(lambda rows: [arriving(row) for row in rows])
SPANS = st.none() | st.sampled_from([1, 3, 5]).map(lambda hours: timedelta(hours=hours))
KEYS = [(shop, till) for shop in ("a", "b", None) for till in (1, 2)]
ASKED = [{"shop": s, "till": t, "asked": at(third / 3)} for s, t in KEYS for third in range(-4, 52)]
ASKED += [{"shop": "a", "till": 1, "asked": None}, *ASKED[20:40]]


def arriving(row: dict[str, Any]) -> dict[str, Any]:
    """The drawn row with its times; a negative delay is a row known before it happens, such as a timetable's."""
    kept = {name: row[name] for name in ("shop", "till", "amount", "label")}
    return kept | {"happened": at(row["happened"]), "arrived": at(row["happened"] + row["delay"])}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=SALES,
    asked=st.permutations(ASKED),
    ttl=SPANS,
    cadence=SPANS,
    as_of=st.sampled_from([at(5), at(8), END, END]),
)
def test_point_in_time__any_history__equals_the_oracle(
    engine: DuckDBEngine,
    tmp_path: Path,
    rows: list[dict[str, Any]],
    asked: list[dict[str, Any]],
    ttl: timedelta | None,
    cadence: timedelta | None,
    as_of: datetime,
) -> None:
    view = view_of(stored(tmp_path, rows), ttl=ttl, cadence=cadence)
    schema = pa.schema([("shop", pa.string()), ("till", pa.int64()), ("asked", pa.timestamp("us", "UTC"))])
    frame = pa.Table.from_pylist(asked, schema=schema)

    joined = engine.point_in_time(frame, [view], timestamp="asked", as_of=as_of)

    assert joined.select(frame.column_names).equals(frame)
    answers = zip(joined.column("sale__amount").to_pylist(), joined.column("sale__label").to_pylist(), strict=True)
    assert list(answers) == [expected(row, rows, view, as_of) for row in asked]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=SALES, steps=st.lists(st.integers(1, 14), min_size=2, max_size=5, unique=True).map(sorted))
def test_values__increments_merged_newest_wins__equal_the_training_join(
    engine: DuckDBEngine, tmp_path: Path, rows: list[dict[str, Any]], steps: list[int]
) -> None:
    """What the online store holds after any sequence of materializations is what a training row asked then gets."""
    view = view_of(stored(tmp_path, rows), lookback=timedelta(hours=3))  # rows are known at most 2 hours early
    online: dict[tuple[str, int], dict[str, Any]] = {}
    previous = None
    for hour in steps:
        for row in engine.values(view, as_of=at(hour), known_after=previous).to_pylist():
            held = online.get((row["shop"], row["till"]))
            if held is None or (row["event_timestamp"], row["known_at"]) >= (held["event_timestamp"], held["known_at"]):
                online[row["shop"], row["till"]] = row
        previous = at(hour)

    for shop, till in [("a", 1), ("a", 2), ("b", 1), ("b", 2)]:
        frame = frame_of(at(steps[-1]), shop=shop, till=till)
        served = online.get((shop, till), {"amount": None})["amount"]
        assert [served] == amounts(engine, frame, view)


# ---------------------------------------------------------------------- one rule each


def test_point_in_time__correction_of_the_same_event__newest_known_wins_even_if_null(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    view = view_of(stored(tmp_path, [sale(arrived=at(1), amount=5.0), sale(arrived=at(2), amount=None)]))
    assert amounts(engine, frame_of(at(0.5), at(1), at(2)), view) == [None, 5.0, None]


def test_point_in_time__late_row__is_used_only_once_it_had_arrived(engine: DuckDBEngine, tmp_path: Path) -> None:
    late = sale(happened=at(2), arrived=at(9), amount=2.0)
    view = view_of(stored(tmp_path, [sale(), late]))
    assert amounts(engine, frame_of(at(3), at(8.9), at(9)), view) == [1.0, 1.0, 2.0]


def test_point_in_time__row_arrived_after_as_of__is_invisible(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale(), sale(happened=at(2), arrived=at(2), amount=2.0)]))
    assert amounts(engine, frame_of(at(5)), view, as_of=at(1.9)) == [1.0]


def test_point_in_time__cadence__sees_only_what_the_last_materialization_could(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    source = stored(tmp_path, [sale(), sale(happened=at(4), arrived=at(4), amount=2.0)])
    view = view_of(source, cadence=timedelta(hours=3))
    assert amounts(engine, frame_of(at(5.9), at(6)), view) == [1.0, 2.0]


def test_point_in_time__ttl__is_measured_from_the_asked_time_not_the_floored_one(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    view = view_of(stored(tmp_path, [sale()]), cadence=timedelta(hours=3), ttl=timedelta(hours=4))
    assert amounts(engine, frame_of(at(4), at(4.1)), view) == [1.0, None]


def test_point_in_time__nanoseconds_and_zones__are_normalised(engine: DuckDBEngine, tmp_path: Path) -> None:
    zoned = pa.timestamp("ns", "America/New_York")
    table = pa.Table.from_pylist([sale()], schema=SCHEMA)
    for index, name in ((2, "happened"), (3, "arrived")):
        table = table.set_column(index, name, table.column(name).cast(zoned))
    pq.write_table(table, tmp_path / "zoned.parquet")
    view = view_of(SourceTable("sales", str(tmp_path / "zoned.parquet"), "happened", "arrived"))
    frame = frame_of(at(-0.1), at(0))
    frame = frame.set_column(2, "asked", frame.column("asked").cast(zoned))
    assert amounts(engine, frame, view) == [None, 1.0]


def test_point_in_time__source_without_arrival_column__arrives_when_it_happens(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    source = stored(tmp_path, [sale(happened=at(3))])
    view = view_of(SourceTable("sales", source.uri, "happened"), known_at="happened")
    assert amounts(engine, frame_of(at(5)), view, as_of=at(2)) == [None]


def test_point_in_time__two_views__add_their_columns_in_order(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = stored(tmp_path, [sale()])
    shop = view_of(
        source,
        name="shop",
        join_keys=("shop",),
        features=("total",),
        expression="SELECT shop, happened, arrived, sum(till) AS total FROM sales GROUP BY ALL",
    )
    joined = engine.point_in_time(frame_of(at(1)), [shop, view_of(source)], timestamp="asked", as_of=END)
    assert joined.column_names == ["shop", "till", "asked", "shop__total", "sale__amount", "sale__label"]
    assert joined.column("shop__total").type == pa.float64()


def test_point_in_time__empty_frame__keeps_its_columns(engine: DuckDBEngine, tmp_path: Path) -> None:
    assert amounts(engine, frame_of(), view_of(stored(tmp_path, [sale()]))) == []


def test_point_in_time__frame_without_a_join_key__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale()]))
    with pytest.raises(FrameError, match="needs the join key till"):
        engine.point_in_time(frame_of(at(1)).drop_columns(["till"]), [view], timestamp="asked", as_of=END)


def test_point_in_time__same_view_twice__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale()]))
    with pytest.raises(FrameError, match="written twice"):
        engine.point_in_time(frame_of(at(1)), [view, view], timestamp="asked", as_of=END)


def test_point_in_time__expression_without_a_declared_column__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale()]), features=("price",))
    with pytest.raises(ViewError, match="declares price"):
        amounts(engine, frame_of(at(1)), view)


def test_point_in_time__unknown_column_in_expression__names_the_view(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(
        stored(tmp_path, [sale()]), expression="SELECT shop, till, happened, arrived, price AS amount, label FROM sales"
    )
    with pytest.raises(ViewError, match="feature view sale version 1 cannot be evaluated"):
        amounts(engine, frame_of(at(1)), view)


def test_values__expression_reads_a_file__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale()]), expression="SELECT shop FROM read_parquet('other.parquet')")
    with pytest.raises(ExpressionError):
        engine.values(view, as_of=END)


def test_values__trailing_window_with_lookback__increment_equals_the_full_answer(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    rows = [sale(happened=at(h), arrived=at(h), amount=float(h)) for h in range(12)]
    expression = """
        SELECT shop, till, instant AS happened, instant AS arrived, sum(amount) AS amount, 'x' AS label
        FROM sales, unnest(generate_series(arrived, arrived + INTERVAL 3 HOUR, INTERVAL 1 HOUR)) AS grid(instant)
        GROUP BY ALL
    """
    view = view_of(stored(tmp_path, rows), expression=expression, lookback=timedelta(hours=4))
    full = engine.values(view, as_of=at(9))
    assert engine.values(view, as_of=at(9), known_after=at(8)).equals(full)
    assert full.column("amount").to_pylist() == [6.0 + 7 + 8 + 9]


def test_values__view_without_lookback__is_computed_whole(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale()]), lookback=None)
    assert engine.values(view, as_of=at(9), known_after=at(8)).num_rows == 1


def test_values__columns_and_types__are_those_of_the_port(engine: DuckDBEngine, tmp_path: Path) -> None:
    answer = engine.values(view_of(stored(tmp_path, [sale()])), as_of=END)
    assert answer.column_names == ["shop", "till", "event_timestamp", "known_at", "amount", "label"]
    assert answer.schema.field("known_at").type == pa.timestamp("us", "UTC")


def test_source__file_replaced__is_read_again(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale()]))
    assert amounts(engine, frame_of(at(1)), view) == [1.0]
    stored(tmp_path, [sale(amount=7.0), sale(shop="b")])
    assert amounts(engine, frame_of(at(1)), view) == [7.0]


@pytest.mark.parametrize("pattern", ["", "*.parquet", "sales-?.parquet"])
def test_source__folder_or_glob__reads_all_files(engine: DuckDBEngine, tmp_path: Path, pattern: str) -> None:
    stored(tmp_path, [sale()], name="sales-1.parquet")
    stored(tmp_path, [sale(happened=at(1), arrived=at(1), amount=2.0)], name="sales-2.parquet")
    view = view_of(SourceTable("sales", str(tmp_path / pattern), "happened", "arrived"))
    assert amounts(engine, frame_of(at(0), at(1)), view) == [1.0, 2.0]


def test_source__no_file__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no Parquet file"):
        engine.freshness(SourceTable("sales", str(tmp_path / "gone.parquet"), "happened"), as_of=END)


def test_source__without_its_time_column__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = stored(tmp_path, [sale()])
    with pytest.raises(SourceError, match="has no column when"):
        engine.freshness(SourceTable("sales", source.uri, "when"), as_of=END)


def test_source__time_column_of_another_type__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = stored(tmp_path, [sale()])
    with pytest.raises(SourceError, match="must be a timestamp"):
        engine.freshness(SourceTable("sales", source.uri, "amount"), as_of=END)


def test_values__row_that_has_not_happened_yet__is_not_served(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale(), sale(happened=at(5), arrived=at(1), amount=2.0)]))
    assert engine.values(view, as_of=at(4)).column("amount").to_pylist() == [1.0]


def test_rows__window_of_events__holds_its_start_and_only_what_arrived(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = [sale(happened=at(h), arrived=at(h), amount=float(h)) for h in range(4)]
    late = sale(happened=at(1), arrived=at(9), amount=99.0)
    found = engine.rows(stored(tmp_path, [*rows, late]), as_of=at(8), since=at(1), until=at(3))
    assert sorted(found.column("amount").to_pylist()) == [1.0, 2.0]


def test_freshness__nothing_arrived_yet__is_none(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = stored(tmp_path, [sale(happened=at(1), arrived=at(3))])
    assert engine.freshness(source, as_of=at(2)) is None
    assert engine.freshness(source, as_of=at(3)) == at(1)


def test_profile__window_of_arrivals__counts_nulls_and_ranges(engine: DuckDBEngine, tmp_path: Path) -> None:
    rows = [sale(), sale(arrived=at(2), amount=None), sale(arrived=at(3), amount=9.0), sale(arrived=at(4), amount=99.0)]
    profile = engine.profile(stored(tmp_path, rows), as_of=at(3), arrived_after=at(0))
    amount = next(column for column in profile.columns if column.name == "amount")
    assert (profile.rows, profile.newest_arrival) == (2, at(3))
    assert (amount.nulls, amount.distinct, amount.minimum, amount.maximum) == (1, 1, 9.0, 9.0)


def test_as_of__without_time_zone__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="aware"):
        engine.freshness(stored(tmp_path, [sale()]), as_of=datetime(2024, 3, 1))
