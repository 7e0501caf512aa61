"""How well one feature alone ranks the label, against scikit-learn and scipy."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit, logit
from scipy.stats import norm, spearmanr
from sklearn.metrics import roc_auc_score

from gates.judge.leakage import interval
from gates.measure.leakage import alone, strength

RANDOM = np.random.default_rng(5)
Y = (RANDOM.random(3000) < 0.3).astype(float)
X = Y + RANDOM.normal(0, 1, 3000)


def column(values: object) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values)])


def test_strength__binary__is_the_auc_in_the_better_direction() -> None:
    told, turned = strength(Y, X, is_binary=True), strength(Y, -X, is_binary=True)

    assert told is not None
    assert told["estimate"] == pytest.approx(roc_auc_score(Y, X), abs=1e-12)
    assert turned == pytest.approx(told)


def test_strength__its_interval__is_delongs_on_the_logit_scale() -> None:
    told = strength(Y, X, is_binary=True)
    assert told is not None
    above = (X[Y == 1][:, None] > X[Y == 0][None, :]).astype(float)
    variance = above.mean(axis=1).var() / len(above) + above.mean(axis=0).var() / above.shape[1]
    auc = above.mean()

    for confidence in (0.8, 0.95, 0.99):
        found = interval(told, "auc", confidence)
        margin = norm.ppf(0.5 + confidence / 2) * np.sqrt(variance) / (auc * (1 - auc))
        expected = expit(logit(auc) - margin), expit(logit(auc) + margin)
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)


def test_strength__regression__is_spearmans_rho_squared() -> None:
    label = RANDOM.normal(size=500)
    rising = label**3 + RANDOM.normal(size=500)
    told = strength(label, rising, is_binary=False)

    assert told is not None
    assert told["estimate"] == pytest.approx(spearmanr(label, rising).statistic ** 2, abs=1e-12)


def test_strength__constant__is_nothing() -> None:
    told = strength(Y, np.ones(3000), is_binary=True)

    assert told is not None
    assert told["estimate"] == 0.5
    assert strength(RANDOM.normal(size=500), np.ones(500), is_binary=False) is None


def test_alone__rows_without_a_value__are_left_out_of_the_order() -> None:
    gone = RANDOM.random(3000) < 0.5
    told = alone(Y, column(pa.array(X, mask=gone)), is_binary=True)

    assert told["order"]["n"] == int((~gone).sum())
    assert told["order"]["estimate"] == pytest.approx(roc_auc_score(Y[~gone], X[~gone]))
    assert told["levels"]["n"] == 3000


def test_alone__text__is_known_by_its_levels_only() -> None:
    told = alone(
        Y, column(np.where(RANDOM.random(3000) < 0.9, np.where(Y == 1, "a", "b"), "c").tolist()), is_binary=True
    )

    assert set(told) == {"levels"}
    assert told["levels"]["estimate"] > 0.9


def test_alone__nothing_but_nulls__tells_nothing() -> None:
    told = alone(Y, column(pa.nulls(3000, pa.float64())), is_binary=True)

    assert "order" not in told
    assert told["levels"]["estimate"] == pytest.approx(0.5, abs=0.05)


def test_alone__times__have_an_order() -> None:
    later = pa.array((X * 1e9).astype(np.int64), pa.timestamp("us", "UTC"))

    assert alone(Y, column(later), is_binary=True)["order"]["estimate"] == pytest.approx(roc_auc_score(Y, X), abs=1e-6)


@pytest.mark.parametrize("infinite", [float("inf"), float("-inf")])
@pytest.mark.parametrize("is_binary", [True, False])
def test_alone__infinite_values__count_as_missing(infinite: float, is_binary: bool) -> None:
    holes = np.arange(len(X)) % 10 == 0

    found = alone(Y, column(np.where(holes, infinite, X)), is_binary=is_binary)

    assert found == alone(Y, column(np.where(holes, np.nan, X)), is_binary=is_binary)
    assert found["order"]["n"] == 2700


def test_alone__nothing_but_infinite_values__tells_nothing_of_the_order() -> None:
    assert set(alone(Y, column(np.full(len(X), np.inf)), is_binary=True)) == {"levels"}
