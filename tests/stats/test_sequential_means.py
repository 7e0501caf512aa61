"""Differences of means: values by hand and by other estimators, the known false alarms, detection, limits."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stats.sequential import (
    MeanDifference,
    curve,
    mean_difference,
    normal_mixture_threshold,
    paired_mean,
    rho_for,
)

ALARM = math.log(20)
compare = partial(mean_difference, alpha=0.05)


def alarms(measured: list[MeanDifference]) -> bool:
    """Whether harm was shown at any look."""
    return any(one.harm is not None and one.harm >= ALARM for one in measured)


def misses(measured: list[MeanDifference], truth: float) -> bool:
    """Whether the interval left out the truth at any look."""
    return any(one.low is not None and one.high is not None and not one.low <= truth <= one.high for one in measured)


def look_often(values: NDArray[np.float64], arm: NDArray[np.bool_], share: Any, **columns: Any) -> list[MeanDifference]:
    n = len(values)
    looks = range(n // 20, n + 1, n // 20)
    return curve(compare, looks, values=values, canary=arm, share=np.broadcast_to(share, n), **columns)


def test_mean_difference__one_step__is_the_difference_of_means_with_welchs_error() -> None:
    rng = np.random.default_rng(1)
    values, arm = rng.normal(size=600), np.arange(600) % 2 == 0
    found = compare(values, arm, 0.5)
    a, b = values[arm], values[~arm]
    assert found.estimate == pytest.approx(a.mean() - b.mean())
    assert found.low is not None
    assert found.high is not None
    z = (found.high - found.low) / 2 / math.sqrt(a.var(ddof=1) / 300 + b.var(ddof=1) / 300)
    # Two arms of 300 are worth 150 rows, and 500 is where the boundary is tightest by default.
    assert z == pytest.approx(
        normal_mixture_threshold(150, alpha=0.05, rho=rho_for(500, alpha=0.05), two_sided=True), rel=0.01
    )
    assert (found.n_canary, found.n_incumbent) == (300, 300)


def test_mean_difference__several_steps__is_least_squares_with_a_constant_per_step() -> None:
    rng = np.random.default_rng(2)
    share = np.repeat([0.1, 0.3, 0.5], 400)
    arm = rng.random(1200) < share
    values = 3 * share + 0.5 * arm + rng.normal(size=1200)
    design = np.column_stack([arm, *(share == s for s in (0.1, 0.3, 0.5))]).astype(float)
    fitted = np.linalg.lstsq(design, values, rcond=None)[0][0]
    assert compare(values, arm, share).estimate == pytest.approx(fitted)
    assert compare(values, arm, share, stratum=["a"] * 400 + ["b"] * 400 + ["c"] * 400).estimate == pytest.approx(
        fitted
    )


def test_mean_difference__entities_of_one_row__are_no_entities() -> None:
    rng = np.random.default_rng(3)
    values, arm = rng.normal(size=400), rng.random(400) < 0.3
    assert compare(values, arm, 0.3, entity=[f"user {i}" for i in range(400)]) == compare(values, arm, 0.3)


def test_mean_difference__every_row_ten_times_under_one_entity__is_no_more_certain() -> None:
    rng = np.random.default_rng(4)
    values, arm = rng.normal(size=400), rng.random(400) < 0.5
    once = compare(values, arm, 0.5)
    often = compare(np.repeat(values, 10), np.repeat(arm, 10), 0.5, entity=np.repeat(np.arange(400), 10))
    assert often.low == pytest.approx(once.low, rel=0.02)
    assert often.high == pytest.approx(once.high, rel=0.02)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_mean_difference__equal_arms__keeps_its_error_at_all_looks_together(share: float) -> None:
    rng = np.random.default_rng(5)
    false, missed = 0, 0
    for _ in range(80):
        values, arm = rng.normal(size=4000), rng.random(4000) < share
        measured = look_often(values, arm, share)
        false += alarms(measured)
        missed += misses(measured, 0.0)
    assert false <= 4
    assert missed <= 4


def test_mean_difference__conversions_in_a_small_arm__keeps_its_error_on_both_sides() -> None:
    """Without the larger arm's spread as a floor one in eleven of these intervals missed the truth."""
    rng = np.random.default_rng(6)
    missed = 0
    for _ in range(80):
        values, arm = (rng.random(8000) < 0.05).astype(float), rng.random(8000) < 0.05
        missed += misses(look_often(values, arm, 0.05), 0.0)
    assert missed <= 4


def test_mean_difference__sticky_entities__need_their_ids() -> None:
    """Pitfall A: twenty correlated requests of each user, no difference between the arms."""
    rng = np.random.default_rng(7)
    by_row, by_entity = 0, 0
    for _ in range(60):
        who = rng.integers(0, 200, size=4000)
        arm = (rng.random(200) < 0.3)[who]
        values = math.sqrt(0.3) * rng.normal(size=200)[who] + math.sqrt(0.7) * rng.normal(size=4000)
        by_row += alarms(look_often(values, arm, 0.3))
        by_entity += alarms(look_often(values, arm, 0.3, entity=who))
    assert by_row >= 12
    assert by_entity <= 3


def test_mean_difference__ramp_while_the_traffic_changes__needs_the_share_of_the_moment() -> None:
    """Pitfall B: the canary has more of the late rows, and late rows are worse for both arms."""
    rng = np.random.default_rng(8)
    share = np.repeat([0.05, 0.1, 0.25, 0.5], 1000)
    pooled, by_step = 0, 0
    for _ in range(60):
        arm = rng.random(4000) < share
        values = np.linspace(0, 1, 4000) + rng.normal(size=4000)
        pooled += alarms(look_often(values, arm, 0.2))
        by_step += alarms(look_often(values, arm, share))
    assert pooled >= 50
    assert by_step <= 3


def test_mean_difference__entity_that_moved_to_the_canary__is_one_entity() -> None:
    rng = np.random.default_rng(9)
    who = np.tile(np.arange(400), 2)
    bucket = rng.random(400)
    share = np.repeat([0.2, 0.5], 400)
    own = 3 * rng.normal(size=400)[who]
    false = sum(
        alarms([compare(own + rng.normal(size=800), bucket[who] < share, share, entity=who)]) for _ in range(50)
    )
    assert false <= 2


def test_mean_difference__logs_of_stalled_requests__keep_their_error() -> None:
    """Pitfall D: .2 % of requests stalled 100x; the raw mean raised 29 % false alarms."""
    rng = np.random.default_rng(10)
    false = 0
    for _ in range(80):
        latency = rng.lognormal(0, 0.5, size=4000) * np.where(rng.random(4000) < 0.002, 100, 1)
        false += alarms(look_often(np.log(latency), rng.random(4000) < 0.1, 0.1))
    assert false <= 4


def test_mean_difference__slower_canary__is_harm_and_within_a_tolerance_none() -> None:
    rng = np.random.default_rng(11)
    arm = rng.random(10_000) < 0.1
    log_latency = rng.normal(0, 0.5, size=10_000) + math.log(1.1) * arm
    strict, lenient = compare(log_latency, arm, 0.1), compare(log_latency, arm, 0.1, tolerance=math.log(1.25))
    assert strict.harm is not None
    assert strict.harm > ALARM
    assert lenient.no_harm is not None
    assert lenient.no_harm > ALARM


def test_mean_difference__difference_equal_to_the_tolerance__is_rarely_excused() -> None:
    rng = np.random.default_rng(12)
    excused = 0
    for _ in range(80):
        arm = rng.random(4000) < 0.1
        measured = look_often(rng.normal(size=4000) - 0.7 * arm, arm, 0.1)
        excused += misses(measured, -0.7)
    assert excused <= 4


def test_mean_difference__signs_turned__harm_and_no_harm_change_places() -> None:
    rng = np.random.default_rng(13)
    values, arm = rng.normal(size=500), rng.random(500) < 0.3
    here, there = compare(values, arm, 0.3), compare(-values, arm, 0.3)
    assert here.harm == pytest.approx(there.no_harm)
    assert here.low == pytest.approx(-(there.high or 0))


@pytest.mark.parametrize("unit", [1e-150, 1e3, 1e300])
def test_mean_difference__other_unit__gives_the_same_evidence(unit: float) -> None:
    rng = np.random.default_rng(14)
    values, arm = rng.normal(size=500), rng.random(500) < 0.3
    here, there = compare(values, arm, 0.3, tolerance=0.1), compare(values * unit, arm, 0.3, tolerance=0.1 * unit)
    assert there.harm == pytest.approx(here.harm)
    assert there.high == pytest.approx((here.high or 0) * unit)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_mean_difference__too_few_rows__has_no_answer(n: int) -> None:
    values, arm = np.arange(float(n)), np.arange(n) % 2 == 0
    found = compare(values, arm, np.full(n, 0.5))
    assert (found.low, found.high, found.harm, found.no_harm) == (None, None, None, None)
    assert found.n_canary + found.n_incumbent == n


def test_mean_difference__many_rows_of_few_entities__has_no_answer() -> None:
    rng = np.random.default_rng(15)
    who = np.arange(2000) % 20
    found = compare(rng.normal(size=2000), who % 2 == 0, 0.5, entity=who)
    assert found.estimate is not None
    assert found.harm is None


def test_mean_difference__one_arm_only__has_no_estimate() -> None:
    assert compare(np.arange(100.0), [False] * 100, 0.1).estimate is None


def test_mean_difference__equal_values__has_an_estimate_and_no_evidence() -> None:
    found = compare(np.full(200, 0.1), np.arange(200) % 2 == 0, 0.5)
    assert found.estimate == pytest.approx(0)
    assert (found.low, found.harm) == (None, None)


def test_mean_difference__any_answer__can_be_written_as_json() -> None:
    huge = compare(np.tile([1e308, -1e308], 100), np.repeat([True, False], 100), 0.5)
    assert json.dumps(asdict(huge), allow_nan=False)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"values": [1.0, math.nan]}, "values"),
        ({"values": [1.0, math.inf]}, "values"),
        ({"canary": [True, math.nan]}, "canary"),
        ({"canary": [True]}, "canary has 1"),
        ({"share": [0.5, math.nan]}, "share"),
        ({"share": [0.0, 0.5]}, "share contradicts"),
        ({"stratum": ["a", None]}, "stratum is missing"),
        ({"entity": [1.0, math.nan]}, "entity is missing"),
        ({"entity": ["a"]}, "entity has 1"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"alpha": 0.0}, "alpha"),
        ({"tightest_at": 0.0}, "tightest_at"),
    ],
)
def test_mean_difference__bad_argument__is_named(changed: dict[str, Any], name: str) -> None:
    given: dict[str, Any] = {"values": [1.0, 2.0], "canary": [True, False], "share": [0.5, 0.5], "alpha": 0.05}
    with pytest.raises(ValueError, match=name):
        mean_difference(**{**given, **changed})


def test_paired_mean__independent_pairs__is_their_mean_with_its_error() -> None:
    differences = np.random.default_rng(16).normal(0.2, 1, size=500)
    found = paired_mean(differences, alpha=0.05)
    assert found.estimate == pytest.approx(differences.mean())
    assert found.low is not None
    assert found.high is not None
    # At 500 rows, where it is tightest: z = sqrt(y), y = -W(-alpha^2 / e) = 9.2 or so.
    assert (found.high - found.low) / 2 / (differences.std(ddof=1) / math.sqrt(500)) == pytest.approx(3.03, abs=0.05)
    assert (found.n_canary, found.n_incumbent) == (500, 500)


def test_paired_mean__no_difference__keeps_its_error_at_all_looks_together() -> None:
    rng = np.random.default_rng(17)
    measure = partial(paired_mean, alpha=0.05)
    missed = sum(
        misses(curve(measure, range(50, 2001, 50), differences=rng.exponential(size=2000)), 1.0) for _ in range(80)
    )
    assert missed <= 4


def test_paired_mean__sticky_entities__need_their_ids() -> None:
    rng = np.random.default_rng(18)
    by_row, by_entity = 0, 0
    for _ in range(60):
        who = rng.integers(0, 100, size=2000)
        differences = rng.normal(size=100)[who] + rng.normal(size=2000)
        by_row += misses([paired_mean(differences, alpha=0.05)], 0.0)
        by_entity += misses([paired_mean(differences, alpha=0.05, entity=who)], 0.0)
    assert by_row >= 12
    assert by_entity <= 3


def test_paired_mean__correlated_models_a_tenth_apart__are_told_apart_within_500() -> None:
    rng = np.random.default_rng(19)
    # Two scores with correlation .9: their difference has standard deviation sqrt(.2).
    found = [paired_mean(rng.normal(0.1, math.sqrt(0.2), size=500), alpha=0.05) for _ in range(50)]
    assert sum(one.harm is not None and one.harm >= ALARM for one in found) >= 45


@pytest.mark.parametrize("differences", [[], [1.0], [0.0] * 100])
def test_paired_mean__nothing_or_no_spread__has_no_answer(differences: list[float]) -> None:
    found = paired_mean(differences, alpha=0.05)
    assert (found.low, found.harm, found.no_harm) == (None, None, None)


def test_paired_mean__nan__names_the_argument() -> None:
    with pytest.raises(ValueError, match="differences"):
        paired_mean([1.0, math.nan], alpha=0.05)
