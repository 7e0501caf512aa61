"""The values of one entity as bytes: the same in every online store, cheap for one entity and for a hundred thousand.

A record is a bitmap of nulls, then eight bytes per feature (a float, an integer, a boolean, a time as microseconds
since 1970 UTC, or the length of a text), all little-endian, then the UTF-8 of the texts one after the other. One record
is read with ``struct``, many at once with numpy; nothing is parsed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TIME = pa.timestamp("us", "UTC")
ARROW: Mapping[str, pa.DataType] = {
    "float64": pa.float64(),
    "int64": pa.int64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": TIME,
}
"""The types of features, and what each is in Arrow."""

_CODES = {"float64": "d", "int64": "q", "string": "q", "bool": "q", "timestamp": "q"}
_NUMPY = {"d": "<f8", "q": "<i8"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Layout:
    """How the records of one view version look: the type name (a key of ``ARROW``) of each feature, in order."""

    types: tuple[str, ...]

    def pack(self, columns: Sequence[pa.ChunkedArray]) -> list[bytes]:
        """One record per row of ``columns``, one per feature and in its Arrow type."""
        rows = len(columns[0]) if columns else 0
        records = np.zeros(rows, self._dtype)
        nulls = np.zeros((rows, self._bitmap * 8), np.bool_)
        texts: list[list[bytes]] = []
        for place, (column, kind) in enumerate(zip(columns, self.types, strict=True)):
            nulls[:, place] = pc.is_null(column).to_numpy()
            if kind == "string":
                encoded = [b"" if text is None else text.encode() for text in column.to_pylist()]
                records[f"c{place}"] = [len(text) for text in encoded]
                texts.append(encoded)
            else:
                records[f"c{place}"] = _numbers(column, kind)
        records["nulls"] = np.packbits(nulls, axis=1, bitorder="little")
        raw, size = records.tobytes(), self._struct.size
        fixed = [raw[start : start + size] for start in range(0, rows * size, size)]
        return [b"".join(parts) for parts in zip(fixed, *texts, strict=True)] if texts else fixed

    def unpack(self, record: bytes) -> tuple[Any, ...]:
        """The Python values of one record: None where null; a time as an aware datetime."""
        nulls = record[: self._bitmap]
        cells: Sequence[Any] = self._cells.unpack_from(record)
        if not self._is_plain:
            cells = self._meant(cells, record)
        return tuple(cells) if nulls == self._no_nulls else _with_nulls(nulls, cells)

    def unpack_many(self, records: Sequence[bytes]) -> Sequence[tuple[Any, ...]]:
        """The Python values of each record. Without texts in it, five times as fast as one by one."""
        if len(records) < 2 or not self._is_plain:
            return [self.unpack(record) for record in records]
        joined = b"".join(records)
        rows = list(self._cells.iter_unpack(joined))
        size = self._cells.size
        if any(joined[offset::size].count(0) < len(rows) for offset in range(self._bitmap)):
            bitmap, whole = self._bitmap, self._no_nulls
            for number, start in enumerate(range(0, len(joined), size)):
                nulls = joined[start : start + bitmap]
                if nulls != whole:
                    rows[number] = _with_nulls(nulls, rows[number])
        return rows

    def columns(self, records: Sequence[bytes | None], places: Sequence[int]) -> list[pa.Array]:
        """The features at ``places`` of many records as Arrow columns; a record that is None gives nulls."""
        blank = bytes(self._struct.size)
        size = self._struct.size
        joined = b"".join(blank if record is None else record[:size] for record in records)
        table = np.frombuffer(joined, self._dtype)
        absent = np.fromiter((record is None for record in records), np.bool_, len(records))
        nulls = np.unpackbits(table["nulls"], axis=1, bitorder="little").astype(np.bool_)
        return [self._column(place, table, nulls[:, place] | absent, records) for place in places]

    def _column(self, place: int, table: Any, missing: Any, records: Sequence[bytes | None]) -> pa.Array:
        kind = self.types[place]
        if kind == "string":
            pairs = zip(records, missing.tolist(), strict=True)
            texts = [None if absent or record is None else self._text(record, place) for record, absent in pairs]
            return pa.array(texts, pa.string())
        numbers = table[f"c{place}"]
        if kind == "bool":
            return pa.array(numbers != 0, pa.bool_(), mask=missing)
        numbers = pa.array(numbers, mask=missing)
        return numbers.cast(TIME) if kind == "timestamp" else numbers

    def _text(self, record: bytes, place: int) -> str:
        _, *cells = self._struct.unpack_from(record)
        start = self._struct.size + sum(cells[other] for other in self._texts if other < place)
        return record[start : start + cells[place]].decode()

    def _meant(self, cells: Sequence[Any], record: bytes) -> list[Any]:
        """Numbers as what they stand for."""
        start = self._struct.size
        meant: list[Any] = []
        for cell, kind in zip(cells, self.types, strict=True):
            if kind == "string":
                meant.append(record[start : start + cell].decode())
                start += cell
            elif kind == "bool":
                meant.append(bool(cell))
            elif kind == "timestamp":
                meant.append(_EPOCH + timedelta(microseconds=cell))
            else:
                meant.append(cell)
        return meant

    # ------------------------------------------------------------------ worked out once

    @cached_property
    def _bitmap(self) -> int:
        return (len(self.types) + 7) // 8

    @cached_property
    def _no_nulls(self) -> bytes:
        return bytes(self._bitmap)

    @cached_property
    def _struct(self) -> struct.Struct:
        return struct.Struct(f"<{self._bitmap}s" + "".join(_CODES[kind] for kind in self.types))

    @cached_property
    def _cells(self) -> struct.Struct:
        """The same size, passing over the bitmap."""
        return struct.Struct(f"<{self._bitmap}x" + "".join(_CODES[kind] for kind in self.types))

    @cached_property
    def _dtype(self) -> Any:
        cells = [(f"c{place}", _NUMPY[_CODES[kind]]) for place, kind in enumerate(self.types)]
        return np.dtype([("nulls", "u1", (self._bitmap,)), *cells])

    @cached_property
    def _texts(self) -> tuple[int, ...]:
        return tuple(place for place, kind in enumerate(self.types) if kind == "string")

    @cached_property
    def _is_plain(self) -> bool:
        return not any(kind in ("string", "bool", "timestamp") for kind in self.types)


def _with_nulls(nulls: bytes, cells: Sequence[Any]) -> tuple[Any, ...]:
    missing = int.from_bytes(nulls, "little")
    return tuple([None if missing >> place & 1 else cell for place, cell in enumerate(cells)])


def _numbers(column: pa.ChunkedArray, kind: str) -> Any:
    if kind == "bool":
        column = pc.cast(column, pa.int8())
    elif kind == "timestamp":
        column = pc.cast(column, pa.int64())
    return pc.fill_null(column, 0).to_numpy()
