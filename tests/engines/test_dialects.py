"""What is refused on Spark, and why: no Spark needed. What is translated runs in ``test_spark_operations.py``."""

from __future__ import annotations

import duckdb
import pytest

from engines.dialects import DialectError, Kind, Relation, duckdb_sql, spark_sql
from engines.expressions import ExpressionError, normalised

COLUMNS = {
    "id": Kind.INTEGER,
    "k": Kind.INTEGER,
    "i": Kind.INTEGER,
    "d": Kind.DOUBLE,
    "f": Kind.FLOAT,
    "n": Kind.DECIMAL,
    "s": Kind.TEXT,
    "b": Kind.BOOLEAN,
    "t": Kind.TIME,
    "day": Kind.DATE,
}
TRIPS = {"trips": Relation("trips", COLUMNS)}


@pytest.mark.parametrize(
    ("piece", "why"),
    [
        ("CAST(s AS INT)", "different spellings"),
        ("CAST(s AS TIMESTAMP)", "different spellings"),
        ("CAST(d AS VARCHAR)", "differently as text"),
        ("CAST(t AS VARCHAR)", "differently as text"),
        ("concat(s, d)", "differently as text"),
        ("TRY_CAST(d AS DECIMAL(10, 2))", "overflows differently"),
        ("CAST(i AS TIMESTAMP)", "not defined on both"),
        ("CAST(s AS BLOB)", "not translated"),
        ("d // 2", "floor"),
        ("b + 1", "engines disagree"),
        ("s = 1", "engines disagree"),
        ("d = 'x'", "engines disagree"),
        ("CASE WHEN i THEN 1 END", "needs BOOLEAN"),
        ("round(f, 1)", "CAST it to DOUBLE"),
        ("round(d, 20)", "digits"),
        ("round(d, i)", "written out"),
        ("substring(s, -2)", "start from 1"),
        ("substring(s, 0, 2)", "start from 1"),
        ("substring(s, 1, i)", "start from 1"),
        ("date_trunc('decade', t)", "date_trunc takes"),
        ("extract(millisecond FROM t)", "extract takes"),
        ("t > '2024-01-01 00:00:00+02:00'", "without an offset"),
        ("t > 'yesterday'", "YYYY-MM-DD"),
        ("t + 1", "moved by an INTERVAL"),
        ("t * 2", "needs a number"),
        ("INTERVAL '1 day 2 hours'", "interval is a whole number"),
        ("(i, k) = (1, 2)", "no translation"),
        ("median(n) OVER ()", "CAST it to DOUBLE"),
        ("median(s) OVER ()", "CAST it to DOUBLE"),
        ("avg(t) OVER ()", "needs a number"),
        ("avg(b) OVER ()", "needs a number"),
        ("max(i, 2) OVER ()", "count is not translated"),
        ("row_number() OVER ()", "storage order"),
        ("lag(i) OVER (PARTITION BY k)", "storage order"),
        ("lag(i, 1, 0.5) OVER (ORDER BY id)", "the default is DECIMAL"),
        ("lag(i, k) OVER (ORDER BY id)", "written out"),
        ("count(DISTINCT i) OVER (PARTITION BY k)", "DISTINCT inside a window"),
        ("sum(i) OVER (ORDER BY id GROUPS 1 PRECEDING)", "ROWS or RANGE"),
        ("sum(i) OVER (ORDER BY id ROWS k PRECEDING)", "written out"),
        ("sum(i) OVER (ORDER BY t RANGE INTERVAL 1 MONTH PRECEDING)", "without months"),
        ("sum(i) OVER (ORDER BY s RANGE 1 PRECEDING)", "RANGE frame along"),
        ("rowid", "no such column"),
        ("s.x", "no such column"),
        ("count(*) OVER w", "alias is not translated"),
        ("unnest(generate_series(1, 3)) + unnest(generate_series(1, 2))", "no translation"),
        ("generate_series(1, i, k)", "step"),
        ("d IN (SELECT i FROM trips)", "CAST it"),
    ],
)
def test_spark_sql__no_equal_meaning__is_refused_by_name(piece: str, why: str) -> None:
    with pytest.raises(DialectError, match=why):
        spark_sql(f"SELECT id, {piece} AS x FROM trips", TRIPS)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT DISTINCT ON (k) k, d FROM trips", "storage order"),
        ("SELECT k, sum(i) AS d FROM trips GROUP BY k HAVING d > 2", "another name"),
        ("SELECT id, x FROM (SELECT id, s AS x FROM trips UNION ALL SELECT id, i FROM trips) AS u", "CAST one"),
        ("SELECT id, x FROM (SELECT id, i AS x FROM trips UNION BY NAME SELECT i AS x, id FROM trips) AS u", "by name"),
        ("SELECT id, sum(i) OVER w AS x FROM trips WINDOW w AS (ORDER BY id)", "windows is not translated"),
        ("SELECT id, g FROM trips, unnest(generate_series(t, t, INTERVAL 1 MONTH)) AS u(g)", "without months"),
        ("SELECT unnest(generate_series(1, 2)) AS x, unnest(generate_series(1, 2)) AS y FROM trips", "one unnest"),
        ("SELECT k, count(DISTINCT (i, k)) AS x FROM trips GROUP BY k", "DISTINCT of one value"),
        ("SELECT k, min(i ORDER BY id) AS x FROM trips GROUP BY k", "no translation"),
        ("SELECT a.id FROM trips a, trips a", "used twice"),
    ],
)
def test_spark_sql__statement_without_equal_meaning__is_refused(sql: str, why: str) -> None:
    with pytest.raises(DialectError, match=why):
        spark_sql(sql, TRIPS)


@pytest.mark.parametrize(
    "piece",
    [
        "arg_max(d, i)",
        "date_diff('day', min(t), max(t))",
        "hash(k)",
        "strftime(min(t), '%Y')",
        "approx_count_distinct(d)",
        "approx_quantile(d, 0.5)",
        "quantile_cont(d, 0.5)",
        "mode(d)",
        "kurtosis(d)",
        "corr(d, i)",
        "first(d)",
        "last(d)",
        "any_value(d)",
        "random()",
    ],
)
def test_spark_sql__trap_that_the_allow_list_keeps_out__is_refused_as_everywhere(piece: str) -> None:
    with pytest.raises(ExpressionError):
        spark_sql(f"SELECT k, {piece} AS x FROM trips GROUP BY k", TRIPS)


def test_spark_sql__kinds__are_those_of_the_columns() -> None:
    sql = "SELECT id, i / 2 AS half, i > 1 AS more, s, t, count(*) OVER () AS n, sum(i) OVER () AS total FROM trips"
    kinds = [Kind.INTEGER, Kind.DOUBLE, Kind.BOOLEAN, Kind.TEXT, Kind.TIME, Kind.INTEGER, Kind.HUGE]
    assert list(spark_sql(sql, TRIPS)[1].values()) == kinds


def test_spark_sql__quotes_and_backslashes__stay_inside_the_text() -> None:
    sql, _ = spark_sql("SELECT 'it''s \\' AS x FROM trips", TRIPS)
    assert "'it\\'s \\\\'" in sql


def test_duckdb_sql__without_arg_max__is_the_normalised_text() -> None:
    sql = "SELECT k, max(d) AS x FROM trips GROUP BY k"
    assert duckdb_sql(sql) == normalised(sql)


def test_duckdb_sql__tie_of_arg_max__goes_to_the_largest_value() -> None:
    rows = "WITH trips AS (SELECT * FROM (VALUES (1, 5, 1.0), (1, 5, 9.0), (1, 5, NULL), (1, 4, 99.0)) AS v(k, i, d)) "
    sql = "SELECT k, arg_max_null(d, i) AS x, arg_min_null(d, -i) AS y FROM trips GROUP BY k"
    assert duckdb.execute(rows + duckdb_sql(sql)).fetchall() == [(1, 9.0, 1.0)]
