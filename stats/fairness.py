"""How decisions differ between groups, with intervals from counts.

Redrawing the (group, y, decision) cells from a multinomial equals a bootstrap over rows, at a ten-thousandth of the
cost. Definitions follow fairlearn: demographic parity (Agarwal et al. 2018), equal opportunity and equalised odds
(Hardt et al. 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.interval import FloatArray, Interval


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

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class FairnessGaps:
    """Largest differences between the groups that are large enough to judge; None where fewer than two are."""

    demographic_parity_difference: Interval | None
    demographic_parity_ratio: Interval | None
    equal_opportunity_difference: Interval | None
    equalized_odds_difference: Interval | None
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


def gaps(
    table: Sequence[GroupRow],
    *,
    minimum_group: int,
    minimum_positives: int,
    confidence: float,
    draws: int = 5000,
    seed: int = 0,
) -> FairnessGaps:
    """Differences between groups with percentile intervals; groups under a minimum are listed, not judged."""
    large = [row for row in table if row.n >= minimum_group and row.positives >= minimum_positives]
    small = tuple(row.group for row in table if row not in large)
    if len(large) < 2:
        return FairnessGaps(None, None, None, None, tuple(row.group for row in large), small)
    observed = np.array([row.cells for row in large], dtype=np.float64)
    total = int(observed.sum())
    redrawn = np.random.default_rng(seed).multinomial(total, (observed / total).ravel(), size=draws)
    samples = redrawn.reshape(draws, len(large), 4).astype(np.float64)
    point, drawn = _differences(observed[None]), _differences(samples)

    def interval(name: str) -> Interval | None:
        values = drawn[name][np.isfinite(drawn[name])]
        if not np.isfinite(point[name][0]) or len(values) < draws / 2:
            return None
        tail = (1 - confidence) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
        return Interval(float(point[name][0]), float(low), float(high), total, confidence)

    judged = tuple(row.group for row in large)
    return FairnessGaps(
        interval("parity"), interval("parity_ratio"), interval("opportunity"), interval("odds"), judged, small
    )


def _differences(cells: FloatArray) -> dict[str, FloatArray]:
    """Group differences for cells of shape (draws, groups, 4); NaN where a group lacks the rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        selection = (cells[..., 1] + cells[..., 3]) / cells.sum(axis=-1)
        tpr = cells[..., 3] / (cells[..., 2] + cells[..., 3])
        fpr = cells[..., 1] / (cells[..., 0] + cells[..., 1])
        ratio = selection.min(axis=-1) / selection.max(axis=-1)
    opportunity, false_alarms = np.ptp(tpr, axis=-1), np.ptp(fpr, axis=-1)
    return {
        "parity": np.ptp(selection, axis=-1),
        "parity_ratio": ratio,
        "opportunity": opportunity,
        "odds": np.maximum(opportunity, false_alarms),
    }
