from __future__ import annotations

import pytest

from engines.expressions import ExpressionError, check_expression, normalised


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT a, b + 1 AS next FROM trips", ("a", "next")),
        ("SELECT a, epoch_us(b) // 2 AS half FROM Trips WHERE a IS NOT NULL", ("a", "half")),
        ("WITH t AS (SELECT a FROM trips) SELECT t.a, count(*) AS n FROM t GROUP BY ALL", ("a", "n")),
        ("SELECT a, g FROM trips, unnest(generate_series(1, a)) AS grid(g)", ("a", "g")),
        ("SELECT a, row_number() OVER (PARTITION BY b ORDER BY c) AS n FROM trips QUALIFY n = 1", ("a", "n")),
        ("SELECT t.a, h.b FROM trips t LEFT JOIN holidays h ON t.day = h.day", ("a", "b")),
        ("SELECT CASE WHEN a > 1 THEN a END AS a, b::DOUBLE AS b FROM trips", ("a", "b")),
        ("SELECT epoch(at) AS seconds, origin || '-' || dest AS route FROM trips", ("seconds", "route")),
    ],
)
def test_check__one_select_over_sources__gives_its_columns(sql: str, columns: tuple[str, ...]) -> None:
    assert check_expression(sql, ["trips", "holidays"]) == columns


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("DROP TABLE trips", "not DROP"),
        ("SELECT a FROM trips; DROP TABLE trips", "2 statements"),
        ("COPY trips TO 'stolen.csv'", "not COPY"),
        ("ATTACH 'other.db'", "not ATTACH"),
        ("PRAGMA version", "not PRAGMA"),
        ("INSERT INTO trips VALUES (1)", "not INSERT"),
        ("SELECT a FROM trips UNION SELECT a FROM trips", "not UNION"),
        ("SELECT a FROM", "cannot be read as SQL"),
        ("", "0 statements"),
        ("SELECT a FROM secrets", "secrets"),
        ("SELECT a FROM 'secrets.parquet'", "secrets.parquet"),
        ("SELECT a FROM read_parquet('secrets.parquet')", "READ_PARQUET"),
        ("SELECT a FROM query_table('secrets')", "QUERY_TABLE"),
        ("SELECT a FROM sources.s1", "sources.s1"),
        ("SELECT a FROM trips WHERE a = (SELECT max(b) FROM secrets)", "secrets"),
        ("WITH trips AS (SELECT 1 AS a) SELECT a FROM trips", "belongs to a data source"),
        ("WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a FROM t) SELECT a FROM t", "RECURSIVE"),
        ("SELECT a FROM (WITH t AS (SELECT a FROM trips) SELECT a FROM t)", "at the top"),
        ("SELECT * FROM trips", "name each output column"),
        ("SELECT trips.* FROM trips", "name each output column"),
        ("SELECT a, a FROM trips", "repeated: a"),
        ("SELECT a + 1 FROM trips", "name each output column"),
        ("SELECT a FROM trips LIMIT 1", "storage order"),
        ("SELECT a FROM trips TABLESAMPLE 5", "TABLESAMPLE"),
        ("SELECT now() AS a FROM trips", "when it is computed"),
        ("SELECT current_date AS a FROM trips", "when it is computed"),
        ("SELECT random() AS a FROM trips", "RANDOM"),
        ("SELECT arg_max(a, b) AS a FROM trips", "arg_max_null"),
        ("SELECT date_diff('day', a, b) AS a FROM trips", "epoch_us"),
        ("SELECT first(a) AS a FROM trips", "FIRST"),
        ("SELECT getenv('HOME') AS a FROM trips", "getenv"),
        ("SELECT current_setting('threads') AS a FROM trips", "current_setting"),
        ("SELECT a FROM trips ASOF JOIN trips u ON trips.a >= u.a", "ASOF"),
        ("SELECT $1 AS a FROM trips", "\\$1"),
    ],
)
def test_check__anything_else__is_refused_by_name(sql: str, named: str) -> None:
    with pytest.raises(ExpressionError, match=named):
        check_expression(sql, ["trips"])


def test_normalised__layout_and_comments__do_not_matter() -> None:
    assert normalised("select a -- a comment\n  from trips") == normalised("SELECT a FROM trips")


def test_normalised__another_operation__differs() -> None:
    assert normalised("SELECT a + 1 AS a FROM trips") != normalised("SELECT a - 1 AS a FROM trips")


def test_normalised__case_of_names__is_kept() -> None:
    assert check_expression(normalised("SELECT Late FROM trips"), ["trips"]) == ("Late",)
