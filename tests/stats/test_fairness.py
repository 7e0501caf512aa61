import numpy as np
import pytest

from stats.fairness import gaps, group_table

# a: 4 positives of 8, selects 3 of them and 1 negative; b: 2 positives of 8, selects 1 and 0
GROUP = ["a"] * 8 + ["b"] * 8
Y = [1, 1, 1, 1, 0, 0, 0, 0] + [1, 1, 0, 0, 0, 0, 0, 0]
SELECTED = [1, 1, 1, 0, 1, 0, 0, 0] + [1, 0, 0, 0, 0, 0, 0, 0]


def test_group_table__worked_by_hand() -> None:
    first, second = group_table(GROUP, Y, SELECTED)
    assert (first.group, first.n, first.base_rate, first.selection_rate) == ("a", 8, 0.5, 0.5)
    assert (first.tpr, first.fpr) == (0.75, 0.25)
    assert (second.tpr, second.fpr, second.selection_rate) == (0.5, 0.0, 0.125)


def test_gaps__worked_by_hand__equal_fairlearns_definitions() -> None:
    found = gaps(group_table(GROUP, Y, SELECTED), minimum_group=1, minimum_positives=1, confidence=0.9)
    points = [
        found.demographic_parity_difference,
        found.demographic_parity_ratio,
        found.equal_opportunity_difference,
        found.equalized_odds_difference,
    ]
    assert [point.estimate for point in points if point] == [0.375, 0.25, 0.25, 0.25]


def test_gaps__small_group__is_listed_and_not_judged() -> None:
    table = group_table([*GROUP, "tiny"], [*Y, 1], [*SELECTED, 0])
    found = gaps(table, minimum_group=5, minimum_positives=1, confidence=0.9)
    assert found.too_small == ("tiny",)
    assert found.judged == ("a", "b")


def test_gaps__one_group_left__has_no_answer() -> None:
    found = gaps(group_table(GROUP, Y, SELECTED), minimum_group=8, minimum_positives=3, confidence=0.9)
    assert found.equal_opportunity_difference is None


def test_gaps__interval__agrees_with_a_bootstrap_over_rows() -> None:
    rng = np.random.default_rng(0)
    group = rng.choice(["a", "b"], size=2000)
    y = rng.uniform(size=2000) < 0.4
    selected = rng.uniform(size=2000) < np.where(group == "a", 0.5, 0.4)
    draws = []
    for rows in rng.integers(0, 2000, size=(400, 2000)):
        rates = [selected[rows][group[rows] == name].mean() for name in "ab"]
        draws.append(abs(rates[0] - rates[1]))
    found = gaps(group_table(group, y, selected), minimum_group=200, minimum_positives=30, confidence=0.9)
    parity = found.demographic_parity_difference
    assert parity is not None
    assert (parity.low, parity.high) == pytest.approx(tuple(np.quantile(draws, [0.05, 0.95])), abs=0.01)


def test_group_table__lengths_differ__are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        group_table(["a"], [1, 0], [1, 0])
