from typing import Any

import pytest

from registry.measured import MeasureError, check, measures, on_dataset

DATASET = "d" * 64


def test_measures__numbers_and_groups__are_listed_with_what_is_missing() -> None:
    said = {
        "rows": 10,
        "validation": {"auc": {"estimate": 0.7, "low": 0.6, "high": 0.8, "n": 50, "dataset": DATASET}, "note": "x"},
        "brier": {"value": 0.1},
        "by_hour": [1, 2],
        "nothing": None,
    }
    found = {each.name: each for each in measures(said)}
    assert list(found) == ["rows", "validation.auc", "brier"]
    auc = found["validation.auc"]
    assert (auc.value, auc.low, auc.high, auc.n, auc.dataset, auc.is_verifiable) == (0.7, 0.6, 0.8, 50, DATASET, True)
    assert found["brier"].missing == found["rows"].missing == "no interval, no dataset"
    assert str(auc) == "0.7 [0.6, 0.8], 50 rows"


@pytest.mark.parametrize(
    "said",
    [
        {"value": 0.7, "low": 0.8, "high": 0.6},
        {"value": 0.9, "low": 0.6, "high": 0.8},
        {"value": 0.5, "low": 0.6},
        {"value": "0.7"},
        {"value": True},
        {"value": float("nan")},
        {"value": 0.7, "low": float("-inf"), "high": 1.0},
        {"value": 0.7, "estimate": 0.8},
        {"value": None, "low": 0.1, "high": 0.2},
        {"value": 0.7, "n": 0},
        {"value": 0.7, "n": 1.5},
        {"value": 0.7, "dataset": 3},
        {"value": 0.7, "level": 95},
        float("inf"),
    ],
)
def test_check__contradiction__is_refused_by_name(said: Any) -> None:
    with pytest.raises(MeasureError) as refusal:
        check({"validation": {"auc": said}})
    assert set(refusal.value.errors) == {"validation.auc"}


def test_check__what_is_no_measure__is_kept_as_it_is_said() -> None:
    check({"auc": 0.7, "text": "x", "list": [1], "none": None, "deep": {"er": {"value": 1, "low": 1, "high": 1}}})


def test_on_dataset__stated_measures__name_it_unless_they_name_another() -> None:
    said = {"rows": 3, "in": {"auc": {"value": 0.7}, "other": {"value": 1, "dataset": "x"}}}
    assert on_dataset(said, DATASET) == {
        "rows": 3,
        "in": {"auc": {"dataset": DATASET, "value": 0.7}, "other": {"value": 1, "dataset": "x"}},
    }
