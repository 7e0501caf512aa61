import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score

from stats.metrics import METRICS, paired_auc_difference
from stats.metrics.rows import with_unseen
from stats.paired import gain

RANDOM = np.random.default_rng(7)
TRUTH = RANDOM.beta(2, 4, 3000)
Y = (RANDOM.random(3000) < TRUTH).astype(float)
GOOD = np.clip(TRUTH + RANDOM.normal(0, 0.02, 3000), 0.01, 0.99)
POOR = np.clip(0.2 + 0.3 * TRUTH + RANDOM.normal(0, 0.15, 3000), 0.01, 0.99)
NAMES = sorted(METRICS)


@pytest.mark.parametrize("metric", NAMES)
def test_gain__of_the_better_scores__is_positive_and_turns_round(metric: str) -> None:
    better = gain(metric, Y, GOOD, POOR, threshold=0.35, confidence=0.95)
    worse = gain(metric, Y, POOR, GOOD, threshold=0.35, confidence=0.95)

    assert better is not None
    assert worse is not None
    assert worse.estimate == pytest.approx(-better.estimate)
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low), abs=0.003)
    if metric in ("roc_auc", "average_precision", "brier", "log_loss", "balanced_accuracy", "mae", "rmse", "r2"):
        assert better.low > 0


@pytest.mark.parametrize("metric", NAMES)
def test_gain__is_the_difference_of_both_values(metric: str) -> None:
    found = gain(metric, Y, GOOD, POOR, threshold=0.35, confidence=0.95)
    alone = [METRICS[metric].value(Y, scores, threshold=0.35, confidence=0.95) for scores in (GOOD, POOR)]

    assert found is not None
    assert alone[0] is not None
    assert alone[1] is not None
    apart = alone[0].estimate - alone[1].estimate
    assert found.estimate == pytest.approx(apart if METRICS[metric].greater_is_better else -apart, abs=1e-9)
    assert found.low <= found.estimate <= found.high
    assert found.n == 3000


@pytest.mark.parametrize("metric", [name for name in NAMES if name not in ("ece", "calibration_gap", "absolute_bias")])
def test_gain__agrees_with_a_bootstrap_of_the_same_rows(metric: str) -> None:
    def difference(rows: NDArray[np.int64]) -> float:
        values = [
            METRICS[metric].to_first_order(Y[rows], each[rows], threshold=0.35).estimate  # type: ignore[union-attr]
            for each in (GOOD, POOR)
        ]
        return values[0] - values[1] if METRICS[metric].greater_is_better else values[1] - values[0]

    random = np.random.default_rng(1)
    drawn = [difference(random.integers(0, 3000, 3000)) for _ in range(300)]
    found = gain(metric, Y, GOOD, POOR, threshold=0.35, confidence=0.95)
    low, high = np.quantile(drawn, [0.025, 0.975])
    linear = [METRICS[metric].to_first_order(Y, each, threshold=0.35) for each in (GOOD, POOR)]
    reach = max(each.reach for each in linear if each is not None)

    assert found is not None
    expected = 2 * with_unseen((high - low) / 2, 3000, reach=reach, confidence=0.95)
    assert 0.84 * (high - low) < found.high - found.low < 1.16 * expected


def test_gain__auc__is_delongs() -> None:
    found = gain("roc_auc", Y, GOOD, POOR, threshold=0.5, confidence=0.95)
    delong = paired_auc_difference(Y, GOOD, POOR)

    assert found is not None
    assert delong is not None
    assert found.estimate == pytest.approx(roc_auc_score(Y, GOOD) - roc_auc_score(Y, POOR), abs=1e-12)
    reach = 3000 / min(Y.sum(), 3000 - Y.sum())
    half = with_unseen((delong.high - delong.low) / 2, 3000, reach=reach, confidence=0.95)
    assert (found.low, found.high) == pytest.approx((delong.estimate - half, delong.estimate + half), abs=1e-4)


def test_gain__brier__is_scikit_learns_difference() -> None:
    found = gain("brier", Y, GOOD, POOR, threshold=0.5, confidence=0.95)

    assert found is not None
    assert found.estimate == pytest.approx(brier_score_loss(Y, POOR) - brier_score_loss(Y, GOOD), abs=1e-12)


@pytest.mark.parametrize("metric", [name for name in NAMES if name not in ("ece", "calibration_gap", "absolute_bias")])
def test_gain__same_scores_on_few_rows__is_zero_but_not_certain(metric: str) -> None:
    found = gain(metric, Y[:50], GOOD[:50], GOOD[:50], threshold=0.35, confidence=0.95)

    assert found is not None
    assert found.estimate == 0
    assert found.low < -0.005


@pytest.mark.parametrize("metric", NAMES)
def test_gain__same_scores_on_many_rows__is_nearly_certain(metric: str) -> None:
    found = gain(metric, Y, GOOD, GOOD, threshold=0.35, confidence=0.95)

    assert found is not None
    assert (found.estimate, found.low > -0.02, found.high < 0.02) == (0, True, True)


def test_gain__one_class__has_no_answer_where_both_are_needed() -> None:
    assert gain("roc_auc", np.ones(50), GOOD[:50], POOR[:50], threshold=0.5, confidence=0.95) is None
    assert gain("specificity", np.ones(50), GOOD[:50], POOR[:50], threshold=0.5, confidence=0.95) is None
