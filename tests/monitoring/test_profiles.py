"""From Arrow columns to effects: every type, and the limits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from monitoring import profiles
from monitoring.judge import FeatureMeasured
from monitoring.profiles import FeatureReference

WEEK = timedelta(days=7)


def build(values: Any, **options: Any) -> FeatureReference | None:
    table = pa.table({"x": values, **options.pop("more", {})})
    chosen = {"timestamp": None, "window": WEEK, "minimum_rows": 100, "range_margin": 1.0, **options}
    return profiles.build(table, ["x"], **chosen).get("x")


def measured(reference: Any, current: Any, **options: Any) -> FeatureMeasured:
    built = build(reference, **options)
    assert built is not None
    return profiles.measure("x", pa.chunked_array([current]), built)


def test_measure__same_numbers__has_no_effect() -> None:
    values = pa.array(np.arange(1_000.0))
    found = measured(values, values)
    assert found.effect is not None
    assert found.effect.debiased == 0.0


def test_measure__text__counts_levels_and_unseen_ones() -> None:
    found = measured(pa.array(["a", "b"] * 500), pa.array(["a"] * 90 + ["c"] * 10))
    assert found.unseen_share == pytest.approx(0.1)
    assert found.effect is not None
    assert found.effect.debiased > 0.2


def test_measure__dictionary_and_booleans_and_integers__are_comparable() -> None:
    assert measured(pa.array(["a", "b"] * 500).dictionary_encode(), pa.array(["a", "b"] * 50)).effect is not None
    assert measured(pa.array([True, False] * 500), pa.array([True] * 100)).effect is not None
    assert measured(pa.array([1, 2] * 500), pa.array([1.0, None] * 50)).null_share == 0.5


def test_measure__column_of_nulls__is_all_null_and_not_comparable() -> None:
    found = measured(pa.array(np.arange(1_000.0)), pa.nulls(50))
    assert (found.null_share, found.effect) == (1.0, None)


def test_measure__numbers_became_text__count_as_null() -> None:
    assert measured(pa.array(np.arange(1_000.0)), pa.array(["7"] * 50)).null_share == 1.0


def test_measure__empty_window__has_no_effect() -> None:
    found = measured(pa.array(np.arange(1_000.0)), pa.array([], pa.float64()))
    assert (found.n, found.effect) == (0, None)


def test_build__nothing_known_or_another_type__is_left_out() -> None:
    assert build(pa.nulls(10)) is None
    assert build(pa.array([datetime(2013, 1, 1, tzinfo=UTC)] * 10)) is None


def test_measure__warmer_than_ever__is_drift_and_not_impossible() -> None:
    winter = pa.array(np.linspace(10.0, 65.0, 1_000))
    summer = pa.array(np.linspace(60.0, 100.0, 1_000))
    assert measured(winter, summer).out_of_range_share == 0.0


def test_measure__wind_of_a_thousand_miles__is_impossible() -> None:
    wind = pa.array(np.linspace(0.0, 40.0, 1_000))
    assert measured(wind, pa.array([1_048.0] * 10 + [5.0] * 90)).out_of_range_share == pytest.approx(0.1)


def test_measure__reference_of_one_value__calls_nothing_impossible() -> None:
    assert measured(pa.array([3.0] * 1_000), pa.array([4.0] * 100)).out_of_range_share == 0.0


def weekly(weeks: int, rows: int, wander: float) -> dict[str, Any]:
    """``weeks`` of ``rows`` each; every week's mean lies elsewhere by up to ``wander`` standard deviations."""
    random = np.random.default_rng(3)
    start = datetime(2013, 1, 1, tzinfo=UTC)
    moments = [start + WEEK * (k / rows) for k in range(weeks * rows)]
    means = np.repeat(np.linspace(-wander, wander, weeks), rows)
    values = random.normal(means, 1.0)
    return {
        "values": pa.array(values),
        "more": {"at": pa.array(moments, pa.timestamp("us", "UTC"))},
    }


def test_build__wandering_reference__is_calibrated_by_its_own_weeks() -> None:
    still, moving = weekly(9, 600, 0.0), weekly(9, 600, 0.8)
    calm = build(still["values"], more=still["more"], timestamp="at")
    restless = build(moving["values"], more=moving["more"], timestamp="at")
    assert calm is not None
    assert restless is not None
    assert calm.calibrated == pytest.approx(0.0, abs=0.03)
    assert restless.calibrated is not None
    assert restless.calibrated > 0.2


def test_build__thin_weeks__calibrate_nothing() -> None:
    thin = weekly(9, 50, 0.8)
    built = build(thin["values"], more=thin["more"], timestamp="at")
    assert built is not None
    assert built.calibrated is None


def test_reference__stored_and_read_back__is_equal() -> None:
    built = build(pa.array([1.0, 2.5, None, 7.0] * 100))
    assert built is not None
    assert FeatureReference.from_dict(built.as_dict()) == built
