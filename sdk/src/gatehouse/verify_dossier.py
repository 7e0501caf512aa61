#!/usr/bin/env python3
"""Check a Gatehouse report (dossier or incident report, JSON form) offline. Needs Python 3.9 and nothing else.

    python verify_dossier.py dossier.json
    python verify_dossier.py dossier.json --key PUBLIC_KEY --checkpoint checkpoints.jsonl --digest SHA256

Without --key it trusts the public key that the report itself names: that shows that nothing was changed since the
report was written, not who wrote it. Get the key, and the checkpoint file, from somewhere else than the report.

Steps: the digest of the canonical JSON (RFC 8785); the signature over it; the event of the issue; the signature of the
checkpoint; for each event cited its digest, its link and its inclusion proof (RFC 6962); that every event that a field
names is there. Prints each step; exit code 0 when all hold, 1 when one does not, 2 when the file can not be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

Json = dict[str, Any]
Point = tuple[int, int, int, int]

# ---------------------------------------------------------------------- canonical JSON, RFC 8785


def canonical(value: Any) -> bytes:
    """The one way to write a JSON value, as bytes."""
    return "".join(_written(value)).encode("utf-8")


def _written(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for at, name in enumerate(sorted(value, key=lambda each: each.encode("utf-16-be"))):
            yield ("," if at else "") + _text(name) + ":"
            yield from _written(value[name])
        yield "}"
    elif isinstance(value, list):
        yield "["
        for at, each in enumerate(value):
            yield "," if at else ""
            yield from _written(each)
        yield "]"
    elif isinstance(value, str):
        yield _text(value)
    elif isinstance(value, bool) or value is None:
        yield json.dumps(value)
    else:
        yield _number(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """As ECMAScript writes a double: the shortest digits that come back as the same number."""
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    shown = "".join(map(str, digits))
    point = len(shown) + int(exponent)
    if len(shown) <= point <= 21:
        text = shown + "0" * (point - len(shown))
    elif 0 < point <= 21:
        text = shown[:point] + "." + shown[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + shown
    else:
        power = point - 1
        rest = "." + shown[1:] if len(shown) > 1 else ""
        text = "{}{}e{}{}".format(shown[0], rest, "+" if power >= 0 else "-", abs(power))
    return "-" + text if sign else text


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------------- Ed25519, RFC 8032, section 5.1.7

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def _add(a: Point, b: Point) -> Point:
    """Two points in extended coordinates (X, Y, Z, T)."""
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(scalar: int, point: Point) -> Point:
    found = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _add(found, point)
        point = _add(point, point)
        scalar >>= 1
    return found


def _x(y: int, sign: int) -> int | None:
    """The x of a point with this y, or None when there is none."""
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


def _point(encoded: bytes) -> Point | None:
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = _x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


_BASE_Y = 4 * pow(5, P - 2, P) % P
_BASE_X = _x(_BASE_Y, 0) or 0
BASE: Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P)


def signature_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of the key signed the message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, first = _point(public), _point(signature[:32])
    second = int.from_bytes(signature[32:], "little")
    if key is None or first is None or second >= L:
        return False
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = _times(second, BASE), _add(first, _times(hashed, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# ---------------------------------------------------------------------- Merkle inclusion, RFC 6962 (RFC 9162, 2.1.3.2)


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether ``path`` proves that ``leaf`` is number ``index`` (from 0) of the ``size`` leaves under ``root``."""
    if not 0 <= index < size:
        return False
    at, last = index, size - 1
    node = hashlib.sha256(b"\x00" + leaf).digest()
    for sibling in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while at and not at & 1:
                at >>= 1
                last >>= 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        at >>= 1
        last >>= 1
    return last == 0 and node == root


# ---------------------------------------------------------------------- the steps

SEALED = ("kind", "digest", "position", "generator", "key_id")
SEAL = {*SEALED, "signature", "public_key", "issued"}
ISSUED = {"id", "content", "digest", "before", "link"}
EVENT = {*ISSUED, "position", "path"}
CHECKPOINT = {"size", "head", "root", "at", "key_id", "signature"}
DATA, NAME = 11, 0
"""Places in an event's sealed content: a list of eleven values and its data."""


class Wrong(Exception):
    """A step that does not hold, in words."""


def require(holds: object, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


def check_digest(document: Json, seal: Json | None, given: str) -> str:
    found = sha256(canonical(document))
    if seal:
        require(
            found == seal["digest"], "the document has the digest {}, its seal says {}".format(found, seal["digest"])
        )
    require(not given or found == given.lower(), f"the document has the digest {found}, not {given}")
    require(seal or given, "the document has no seal: give the digest it was issued with (--digest)")
    return f"the canonical JSON has the digest {found}"


def check_key(keys: Sequence[bytes], trusted: Sequence[bytes]) -> str:
    require(len(set(keys)) == 1 or trusted, "the report names more than one public key: give the trusted ones (--key)")
    for key in keys:
        require(not trusted or key in trusted, f"the public key {key.hex()} is not a trusted one")
    how = "is trusted" if trusted else "is the report's own word: compare it with one from elsewhere (--key)"
    return f"the public key {keys[0].hex()} {how}"


def key_id(key: bytes) -> str:
    return sha256(key)[:16]


def check_seal(document: Json, seal: Json) -> str:
    require(set(seal) == SEAL, "the seal has other members than it should have")
    for name in ("kind", "generator", "position"):
        require(seal[name] == document[name], f"seal and document disagree about {name}")
    key = bytes.fromhex(seal["public_key"])
    require(seal["key_id"] == key_id(key), "the seal names a key id that its public key does not have")
    message = canonical({name: seal[name] for name in SEALED})
    require(signature_holds(key, message, bytes.fromhex(seal["signature"])), "the signature of the seal does not hold")
    return "the seal is signed by the key {}".format(seal["key_id"])


def check_issued(seal: Json) -> str:
    event = seal["issued"]
    require(set(event) == ISSUED, "the event of the issue has other members than it should have")
    check_link(event)
    content = json.loads(event["content"])
    require(content[NAME] == "report.issued", "the event of the issue is another one")
    for name in (*SEALED, "signature"):
        require(content[DATA].get(name) == seal[name], f"the event of the issue disagrees about {name}")
    return "event {} in the log tells of the issue, with this digest".format(event["id"])


def check_link(event: Json) -> None:
    name = "event {}".format(event["id"])
    require(sha256(event["content"].encode("utf-8")) == event["digest"], name + ": its content has another digest")
    link = "{}:{}:{}".format(event["before"], event["id"], event["digest"])
    require(sha256(link.encode("utf-8")) == event["link"], name + ": its link does not follow from what it links")


def check_checkpoint(proof: Json) -> str:
    checkpoint = proof["checkpoint"]
    require(set(checkpoint) == CHECKPOINT, "the checkpoint has other members than it should have")
    key = bytes.fromhex(proof["public_key"])
    require(checkpoint["key_id"] == key_id(key), "the checkpoint names a key id that the public key does not have")
    signed = canonical({name: checkpoint[name] for name in checkpoint if name != "signature"})
    holds = signature_holds(key, signed, bytes.fromhex(checkpoint["signature"]))
    require(holds, "the signature of the checkpoint does not hold")
    return "the checkpoint over {size} events of {at} is signed by the key {key_id}".format(**checkpoint)


def check_known(proof: Json, lines: Sequence[Json] | None) -> str:
    """The same checkpoint in a file that was kept elsewhere: then nobody rewrote the log up to there."""
    if lines is None:
        return "no checkpoint file was given: the log's history is the report's own word (--checkpoint)"
    same = [each for each in lines if each["size"] == proof["checkpoint"]["size"]]
    require(same, "the checkpoint file does not know a checkpoint over {size} events".format(**proof["checkpoint"]))
    require(proof["checkpoint"] in same, "the checkpoint file knows another history")
    return "the checkpoint stands in the file that was kept elsewhere"


def check_head(document: Json) -> str:
    proof = document["proof"]
    require(document["position"] == proof["position"] <= proof["checkpoint"]["size"], "the checkpoint ends before")
    check_path(proof, proof["position"], proof["head"], proof["head_path"], "the head")
    return "the log's head at position {position} is under the checkpoint's root".format(**proof)


def check_path(proof: Json, position: int, link: str, path: Sequence[str], what: str) -> None:
    checkpoint = proof["checkpoint"]
    root, hashes = bytes.fromhex(checkpoint["root"]), [bytes.fromhex(each) for each in path]
    holds = included(bytes.fromhex(link), position - 1, checkpoint["size"], hashes, root)
    require(holds, f"{what} is not at position {position} under the checkpoint's root")


def check_events(document: Json) -> str:
    proof = document["proof"]
    for event in proof["events"]:
        require(set(event) == EVENT, "an event has other members than it should have")
        require(event["position"] <= proof["position"], "event {} is later than the report".format(event["id"]))
        check_link(event)
        check_path(proof, event["position"], event["link"], event["path"], "event {}".format(event["id"]))
    return "{} events: content, link and place of each hold".format(len(proof["events"]))


def check_cited(document: Json) -> str:
    fields = [field for section in document["sections"] for field in section["fields"]]
    named = {each for field in fields for each in field["evidence"] if each.startswith("event:")}
    there = {"event:{}".format(event["id"]) for event in document["proof"]["events"]}
    require(len(there) == len(document["proof"]["events"]), "an event is there twice")
    require(named == there, f"fields name {len(named)} events, {len(there)} are there")
    return f"{len(fields)} fields name {len(named)} events, and these are there"


# ---------------------------------------------------------------------- reading


def read_key(text: str) -> bytes:
    """A public key: 64 hexadecimal digits, PEM, or a file with either."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text.strip()):
        with open(text, encoding="ascii") as file:
            text = file.read()
    if "-----" in text:
        body = "".join(line for line in text.splitlines() if "-----" not in line)
        return base64.b64decode(body)[-32:]  # the last 32 bytes of a SubjectPublicKeyInfo of Ed25519
    return bytes.fromhex(text.strip())


def read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: Sequence[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def steps(
    document: Json,
    seal: Json | None,
    chosen: argparse.Namespace,
    trusted: Sequence[bytes],
    lines: Sequence[Json] | None,
) -> Iterator[Callable[[], str]]:
    """Each step as a function that answers what holds."""
    keys = [bytes.fromhex(part["public_key"]) for part in (seal, document.get("proof")) if part]
    yield lambda: check_digest(document, seal, chosen.digest)
    yield lambda: check_key(keys, trusted)
    if seal:
        yield lambda: check_seal(document, seal)
        yield lambda: check_issued(seal)
    yield lambda: check_checkpoint(document["proof"])
    yield lambda: check_known(document["proof"], lines)
    yield lambda: check_head(document)
    yield lambda: check_events(document)
    yield lambda: check_cited(document)


def carried_out(step: Callable[[], str]) -> tuple[str, bool]:
    """The line that tells of a step, and whether it holds. What the report lacks does not hold either."""
    try:
        return "ok    " + step(), True
    except Wrong as problem:
        return f"WRONG {problem}", False
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        return f"WRONG the report is not whole: {problem!r}", False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check a Gatehouse report offline.")
    parser.add_argument("report", help="the JSON form, such as dossier.json")
    parser.add_argument("--key", action="append", default=[], help="trusted public key: 64 hex digits, or a file")
    parser.add_argument("--checkpoint", help="file with checkpoints that was kept elsewhere, a line of JSON each")
    parser.add_argument("--digest", default="", help="SHA-256 that the report was issued with")
    chosen = parser.parse_args(arguments)
    try:
        with open(chosen.report, encoding="utf-8") as file:
            document = read_json(file.read())
        trusted = [read_key(each) for each in chosen.key]
        lines = None
        if chosen.checkpoint:
            with open(chosen.checkpoint, encoding="utf-8") as file:
                lines = [read_json(line) for line in file if line.strip()]
    except (OSError, ValueError) as problem:
        print(f"cannot read: {problem}")
        return 2
    if not isinstance(document, dict):
        print("WRONG this is no report")
        return 1
    seal = document.pop("seal", None)
    if (seal is not None and not isinstance(seal, dict)) or not isinstance(document.get("proof"), dict):
        print("WRONG the report is not whole")
        return 1
    try:
        planned = list(steps(document, seal, chosen, trusted, lines))
    except (KeyError, TypeError, ValueError) as problem:
        print(f"WRONG the report is not whole: {problem!r}")
        return 1
    told = [carried_out(step) for step in planned]
    for line, _ in told:
        print(line)
    good = all(holds for _, holds in told)
    print("The report is intact." if good else "The report was tampered with, or is not whole.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
