"""Curves of both versions: few points, intervals around them, scikit-learn's values."""

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from gates.frozen import Json
from gates.measure.curves import curves
from stats.interval import FloatArray
from tests.gates.holdouts import late_flights

Y, P = late_flights(8000)
_, POOR = late_flights(8000, skill=0.4)


def drawn(y: FloatArray = Y, p: FloatArray = P, champion: FloatArray | None = None) -> Json:
    found = curves("binary_classification", y, p, champion, threshold=0.4, confidence=0.95)
    again: Json = json.loads(json.dumps(found, allow_nan=False))
    return again


def test_curves__of_two_versions__are_small_and_of_both() -> None:
    found = drawn(champion=POOR)

    assert sorted(found) == ["calibration", "confidence", "pr", "roc", "rows", "scores", "threshold"]
    for kind in ("roc", "pr", "calibration"):
        assert sorted(found[kind]) == ["candidate", "champion"]
        for curve in found[kind].values():
            assert {len(values) for values in curve.values()} < set(range(5, 101))


@pytest.mark.parametrize("p", [P, np.round(P, 1)], ids=["distinct", "ties"])
def test_roc__points__lie_on_scikit_learns_curve(p: FloatArray) -> None:
    curve = drawn(p=p)["roc"]["candidate"]
    fpr, tpr, _ = roc_curve(Y, p, drop_intermediate=False)
    known = set(zip(np.round(fpr, 9), np.round(tpr, 9), strict=True))

    assert set(zip(np.round(curve["fpr"], 9), np.round(curve["tpr"], 9), strict=True)) <= known
    assert (curve["fpr"][0], curve["tpr"][0], curve["fpr"][-1], curve["tpr"][-1]) == (0, 0, 1, 1)
    assert all(low <= rate <= high for low, rate, high in zip(curve["low"], curve["tpr"], curve["high"], strict=True))


def test_precision_recall__everybody_acted_on__has_the_base_rate() -> None:
    curve = drawn()["pr"]["candidate"]

    assert curve["recall"][-1] == 1
    assert curve["precision"][-1] == pytest.approx(Y.mean())


def test_calibration__bins__are_scikit_learns_with_intervals() -> None:
    curve = drawn()["calibration"]["candidate"]
    observed, predicted = calibration_curve(Y, P, n_bins=15, strategy="quantile")

    assert curve["observed"] == pytest.approx(observed)
    assert curve["predicted"] == pytest.approx(predicted)
    assert all(
        low < rate < high for low, rate, high in zip(curve["low"], curve["observed"], curve["high"], strict=True)
    )
    assert sum(curve["n"]) == 8000


def test_scores__histogram__counts_every_row_by_outcome() -> None:
    found = drawn(champion=POOR)["scores"]

    assert len(found["edges"]) == len(found["candidate"]["negatives"]) + 1
    assert sum(found["champion"]["positives"]) == Y.sum()


def test_curves__one_class_only__have_no_roc() -> None:
    assert sorted(drawn(y=np.ones(8000))) == ["calibration", "confidence", "rows", "scores", "threshold"]


def test_curves__rows_the_champion_could_not_score__are_left_out_of_its_own() -> None:
    holed = np.where(np.arange(8000) < 500, np.nan, POOR)
    found = drawn(champion=holed)["calibration"]

    assert (sum(found["candidate"]["n"]), sum(found["champion"]["n"])) == (8000, 7500)


def test_curves__no_rows__are_none() -> None:
    empty = np.array([])

    assert sorted(drawn(empty, empty)) == ["confidence", "rows", "threshold"]


def test_curves__regression__shows_residuals_and_what_came_by_what_was_predicted() -> None:
    random = np.random.default_rng(0)
    amount = random.normal(40, 12, 3000)
    guess = amount + random.normal(0, 5, 3000)
    found = curves("regression", amount, guess, None, threshold=0.5, confidence=0.95)
    curve = found["predicted_vs_actual"]["candidate"]

    assert sorted(found) == ["confidence", "predicted_vs_actual", "residuals", "rows", "threshold"]
    assert sum(found["residuals"]["candidate"]) == 3000
    assert all(
        low < mean < high for low, mean, high in zip(curve["low"], curve["observed"], curve["high"], strict=True)
    )
