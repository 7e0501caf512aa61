"""Point values are scikit-learn's own to 1e-9: on ordinary rows, with ties, with all scores equal."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from stats.interval import FloatArray
from stats.metrics import METRICS
from stats.metrics.calibration import bins_of

RANDOM = np.random.default_rng(11)
SCORES = RANDOM.beta(2, 3, 3000)
Y = (RANDOM.random(3000) < SCORES).astype(float)
NOISY = np.clip(SCORES + RANDOM.normal(0, 0.2, 3000), 0, 1)
AMOUNT = 40 + 12 * RANDOM.standard_normal(3000)
GUESS = AMOUNT + 5 * RANDOM.standard_t(4, 3000)
SAMPLES = {
    "distinct scores": (Y, NOISY),
    "ties": (Y, np.round(NOISY, 1)),
    "all scores equal": (Y, np.full(3000, 0.5)),
    "a few rows": (np.array([1.0, 0.0, 1.0, 0.0, 1.0]), np.array([0.9, 0.8, 0.8, 0.1, 0.3])),
    "a perfect ranking": (Y, np.where(Y == 1, 0.75, 0.25)),
}
OF_SCORES: dict[str, Callable[[FloatArray, FloatArray], Any]] = {
    "roc_auc": sklearn.roc_auc_score,
    "average_precision": sklearn.average_precision_score,
    "brier": sklearn.brier_score_loss,
    "log_loss": sklearn.log_loss,
}
OF_DECISIONS: dict[str, Callable[[FloatArray, FloatArray], Any]] = {
    "accuracy": sklearn.accuracy_score,
    "balanced_accuracy": sklearn.balanced_accuracy_score,
    "precision": sklearn.precision_score,
    "recall": sklearn.recall_score,
    "f1": sklearn.f1_score,
}
OF_QUANTITIES: dict[str, Callable[[FloatArray, FloatArray], Any]] = {
    "r2": sklearn.r2_score,
    "mae": sklearn.mean_absolute_error,
    "rmse": sklearn.root_mean_squared_error,
}


def estimate(metric: str, y: FloatArray, p: FloatArray, threshold: float = 0.5) -> float:
    found = METRICS[metric].value(y, p, threshold=threshold, confidence=0.95)
    linear = METRICS[metric].to_first_order(y, p, threshold=threshold)
    assert found is not None
    assert linear is not None
    assert linear.estimate == pytest.approx(found.estimate, abs=1e-12)
    assert float(linear.rows.mean()) == pytest.approx(0, abs=1e-9)
    return found.estimate


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("metric", OF_SCORES)
def test_metric_of_scores__is_scikit_learns(metric: str, sample: str) -> None:
    y, p = SAMPLES[sample]

    assert estimate(metric, y, p) == pytest.approx(float(OF_SCORES[metric](y, p)), abs=1e-9)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("threshold", [0.3, 0.5])
@pytest.mark.parametrize("metric", OF_DECISIONS)
def test_metric_of_decisions__is_scikit_learns(metric: str, threshold: float, sample: str) -> None:
    y, p = SAMPLES[sample]

    expected = float(OF_DECISIONS[metric](y, (p >= threshold).astype(float)))
    assert estimate(metric, y, p, threshold) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", OF_QUANTITIES)
@pytest.mark.parametrize("guess", [GUESS, np.round(GUESS, -1), np.full(3000, 40.0)], ids=["distinct", "ties", "equal"])
def test_metric_of_quantities__is_scikit_learns(metric: str, guess: FloatArray) -> None:
    assert estimate(metric, AMOUNT, guess) == pytest.approx(float(OF_QUANTITIES[metric](AMOUNT, guess)), abs=1e-9)


def test_specificity__is_the_recall_of_negatives() -> None:
    expected = sklearn.recall_score(Y, NOISY >= 0.4, pos_label=0)

    assert estimate("specificity", Y, NOISY, 0.4) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scores", [NOISY, np.round(NOISY, 1)], ids=["distinct", "ties"])
def test_calibration_bins__are_those_of_calibration_curve(scores: FloatArray) -> None:
    observed, predicted = calibration_curve(Y, scores, n_bins=15, strategy="quantile")
    bins = bins_of(Y, scores)

    assert bins is not None
    assert bins.observed == pytest.approx(observed, abs=1e-9)
    assert bins.predicted == pytest.approx(predicted, abs=1e-9)


def test_calibration_gap__is_the_distance_of_the_means() -> None:
    assert estimate("calibration_gap", Y, NOISY) == pytest.approx(abs(NOISY.mean() - Y.mean()), abs=1e-12)


def test_absolute_bias__is_the_distance_of_the_means() -> None:
    assert estimate("absolute_bias", AMOUNT, GUESS) == pytest.approx(abs(GUESS.mean() - AMOUNT.mean()), abs=1e-9)


ONE_CLASS = {"roc_auc", "average_precision", "balanced_accuracy", "recall", "precision", "f1"}


@pytest.mark.parametrize("metric", sorted(ONE_CLASS))
def test_metric__no_positive_outcome_and_nothing_acted_on__has_no_value(metric: str) -> None:
    assert METRICS[metric].value(np.zeros(500), np.full(500, 0.1), threshold=0.5, confidence=0.95) is None


def test_specificity__no_negative_outcome__has_no_value() -> None:
    assert METRICS["specificity"].value(np.ones(500), np.full(500, 0.1), threshold=0.5, confidence=0.95) is None


def test_r2__outcomes_all_the_same__has_no_value() -> None:
    assert METRICS["r2"].value(np.ones(50), np.arange(50.0), threshold=0.5, confidence=0.95) is None


@pytest.mark.parametrize("metric", ["brier", "log_loss", "accuracy", "calibration_gap", "ece"])
def test_metric__one_class__still_has_a_value_where_it_needs_no_other(metric: str) -> None:
    found = METRICS[metric].value(np.ones(500), np.linspace(0.4, 0.9, 500), threshold=0.5, confidence=0.95)

    assert found is not None
    assert found.low <= found.estimate <= found.high
