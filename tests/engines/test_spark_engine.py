"""The Spark engine against the oracle, and what is particular to it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from engines.duckdb_engine import DuckDBEngine
from engines.expressions import ExpressionError
from engines.offline import FrameError, SourceError, SourceTable, ViewError
from engines.spark_engine import SparkEngine
from tests.engines import oracle
from tests.engines.oracle import END, PLAIN, Case, at, frame_of, hours, view_of

pytestmark = [pytest.mark.spark, pytest.mark.slow]


# Few, because each takes seconds; not made smaller when one fails, because that would take an hour.
def some(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def sale(**changes: Any) -> dict[str, Any]:
    row = {"shop": "a", "till": 1, "happened": at(0), "arrived": at(0), "amount": 1.0, "items": 1, "label": "x"}
    return row | {"paid": True, "due": None} | changes


def asked(*times: datetime | None, shop: str | None = "a") -> pa.Table:
    return frame_of([{"shop": shop, "till": 1, "asked": time} for time in times])


# ---------------------------------------------------------------------- the rules


@some(15)
@given(case=oracle.CASES)
def test_point_in_time__any_history__equals_the_oracle(spark: SparkEngine, tmp_path: Path, case: Case) -> None:
    oracle.check_point_in_time(spark, tmp_path, case)


@some(8)
@given(case=oracle.CASES)
def test_point_in_time__without_asof_join__equals_the_oracle(
    spark_without_asof_join: SparkEngine, tmp_path: Path, case: Case
) -> None:
    oracle.check_point_in_time(spark_without_asof_join, tmp_path, case)


@some(6)
@given(case=oracle.CASES)
def test_values__merged_increments__equal_the_oracle(spark: SparkEngine, tmp_path: Path, case: Case) -> None:
    oracle.check_values(spark, tmp_path, case)


@some(6)
@given(case=oracle.CASES)
def test_values__windows__equal_the_oracle(spark: SparkEngine, tmp_path: Path, case: Case) -> None:
    oracle.check_window_values(spark, tmp_path, case)


# ---------------------------------------------------------------------- the edges


def test_point_in_time__nanoseconds__are_cut_to_microseconds(spark: SparkEngine, tmp_path: Path) -> None:
    table = pq.read_table(oracle.store(tmp_path, [sale()]).uri)
    fine = pa.array([at(1)], pa.timestamp("us")).cast(pa.int64()).to_numpy() * 1000 + 999
    for name in ("happened", "arrived"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(fine, pa.int64()).cast(pa.timestamp("ns", "UTC")))
    pq.write_table(table, tmp_path / "fine.parquet")
    view = view_of(SourceTable("sales", str(tmp_path / "fine.parquet"), "happened", "arrived"), features=("amount",))
    joined = spark.point_in_time(asked(at(1)), [view], timestamp="asked", as_of=END)
    assert joined.column("sale__amount").to_pylist() == [1.0]


def test_point_in_time__key_of_another_width__is_matched(spark: SparkEngine, tmp_path: Path) -> None:
    view = view_of(oracle.store(tmp_path, [sale()]), features=("amount",))
    frame = asked(at(1))
    frame = frame.set_column(1, "till", frame.column("till").cast(pa.int16()))
    assert spark.point_in_time(frame, [view], timestamp="asked", as_of=END).column("sale__amount").to_pylist() == [1.0]


def test_point_in_time__key_that_is_no_number__is_refused(spark: SparkEngine, tmp_path: Path) -> None:
    view = view_of(oracle.store(tmp_path, [sale()]), features=("amount",))
    frame = asked(at(1)).set_column(1, "till", pa.array(["one"]))
    with pytest.raises(FrameError, match="join key till"):
        spark.point_in_time(frame, [view], timestamp="asked", as_of=END)


def test_point_in_time__expression_that_fails__names_the_view(spark: SparkEngine, tmp_path: Path) -> None:
    expression = PLAIN.replace(" amount", " CAST(amount / 0 AS BIGINT) AS amount")
    view = view_of(oracle.store(tmp_path, [sale()]), expression=expression)
    with pytest.raises(ViewError, match="feature view sale version 1 cannot be evaluated on Spark"):
        spark.point_in_time(asked(at(1)), [view], timestamp="asked", as_of=END)


def test_values__expression_reads_a_file__is_refused(spark: SparkEngine, tmp_path: Path) -> None:
    view = view_of(oracle.store(tmp_path, [sale()]), expression="SELECT shop FROM read_parquet('other.parquet')")
    with pytest.raises(ExpressionError):
        spark.values(view, as_of=END)


def test_values__names_that_are_words_of_sql__are_quoted(spark: SparkEngine, tmp_path: Path) -> None:
    expression = 'SELECT shop, till, happened, arrived, amount AS "select", label AS "a`b" FROM sales'
    view = view_of(oracle.store(tmp_path, [sale()]), expression=expression, features=("select", "a`b"))
    (row,) = spark.values(view, as_of=END).to_pylist()
    assert (row["select"], row["a`b"]) == (1.0, "x")


def test_source__file_replaced__is_read_again(spark: SparkEngine, tmp_path: Path) -> None:
    source = oracle.store(tmp_path, [sale()])
    assert spark.freshness(source, as_of=END) == at(0)
    oracle.store(tmp_path, [sale(happened=at(1), arrived=at(1)), sale(shop="b")])
    assert spark.freshness(source, as_of=END) == at(1)


def test_source__folder_with_parts__reads_all_files_and_no_more_columns(spark: SparkEngine, tmp_path: Path) -> None:
    for day in ("day=1", "day=2"):
        (tmp_path / day).mkdir()
        oracle.store(tmp_path / day, [sale()])
    rows = spark.rows(SourceTable("sales", str(tmp_path), "happened", "arrived"), as_of=END)
    assert (rows.num_rows, "day" in rows.column_names) == (2, False)


def test_source__no_file__is_refused(spark: SparkEngine, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no Parquet file"):
        spark.freshness(SourceTable("sales", str(tmp_path / "gone.parquet"), "happened"), as_of=END)


def test_source__without_its_time_column__is_refused(spark: SparkEngine, tmp_path: Path) -> None:
    source = oracle.store(tmp_path, [sale()])
    with pytest.raises(SourceError, match="has no column when"):
        spark.freshness(SourceTable("sales", source.uri, "when"), as_of=END)


def test_rows_freshness_profile__same_source__equal_duckdb(spark: SparkEngine, tmp_path: Path) -> None:
    rows = [sale(), sale(happened=at(1), arrived=at(2), amount=None, label=None), sale(happened=at(3), arrived=at(9))]
    source = oracle.store(tmp_path, rows)
    duckdb = DuckDBEngine(threads=1)
    order = [("happened", "ascending")]
    window = {"as_of": at(8), "since": at(0.5), "until": at(3)}
    assert spark.rows(source, **window).sort_by(order).equals(duckdb.rows(source, **window).sort_by(order))
    assert spark.freshness(source, as_of=at(8)) == duckdb.freshness(source, as_of=at(8)) == at(1)
    assert spark.freshness(source, as_of=at(-1)) is None
    assert spark.profile(source, as_of=at(8)) == duckdb.profile(source, as_of=at(8))
    assert spark.profile(source, as_of=END, arrived_after=at(2)) == duckdb.profile(
        source, as_of=END, arrived_after=at(2)
    )
    duckdb.close()


def test_values__view_without_lookback__is_computed_whole(spark: SparkEngine, tmp_path: Path) -> None:
    view = view_of(oracle.store(tmp_path, [sale()]), lookback=None)
    assert spark.values(view, as_of=at(9), known_after=at(8)).num_rows == 1


def test_values__lookback__reads_only_what_arrived_since(spark: SparkEngine, tmp_path: Path) -> None:
    view = view_of(oracle.store(tmp_path, [sale(), sale(shop="b", happened=at(5), arrived=at(5))]), lookback=hours(1))
    assert spark.values(view, as_of=at(9), known_after=at(4)).column("shop").to_pylist() == ["b"]


def test_session__settings_that_decide_values__are_ours(spark: SparkEngine) -> None:
    conf = spark.session.conf
    assert conf.get("spark.sql.session.timeZone") == "UTC"
    assert conf.get("spark.sql.ansi.enabled") == "true"
    assert spark.session.sparkContext.uiWebUrl is None
