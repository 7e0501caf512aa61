"""Tensors of the Open Inference Protocol as columns, and back: datatypes, shapes, flat and nested data. Pure.

Rows are what is asked for: a tensor of shape [n] or [n, 1] is the column of its name, and one tensor [n, k] may bring
all k inputs of the model in the model's order. JSON null is a missing value (the specification has none, and JSON no
NaN).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from rollout.gateway.asked import BadRequest, Described, TooLarge, Values
from rollout.protocols.calls import MAX_COLUMNS, MAX_NAME, MAX_ROWS

NUMPY: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""The datatypes of fixed size, as numpy names them (little-endian, as the binary extension sends them)."""
BYTES = "BYTES"
DATATYPES = frozenset([*NUMPY, BYTES])


def datatype_of(kind: str) -> str:
    """The datatype that a model's metadata says for a signature's word; numbers of no stated kind are doubles."""
    word = kind.lower()
    if any(text in word for text in ("str", "text", "object", "categor", "bytes")):
        return BYTES
    if "bool" in word:
        return "BOOL"
    return "INT64" if word in ("long", "int", "integer", "int64", "int32", "bigint") else "FP64"


# ---------------------------------------------------------------------- one value of JSON


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise ValueError(f"{value!r} is no whole number from {low} to {high}")

    return read


def _rounded(form: str) -> Callable[[Any], float]:
    packing = struct.Struct(form)

    def read(value: Any) -> float:
        if type(value) is float or type(value) is int:
            try:
                rounded: float = packing.unpack(packing.pack(value))[0]
            except (OverflowError, struct.error):
                raise ValueError(f"{value!r} is too large") from None
            return rounded
        raise ValueError(f"{value!r} is no number")

    return read


def _double(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise ValueError(f"{value!r} is no number")


def _truth(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is int and value in (0, 1):  # numpy-minded clients
        return bool(value)
    raise ValueError(f"{value!r} is neither true nor false")


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    raise ValueError(f"{value!r} is no text")


_READ: Mapping[str, Callable[[Any], Any]] = {
    "BOOL": _truth,
    **{f"UINT{bits}": _whole(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": _whole(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    "FP16": _rounded("<e"),
    "FP32": _rounded("<f"),
    "FP64": _double,
    BYTES: _text,
}


# ---------------------------------------------------------------------- shapes


def head(tensor: Any, place: str) -> tuple[str, str, int, int]:
    """Name, datatype, rows and width of a tensor. Raises BadRequest, TooLarge."""
    if type(tensor) is not dict:
        raise BadRequest("A tensor is a JSON object with name, shape, datatype and data.", place)
    name, datatype = tensor.get("name"), tensor.get("datatype")
    if type(name) is not str or not 0 < len(name) <= MAX_NAME:
        raise BadRequest(f"It must be text of 1 to {MAX_NAME} characters.", f"{place}.name")
    if type(datatype) is not str or datatype not in DATATYPES:
        raise BadRequest(f"It must be one of {', '.join(sorted(DATATYPES))}.", f"{place}.datatype")
    rows, width = shape_of(tensor.get("shape"), f"{place}.shape")
    return name, datatype, rows, width


def shape_of(shape: Any, place: str) -> tuple[int, int]:
    if type(shape) is not list or not 1 <= len(shape) <= 2 or any(type(each) is not int for each in shape):
        raise BadRequest("It must be [rows], [rows, 1], or [rows, inputs of the model].", place)
    rows, width = shape[0], shape[1] if len(shape) == 2 else 1
    if rows < 1 or width < 1:
        raise BadRequest(f"It must have a row and a column, and says {shape}.", place)
    if rows > MAX_ROWS or width > MAX_COLUMNS:
        raise TooLarge(f"{rows} rows of {width}; {MAX_ROWS} of {MAX_COLUMNS} are taken at once.", place)
    return rows, width


# ---------------------------------------------------------------------- data

_EXACT: Mapping[str, type] = {"BOOL": bool, "INT64": int, "FP64": float, BYTES: str}
_ONE = ([1], [1, 1])


def plain_row(inputs: list[Any]) -> dict[str, Values] | None:
    """The columns of what is asked most: one row of plain values, a tensor each.

    None where anything is unusual, and the long way has to look; it reads the same (tests), in five times the time.
    """
    columns: dict[str, Values] = {}
    for tensor in inputs:
        if type(tensor) is not dict or "parameters" in tensor:
            return None
        name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
        if type(name) is not str or not 0 < len(name) <= MAX_NAME or type(datatype) is not str:
            return None
        if shape not in _ONE or type(shape[0]) is not int or type(shape[-1]) is not int:  # [true] equals [1]
            return None
        data = tensor.get("data")
        if type(data) is not list or len(data) != 1:
            return None
        value = data[0]
        if type(value) is not _EXACT.get(datatype) or (type(value) is int and value >= 2**63):
            return None
        columns[name] = data
    return columns if len(columns) == len(inputs) else None


def from_json(data: Any, datatype: str, rows: int, width: int, place: str) -> list[list[Any]]:
    """The tensor's columns. ``data`` is row-major, flat or nested. Raises BadRequest."""
    if type(data) is not list:
        raise BadRequest("It must be a list.", place)
    if data and type(data[0]) is list:
        data = _flat(data, rows, width, place)
    if len(data) != rows * width:
        raise BadRequest(f"{len(data)} values; the shape [{rows}, {width}] has {rows * width}.", place)
    read = _READ[datatype]
    try:
        values = [None if value is None else read(value) for value in data]
    except ValueError as error:
        raise BadRequest(f"A value is not {datatype}: {str(error)[:200]}.", place) from None
    return [values] if width == 1 else [values[column::width] for column in range(width)]


def _flat(data: list[Any], rows: int, width: int, place: str) -> list[Any]:
    if len(data) != rows or any(type(row) is not list or len(row) != width for row in data):
        raise BadRequest(f"It must be flat, or {rows} lists of {width}.", place)
    return [value for row in data for value in row]


def named(tensors: list[tuple[str, int, list[Values]]], described: Described) -> dict[str, Values]:
    """Columns by name. A tensor is (name, width, columns); one of them may be all inputs side by side.

    Raises BadRequest.
    """
    inputs = [each.name for each in described.inputs]
    found: dict[str, Values] = {}
    known = {*inputs, *described.keys, described.entity_column}
    alone = len(tensors) == 1 and len(inputs) == 1
    for place, (name, width, columns) in enumerate(tensors):
        # a model of one input, and a client that calls it as it likes: input-0, X, float_input
        is_matrix = width > 1 or (alone and name not in known)
        if is_matrix and width != len(inputs):
            raise BadRequest(
                f"It has {width} columns; the model takes {len(inputs)}: {', '.join(inputs)[:500]}.",
                f"inputs[{place}].shape",
            )
        names = inputs if is_matrix else [name]
        twice = next((each for each in names if each in found), None)
        if twice is not None:
            raise BadRequest(f"{twice} is given twice.", f"inputs[{place}].name")
        found.update(zip(names, columns, strict=True))
    return found


def array_columns(array: NDArray[Any], width: int) -> list[Values]:
    """The columns of a flat row-major array."""
    return [array] if width == 1 else list(array.reshape(-1, width).T)
