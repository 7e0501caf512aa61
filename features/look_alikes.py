"""Features that exist already: the same expression under another name, or another expression with the same values.

Somebody who is about to write a feature for the third time is told whose the first two are. Two ways to find them: the
form of the expression (``engines.likeness``), and the values on a sample.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.likeness import form_of
from engines.offline import ViewSpec

AGREEING = 0.99
"""Share of the cells that must agree, of those where at least one of the two has a value."""
LEAST_CELLS = 50
LEAST_DISTINCT = 10
"""Two features of few different values (a flag, a small count) agree by chance."""
TOLERANCE = 1e-9
"""Relative: the same computation in another order differs in the last digits."""

SAME_EXPRESSION = "same expression"
SAME_VALUES = "same values"


@dataclass(frozen=True)
class LookAlike:
    """``feature`` is like ``other`` of ``view`` (name@number), which ``owner`` keeps. ``share`` of the ``cells``
    compared agree; None where the expressions are the same and values were not compared."""

    feature: str
    view: str
    other: str
    owner: str
    why: str
    share: float | None = None
    cells: int = 0


def form(view: ViewSpec, feature: str, places: Mapping[str, str]) -> str:
    """SHA-256 over what computes a feature, whatever it and its view are called. Raises ExpressionError.

    ``places`` say where each source lies below the data root.
    """
    return _form(view, feature, tuple(sorted(places.items())))


@lru_cache(maxsize=20_000)
def _form(view: ViewSpec, feature: str, places: tuple[tuple[str, str], ...]) -> str:
    lies = dict(places)
    where = {
        source.name.lower(): f"{lies[source.name]}|{source.event_timestamp}|{source.arrival}" for source in view.sources
    }
    always = [*sorted(view.join_keys), view.event_timestamp, view.known_at]
    window = next((each for each in view.aggregations if each.name == feature), None)
    column = feature if window is None else window.column
    expression = form_of(view.expression, always if column is None else [*always, column], where)
    over = None if window is None else [window.function, column is not None, window.over.total_seconds()]
    return hashlib.sha256(json.dumps([expression, over]).encode()).hexdigest()


def agreement(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[float, int] | None:
    """The share of agreeing cells among those where at least one has a value, and their count.

    None where that would mean nothing: types that can not be compared, too few cells, or too few different values.
    """
    left, right = _comparable(left), _comparable(right)
    if left.type != right.type:
        return None
    present = np.asarray(pc.or_(pc.is_valid(left), pc.is_valid(right)).to_numpy(), dtype=np.bool_)
    cells = int(present.sum())
    if cells < LEAST_CELLS or min(_distinct(left), _distinct(right)) < LEAST_DISTINCT:
        return None
    return float(_agreeing(left, right)[present].mean()), cells


def _agreeing(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    if not pa.types.is_floating(left.type):
        return np.asarray(pc.fill_null(pc.equal(left, right), False).to_numpy(), dtype=np.bool_)
    ours, theirs = (np.asarray(each.to_numpy(), np.float64) for each in (left, right))
    with np.errstate(invalid="ignore", over="ignore"):
        # NaN, which stands for null, is close to nothing
        return np.isclose(ours, theirs, rtol=TOLERANCE, atol=0.0)


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    return pc.cast(column, pa.float64(), safe=False) if number else column


def _distinct(column: pa.ChunkedArray) -> int:
    return int(pc.count_distinct(column, mode="only_valid").as_py())
