"""Aggregations over larger histories than the oracle can take, against masks over all events."""

from __future__ import annotations

import math
from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.duckdb.fixed_point import fits, fixed
from engines.duckdb.histories import Asked, History
from engines.duckdb.ordered import ordered
from engines.duckdb.windows import aggregated
from engines.offline import AGGREGATES, Aggregation
from tests.engines import oracle

EVENTS = 600
OVER = 300


@pytest.mark.parametrize("different", [5, 100, 10_000], ids=["one word", "two words", "sorted pairs"])
@pytest.mark.parametrize("lateness", [0, 3, 200])
@pytest.mark.parametrize("function", AGGREGATES)
def test_aggregated__thousand_questions__equal_masks_over_all_events(
    function: str, lateness: int, different: int
) -> None:
    random = np.random.default_rng(different + lateness)
    code, event = random.integers(0, 2, EVENTS), random.integers(0, 2000, EVENTS)
    known = event + random.integers(-5, lateness + 1, EVENTS)
    values = random.integers(0, 2 if function == "share" else different, EVENTS)
    missing = random.random(EVENTS) < 0.2
    column = pa.array(values, mask=missing).cast(pa.bool_() if function == "share" else pa.int64())
    asked = Asked(random.integers(0, 2, 1000), random.integers(-100, 2600, 1000))
    each = Aggregation("x", function, "value", timedelta(microseconds=OVER))

    answers = aggregated(History(code, event, known), {"value": pa.chunked_array([column])}, asked, [each], codes=2)

    usable = (code == asked.code[:, None]) & (event <= asked.bound[:, None]) & (known <= asked.bound[:, None])
    inside = usable & (event > asked.bound[:, None] - OVER)
    assert answers.present.tolist() == inside.any(axis=1).tolist()
    assert answers.seen.tolist() == usable.any(axis=1).tolist()
    expected = [
        simply(function, event[part & ~missing], known[part & ~missing], values[part & ~missing], any_=part.any())
        for part in inside
    ]
    assert answers.features[0].to_pylist() == expected


def simply(function: str, event: Any, known: Any, values: Any, *, any_: bool) -> float | int | None:
    """One aggregation over the events of one window."""
    if function in ("count", "distinct", "sum"):
        found = {"count": len(values), "distinct": len(set(values.tolist())), "sum": int(values.sum())}[function]
        return found if any_ else None
    if not len(values):
        return None
    if function in ("mean", "share"):
        return float(int(values.sum()) / len(values))
    if function == "last":
        newest = max(zip(event.tolist(), known.tolist(), strict=True))
        return int(values[(event == newest[0]) & (known == newest[1])].min())
    return int(values.min() if function == "min" else values.max())


def test_aggregated__more_pairs_than_one_piece__are_all_looked_at() -> None:
    """Every event is known late and asked about from its middle, so each pair is looked at by itself."""
    event = np.arange(3000)
    history = History(np.zeros(3000, np.int64), event, event + 1500)
    asked = Asked(np.zeros(2500, np.int64), np.arange(1500, 4000))
    values = np.random.default_rng(1).permutation(3000)
    least = Aggregation("x", "min", "value", timedelta(microseconds=4000))
    answers = aggregated(history, {"value": pa.chunked_array([pa.array(values)])}, asked, [least], codes=1)
    assert answers.features[0].to_pylist() == np.minimum.accumulate(values)[:2500].tolist()


@given(st.floats(min_value=-9e17, max_value=9e17))
def test_fixed__any_number__is_the_integer_of_the_rule(number: float) -> None:
    found = fixed(np.array([number]))
    assert int(found.whole[0]) * 10**9 + int(found.billionths[0]) == oracle.billionths(number)
    assert found.to_doubles()[0] == float(Fraction(oracle.billionths(number), 10**9))


def test_fits__not_finite_or_too_large__does_not() -> None:
    assert fits(np.array([1.0, -9e17, 1e18, math.inf, -math.inf, math.nan])).tolist() == [True, True] + [False] * 4


@pytest.mark.parametrize(
    "values",
    [
        [-math.inf, -1e300, -1.5, -5e-324, 0.0, 5e-324, 2.0, math.inf, math.nan],
        [-(2**63), -1, 0, 2**63 - 1],
        ["", "Z", "a", "ab", "ü", "日"],
        [False, True],
    ],
)
def test_ordered__values_in_order__have_rising_ranks_and_come_back(values: list[float] | list[str]) -> None:
    column = ordered(pa.array(values))
    ranks = column.ranks.tolist()
    assert ranks == sorted(set(ranks))
    assert repr(column.decode(column.ranks).to_pylist()) == repr(values)
