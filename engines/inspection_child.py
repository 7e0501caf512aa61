"""The process that looks into an artifact: what it is, why, and what it says of itself. It builds nothing of it.

``python -m engines.inspection_child <options as JSON>`` reads the artifact from its standard input, which is the open
file, and writes one line of JSON. ``engines.inspection`` starts it behind ``engines.sandbox``: without a network, an
environment or a secret, with little memory and processor time, so that a crafted file harms nothing but its own hopes.
"""

from __future__ import annotations

import json
import mmap
import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from engines import skops_types
from engines.skops_types import Unscorable

HEAD_BYTES = 64 * 2**10
MAX_DOCUMENT_BYTES = 64 * 2**10
"""An external model's document is a name and an address."""
MAX_TOKENS = 500_000
"""Texts and brackets of a booster's JSON: some sixty a tree."""
MAX_DEPTH = 32
MAX_REASON = 600
MAX_NAMES = 1000
"""Columns that are told of, not accepted."""
LIGHTGBM = b"tree\nversion="

Answer = tuple[str, str, dict[str, Any]]
"""Load class, why in a sentence, facts."""


def look(file: BinaryIO, *, allowed_hosts: tuple[str, ...]) -> Answer:
    """What this file is. Raises Unscorable with why it may be kept but not loaded."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if refusal := _executable(head):
        raise Unscorable(refusal)
    if head.startswith(b"PK"):
        skops_types.check(file)
        return "skops", "A skops file that holds nothing but types on our list.", {}
    if head.lstrip().startswith(b"{"):
        return _json(file, allowed_hosts)
    if head.startswith(LIGHTGBM):
        return _lightgbm(file)
    if head[:1] == b"\x08":
        return _onnx(file)
    raise Unscorable("Nobody here knows this kind of file. Skops, ONNX and boosters' own text formats are scored.")


# ---------------------------------------------------------------------- what would run code, or hides what it is

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"]\x00\x00": "lzma",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"\x04\x22\x4d\x18": "lz4",
    b"x\x01": "zlib",
    b"x\x5e": "zlib",
    b"x\x9c": "zlib",
    b"x\xda": "zlib",
}
_OLD_PICKLE = re.compile(rb"\A(?:\(|[\]}]|c[\w.]+\n[\w.]+\n|S['\"]|V[^\n]*\np\d+\n|[IFL][-+.\deL]+\n)")


def _executable(head: bytes) -> str:
    """Why this file is not even looked into: a pickle in one of its dresses. Empty when it is none."""
    if head[:1] == b"\x80" and head[1:2] <= b"\x05" and len(head) > 1:
        return f"It is {_dress(head)}: loading it would run its code."
    if _OLD_PICKLE.match(head):
        return "It looks like a pickle of an old protocol: loading it would run its code."
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")
    if packed:
        return f"It is packed by {packed}, as joblib packs its pickles; nobody here unpacks it."
    if head.startswith(b"\x89HDF"):
        return "It is an HDF5 file, as Keras writes; its layers may hold code."
    return ""


def _dress(head: bytes) -> str:
    if b"cloudpickle" in head:
        return "a pickle of cloudpickle"
    return "a pickle of joblib" if b"joblib" in head else "a pickle"


# ---------------------------------------------------------------------- JSON: a booster, or a model elsewhere


@dataclass(frozen=True)
class Outline:
    """The shape of a JSON text that was not parsed: names at its top, and how deep it goes."""

    names: frozenset[str]
    depth: int


# begins with a set of characters, for which the search leaps over everything else
_TOKEN = re.compile(rb'["\[\]{}](?:(?<=")[^"\\]*+(?:\\.[^"\\]*+)*+")?', re.DOTALL)


def outline(text: bytes | mmap.mmap) -> Outline:
    """Follow texts and brackets in one pass and constant memory. Raises Unscorable beyond what a model needs."""
    depth = deepest = 0
    names: set[str] = set()
    for count, token in enumerate(_TOKEN.finditer(text)):
        if count > MAX_TOKENS:
            raise Unscorable(f"Its JSON has more than {MAX_TOKENS} texts and brackets.")
        first = token[0][:1]
        if first in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
            if depth > MAX_DEPTH:
                raise Unscorable(f"Its JSON is nested more than {MAX_DEPTH} deep.")
        elif first in (b"}", b"]"):
            depth -= 1
        elif token.end() - token.start() < 2:
            raise Unscorable("Its JSON is cut short.")
        elif depth == 1 and len(names) < MAX_NAMES:
            names.add(token[0][1:-1][:100].decode(errors="replace"))
    if depth:
        raise Unscorable("Its JSON is cut short.")
    return Outline(frozenset(names), deepest)


def _json(file: BinaryIO, allowed_hosts: tuple[str, ...]) -> Answer:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        start = text[:HEAD_BYTES].lstrip()
        if start[1:].lstrip()[:1] not in (b'"', b"}"):
            raise Unscorable("It looks like a booster in binary JSON (UBJ); save it as JSON.")
        names = outline(text).names
        if "learner" in names and names <= {"learner", "version"}:
            return _xgboost(text)
        if "url" in names and len(text) <= MAX_DOCUMENT_BYTES:
            return _external(text[:], allowed_hosts)
    raise Unscorable("It is JSON, but neither a booster of XGBoost nor a document of an external model.")


def _xgboost(text: mmap.mmap) -> Answer:
    facts: dict[str, Any] = {"library": "xgboost"}
    features = re.compile(rb'"num_feature"\s*:\s*"(\d{1,9})"').search(text)
    if features:
        facts["features"] = int(features[1])
    return "booster", "A booster in XGBoost's own JSON.", facts


def _external(text: bytes, allowed_hosts: tuple[str, ...]) -> Answer:
    from engines import external  # imported by ``main`` already

    try:
        document = json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        raise Unscorable(f"It can not be read as JSON: {error}.") from error
    external.check_document(document, allowed_hosts=allowed_hosts)
    return "external", "A document that names an Open Inference Protocol endpoint.", dict(document)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names occur once: of two, readers choose differently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _lightgbm(file: BinaryIO) -> Answer:
    facts: dict[str, Any] = {"library": "lightgbm"}
    head = file.read(2**20).split(b"\n\n", 1)[0]
    said = dict(line.split(b"=", 1) for line in head.splitlines() if b"=" in line)
    if b"feature_names" not in said:
        raise Unscorable("It begins like a booster of LightGBM, but names no features.")
    names = said[b"feature_names"].decode(errors="replace").split(" ")
    facts.update(features=len(names), inputs=[{"name": name} for name in names[:MAX_NAMES]])
    return "booster", "A booster in LightGBM's own text.", facts


# ---------------------------------------------------------------------- ONNX


def _onnx(file: BinaryIO) -> Answer:
    """Parse the protocol buffer and look at every node and tensor. No operator is run and no session is made."""
    from engines import onnx_rules

    model = onnx_rules.parsed(file.read())
    given = {each.name for each in model.graph.initializer}
    facts = {
        "ir_version": model.ir_version,
        "opsets": {each.domain or "ai.onnx": each.version for each in model.opset_import},
        "inputs": [_tensor(each) for each in model.graph.input[:MAX_NAMES] if each.name not in given],
        "outputs": [_tensor(each) for each in model.graph.output[:MAX_NAMES]],
        "nodes": len(model.graph.node),
    }
    return "onnx", "An ONNX model of ONNX's own operators, with all its weights inside.", facts


def _tensor(value: Any) -> dict[str, Any]:
    import onnx

    if not value.type.HasField("tensor_type"):
        return {"name": value.name[:200], "type": (value.type.WhichOneof("value") or "unknown").removesuffix("_type")}
    tensor = value.type.tensor_type
    shape = [size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim[:8]]
    names = onnx.TensorProto.DataType
    known = tensor.elem_type in names.values()
    return {"name": value.name[:200], "type": names.Name(tensor.elem_type) if known else "unknown", "shape": shape}


# ---------------------------------------------------------------------- limits, and what is said


def main(options: Mapping[str, Any], file: BinaryIO) -> dict[str, Any]:
    """The answer as JSON has it. What goes wrong with the file is the file's; what goes wrong here ends with 1."""
    head, size = file.read(MAX_DOCUMENT_BYTES), file.seek(0, 2)
    file.seek(0)
    # before the limit, which is for the file alone
    if head.startswith(b"\x08"):
        from engines import onnx_rules  # noqa: F401
    elif size <= MAX_DOCUMENT_BYTES and head.lstrip().startswith(b"{"):
        from engines import external  # noqa: F401
    _limit(options, size)
    try:
        load_class, reason, facts = look(file, allowed_hosts=tuple(options["allowed_hosts"]))
    except Unscorable as refusal:
        load_class, reason, facts = "quarantined", str(refusal), {}
    except MemoryError:
        load_class, reason, facts = "quarantined", "Looking into it takes more memory than its limit.", {}
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever a crafted file makes the readers raise, it is not understood
        load_class, reason, facts = "quarantined", f"It can not be read: {type(error).__name__}.", {}
    return {"load_class": load_class, "reason": reason[:MAX_REASON], "facts": facts}


def _limit(options: Mapping[str, Any], size: int) -> None:
    """Processor seconds, and bytes of memory beyond what the libraries have taken."""
    _lower(resource.RLIMIT_CPU, options["processor_seconds"])
    if sys.platform != "linux":
        return
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    most = taken + options["memory"] + options["memory_factor"] * size
    _lower(resource.RLIMIT_AS, most)


def _lower(limit: int, value: int) -> None:
    """The soft limit: going beyond it is told by a signal or an exception."""
    _, highest = resource.getrlimit(limit)
    resource.setrlimit(limit, (value if highest == resource.RLIM_INFINITY else min(value, highest), highest))


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), sys.stdin.buffer)))
