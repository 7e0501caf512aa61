"""The same answers as the whole-array functions of this package, from sums that new rows are added to.

A look over a few thousand new rows must not read the hundred thousand before them again. Each accumulator takes rows in
the order of event time, in as many pieces as one likes, and answers what its whole-array counterpart answers for all of
them together (to rounding). Strata and entities are numbers 0, 1, … here; ``Numbering`` gives labels theirs.

======================  ==============================================================
``RunningMeans``        ``mean_difference``
``RunningRates``        ``rate_ratio``
``RunningRanks``        ``rank_shift``, and how far the two distributions lie apart
``RunningSplit``        ``sample_ratio``
======================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stats.interval import FloatArray
from stats.sequential.counts import RateRatio, Tally, split_evidence
from stats.sequential.distance import Distance, SortedArms
from stats.sequential.means import (
    MINIMUM_ENTITIES,
    TIGHTEST_AT,
    Estimate,
    MeanDifference,
    Sizes,
    measured,
    smaller_arms,
    standard_error,
)
from stats.sequential.mixture import log_mean
from stats.sequential.ranks import BINS, PSEUDO_ROWS, STAKES, RankShift, mean_distance
from stats.sequential.rows import BoolArray, IntArray, undecided

Kind = TypeVar("Kind", bound=np.generic)

BLOCK = 256
"""Rows whose ranks among each other are found pair by pair."""
LARGEST = 1e100
"""Values beyond this many units would overflow when squared: the unit grows."""


class Numbering:
    """Numbers 0, 1, … for labels of any hashable kind, in the order of their first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, labels: Iterable[Hashable]) -> IntArray:
        numbers = self._numbers
        return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


class Firsts:
    """Which rows are the first of their entity: a sticky entity's arm is random only once."""

    def __init__(self) -> None:
        self._seen = np.zeros(0, dtype=np.bool_)

    def among(self, entity: IntArray) -> BoolArray:
        """True for rows whose entity neither came before in this array nor in any earlier one."""
        fresh = np.zeros(len(entity), dtype=np.bool_)
        if len(entity):
            self._seen = grown(self._seen, int(entity.max()) + 1)
            _, first = np.unique(entity, return_index=True)
            fresh[first] = ~self._seen[entity[first]]
            self._seen[entity] = True
        return fresh


class RunningMeans:
    """``mean_difference`` of all rows so far. ``in_both_arms`` as there.

    Per cell (stratum and arm) it keeps sums of values, squares and rows, and over entities the sums of products of what
    an entity has in any two cells: from these the entity-robust variance around any mean follows without the rows.
    """

    def __init__(self, *, in_both_arms: bool = False) -> None:
        self.in_both_arms = in_both_arms
        self._origin: float | None = None
        self._unit = 1.0
        self._largest = 0.0
        self._entity_sum = np.zeros((0, 0))  # entities x cells
        self._entity_rows = np.zeros((0, 0))
        self._sum_sum = np.zeros((0, 0))  # cells x cells: over entities, sum in one by sum in the other
        self._sum_rows = np.zeros((0, 0))
        self._rows_rows = np.zeros((0, 0))
        self._sum = np.zeros(0)
        self._squares = np.zeros(0)
        self._rows = np.zeros(0)
        self._entities = np.zeros(0)

    def update(self, values: FloatArray, canary: BoolArray, stratum: IntArray, entity: IntArray) -> None:
        """Add finite values, larger is worse. A stratum is a ramp step at one share of the traffic."""
        if not len(values):
            return
        x = self._scaled(values)
        cell = 2 * stratum + canary
        self._room(2 * (int(stratum.max()) + 1), int(entity.max()) + 1)
        cells = len(self._sum)
        self._sum += np.bincount(cell, weights=x, minlength=cells)
        self._squares += np.bincount(cell, weights=x * x, minlength=cells)
        self._rows += np.bincount(cell, minlength=cells)

        touched, place = np.unique(entity, return_inverse=True)
        pair = place * cells + cell
        shape = (len(touched), cells)
        more = np.bincount(pair, weights=x, minlength=len(touched) * cells).reshape(shape)
        more_rows = np.bincount(pair, minlength=len(touched) * cells).reshape(shape).astype(np.float64)
        had, had_rows = self._entity_sum[touched], self._entity_rows[touched]
        self._entities += ((had_rows == 0) & (more_rows > 0)).sum(axis=0)
        mixed = had.T @ more
        self._sum_sum += mixed + mixed.T + more.T @ more
        self._sum_rows += had.T @ more_rows + more.T @ (had_rows + more_rows)
        mixed = had_rows.T @ more_rows
        self._rows_rows += mixed + mixed.T + more_rows.T @ more_rows
        self._entity_sum[touched] = had + more
        self._entity_rows[touched] = had_rows + more_rows

    def measure(
        self,
        *,
        tolerance: float = 0.0,
        harm_from: float | None = None,
        alpha: float,
        tightest_at: float = TIGHTEST_AT,
        minimum: int = MINIMUM_ENTITIES,
        sign: float = 1.0,
    ) -> MeanDifference:
        """As ``mean_difference``; ``sign`` -1 measures the values with their sign turned."""
        counts = (int(self._rows[1::2].sum()), int(self._rows[0::2].sum()))
        found = self._estimate(sign, minimum)
        sizes = Sizes.of(harm_from, tolerance)
        return measured(found, self._scale, counts, sizes, alpha=alpha, tightest_at=tightest_at, minimum=minimum)

    def means(self) -> tuple[float | None, float | None]:
        """Plain mean of the canary's and of the incumbent's values; None without any."""
        found = []
        for arm in (1, 0):
            rows = self._rows[arm::2].sum()
            found.append(float(self._sum[arm::2].sum() / rows * self._unit + (self._origin or 0.0)) if rows else None)
        return found[0], found[1]

    @property
    def _scale(self) -> float:
        return self._largest or 1.0

    def _scaled(self, values: FloatArray) -> FloatArray:
        """In units around an origin, so that neither squares overflow nor a common level swallows the differences."""
        if self._origin is None:
            self._origin = float(np.mean(values / len(values)) * len(values))
            self._unit = float(np.abs(values - self._origin).max()) or 1.0
        self._largest = max(self._largest, float(np.abs(values).max()))
        x: FloatArray = (values - self._origin) / self._unit
        top = float(np.abs(x).max())
        if top > LARGEST:
            self._unit *= top
            for sums in (self._entity_sum, self._sum, self._sum_rows, self._sum_sum, self._squares):
                sums /= top
            for squares in (self._sum_sum, self._squares):
                squares /= top
            x = x / top
        return x

    def _room(self, cells: int, entities: int) -> None:
        cells, before = max(cells, len(self._sum)), len(self._sum)
        if cells > before:
            more = cells - before
            for name in ("_sum", "_squares", "_rows", "_entities"):
                setattr(self, name, np.pad(getattr(self, name), (0, more)))
            for name in ("_sum_sum", "_sum_rows", "_rows_rows"):
                setattr(self, name, np.pad(getattr(self, name), ((0, more), (0, more))))
            for name in ("_entity_sum", "_entity_rows"):
                setattr(self, name, np.pad(getattr(self, name), ((0, 0), (0, more))))
        self._entity_sum = grown(self._entity_sum, entities)
        self._entity_rows = grown(self._entity_rows, entities)

    def _estimate(self, sign: float, minimum: int) -> Estimate | None:
        """As ``stats.sequential.means`` finds it, in units of ``_scale``."""
        usable = np.minimum(self._entities[0::2], self._entities[1::2]) >= 2
        if not usable.any():
            return None
        in_use = np.repeat(usable, 2)
        rows = np.where(in_use, self._rows, 0.0)
        mean = self._sum / np.maximum(self._rows, 1)
        incumbent, canary = rows[0::2], rows[1::2]
        weight = np.where(usable, canary * incumbent / np.maximum(canary + incumbent, 1), 0.0)
        weight /= weight.sum()
        difference = float(weight @ (mean[1::2] - mean[0::2]))

        arm_sign = np.tile([-1.0, 1.0], len(usable))
        entities = self._entities
        pull = arm_sign * np.repeat(weight, 2) / np.maximum(rows, 1) * np.sqrt(entities / np.maximum(entities - 1, 1))
        pull = np.where(in_use, pull, 0.0)
        # Over entities: product of what remains of an entity in two cells once the cells' means are taken away.
        crossed = self._sum_rows * mean
        remains = self._sum_sum - crossed - crossed.T + self._rows_rows * np.outer(mean, mean)
        variance = max(0.0, float(pull @ remains @ pull))
        by_cell = np.maximum(np.square(pull) * np.diag(remains), 0.0)
        own_degrees = np.maximum(rows**2 / np.maximum(np.diag(self._rows_rows), 1) - 1, 1)
        unequal = None if self.in_both_arms else smaller_arms(rows)
        error, degrees = standard_error(variance, by_cell, rows, own_degrees, unequal)

        spread = float(np.maximum(self._squares - self._sum * mean, 0.0)[in_use].sum())
        row_variance = spread / max(1.0, float(rows.sum()) - 2 * int(usable.sum()))
        ratio = self._unit / self._scale
        return Estimate(
            value=sign * difference * ratio,
            error=error * ratio,
            degrees=degrees,
            row_variance=row_variance * ratio * ratio,
            entities=min(self._entities_of(arm, usable, minimum) for arm in (0, 1)),
        )

    def _entities_of(self, arm: int, usable: BoolArray, enough: int) -> int:
        """Entities with rows in any usable cell of an arm; counted one by one only when they might not be enough."""
        cells = np.flatnonzero(usable) * 2 + arm
        most = int(self._entities[cells].max())
        if len(cells) == 1 or most >= enough:
            return most
        return int((self._entity_rows[:, cells] > 0).any(axis=1).sum())


class RunningRates:
    """``rate_ratio`` of all events so far; with an entity the first of each counts."""

    def __init__(self) -> None:
        self._at: dict[float, int] = {}
        self._canary = 0
        self._firsts = Firsts()

    def update(self, canary: BoolArray, share: FloatArray, entity: IntArray) -> None:
        """Add events: who caused each, and the canary's share at that moment."""
        kept = self._firsts.among(entity) & undecided(share)
        for value, count in zip(*np.unique(share[kept], return_counts=True), strict=True):
            self._at[float(value)] = self._at.get(float(value), 0) + int(count)
        self._canary += int(canary[kept].sum())

    def measure(self, *, tolerated_ratio: float, harm_from: float | None = None, alpha: float) -> RateRatio:
        return self.tally().measured(
            harm_from=tolerated_ratio if harm_from is None else harm_from, tolerated=tolerated_ratio, alpha=alpha
        )

    def evidence(self, *, harm_from: float, tolerated_ratio: float) -> tuple[float, float]:
        """``harm`` and ``no_harm`` of ``measure``, which seeks an interval too."""
        tally = self.tally()
        return float(tally.harm(np.array([harm_from]))[0]), float(tally.no_harm(np.array([tolerated_ratio]))[0])

    def tally(self) -> Tally:
        return Tally(
            np.array(list(self._at), dtype=np.float64),
            np.array(list(self._at.values()), dtype=np.float64),
            self._canary,
        )


class RunningSplit:
    """``sample_ratio`` of all rows so far; the first row of each entity counts."""

    def __init__(self) -> None:
        self._served: dict[float, list[int]] = {}
        self._firsts = Firsts()

    def update(self, canary: BoolArray, share: FloatArray, entity: IntArray) -> None:
        kept = self._firsts.among(entity) & undecided(share)
        for value in np.unique(share[kept]):
            there = kept & (share == value)
            both = self._served.setdefault(float(value), [0, 0])
            served = int(canary[there].sum())
            both[0] += served
            both[1] += int(there.sum()) - served

    def measure(self) -> float:
        served = np.array(list(self._served.values()), dtype=np.float64).reshape(-1, 2)
        return split_evidence(np.array(list(self._served), dtype=np.float64), served[:, 0], served[:, 1])

    def counts(self) -> tuple[int, int, float]:
        """Entities that the canary got, entities in all, and how many it should have got."""
        served = sum(both[0] for both in self._served.values())
        return served, sum(map(sum, self._served.values())), sum(share * sum(n) for share, n in self._served.items())


@dataclass(frozen=True)
class Distributions:
    """``shift``: evidence that the arms' distributions differ; ``distance``: by how much; ``n``: rows of the canary."""

    shift: RankShift
    distance: Distance
    n: int


class RunningRanks:
    """``rank_shift`` of the rows so far, of each entity the first, with the distance of the two distributions."""

    def __init__(self) -> None:
        self._firsts = Firsts()
        self._past = np.empty(0)
        self._location = np.zeros(len(STAKES))
        self._spread = np.zeros(len(STAKES))
        self._shape = np.zeros(len(PSEUDO_ROWS))
        self._bin_rows = np.zeros(BINS)
        self._bin_canary = np.zeros(BINS)
        self._bin_share = np.zeros(BINS)
        self._arms = SortedArms()

    def update(
        self, values: FloatArray, canary: BoolArray, share: FloatArray, stratum: IntArray, entity: IntArray
    ) -> None:
        kept = self._firsts.among(entity) & undecided(share)
        values, canary, share = values[kept], canary[kept], share[kept]
        if not len(values):
            return
        self._arms.update(values, canary, stratum[kept])
        low, high = self._ranks(values)
        surprise, worst = canary - share, np.maximum(share, 1 - share)
        for capital, direction in (
            (self._location, low + high - 1),
            (self._spread, 2 * mean_distance(low, high) - 1),
        ):
            capital += np.log1p(STAKES[:, None] * (direction * surprise / worst)).sum(axis=1)
        bins = np.minimum((low + high) / 2 * BINS, BINS - 1).astype(np.int64)
        self._gamble(bins, canary.astype(np.float64), share)

    def measure(self, *, alpha: float) -> Distributions:
        location, spread, shape = (float(log_mean(each)) for each in (self._location, self._spread, self._shape))
        combined = float(log_mean(np.array([location, spread, shape])))
        shift = RankShift(location, spread, shape, combined)
        return Distributions(shift, self._arms.distance(alpha=alpha), self._arms.canary_rows)

    def _ranks(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """As ``running_ranks``: against the sorted past by bisection, within a block pair by pair."""
        below, tied = np.empty(len(values)), np.empty(len(values))
        count = np.arange(1, len(values) + 1) + len(self._past)
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            rows = slice(start, start + len(block))
            order = np.argsort(block, kind="stable")
            ascending = block[order]  # sorted questions are answered much faster
            left = np.searchsorted(self._past, ascending, side="left")
            ties = np.searchsorted(self._past, ascending, side="right") - left
            earlier = _EARLIER[: len(block), : len(block)]
            below[rows] = np.count_nonzero((block[None, :] < block[:, None]) & earlier, axis=1)
            tied[rows] = np.count_nonzero((block[None, :] == block[:, None]) & earlier, axis=1)
            below[start + order] += left
            tied[start + order] += ties
            self._past = _merged(self._past, ascending, left)
        return below / count, (below + tied + 1) / count

    def _gamble(self, bins: IntArray, arm: FloatArray, share: FloatArray) -> None:
        """The plug-in bets of ``rank_shift``: each row at the ratio that its bin's earlier rows showed."""
        order = np.argsort(bins, kind="stable")
        sorted_bins, sorted_arm, sorted_share = bins[order], arm[order], share[order]
        earlier = self._bin_rows[sorted_bins] + _before(sorted_bins, np.ones(len(bins)))
        served = self._bin_canary[sorted_bins] + _before(sorted_bins, sorted_arm)
        given = self._bin_share[sorted_bins] + _before(sorted_bins, sorted_share)
        for place, weight in enumerate(PSEUDO_ROWS):
            expected = (given + weight * sorted_share) / (earlier + weight)
            canary = served + weight * expected
            incumbent = earlier - served + weight * (1 - expected)
            ratio = canary / incumbent * (1 - expected) / expected
            self._shape[place] += (sorted_arm * np.log(ratio) - np.log1p(sorted_share * (ratio - 1))).sum()
        self._bin_rows += np.bincount(bins, minlength=BINS)
        self._bin_canary += np.bincount(bins, weights=arm, minlength=BINS)
        self._bin_share += np.bincount(bins, weights=share, minlength=BINS)


_EARLIER = np.tri(BLOCK, k=-1, dtype=np.bool_)


def _before(groups: IntArray, weights: FloatArray) -> FloatArray:
    """For rows sorted by group: the sum of the weights of the earlier rows of the same group."""
    summed = np.cumsum(weights) - weights
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    before: FloatArray = summed - np.repeat(summed[starts], np.diff(starts, append=len(groups)))
    return before


def _merged(past: FloatArray, more: FloatArray, places: IntArray) -> FloatArray:
    """Two sorted arrays in one; ``places``: where in ``past`` each of ``more`` belongs."""
    whole = np.empty(len(past) + len(more))
    new = places + np.arange(len(more))
    old = np.ones(len(whole), dtype=np.bool_)
    old[new] = False
    whole[new] = more
    whole[old] = past
    return whole


def grown(array: NDArray[Kind], length: int) -> NDArray[Kind]:
    """With room for at least ``length`` entries, zeros at the end; it doubles, so that growing costs little."""
    if length <= len(array):
        return array
    room = np.zeros((max(length, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    room[: len(array)] = array
    return room
