"""Cells on their way between Arrow tables and the stores: one form of each value, on both sides.

What JSON and PostgreSQL can not hold is no value: a number that is not finite, a text with a NUL in it. It becomes null
online and offline alike, because a model must not meet in training what it will never be served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.meaning import TYPES

LONGEST_KEY = 200
"""Characters that the online store's key column holds."""


def conform(column: pa.ChunkedArray, dtype: str) -> pa.ChunkedArray:
    """The column in the declared type (a name of ``TYPES``), with null for what no store can hold.

    Raises pyarrow.ArrowInvalid when a value does not fit the type.
    """
    cast = pc.cast(column, TYPES[dtype])
    if dtype == "float64":
        return _only(cast, pc.is_finite(cast))
    if dtype == "string":
        return _only(cast, pc.invert(pc.match_substring(cast, "\0")))
    return cast


def differing(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which cells of two columns of one type differ; two nulls do not."""
    both = pc.and_(pc.is_null(left), pc.is_null(right))
    same = pc.or_(both, pc.fill_null(pc.equal(left, right), False))
    return np.asarray(pc.invert(same).to_numpy(), dtype=np.bool_)


def entity_keys(table: pa.Table, join_keys: Sequence[str]) -> list[str | None]:
    """The online store's key of each row: join key values joined by '|'; None where one is null.

    A '|' inside a value is escaped, so that ('a|b', 'c') and ('a', 'b|c') stay two entities. A key too long for the
    column, or with a character that PostgreSQL can not hold, is replaced by its hash.
    """
    parts = [_as_text(table.column(name)) for name in join_keys]
    joined: list[str | None] = pc.binary_join_element_wise(*parts, "|").to_pylist()
    return [key if key is None or _fits(key) else _hashed(key) for key in joined]


def quick_key(value: Any) -> str | None:
    """The online store's key of an entity with one join key, when the value is a plain text or integer; else None."""
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is not str or "|" in value or "\\" in value or not _fits(value):
        return None
    return str(value)


def table_digest(table: pa.Table) -> str:
    """SHA-256 over names, types and every cell in order; the same however Arrow chunks or pads the memory."""
    digest = hashlib.sha256(str(table.num_rows).encode())
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        digest.update(json.dumps([name, str(column.type)]).encode())
        for part in _parts(column):
            digest.update(part)
    return digest.hexdigest()


def _parts(column: pa.Array) -> Iterable[bytes]:
    """The bytes that say what a column holds: which cells are null, and the values of the others."""
    yield np.packbits(pc.is_null(column).to_numpy(zero_copy_only=False)).tobytes()
    present = column.drop_null()
    if pa.types.is_floating(present.type):
        numbers = present.to_numpy(zero_copy_only=False).astype(np.float64)
        numbers[np.isnan(numbers)] = np.nan  # one NaN, whatever its payload
        yield numbers.tobytes()
    elif pa.types.is_integer(present.type) or pa.types.is_boolean(present.type):
        yield present.cast(pa.int64(), safe=False).to_numpy(zero_copy_only=False).tobytes()
    elif pa.types.is_timestamp(present.type):
        yield present.view(pa.int64()).to_numpy(zero_copy_only=False).tobytes()
    else:
        texts = present.cast(pa.large_string())
        yield pc.cast(pc.binary_length(texts), pa.int64()).to_numpy(zero_copy_only=False).tobytes()
        yield "".join(texts.to_pylist()).encode()


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        column = pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), pa.int64())
    text = pc.cast(column, pa.string())
    return pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), "|", "\\|")


def _only(column: pa.ChunkedArray, kept: pa.ChunkedArray) -> pa.ChunkedArray:
    """Null where ``kept`` is False; where it is null the cell is null already."""
    return column if pc.all(kept).as_py() is not False else pc.if_else(kept, column, None)


def _fits(key: str) -> bool:
    return len(key) <= LONGEST_KEY and "\0" not in key


def _hashed(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()
