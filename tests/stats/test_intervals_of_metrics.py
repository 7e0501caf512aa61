"""Intervals against an independent way to them: a bootstrap over rows, a worked value, a limit."""

import numpy as np
import pytest

from stats.interval import FloatArray, mean_interval, wilson
from stats.metrics import METRICS, f1
from stats.metrics.calibration import ece_interval, mean_gap
from stats.metrics.rows import around, effective, span, with_unseen

N = 4000
RANDOM = np.random.default_rng(5)
SCORES = RANDOM.beta(2, 3, N)
Y = (RANDOM.random(N) < SCORES).astype(float)
P = np.clip(SCORES + RANDOM.normal(0, 0.15, N), 0.01, 0.99)
SMOOTH = [name for name in METRICS if name not in ("ece", "calibration_gap", "absolute_bias")]


def bootstrapped(metric: str, y: FloatArray, p: FloatArray, draws: int = 300) -> tuple[float, float]:
    random = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        rows = random.integers(0, len(y), len(y))
        found = METRICS[metric].to_first_order(y[rows], p[rows], threshold=0.4)
        assert found is not None
        values.append(found.estimate)
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("metric", SMOOTH)
def test_interval__agrees_with_a_bootstrap_over_rows(metric: str) -> None:
    found = METRICS[metric].value(Y, P, threshold=0.4, confidence=0.95)
    linear = METRICS[metric].to_first_order(Y, P, threshold=0.4)
    low, high = bootstrapped(metric, Y, P)

    assert found is not None
    assert linear is not None
    widest = 2 * with_unseen((high - low) / 2, N, reach=linear.reach, confidence=0.95)
    assert 0.85 * (high - low) < found.high - found.low < 1.15 * widest
    assert (found.low + found.high) / 2 == pytest.approx((low + high) / 2, abs=0.2 * (high - low))


def test_f1__nothing_found__has_an_interval_all_the_same() -> None:
    found = f1([1, 1, 1, 0], [0.1, 0.2, 0.1, 0.9])

    assert found is not None
    assert (found.estimate, found.low) == (0.0, 0.0)
    assert found.high > 0.4


def test_ece_interval__calibrated__begins_at_zero() -> None:
    found = ece_interval(Y, SCORES)

    assert found is not None
    assert found.low == 0.0
    assert found.high < 0.08


def test_ece_interval__shifted_by_a_fifth__holds_the_truth() -> None:
    random = np.random.default_rng(2)
    p = random.uniform(0.3, 0.9, 8000)
    found = ece_interval((random.random(8000) < p - 0.2).astype(float), p)

    assert found is not None
    assert found.low < 0.2 < found.high
    assert found.high - found.low < 0.05


def test_ece_interval__too_few_rows_a_bin__has_no_answer() -> None:
    assert ece_interval(Y[:149], P[:149]) is None


def test_mean_gap__around_zero__is_folded() -> None:
    found = mean_gap([1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0])

    assert found is not None
    assert (found.estimate, found.low) == (0.0, 0.0)
    assert found.high > 0


def test_mean_gap__clearly_below__is_the_signed_interval_turned_round() -> None:
    signed = mean_interval(P - 1 - Y, confidence=0.95)
    found = mean_gap(Y, P - 1)

    assert found is not None
    assert signed is not None
    room = with_unseen((signed.high - signed.low) / 2, N, reach=span(Y, P - 1), confidence=0.95)
    assert (found.low, found.high) == pytest.approx((found.estimate - room, found.estimate + room), rel=1e-3)


@pytest.mark.parametrize(("rows", "speaking"), [([1, -1] * 50, 100), ([1, -1, 0, 0, 0], 2), ([0.0] * 9, 0)])
def test_effective__counts_the_rows_that_pull(rows: list[float], speaking: float) -> None:
    assert effective(np.array(rows, dtype=float)) == pytest.approx(speaking)


def test_around__no_row_speaks__is_as_wide_as_what_may_have_gone_unseen() -> None:
    few = around(0.0, np.zeros(50), reach=1.0, confidence=0.95)
    many = around(0.0, np.zeros(5000), reach=1.0, confidence=0.95)

    assert few.high == pytest.approx(0.0713, abs=1e-4)  # Wilson's upper limit of 0 in 50
    assert many.high < 0.001


def test_with_unseen__a_share__is_as_wide_as_wilsons_interval() -> None:
    """A share of 6 in 100: the normal half width enlarged reaches what Wilson's upper limit does, and a little more."""
    found = with_unseen(1.96 * (0.06 * 0.94 / 100) ** 0.5, 100, reach=1.0, confidence=0.95)
    limit = wilson(6, 100, confidence=0.95)

    assert limit is not None
    assert limit.high - 0.06 < found < 1.15 * (limit.high - 0.06)


@pytest.mark.parametrize(("y", "p"), [([0.0, 1.0], [0.2, 0.9]), ([0.0, 0.0], [0.1, 0.3])])
def test_span__outcomes_of_zero_and_one__is_one_even_when_only_one_came(y: list[float], p: list[float]) -> None:
    assert span(np.array(y), np.array(p)) == 1


def test_span__quantities__is_from_the_smallest_to_the_largest() -> None:
    assert span(np.array([3.0, 40.0]), np.array([-2.0, 5.0])) == 42


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("positives", [2, 5, 20])
def test_ranking__perfect__has_a_width_that_shrinks_with_the_positives(metric: str, positives: int) -> None:
    y = (np.arange(1000) < positives).astype(float)
    found = METRICS[metric].value(y, y, threshold=0.5, confidence=0.95)

    assert found is not None
    assert (found.estimate, found.high) == (1, 1)
    assert found.low < 1 - 0.8 / positives


@pytest.mark.parametrize("positives", [5, 10, 30])
def test_roc_auc__few_positives__lies_above_the_truth_no_more_often_than_said(positives: int) -> None:
    """Normal scores of AUC 0.9; the lower bound of 95 % may exceed it in one of forty."""
    random = np.random.default_rng(positives)
    y = (np.arange(1000) < positives).astype(float)
    lows = [METRICS["roc_auc"].value(y, expit(1.8124 * y + random.normal(size=1000)), threshold=0.5, confidence=0.95)
            for _ in range(200)]  # fmt: skip

    assert sum(each is not None and each.low > 0.9 for each in lows) <= 5


@pytest.mark.parametrize("metric", ["brier", "log_loss", "mae", "rmse", "ece", "calibration_gap"])
def test_loss__always_denies_and_it_never_came__may_be_as_large_as_the_rows_allow(metric: str) -> None:
    found = METRICS[metric].value(np.zeros(2000), np.full(2000, 1e-6), threshold=0.5, confidence=0.95)

    assert found is not None
    assert found.high > 0.0019  # Wilson's upper limit of 0 in 2,000 is 0.00192
    assert found.low <= found.estimate <= found.high


def expit(logit: FloatArray) -> FloatArray:
    chance: FloatArray = 1 / (1 + np.exp(-logit))
    return chance
