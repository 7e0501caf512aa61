"""Seal the log: signed checkpoints in the database, and a copy of each in a file outside of it.

The chain alone shows no tail that was cut off and no history that was rewritten to its end; a checkpoint that lies
where the database's administrators can not write shows both. The private key is ``GATEHOUSE_AUDIT_KEY``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from audit import chain, merkle, signing
from audit.models import Checkpoint
from audit.signing import SignedCheckpoint


def make(*, now: datetime) -> Checkpoint | None:
    """Sign the log as it is: a row, and a line in the file. The last one where nothing was recorded since.

    None for an empty log. Raises ImproperlyConfigured without a key, OSError when the file can not be written.
    """
    head, last = chain.head(), latest()
    if head.position == 0 or (last is not None and last.size == head.position):
        return last
    root = merkle.root(chain.hashes(until=head.position)).hex()
    signed = signing.sign(private_key(), size=head.position, head=head.hash, root=root, at=now)
    with transaction.atomic():
        checkpoint, is_new = Checkpoint.objects.get_or_create(
            size=signed.size,
            defaults={
                "head": signed.head,
                "root": signed.root,
                "at": now,
                "key_id": signed.key_id,
                "signature": signed.signature,
            },
        )
        if is_new:
            _append(signed.line())
    return checkpoint


def latest() -> Checkpoint | None:
    """The newest checkpoint in the database."""
    return Checkpoint.objects.order_by("-size").first()


def signed(checkpoint: Checkpoint) -> SignedCheckpoint:
    """A row as what was signed."""
    return SignedCheckpoint(
        checkpoint.size,
        checkpoint.head,
        checkpoint.root,
        signing.moment(checkpoint.at),
        checkpoint.key_id,
        checkpoint.signature,
    )


def stored() -> list[SignedCheckpoint]:
    """The checkpoints in the database, oldest first."""
    return [signed(row) for row in Checkpoint.objects.order_by("size")]


def read(path: Path) -> list[SignedCheckpoint]:
    """The checkpoints of a file, oldest first. Raises ValueError, with the line's number, for what is none."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            found.append(SignedCheckpoint.parse(line))
        except ValueError as problem:
            raise ValueError(f"{path}, line {number}: {problem}") from problem
    return found


def verify(checkpoints: Iterable[SignedCheckpoint], keys: Sequence[Ed25519PublicKey]) -> chain.Verification:
    """The whole log against the checkpoints; one whose signature does not hold is a problem and proves nothing."""
    by_id = {signing.key_id(key): key for key in keys}
    given = list(dict.fromkeys(checkpoints))
    holding = [each for each in given if each.holds(by_id)]
    read = chain.verify(checkpoints=holding)
    wrong = [
        chain.Problem(chain.SIGNATURE, each.size, 0, _unsigned(each, is_known=each.key_id in by_id))
        for each in given
        if each not in set(holding)
    ]
    return chain.Verification(read.events, (*read.problems, *wrong), len(given), read.head)


def _unsigned(checkpoint: SignedCheckpoint, *, is_known: bool) -> str:
    which = f"The checkpoint of {checkpoint.at} over {checkpoint.size} events"
    if not is_known:
        return f"{which} names the key {checkpoint.key_id}, which is not among the trusted ones."
    return f"{which} has a wrong signature."


def file() -> Path:
    """Where each checkpoint is appended as one line of JSON."""
    return Path(settings.CHECKPOINTS or Path(settings.DATA_ROOT, "checkpoints.jsonl"))


def public_key() -> bytes:
    """The 32 bytes of the key that checkpoints are verified with. Raises ImproperlyConfigured without a key."""
    return private_key().public_key().public_bytes_raw()


def trusted_keys() -> list[Ed25519PublicKey]:
    """The key in use and, from ``GATEHOUSE_AUDIT_FORMER_KEYS``, those before it."""
    former = [signing.read_public_key(text) for text in settings.AUDIT_FORMER_KEYS]
    return [private_key().public_key(), *former]


def private_key() -> Ed25519PrivateKey:
    """The key of ``GATEHOUSE_AUDIT_KEY``, a PEM or the path of one; in development a key beside the data.

    Raises ImproperlyConfigured with what to set.
    """
    given = settings.AUDIT_KEY
    if not given and settings.MAKES_AUDIT_KEY:
        return signing.read_private_key(_development_key())
    if not given:
        raise ImproperlyConfigured(
            "GATEHOUSE_AUDIT_KEY must be an Ed25519 private key (PEM) or the path of one, readable by the portal only: "
            "openssl genpkey -algorithm ed25519 -out audit_key.pem"
        )
    try:
        return signing.read_private_key(given if given.lstrip().startswith("-----") else Path(given).read_text())
    except (OSError, ValueError) as problem:
        raise ImproperlyConfigured(f"GATEHOUSE_AUDIT_KEY can not be used: {problem}") from problem


def _development_key() -> str:
    """The PEM kept beside the data, made whole at once when there is none: two processes may ask."""
    path = Path(settings.DATA_ROOT, "audit_key.pem")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, prefix="audit_key-") as unfinished:  # only its owner may read it
            unfinished.write(signing.new_key())
            unfinished.flush()
            with suppress(FileExistsError):
                os.link(unfinished.name, path)
    return path.read_text()


def _append(line: str) -> None:
    """One whole line at the end of the file, on disk before this returns."""
    path = file()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
