"""The entity frame as the search sees it: a code per row and join keys, and the asked times in microseconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.duckdb.histories import Flags, Ints
from engines.duckdb.sql import span_us
from engines.offline import FrameError, ViewSpec


@dataclass(frozen=True)
class Frame:
    """An entity frame and its time column."""

    table: pa.Table
    timestamp: str

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def time(self) -> Ints:
        """The asked times; zero where null. Finer units are cut."""
        return _numbers(pc.cast(self._microseconds, pa.int64()))

    @cached_property
    def has_time(self) -> Flags:
        """Which rows have an asked time."""
        return _flags(pc.is_valid(self._microseconds))

    @property
    def _microseconds(self) -> pa.ChunkedArray:
        return pc.cast(self.table.column(self.timestamp), pa.timestamp("us"), safe=False)

    def bounds(self, view: ViewSpec) -> Ints:
        """The asked times floored to the view's cadence, also before 1970."""
        if view.cadence is None:
            return self.time
        step = span_us(view.cadence)
        return self.time // step * step


@dataclass(frozen=True)
class Entities:
    """The different entities of a frame under some join keys: one row of ``keys`` each, at the place of its code.

    ``code`` has a code per row of the frame, -1 where a key is null.
    """

    keys: pa.Table
    code: Ints

    def __len__(self) -> int:
        return int(self.keys.num_rows)


def entities_of(table: pa.Table, join_keys: Iterable[str]) -> Entities:
    """The entities of a table, numbered as they first appear (roughly, with several join keys)."""
    columns = {key: _encoded(table.column(key)) for key in join_keys}
    (first, *others) = columns.values()
    code = _codes(first)
    parts = {next(iter(columns)): np.arange(len(first.dictionary))}
    for name, column in list(columns.items())[1 : len(others) + 1]:
        width = max(len(column.dictionary), 1)
        pair = np.where((code < 0) | (_codes(column) < 0), -1, code * width + _codes(column))
        encoded = _encoded(pa.chunked_array([pa.array(pair, mask=pair < 0)]))
        code, held = _codes(encoded), encoded.dictionary.to_numpy()
        parts = {key: part[held // width] for key, part in parts.items()} | {name: held % width}
    keys = {name: column.dictionary.take(pa.array(parts[name])) for name, column in columns.items()}
    return Entities(pa.table(keys), code)


def check_frame(frame: pa.Table, views: Iterable[ViewSpec], timestamp: str, *, reasons: bool) -> None:
    """Raise FrameError where the views can not be joined to the frame."""
    present = set(frame.column_names)
    if timestamp not in present:
        raise FrameError(f"the entity frame has no time column {timestamp!r}; it has {', '.join(frame.column_names)}")
    if not pa.types.is_timestamp(frame.schema.field(timestamp).type):
        raise FrameError(f"the frame's {timestamp!r} must be a timestamp, not {frame.schema.field(timestamp).type}")
    written: set[str] = set()
    for view in views:
        missing = [key for key in view.join_keys if key not in present]
        if missing:
            raise FrameError(
                f"feature view {view.name} version {view.version} needs the join key {', '.join(missing)} "
                "in the entity frame"
            )
        columns = {view.column(name) for name in view.features} | ({view.reason_column} if reasons else set())
        taken = sorted(columns & (present | written))
        if taken:
            raise FrameError(
                f"the column {', '.join(taken)} would be written twice; rename it, or ask for one version of a view"
            )
        written |= columns


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def _codes(encoded: pa.DictionaryArray) -> Ints:
    return _numbers(pc.cast(pc.fill_null(encoded.indices, -1), pa.int64()))


def _numbers(values: pa.Array | pa.ChunkedArray) -> Ints:
    numbers: Ints = pc.fill_null(values, 0).to_numpy()
    return numbers


def _flags(values: pa.ChunkedArray) -> Flags:
    flags: Flags = values.to_numpy()
    return flags
