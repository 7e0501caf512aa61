import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from stats import metrics
from stats.interval import FloatArray


def sample(n: int = 2000, seed: int = 0, skill: float = 1.0) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=n)
    return (rng.uniform(size=n) < p).astype(float), np.clip(p * skill + rng.uniform(size=n) * (1 - skill), 0, 1)


def test_roc_auc__with_ties__equals_scikit_learn() -> None:
    y, p = sample()
    p = np.round(p, 1)
    auc = metrics.roc_auc(y, p)
    assert auc is not None
    assert auc.estimate == pytest.approx(roc_auc_score(y, p), abs=1e-12)


def test_roc_auc__interval__agrees_with_the_bootstrap() -> None:
    y, p = sample(n=800, seed=3)
    rng = np.random.default_rng(0)
    draws = [roc_auc_score(y[rows], p[rows]) for rows in rng.integers(0, len(y), size=(500, len(y)))]
    auc = metrics.roc_auc(y, p, 0.95)
    assert auc is not None
    assert (auc.low, auc.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.006)


def test_roc_auc__one_class_only__has_no_answer() -> None:
    assert metrics.roc_auc([1, 1, 1], [0.1, 0.2, 0.3]) is None


def test_roc_auc__perfect__stays_inside_the_unit_interval() -> None:
    auc = metrics.roc_auc([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert auc is not None
    assert (auc.estimate, auc.high) == (1.0, 1.0)


def test_roc_auc__labels_that_are_not_binary__are_refused() -> None:
    with pytest.raises(ValueError, match="y must hold 0 and 1"):
        metrics.roc_auc([0, 1, 2], [0.1, 0.2, 0.3])


def test_paired_auc_difference__same_scores__is_exactly_zero() -> None:
    y, p = sample()
    difference = metrics.paired_auc_difference(y, p, p)
    assert difference is not None
    assert (difference.estimate, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_paired_auc_difference__correlated_scores__is_tighter_than_the_unpaired() -> None:
    y, p = sample(n=3000, seed=5)
    noisy = np.clip(p + np.random.default_rng(1).normal(scale=0.05, size=len(p)), 0, 1)
    paired = metrics.paired_auc_difference(y, noisy, p)
    alone = metrics.roc_auc(y, p)
    assert paired is not None
    assert alone is not None
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_paired_auc_difference__equal_skill__covers_zero_as_often_as_said() -> None:
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=400)
        y = (truth + rng.normal(size=400) > 0).astype(float)
        difference = metrics.paired_auc_difference(y, truth + rng.normal(size=400), truth + rng.normal(size=400), 0.9)
        assert difference is not None
        covered += difference.low <= 0 <= difference.high
    assert 0.85 <= covered / 300 <= 0.95


def test_brier_and_log_loss__equal_scikit_learn() -> None:
    y, p = sample(seed=2)
    brier, loss = metrics.brier(y, p), metrics.log_loss(y, p)
    assert brier is not None
    assert loss is not None
    assert brier.estimate == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert loss.estimate == pytest.approx(sklearn_log_loss(y, p), abs=1e-9)


def test_brier_difference__better_candidate__is_below_zero() -> None:
    y, p = sample(seed=4)
    worse = np.full_like(p, 0.5)
    difference = metrics.brier_difference(y, p, worse)
    assert difference is not None
    assert difference.high < 0


def test_ece__calibrated__is_near_zero_where_the_plug_in_is_not() -> None:
    y, p = sample(n=3000, seed=6)
    gap = metrics.ece(y, p)
    assert gap is not None
    assert gap < 0.015


def test_ece__constant_shift__is_found() -> None:
    y, p = sample(n=5000, seed=7)
    gap = metrics.ece(y, np.clip(p * 0.6, 0, 1))
    assert gap is not None
    assert gap == pytest.approx(0.2, abs=0.03)


def test_recall__worked_by_hand() -> None:
    recall = metrics.recall([1, 1, 1, 0], [0.9, 0.6, 0.1, 0.9], threshold=0.5)
    assert recall is not None
    assert recall.estimate == pytest.approx(2 / 3)


def test_rmse__worked_by_hand() -> None:
    rmse = metrics.rmse([0.0, 0.0, 0.0], [3.0, 0.0, 0.0])
    assert rmse is not None
    assert rmse.estimate == pytest.approx(3**0.5)


def test_metrics__lengths_differ__are_refused() -> None:
    with pytest.raises(ValueError, match="y has 2 rows, p has 3"):
        metrics.brier([0, 1], [0.1, 0.2, 0.3])


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_metrics__no_rows__have_no_answer(name: str) -> None:
    assert metrics.METRICS[name].measure([], [], 0.95) is None
