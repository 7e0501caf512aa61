"""What the portal answers about the record itself: events, seals, files, holds, cards, reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gatehouse.showing import Shown


@dataclass(frozen=True, repr=False)
class Event(Shown):
    """``actor`` None: Gatehouse itself acted, its part ``service``. ``cause`` is the event that this followed from."""

    id: int
    name: str
    subject_type: str
    subject_id: str
    subject_label: str
    model: str
    actor: str | None
    service: str
    reason: str
    data: Mapping[str, Any]
    cause: int | None
    at: datetime
    recorded_at: datetime
    effects: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.name}: {self.subject_label}, by {self.actor or self.service}>"


@dataclass(frozen=True, repr=False)
class Checkpoint(Shown):
    """The log's length, last hash and Merkle root when it was signed; ``at`` is text, exactly as it was signed."""

    size: int
    head: str
    root: str
    at: str
    key_id: str
    signature: str

    def __repr__(self) -> str:
        return f"<Checkpoint {self.size} events, {self.head[:12]}>"


@dataclass(frozen=True, repr=False)
class LogState(Shown):
    """Where the log ends, its newest checkpoint, and the public key (hexadecimal) that verifies checkpoints."""

    position: int
    head: str
    checkpoint: Checkpoint | None
    public_key: str
    key_id: str

    def __repr__(self) -> str:
        return f"<LogState {self.position} events, {self.head[:12]}>"


@dataclass(frozen=True, repr=False)
class File(Shown):
    """A file of a version. ``removed_at``: its bytes are gone since; what it was is still known."""

    path: str
    role: str
    digest: str
    bytes: int
    removed_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<File {self.path} {self.digest[:12]} ({self.bytes:,} bytes)>"


@dataclass(frozen=True, repr=False)
class Manifest(Shown):
    manifest_digest: str
    files: tuple[File, ...]

    def __repr__(self) -> str:
        return f"<Manifest {self.manifest_digest[:12]}: {len(self.files)} files>"


@dataclass(frozen=True, repr=False)
class Hold(Shown):
    """While one stands (``released_at`` None), nothing of the version is removed."""

    id: int
    reason: str
    placed_by: str
    placed_at: datetime
    released_by: str | None = None
    released_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<Hold {self.id} by {self.placed_by}: {'released' if self.released_at else 'stands'}>"


@dataclass(frozen=True, repr=False)
class Card(Shown):
    """What only people know of a model; the highest ``number`` is in force."""

    number: int
    content: Mapping[str, Any]
    content_hash: str
    written_by: str
    written_at: datetime
    etag: str = ""

    def __repr__(self) -> str:
        return f"<Card {self.number} by {self.written_by}: {len(self.content)} fields>"


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """A dossier or an incident report: for its ``position`` of the log its bytes are always the same."""

    position: int
    digest: str
    generator: str
    issued_by: str
    issued_at: datetime
    kind: str = ""
    subject_label: str = ""

    def __repr__(self) -> str:
        return f"<Report {self.subject_label} at {self.position}: {self.digest[:12]}>"
