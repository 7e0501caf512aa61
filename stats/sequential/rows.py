"""What every comparison takes in: one entry per row, in the order of event time, checked and of equal length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.interval import FloatArray, finite

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


def arms(canary: ArrayLike, name: str = "canary") -> BoolArray:
    """True where the canary served; ValueError for anything but booleans (or 0 and 1)."""
    array = finite(canary, name)
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError(f"{name} must hold booleans")
    canary_served: BoolArray = array == 1.0
    return canary_served


def shares(share: ArrayLike, canary: BoolArray) -> FloatArray:
    """The canary's share of the traffic at each row; a scalar stands for all rows.

    ValueError outside [0, 1], and where the arm contradicts the share (a canary row at share 0, an incumbent row at 1).
    """
    array = finite(share, "share")
    if np.ndim(share) == 0:
        array = np.full(len(canary), array[0])
    same_length(canary, array, "share")
    if len(array) and (array.min() < 0 or array.max() > 1):
        raise ValueError("share must lie between 0 and 1")
    impossible = int((canary & (array == 0)).sum() + (~canary & (array == 1)).sum())
    if impossible:
        raise ValueError(f"share contradicts the arm in {impossible} rows (canary at 0 or incumbent at 1)")
    return array


def same_length(first: NDArray[Any], other: NDArray[Any], name: str) -> None:
    if len(first) != len(other):
        raise ValueError(f"{name} has {len(other)} entries for {len(first)} rows")


def codes(labels: ArrayLike | Sequence[object] | None, n: int, name: str) -> IntArray:
    """Labels of any hashable kind as integers 0, 1, ... in the order of first appearance; ValueError for missing ones.

    None (no labels at all) makes each row its own.
    """
    if labels is None:
        return np.arange(n, dtype=np.int64)
    listed = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)  # type: ignore[arg-type]
    missing = sum(label is None or (isinstance(label, float) and math.isnan(label)) for label in listed)
    if missing:
        raise ValueError(f"{name} is missing in {missing} rows; give such rows a label of their own")
    if len(listed) != n:
        raise ValueError(f"{name} has {len(listed)} entries for {n} rows")
    seen: dict[object, int] = {}
    return np.fromiter((seen.setdefault(label, len(seen)) for label in listed), dtype=np.int64, count=n)


def first_of_each(entity: ArrayLike | Sequence[object] | None, n: int) -> IntArray:
    """Positions of the first row of every entity, in order; all rows when ``entity`` is None.

    A sticky entity's arm is no longer random after its first row, so exact tests may use no other.
    """
    _, first = np.unique(codes(entity, n, "entity"), return_index=True)
    return np.sort(first).astype(np.int64)


def undecided(share: FloatArray) -> BoolArray:
    """Rows that could have gone to either arm; all others say nothing about the difference between the arms."""
    return (share > 0) & (share < 1)


def safe(number: float) -> float | None:
    """A finite float as it is, None for NaN and infinity (JSON has no word for them)."""
    return float(number) if math.isfinite(number) else None
