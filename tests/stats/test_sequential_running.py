"""Sums that grow with the rows answer what the whole arrays answer, in however many pieces the rows come."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from stats.sequential import mean_difference, rank_shift, rate_ratio, sample_ratio
from stats.sequential.distance import PLACES, SortedArms, band
from stats.sequential.running import (
    Firsts,
    Numbering,
    RunningMeans,
    RunningRanks,
    RunningRates,
    RunningSplit,
)

FloatArray = NDArray[np.float64]
PIECES = ((6000,), (1, 2, 497, 500, 5000), tuple([250] * 24), (3000, 3000))


@dataclass(frozen=True)
class Traffic:
    """A ramp in three steps; entities return and stay in the canary once they are in it."""

    values: FloatArray
    canary: NDArray[np.bool_]
    share: FloatArray
    stratum: NDArray[np.int64]
    entity: NDArray[np.int64]

    def pieces(self, sizes: tuple[int, ...]) -> list[Traffic]:
        ends = np.cumsum(sizes).tolist()
        return [
            Traffic(*(getattr(self, field.name)[start:end] for field in dataclasses.fields(self)))
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]


def traffic(seed: int = 1, *, n: int = 6000, entities: int = 900, decimals: int = 2) -> Traffic:
    random = np.random.default_rng(seed)
    stratum = np.repeat([0, 1, 2], n // 3)
    share = np.array([0.1, 0.3, 0.5])[stratum]
    entity = random.integers(0, entities, n)
    canary = random.random(entities)[entity] < share
    of_entity = random.normal(size=entities)[entity]
    values = np.round(of_entity + random.normal(size=n) + 0.3 * stratum + 0.1 * canary, decimals)
    return Traffic(values, canary, share, stratum, entity)


def same(found: Any, expected: Any) -> bool:
    """Equal field by field to 1e-9, relative."""
    pairs = zip(dataclasses.astuple(found), dataclasses.astuple(expected), strict=True)
    return all(a == b if a is None or b is None else a == pytest.approx(b, rel=1e-9, abs=1e-9) for a, b in pairs)


@pytest.mark.parametrize("sizes", PIECES)
def test_means__in_any_pieces__are_the_whole_arrays(sizes: tuple[int, ...]) -> None:
    rows, running, done = traffic(), RunningMeans(), 0
    for piece in rows.pieces(sizes):
        running.update(piece.values, piece.canary, piece.stratum, piece.entity)
        done += len(piece.values)
        expected = mean_difference(
            rows.values[:done],
            rows.canary[:done],
            rows.share[:done],
            stratum=rows.stratum[:done],
            entity=rows.entity[:done],
            tolerance=0.2,
            harm_from=0.05,
            alpha=0.01,
        )
        assert same(running.measure(tolerance=0.2, harm_from=0.05, alpha=0.01), expected)


@pytest.mark.parametrize("shift", [0.0, 1e6, -1e9])
def test_means__of_values_far_from_zero__lose_no_more_than_the_values_themselves(shift: float) -> None:
    rows, running = traffic(2), RunningMeans()
    for piece in rows.pieces(PIECES[1]):
        running.update(piece.values + shift, piece.canary, piece.stratum, piece.entity)
    expected = mean_difference(
        rows.values, rows.canary, rows.share, stratum=rows.stratum, entity=rows.entity, alpha=0.01
    )
    found = running.measure(alpha=0.01)
    assert found.estimate == pytest.approx(expected.estimate, rel=1e-5)
    assert found.harm == pytest.approx(expected.harm, abs=1e-4)


def test_means__values_that_grow_enormous__stay_finite() -> None:
    rows, running = traffic(3), RunningMeans()
    for place, piece in enumerate(rows.pieces(PIECES[3])):
        running.update(piece.values * (1e300 if place else 1.0), piece.canary, piece.stratum, piece.entity)
    found = running.measure(alpha=0.01)
    assert found.estimate is not None
    assert found.harm is not None
    assert math.isfinite(found.estimate)


def test_means__of_equal_values__have_no_spread_until_one_differs() -> None:
    rows, running = traffic(12), RunningMeans()
    first, second = rows.pieces(PIECES[3])
    running.update(np.full(3000, 0.1), first.canary, first.stratum, first.entity)
    equal = running.measure(alpha=0.01)
    assert equal.estimate == pytest.approx(0.0, abs=1e-15)
    assert (equal.low, equal.harm) == (None, None)
    running.update(second.values, second.canary, second.stratum, second.entity)
    expected = mean_difference(
        np.concatenate([np.full(3000, 0.1), second.values]),
        rows.canary,
        rows.share,
        stratum=rows.stratum,
        entity=rows.entity,
        alpha=0.01,
    )
    assert same(running.measure(alpha=0.01), expected)


def test_means__turned_sign__is_that_of_turned_values() -> None:
    rows, running = traffic(4), RunningMeans()
    running.update(rows.values, rows.canary, rows.stratum, rows.entity)
    expected = mean_difference(
        -rows.values, rows.canary, rows.share, stratum=rows.stratum, entity=rows.entity, tolerance=0.1, alpha=0.05
    )
    assert same(running.measure(tolerance=0.1, alpha=0.05, sign=-1.0), expected)


def test_means__by_day_in_both_arms__are_the_whole_arrays() -> None:
    rows, running = traffic(5), RunningMeans(in_both_arms=True)
    day = np.arange(6000) // 150
    for place in np.array_split(np.arange(6000), 7):
        running.update(rows.values[place], rows.canary[place], rows.stratum[place], day[place])
    expected = mean_difference(
        rows.values,
        rows.canary,
        rows.share,
        stratum=rows.stratum,
        entity=day,
        in_both_arms=True,
        alpha=0.01,
        minimum=5,
    )
    assert same(running.measure(alpha=0.01, minimum=5), expected)


def test_means__nothing_or_one_arm__has_no_answer() -> None:
    running = RunningMeans()
    assert running.measure(alpha=0.05).estimate is None
    assert running.means() == (None, None)
    running.update(np.ones(3), np.zeros(3, dtype=bool), np.zeros(3, dtype=np.int64), np.arange(3))
    found = running.measure(alpha=0.05)
    assert (found.estimate, found.harm, found.n_canary, found.n_incumbent) == (None, None, 0, 3)
    assert running.means() == (None, 1.0)


def test_means__few_entities_in_several_strata__are_counted_once() -> None:
    rows = traffic(6, n=300, entities=28)
    running = RunningMeans()
    running.update(rows.values, rows.canary, rows.stratum, rows.entity)
    assert running.measure(alpha=0.05).harm is None
    assert running.measure(alpha=0.05, minimum=2).harm is not None


@pytest.mark.parametrize("sizes", PIECES)
def test_rates__in_any_pieces__are_the_whole_arrays(sizes: tuple[int, ...]) -> None:
    rows, running = traffic(7), RunningRates()
    events = np.random.default_rng(7).random(6000) < 0.03
    for piece, there in zip(rows.pieces(sizes), np.split(events, np.cumsum(sizes)[:-1]), strict=True):
        running.update(piece.canary[there], piece.share[there], piece.entity[there])
    expected = rate_ratio(
        rows.canary[events],
        rows.share[events],
        tolerated_ratio=2.0,
        harm_from=1.0,
        entity=rows.entity[events],
        alpha=0.015,
    )
    assert same(running.measure(tolerated_ratio=2.0, harm_from=1.0, alpha=0.015), expected)
    assert running.evidence(harm_from=1.0, tolerated_ratio=2.0) == pytest.approx((expected.harm, expected.no_harm))


@pytest.mark.parametrize("sizes", PIECES)
def test_split__in_any_pieces__is_the_whole_arrays(sizes: tuple[int, ...]) -> None:
    rows, running = traffic(8), RunningSplit()
    for piece in rows.pieces(sizes):
        running.update(piece.canary, piece.share, piece.entity)
    assert running.measure() == pytest.approx(sample_ratio(rows.canary, rows.share, entity=rows.entity), rel=1e-9)
    served, entities, expected = running.counts()
    assert entities == len(np.unique(rows.entity))
    assert served == pytest.approx(expected, abs=40)


@pytest.mark.parametrize("sizes", PIECES)
@pytest.mark.parametrize("entities", [900, 10**6])
def test_ranks__in_any_pieces__are_the_whole_arrays(sizes: tuple[int, ...], entities: int) -> None:
    rows, running = traffic(9, entities=entities), RunningRanks()
    for piece in rows.pieces(sizes):
        running.update(piece.values, piece.canary, piece.share, piece.stratum, piece.entity)
    expected = rank_shift(rows.values, rows.canary, rows.share, entity=rows.entity)
    assert same(running.measure(alpha=0.01).shift, expected)


def test_ranks__one_stratum__lie_as_far_apart_as_scipy_says() -> None:
    random = np.random.default_rng(10)
    values, canary = random.normal(size=9000).round(2), random.random(9000) < 0.2
    values[canary] *= 1.4
    running, zeros = RunningRanks(), np.zeros(9000, dtype=np.int64)
    running.update(values, canary, np.full(9000, 0.2), zeros, np.arange(9000))
    found = running.measure(alpha=0.01).distance
    assert found.value == pytest.approx(ks_2samp(values[canary], values[~canary]).statistic, abs=1 / PLACES)
    assert found.n_canary == pytest.approx(canary.sum())
    assert found.n_incumbent == pytest.approx((~canary).sum())


def test_distance__strata__are_weighed_so_that_a_ramp_in_moving_traffic_is_no_difference() -> None:
    random = np.random.default_rng(11)
    stratum = np.repeat([0, 1], 5000)
    canary = random.random(10_000) < np.array([0.1, 0.5])[stratum]
    values = random.normal(size=10_000) + 2 * stratum
    arms = SortedArms()
    arms.update(values, canary, stratum)
    assert ks_2samp(values[canary], values[~canary]).statistic > 0.2
    found = arms.distance(alpha=0.05)
    assert found.value is not None
    assert found.value < 0.05


def test_distance__the_band__is_as_howard_and_ramdas_have_it_and_excludes_what_lies_beyond_it() -> None:
    at_5_percent = band(10_000, log_inverse_alpha=math.log(20))
    assert at_5_percent == pytest.approx(
        0.85 * math.sqrt((math.log(math.log(math.e * 1e4)) + 0.8 * math.log(32240)) / 1e4)
    )
    random = np.random.default_rng(12)
    values, canary = random.normal(size=20_000), random.random(20_000) < 0.5
    arms = SortedArms()
    arms.update(values, canary, np.zeros(20_000, dtype=np.int64))
    found = arms.distance(alpha=0.01)
    assert found.high is not None
    assert found.no_more(found.high) == pytest.approx(math.log(100), abs=1e-6)
    assert found.no_more(found.high + 0.01) > math.log(100)  # type: ignore[operator]  # there are rows in both arms
    assert found.no_more(0.001) == 0.0
    assert SortedArms().distance(alpha=0.01).no_more(0.1) is None


def test_distance__equal_distributions__stay_below_their_limit_at_every_look() -> None:
    missed = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        values, canary = random.normal(size=3000), random.random(3000) < 0.3
        values[canary] += 0.5  # a distance of .197
        arms, zeros = SortedArms(), np.zeros(150, dtype=np.int64)
        for place in np.array_split(np.arange(3000), 20):
            arms.update(values[place], canary[place], zeros)
            high = arms.distance(alpha=0.05).high
            missed += high is not None and high < 0.197
    assert missed == 0


def test_firsts__across_pieces__are_each_entity_once() -> None:
    firsts = Firsts()
    assert firsts.among(np.array([3, 3, 0])).tolist() == [True, False, True]
    assert firsts.among(np.array([0, 5, 3, 5])).tolist() == [False, True, False, False]
    assert firsts.among(np.empty(0, dtype=np.int64)).tolist() == []


def test_numbering__labels_of_any_kind__keep_their_numbers() -> None:
    numbering = Numbering()
    assert numbering.of(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert numbering.of(["a", ("c", 1)]).tolist() == [1, 2]
    assert len(numbering) == 3
