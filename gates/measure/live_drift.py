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


def moved(trained: pa.ChunkedArray, current: pa.ChunkedArray) -> Json | None:
    """One feature then and now. ``effect`` is None where a side has no values; None for what is not compared (times).

    The parts of ``effect`` are those of ``stats.drift.Effect``.
    """
    before, now = _comparable(trained), _comparable(current)
    if before is None or now is None or isinstance(before, list) != isinstance(now, list):
        return None
    bins = categorical_bins(before) if isinstance(before, list) else numeric_bins(before)
    if bins is None:  # no value was known in training
        nulls_now = (current.null_count / len(current)) if len(current) else 0.0
        return {"effect": None, "trained_null_share": 1.0, "null_share": nulls_now, "unseen_share": 0.0}
    then, today = profile(before, bins), profile(now, bins)
    found = effect(then, today, bins)
    return {
        "effect": None if found is None else dict(found.__dict__),
        "trained_null_share": then.null_share,
        "null_share": today.null_share,
        "unseen_share": today.unseen_share,
    }


def _comparable(column: pa.ChunkedArray) -> FloatArray | list[Any] | None:
    """Numbers (NaN for null) or a list of texts."""
    values = known_values(column)
    what = kind(values.type)
    if what == "text":
        texts: list[Any] = values.to_pylist()
        return texts
    if what == "flag":
        values = pc.cast(values, pa.int8())
    elif what != "number":
        return None
    return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
