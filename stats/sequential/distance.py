"""How far two distributions lie apart (Kolmogorov and Smirnov's distance), with a band that holds at every look."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stats.interval import FloatArray
from stats.sequential.rows import BoolArray, IntArray

PLACES = 1000
"""The distance is taken at so many of the canary's values at most; between them it can be larger by 1 / PLACES."""


@dataclass(frozen=True)
class Distance:
    """``value``: the largest distance of the two cumulative distributions, weighed over strata; ``high``: its upper
    limit at all looks together. ``no_more(size)`` is how strongly a distance of ``size`` or more is excluded.

    ``n_canary`` and ``n_incumbent`` are effective rows: those of equally weighed strata.
    """

    value: float | None
    high: float | None
    n_canary: float
    n_incumbent: float
    coarseness: float = 0.0

    def no_more(self, size: float) -> float | None:
        """log(1 / alpha) of the smallest alpha at which the bands still exclude a distance of ``size`` or more.

        0 when none does; None when there is nothing to compare.
        """
        if self.value is None:
            return None
        room = size - self.value - self.coarseness
        low, high = 0.0, 1e6
        if room <= self._bands(low):
            return 0.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if self._bands(middle) <= room else (low, middle)
        return low

    def _bands(self, surprise: float) -> float:
        """Both bands at alpha = exp(-surprise), half of it each."""
        return sum(band(n, log_inverse_alpha=surprise + math.log(2)) for n in (self.n_canary, self.n_incumbent))


def band(n: float, *, log_inverse_alpha: float) -> float:
    """How far n rows' empirical distribution may lie from the true one at any place, at all n together.

    .85 sqrt((log log(e n) + .8 log(1612 / alpha)) / n): Howard and Ramdas, Bernoulli 28(3) 2022, arXiv 1906.09712, for
    independent rows. Infinite for less than one row.
    """
    if n < 1:
        return math.inf
    return 0.85 * math.sqrt((math.log1p(math.log(n)) + 0.8 * (math.log(1612) + log_inverse_alpha)) / n)


class SortedArms:
    """The values of each stratum and arm, kept sorted while rows come in."""

    def __init__(self) -> None:
        self._cells: dict[int, list[FloatArray]] = {}
        self.canary_rows = 0

    def update(self, values: FloatArray, canary: BoolArray, stratum: IntArray) -> None:
        for number in np.unique(stratum).tolist():
            cell = self._cells.setdefault(number, [np.empty(0), np.empty(0)])
            for arm in (0, 1):
                more = np.sort(values[(stratum == number) & (canary == bool(arm))])
                cell[arm] = np.insert(cell[arm], np.searchsorted(cell[arm], more), more)
        self.canary_rows += int(canary.sum())

    def distance(self, *, alpha: float) -> Distance:
        """Strata are weighed by n1 n0 / (n1 + n0), as differences of means are: within a stratum the arms' shares of
        the traffic stay as they are, so that a change of the traffic while the canary grows is no difference."""
        both = [cell for cell in self._cells.values() if len(cell[0]) and len(cell[1])]
        if not both:
            return Distance(None, None, 0.0, 0.0)
        n = np.array([[len(incumbent), len(canary)] for incumbent, canary in both], dtype=np.float64)
        weight = n[:, 0] * n[:, 1] / n.sum(axis=1)
        weight /= weight.sum()
        places = np.sort(np.concatenate([canary for _, canary in both]))
        coarse = len(places) > PLACES
        if coarse:
            places = places[np.linspace(0, len(places) - 1, PLACES).astype(np.int64)]
        value = 0.0
        for side in ("left", "right"):
            apart = sum(
                w * (np.searchsorted(canary, places, side) / len(canary))
                - w * (np.searchsorted(incumbent, places, side) / len(incumbent))
                for w, (incumbent, canary) in zip(weight, both, strict=True)
            )
            value = max(value, float(np.abs(apart).max()))
        incumbents, canaries = (float(1 / (np.square(weight) / n[:, arm]).sum()) for arm in (0, 1))
        coarseness = 1 / PLACES if coarse else 0.0
        found = Distance(value, None, canaries, incumbents, coarseness)
        high = min(1.0, value + coarseness + found._bands(-math.log(alpha)))
        return Distance(value, high, canaries, incumbents, coarseness)
