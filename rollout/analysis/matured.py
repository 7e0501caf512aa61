"""Values that become known after their row was served: outcomes and business values, counted once they have matured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rollout.analysis.rows import BoolArray, FloatArray
from stats.sequential import MeanDifference
from stats.sequential.running import RunningMeans, grown

IntArray = NDArray[np.int64]
MINIMUM_DAYS = 7
"""Days of both arms below which nothing is judged by day."""


class Places:
    """Where each row seen belongs, and what it scored: columns that grow with the rows.

    ``stratum`` is a ramp step at one share; ``named`` whether the request named an entity; ``score`` is NaN where
    nobody answered or no entity was named.
    """

    def __init__(self) -> None:
        self._n = 0
        self._columns: dict[str, NDArray[Any]] = {
            "canary": np.empty(0, dtype=np.bool_),
            "stratum": np.empty(0, dtype=np.int64),
            "entity": np.empty(0, dtype=np.int64),
            "day": np.empty(0, dtype=np.int64),
            "named": np.empty(0, dtype=np.bool_),
            "score": np.empty(0),
        }

    def __len__(self) -> int:
        return self._n

    def add(self, **columns: NDArray[Any]) -> None:
        """More rows: every column, of one length."""
        end = self._n + len(columns["canary"])
        for name, more in columns.items():
            column = grown(self._columns[name], end)
            column[self._n : end] = more
            self._columns[name] = column
        self._n = end

    @property
    def canary(self) -> BoolArray:
        return self._columns["canary"][: self._n]

    @property
    def stratum(self) -> IntArray:
        return self._columns["stratum"][: self._n]

    @property
    def entity(self) -> IntArray:
        return self._columns["entity"][: self._n]

    @property
    def day(self) -> IntArray:
        return self._columns["day"][: self._n]

    @property
    def named(self) -> BoolArray:
        return self._columns["named"][: self._n]

    @property
    def score(self) -> FloatArray:
        return self._columns["score"][: self._n]


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
        counted = self._counted
        now = known[: len(counted)]
        was = counted == counted  # not NaN
        if (was & (now != counted)).any():
            self._start()
            was = was[:0]
        fresh = known == known
        fresh[: len(was)] &= ~was
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
