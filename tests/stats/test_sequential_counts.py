"""Evidence from counted events: exact values by hand, false alarms, detection, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import betabinom, binom

from stats.sequential import bernoulli_below, curve, rate_ratio, sample_ratio
from stats.sequential.counts import FRACTIONS, HIGHER, LOWER, WEIGHTS

ALARM = math.log(20)
RAMP = np.repeat([0.05, 0.10, 0.25, 0.50], 5000)


def canary_errors(
    rng: np.random.Generator, share: NDArray[np.float64], rate: NDArray[np.float64], ratio: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Arm and share of each error in traffic with the given share and incumbent error rate per request."""
    canary = rng.random(len(share)) < share
    failed = rng.random(len(share)) < rate * np.where(canary, ratio, 1.0)
    return canary[failed], share[failed]


def test_rate_ratio__two_events__is_the_mean_likelihood_ratio_worked_by_hand() -> None:
    found = rate_ratio([True, False], 0.25)
    assert found.harm == pytest.approx(math.log(WEIGHTS @ (HIGHER / (0.75 + 0.25 * HIGHER) ** 2)))
    assert found.no_harm == pytest.approx(math.log(np.mean(LOWER / (0.75 + 0.25 * LOWER) ** 2)))
    assert (found.events, found.canary_events) == (2, 1)


def test_rate_ratio__varying_share_and_tolerance__multiplies_the_events_odds() -> None:
    arm, share = [True, True, False], np.array([0.1, 0.2, 0.2])
    factors = [
        np.prod([(r / 2 if a else 1.0) * (1 - p + p * 2) / (1 - p + p * r) for a, p in zip(arm, share, strict=True)])
        for r in 2 * HIGHER
    ]
    assert rate_ratio(arm, share, tolerated_ratio=2.0).harm == pytest.approx(math.log(WEIGHTS @ factors))


def test_rate_ratio__half_share__estimates_the_plain_ratio_of_counts() -> None:
    found = rate_ratio(np.repeat([True, False], [60, 20]), 0.5)
    assert found.ratio == pytest.approx(3.0)
    assert 1.0 < found.low < 3.0
    assert found.high is not None
    assert found.high > 3.0


def test_rate_ratio__interval_ends__are_where_the_evidence_reaches_half_alpha() -> None:
    arm = np.repeat([True, False], [40, 160])
    found = rate_ratio(arm, 0.1, alpha=0.1)
    assert found.high is not None
    assert rate_ratio(arm, 0.1, tolerated_ratio=found.low).harm == pytest.approx(ALARM, abs=1e-5)
    assert rate_ratio(arm, 0.1, tolerated_ratio=found.high).no_harm == pytest.approx(ALARM, abs=1e-5)


def test_rate_ratio__ramp_with_drifting_base_rate__keeps_its_false_alarms() -> None:
    """Pitfall B: with the mean share of the ramp instead, every second identical canary is taken for harmful."""
    rng = np.random.default_rng(11)
    base = np.linspace(0.005, 0.03, len(RAMP))
    right, pooled = 0, 0
    for _ in range(100):
        arm, share = canary_errors(rng, RAMP, base, 1.0)
        looks = range(10, len(arm), 10)
        right += max(look.harm for look in curve(rate_ratio, looks, canary_events=arm, share=share)) >= ALARM
        pooled += rate_ratio(arm, float(RAMP.mean())).harm >= ALARM
    assert right <= 5
    assert pooled >= 35


def test_rate_ratio__twice_the_errors__are_found_and_tolerated_where_allowed() -> None:
    rng = np.random.default_rng(12)
    share, base = np.full(30_000, 0.1), np.full(30_000, 0.01)
    harmful, excused, false_promotions = 0, 0, 0
    for _ in range(100):
        arm, then = canary_errors(rng, share, base, 2.0)
        harmful += rate_ratio(arm, then).harm >= ALARM
        found = rate_ratio(arm, then, tolerated_ratio=2.0)
        excused += found.harm < ALARM
        false_promotions += found.no_harm >= ALARM
    assert harmful >= 90
    assert excused >= 95
    assert false_promotions <= 5


def test_rate_ratio__equal_arms_and_tolerance_two__proves_no_harm() -> None:
    rng = np.random.default_rng(13)
    share, base = np.full(30_000, 0.1), np.full(30_000, 0.01)
    found = [rate_ratio(*canary_errors(rng, share, base, 1.0), tolerated_ratio=2.0) for _ in range(100)]
    assert sum(one.no_harm >= ALARM for one in found) >= 85


def test_rate_ratio__entity_with_many_events__counts_once() -> None:
    arm, entity = [True] * 50 + [False, True], ["alice"] * 50 + ["bob", "charlie"]
    assert rate_ratio(arm, 0.1, entity=entity) == rate_ratio([True, False, True], 0.1)


def test_rate_ratio__rows_that_had_no_choice__say_nothing() -> None:
    assert rate_ratio([False, True, True], [0.0, 1.0, 0.5]) == rate_ratio([True], 0.5)


def test_rate_ratio__no_events__says_nothing() -> None:
    found = rate_ratio([], [])
    assert (found.harm, found.no_harm, found.events, found.ratio, found.low, found.high) == (0, 0, 0, None, 0, None)


def test_rate_ratio__one_arm_only__is_zero_or_unbounded() -> None:
    assert rate_ratio([False] * 500, 0.1).ratio == 0.0
    found = rate_ratio([True] * 500, 0.1)
    assert (found.ratio, found.high) == (None, None)
    assert found.low > 1


@pytest.mark.parametrize(
    ("arm", "share", "entity", "name"),
    [
        ([True, math.nan], 0.1, None, "canary_events"),
        ([2, 0], 0.1, None, "canary_events"),
        ([True], [math.nan], None, "share"),
        ([True], 1.5, None, "share"),
        ([True], 0.0, None, "share contradicts"),
        ([True, False], [0.5], None, "share has 1"),
        ([True, False], 0.5, ["alice", None], "entity is missing"),
        ([True, False], 0.5, ["alice"], "entity has 1"),
    ],
)
def test_rate_ratio__bad_rows__name_the_argument(arm: list[float], share: float, entity: list[str], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        rate_ratio(arm, share, entity=entity)


@pytest.mark.parametrize("tolerated", [0.0, -1.0, math.inf, math.nan])
def test_rate_ratio__tolerance_is_not_positive__names_it(tolerated: float) -> None:
    with pytest.raises(ValueError, match="tolerated_ratio"):
        rate_ratio([True], 0.5, tolerated_ratio=tolerated)


def test_bernoulli_below__no_errors__proves_it_after_some_hundred_rows() -> None:
    by_hand = np.mean(((1 - FRACTIONS * 0.01) / 0.99) ** 500)
    assert bernoulli_below(0, 500, 0.01) == pytest.approx(math.log(by_hand))
    assert bernoulli_below(0, 500, 0.01) > ALARM


def test_bernoulli_below__any_rate_at_or_above_the_tolerated__has_expectation_of_at_most_one() -> None:
    evidence = np.array([bernoulli_below(errors, 60, 0.1) for errors in range(61)])
    assert np.exp(evidence) @ binom.pmf(range(61), 60, 0.1) == pytest.approx(1.0)
    assert np.exp(evidence) @ binom.pmf(range(61), 60, 0.15) < 1.0


def test_bernoulli_below__no_rows__says_nothing() -> None:
    assert bernoulli_below(0, 0, 0.01) == 0.0


def test_bernoulli_below__only_errors__is_finite_and_negative() -> None:
    assert -1e6 < bernoulli_below(1000, 1000, 0.01) < 0


@pytest.mark.parametrize(
    ("errors", "n", "tolerated", "name"), [(-1, 5, 0.1, "errors"), (6, 5, 0.1, "errors"), (0, 5, 0.0, "tolerated")]
)
def test_bernoulli_below__impossible_numbers__name_the_argument(
    errors: int, n: int, tolerated: float, name: str
) -> None:
    with pytest.raises(ValueError, match=name):
        bernoulli_below(errors, n, tolerated)


def test_sample_ratio__one_share__is_the_beta_binomial_likelihood_ratio() -> None:
    arm = np.repeat([True, False], [30, 170])
    by_hand = betabinom.logpmf(30, 200, 10, 90) - binom.logpmf(30, 200, 0.1)
    assert sample_ratio(arm, 0.1) == pytest.approx(by_hand)


def test_sample_ratio__two_shares__adds_their_evidence() -> None:
    first, second = np.arange(90) % 3 == 0, np.arange(80) % 2 == 0
    together = sample_ratio(np.concatenate([first, second]), np.repeat([0.1, 0.5], [90, 80]))
    assert together == pytest.approx(sample_ratio(first, 0.1) + sample_ratio(second, 0.5))


def test_sample_ratio__right_split_over_a_ramp__keeps_its_false_alarms() -> None:
    rng = np.random.default_rng(14)
    alarms = 0
    for _ in range(100):
        arm = rng.random(len(RAMP)) < RAMP
        looks = range(500, len(RAMP) + 1, 500)
        alarms += max(curve(sample_ratio, looks, canary=arm, share=RAMP)) >= ALARM
    assert alarms <= 5


def test_sample_ratio__half_of_the_canary_rows_lost__is_found_within_some_thousand() -> None:
    rng = np.random.default_rng(15)
    assert sum(sample_ratio(rng.random(2500) < 0.05, 0.1) >= ALARM for _ in range(50)) >= 48


def test_sample_ratio__sticky_entities__are_counted_once() -> None:
    entity = np.repeat(np.arange(50), 100)
    arm = entity % 10 == 0
    assert sample_ratio(arm, 0.1, entity=entity) == sample_ratio(np.arange(50) % 10 == 0, 0.1)


def test_sample_ratio__no_rows__says_nothing() -> None:
    assert sample_ratio([], []) == 0.0
