"""What proves a report: the signed checkpoint that covers its position, and for each event its content, link and path.

The paths are those of RFC 6962 into the checkpoint's Merkle root, so that one event can be checked without the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256 as hashed
from typing import Any

from audit import chain, checkpoints, merkle, signing
from audit.errors import Conflict
from audit.models import Checkpoint, Event, Link
from mlops.dossier.fields import Section, told
from mlops.dossier.log import Log

GENERATOR = "gatehouse-dossier/3"
"""Version of what writes reports: raise it with whatever changes what they say, also a default that they show."""


def covering(position: int) -> Checkpoint:
    """The first checkpoint that covers a position. Raises Conflict when none does: issuing a report makes one."""
    found = Checkpoint.objects.filter(size__gte=position).order_by("size").first()
    if found is None:
        raise Conflict(f"No signed checkpoint covers position {position} yet: issue the report, which makes one.")
    return found


def cited(sections: Iterable[Section]) -> list[int]:
    """Ids of the events that fields name as their evidence."""
    named = (each for section in sections for field in section.fields for each in field.evidence)
    return sorted({int(each.removeprefix("event:")) for each in named if each.startswith("event:")})


def section(log: Log, checkpoint: Checkpoint, events: int) -> Section:
    """The section of the report that says how to check it."""
    signed = checkpoints.signed(checkpoint)
    head = Link.objects.get(position=log.position)
    return Section(
        "proof",
        "Proof",
        ("EU AI Act Art. 12: automatic recording of events", "EU AI Act Art. 19: automatically generated logs"),
        (
            told("range", "Log range", f"1 to {log.position}"),
            told("head", "Chain head at that position", head.hash),
            told("size", "Signed checkpoint over events", signed.size),
            told("checkpoint_head", "Checkpoint, chain head", signed.head),
            told("root", "Checkpoint, Merkle root", signed.root),
            told("at", "Checkpoint made", signed.at),
            told("signature", "Checkpoint, Ed25519 signature", signed.signature),
            told("key_id", "Key id", signed.key_id),
            told("public_key", "Public key", public_key(signed.key_id).hex()),
            told("generator", "Generator", GENERATOR),
            told("events", "Events cited, each with its content and inclusion proof", events),
        ),
    )


def members(log: Log, checkpoint: Checkpoint, ids: Sequence[int]) -> dict[str, Any]:
    """The machine-readable part: everything that the stand-alone verifier needs."""
    signed = checkpoints.signed(checkpoint)
    rows = Event.objects.filter(pk__in=ids, link__position__lte=log.position).select_related("link")
    events = sorted(rows, key=lambda event: event.link.position)
    leaves = list(chain.hashes(until=signed.size))
    paths = inclusion(leaves, [event.link.position - 1 for event in events])
    return {
        "position": log.position,
        "head": leaves[log.position - 1].hex(),
        "head_path": inclusion(leaves, [log.position - 1])[0],
        "checkpoint": {
            "size": signed.size,
            "head": signed.head,
            "root": signed.root,
            "at": signed.at,
            "key_id": signed.key_id,
            "signature": signed.signature,
        },
        "public_key": public_key(signed.key_id).hex(),
        "events": [
            entry(event, leaves[event.link.position - 2].hex() if event.link.position > 1 else "", path)
            for event, path in zip(events, paths, strict=True)
        ],
    }


def entry(event: Event, before: str, path: list[str] | None = None) -> dict[str, Any]:
    """An event as the verifier reads it: its sealed content as a text, its digest, its link and the one before."""
    found = {
        "id": event.pk,
        "position": event.link.position,
        "content": event.sealed_content().decode(),
        "digest": event.digest,
        "before": before,
        "link": event.link.hash,
    }
    return found if path is None else {**found, "path": path}


def public_key(key_id: str) -> bytes:
    """The 32 bytes of a trusted key. Raises Conflict when the portal no longer knows it."""
    for key in checkpoints.trusted_keys():
        if signing.key_id(key) == key_id:
            return key.public_bytes_raw()
    raise Conflict(f"The key {key_id} that signed the checkpoint is not among the trusted ones any more.")


def inclusion(leaves: Sequence[bytes], indexes: Sequence[int]) -> list[list[str]]:
    """The audit paths of several leaves (``audit.merkle.proof`` of each), hashing the tree once."""
    level = [hashed(merkle.LEAF + leaf).digest() for leaf in leaves]
    at, paths = list(indexes), [[] for _ in indexes]  # type: list[int], list[list[str]]
    while len(level) > 1:
        for number, index in enumerate(at):
            if (sibling := index ^ 1) < len(level):
                paths[number].append(level[sibling].hex())
        nodes = [hashed(merkle.NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = [*nodes, level[-1]] if len(level) % 2 else nodes
        at = [index // 2 for index in at]
    return paths
