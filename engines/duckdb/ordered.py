"""Columns as integers that sort like their values, so that one search serves numbers, text, booleans and times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_MAGNITUDE = np.int64(2**63 - 1)


@dataclass(frozen=True)
class Ordered:
    """A column: integers in the order of its values (anything where ``valid`` is false), and the way back."""

    ranks: Ints
    valid: Flags
    decode: Callable[[Ints], pa.Array]


def ordered(values: pa.Array) -> Ordered:
    """A column of text, booleans, times, whole or fractional numbers. NaN is the greatest, -0.0 is 0.0."""
    valid = is_valid(values)
    if pa.types.is_string(values.type):
        return _ordered_text(values, valid)
    if pa.types.is_floating(values.type):
        return Ordered(_float_ranks(filled(values, 0.0)), valid, _floats)
    type_ = values.type
    whole = values.cast(pa.int64())
    return Ordered(filled(whole, 0), valid, lambda ranks: pa.array(ranks).cast(type_))


def filled(values: pa.Array, instead: float) -> npt.NDArray[Any]:
    """The values as numpy, nulls replaced."""
    numbers: npt.NDArray[Any] = pc.fill_null(values, instead).to_numpy(zero_copy_only=False)
    return numbers


def is_valid(values: pa.Array) -> Flags:
    """Which values are not null."""
    flags: Flags = pc.is_valid(values).to_numpy(zero_copy_only=False)
    return flags


def _ordered_text(values: pa.Array, valid: Flags) -> Ordered:
    encoded = values.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    texts = encoded.dictionary.take(order)
    ranks = rank[filled(encoded.indices, 0)] if len(rank) else np.zeros(len(values), np.int64)
    return Ordered(ranks, valid, lambda chosen: texts.take(pa.array(chosen)))


def _float_ranks(numbers: npt.NDArray[Any]) -> Ints:
    # The bits of a positive double sort like the number, those of a negative one the other way round.
    doubles = numbers.astype(np.float64) + 0.0
    doubles[np.isnan(doubles)] = np.nan
    bits = doubles.view(np.int64)
    ranks: Ints = bits ^ ((bits >> 63) & _MAGNITUDE)
    return ranks


def _floats(ranks: Ints) -> pa.Array:
    return pa.array((ranks ^ ((ranks >> 63) & _MAGNITUDE)).view(np.float64))
