"""The rules of ``engines.offline`` one by one on DuckDB, and what is its own: sources, locks, threads, memory.

``test_duckdb_oracle.py`` has the rules all together, on drawn histories.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engines.duckdb.database import locked_database
from engines.duckdb_engine import DuckDBEngine
from engines.expressions import ExpressionError
from engines.offline import Aggregation, FrameError, SourceError, SourceTable, ViewError, ViewSpec

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


# ---------------------------------------------------------------------- reasons and progress


def test_point_in_time__reasons__say_why_each_row_got_what_it_got(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale(), sale(shop="late", arrived=at(9))]), ttl=timedelta(hours=2))
    frame = pa.concat_tables(
        [frame_of(at(1), at(3), at(-1), None), frame_of(at(1), shop="nobody"), frame_of(at(1), shop="late")]
    )
    joined = engine.point_in_time(frame, [view], timestamp="asked", as_of=at(8), reasons=True)
    assert joined.column("sale__reason").to_pylist() == [
        "found",
        "expired",
        "not known yet",
        "null key",
        "unknown entity",
        "unknown entity",
    ]


def test_point_in_time__reason_column_in_the_frame__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    frame = frame_of(at(1)).append_column("sale__reason", pa.array(["mine"]))
    view = view_of(stored(tmp_path, [sale()]))
    assert engine.point_in_time(frame, [view], timestamp="asked", as_of=END).num_columns == 6
    with pytest.raises(FrameError, match="sale__reason"):
        engine.point_in_time(frame, [view], timestamp="asked", as_of=END, reasons=True)


def test_point_in_time__in_pieces__tells_its_progress_and_keeps_the_order(tmp_path: Path) -> None:
    view = view_of(stored(tmp_path, [sale(shop=shop, amount=float(ord(shop))) for shop in "abcd"]))
    frame = pa.concat_tables([frame_of(at(1), shop=shop) for shop in "dabbc"])
    engine = DuckDBEngine(threads=1, piece_bytes=1)
    steps: list[tuple[int, int]] = []
    joined = engine.point_in_time(
        frame, [view], timestamp="asked", as_of=END, progress=lambda done, total: steps.append((done, total))
    )
    engine.close()
    assert joined.column("sale__amount").to_pylist() == [float(ord(shop)) for shop in "dabbc"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


# ---------------------------------------------------------------------- aggregations


def windows_of(source: SourceTable, *aggregations: Aggregation) -> ViewSpec:
    names = tuple(each.name for each in aggregations)
    return view_of(source, features=names, aggregations=aggregations, cadence=timedelta(hours=1))


def test_aggregation__many_small_fractions__add_up_to_the_last_bit(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = stored(tmp_path, [sale(arrived=at(index % 3), amount=0.1) for index in range(10)])
    view = windows_of(source, Aggregation("total", "sum", "amount", timedelta(hours=5)))
    joined = engine.point_in_time(frame_of(at(3)), [view], timestamp="asked", as_of=END)
    assert joined.column("sale__total").to_pylist() == [1.0]


def test_aggregation__sum_beyond_64_bits__is_refused(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = stored(tmp_path, [sale(amount=9e17) for _ in range(20)])
    view = windows_of(source, Aggregation("total", "sum", "amount", timedelta(hours=5)))
    with pytest.raises(ViewError, match="64 bits"):
        engine.point_in_time(frame_of(at(3)), [view], timestamp="asked", as_of=END)


def test_aggregation__of_a_type_it_does_not_take__names_view_and_column(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = windows_of(stored(tmp_path, [sale()]), Aggregation("total", "sum", "label", timedelta(hours=5)))
    with pytest.raises(ViewError, match="sale version 1: total: sum takes numbers, label is string"):
        engine.values(view, as_of=at(1))


def test_aggregation__window__begins_a_microsecond_after_its_start(scanning: DuckDBEngine, tmp_path: Path) -> None:
    """Scanned, where what cannot matter is not even read."""
    inside = at(1) + timedelta(microseconds=1)
    source = stored(tmp_path / "root", [sale(happened=time, arrived=time) for time in (at(1), inside, at(2))])
    view = windows_of(source, Aggregation("sales", "count", None, timedelta(hours=1)))
    joined = scanning.point_in_time(frame_of(at(2.5)), [view], timestamp="asked", as_of=END)
    assert joined.column("sale__sales").to_pylist() == [2]
    assert scanning.values(view, as_of=at(2)).column("sales").to_pylist() == [2]


def test_values__events_gone_from_the_window__are_forgotten(engine: DuckDBEngine, tmp_path: Path) -> None:
    view = windows_of(stored(tmp_path, [sale()]), Aggregation("sales", "count", None, timedelta(hours=2)))
    assert engine.values(view, as_of=at(1)).column("sales").to_pylist() == [1]
    assert engine.values(view, as_of=at(2), known_after=at(1)).column("sales").to_pylist() == [None]
    assert engine.values(view, as_of=at(3), known_after=at(2)).num_rows == 0


# ---------------------------------------------------------------------- large sources


@pytest.fixture
def scanning(tmp_path: Path) -> Iterator[DuckDBEngine]:
    """An engine that keeps nothing in memory."""
    engine = DuckDBEngine(threads=1, resident_bytes=0, roots=[str(tmp_path / "root")])
    (tmp_path / "root").mkdir()
    yield engine
    engine.close()


@pytest.mark.parametrize("place", ["root", "elsewhere"])
def test_scanned_source__below_a_root_or_not__answers_alike(scanning: DuckDBEngine, tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    view = view_of(stored(folder, [sale(), sale(happened=at(2), arrived=at(3), amount=2.0)]))
    assert amounts(scanning, frame_of(at(1), at(2), at(3)), view) == [1.0, 1.0, 2.0]
    assert scanning.values(view, as_of=at(4)).column("amount").to_pylist() == [2.0]
    assert scanning.rows(view.sources[0], as_of=at(2), since=at(0), until=at(2)).num_rows == 1
    assert scanning.freshness(view.sources[0], as_of=at(2)) == at(0)
    assert [each.type for each in scanning.profile(view.sources[0], as_of=END).columns][:3] == [
        "VARCHAR",
        "BIGINT",
        "TIMESTAMP",
    ]


def test_scanned_source__file_replaced__is_read_again(scanning: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(stored(tmp_path / "root", [sale()]))
    assert amounts(scanning, frame_of(at(1)), view) == [1.0]
    stored(tmp_path / "root", [sale(amount=7.0), sale(shop="b")])
    assert amounts(scanning, frame_of(at(1)), view) == [7.0]


def test_scanned_source__not_parquet__is_refused(scanning: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "root" / "broken.parquet").write_text("nothing of the kind")
    source = SourceTable("sales", str(tmp_path / "root" / "broken.parquet"), "happened")
    with pytest.raises(SourceError, match="cannot be read"):
        scanning.freshness(source, as_of=END)


def test_scanned_source__folder_names_like_columns__add_none(scanning: DuckDBEngine, tmp_path: Path) -> None:
    folder = tmp_path / "root" / "shop=z"
    folder.mkdir()
    stored(folder, [sale()])
    source = SourceTable("sales", str(tmp_path / "root"), "happened", "arrived")
    assert amounts(scanning, frame_of(at(1)), view_of(source)) == [1.0]


# ---------------------------------------------------------------------- locks and threads


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_parquet('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM read_text('{root}/../secret.parquet')",
        "COPY (SELECT 1) TO '{outside}'",
        "ATTACH '{outside}'",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET lock_configuration",
        "INSTALL httpfs",
    ],
)
def test_locked_database__reach_outside__is_refused(tmp_path: Path, sql: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    outside = stored(tmp_path, [sale()], name="secret.parquet").uri
    connection = locked_database([str(root)], spill=str(tmp_path / "spill"))
    with pytest.raises(duckdb.Error):
        connection.cursor().execute(sql.format(outside=outside, root=root))


def test_values__from_several_threads__while_a_source_changes__are_right(tmp_path: Path) -> None:
    """Two views, one of which is asked by prepared statements; half-way the file is replaced by an equal one."""
    rows = [sale(happened=at(h), arrived=at(h), amount=float(h)) for h in range(50)]
    source = stored(tmp_path, rows)
    nested = "WITH told AS (SELECT shop, till, happened, arrived, amount, label FROM sales) "
    views = [
        view_of(source),
        view_of(source, expression=f"{nested} SELECT shop, till, happened, arrived, amount, label FROM told"),
    ]
    engine = DuckDBEngine(threads=1)

    def newest(number: int) -> float:
        if number == 100:
            stored(tmp_path / "new", rows)
            (tmp_path / "new" / "sales.parquet").rename(tmp_path / "sales.parquet")
        hour = number % 50
        (amount,) = engine.values(views[number % 2], as_of=at(hour), known_after=at(hour - 1)).column("amount")
        return float(amount.as_py())

    (tmp_path / "new").mkdir()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(newest, range(200)))
    engine.close()
    assert answers == [float(number % 50) for number in range(200)]
