"""The comparison of two engines: with a fake that answers wrongly, and on Spark with the demo's views."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from engines import conformance
from engines.conformance import ASKED, Conformance, compare, narrowed, reordered, sample_of
from engines.dialects import DialectError
from engines.duckdb_engine import DuckDBEngine
from engines.offline import ViewSpec
from engines.spark_engine import SparkEngine
from mlops.demo.flights import data, views
from tests.engines import oracle
from tests.engines.oracle import END, PLAIN, at, hours, view_of

AUTUMN = datetime(2013, 9, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def duckdb() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=1)
    yield engine
    engine.close()


class Wrong:
    """An engine whose doubles are off by ``factor``, and that has lost the entities of ``lost``."""

    name, version = "wrong", "1"

    def __init__(self, engine: DuckDBEngine, *, factor: float = 1.0, lost: str = "") -> None:
        self._engine, self._factor, self._lost = engine, factor, lost

    def point_in_time(self, *arguments: Any, **options: Any) -> pa.Table:
        return self._off(self._engine.point_in_time(*arguments, **options))

    def values(self, *arguments: Any, **options: Any) -> pa.Table:
        values = self._engine.values(*arguments, **options)
        return self._off(values.filter(pc.not_equal(values.column("shop"), self._lost)))

    def _off(self, table: pa.Table) -> pa.Table:
        for place, field in enumerate(table.schema):
            if pa.types.is_floating(field.type):
                table = table.set_column(place, field.name, pc.multiply(table.column(place), self._factor))
        return table


def sale(**changes: Any) -> dict[str, Any]:
    row = {"shop": "a", "till": 1, "happened": at(0), "arrived": at(0), "amount": 1.5, "items": 1, "label": "x"}
    return row | {"paid": True, "due": None} | changes


def sales(folder: Path) -> ViewSpec:
    rows = [sale(), sale(shop="b", amount=None), sale(shop="c", happened=at(1), arrived=at(4), amount=float("nan"))]
    return view_of(oracle.store(folder, rows), ttl=hours(3))


def compared(
    view: ViewSpec, one: Any, other: Any, *, as_of: datetime = END, second: ViewSpec | None = None
) -> Conformance:
    sample = sample_of(view, one.values(view, as_of=as_of), as_of=as_of)
    return compare(view, [one, other], sample, as_of=as_of, second=second)


# ---------------------------------------------------------------------- the comparison


def test_compare__an_engine_with_itself__agrees(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    found = compared(sales(tmp_path), duckdb, duckdb)
    assert (found.verdict, found.differing, found.examples) == ("passed", 0, ())
    assert found.cells > 100


def test_compare__doubles_off_by_rounding__agree(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    assert compared(sales(tmp_path), duckdb, Wrong(duckdb, factor=1 + 1e-12)).verdict == "passed"


def test_compare__doubles_off_by_more__differ_with_examples(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    found = compared(sales(tmp_path), duckdb, Wrong(duckdb, factor=1 + 1e-6))
    assert found.verdict == "failed"
    assert 0 < found.differing < found.cells
    assert (found.examples[0].column, found.examples[0].at["shop"]) == ("sale__amount", "a")
    assert "duckdb" in found.sentence()
    assert "wrong 1 differ in" in found.sentence()


def test_compare__entity_that_one_lacks__differs(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    found = compared(sales(tmp_path), duckdb, Wrong(duckdb, lost="b"))
    assert {each.question for each in found.examples} == {"values"}
    assert {each.at["shop"] for each in found.examples} == {"b"}


def test_compare__nothing_in_the_sample__is_inconclusive(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    found = compared(sales(tmp_path), duckdb, duckdb, as_of=at(-9))
    assert (found.verdict, found.cells) == ("inconclusive", 0)
    assert "nothing to compare" in found.sentence()


def test_compare__another_type__differs(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    class Whole(Wrong):
        def _off(self, table: pa.Table) -> pa.Table:
            names = [name for name in table.column_names if name.endswith("items")]
            for name in names:
                place = table.column_names.index(name)
                table = table.set_column(place, name, table.column(name).cast(pa.float64()))
            return table

    found = compared(sales(tmp_path), duckdb, Whole(duckdb))
    assert {each.column for each in found.examples} == {"sale__items"}


def test_sample__of_a_view__asks_where_answers_change(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    view = sales(tmp_path)
    sample = sample_of(view, duckdb.values(view, as_of=END), as_of=END, entities=2)
    asked = set(sample.column(ASKED).to_pylist())
    assert {at(0), at(0) - timedelta(microseconds=1), at(3), at(3) + timedelta(microseconds=1), END, None} <= asked
    assert set(sample.column("shop").to_pylist()) == {"a", "c", None}


def test_narrowed__large_source__keeps_about_the_newest_rows(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    view = view_of(oracle.store(tmp_path, [sale(happened=at(h), arrived=at(h)) for h in range(101)]))
    (tmp_path / "cut").mkdir()
    smaller = narrowed(view, duckdb, tmp_path / "cut", as_of=END, rows=10)
    assert pq.read_table(smaller.sources[0].uri).num_rows == 10
    assert duckdb.values(smaller, as_of=END).equals(duckdb.values(view, as_of=END))


def test_compare__row_number_over_ties__differs_once_rows_are_reordered(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    expression = f"{PLAIN} QUALIFY row_number() OVER (PARTITION BY shop ORDER BY happened) = 1"
    view = view_of(oracle.store(tmp_path, [sale(items=number) for number in range(9)]), expression=expression)
    assert compared(view, duckdb, duckdb).verdict == "passed"
    assert compared(view, duckdb, duckdb, second=reordered(view, tmp_path)).verdict == "failed"


def test_compare__arg_max_over_ties__agrees_once_rows_are_reordered(duckdb: DuckDBEngine, tmp_path: Path) -> None:
    expression = """
        SELECT shop, till, max(happened) AS happened, max(arrived) AS arrived, arg_max_null(items, happened) AS items
        FROM sales GROUP BY shop, till
    """
    rows = [sale(items=number) for number in (3, None, 1, 9, 4)]
    view = view_of(oracle.store(tmp_path, rows), expression=expression, features=("items",))
    assert compared(view, duckdb, duckdb, second=reordered(view, tmp_path)).verdict == "passed"
    assert duckdb.values(view, as_of=END).column("items").to_pylist() == [9]


# ---------------------------------------------------------------------- DuckDB and Spark


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("flights")
    data.write_sources(folder)
    return str(folder)


@pytest.mark.spark
@pytest.mark.slow
def test_compare__flights_views_on_spark__agree(
    duckdb: DuckDBEngine, spark: SparkEngine, flights: str, tmp_path: Path
) -> None:
    cells = 0
    for view in (*views.feature_views(flights), views.carrier_day_leak(data.source("arrivals", flights))):
        folder = tmp_path / view.name
        folder.mkdir()
        cut = narrowed(view, duckdb, folder, as_of=AUTUMN, rows=10_000)
        sample = sample_of(cut, duckdb.values(cut, as_of=AUTUMN), as_of=AUTUMN, entities=50)
        found = compare(cut, [duckdb, spark], sample, as_of=AUTUMN, second=reordered(cut, folder))
        assert found.verdict == "passed", found.sentence()
        cells += found.cells
    assert cells > 10_000


@pytest.mark.spark
@pytest.mark.slow
def test_compare__answer_that_depends_on_storage_order__is_found(
    duckdb: DuckDBEngine, spark: SparkEngine, tmp_path: Path
) -> None:
    """Nothing in the text of a ``row_number()`` over ties tells that it is one."""
    expression = """
        SELECT shop, till, happened, arrived, items, amount, label, paid, due FROM sales
        QUALIFY row_number() OVER (PARTITION BY shop ORDER BY happened) = 1
    """
    rows = [sale(shop=shop, items=n) for shop in "abcdefgh" for n in range(40)]
    view = view_of(oracle.store(tmp_path, rows), expression=expression)
    found = compared(view, duckdb, spark, second=reordered(view, tmp_path))
    assert found.verdict == "failed"
    assert found.examples[0].column == "sale__items"


@pytest.mark.spark
@pytest.mark.slow
def test_compare__operation_without_equal_meaning__is_refused_by_name(
    duckdb: DuckDBEngine, spark: SparkEngine, tmp_path: Path
) -> None:
    expression = "SELECT shop, till, happened, arrived, CAST(amount AS VARCHAR) AS label FROM sales"
    view = view_of(oracle.store(tmp_path, [sale()]), expression=expression, features=("label",))
    with pytest.raises(DialectError, match="differently as text"):
        compared(view, duckdb, spark)


def test_tolerance__is_said() -> None:
    assert conformance.RELATIVE == 1e-9
