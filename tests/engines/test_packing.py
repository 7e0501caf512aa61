"""Records of the online store: what was packed comes back, one by one and as columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from engines.packing import ARROW, Layout

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "bool": st.booleans(),
    "timestamp": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
}
Rows = tuple[tuple[str, ...], list[tuple[Any, ...]]]


@st.composite
def typed_rows(draw: st.DrawFn) -> Rows:
    types = tuple(draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=20)))
    return types, draw(st.lists(st.tuples(*(st.none() | VALUES[kind] for kind in types)), max_size=6))


def packed(types: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[bytes]:
    columns = [pa.chunked_array([pa.array([row[i] for row in rows], ARROW[kind])]) for i, kind in enumerate(types)]
    return Layout(types).pack(columns)


@given(typed_rows())
def test_unpack__what_was_packed__comes_back_exactly(drawn: Rows) -> None:
    types, rows = drawn
    assert [Layout(types).unpack(record) for record in packed(types, rows)] == rows


@given(typed_rows(), st.randoms())
def test_columns__some_records_missing__are_null_and_the_others_exact(drawn: Rows, dice: Any) -> None:
    types, rows = drawn
    records = [record if dice.random() < 0.7 else None for record in packed(types, rows)]
    places = dice.sample(range(len(types)), dice.randint(1, len(types)))
    got = Layout(types).columns(records, places)
    assert [column.type for column in got] == [ARROW[types[place]] for place in places]
    expected = [
        [None if record is None else row[place] for row, record in zip(rows, records, strict=True)] for place in places
    ]
    assert [column.to_pylist() for column in got] == expected


def test_pack__a_row_of_ten_floats__takes_eight_bytes_each_and_two_for_the_nulls() -> None:
    (record,) = packed(("float64",) * 10, [(0.5,) * 10])
    assert len(record) == 82


def test_pack__the_same_values__are_the_same_bytes() -> None:
    """The format is what stands in stores: a change of it needs them filled anew."""
    types = ("float64", "string", "bool", "int64")
    (record,) = packed(types, [(1.5, "né", True, None)])
    assert record.hex() == "08" + "000000000000f83f" + "0300000000000000" + "0100000000000000" + "00" * 8 + "6ec3a9"
