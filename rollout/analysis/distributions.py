"""How the answers and the times of two versions are spread: what is reported and drawn, and judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rollout.analysis.rows import FloatArray

QUANTILES = (0.1, 0.5, 0.9)
BINS = 30
TIMES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Spread:
    """``distance`` is the largest gap between the two distribution functions (Kolmogorov and Smirnov's), 0 to 1.

    ``quantiles`` are (q, candidate's, champion's). Neither is a test: rows of one entity are alike, and a p-value would
    not hold at more than one look.
    """

    distance: float
    quantiles: tuple[tuple[float, float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        return {"distance": self.distance, "quantiles": [list(each) for each in self.quantiles]}


def spread(candidate: FloatArray, champion: FloatArray) -> Spread | None:
    """The two samples (any lengths, NaN left out) compared; None while one of them is empty."""
    mine, theirs = np.sort(_there(candidate)), np.sort(_there(champion))
    if not len(mine) or not len(theirs):
        return None
    both = np.concatenate([mine, theirs])
    below = np.searchsorted(mine, both, side="right") / len(mine)
    other = np.searchsorted(theirs, both, side="right") / len(theirs)
    pairs = zip(QUANTILES, np.quantile(mine, QUANTILES), np.quantile(theirs, QUANTILES), strict=True)
    found = tuple((q, float(mine_q), float(theirs_q)) for q, mine_q, theirs_q in pairs)
    return Spread(float(np.abs(below - other).max()), found)


def histogram(candidate: FloatArray, champion: FloatArray) -> dict[str, Any] | None:
    """Counts of both samples in the same bins, to be drawn; None while there is nothing in one of them.

    What lies beyond the 99.5th percentile of both is counted in the last bin: a few stalled calls would squeeze all
    others into the first one.
    """
    mine, theirs = _there(candidate), _there(champion)
    if not len(mine) or not len(theirs):
        return None
    both = np.concatenate([mine, theirs])
    low, high = float(both.min()), float(np.quantile(both, 0.995))
    if high <= low:
        high = low + (abs(low) or 1.0) * 1e-6
    edges = np.linspace(low, high, BINS + 1)
    counts = {
        name: np.histogram(np.clip(each, low, high), bins=edges)[0].tolist()
        for name, each in (("candidate", mine), ("champion", theirs))
    }
    return {"edges": [float(f"{edge:.6g}") for edge in edges], "counts": counts}


def times(candidate: FloatArray, champion: FloatArray) -> dict[str, Any] | None:
    """Quantiles and histogram of how long single answers took, in milliseconds; None without any."""
    drawn = histogram(candidate, champion)
    if drawn is None:
        return None
    arms = {"candidate": _there(candidate), "champion": _there(champion)}
    return {
        "rows": {name: len(each) for name, each in arms.items()},
        "quantiles": [[q, *(float(np.quantile(each, q)) for each in arms.values())] for q in TIMES],
        "histogram": drawn,
    }


def scores(candidate: FloatArray, champion: FloatArray) -> dict[str, Any] | None:
    """The spread of the scores with a histogram; None without any."""
    found, drawn = spread(candidate, champion), histogram(candidate, champion)
    if found is None or drawn is None:
        return None
    return {**found.as_dict(), "histogram": drawn}


def in_words(found: Mapping[str, Any] | Spread | None, *, form: str = "+.3g") -> str:
    """The differences of the quantiles in one sentence."""
    quantiles: Sequence[Sequence[float]] = ()
    if isinstance(found, Spread):
        quantiles = found.quantiles
    elif found is not None:
        quantiles = found.get("quantiles", ())
    parts = [f"{mine - theirs:{form}} at the {100 * q:.0f}th percentile" for q, mine, theirs in quantiles]
    return ", ".join(parts)


def _there(values: FloatArray) -> FloatArray:
    found: FloatArray = values[np.isfinite(values)]
    return found
