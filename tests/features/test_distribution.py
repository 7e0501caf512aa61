"""The spread of one feature's values: every type, nothing at all, and the odd value that must not hide the others."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from features.distribution import BINS, LONGEST_VALUE, distribution


def spread(values: list[Any], type_: pa.DataType) -> dict[str, Any]:
    found = distribution(pa.chunked_array([pa.array(values, type_)]))
    return json.loads(json.dumps(found, allow_nan=False))  # type: ignore[no-any-return]  # what the database keeps


def test_distribution__of_numbers__has_observed_quantiles_and_bins_that_count_everything() -> None:
    found = spread([None, *range(1, 101)], pa.float64())
    assert (found["rows"], found["distinct"], round(found["nulls"], 4)) == (101, 100, 0.0099)
    assert found["quantiles"] == {"0": 1, "5": 6, "25": 26, "50": 51, "75": 76, "95": 96, "100": 100}
    assert sum(found["bins"]["counts"]) == 100
    assert len(found["bins"]["edges"]) == BINS + 1


def test_distribution__one_absurd_value__does_not_squeeze_the_others_into_one_bar() -> None:
    found = spread([float(value % 50) for value in range(1_000)] + [1e12], pa.float64())
    assert found["quantiles"]["100"] == 1e12
    assert found["bins"]["edges"][-1] < 60
    assert sum(count > 0 for count in found["bins"]["counts"]) > 10
    assert sum(found["bins"]["counts"]) == 1_001


def test_distribution__of_small_integers__gets_a_bar_for_each() -> None:
    found = spread([0, 1, 1, 3], pa.int64())
    assert found["bins"] == {"edges": [-0.5, 0.5, 1.5, 2.5, 3.5], "counts": [1, 2, 0, 1]}


def test_distribution__of_one_value_only__is_one_bar() -> None:
    assert spread([7.0, 7.0], pa.float64())["bins"]["counts"] == [2]


def test_distribution__not_finite__counts_as_null() -> None:
    assert spread([1.0, float("inf"), float("nan"), 2.0], pa.float64())["nulls"] == 0.5


def test_distribution__of_texts__keeps_the_most_frequent_shortened() -> None:
    found = spread(["b", "a", "a", "b", "c", "x" * 200, None], pa.string())
    assert found["top"][:3] == [["a", 2], ["b", 2], ["c", 1]]
    assert len(found["top"][3][0]) == LONGEST_VALUE


def test_distribution__of_booleans__counts_both() -> None:
    assert spread([True, False, True, None], pa.bool_())["top"] == [[True, 2], [False, 1]]


def test_distribution__of_times__is_told_in_iso() -> None:
    start = datetime(2013, 1, 1, tzinfo=UTC)
    found = spread([start + timedelta(days=day) for day in range(101)], pa.timestamp("us", "UTC"))
    assert found["quantiles"]["50"] == "2013-02-20T00:00:00+00:00"
    assert sum(found["bins"]["counts"]) == 101


def test_distribution__of_nothing__says_so() -> None:
    assert spread([], pa.float64()) == {"rows": 0, "nulls": None, "distinct": 0}
    assert spread([None, None], pa.string()) == {"rows": 2, "nulls": 1.0, "distinct": 0}
