"""Schemas derived from views, and tables held against them."""

import pyarrow as pa
import pytest

from features.schemas import Column, declared_types, defects, kind
from tests.features.store import published, service, source

TABLE = pa.table(
    {
        "id": ["1", "2", "2", "2"],
        "wind": [1.0, None, float("nan"), 99.0],
        "carrier": ["UA", "ZZ", None, "UA"],
        "seats": pa.array([1, None, 2, 3]),
        "wet": [True, None, False, False],
    }
)


@pytest.mark.django_db
def test_declared_types__are_those_of_the_views() -> None:
    published(source())
    pinned = service("weather.tag", "weather.seats", "weather.wet", request_features=["distance"])

    assert declared_types(pinned) == {
        "weather__tag": pa.string(),
        "weather__seats": pa.int64(),
        "weather__wet": pa.bool_(),
    }


def test_defects__all_kinds_at_once__are_counted_over_all_rows() -> None:
    found = defects(
        TABLE,
        {
            "wind": Column(pa.float64(), 0, 60),
            "carrier": Column(pa.string(), levels=("UA",)),
            "seats": Column(pa.int64(), low=2),
            "wet": Column(pa.string()),
            "gone": Column(pa.float64()),
        },
        key="id",
    )

    assert found.missing == ("gone",)
    assert found.types == {"wet": ("bool", "string")}
    assert {name: (each.rows, each.examples) for name, each in found.outside.items()} == {
        "wind": (1, ("99.0",)),
        "seats": (1, ("1",)),
    }
    assert {name: (each.rows, each.examples) for name, each in found.unseen.items()} == {"carrier": (1, ("ZZ",))}
    assert found.duplicates == 2


def test_defects__nothing_wrong__finds_nothing() -> None:
    found = defects(TABLE, {"wind": Column(pa.float64(), 0, 99), "carrier": Column(levels=("UA", "ZZ"))})

    assert (found.missing, found.types, found.outside, found.unseen, found.duplicates) == ((), {}, {}, {}, 0)


def test_defects__more_than_are_shown__are_all_counted() -> None:
    table = pa.table({"wind": pa.array(range(100_000), pa.float64()), "carrier": [str(n) for n in range(100_000)]})
    found = defects(table, {"wind": Column(pa.float64(), high=9), "carrier": Column(pa.string(), levels=("1",))})

    assert found.outside["wind"].rows == 99_990
    assert found.unseen["carrier"].rows == 99_999
    assert len(found.unseen["carrier"].examples) == 3


def test_defects__integers_and_doubles__are_one_kind() -> None:
    whole = pa.table({"wind": pa.array([1, 2, None])})

    assert defects(whole, {"wind": Column(pa.float64(), high=1)}).outside["wind"].rows == 1
    assert defects(TABLE.select(["seats"]), {"seats": Column(pa.float64())}).types == {}


def test_defects__fractions_where_integers_are_declared__are_of_another_type() -> None:
    assert defects(pa.table({"seats": [1.5]}), {"seats": Column(pa.int64(), low=9)}).types == {
        "seats": ("double", "int64")
    }


def test_defects__rules_that_mean_nothing_for_the_values__are_left_out() -> None:
    found = defects(TABLE, {"carrier": Column(pa.string(), low=1.0), "wet": Column(pa.bool_(), levels=(1, True))})

    assert found.outside == {}
    assert found.unseen["wet"].examples == ("False",)


def test_defects__no_rows__finds_only_what_a_schema_shows() -> None:
    found = defects(TABLE.slice(0, 0), {"wind": Column(pa.float64(), 0, 60), "gone": Column()}, key="id")

    assert (found.missing, found.outside, found.duplicates) == (("gone",), {}, 0)


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (pa.int8(), "number"),
        (pa.float32(), "number"),
        (pa.large_string(), "text"),
        (pa.bool_(), "flag"),
        (pa.date32(), "time"),
        (pa.binary(), "binary"),
    ],
)
def test_kind__is_what_a_person_calls_it(type_: pa.DataType, name: str) -> None:
    assert kind(type_) == name
