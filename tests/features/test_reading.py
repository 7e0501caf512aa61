"""How definitions read, lengths of time as people type them, and lists typed line by line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from features.reading import Definition, changes, formatted, span
from features.spans import parse_span
from features.typed import read_aggregations, read_features, write_aggregations, write_features

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("6h", 6 * HOUR),
        ("90 min", 1.5 * HOUR),
        ("1d 12h", 36 * HOUR),
        ("1 day 12 hours", 36 * HOUR),
        ("2w", 14 * 24 * HOUR),
        ("0", timedelta(0)),
        ("", None),
    ],
)
def test_span__typed__is_read(text: str, length: timedelta | None) -> None:
    assert parse_span(text) == length


@pytest.mark.parametrize("text", ["6", "h", "6 parsecs", "-6h", "6h!"])
def test_span__nonsense__is_refused_with_what_would_be_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="6h, 90 min"):
        parse_span(text)


@pytest.mark.parametrize("length", [timedelta(0), HOUR, 36 * HOUR, timedelta(minutes=90), timedelta(seconds=1.5)])
def test_span__written_and_read_again__is_the_same(length: timedelta) -> None:
    assert parse_span(span(length)) == length


def test_formatted__sql__has_a_clause_a_line_and_keeps_what_can_not_be_read() -> None:
    assert formatted("select a, b as c from t where a > 1").splitlines()[-2:] == ["WHERE", "  a > 1"]
    assert formatted(" select from where ((") == "select from where (("


def test_changes__one_line__is_shown_with_its_surroundings() -> None:
    before = Definition("SELECT\n  a,\n  b\nFROM t", (("lives", "6 hours"),), ("a: float64",))
    after = Definition("SELECT\n  a,\n  b + 1 AS b\nFROM t", (("lives", "1 day"),), ("a: float64",))
    changed = [(line.mark, line.text.strip()) for line in changes(before, after) if line.tone != "same"]
    assert changed == [("−", "lives: 6 hours"), ("+", "lives: 1 day"), ("−", "b"), ("+", "b + 1 AS b")]
    assert changes(before, before) == []


def test_features__typed__come_back_as_they_were() -> None:
    told = [{"name": "late", "description": "Share of late flights: 15 min."}, {"name": "delay", "description": ""}]
    assert read_features(write_features(told)) == told
    assert read_features("\n  late \n\n") == [{"name": "late", "description": ""}]


def test_aggregations__typed__come_back_as_they_were() -> None:
    text = "flights_6h = count(*) over 6h\nmean_delay = MEAN(dep_delay) over 1d 12h"
    told = read_aggregations(text)
    assert told == [
        {"name": "flights_6h", "function": "count", "column": None, "over": 21_600},
        {"name": "mean_delay", "function": "mean", "column": "dep_delay", "over": 129_600},
    ]
    assert read_aggregations(write_aggregations(told)) == told


@pytest.mark.parametrize(
    "line", ["late", "x = count(*)", "x = mode(a) over 6h", "x = mean() over 6h", "x = sum(a) over"]
)
def test_aggregations__that_can_not_be_read__are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"read|accepted|column"):
        read_aggregations(line)
