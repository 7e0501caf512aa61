"""How far each feature of today's traffic lies from the training data: the effect and the shares beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.schemas import kind, known_values
from gates.frozen import Json
from stats.drift import categorical_bins, effect, numeric_bins, profile
from stats.interval import FloatArray


def moved(trained: pa.ChunkedArray, current: pa.ChunkedArray) -> Json:
    """One feature then and now: ``effect`` with the parts of ``stats.drift.Effect``, and what lies beside it.

    ``effect`` is None where a side has no values and where values are not compared. ``compared`` says why not: ``yes``,
    ``type`` (another one than in training) or ``never`` (times, lists). Infinities count as nulls.
    """
    before, now = _comparable(trained), _comparable(current)
    told: Json = {
        "effect": None,
        "compared": "yes",
        "trained_rows": len(trained),
        "rows": len(current),
        "trained_null_share": _null_share(trained, before),
        "null_share": _null_share(current, now),
        "unseen_share": None,
    }
    if 1.0 in (told["trained_null_share"], told["null_share"]):  # nothing to compare with, or nothing to compare
        return told
    if before is None:
        return told | {"compared": "never"}
    if now is None or isinstance(before, list) != isinstance(now, list):
        return told | {"compared": "type"}
    bins = categorical_bins(before) if isinstance(before, list) else numeric_bins(before)
    assert bins is not None  # there are values
    today = profile(now, bins)
    found = effect(profile(before, bins), today, bins)
    return told | {"effect": None if found is None else dict(found.__dict__), "unseen_share": today.unseen_share}


def _null_share(column: pa.ChunkedArray, values: FloatArray | list[Any] | None) -> float:
    """Of no rows at all, too, nothing is known."""
    if not len(column):
        return 1.0
    if values is None or isinstance(values, list):
        return float(column.null_count / len(column))
    return float(np.isnan(values).mean())


def _comparable(column: pa.ChunkedArray) -> FloatArray | list[Any] | None:
    """Numbers (NaN for null and infinite) or a list of texts."""
    values = known_values(column)
    what = kind(values.type)
    if what == "text":
        texts: list[Any] = values.to_pylist()
        return texts
    if what == "flag":
        values = pc.cast(values, pa.int8())
    elif what != "number":
        return None
    numbers = np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)
