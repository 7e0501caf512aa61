"""Several tests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from stats.interval import FloatArray, finite


def holm(p_values: ArrayLike) -> FloatArray:
    """p-values corrected by Holm's step-down procedure (Holm 1979), in the order given.

    Rejecting those at or below α keeps the chance of even one false rejection at α, however the tests depend on each
    other. Raises ValueError for values outside [0, 1].
    """
    p = finite(p_values, "p_values")
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p_values must lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
