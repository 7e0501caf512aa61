"""Which columns a feature reads, expression by expression: none too few, and none that is not read."""

import pytest

from mlops.lineage.columns import ANY, Definition, Reads, Table, reads

FLIGHTS = Table("flights", None, ("at",))
WEATHER = Table("weather", None, ("happened",))
KEYS = {("flights", "k"), ("flights", "at")}


def of(sql: str, feature: str, *tables: Table, windows: tuple[tuple[str, str], ...] = ()) -> Reads:
    definition = Definition(sql, tables or (FLIGHTS,), (feature,), ("k", "at"), windows)
    return reads(sql, definition)[feature]


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("SELECT k, at, x AS f, y AS g FROM flights", {("flights", "x")}),
        ("SELECT k, at, X + coalesce(Y, 1) AS F FROM Flights", {("flights", "x"), ("flights", "y")}),
        ("SELECT k, at, CASE WHEN a > 1 THEN b END AS f FROM flights", {("flights", "a"), ("flights", "b")}),
        ("SELECT k, at, count(*) AS f FROM flights GROUP BY k, at", set()),
        ("WITH d AS (SELECT k, at, x AS y, z FROM flights) SELECT k, at, y AS f FROM d", {("flights", "x")}),
        ("WITH d AS (SELECT * FROM flights) SELECT k, at, x AS f FROM d", {("flights", "x")}),
        ("SELECT k, at, f FROM (SELECT k, at, x AS f FROM flights) s", {("flights", "x")}),
        ("SELECT k, at, x AS e, e + 1 AS f FROM flights", {("flights", "x"), ("flights", "e")}),
        ("SELECT k, at, sum(x) OVER (PARTITION BY p ORDER BY o) AS f FROM flights",
         {("flights", "x"), ("flights", "p"), ("flights", "o")}),
        ("SELECT k, at, (SELECT max(m) FROM flights) AS f FROM flights", {("flights", "m")}),
        ("SELECT k, at, v AS f FROM flights, unnest(generate_series(1, 2)) g(v)", {("flights", "v")}),
    ],
)  # fmt: skip
def test_reads__one_source__are_what_the_output_is_made_of(sql: str, values: set[tuple[str, str]]) -> None:
    name = "F" if " F " in sql else "f"
    found = of(sql, name)
    assert (found.values, found.is_whole) == (frozenset(values), False)


def test_reads__union__follow_each_branch_by_position() -> None:
    sql = "SELECT k, at, f FROM (SELECT k, at, x AS f FROM flights UNION ALL SELECT w, b, y FROM weather) u"
    assert of(sql, "f", FLIGHTS, WEATHER).values == {("flights", "x"), ("weather", "y")}


@pytest.mark.parametrize(
    ("clause", "column"),
    [
        ("WHERE q > 1", "q"),
        ("GROUP BY k, at, q", "q"),
        ("QUALIFY row_number() OVER (PARTITION BY k ORDER BY q) = 1", "q"),
        ("GROUP BY 1, 2 HAVING max(q) > 1", "q"),
    ],
)
def test_reads__what_decides_the_rows__counts_for_every_feature(clause: str, column: str) -> None:
    found = of(f"SELECT k, at, count(*) AS f FROM flights {clause}", "f")
    assert found.rows == {*KEYS, ("flights", column)}
    assert found.uses("flights", "Q")


def test_reads__join__tell_the_sides_apart() -> None:
    sql = "SELECT f.k, f.at, f.x AS f, w.y AS g FROM flights f JOIN weather w ON w.z = f.z"
    found = of(sql, "f", FLIGHTS, WEATHER)
    assert found.values == {("flights", "x")}
    assert found.rows == {*KEYS, ("flights", "z"), ("weather", "z"), ("weather", "happened")}
    assert not found.uses("weather", "y")


def test_reads__unqualified_name_in_a_join__goes_to_the_source_known_to_have_it() -> None:
    known = (Table("flights", frozenset({"k", "at", "x"})), Table("weather", frozenset({"k", "y"})))
    sql = "SELECT flights.k, at, y AS f FROM flights JOIN weather ON weather.k = flights.k"
    assert of(sql, "f", *known).values == {("weather", "y")}
    assert of(sql, "f", FLIGHTS, WEATHER).values == {("flights", "y"), ("weather", "y")}  # too many, never too few


def test_reads__window_feature__are_those_of_its_column() -> None:
    sql = "SELECT k, at, x AS v, y AS w FROM flights"
    assert of(sql, "mean_v", windows=(("mean_v", "v"),)).values == {("flights", "x")}
    assert of(sql, "rows", windows=(("rows", ""),)).values == frozenset()


def test_reads__output_that_is_not_there__is_everything_and_says_so() -> None:
    found = of("SELECT k, at, x AS f, y AS g FROM flights WHERE q", "unheard")
    assert found.is_whole
    assert found.values >= {("flights", "x"), ("flights", "y"), ("flights", "q")}
    assert not found.uses("flights", "never")


def test_reads__text_that_is_no_sql__may_read_any_column_and_says_so() -> None:
    found = of("not sql at all (", "f")
    assert found.is_whole
    assert found.values == {("flights", ANY)}
    assert found.uses("flights", "anything")
    assert not found.uses("weather", "anything")
