"""The stand-alone verifier: it finds whatever was changed, and needs nothing but Python."""

from __future__ import annotations

import copy
import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import checkpoints, merkle
from mlops import dossier
from mlops.dossier import verify_dossier as verifier
from mlops.dossier.zipped import VERIFIER
from tests.builders import NOON, audrey
from tests.mlops import reported
from tests.mlops.reported import settle


@pytest.fixture
def report(db: None) -> dict[str, Any]:
    """An issued dossier as it is handed out."""
    world = reported.world()
    settle()
    issued = dossier.issue(world["champion"], actor=audrey(), now=NOON)
    settle()
    found: dict[str, Any] = json.loads(dossier.sealed(issued, dossier.document_of(issued)))
    return found


def verified(tmp_path: Path, document: Any, *options: str) -> tuple[int, str]:
    """Exit code and output of the script in a Python of its own, isolated from this project."""
    file = tmp_path / "report.json"
    file.write_bytes(rfc8785.dumps(document))
    command = [sys.executable, "-I", str(VERIFIER), str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env={})
    return done.returncode, done.stdout + done.stderr


def holds(document: dict[str, Any], *trusted: bytes) -> bool:
    """The verifier's steps in this process."""
    whole = copy.deepcopy(document)
    seal = whole.pop("seal", None)
    chosen = type("Chosen", (), {"digest": ""})()
    try:
        planned = list(verifier.steps(whole, seal, chosen, list(trusted), None))
    except (KeyError, TypeError, ValueError):
        return False
    return all(verifier.carried_out(step)[1] for step in planned)


def test_verifier__intact_report__every_step_holds(report: dict[str, Any], tmp_path: Path) -> None:
    key = checkpoints.public_key().hex()
    options = ("--key", key, "--checkpoint", str(checkpoints.file()), "--digest", report["seal"]["digest"])
    code, told = verified(tmp_path, report, *options)
    assert code == 0, told
    assert "is trusted" in told
    assert "kept elsewhere" in told
    assert verified(tmp_path, report)[0] == 0


def test_verifier__a_changed_value__is_found_and_named(report: dict[str, Any], tmp_path: Path) -> None:
    report["sections"][6]["fields"][5]["value"] = "passed, of course"
    code, told = verified(tmp_path, report)
    assert code == 1
    assert "its seal says" in told


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every scalar in a document."""
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, name))
    else:
        yield path


def changed(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + 1
    return ("0" if not value.startswith("0") else "1") + value[1:] if value else "x"


def test_verifier__any_single_value_changed__is_found(report: dict[str, Any]) -> None:
    assert holds(report)
    places = list(leaves(report))
    chosen = random.Random(7).sample(places, 60)  # not for secrets
    for path in [*chosen, *(place for place in places if place[0] == "seal")]:
        tampered = copy.deepcopy(report)
        inside = tampered
        for name in path[:-1]:
            inside = inside[name]
        inside[path[-1]] = changed(inside[path[-1]])
        assert not holds(tampered), path


@pytest.mark.parametrize("gone", ["seal", "proof", "sections", "position"])
def test_verifier__a_part_removed__is_found(report: dict[str, Any], gone: str, tmp_path: Path) -> None:
    del report[gone]
    assert verified(tmp_path, report)[0] == 1


def test_verifier__forged_with_another_key__only_the_trusted_key_tells(report: dict[str, Any]) -> None:
    forger = Ed25519PrivateKey.generate()
    forged = resigned(report, forger)
    assert not holds(forged, checkpoints.public_key())
    assert not holds(forged), "the checkpoint is still signed by the old key"


def resigned(report: dict[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """A document that says something else, with a new digest and a new signature."""
    forged = copy.deepcopy(report)
    seal = forged.pop("seal")
    forged["title"] = "Everything is fine"
    public = key.public_key().public_bytes_raw()
    said = {name: seal[name] for name in verifier.SEALED}
    said |= {"digest": verifier.sha256(rfc8785.dumps(forged)), "key_id": verifier.key_id(public)}
    signature = key.sign(rfc8785.dumps(said)).hex()
    return {**forged, "seal": {**seal, **said, "signature": signature, "public_key": public.hex()}}


def test_verifier__checkpoint_file_knows_another_history__is_found(report: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "kept.jsonl"
    other.write_text(json.dumps({**report["proof"]["checkpoint"], "root": "0" * 64}) + "\n")
    code, told = verified(tmp_path, report, "--checkpoint", str(other))
    assert (code, "another history" in told) == (1, True)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": NaN}', '{"a": 1, "a": 2}', '{"proof": {}}', "{}"])
def test_verifier__no_report__is_refused_without_a_traceback(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    done = subprocess.run([sys.executable, "-I", str(VERIFIER), str(file)], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------- its parts, against others


@pytest.mark.parametrize(
    "value",
    [
        0.0, -0.0, 1.0, -1.5, 1e21, 1e20, 123456789012345680000.0, 1e-6, 1e-7, 5e-324, 1.7976931348623157e308,
        333333333.33333329, 0.1 + 0.2, 2**53 - 1, -7, 1e22, 4.35, 1e23,
    ],
)  # fmt: skip
def test_canonical__numbers__as_rfc_8785_has_them(value: float) -> None:
    assert verifier.canonical(value) == rfc8785.dumps(value)


def test_canonical__random_doubles__as_rfc_8785_has_them() -> None:
    chance = random.Random(1)  # not for secrets
    for _ in range(2_000):
        value = math.ldexp(chance.random() - 0.5, chance.randint(-300, 300))
        assert verifier.canonical(value) == rfc8785.dumps(value)


def test_canonical__texts_and_names__as_rfc_8785_has_them() -> None:
    value: dict[str, Any] = {"\u20ac": '\r\n\t\b\f\x1f\x7f"\\/', "\U0001f600": "é", "\ufb33": None, "1": [True]}
    assert verifier.canonical(value) == rfc8785.dumps(value)


def test_signature__of_random_messages__holds_only_as_signed() -> None:
    for size in (0, 1, 31, 200):
        key, message = Ed25519PrivateKey.generate(), bytes(size)
        public, signature = key.public_key().public_bytes_raw(), key.sign(message)
        assert verifier.signature_holds(public, message, signature)
        assert not verifier.signature_holds(public, message + b"x", signature)
        assert not verifier.signature_holds(public, message, signature[:32] + bytes(32))
        assert not verifier.signature_holds(b"\xff" * 32, message, signature)


def test_signature__rfc_8032_test_vector_2__holds() -> None:
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert verifier.signature_holds(public, b"\x72", signature)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33])
def test_inclusion__every_leaf_of_a_tree__as_the_log_has_it(size: int) -> None:
    hashes = [bytes([at]) * 32 for at in range(size)]
    root = merkle.root(hashes)
    from mlops.dossier.proof import inclusion

    paths = inclusion(hashes, list(range(size)))
    for at, path in enumerate(paths):
        assert [bytes.fromhex(each) for each in path] == merkle.proof(hashes, at)
        assert verifier.included(hashes[at], at, size, merkle.proof(hashes, at), root)
        assert not verifier.included(hashes[at], at + 1, size, merkle.proof(hashes, at), root)
