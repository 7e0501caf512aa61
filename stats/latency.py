"""How long predictions take. Milliseconds in, quantiles and ratios with intervals out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.interval import FloatArray, Interval, finite, quantile_interval, wilson

FEWEST_ROUNDS = 8
"""Fewer rounds are too few to be drawn again from."""


@dataclass(frozen=True)
class LatencySummary:
    """Quantiles of single-row latency in milliseconds; None where the sample is too small for an interval."""

    n: int
    p50: Interval | None
    p95: Interval | None
    p99: Interval | None
    longest: float | None


def summarize(milliseconds: ArrayLike, *, confidence: float = 0.95) -> LatencySummary:
    """p50, p95 and p99 of a sample of single-row latencies."""
    values = finite(milliseconds, "milliseconds")
    p50, p95, p99 = (quantile_interval(values, q, confidence=confidence) for q in (0.50, 0.95, 0.99))
    return LatencySummary(len(values), p50, p95, p99, float(values.max()) if len(values) else None)


def ratio(first: ArrayLike, second: ArrayLike, *, q: float = 0.5) -> float | None:
    """Quantile of the first sample over the same quantile of the second; None without values on both sides."""
    above, below = finite(first, "first"), finite(second, "second")
    if not len(above) or not len(below) or np.quantile(below, q) == 0:
        return None
    return float(np.quantile(above, q) / np.quantile(below, q))


def ratio_interval(
    first: ArrayLike, second: ArrayLike, *, q: float = 0.5, confidence: float, seed: int, draws: int = 1000
) -> Interval | None:
    """Quantile of the first sample over the same quantile of the second, timed in turn: ``first[i]`` beside
    ``second[i]``, in milliseconds.

    The interval is the percentile interval of a moving-block bootstrap (Künsch 1989) over the rounds i: a round is
    drawn whole, since both its calls met the same state of the machine, and with its neighbours, since that state
    lasts. Blocks are n^(1/3) rounds long, rounded up (Hall, Horowitz and Jing 1995). None for fewer than
    ``FEWEST_ROUNDS`` rounds, or where a call took no time.
    """
    above, below = finite(first, "first"), finite(second, "second")
    n = len(above)
    if n != len(below):
        raise ValueError(f"{n} and {len(below)} calls were not timed in turn")
    estimate = ratio(above, below, q=q)
    if n < FEWEST_ROUNDS or estimate is None or min(above.min(), below.min()) <= 0:
        return None
    found = np.concatenate([_redrawn(above, below, q, rounds) for rounds in _blocks(n, draws, seed)])
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), n, confidence)


def _redrawn(above: FloatArray, below: FloatArray, q: float, rounds: NDArray[np.int64]) -> FloatArray:
    quotient: FloatArray = np.quantile(above[rounds], q, axis=1) / np.quantile(below[rounds], q, axis=1)
    return quotient


def _blocks(n: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """``draws`` samples of n rounds in blocks, as positions of shape [some, n]: as many at once as memory bears."""
    random = np.random.default_rng(seed)
    length = math.ceil(n ** (1 / 3))
    count = math.ceil(n / length)
    at_once = max(1, 2_000_000 // n)
    for start in range(0, draws, at_once):
        starts = random.integers(0, n - length + 1, (min(at_once, draws - start), count))
        yield (starts[:, :, None] + np.arange(length)).reshape(len(starts), -1)[:, :n]


def calls_needed(slow: int, n: int, *, allowed: float, confidence: float) -> int | None:
    """How many calls would decide whether at most a share ``allowed`` of all calls is slow, if the share stays what it
    was so far (``slow`` of ``n``): the smallest number at which Wilson's interval lies on one side of ``allowed``.

    None when the share seen is exactly the allowed one, or no number up to a million decides.
    """
    share = slow / n if n else 0.0

    def decides(calls: int) -> bool:
        interval = wilson(round(share * calls), calls, confidence=confidence)
        return interval is not None and (interval.high <= allowed or interval.low > allowed)

    most = 1
    while not decides(most):
        most *= 2
        if most > 1_000_000:
            return None
    low = most // 2
    while most - low > 1:  # rounding of the slow calls makes the edge ragged by a call or two: near enough to plan by
        middle = (low + most) // 2
        low, most = (low, middle) if decides(middle) else (middle, most)
    return most


@dataclass(frozen=True)
class Histogram:
    """How calls spread: ``counts[name][i]`` calls took from ``edges[i]`` to ``edges[i + 1]`` milliseconds. Bins are
    equally wide on a logarithmic scale; the last also counts the slowest calls beyond it."""

    edges: FloatArray
    counts: Mapping[str, NDArray[np.int64]]


def histogram(samples: Mapping[str, ArrayLike], *, bins: int = 40) -> Histogram | None:
    """All samples (milliseconds, above 0) on common bins from the fastest call to the 99.5 % quantile; None without
    calls. A few extreme calls would else leave all others in one bin."""
    arrays = {name: finite(values, name) for name, values in samples.items()}
    every = np.concatenate([*arrays.values(), np.empty(0)])
    if not len(every) or every.min() <= 0:
        return None
    low, high = float(every.min()), float(np.quantile(every, 0.995))
    edges: FloatArray = np.geomspace(low, max(high, low * 1.01), bins + 1)
    counts = {name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] for name, values in arrays.items()}
    return Histogram(edges, counts)
