"""Feature profiles of a reference and of a window, from Arrow columns. Pure: tables in, frozen dataclasses out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import add
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitoring.judge import FeatureMeasured
from stats import drift


@dataclass(frozen=True)
class FeatureReference:
    """What one feature looked like. ``calibrated`` and ``normal_nulls``: see ``monitoring.judge.FeatureMeasured``."""

    bins: drift.ReferenceBins
    profile: drift.Profile
    calibrated: float | None
    normal_nulls: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "bins": self.bins.as_dict(),
            "profile": self.profile.as_dict(),
            "calibrated": self.calibrated,
            "normal_nulls": self.normal_nulls,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        return cls(
            bins=drift.ReferenceBins.from_dict(stored["bins"]),
            profile=drift.Profile.from_dict(stored["profile"]),
            calibrated=stored["calibrated"],
            normal_nulls=stored["normal_nulls"],
        )


def build(
    table: pa.Table,
    columns: Iterable[str],
    *,
    timestamp: str | None,
    window: timedelta,
    minimum_rows: int,
    range_margin: float,
) -> dict[str, FeatureReference]:
    """References of the columns that can be compared. Those without any value, or of another type, are left out.

    With ``timestamp`` the table is cut into windows as long as those that will be judged, and each whole one with
    ``minimum_rows`` shows how far a feature wanders although nothing is wrong. Impossible values are those outside
    the range widened by ``range_margin`` of its widths: leaving the range is drift, leaving the widened one is a fault.
    """
    parts = _windows(table, timestamp, window)
    built: dict[str, FeatureReference] = {}
    for column in columns:
        if column not in table.column_names:
            continue
        values = comparable(table[column])
        bins = _bins(values, range_margin)
        if values is None or bins is None:
            continue
        pieces = [drift.profile(values[rows], bins) for rows in parts]
        whole = reduce(add, pieces)
        typical = [piece for piece in pieces[:-1] if piece.n >= minimum_rows]
        built[column] = FeatureReference(
            bins, whole, _largest_effect(whole, typical, bins), _most_nulls(whole, typical)
        )
    return built


def _bins(values: NDArray[Any] | None, range_margin: float) -> drift.ReferenceBins | None:
    if values is None:
        return None
    if values.dtype == object:
        return drift.categorical_bins(list(values))
    bins = drift.numeric_bins(values)
    if bins is None or bins.low is None or bins.high is None:
        return None
    # A reference with one value has no width to widen by: any other number is merely unusual there.
    margin = range_margin * (bins.high - bins.low) or float("inf")
    return dataclasses.replace(bins, low=bins.low - margin, high=bins.high + margin)


def comparable(column: pa.ChunkedArray) -> NDArray[Any] | None:
    """Numbers as float64 with NaN for null, text as objects with None; None for other types."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        column, kind = column.cast(pa.int8()), pa.int8()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers: NDArray[Any] = column.cast(pa.float64()).to_numpy()
        return numbers
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(column.to_pylist(), dtype=object)
    return None


def _windows(table: pa.Table, timestamp: str | None, window: timedelta) -> list[NDArray[np.int64]]:
    """Row numbers of each window, oldest first; only the last one can be incomplete. One part without a timestamp."""
    if timestamp is None or timestamp not in table.column_names or not table.num_rows:
        return [np.arange(table.num_rows)]
    instants = pc.cast(table[timestamp], pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    number = (instants - instants.min()) // (window // timedelta(microseconds=1))
    return [np.flatnonzero(number == k) for k in range(int(number.max()) + 1)]


def _largest_effect(whole: drift.Profile, pieces: Sequence[drift.Profile], bins: drift.ReferenceBins) -> float | None:
    effects = [effect.debiased for piece in pieces if (effect := drift.effect(whole, piece, bins)) is not None]
    return max(effects, default=None)


def _most_nulls(whole: drift.Profile, pieces: Sequence[drift.Profile]) -> float:
    return max((piece.null_share or 0.0 for piece in (whole, *pieces)), default=0.0)


def measure(name: str, column: pa.ChunkedArray, reference: FeatureReference) -> FeatureMeasured:
    """One column of a window against its reference."""
    current = drift.profile(_as_reference(column, reference.bins), reference.bins)
    return FeatureMeasured(
        name=name,
        n=current.n,
        effect=drift.effect(reference.profile, current, reference.bins),
        psi=drift.psi(reference.profile, current, reference.bins) if current.present else None,
        null_share=current.null_share or 0.0,
        normal_nulls=reference.normal_nulls,
        unseen_share=current.unseen_share or 0.0,
        out_of_range_share=current.out_of_range_share or 0.0,
        calibrated=reference.calibrated,
    )


def _as_reference(column: pa.ChunkedArray, bins: drift.ReferenceBins) -> NDArray[Any]:
    """The column as the kind its reference has; what can not be read as that counts as null."""
    values = comparable(column)
    if values is None:
        return np.full(len(column), np.nan)
    if bins.kind == "categorical" or values.dtype != object:
        return values
    return np.full(len(values), np.nan)
