"""Two texts of one feature have one form; two features have two."""

from __future__ import annotations

import pytest

from engines.expressions import ExpressionError
from engines.likeness import form_of

PLACES = {"readings": "r.parquet|at|known", "copies": "r.parquet|at|known", "other": "o.parquet|at|known"}
FIRST = "SELECT origin, at, temp * 2 + 1 AS warm FROM readings WHERE temp > 0 AND seats = 3"


def form(sql: str, name: str = "warm") -> str:
    return form_of(sql, ["origin", "at", name], PLACES)


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        (
            "select at, ORIGIN as origin, (1.0 + 2*temp) as heat, 7 as x from readings where 3 = seats and temp > 0",
            "heat",
        ),
        ("SELECT r.origin, r.at, 1 + r.temp * 2 AS warm FROM copies AS r WHERE 0 < r.temp AND r.seats = 3", "warm"),
        (
            "WITH a AS (SELECT * FROM readings) SELECT origin, at, 2 * temp + 1 AS w FROM a WHERE temp > 0 AND seats=3",
            "w",
        ),
        (
            "SELECT origin, at, 1 + temp * 2 AS w FROM (SELECT * FROM readings) AS b WHERE (temp > 0) AND (seats = 3)",
            "w",
        ),
    ],
)
def test_form__of_the_same_feature_with_other_names_and_layout__is_the_same(sql: str, name: str) -> None:
    assert form(sql, name) == form(FIRST)


@pytest.mark.parametrize(
    "sql",
    [
        FIRST.replace("temp * 2 + 1", "temp * (2 + 1)"),
        FIRST.replace("temp * 2 + 1", "temp * 2 - 1"),
        FIRST.replace("> 0", ">= 0"),
        FIRST.replace("FROM readings", "FROM other"),
        FIRST.replace("SELECT origin", "SELECT dest AS origin"),
        FIRST.replace(" AND seats = 3", ""),
    ],
)
def test_form__of_another_feature__differs(sql: str) -> None:
    assert form(sql) != form(FIRST)


def test_form__of_shared_tables_with_other_names__is_the_same() -> None:
    named = "WITH {a} AS (SELECT origin, at, temp * 2 AS {b} FROM readings) SELECT origin, at, {b} AS warm FROM {a}"
    assert form(named.format(a="x", b="y")) == form(named.format(a="doubled", b="twice"))


def test_form__of_joins_with_other_aliases__is_the_same__of_the_other_side_is_not() -> None:
    joined = "SELECT {a}.origin, {a}.at, {c}.temp AS warm FROM readings {a} JOIN other {b} ON {a}.origin = {b}.origin"
    assert form(joined.format(a="a", b="b", c="b")) == form(joined.format(a="x", b="y", c="y"))
    assert form(joined.format(a="a", b="b", c="b")) != form(joined.format(a="a", b="b", c="a"))


def test_form__of_a_column_that_is_not_there__is_refused() -> None:
    with pytest.raises(ExpressionError, match="cold"):
        form(FIRST, "cold")
