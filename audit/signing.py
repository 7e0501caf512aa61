"""Signed checkpoints as values: what is signed, in which bytes, and whether a signature holds. No Django.

What is signed is the canonical JSON (RFC 8785) of ``size``, ``head``, ``root``, ``at`` and ``key_id``; the signature is
Ed25519, hexadecimal. A line of a checkpoint file is the same JSON with ``signature``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)


@dataclass(frozen=True)
class SignedCheckpoint:
    """The log's length, its last hash and the Merkle root over all its hashes, at a moment, signed.

    ``at`` is a text, ``2013-04-01T12:00:00.000000Z``.
    """

    size: int
    head: str
    root: str
    at: str
    key_id: str
    signature: str = ""

    @classmethod
    def parse(cls, line: str) -> SignedCheckpoint:
        """Read a line of a checkpoint file. Raises ValueError for anything else."""
        document = json.loads(line)
        kinds = {field.name: int if field.name == "size" else str for field in fields(cls)}
        if not isinstance(document, dict) or {name: type(value) for name, value in document.items()} != kinds:
            raise ValueError(f"This is no checkpoint: {line[:80]!r}")
        return cls(**document)

    def line(self) -> str:
        return rfc8785.dumps(asdict(self)).decode()

    def signed_bytes(self) -> bytes:
        return rfc8785.dumps({name: value for name, value in asdict(self).items() if name != "signature"})

    def holds(self, keys: dict[str, Ed25519PublicKey]) -> bool:
        """Whether one of the keys, by their ids, signed exactly this."""
        key = keys.get(self.key_id)
        if key is None:
            return False
        try:
            key.verify(bytes.fromhex(self.signature), self.signed_bytes())
        except (InvalidSignature, ValueError):
            return False
        return True


def sign(key: Ed25519PrivateKey, *, size: int, head: str, root: str, at: datetime) -> SignedCheckpoint:
    """A checkpoint signed with ``key``."""
    unsigned = SignedCheckpoint(size, head, root, moment(at), key_id(key.public_key()))
    return SignedCheckpoint(**{**asdict(unsigned), "signature": key.sign(unsigned.signed_bytes()).hex()})


def moment(at: datetime) -> str:
    """A time as a checkpoint tells it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 characters of the SHA-256 of the public key's 32 bytes, hexadecimal."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def read_private_key(pem: str) -> Ed25519PrivateKey:
    """An Ed25519 private key from its PEM, without passphrase. Raises ValueError for anything else."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError as problem:
        raise ValueError("The key is protected by a passphrase.") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("The key is not an Ed25519 key.")
    return key


def read_public_key(pem: str) -> Ed25519PublicKey:
    """An Ed25519 public key from its PEM, or from 64 hexadecimal digits. Raises ValueError for anything else."""
    if not pem.lstrip().startswith("-----"):
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(pem.strip()))
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("The key is not an Ed25519 key.")
    return key


def new_key() -> str:
    """A new private key as PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def as_pem(key: Ed25519PublicKey) -> str:
    """A public key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
