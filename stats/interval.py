"""An estimate with its interval: what every measurement in Gatehouse looks like."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """``estimate`` with a two-sided interval [low, high] at ``confidence``, from ``n`` observations."""

    estimate: float
    low: float
    high: float
    n: int
    confidence: float

    def __str__(self) -> str:
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def z_for(confidence: float) -> float:
    """Two-sided standard normal quantile; raises ValueError outside (0, 1)."""
    from scipy.special import ndtri

    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return float(ndtri(0.5 + confidence / 2))


def finite(values: ArrayLike, name: str) -> FloatArray:
    """``values`` as a float64 vector; ValueError naming the argument when one is NaN or infinite."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has {int((~np.isfinite(array)).sum())} values that are not finite numbers")
    return array


def normal(estimate: float, standard_error: float, *, n: int, confidence: float) -> Interval:
    """The interval of an asymptotically normal estimate."""
    margin = z_for(confidence) * standard_error
    return Interval(estimate, estimate - margin, estimate + margin, n, confidence)


def mean_interval(values: ArrayLike, *, confidence: float) -> Interval | None:
    """Mean with its normal interval; None for fewer than two values."""
    array = finite(values, "values")
    if len(array) < 2:
        return None
    error = float(array.std(ddof=1) / math.sqrt(len(array)))
    return normal(float(array.mean()), error, n=len(array), confidence=confidence)


def wilson(successes: int, n: int, *, confidence: float) -> Interval | None:
    """Share of successes with Wilson's score interval (Wilson 1927); None when n is 0."""
    if n == 0:
        return None
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n={n}, not {successes}")
    z = z_for(confidence)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    margin = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - margin)
    high = 1.0 if successes == n else min(1.0, centre + margin)
    return Interval(share, low, high, n, confidence)


def quantile_interval(values: ArrayLike, q: float, *, confidence: float) -> Interval | None:
    """The q-quantile with a distribution-free interval between order statistics (Conover 1999, section 3.2).

    None when the sample is too small for the interval to exist on both sides.
    """
    from scipy.stats import binom

    array = np.sort(finite(values, "values"))
    n = len(array)
    if n == 0 or not 0 < q < 1:
        return None
    tail = (1 - confidence) / 2
    lower = int(binom.ppf(tail, n, q)) - 1
    upper = int(binom.ppf(1 - tail, n, q))
    if lower < 0 or upper >= n:
        return None
    return Interval(float(np.quantile(array, q)), float(array[lower]), float(array[upper]), n, confidence)
