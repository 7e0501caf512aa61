"""Bets on the arm given the rank: exact ranks, false alarms, what each of the three sees, limits."""

from __future__ import annotations

import math
import time
from dataclasses import astuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from stats.sequential import rank_shift
from stats.sequential.ranks import STAKES, running_ranks

ALARM = math.log(20)


def traffic(rng: np.random.Generator, n: int, share: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return rng.normal(size=n), rng.random(n) < share


def test_running_ranks__with_ties_over_several_blocks__are_those_of_rankdata() -> None:
    values = np.random.default_rng(1).integers(0, 40, size=1200).astype(float)
    low, high = running_ranks(values)
    for n in (1, 2, 511, 512, 513, 1200):
        assert low[n - 1] * n == pytest.approx(rankdata(values[:n], "min")[-1] - 1)
        assert high[n - 1] * n == pytest.approx(rankdata(values[:n], "max")[-1])


def test_rank_shift__two_rows__is_the_gamblers_capital_worked_by_hand() -> None:
    found = rank_shift([1.0, 2.0], [False, True], 0.5)
    # First row: all ranks, middle: no bet. Second: upper half of the ranks, mean 3/4, so g = 1/2, payoff 1/2 / (1/2).
    assert found.location == pytest.approx(math.log(np.mean(1 + STAKES * 0.5)))


def test_rank_shift__equal_arms__keeps_its_false_alarms() -> None:
    rng = np.random.default_rng(2)
    alarms = np.zeros(4)
    for _ in range(150):
        values, arm = traffic(rng, 3000, 0.2)
        found = rank_shift(values, arm, 0.2)
        alarms += np.array([found.location, found.spread, found.shape, found.combined]) >= ALARM
    assert (alarms <= 7).all()


def test_rank_shift__small_samples__have_expectation_of_at_most_one() -> None:
    rng = np.random.default_rng(3)
    found = [rank_shift(*traffic(rng, 40, 0.3), 0.3) for _ in range(600)]
    assert np.mean([math.exp(one.combined) for one in found]) == pytest.approx(1.0, abs=0.06)


def test_rank_shift__location_moved__location_sees_it() -> None:
    rng = np.random.default_rng(4)
    values, arm = traffic(rng, 10_000, 0.1)
    found = rank_shift(values + 0.3 * arm, arm, 0.1)
    assert min(found.location, found.combined) > ALARM > found.spread


def test_rank_shift__spread_grew__only_spread_and_shape_see_it() -> None:
    rng = np.random.default_rng(5)
    values, arm = traffic(rng, 10_000, 0.1)
    found = rank_shift(np.where(arm, 1.4, 1.0) * values, arm, 0.1)
    assert min(found.spread, found.shape, found.combined) > ALARM > found.location


def test_rank_shift__some_scores_stuck_at_a_constant__shape_sees_it() -> None:
    rng = np.random.default_rng(6)
    values, arm = traffic(rng, 20_000, 0.1)
    stuck = arm & (rng.random(20_000) < 0.1)
    found = rank_shift(np.where(stuck, 0.3, values), arm, 0.1)
    assert min(found.shape, found.combined) > ALARM


def test_rank_shift__ramp_and_drifting_values__are_no_difference() -> None:
    rng = np.random.default_rng(7)
    share = np.repeat([0.05, 0.1, 0.25, 0.5], 1000)
    alarms = 0
    for _ in range(50):
        arm = rng.random(4000) < share
        alarms += rank_shift(rng.normal(size=4000) + np.linspace(0, 2, 4000), arm, share).combined >= ALARM
    assert alarms <= 2


def test_rank_shift__sticky_entities__first_row_of_each_counts() -> None:
    values, arm = traffic(np.random.default_rng(8), 300, 0.3)
    again = np.concatenate([values, values + 5 * arm])
    assert rank_shift(again, np.tile(arm, 2), 0.3, entity=np.tile(np.arange(300), 2)) == rank_shift(values, arm, 0.3)


def test_rank_shift__any_rising_transformation__changes_nothing() -> None:
    values, arm = traffic(np.random.default_rng(9), 500, 0.3)
    assert rank_shift(np.exp(3 * values), arm, 0.3) == rank_shift(values, arm, 0.3)


def test_rank_shift__equal_values__are_no_evidence_of_place_or_spread() -> None:
    found = rank_shift(np.ones(2000), np.random.default_rng(10).random(2000) < 0.1, 0.1)
    assert (found.location, found.spread) == (0.0, 0.0)
    assert found.combined < 1


@pytest.mark.parametrize("n", [0, 1])
def test_rank_shift__none_or_one_row__says_nothing(n: int) -> None:
    found = rank_shift([5.0] * n, [True] * n, 0.1)
    assert astuple(found) == pytest.approx((0, 0, 0, 0), abs=1e-12)


def test_rank_shift__enormous_values__stay_finite() -> None:
    found = rank_shift([1e308, -1e308, 0.0, 1e308], [True, False, True, False], 0.5)
    assert math.isfinite(found.combined)


def test_rank_shift__nan__names_the_values() -> None:
    with pytest.raises(ValueError, match="values"):
        rank_shift([1.0, math.nan], [True, False], 0.5)


def test_rank_shift__lengths_differ__names_the_argument() -> None:
    with pytest.raises(ValueError, match="canary has 1"):
        rank_shift([1.0, 2.0], [True], 0.5)


def test_rank_shift__twenty_thousand_rows__take_less_than_a_second() -> None:
    values, arm = traffic(np.random.default_rng(11), 20_000, 0.1)
    started = time.process_time()
    rank_shift(values, arm, 0.1)
    assert time.process_time() - started < 1
