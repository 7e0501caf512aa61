"""Every operation of the allow-list on both engines, cell by cell: nulls, zeros of both signs, NaN, infinities, ties.

What ``engines.dialects`` refuses instead is in ``test_dialects.py``; together they are the traps of ``engines``: each
either gives the same on both, or is refused.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engines.conformance import RELATIVE
from engines.dialects import Kind, Relation, duckdb_sql, spark_sql
from engines.spark_engine import SparkEngine

pytestmark = [pytest.mark.spark, pytest.mark.slow]

NAN, INF = math.nan, math.inf
DOUBLES = [0.0, -0.0, 1.5, 2.5, -2.5, 3.5, NAN, INF, -INF, None, 1e300, 0.1, 1.005, 2.675, 1234.567, -7.5]
DOUBLES += [0.49999999999999994, 4503599627370497.0]
DIVISORS = [2.0, 0.0, 0.0, -0.0, None, NAN, 1.0, 0.0, 3.0, 0.0, 1e300, 0.3, -1.0, 2.0, 0.0, 2.0, 1.0, 1.0]
WHOLE = [0, 1, -7, 7, None, 2**53 + 1, -1, 2, 3, 10, 1250, -1250, 5, 6, 1, 2, 3, 4]
SMALL = [2, 3, 2, -2, 5, None, 1, 1, 7, 4, 3, 3, 2, 1, 1, 9, 8, 7]
DECIMALS = ["0", "1.5", "-2.5", "2.345", "-0.125", "0.001", "99.999", "3.5", "-", "1", "7.125"]
DECIMALS += ["0.1", "0.3", "2.675", "-1.25", "1250", "5.555", "1.45"]
TEXTS = ["", "a", "A", "straße", "ΑΣ", "İstanbul", " a\u00a0 ", None, "x_y", "100%", "a'b\\c", "😀z", "e\u0301"]
TEXTS += ["ŉ", "Zürich\t", "xxaxx", "ß", "ǆ"]
MOMENTS: list[datetime | None] = [datetime(2024, 3, 10, 5, 59, 1, 750000), datetime(2024, 1, 31)]
MOMENTS += [datetime(1969, 12, 31, 23, 59, 58, 750500)]
MOMENTS += [None, datetime(2024, 12, 30, 23), datetime(2000, 2, 29, 12), datetime(1900, 1, 1), datetime(2024, 3, 31, 2)]
MOMENTS += [datetime(2024, 1, 1) + timedelta(days=37 * n, seconds=7 * n) for n in range(10)]
FLOATS = [0.5, 1.5, 0.1, None, -2.5, NAN, 3.25, 16777216.0, 0.0, 1.0, 2.0, 3.0, 0.3, 0.7, 1e10, 5.0, 6.0, 7.0]
TABLE = pa.table(
    {
        "id": pa.array(range(18), pa.int64()),
        "k": pa.array([n % 3 for n in range(18)], pa.int64()),
        "d": pa.array(DOUBLES, pa.float64()),
        "e": pa.array(DIVISORS, pa.float64()),
        "i": pa.array(WHOLE, pa.int64()),
        "j": pa.array(SMALL, pa.int32()),
        "n": pa.array([None if each == "-" else Decimal(each) for each in DECIMALS], pa.decimal128(10, 3)),
        "s": pa.array(TEXTS, pa.string()),
        "b": pa.array([True, False, None] * 6, pa.bool_()),
        "t": pa.array(MOMENTS, pa.timestamp("us")),
        "f": pa.array(FLOATS, pa.float32()),
        "day": pa.array([None if at is None else at.date() for at in MOMENTS], pa.date32()),
    }
)
KINDS = dict.fromkeys("kij", Kind.INTEGER) | dict.fromkeys("de", Kind.DOUBLE)
KINDS |= {"id": Kind.INTEGER, "n": Kind.DECIMAL, "s": Kind.TEXT, "b": Kind.BOOLEAN, "t": Kind.TIME, "f": Kind.FLOAT}
KINDS |= {"day": Kind.DATE}

PIECES = """
d + 1; d - e; d * e; -d; -n; 1e3; 12345678901; n * 1.5; n + i; n + d; 9223372036854775808 + j
d / e; i / j; j / 2; n / 3; f / 3; f * d; f + 1; f + 0.1
i // j; i % j; d % e; f % 2; n % 2
d = e; d > e; d >= e; d <> e; d IS DISTINCT FROM e; d IS NOT DISTINCT FROM e; i = d; n = 0.1; f = 0.1; f > 0.1
i = 9007199254740993; 0.1 + 0.2 = 0.3; b = (i > 1); b <> true; s = 'a''b\\c'; s < 'a'; s > 'Z'; t > '2024-01-01'
t BETWEEN '2024-01-01' AND '2024-06-01 12:00:00'; i BETWEEN 1 AND j; s BETWEEN 'A' AND 'b'; t = day
day = DATE '2024-01-31'; t IN ('2024-01-31'); i IN (1, NULL); i NOT IN (1, 2); i IN (1, 2.5); d IN (1.5, 0)
s IN ('a', 'ß', NULL); i IN (SELECT j FROM ops); i NOT IN (SELECT j FROM ops WHERE j IS NOT NULL)
i NOT IN (SELECT j FROM ops); (SELECT max(j) FROM ops); (SELECT count(*) FROM ops o WHERE o.j = ops.j)
b AND NULL; b OR d > 1; NOT b; b IS TRUE; b IS NOT TRUE; b IS NULL; s IS NOT NULL
CASE WHEN b THEN i END; CASE i WHEN 1 THEN 'x' WHEN 7 THEN 'y' ELSE 'z' END; CASE WHEN b THEN i ELSE 0.5 END
CASE WHEN b THEN d ELSE i END; CASE WHEN b THEN f ELSE 0.1 END; if(b, 1, 2)
TRY_CAST(d AS BIGINT); TRY_CAST(d AS INT); CAST(n AS INT); CAST(n AS DECIMAL(10, 1)); TRY_CAST(i AS TINYINT)
CAST(CASE WHEN abs(d) < 1e18 THEN d END AS BIGINT); CAST(CASE WHEN abs(d) < 1e9 THEN d END AS DECIMAL(20, 2))
CAST(CASE WHEN abs(d) < 1e18 THEN d END AS DECIMAL(38, 9)); TRY_CAST(d AS FLOAT); TRY_CAST(f AS BIGINT)
CAST(i AS DOUBLE); CAST(b AS INT); CAST(i AS BOOLEAN); CAST(d AS BOOLEAN); CAST(i AS VARCHAR); CAST(b AS VARCHAR)
CAST(n AS VARCHAR); CAST(n AS DOUBLE); CAST(f AS DOUBLE); CAST(t AS DATE); CAST(day AS TIMESTAMP); CAST(n AS HUGEINT)
ln(d); ln(i); sqrt(d); exp(d); pow(d, e); d ** 2; abs(d); abs(n); abs(i); sign(d); sign(n); sign(i)
round(d); round(d, 2); round(d, 10); round(d, -2); round(n); round(n, 1); round(n, -1); round(i, -2); round(f)
floor(d); ceil(d); floor(n); ceil(n); floor(i); ceil(f); floor(f)
greatest(d, e); least(d, e); greatest(i, n); greatest(i, j, 3); greatest(s, 'b'); greatest(f, 0.1)
least(t, TIMESTAMP '2024-01-02'); coalesce(d, e, 0); coalesce(i, 1.5); coalesce(s, 'none'); coalesce(f, 0.1)
nullif(d, e); nullif(i, 1); nullif(n, 1.5)
lower(s); upper(s); length(s); trim(s); ltrim(s); rtrim(s); trim(s, 'x'); substring(s, 2, 2); substring(s, 2)
concat(s, 'x', NULL); concat(s, i, b); concat('${java.version}', s); s LIKE 'a%'; s LIKE '%_y'; s LIKE '%\\%'
s LIKE '100%'; s LIKE 'a''b\\c'
date_trunc('week', t); date_trunc('month', t); date_trunc('quarter', t); date_trunc('hour', t); date_trunc('year', t)
date_trunc('second', t); date_trunc('minute', t); date_trunc('millisecond', t); date_trunc('day', day)
extract(dow FROM t); extract(isodow FROM t); extract(week FROM t); extract(isoyear FROM t); extract(second FROM t)
extract(epoch FROM t); extract(doy FROM t); extract(hour FROM t); extract(minute FROM t); extract(quarter FROM t)
extract(day FROM day); extract(year FROM t); extract(month FROM t)
epoch_us(t); epoch_ms(t); epoch_us(day); make_timestamp(i); make_timestamp(epoch_us(t) + 1); epoch_us(INTERVAL 1 DAY)
epoch_us(t - TIMESTAMP '2024-01-01'); t - TIMESTAMP '2024-01-01' > INTERVAL 3 DAY; day - DATE '2024-01-01'
t + INTERVAL 1 DAY; t - INTERVAL 3 HOUR; t + INTERVAL 1 MONTH; t - INTERVAL 1 YEAR; t + INTERVAL 1 QUARTER
t + INTERVAL (i % 100) HOUR; day + INTERVAL 1 DAY; t + INTERVAL '2 weeks'; t + INTERVAL 250 MILLISECOND
INTERVAL 1 HOUR + t
"""
AGGREGATES = """
count(*); count(d); count(DISTINCT d); count(DISTINCT s); count(DISTINCT e); count_if(b); count_if(d > 1)
sum(i); sum(j); sum(n); sum(f); sum(d); sum(b); sum(DISTINCT j); avg(i); avg(j); avg(n); avg(f); avg(d)
min(d); max(d); min(s); max(s); min(t); max(b); median(i); median(j); median(d)
stddev(i); stddev_pop(j); var_pop(j); variance(j); stddev(f); stddev_samp(j); var_samp(j)
arg_max_null(s, j); arg_min_null(s, j); arg_max_null(d, e); arg_min_null(d, e); arg_max_null(i, b)
sum(i) FILTER (WHERE b); count(*) FILTER (WHERE i > 1000); count(*) FILTER (WHERE b); max(t) FILTER (WHERE b)
sum(j) FILTER (WHERE i > 100000000); arg_max_null(s, j) FILTER (WHERE b); count_if(b) FILTER (WHERE i > 0)
median(j) FILTER (WHERE b); avg(d) FILTER (WHERE d < 10); sum(CASE WHEN b THEN 1 ELSE 0 END); sum(n * n)
sum(i) / count(*); sum(j) // 2; sum(j) % 3; sum(j) * 1.5; sum(j) + 0.5; CAST(sum(j) AS BIGINT); -sum(j)
round(avg(j), 2); coalesce(sum(j), 0); floor(sum(j)); sum(j) = 3; greatest(sum(j), 5)
epoch_us(max(t)) - epoch_us(min(t))
"""
WINDOWS = """
row_number() OVER (PARTITION BY k ORDER BY id); row_number() OVER (PARTITION BY k ORDER BY d, id)
row_number() OVER (PARTITION BY k ORDER BY d DESC, id)
row_number() OVER (PARTITION BY k ORDER BY d NULLS FIRST, id DESC)
rank() OVER (ORDER BY k); dense_rank() OVER (ORDER BY s); rank() OVER (ORDER BY b DESC); rank() OVER (ORDER BY e)
lag(i) OVER (PARTITION BY k ORDER BY id); lag(i, 2, 0) OVER (ORDER BY id); lead(s, 1, 'none') OVER (ORDER BY id DESC)
sum(j) OVER (PARTITION BY k ORDER BY id); sum(j) OVER (PARTITION BY k); sum(j) OVER (PARTITION BY d > 1, b ORDER BY id)
sum(j) OVER (PARTITION BY k ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)
max(d) OVER (PARTITION BY k ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
sum(d) OVER (PARTITION BY k ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)
min(t) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
avg(j) OVER (PARTITION BY k ORDER BY id ROWS 2 PRECEDING); stddev(j) OVER (PARTITION BY k ORDER BY id ROWS 3 PRECEDING)
count(*) OVER (ORDER BY t RANGE BETWEEN INTERVAL 30 DAY PRECEDING AND CURRENT ROW)
count(*) OVER (ORDER BY t DESC RANGE BETWEEN INTERVAL 30 DAY PRECEDING AND CURRENT ROW)
sum(j) OVER (ORDER BY day RANGE BETWEEN INTERVAL 100 DAY PRECEDING AND INTERVAL 1 DAY PRECEDING)
sum(j) OVER (ORDER BY i RANGE BETWEEN 3 PRECEDING AND 1 FOLLOWING)
sum(j) OVER (ORDER BY j RANGE BETWEEN 3 PRECEDING AND CURRENT ROW)
count(*) OVER (ORDER BY d RANGE BETWEEN 2 PRECEDING AND CURRENT ROW)
count(*) OVER (ORDER BY j RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
count(*) FILTER (WHERE b) OVER (PARTITION BY k ORDER BY id); count_if(b) OVER (PARTITION BY k ORDER BY id)
arg_max_null(s, j) OVER (PARTITION BY k); median(j) OVER (PARTITION BY k)
"""
STATEMENTS = """
SELECT d, count(*) AS n FROM ops GROUP BY d
SELECT DISTINCT d AS d FROM ops
SELECT k + 1 AS k, count(*) AS n FROM ops GROUP BY k
SELECT k % 2 AS h, count(*) AS n FROM ops GROUP BY h
SELECT k % 2 AS h, count(*) AS n FROM ops GROUP BY ALL
SELECT k % 2 AS h, count(*) AS n FROM ops GROUP BY 1
SELECT k, b, count(*) AS n FROM ops GROUP BY k, b
SELECT lower(s) AS s, count(*) AS n FROM ops GROUP BY ALL
SELECT k, sum(j) AS total FROM ops GROUP BY k HAVING total > 20
SELECT count(*) AS n, sum(j) AS s FROM ops
SELECT k, rank() OVER (ORDER BY sum(j)) AS x FROM ops GROUP BY k
SELECT id, i * 2 AS w, w + 1 AS v FROM ops WHERE w > 2
SELECT id, d FROM ops QUALIFY row_number() OVER (PARTITION BY k ORDER BY id DESC) = 1
SELECT id, row_number() OVER (PARTITION BY k ORDER BY id DESC) AS r FROM ops QUALIFY r <= 2
SELECT a.id, b.s FROM ops a JOIN ops b ON a.i = b.j
SELECT a.id, b.s FROM ops a LEFT JOIN ops b ON a.i = b.j AND b.b
SELECT a.id AS x, b.id AS y FROM ops a RIGHT JOIN ops b ON a.i = b.j
SELECT a.id AS x, b.id AS y FROM ops a FULL JOIN ops b ON a.i = b.j
SELECT id, a.d, b.e FROM ops a JOIN ops b USING (id)
SELECT id, x FROM (SELECT id, i AS x FROM ops WHERE i > 2) p FULL JOIN (SELECT id, j FROM ops WHERE j > 2) q USING (id)
SELECT a.id FROM ops a SEMI JOIN ops b ON a.i = b.j
SELECT a.id FROM ops a ANTI JOIN ops b ON a.i = b.j
SELECT a.id AS x, b.id AS y FROM ops a, ops b WHERE a.id = b.id + 1
SELECT a.id AS x, b.id AS y FROM ops a JOIN ops b ON a.d = b.e
SELECT a.id AS x, b.id AS y FROM ops a JOIN ops b ON a.t > b.t AND a.k = b.k
SELECT id, x FROM (SELECT id, i AS x FROM ops UNION ALL SELECT id, 1.5 FROM ops) AS u
SELECT id, x FROM (SELECT id, i AS x FROM ops UNION SELECT id, j FROM ops) AS u
SELECT id, x FROM (SELECT id, d AS x FROM ops UNION SELECT id, e FROM ops) AS u
SELECT id, g FROM ops, unnest(generate_series(1, j)) AS grid(g)
SELECT id, g FROM ops, unnest(generate_series(j, 1, -2)) AS grid(g)
SELECT id, g FROM ops LEFT JOIN unnest(generate_series(1, j)) AS grid(g) ON true
SELECT id, unnest(generate_series(0, i % 5)) AS g FROM ops
SELECT id, g FROM ops, unnest(generate_series(t, t + INTERVAL 1 DAY, INTERVAL 6 HOUR)) AS grid(g)
SELECT id, g FROM ops, unnest(generate_series(t, TIMESTAMP '2024-02-01', INTERVAL 10 DAY)) AS grid(g) WHERE id > 6
SELECT g FROM generate_series(1, 5) AS grid(g)
SELECT id, g + 1 AS h FROM ops, generate_series(1, 2) AS grid(g)
SELECT ops.id, g, o.s FROM ops, unnest(generate_series(1, j)) AS grid(g), ops o WHERE o.id = g
WITH a AS (SELECT k, sum(j) AS n FROM ops GROUP BY k), b AS (SELECT k, n + 1 AS m FROM a) SELECT n, m FROM a, b
WITH a(x, y) AS (SELECT k, j FROM ops) SELECT x, sum(y) AS z FROM a GROUP BY x
SELECT p, q FROM (SELECT k, j FROM ops) AS z(p, q)
SELECT id, d FROM (SELECT * EXCLUDE (e) FROM ops) AS z
SELECT id, dd FROM (SELECT *, d * 2 AS dd FROM ops) AS z
SELECT a.id, m FROM ops a JOIN (SELECT k, max(j) AS m FROM ops GROUP BY k) AS g ON a.k = g.k
SELECT id, (SELECT sum(o.j) FROM ops o WHERE o.k = ops.k) AS x FROM ops
SELECT "ID", D AS "Weird name" FROM ops
SELECT id, i FROM ops ORDER BY i
SELECT 1 AS one, 'x' AS two, NULL AS three FROM ops
"""


def pieces(text: str) -> list[str]:
    return [piece.strip() for line in text.strip().splitlines() for piece in line.split(";")]


class Both:
    """The same table on both engines."""

    def __init__(self, spark: SparkEngine, path: Path) -> None:
        self.session = spark.session
        self.session.read.parquet(str(path)).createOrReplaceTempView("ops")
        self.duckdb = duckdb.connect()
        self.duckdb.execute(f"CREATE TABLE ops AS SELECT * FROM '{path}'")
        self._answers: dict[str, dict[str, tuple[list[Any], list[Any]]]] = {}

    def rows(self, sql: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """The answers of DuckDB and of Spark, sorted."""
        translated, _ = spark_sql(sql, {"ops": Relation("ops", KINDS)})
        found = self.duckdb.execute(duckdb_sql(sql)).fetchall()
        other = [tuple(row) for row in self.session.sql(translated).collect()]
        return sorted(found, key=_order), sorted(other, key=_order)

    def column(self, piece: str, among: str, key: str, group: str) -> tuple[list[Any], list[Any]]:
        """One of many columns that are asked for in one go."""
        if among not in self._answers:
            listed = pieces(among)
            columns = ", ".join(f"{each} AS x{number}" for number, each in enumerate(listed))
            one, other = self.rows(f"SELECT {key}, {columns} FROM ops {group}")
            self._answers[among] = {
                each: ([row[number] for row in one], [row[number] for row in other])
                for number, each in enumerate(listed, start=1)
            }
        return self._answers[among][piece]


@pytest.fixture(scope="module")
def both(spark: SparkEngine, tmp_path_factory: pytest.TempPathFactory) -> Both:
    path = tmp_path_factory.mktemp("ops") / "ops.parquet"
    pq.write_table(TABLE, path)
    return Both(spark, path)


def _order(row: tuple[Any, ...]) -> list[tuple[bool, str]]:
    return [(value is None, _sortable(value)) for value in row]


def _sortable(value: Any) -> str:
    value = _plain(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _plain(value: Any) -> Any:
    """Whole numbers of all kinds as int, other decimals as doubles, which is how they are stored."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def same(one: Any, other: Any) -> bool:
    """The rule of ``engines.conformance``; here a whole number may also stand as a decimal or a double."""
    one, other = _plain(one), _plain(other)
    if one is None or other is None:
        return one is other
    if isinstance(one, float) or isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        near = math.isfinite(one) and math.isfinite(other) and abs(one - other) <= RELATIVE * max(abs(one), abs(other))
        return bool(one == other) or near
    return type(one) is type(other) and bool(one == other)


def assert_same(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other)
    assert [pair for pair in zip(one, other, strict=True) if not same(*pair)] == []


@pytest.mark.parametrize("piece", pieces(PIECES))
def test_operation__awkward_values__same_on_both(both: Both, piece: str) -> None:
    assert_same(*both.column(piece, PIECES, "id", ""))


@pytest.mark.parametrize("piece", pieces(AGGREGATES))
def test_aggregate__awkward_values__same_on_both(both: Both, piece: str) -> None:
    assert_same(*both.column(piece, AGGREGATES, "k", "GROUP BY k"))


@pytest.mark.parametrize("piece", pieces(WINDOWS))
def test_window__awkward_values__same_on_both(both: Both, piece: str) -> None:
    assert_same(*both.column(piece, WINDOWS, "id", ""))


@pytest.mark.parametrize("sql", STATEMENTS.strip().splitlines())
def test_statement__awkward_values__same_on_both(both: Both, sql: str) -> None:
    one, other = both.rows(sql)
    assert len(one) == len(other)
    assert_same([value for row in one for value in row], [value for row in other for value in row])


@pytest.mark.parametrize(
    "piece",
    [
        "CAST(d AS BIGINT)",
        "CAST(f AS BIGINT)",
        "CAST(d AS FLOAT)",
        "CAST(d AS DECIMAL(20, 2))",
        "i + 9223372036854775807",
    ]
    + ["i // 0", "i % 0"],
)
def test_operation__that_fails__fails_on_both(both: Both, piece: str) -> None:
    sql = f"SELECT id, {piece} AS x FROM ops"
    with pytest.raises(duckdb.Error):
        both.duckdb.execute(duckdb_sql(sql)).fetchall()
    translated, _ = spark_sql(sql, {"ops": Relation("ops", KINDS)})
    errors = pytest.importorskip("pyspark.errors")
    with pytest.raises(errors.PySparkException):
        both.session.sql(translated).collect()


@pytest.mark.parametrize("function", ["lower", "upper", "trim"])
def test_text__every_letter__same_on_both(both: Both, function: str) -> None:
    letters = pa.table({"s": [chr(code) for code in range(1, 0x20000) if not 0xD800 <= code < 0xE000]})
    both.duckdb.register("letters", letters)
    both.session.createDataFrame(letters).createOrReplaceTempView("letters")
    sql = f"SELECT s, {function}(s) AS x FROM letters"
    translated, _ = spark_sql(sql, {"letters": Relation("letters", {"s": Kind.TEXT})})
    other = dict(map(tuple, both.session.sql(translated).collect()))
    assert dict(both.duckdb.execute(sql).fetchall()) == other


def test_arg_max__ties__same_whatever_the_storage_order(both: Both) -> None:
    sql = "SELECT k, arg_max_null(id, b) AS x, arg_min_null(s, b) AS y FROM ops GROUP BY k"
    one, other = both.rows(sql)
    assert one == other


def test_moment__written_in_utc__is_read_so(both: Both) -> None:
    found = both.rows("SELECT count(*) AS n FROM ops WHERE t >= '2024-01-31'")
    count = sum(at is not None and at >= datetime(2024, 1, 31) for at in MOMENTS)
    assert found == ([(count,)], [(count,)])
