"""Values that become known after their row was served: outcomes and business values, counted once they have matured."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rollout.analysis.rows import BoolArray, FloatArray
from stats.sequential import MeanDifference
from stats.sequential.running import RunningMeans

IntArray = NDArray[np.int64]
MINIMUM_DAYS = 7
"""Days of both arms below which nothing is judged by day."""


@dataclass
class Places:
    """Where each row seen belongs: arm, stratum (ramp step at one share), entity and day. Grows with the rows."""

    canary: BoolArray = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    stratum: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    entity: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    day: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.canary)

    def add(self, canary: BoolArray, stratum: IntArray, entity: IntArray, day: IntArray) -> None:
        self.canary = np.concatenate([self.canary, canary])
        self.stratum = np.concatenate([self.stratum, stratum])
        self.entity = np.concatenate([self.entity, entity])
        self.day = np.concatenate([self.day, day])


class MaturedMeans:
    """The difference of means of what is known by now; ``by_day``: days count as observations, as entities do.

    What is added once stays, so a look costs what is new. Where a value that was counted has changed or gone (an
    outcome was corrected), everything is counted anew.
    """

    def __init__(self, *, by_day: bool = False) -> None:
        self._by_day = by_day
        self._start()

    def _start(self) -> None:
        self._means = RunningMeans()
        self._days = RunningMeans(in_both_arms=True) if self._by_day else None
        self._counted = np.empty(0)

    def settle(self, known: FloatArray, places: Places) -> None:
        """``known``: the value of every row seen, larger is worse, NaN where there is none yet."""
        before = len(self._counted)
        was = ~np.isnan(self._counted)
        if not np.array_equal(self._counted[was], known[:before][was]):
            self._start()
            before, was = 0, np.empty(0, dtype=np.bool_)
        fresh = ~np.isnan(known)
        fresh[:before] &= ~was
        self._counted = known
        rows = np.flatnonzero(fresh)
        if len(rows):
            canary, stratum = places.canary[rows], places.stratum[rows]
            self._means.update(known[rows], canary, stratum, places.entity[rows])
            if self._days is not None:
                self._days.update(known[rows], canary, stratum, places.day[rows])

    def champion(self) -> float | None:
        """Mean of the champion's values; None without any."""
        return self._means.means()[1]

    def measure(self, *, harm_from: float, tolerance: float, alpha: float, tightest_at: float) -> MeanDifference:
        """By entity; where days count too, by whichever of the two is less certain."""
        found = self._means.measure(harm_from=harm_from, tolerance=tolerance, alpha=alpha, tightest_at=tightest_at)
        if self._days is None:
            return found
        by_day = self._days.measure(
            harm_from=harm_from, tolerance=tolerance, alpha=alpha, tightest_at=tightest_at, minimum=MINIMUM_DAYS
        )
        return _less_certain(found, by_day)


def _less_certain(one: MeanDifference, other: MeanDifference) -> MeanDifference:
    """The wider interval and the weaker evidence of two for the same difference; None where one has no answer."""
    return MeanDifference(
        one.estimate,
        None if one.low is None or other.low is None else min(one.low, other.low),
        None if one.high is None or other.high is None else max(one.high, other.high),
        one.n_canary,
        one.n_incumbent,
        harm=None if one.harm is None or other.harm is None else min(one.harm, other.harm),
        no_harm=None if one.no_harm is None or other.no_harm is None else min(one.no_harm, other.no_harm),
    )
