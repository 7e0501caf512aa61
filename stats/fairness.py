"""How decisions differ between groups, with intervals from counts.

Definitions follow fairlearn: demographic parity (Agarwal et al. 2018), equal opportunity and equalised odds (Hardt et
al. 2016). The difference between the highest and the lowest of several noisy rates is never below zero, so its plug-in
lies above the truth and a percentile interval of it misses a true gap of zero almost always. Here the lower bound is
that of *all* differences between two groups at once, and the upper bound that of the widest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.interval import FloatArray, Interval, wilson, z_for
from stats.proportions import difference_z, ratio_z

DRAWS = 5000
STEPS = 40
Measure = Literal[
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equal_opportunity_difference",
    "equalized_odds_difference",
]
Rate = Literal["selection_rate", "tpr", "fpr"]
RATES: dict[Measure, tuple[Rate, ...]] = {
    "demographic_parity_difference": ("selection_rate",),
    "demographic_parity_ratio": ("selection_rate",),
    "equal_opportunity_difference": ("tpr",),
    "equalized_odds_difference": ("tpr", "fpr"),
}
"""Which rates of the groups a measure compares."""


@dataclass(frozen=True)
class GroupRow:
    """One group: its size, its base rate, how often it is acted on, and how often rightly (None without such rows)."""

    group: str
    n: int
    positives: int
    base_rate: float
    selection_rate: float
    tpr: float | None
    fpr: float | None
    cells: tuple[int, int, int, int]
    """Counts of (y=0, not selected), (y=0, selected), (y=1, not selected), (y=1, selected)."""

    @property
    def negatives(self) -> int:
        return self.n - self.positives

    def counts(self, rate: Rate) -> tuple[int, int]:
        """How many were selected, of how many, for one of the rates."""
        false_alarms, found = self.cells[1], self.cells[3]
        if rate == "tpr":
            return found, self.positives
        if rate == "fpr":
            return false_alarms, self.negatives
        return false_alarms + found, self.n

    def intervals(self, confidence: float) -> dict[str, list[float]]:
        """[low, high] of each rate that the group has, and of its base rate (Wilson 1927)."""
        counted = {rate: self.counts(rate) for rate in ("selection_rate", "tpr", "fpr")}
        found = {name: wilson(x, n, confidence=confidence) for name, (x, n) in counted.items()}
        found["base_rate"] = wilson(self.positives, self.n, confidence=confidence)
        return {name: [each.low, each.high] for name, each in found.items() if each is not None}

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Gap:
    """The largest difference (or lowest ratio) between the groups that can be judged; None where fewer than two can.

    Nor is there a ratio where nobody was selected. ``too_small`` names the groups left out for want of rows.
    """

    interval: Interval | None
    judged: tuple[str, ...]
    too_small: tuple[str, ...]


def group_table(group: Sequence[Any] | ArrayLike, y: ArrayLike, selected: ArrayLike) -> tuple[GroupRow, ...]:
    """Count outcomes and decisions by group, sorted by group name. ``y`` and ``selected`` are 0/1 of shape (n,)."""
    names = np.asarray(group).astype(str)
    outcomes, decisions = np.asarray(y).astype(int), np.asarray(selected).astype(int)
    if not len(names) == len(outcomes) == len(decisions):
        raise ValueError("group, y and selected must have the same length")
    groups, codes = np.unique(names, return_inverse=True)
    counts = np.bincount(codes * 4 + outcomes * 2 + decisions, minlength=4 * len(groups)).reshape(-1, 4)
    return tuple(_row(str(name), cells) for name, cells in zip(groups, counts, strict=True))


def _row(name: str, cells: NDArray[np.int64]) -> GroupRow:
    n = int(cells.sum())
    positives, negatives = int(cells[2] + cells[3]), int(cells[0] + cells[1])
    return GroupRow(
        group=name,
        n=n,
        positives=positives,
        base_rate=positives / n,
        selection_rate=float(cells[1] + cells[3]) / n,
        tpr=float(cells[3]) / positives if positives else None,
        fpr=float(cells[1]) / negatives if negatives else None,
        cells=(int(cells[0]), int(cells[1]), int(cells[2]), int(cells[3])),
    )


def gap(
    table: Sequence[GroupRow],
    measure: Measure,
    *,
    minimum_group: int,
    minimum_positives: int,
    confidence: float,
    draws: int = DRAWS,
    seed: int = 0,
) -> Gap:
    """One fairness measure between the groups that have enough rows of every kind that it looks at.

    A rate of positives takes ``minimum_positives`` of them, one of negatives as many of those: a group without any has
    no rate, and is never taken for one with a gap of zero. The point estimate is fairlearn's.

    ``low`` is the largest lower bound of a difference between two groups, by score tests (Farrington & Manning 1990)
    held against what the largest of all differences comes to when there is none: ``draws`` of the groups' counts
    under a common rate (for large groups Tukey's studentised range, Agresti et al. 2008). So it lies above a true gap
    in (1 − confidence)/2 of cases at most, at any size and number of groups. ``high`` is the largest upper bound of a
    difference, which already holds the widest one. For a ratio it is the other way round.
    """
    rates = RATES[measure]
    large = [row for row in table if row.n >= minimum_group and _speaks(row, rates, minimum_positives)]
    judged = tuple(row.group for row in large)
    small = tuple(row.group for row in table if row.group not in judged)
    if len(large) < 2:
        return Gap(None, judged, small)
    families = [_Family.of(large, rate) for rate in rates]
    if measure == "demographic_parity_ratio" and not families[0].selected.any():
        return Gap(None, judged, small)
    most = _largest_by_chance(families, confidence=confidence, draws=draws, seed=seed)
    interval = _ratio if measure == "demographic_parity_ratio" else _difference
    estimate, low, high = interval(families, most, z_for(confidence))
    return Gap(Interval(estimate, low, high, sum(row.n for row in large), confidence), judged, small)


def _speaks(row: GroupRow, rates: Sequence[Rate], minimum: int) -> bool:
    least = {"selection_rate": 1, "tpr": minimum, "fpr": minimum}
    return all(row.counts(rate)[1] >= max(least[rate], 1) for rate in rates)


@dataclass(frozen=True)
class _Family:
    """One rate of all groups, and every ordered pair of them: counts and sizes of shape (groups,), pairs (pairs,)."""

    selected: FloatArray
    n: FloatArray
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[GroupRow], rate: Rate) -> _Family:
        counts = np.array([row.counts(rate) for row in rows], dtype=np.float64)
        first, second = np.nonzero(~np.eye(len(rows), dtype=bool))
        return cls(counts[:, 0], counts[:, 1], first, second)

    @property
    def rates(self) -> FloatArray:
        return self.selected / self.n

    def statistics(
        self, test: Callable[[FloatArray, FloatArray, FloatArray, FloatArray, float], FloatArray], at: float
    ) -> FloatArray:
        """A score test of every ordered pair of groups against a difference or ratio."""
        one, other = self.first, self.second
        return test(self.selected[one], self.n[one], self.selected[other], self.n[other], at)


def _largest_by_chance(families: Sequence[_Family], *, confidence: float, draws: int, seed: int) -> float:
    """The quantile of the largest studentised difference among all groups and rates when all groups are alike.

    Groups are redrawn from counts under the common rate, so that it holds for groups of a few rows as well.
    """
    random = np.random.default_rng(seed)
    largest = np.zeros(draws)
    for family in families:
        common = float(family.selected.sum() / family.n.sum())
        drawn = random.binomial(family.n.astype(np.int64), common, size=(draws, len(family.n))).astype(np.float64)
        pooled = drawn.sum(axis=1) / family.n.sum()
        spread = np.sqrt(np.maximum(pooled * (1 - pooled), 1 / family.n.sum() ** 2))
        rates = drawn / family.n
        for one, other in zip(*np.triu_indices(len(family.n), k=1), strict=True):
            inverse = 1 / family.n[one] + 1 / family.n[other]
            apart = np.abs(rates[:, one] - rates[:, other]) - inverse / 2
            np.maximum(largest, apart / math.sqrt(inverse) / spread, out=largest)
    quantile = float(np.quantile(largest, (1 + confidence) / 2, method="higher"))
    return max(quantile, z_for(confidence))


def _difference(families: Sequence[_Family], most: float, z: float) -> tuple[float, float, float]:
    estimate = max(float(np.ptp(family.rates)) for family in families)

    def is_excluded(gap: float) -> bool:
        """Some two groups certainly differ by more."""
        return any(bool((family.statistics(difference_z, gap) > most).any()) for family in families)

    def is_possible(gap: float) -> bool:
        """Some two groups may still differ by so much."""
        return any(bool((family.statistics(difference_z, gap) > -z).any()) for family in families)

    return estimate, _last(is_excluded, 0.0, estimate), _last(is_possible, estimate, 1.0)


def _ratio(families: Sequence[_Family], most: float, z: float) -> tuple[float, float, float]:
    rates = families[0].rates
    estimate = float(rates.min() / rates.max())

    def is_certain(ratio: float) -> bool:
        """No two groups certainly stand in a lower ratio."""
        return not (families[0].statistics(ratio_z, ratio) < -most).any()

    def is_impossible(ratio: float) -> bool:
        """Every two groups certainly stand in a higher ratio."""
        return bool((families[0].statistics(ratio_z, ratio) > z).all())

    return estimate, _last(is_impossible, 0.0, estimate), _last(is_certain, estimate, 1.0)


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at ``low`` (if anywhere) stops to hold on the way to ``high``, by halving."""
    if holds(high):
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
