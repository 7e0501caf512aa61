"""Two versions asked the same questions; two features that are one."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from features import look_alikes, offline, value_diff
from tests.features import store

pytestmark = pytest.mark.django_db

NOW = store.at(24 * 40)


def rows(keys: int = 30) -> list[dict[str, object]]:
    return [
        store.reading(day * 24, origin=f"A{key:03}", temp=float(key + day), seats=key)
        for day in range(40)
        for key in range(keys)
    ]


def test_sample__is_the_same_every_time_and_bounded() -> None:
    spec = offline.view_spec(store.applied(store.source(rows())))

    first, again = (value_diff.sample_of(offline.engine(), spec, as_of=NOW, most_keys=7) for _ in range(2))

    assert first.frame.equals(again.frame)
    assert (first.keys, first.frame.num_rows) == (7, 7 * len(value_diff.BACK))
    assert first.instants[0] == store.at(24 * 39)
    assert len(set(first.frame.column("origin").to_pylist())) == 7


def test_sample__of_a_source_without_rows__asks_nothing() -> None:
    spec = offline.view_spec(store.applied(store.source([])))
    assert value_diff.sample_of(offline.engine(), spec, as_of=NOW).frame.num_rows == 0


def test_sample__is_of_what_has_arrived_now() -> None:
    spec = offline.view_spec(store.applied(store.source(rows())))
    assert value_diff.sample_of(offline.engine(), spec, as_of=store.at(100)).instants[0] == store.at(96)


def test_difference__of_a_shorter_ttl__counts_the_cells_that_become_null() -> None:
    origin = store.source(rows())
    before = offline.view_spec(store.applied(origin))
    after_version = store.applied(origin, ttl=timedelta(hours=6))
    after, types = offline.view_spec(after_version), after_version.types
    sample = value_diff.sample_of(offline.engine(), after, as_of=NOW)

    old, new = value_diff.values_at(offline.engine(), [before, after], sample)
    found = value_diff.difference(old, new, sample, types=(types, types))

    # the readings come at midnight; of the instants asked four are within six hours of one
    late = sum(1 for instant in sample.instants if instant.hour > 6)
    assert found.share == pytest.approx(late / len(sample.instants))
    example = found.features["temp"].examples[0]
    assert (example["after"], example["before"] is not None) == (None, True)
    assert found.as_dict()["features"]["temp"]["share"] == found.features["temp"].share


def test_difference__tells_what_came_and_went_and_compares_numbers_of_two_types() -> None:
    sample = value_diff.Sample(
        pa.table({"k": pa.array(["a", "b"]), value_diff.AT: pa.array([NOW, NOW], pa.timestamp("us", "UTC"))}),
        ("k",), NOW, 2, (NOW,),
    )  # fmt: skip
    old = pa.table({"n": pa.array([1, 2]), "gone": pa.array([1, 2]), "t": pa.array(["1", None])})
    new = pa.table({"n": pa.array([1.0, 2.5]), "t": pa.array([1, None], pa.int64()), "come": pa.array([1, 2])})

    found = value_diff.difference(
        old, new, sample,
        types=({"n": "int64", "gone": "int64", "t": "string"}, {"n": "float64", "t": "int64", "come": "int64"}),
    )  # fmt: skip

    assert (found.added, found.removed) == (("come",), ("gone",))
    assert {name: each.differing for name, each in found.features.items()} == {"n": 1, "t": 1}


def chunked(values: object, type_: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, type_)])


def test_agreement__ignores_cells_where_neither_has_a_value() -> None:
    numbers = np.arange(100.0)
    left = [*numbers, None, None]
    right = [*numbers[:98], None, 7.0, None, None]

    share, cells = look_alikes.agreement(chunked(left), chunked(right)) or (None, None)

    assert (share, cells) == (0.98, 100)


def test_agreement__sees_through_the_last_digits_and_integer_types() -> None:
    numbers = np.arange(100)
    assert look_alikes.agreement(chunked(numbers), chunked(numbers * (1 + 1e-12))) == (1.0, 100)
    assert look_alikes.agreement(chunked(numbers), chunked(numbers * 1.001)) == (0.01, 100)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (np.arange(20.0), np.arange(20.0)),  # few cells
        (np.arange(100) % 2, np.arange(100) % 2),  # a flag
        (np.arange(100), [str(each) for each in range(100)]),  # of two kinds
        ([None] * 100, np.arange(100.0)[:0].tolist() + [None] * 100),
    ],
)
def test_agreement__that_would_mean_nothing__is_none(left: object, right: object) -> None:
    assert look_alikes.agreement(chunked(left), chunked(right)) is None
