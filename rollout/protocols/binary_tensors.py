"""Triton's binary tensor extension: numbers behind the JSON, in the order of the tensors that say so. Pure.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
Little-endian, row-major, no padding; BOOL is a byte 0 or 1; an element of BYTES is its length as uint32, then itself.
``tritonclient`` and KServe's client send numpy arrays this way unless told not to.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from rollout.gateway.asked import BadRequest, Values
from rollout.protocols import tensors
from rollout.protocols.calls import Call

HEADER = "inference-header-content-length"
_LENGTH = struct.Struct("<I")


def split(call: Call, body: bytes) -> tuple[bytes, memoryview]:
    """The JSON, and what lies behind it. Raises BadRequest."""
    stated = call.headers.get(HEADER)
    if stated is None:
        return body, memoryview(b"")
    if not (stated.isascii() and stated.isdigit() and len(stated) < 12 and int(stated) <= len(body)):
        raise BadRequest(f"It must be the bytes of the JSON, at most the body's {len(body)}.", HEADER)
    return body[: int(stated)], memoryview(body)[int(stated) :]


def size_of(tensor: dict[str, Any], place: str) -> int | None:
    """How many bytes behind the JSON are this tensor's; None: its data is in the JSON. Raises BadRequest."""
    parameters = tensor.get("parameters")
    if type(parameters) is not dict or "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise BadRequest("It must be a number of bytes.", f"{place}.parameters.binary_data_size")
    if "data" in tensor:
        raise BadRequest("The data is given twice: in the JSON and behind it.", f"{place}.data")
    return size


def from_bytes(raw: memoryview, datatype: str, rows: int, width: int, place: str) -> list[Values]:
    """The tensor's columns: arrays of numbers, or lists of text. Raises BadRequest."""
    if datatype == tensors.BYTES:
        texts = _texts(raw, rows * width, place)
        return [texts[column::width] for column in range(width)]
    dtype = np.dtype(tensors.NUMPY[datatype])
    if len(raw) != rows * width * dtype.itemsize:
        wanted = rows * width * dtype.itemsize
        raise BadRequest(f"{len(raw)} bytes; {datatype} [{rows}, {width}] has {wanted}.", place)
    if datatype == "BOOL":
        return tensors.array_columns(np.frombuffer(raw, np.uint8) != 0, width)
    return tensors.array_columns(np.frombuffer(raw, dtype), width)


def _texts(raw: memoryview, count: int, place: str) -> list[str]:
    found: list[str] = []
    start = 0
    try:
        while start < len(raw) and len(found) < count:
            (length,) = _LENGTH.unpack_from(raw, start)
            start += _LENGTH.size
            if start + length > len(raw):
                raise BadRequest("An element says more bytes than there are.", place)
            found.append(str(raw[start : start + length], "utf-8"))
            start += length
    except struct.error:
        raise BadRequest("It ends inside an element's length.", place) from None
    except UnicodeDecodeError:
        raise BadRequest(f"Element {len(found)} is no UTF-8.", place) from None
    if len(found) != count or start != len(raw):
        raise BadRequest(f"It does not hold the {count} elements of its shape.", place)
    return found


def to_bytes(values: Sequence[Any], datatype: str) -> bytes:
    """A column as it is sent. What is not there is NaN, false or 0: the extension has no null."""
    if datatype == tensors.BYTES:
        texts = [value.encode() for value in values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    if datatype == "FP64":
        return np.asarray(values, dtype=np.float64).astype("<f8", copy=False).tobytes()
    return np.array([value or 0 for value in values], dtype=tensors.NUMPY[datatype]).tobytes()
