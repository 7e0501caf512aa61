"""Whether probabilities mean what they say: bins of alike scores, and the distance of predicted and observed shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.interval import FloatArray, Interval, z_for
from stats.metrics.rows import Linear, around, binary, pair, span, with_unseen

BINS = 15
DRAWS = 2000
LEAST_IN_BIN = 2
LEAST_FOR_INTERVAL = 10
"""Rows a bin: with fewer, the spread of its rows says little about its error."""


@dataclass(frozen=True)
class Bins:
    """Rows in bins of about equal mass; equal scores share a bin. All arrays but ``of_row`` have one value a bin."""

    n: NDArray[np.int64]
    predicted: FloatArray
    observed: FloatArray
    of_row: NDArray[np.int64]
    residual: FloatArray
    """Of each row: p − y less its bin's gap, shape (rows,)."""

    @property
    def gap(self) -> FloatArray:
        return self.predicted - self.observed

    @property
    def weight(self) -> FloatArray:
        return self.n / float(self.n.sum())

    @property
    def noise(self) -> FloatArray:
        """Sampling variance of each bin's observed share."""
        share: FloatArray = self.observed * (1 - self.observed) / np.maximum(self.n - 1, 1)
        return share

    @property
    def spread(self) -> FloatArray:
        """Standard error of each bin's gap."""
        squares = np.bincount(self.of_row, weights=self.residual**2)
        error: FloatArray = np.sqrt(squares / np.maximum(self.n * (self.n - 1), 1))
        return error

    def error(self, gap: FloatArray) -> FloatArray:
        """Debiased expected calibration error for gaps of shape (…, bins)."""
        whole: FloatArray = np.sqrt(np.maximum(gap**2 - self.noise, 0.0)) @ self.weight
        return whole

    @property
    def debiased_gap(self) -> FloatArray:
        """Gaps with their own sampling variance taken off, their signs kept."""
        shrunk: FloatArray = np.sign(self.gap) * np.sqrt(np.maximum(self.gap**2 - self.noise, 0.0))
        return shrunk


def bins_of(y: FloatArray, p: FloatArray, *, bins: int = BINS) -> Bins | None:
    """Bins cut at the quantiles of the scores, as scikit-learn's ``calibration_curve(strategy="quantile")`` does.

    None for fewer than two rows a bin.
    """
    if len(y) < LEAST_IN_BIN * bins:
        return None
    cuts = np.quantile(p, np.linspace(0, 1, bins + 1))[1:-1]
    _, of_row, n = np.unique(np.searchsorted(cuts, p), return_inverse=True, return_counts=True)
    predicted, observed = np.bincount(of_row, weights=p) / n, np.bincount(of_row, weights=y) / n
    residual = p - y - (predicted - observed)[of_row]
    return Bins(n, predicted, observed, of_row, residual)


def ece(y: ArrayLike, p: ArrayLike, *, bins: int = BINS) -> float | None:
    """Expected calibration error over ``bins`` equal-mass bins: mean distance of predicted and observed share.

    Debiased by subtracting each bin's sampling variance before the root (Kumar et al. 2019, section 4.3, per bin),
    because a perfectly calibrated model has a positive plug-in ECE. None for fewer than 2 rows a bin.
    """
    found = bins_of(*pair(y, p), bins=bins)
    return None if found is None else float(found.error(found.gap))


def ece_interval(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """The debiased ECE with a conservative interval around the plug-in one, T = Σ w·|gap|.

    With the bins' sampling errors e, T lies above the truth by Σ w·|e| at most (triangle inequality), whose quantile is
    drawn, and below it by no more than the normal Σ ±w·e: the bounds hold whatever the true gaps are.
    """
    outcomes, scores = binary(y, p)
    found = bins_of(outcomes, scores)
    if found is None or len(outcomes) < LEAST_FOR_INTERVAL * BINS:
        return None
    estimate, plug_in = float(found.error(found.gap)), float(np.abs(found.gap) @ found.weight)
    noise = _noise_of(found)
    most = float(np.quantile(np.abs(noise) @ found.weight, (1 + confidence) / 2))
    error = float(np.sqrt((found.spread * found.weight) @ (found.spread * found.weight)))
    beyond = with_unseen(z_for(confidence) * error, len(outcomes), reach=1.0, confidence=confidence)
    low, high = max(0.0, plug_in - most), plug_in + beyond
    return Interval(estimate, min(low, estimate), high, len(found.of_row), confidence)


def ece_rows(y: FloatArray, p: FloatArray) -> Linear | None:
    """The debiased ECE; each row pulls by its p − y, in the direction of its bin's gap."""
    found = bins_of(y, p)
    if found is None:
        return None
    estimate = float(found.error(found.gap))
    drawn = found.error(found.debiased_gap + _noise_of(found))
    return Linear(estimate, np.sign(found.gap)[found.of_row] * found.residual, 1.0, float(drawn.mean()) - estimate)


def _noise_of(bins: Bins) -> FloatArray:
    """Draws of the bins' sampling errors, shape (draws, bins). The same rows, the same draws."""
    errors: FloatArray = np.random.default_rng(0).standard_normal((DRAWS, len(bins.n))) * bins.spread
    return errors


def mean_gap(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """How far the mean prediction lies from the mean outcome, whichever way; in the label's unit.

    The interval of the signed distance, folded at zero: it holds the truth at least as often.
    """
    outcomes, scores = pair(y, p)
    if len(outcomes) < 2:
        return None
    distance = scores - outcomes
    mean = float(distance.mean())
    return _folded(around(mean, distance - mean, reach=span(outcomes, scores), confidence=confidence))


def _folded(signed: Interval) -> Interval:
    far = max(abs(signed.low), abs(signed.high))
    near = 0.0 if signed.low <= 0 <= signed.high else min(abs(signed.low), abs(signed.high))
    return Interval(abs(signed.estimate), near, far, signed.n, signed.confidence)


def mean_gap_rows(y: FloatArray, p: FloatArray) -> Linear | None:
    """The mean distance; each row pulls by its p − y, in the direction of the whole."""
    if len(y) < 2:
        return None
    distance = p - y
    signed = float(distance.mean())
    return Linear(abs(signed), (distance - signed) * (1.0 if signed >= 0 else -1.0), reach=span(y, p))


def mean_gap_gain(
    y: FloatArray,
    candidate: FloatArray,
    champion: FloatArray,
    mean: Callable[[FloatArray], Interval],
) -> Interval | None:
    """|mean(champion − y)| − |mean(candidate − y)|; ``mean`` gives the interval of a mean of rows.

    Where both versions err the same way for certain, that is the mean of the rows' differences. Else the larger of the
    two spreads that it may have, though never more than the two predictions' means can differ.
    """
    if len(y) < 2:
        return None
    mine, theirs = mean(candidate - y), mean(champion - y)
    apart, together = mean(champion - candidate), mean(champion + candidate - 2 * y)
    estimate = abs(theirs.estimate) - abs(mine.estimate)
    spreads = {True: (apart.high - apart.low) / 2, False: (together.high - together.low) / 2}
    known = [each.low > 0 or each.high < 0 for each in (mine, theirs)]
    if all(known):
        half = spreads[(mine.estimate > 0) == (theirs.estimate > 0)]
        return Interval(estimate, estimate - half, estimate + half, len(y), mine.confidence)
    half, most = max(spreads.values()), max(abs(apart.low), abs(apart.high))
    low, high = max(estimate - half, -most), min(estimate + half, most)
    return Interval(estimate, min(low, estimate), max(high, estimate), len(y), mine.confidence)
