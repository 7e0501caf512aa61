"""How well each feature alone ranks the label: what an honest feature never does almost perfectly.

Two ways each, because a leak need not be monotone. By its *order* (numbers, times): rows without a value are left out.
By its *levels* (texts, few different values, else bins of equal mass; "no value" is one of them): each row gets the
mean label of its level in the *other half* of the rows, so that a level that occurs once says nothing about itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.schemas import kind, known_values
from gates.frozen import Json
from stats.interval import FloatArray
from stats.metrics.probabilities import roc_auc_rows

LEAST_OF_A_CLASS = 20
"""Of fewer positives (or negatives) a perfect order may be luck."""
BINS = 32
PRIOR_ROWS = 10.0
"""A level's mean counts the overall mean as so many more rows."""

Codes = NDArray[np.int64]


def alone(y: FloatArray, column: pa.ChunkedArray, *, is_binary: bool) -> Json:
    """By way (``order``, ``levels``): ``estimate``, its ``error`` (see ``strength``) and the rows ``n`` it is of.

    A way that can not be asked, or not enough of, is left out.
    """
    values = known_values(column)
    numbers = _numbers(values)
    found: dict[str, Json | None] = {"levels": strength(y, _by_level(y, _codes(values, numbers)), is_binary=is_binary)}
    if numbers is not None:
        there = ~np.isnan(numbers)
        found["order"] = strength(y[there], numbers[there], is_binary=is_binary)
    return {way: told for way, told in found.items() if told is not None}


def strength(y: FloatArray, x: FloatArray, *, is_binary: bool) -> Json | None:
    """How well ``x`` ranks ``y``, in whichever direction; None where it can not be told.

    Binary: the AUC, with DeLong's standard error on the logit scale. Else the squared rank correlation (Spearman), with
    the standard error of the correlation on Fisher's scale (Bonett and Wright 2000).
    """
    n = len(y)
    if is_binary:
        positives = int(y.sum())
        if min(positives, n - positives) < LEAST_OF_A_CLASS:
            return None
        found = roc_auc_rows(y, x)
        if found is None:
            return None
        auc, spread = found.estimate, math.sqrt(float((found.rows**2).sum())) / n
        error = spread / (auc * (1 - auc)) if 0 < auc < 1 else 0.0
        return {"estimate": max(auc, 1 - auc), "error": error, "n": n}
    if n < 2 * LEAST_OF_A_CLASS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rho = _rank_correlation(y, x)
    return {"estimate": rho * rho, "error": math.sqrt((1 + rho * rho / 2) / (n - 3)), "n": n}


def _rank_correlation(y: FloatArray, x: FloatArray) -> float:
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(y), rankdata(x))[0, 1])


def _numbers(values: pa.ChunkedArray) -> FloatArray | None:
    """The values as numbers, NaN for null and infinite; None for what has no order to speak of."""
    what = kind(values.type)
    if what == "flag":
        values = pc.cast(values, pa.int8())
    elif what == "time":
        values = pc.cast(pc.cast(values, pa.timestamp("us"), safe=False), pa.int64())
    elif what != "number":
        return None
    numbers = np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _codes(values: pa.ChunkedArray, numbers: FloatArray | None) -> Codes:
    """The level of each row, counted from 0; null is a level of its own."""
    if numbers is None:
        encoded: Any = pc.dictionary_encode(values.cast(pa.string()).combine_chunks())
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        return np.asarray(codes, dtype=np.int64) + 1
    there = ~np.isnan(numbers)
    distinct = np.unique(numbers[there])
    if len(distinct) > BINS:
        distinct = np.unique(np.quantile(numbers[there], np.arange(1, BINS) / BINS, method="inverted_cdf"))
    codes = np.zeros(len(numbers), np.int64)
    codes[there] = np.searchsorted(distinct, numbers[there], side="left") + 1
    return codes


def _by_level(y: FloatArray, codes: Codes) -> FloatArray:
    """For each row the mean label of its level in the other half of the rows (every second one)."""
    size = int(codes.max(initial=0)) + 1
    half = np.arange(len(y)) % 2
    told = np.empty(len(y))
    for mine in (0, 1):
        other = half != mine
        prior = float(y[other].mean()) if other.any() else 0.0
        sums = np.bincount(codes[other], weights=y[other], minlength=size)
        counts = np.bincount(codes[other], minlength=size)
        means = (sums + PRIOR_ROWS * prior) / (counts + PRIOR_ROWS)
        told[half == mine] = means[codes[half == mine]]
    return told
