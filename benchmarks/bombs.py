"""Crafted files that look small and are not, by name. Each must be stopped soon, in little memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping

MB = 2**20


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def varint(number: int) -> bytes:
    """A number as protocol buffers write it."""
    text = b""
    while number > 127:
        text += bytes([number & 127 | 128])
        number >>= 7
    return text + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A message or text as a field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def _many_nodes() -> bytes:
    return b"\x08\x07" + field(7, field(1, b"") * 3_000_000)


def _deep_graph() -> bytes:
    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x07" + field(7, graph)


def _many_members() -> bytes:
    return zipped({str(number): b"" for number in range(40_000)}, zipfile.ZIP_STORED)


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "zip: 300 KB to 300 MB": lambda: zipped({"schema.json": b"{}", "0.npy": bytes(300 * MB)}),
    "zip: 40,000 members": _many_members,
    "zip: a schema of 60 MB": lambda: zipped({"schema.json": b"[" * (60 * MB)}),
    "zip: a schema nested 20 million deep": lambda: zipped({"schema.json": b"[" * (20 * MB)}),
    "zip: a schema of 10 million objects": lambda: zipped({"schema.json": b"[" + b"{}," * (10 * MB) + b"{}]"}),
    "zip: just below the free size": lambda: zipped({"schema.json": b"{}", "0.npy": bytes(63 * MB)}),
    "protobuf: a varint without end": lambda: b"\x08" + b"\xff" * 300_000,
    "protobuf: a length of 2^62": lambda: b"\x08\x07\x3a" + varint(2**62),
    "protobuf: 3 million empty nodes": _many_nodes,
    "protobuf: graphs nested 2,000 deep": _deep_graph,
    "json: nested 10 million deep": lambda: b'{"learner":' + b"[" * (10 * MB),
    "json: 10 million lists": lambda: b'{"learner":' + b"[]," * (10 * MB),
    "json: one text without end": lambda: b'{"learner":"' + b"a" * (30 * MB),
}
