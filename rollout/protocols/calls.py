"""A request and a reply as bytes, whoever carries them, and what stands behind the protocols. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from rollout.gateway.asked import Answered, Asked, BadRequest, Described, TooLarge

MAX_BYTES = 16 * 2**20
"""Of a body, also when unpacked."""
MAX_ROWS = 10_000
MAX_COLUMNS = 2_000
MAX_NAME = 200
"""Characters of a request id, an entity, a column's name."""

JSON = "application/json"
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``path`` is unquoted, ``query`` is not; names of ``headers`` are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class House(Protocol):
    """Who answers, as the caller may see it: a caller without a duty for an endpoint gets ``NotAllowed``."""

    version: str
    """Of the gateway's software."""

    def names(self) -> Sequence[str]:
        """The endpoints that this caller may ask."""

    def is_ready(self) -> bool:
        """Whether everything that is routed to can answer."""

    def describe(self, endpoint: str) -> Described:
        """Raises UnknownEndpoint, NotAllowed."""

    def answer(self, endpoint: str, asked: Asked) -> Answered:
        """Raises Refusal."""


def body_of(call: Call) -> bytes:
    """The body, unpacked where it was sent packed. Raises BadRequest, TooLarge."""
    if len(call.body) > MAX_BYTES:
        raise TooLarge(f"The body has {len(call.body)} bytes; {MAX_BYTES} are taken at once.")
    packing = call.headers.get("content-encoding", "identity").strip().lower()
    if packing in ("identity", ""):
        return call.body
    if packing not in ("gzip", "deflate"):
        raise BadRequest(f"Content-Encoding {packing[:40]!r} is not taken; gzip and deflate are.", "Content-Encoding")
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by its first bytes
    try:
        body = unpacking.decompress(call.body, MAX_BYTES + 1)
    except zlib.error as error:
        raise BadRequest(f"The body is no {packing}: {error}.") from error
    if len(body) > MAX_BYTES:
        raise TooLarge(f"The body has more than {MAX_BYTES} bytes when unpacked; so many are taken at once.")
    if not unpacking.eof or unpacking.unused_data:
        raise BadRequest(f"The body is no whole {packing}.")
    return body


def document(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest."""
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        read = _with_nan(body) if b"NaN" in body else None
        if read is None:
            raise BadRequest(f"The body is no JSON: {error}.") from error
    if type(read) is not dict:
        raise BadRequest("The body must be a JSON object.")
    return read


def _with_nan(body: bytes) -> Any:
    """The body with NaN, which JSON has not but Python's clients write, as null; None where that does not help."""
    try:
        return orjson.loads(orjson.dumps(json.loads(body, parse_constant=_nan)))
    except (
        ValueError,
        TypeError,
        RecursionError,
    ):  # TypeError: what orjson would not have read, such as half a character
        return None


def _nan(constant: str) -> None:
    if constant != "NaN":
        raise ValueError(constant)


def json_reply(content: Any, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))
