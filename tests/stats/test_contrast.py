import numpy as np
import pytest
from numpy.typing import NDArray

from stats.contrast import Contrast, contrast, rows_that_speak
from stats.interval import FloatArray
from stats.metrics import METRICS

RANDOM = np.random.default_rng(3)
N = 4000
TRUTH = RANDOM.beta(2, 3, N)
Y = (RANDOM.random(N) < TRUTH).astype(float)
SEGMENT = np.arange(N) < 800
BROKEN = np.where(SEGMENT, RANDOM.beta(2, 3, N), TRUTH)


def found(metric: str, p: FloatArray, segment: NDArray[np.bool_] = SEGMENT, threshold: float = 0.4) -> Contrast:
    overall = METRICS[metric].to_first_order(Y, p, threshold=threshold)
    result = contrast(metric, Y, p, segment, overall=overall, threshold=threshold)
    assert result is not None
    return result


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "brier", "log_loss", "accuracy", "recall", "f1"])
def test_contrast__broken_segment__is_certainly_worse(metric: str) -> None:
    result = found(metric, BROKEN)

    assert result.worse_by > 0
    assert result.p_value(0.0) < 1e-4
    assert result.p_value(1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_contrast__segment_like_the_rest__is_not(metric: str) -> None:
    assert found(metric, TRUTH).p_value(0.02) > 0.005


def test_contrast__of_a_mean__is_worked_by_hand() -> None:
    """Segment minus all = (1 − w)·(segment − rest): its error is that of two independent means, times (1 − w)."""
    losses = (TRUTH - Y) ** 2
    inside, outside = losses[SEGMENT], losses[~SEGMENT]
    error = 0.8 * np.sqrt(inside.var() / 800 + outside.var() / 3200)
    result = found("brier", TRUTH)

    assert result.worse_by == pytest.approx(inside.mean() - losses.mean())
    assert result.standard_error == pytest.approx(error, rel=0.01)


def test_contrast__nobody_found_in_a_small_segment__is_not_taken_for_certain() -> None:
    segment = np.zeros(N, dtype=bool)
    segment[np.flatnonzero((Y == 1) & (TRUTH < 0.4))[:4]] = True
    result = found("recall", TRUTH, segment)

    assert result.standard_error > 0.05
    assert result.p_value(0.05) > 0.01


def test_contrast__segment_without_a_value__has_none() -> None:
    overall = METRICS["roc_auc"].to_first_order(Y, TRUTH, threshold=0.4)

    assert contrast("roc_auc", Y, TRUTH, Y == 1, overall=overall, threshold=0.4) is None


@pytest.mark.parametrize(
    ("metric", "speaking"), [("roc_auc", 2), ("average_precision", 3), ("recall", 3), ("precision", 2), ("brier", 5)]
)
def test_rows_that_speak__are_those_the_metric_rests_on(metric: str, speaking: int) -> None:
    y, p = np.array([1.0, 1.0, 1.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.2, 0.8, 0.1])

    assert rows_that_speak(metric, y, p, threshold=0.5) == speaking
