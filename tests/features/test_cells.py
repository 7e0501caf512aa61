"""Cells between Arrow and the stores."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import cells


def keys(**columns: list[Any]) -> list[str | None]:
    return cells.entity_keys(pa.table(columns), list(columns))


def test_entity_keys__several_columns__are_joined_in_order() -> None:
    assert keys(carrier=["UA"], flight=[12]) == ["UA|12"]


def test_entity_keys__one_part_null__is_none() -> None:
    assert keys(carrier=["UA", None], origin=[None, "EWR"]) == [None, None]


@given(st.lists(st.tuples(st.text("a|\\b"), st.text("a|\\b")), unique=True, min_size=1))
def test_entity_keys__bars_and_backslashes_inside_values__stay_different(pairs: list[tuple[str, str]]) -> None:
    made = keys(left=[left for left, _ in pairs], right=[right for _, right in pairs])
    assert len(set(made)) == len(pairs)


@pytest.mark.parametrize("value", ["x" * 201, "nul\0inside"])
def test_entity_keys__what_the_column_can_not_hold__is_hashed(value: str) -> None:
    (key,) = keys(name=[value])
    assert key is not None
    assert key.startswith("sha256:")
    assert len(key) <= cells.LONGEST_KEY


def test_entity_keys__dictionary_columns_and_times__equal_the_plain_ones() -> None:
    moment = datetime(2013, 4, 1, tzinfo=UTC)
    dictionary = pa.table(
        {"a": pa.array(["x"]).dictionary_encode(), "b": pa.array([moment], pa.timestamp("ns", "UTC"))}
    )
    plain = pa.table({"a": ["x"], "b": pa.array([moment], pa.timestamp("us"))})
    assert cells.entity_keys(dictionary, ["a", "b"]) == cells.entity_keys(plain, ["a", "b"])


def test_conform__not_finite__is_null() -> None:
    column = pa.chunked_array([[1.5, math.nan, math.inf, -math.inf, None]])
    assert cells.conform(column, "float64").to_pylist() == [1.5, None, None, None, None]


def test_conform__text_with_a_nul__is_null() -> None:
    assert cells.conform(pa.chunked_array([["a", "b\0", None]]), "string").to_pylist() == ["a", None, None]


def test_conform__value_that_does_not_fit__is_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        cells.conform(pa.chunked_array([[1.5]]), "int64")


@given(st.text() | st.integers())
def test_quick_key__of_what_it_takes__is_the_key_of_the_table(value: str | int) -> None:
    quick = cells.quick_key(value)
    try:
        column = pa.array([value])
    except OverflowError:
        return
    assert quick in (None, cells.entity_keys(pa.table({"x": column}), ["x"])[0])


@pytest.mark.parametrize("value", ["a|b", "a\\b", "a" * 201, "a\0", True, 1.0, None])
def test_quick_key__what_needs_more_care__is_left_to_the_table(value: Any) -> None:
    assert cells.quick_key(value) is None


def test_differing__nulls_and_values__only_unequal_cells() -> None:
    left, right = pa.chunked_array([[1.0, None, 2.0, None]]), pa.chunked_array([[1.0, None, 3.0, 4.0]])
    assert cells.differing(left, right).tolist() == [False, False, True, True]


def test_table_digest__other_chunks_and_slices__is_the_same() -> None:
    table = pa.table({"a": [1.0, None, 3.0], "b": ["x", None, "z"], "c": [True, False, None]})
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 2)])
    assert cells.table_digest(pieces) == cells.table_digest(table)


OTHER_TABLES = {
    "value": {"a": [1.0, 2.0], "b": ["xy", "z"]},
    "null": {"a": [1.0, None], "b": ["xy", "z"]},
    "order of rows": {"a": [3.0, 1.0], "b": ["z", "xy"]},
    "order of columns": {"b": ["xy", "z"], "a": [1.0, 3.0]},
    "name": {"c": [1.0, 3.0], "b": ["xy", "z"]},
    "type": {"a": [1, 3], "b": ["xy", "z"]},
    "where texts end": {"a": [1.0, 3.0], "b": ["x", "yz"]},
    "one row less": {"a": [1.0], "b": ["xy"]},
}


@pytest.mark.parametrize("change", OTHER_TABLES)
def test_table_digest__any_difference__is_another(change: str) -> None:
    table = pa.table({"a": [1.0, 3.0], "b": ["xy", "z"]})
    assert cells.table_digest(pa.table(OTHER_TABLES[change])) != cells.table_digest(table)


def test_table_digest__null_against_zero_and_empty_text__differ() -> None:
    nulls = pa.table({"a": pa.array([None], pa.float64()), "b": pa.array([None], pa.string())})
    assert cells.table_digest(nulls) != cells.table_digest(pa.table({"a": [0.0], "b": [""]}))
