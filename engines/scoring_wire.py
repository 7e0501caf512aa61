"""How a scorer and its child talk: frames of a JSON header and a body of bytes over a Unix socket, never pickle.

A frame is two big-endian unsigned 32-bit lengths, the header, the body. Both sides are ours, but what the child says is
believed no further than its lengths: whoever reads sets the limit.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTHS = struct.Struct("!II")
MAX_HEADER_BYTES = 64 * 2**20
MAX_BODY_BYTES = 2**31


class WireError(Exception):
    """The other side is gone, or says what is no frame."""


def send(channel: socket.socket, header: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Send one frame. Raises OSError (BrokenPipeError) when the other side is gone."""
    text = json.dumps(header).encode()
    channel.sendall(_LENGTHS.pack(len(text), len(body)) + text)
    if len(body):
        channel.sendall(body)


def receive(channel: socket.socket, *, max_body: int = MAX_BODY_BYTES) -> tuple[dict[str, Any], bytearray]:
    """The next frame. Raises WireError at the end of the stream or for a frame beyond the limits."""
    header_length, body_length = _LENGTHS.unpack(_exactly(channel, _LENGTHS.size))
    if header_length > MAX_HEADER_BYTES or body_length > max_body:
        raise WireError(f"a frame of {header_length} + {body_length} bytes")
    header = json.loads(_exactly(channel, header_length))
    if not isinstance(header, dict):
        raise WireError("a header that is no object")
    return header, _exactly(channel, body_length)


def _exactly(channel: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    got = 0
    while got < length:
        count = channel.recv_into(view[got:])
        if not count:
            raise WireError("the other side has gone")
        got += count
    return data
