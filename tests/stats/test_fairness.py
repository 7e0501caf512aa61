from typing import Any

import fairlearn.metrics as fairlearn
import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from sklearn.metrics import recall_score

from stats.fairness import RATES, Gap, Measure, gap, group_table
from stats.interval import wilson

# a: 4 positives of 8, selects 3 of them and 1 negative; b: 2 positives of 8, selects 1 and 0
GROUP = ["a"] * 8 + ["b"] * 8
Y = [1, 1, 1, 1, 0, 0, 0, 0] + [1, 1, 0, 0, 0, 0, 0, 0]
SELECTED = [1, 1, 1, 0, 1, 0, 0, 0] + [1, 0, 0, 0, 0, 0, 0, 0]
MEASURES: tuple[Measure, ...] = tuple(RATES)
OPPORTUNITY: Measure = "equal_opportunity_difference"
PARITY: Measure = "demographic_parity_difference"


def gap_of(group: Any, y: Any, selected: Any, measure: Measure = OPPORTUNITY, **asked: Any) -> Gap:
    asked = {"minimum_group": 1, "minimum_positives": 1, "confidence": 0.95, "draws": 1000} | asked
    return gap(group_table(group, y, selected), measure, **asked)


def shares(measure: Measure = PARITY, *, among: int, **selected: int) -> Gap:
    """Groups of equal size, of which so many are selected; half of each is positive, alike."""
    group = np.repeat(list(selected), among)
    chosen = np.concatenate([np.arange(among) < each for each in selected.values()])
    return gap_of(group, np.tile(np.arange(among) % 2, len(selected)), chosen, measure)


def test_group_table__worked_by_hand() -> None:
    first, second = group_table(GROUP, Y, SELECTED)
    assert (first.group, first.n, first.base_rate, first.selection_rate) == ("a", 8, 0.5, 0.5)
    assert (first.tpr, first.fpr) == (0.75, 0.25)
    assert (second.tpr, second.fpr, second.selection_rate) == (0.5, 0.0, 0.125)


@pytest.mark.parametrize(("measure", "expected"), list(zip(MEASURES, [0.375, 0.25, 0.25, 0.25], strict=True)))
def test_gap__worked_by_hand(measure: Measure, expected: float) -> None:
    found = gap_of(GROUP, Y, SELECTED, measure).interval

    assert found is not None
    assert found.estimate == expected


@pytest.mark.parametrize("groups", [2, 3, 8])
@pytest.mark.parametrize("measure", MEASURES)
def test_gap__is_fairlearns(measure: Measure, groups: int) -> None:
    random = np.random.default_rng(groups)
    group = random.choice([f"group {each}" for each in range(groups)], 3000)
    y = random.random(3000) < 0.3
    selected = random.random(3000) < 0.2 + 0.3 * y + 0.1 * (group == "group 1")
    found = gap_of(group, y, selected, measure).interval
    expected = getattr(fairlearn, measure)(y, selected, sensitive_features=group)

    assert found is not None
    assert found.estimate == pytest.approx(expected, abs=1e-9)
    assert found.low <= found.estimate <= found.high


def test_group_table__rates_are_fairlearns_by_group() -> None:
    random = np.random.default_rng(3)
    group, y = random.choice(list("abc"), 2000), random.random(2000) < 0.4
    selected = random.random(2000) < 0.5
    measured = {
        "selection_rate": fairlearn.selection_rate,
        "tpr": recall_score,
        "fpr": fairlearn.false_positive_rate,
    }
    by_group = MetricFrame(metrics=measured, y_true=y, y_pred=selected, sensitive_features=group).by_group

    for row in group_table(group, y, selected):
        for name in measured:
            assert getattr(row, name) == pytest.approx(by_group.loc[row.group, name], abs=1e-9)


def test_group_row__intervals__are_wilsons_of_each_rate() -> None:
    row = group_table(GROUP, Y, SELECTED)[0]
    expected = wilson(3, 4, confidence=0.9)

    assert expected is not None
    assert row.intervals(0.9)["tpr"] == [expected.low, expected.high]
    assert sorted(row.intervals(0.9)) == ["base_rate", "fpr", "selection_rate", "tpr"]


def test_gap__small_group__is_listed_and_not_judged() -> None:
    found = gap_of([*GROUP, "tiny"], [*Y, 1], [*SELECTED, 0], minimum_group=5)

    assert found.too_small == ("tiny",)
    assert found.judged == ("a", "b")


def test_gap__one_group_left__has_no_answer() -> None:
    assert gap_of(GROUP, Y, SELECTED, minimum_group=8, minimum_positives=3).interval is None


@pytest.mark.parametrize("measure", [OPPORTUNITY, "equalized_odds_difference"])
def test_gap__group_without_positives__is_not_a_gap_of_zero(measure: Measure) -> None:
    found = gap_of(["a"] * 50 + ["b"] * 50, [0, 1] * 25 + [0] * 50, [1] * 50 + [0] * 50, measure, minimum_positives=1)

    assert found.interval is None
    assert found.too_small == ("b",)


def test_gap__group_without_negatives__has_no_odds_to_equalize_but_an_opportunity() -> None:
    rows = (["a"] * 50 + ["b"] * 50, [0, 1] * 25 + [1] * 50, [1] * 50 + [0] * 50)
    odds, opportunity = gap_of(*rows, "equalized_odds_difference").interval, gap_of(*rows).interval

    assert odds is None
    assert opportunity is not None
    assert opportunity.estimate == 1.0


def test_gap__few_positives__do_not_hide_a_group_from_a_comparison_of_selections() -> None:
    found = gap_of(["a"] * 500 + ["b"] * 500, [1, 0] * 250 + [0] * 500, [0] * 500 + [1] * 500, PARITY)

    assert found.judged == ("a", "b")


def test_ratio__nobody_selected__is_none() -> None:
    assert gap_of(GROUP, Y, [0] * 16, "demographic_parity_ratio").interval is None


def test_gap__large_groups__agrees_with_the_pooled_test_and_the_widest_difference() -> None:
    """600 and 500 selected of 1,000 each: 0.1 ± 0.043 by the normal interval; the lower bound is one of 2.5 %."""
    found = shares(among=1000, a=600, b=500).interval

    assert found is not None
    assert found.high == pytest.approx(0.143, abs=0.002)
    assert found.low == pytest.approx(0.1 - 2.24 * 0.0222, abs=0.004)


def test_ratio__large_groups__agrees_with_the_interval_of_a_relative_risk() -> None:
    found = shares("demographic_parity_ratio", among=1000, a=600, b=450).interval

    assert found is not None
    assert found.estimate == 0.75
    assert found.low == pytest.approx(0.75 * np.exp(-1.96 * np.sqrt(0.4 / 600 + 0.55 / 450)), abs=0.003)
    assert 0.81 < found.high < 0.84


@pytest.mark.parametrize("size", [5, 20, 200, 2000])
@pytest.mark.parametrize("groups", [2, 8])
def test_gap__groups_alike__seldom_looks_like_one(size: int, groups: int) -> None:
    random = np.random.default_rng(size)
    names = np.repeat([f"g{each}" for each in range(groups)], size)
    wrong = 0
    for _ in range(60):
        selected = random.random(len(names)) < 0.3
        found = gap_of(names, selected, selected, PARITY, draws=400).interval
        assert found is not None
        wrong += found.low > 0.05
    assert wrong <= 3


@pytest.mark.parametrize("measure", MEASURES[:1] + MEASURES[2:])
def test_gap__of_a_fifth__is_seen(measure: Measure) -> None:
    random = np.random.default_rng(0)
    group = np.repeat(list("abcd"), 1500)
    y = random.random(6000) < 0.4
    found = gap_of(group, y, random.random(6000) < 0.4 + 0.2 * (group == "d"), measure).interval

    assert found is not None
    assert found.low > 0.1


def test_gap__same_seed__gives_the_same_interval() -> None:
    assert gap_of(GROUP, Y, SELECTED, seed=4) == gap_of(GROUP, Y, SELECTED, seed=4)


def test_group_table__lengths_differ__are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        group_table(["a"], [1, 0], [1, 0])
