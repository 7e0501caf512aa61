"""The route table: who serves which endpoint, with all that a gateway needs to answer without the database. Pure.

A line is read from the database (``rollout.gateway.lines``), kept in memory, and written to a file as JSON, so that a
gateway that starts while the database is away serves what it served last.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

log = logging.getLogger(__name__)

CANARY = "canary"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Column:
    """An input column. ``kind`` is the signature's word (double, long, boolean, string, …), empty where unsaid."""

    name: str
    kind: str = ""


@dataclass(frozen=True)
class TableVersion:
    """A version on a route: which bytes are loaded, what it takes, and under which name each input is logged.

    ``load_class``, ``digest`` and ``path`` are of the form that is served. ``logged`` maps input columns to columns of
    the log, ``asked`` what its feature service takes from the request (join keys, request features) to columns of the
    log. ``service`` is the feature service's key, None where everything comes with the request; ``keys`` are its join
    keys and ``stored`` the inputs that it gives. ``tolerance`` is how far a replayed score may be off.
    """

    pk: int
    number: int
    model: str
    load_class: str
    digest: str
    path: str
    inputs: tuple[Column, ...]
    logged: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)
    service: int | None = None
    keys: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    tolerance: float = 1e-5

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The input columns in the model's order."""
        return tuple(each.name for each in self.inputs)

    @cached_property
    def form(self) -> tuple[str, tuple[Column, ...]]:
        """What a warm model is kept under: versions that share bytes and inputs share it."""
        return self.digest, self.inputs

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"

    @classmethod
    def from_dict(cls, read: Mapping[str, Any]) -> Self:
        told = {**read, "inputs": tuple(Column(**each) for each in read["inputs"])}
        return cls(**{**told, "keys": tuple(read.get("keys", ())), "stored": tuple(read.get("stored", ()))})


@dataclass(frozen=True, slots=True)
class TableFallback:
    """What answers when nobody else may or can: a fixed score, or an earlier champion. ``name`` is empty for the
    endpoint's own fixed score."""

    score: float | None = None
    version: TableVersion | None = None
    name: str = ""

    @classmethod
    def from_dict(cls, read: Mapping[str, Any]) -> Self:
        version = read.get("version")
        return cls(read.get("score"), TableVersion.from_dict(version) if version else None, read.get("name", ""))


@dataclass(frozen=True, slots=True)
class TableLine:
    """One endpoint's route. ``candidate`` is None unless a rollout is in shadow or canary.

    ``tokens`` are the SHA-512 digests of the API tokens that may ask here, with their expiry (seconds since 1970, None:
    never). ``timeout_ms`` is how long the candidate may take (None: as long as it likes).
    """

    endpoint: str
    endpoint_id: int = 0
    revision: int = 0
    enabled: bool = True
    durable: bool = False
    entity_column: str = ""
    threshold: float = 0.5
    task: str = ""
    fallback: TableFallback | None = None
    champion: TableVersion | None = None
    candidate: TableVersion | None = None
    stage: str = ""
    step: int = 0
    share: float = 0.0
    salt: str = ""
    rollout: int | None = None
    timeout_ms: float | None = None
    tokens: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def champion_id(self) -> int | None:
        return self.champion.pk if self.champion else None

    @property
    def candidate_id(self) -> int | None:
        return self.candidate.pk if self.candidate else None

    @property
    def fallback_version(self) -> TableVersion | None:
        return self.fallback.version if self.fallback else None

    @property
    def needed(self) -> tuple[TableVersion, ...]:
        """The versions that must be ready before this line takes effect: a shadow is scored from the log."""
        canary = self.candidate if self.stage == CANARY else None
        stopped = self.fallback_version if self.fallback and self.fallback.name else None
        serving = self.champion if self.enabled else None
        return tuple(each for each in (serving, canary, stopped) if each is not None)

    @property
    def versions(self) -> tuple[TableVersion, ...]:
        """Every version on the line, whether it is needed now or may be soon."""
        every = (self.champion, self.candidate, self.fallback_version)
        return tuple(each for each in every if each is not None)

    def without_candidate(self) -> TableLine:
        """The champion alone answers."""
        return replace(self, candidate=None, stage="", step=0, share=0.0, salt="", rollout=None, timeout_ms=None)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, read: Mapping[str, Any]) -> Self:
        told = dict(read)
        for name in ("champion", "candidate"):
            told[name] = TableVersion.from_dict(read[name]) if read.get(name) else None
        told["fallback"] = TableFallback.from_dict(read["fallback"]) if read.get("fallback") else None
        return cls(**told)


@dataclass(frozen=True)
class RouteTable:
    """All lines; ``revision`` is the sum of theirs, so it grows with every change."""

    revision: int = 0
    lines: Mapping[str, TableLine] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Mapping[str, TableLine]) -> Self:
        return cls(sum(each.revision for each in lines.values()), dict(lines))

    def as_dict(self) -> dict[str, Any]:
        return {"revision": self.revision, "lines": {name: line.as_dict() for name, line in self.lines.items()}}

    @classmethod
    def from_dict(cls, read: Mapping[str, Any]) -> Self:
        lines = {name: TableLine.from_dict(each) for name, each in read["lines"].items()}
        return cls(int(read["revision"]), lines)


# ---------------------------------------------------------------------- the last good copy


def keep(line: TableLine, folder: Path, *, at: datetime) -> None:
    """Write a line's last good copy to ``folder``; a reader sees the old one or the new one, whole. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{line.endpoint}.{os.getpid()}.tmp"
    unfinished.write_text(json.dumps({"format": FORMAT, "kept_at": at.isoformat(), "line": line.as_dict()}))
    unfinished.replace(_place(folder, line.endpoint))


def kept(folder: Path) -> RouteTable:
    """The last good copies in ``folder``; a file that can not be read is told in the log and left out."""
    lines: dict[str, TableLine] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            read = json.loads(path.read_text())
            if read["format"] == FORMAT:
                line = TableLine.from_dict(read["line"])
                lines[line.endpoint] = line
        except (OSError, ValueError, KeyError, TypeError) as problem:
            log.error("The last good copy %s can not be read: %s", path.name, problem)
    return RouteTable.of(lines)


def _place(folder: Path, endpoint: str) -> Path:
    if not _NAME.fullmatch(endpoint):
        raise ValueError(f"{endpoint!r} is no endpoint's name")
    return folder / f"{endpoint}.json"
