"""Whether the canary's values are distributed as the incumbent's: exact bets on the arm of each row, given its rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, finite
from stats.sequential.mixture import log_mean
from stats.sequential.rows import IntArray, arms, first_of_each, same_length, shares, undecided

STAKES = np.array([-0.9, -0.5, -0.25, -0.12, -0.06, 0.06, 0.12, 0.25, 0.5, 0.9])
"""Parts of the capital that are bet, one bettor each; the sign says on which arm."""
BINS = 32
PSEUDO_ROWS = (30.0, 300.0, 3000.0)
"""Weights of "no difference" in each bin's ratio, in rows; one gambler each, from the bold to the careful."""
BLOCK = 512


@dataclass(frozen=True)
class RankShift:
    """Evidence that the two arms' values differ: in ``location``, in ``spread``, in ``shape`` (anywhere).

    ``combined`` is the logarithm of the mean of the three e-values, itself evidence against "no difference at all".
    """

    location: float
    spread: float
    shape: float
    combined: float


def rank_shift(
    values: ArrayLike,
    canary: ArrayLike,
    share: ArrayLike,
    *,
    entity: ArrayLike | Sequence[object] | None = None,
) -> RankShift:
    """Compare whole distributions (predictions, latencies), one entry per row in each argument, in event time.

    If the arms agree, the value of a row says nothing about its arm, so a gambler who bets on the arm at the odds of
    the share in force can not expect to win (Shekhar and Ramdas 2021, arXiv 2112.09162, testing by betting). Location
    and spread: capital prod(1 + lambda_i (A_i - pi_i) g(U_i)) with U the rank among all earlier rows and
    g = 2U - 1 or 2|2U - 1| - 1, averaged over stakes. Shape: likelihood ratio with each of 32 rank bins' past
    canary-to-incumbent ratio plugged in, shrunk towards 1. Only ranks matter: no unit, no tails; ties share
    theirs.

    Exact for rows whose arm was drawn independently with probability ``share``; where entities stick to their arm give
    ``entity``, and only the first row of each is used. A wrong split looks like a difference, so see ``sample_ratio``
    first. All zeros for no rows.
    """
    given = finite(values, "values")
    arm = arms(canary)
    same_length(given, arm, "canary")
    share_then = shares(share, arm)
    kept = first_of_each(entity, len(given))
    kept = kept[undecided(share_then[kept])]
    given, arm, share_then = given[kept], arm[kept], share_then[kept]
    if not len(given):
        return RankShift(0.0, 0.0, 0.0, 0.0)
    low, high = running_ranks(given)
    surprise = arm - share_then
    location = _capital((low + high - 1) * surprise, share_then)
    spread = _capital((2 * mean_distance(low, high) - 1) * surprise, share_then)
    bins = np.minimum((low + high) / 2 * BINS, BINS - 1).astype(np.int64)
    shape = float(log_mean(np.array([_plug_in(bins, arm.astype(np.float64), share_then, w) for w in PSEUDO_ROWS])))
    combined = float(log_mean(np.array([location, spread, shape])))
    return RankShift(location, spread, shape, combined)


def running_ranks(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where each value lies among itself and all earlier ones: both ends, in [0, 1], of the ranks that its ties share.

    In blocks: against the sorted past by bisection, against the block's own earlier rows pair by pair.
    """
    below = np.zeros(len(values))
    tied = np.zeros(len(values))
    past = np.empty(0)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        earlier = np.tri(len(block), k=-1, dtype=bool)
        left = np.searchsorted(past, block, side="left")
        right = np.searchsorted(past, block, side="right")
        rows = slice(start, start + len(block))
        below[rows] = left + ((block[None, :] < block[:, None]) & earlier).sum(axis=1)
        tied[rows] = right - left + ((block[None, :] == block[:, None]) & earlier).sum(axis=1)
        past = np.sort(np.concatenate([past, block]), kind="stable")
    count = np.arange(1, len(values) + 1)
    return below / count, (below + tied + 1) / count


def mean_distance(low: FloatArray, high: FloatArray) -> FloatArray:
    """Mean of |2u - 1| for u between ``low`` and ``high``: a row's distance from the median, ties averaged.

    The mid-rank would call all rows central when all values are equal; this calls them average.
    """
    mean: FloatArray = ((high - 0.5) * np.abs(high - 0.5) - (low - 0.5) * np.abs(low - 0.5)) / (high - low)
    return mean


def _capital(payoff: FloatArray, share: FloatArray) -> float:
    """Log capital, averaged over stakes; scaled by the worst loss so that no bettor can lose all."""
    scaled = payoff / np.maximum(share, 1 - share)
    return float(log_mean(np.log1p(STAKES[:, None] * scaled[None, :]).sum(axis=1)))


def _plug_in(bins: IntArray, arm: FloatArray, share: FloatArray, weight: float) -> float:
    """Log of prod r^A / (1 - pi + pi r), r from the earlier rows of the same bin; without difference its mean is 1."""
    ratio = np.ones(len(bins))
    for number in range(BINS):
        rows = np.flatnonzero(bins == number)
        earlier = np.arange(len(rows))
        served = np.cumsum(arm[rows]) - arm[rows]
        expected = (np.cumsum(share[rows]) - share[rows] + weight * share[rows]) / (earlier + weight)
        canary = served + weight * expected
        incumbent = earlier - served + weight * (1 - expected)
        ratio[rows] = canary / incumbent * (1 - expected) / expected
    return float((arm * np.log(ratio) - np.log1p(share * (ratio - 1))).sum())
