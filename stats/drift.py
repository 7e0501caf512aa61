"""Whether a distribution moved: one pass over a window gives a small mergeable profile, all scores come from profiles.

Bins are fixed by the reference (fine quantile bins for W1 and KS, deciles for PSI and the effect), so that profiles of
hours, days and segments add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.interval import FloatArray

FINE = 200
TAILS = (1e-4, 1e-3, 2e-3)
RARE = 5.0
"""Bins whose expected count is below this are pooled (the usual rule for chi-square statistics)."""


@dataclass(frozen=True)
class ReferenceBins:
    """How one feature's values are counted. Numeric: inner ``edges`` (sorted) and which of them are ``deciles``.

    Categorical: ``levels``; a value that is not among them is *unseen*. ``low``/``high`` is the reference's range,
    ``spread`` its standard deviation (numeric).
    """

    kind: str
    edges: tuple[float, ...] = ()
    deciles: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    spread: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "edges": list(self.edges),
            "deciles": list(self.deciles),
            "levels": list(self.levels),
            "low": self.low,
            "high": self.high,
            "spread": self.spread,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        return cls(**{**stored, **{name: tuple(stored[name]) for name in ("edges", "deciles", "levels")}})


@dataclass(frozen=True)
class Profile:
    """Counts of one feature in one window. ``counts`` per bin or level, ``sums`` per bin (numeric). Profiles add up."""

    counts: tuple[int, ...]
    sums: tuple[float, ...]
    n: int
    nulls: int
    unseen: int
    out_of_range: int

    def __add__(self, other: Profile) -> Profile:
        if len(self.counts) != len(other.counts):
            raise ValueError("profiles of different bins can not be added")
        return Profile(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            self.n + other.n,
            self.nulls + other.nulls,
            self.unseen + other.unseen,
            self.out_of_range + other.out_of_range,
        )

    @property
    def present(self) -> int:
        """Rows with a known value."""
        return sum(self.counts)

    @property
    def null_share(self) -> float | None:
        return self.nulls / self.n if self.n else None

    @property
    def unseen_share(self) -> float | None:
        return self.unseen / self.n if self.n else None

    @property
    def out_of_range_share(self) -> float | None:
        return self.out_of_range / self.n if self.n else None

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "counts": list(self.counts), "sums": list(self.sums)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        return cls(**{**stored, "counts": tuple(stored["counts"]), "sums": tuple(stored["sums"])})


@dataclass(frozen=True)
class Effect:
    """A PSI-like distance D = Σ(p−q)²/p̄ with the evidence that it is real.

    ``exceeds(tolerance)`` gives the p-value of "the true effect is at most tolerance": small means it is larger.
    """

    distance: float
    debiased: float
    bins: int
    n: int
    m: int

    def p_value(self, tolerance: float) -> float:
        """P(X ≥ observed | true effect = tolerance), X ~ noncentral chi-square (monitoring research 4.2)."""
        from scipy.stats import chi2, ncx2

        scale = self.n * self.m / (self.n + self.m)
        degrees = self.bins - 1
        # scipy's ncx2 overflows where x is almost 0 and the non-centrality large; there the answer is 1.
        observed = max(self.distance * scale, 1e-6)
        if tolerance <= 0:
            return float(chi2.sf(observed, degrees))
        return float(ncx2.sf(observed, degrees, tolerance * scale))


def numeric_bins(reference: ArrayLike) -> ReferenceBins | None:
    """Bins from reference values (nulls as NaN are left out): all distinct values if few, else quantiles and tails."""
    values = np.asarray(reference, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    distinct = np.unique(values)
    deciles = np.unique(np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf"))
    if len(distinct) <= FINE:
        edges = distinct
    else:
        shares = np.concatenate([np.arange(1, FINE) / FINE, TAILS, 1 - np.array(TAILS)])
        edges = np.unique(np.concatenate([np.quantile(values, shares, method="inverted_cdf"), deciles]))
    return ReferenceBins(
        kind="numeric",
        edges=tuple(edges.tolist()),
        deciles=tuple(deciles.tolist()),
        low=float(values.min()),
        high=float(values.max()),
        spread=float(values.std()),
    )


def categorical_bins(reference: Sequence[Any]) -> ReferenceBins | None:
    """One bin per level of the reference; None without any."""
    levels = sorted({str(value) for value in reference if value is not None and value == value})
    return ReferenceBins(kind="categorical", levels=tuple(levels)) if levels else None


def profile(values: Sequence[Any] | ArrayLike, bins: ReferenceBins) -> Profile:
    """Count one window's values. Nulls, unseen levels and values outside the reference's range are counted apart."""
    return _numeric_profile(values, bins) if bins.kind == "numeric" else _categorical_profile(values, bins)


def _numeric_profile(values: Any, bins: ReferenceBins) -> Profile:
    array = np.asarray(values, dtype=np.float64).ravel()
    known = array[~np.isnan(array)]
    # a bin holds the values in (edge before, edge]: the reference's quantiles are values themselves
    where = np.searchsorted(np.array(bins.edges), known, side="left")
    size = len(bins.edges) + 1
    outside = _outside(known, bins)
    clipped = np.clip(known, -1e300, 1e300)
    return Profile(
        tuple(np.bincount(where, minlength=size).tolist()),
        tuple(np.bincount(where, weights=clipped, minlength=size).tolist()),
        n=len(array),
        nulls=len(array) - len(known),
        unseen=0,
        out_of_range=outside,
    )


def _outside(known: FloatArray, bins: ReferenceBins) -> int:
    if bins.low is None or bins.high is None:
        return 0
    return int(((known < bins.low) | (known > bins.high)).sum())


def _categorical_profile(values: Any, bins: ReferenceBins) -> Profile:
    index = {level: position for position, level in enumerate(bins.levels)}
    counts = [0] * len(bins.levels)
    nulls = unseen = 0
    for value in values:
        if value is None or value != value:
            nulls += 1
        elif (position := index.get(str(value))) is None:
            unseen += 1
        else:
            counts[position] += 1
    return Profile(tuple(counts), (0.0,) * len(counts), nulls + unseen + sum(counts), nulls, unseen, 0)


def _coarse(profile: Profile, bins: ReferenceBins) -> NDArray[np.int64]:
    """Counts per decile bin (numeric) or level, unseen values as a bin of their own."""
    counts = np.array(profile.counts, dtype=np.int64)
    if bins.kind == "categorical":
        return np.append(counts, profile.unseen)
    # a fine bin ends at edges[i]; the decile bin it belongs to is the first decile at or above that edge
    ends = np.append(np.array(bins.edges), np.inf)
    decile = np.searchsorted(np.array(bins.deciles), ends, side="left")
    return np.bincount(decile, weights=counts, minlength=len(bins.deciles) + 1).astype(np.int64)


def effect(reference: Profile, current: Profile, bins: ReferenceBins) -> Effect | None:
    """The effect between two windows over deciles or levels, rare bins pooled; None when a side is empty."""
    before, now = _coarse(reference, bins), _coarse(current, bins)
    n, m = int(before.sum()), int(now.sum())
    if not n or not m:
        return None
    expected = (before + now) * min(n, m) / (n + m)
    rare = expected < RARE
    if rare.any():
        before = np.append(before[~rare], before[rare].sum())
        now = np.append(now[~rare], now[rare].sum())
    used = before + now > 0
    before, now = before[used], now[used]
    if len(before) < 2:
        return Effect(0.0, 0.0, 2, n, m)
    p, q = before / n, now / m
    pooled = (before + now) / (n + m)
    distance = float((((p - q) ** 2) / pooled).sum())
    bias = (len(before) - 1) * (1 / n + 1 / m)
    return Effect(distance, max(0.0, distance - bias), len(before), n, m)


def psi(reference: Profile, current: Profile, bins: ReferenceBins, *, floor: float = 1e-4) -> float | None:
    """Population stability index over deciles or levels; empty shares count as ``floor`` (Siddiqi 2006)."""
    before, now = _shares(reference, bins), _shares(current, bins)
    if before is None or now is None:
        return None
    p, q = np.maximum(before, floor), np.maximum(now, floor)
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(reference: Profile, current: Profile, bins: ReferenceBins) -> float | None:
    """Jensen–Shannon distance (base 2, in [0, 1]) over deciles or levels (Lin 1991)."""
    from scipy.spatial.distance import jensenshannon

    before, now = _shares(reference, bins), _shares(current, bins)
    if before is None or now is None:
        return None
    return float(jensenshannon(before, now, base=2))


def ks(reference: Profile, current: Profile) -> float | None:
    """Kolmogorov–Smirnov distance on the fine bins (numeric)."""
    if not reference.present or not current.present:
        return None
    before = np.cumsum(reference.counts) / reference.present
    now = np.cumsum(current.counts) / current.present
    return float(np.abs(before - now).max())


def wasserstein(reference: Profile, current: Profile, bins: ReferenceBins) -> float | None:
    """First Wasserstein distance in units of the reference's standard deviation, from bin means (numeric)."""
    from scipy.stats import wasserstein_distance

    if bins.kind != "numeric" or not reference.present or not current.present or not bins.spread:
        return None
    a, b = np.array(reference.counts), np.array(current.counts)
    means_a = np.array(reference.sums)[a > 0] / a[a > 0]
    means_b = np.array(current.sums)[b > 0] / b[b > 0]
    return float(wasserstein_distance(means_a, means_b, a[a > 0], b[b > 0])) / bins.spread


def null_increase(reference: Profile, current: Profile) -> float | None:
    """Growth of the share of nulls, in share points (0.05 = five percentage points)."""
    before, now = reference.null_share, current.null_share
    return None if before is None or now is None else now - before


def _shares(profile: Profile, bins: ReferenceBins) -> FloatArray | None:
    counts = _coarse(profile, bins)
    total = int(counts.sum())
    return counts / total if total and math.isfinite(total) else None
