"""Follow the route table: what changed is seen within half a second, and what serves goes on without the database.

``Routes`` holds the lines that are wanted and those in effect; ``Poller`` keeps them up to date and writes each new
line to the disk, from where the next start takes it when the database is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from rollout.gateway import table
from rollout.gateway.lines import LineUnreadable, Mark, TableAway
from rollout.gateway.models import Models
from rollout.gateway.settling import settled
from rollout.gateway.table import RouteTable, TableLine

log = logging.getLogger(__name__)

EVERY = 0.4
"""Seconds between two looks: with the look itself below the half second that is promised."""
TOKENS_EVERY = 5.0
"""Seconds until a token that was revoked is refused at the latest."""


class Reading(Protocol):
    """``lines.Lines``. Every method raises TableAway."""

    def marks(self) -> Mapping[str, Mark]: ...
    def line(self, endpoint: str) -> TableLine: ...
    def tokens(self) -> Mapping[str, Mapping[str, float | None]]: ...


class Routes:
    """The lines of one process: wanted, and in effect. Read on every request, without a lock.

    ``changed`` is called when a line has taken effect.
    """

    def __init__(self, models: Models, *, changed: Callable[[], None] = lambda: None) -> None:
        self._models, self._changed = models, changed
        self._wanted: dict[str, TableLine] = {}
        self._now: dict[str, TableLine] = {}
        self._lock = threading.Lock()
        self.tokens: Mapping[str, Mapping[str, float | None]] = {}
        self.is_informed = False
        """Whether a table was ever read, from the database or from the disk."""

    def line(self, endpoint: str) -> TableLine | None:
        """See ``core.Tables``."""
        return self._now.get(endpoint)

    def is_known(self, endpoint: str) -> bool:
        return endpoint in self._wanted

    def names(self) -> list[str]:
        return sorted(self._wanted)

    def wanted(self, endpoint: str) -> TableLine | None:
        return self._wanted.get(endpoint)

    def is_ready(self) -> bool:
        """Whether every endpoint can answer as its route says, or as it did before."""
        return self.is_informed and all(name in self._now for name in list(self._wanted))

    def want(self, lines: Mapping[str, TableLine]) -> None:
        """Have these lines take effect as their models are ready."""
        with self._lock:
            self._wanted.update(lines)
            wanted = list(self._wanted.values())
            in_effect = list(self._now.values())
        self._models.want(version for line in (*in_effect, *wanted) for version in line.versions)
        self.settle()

    def settle(self) -> None:
        """Let take effect what is ready; called after each change of lines or models."""
        changed = False
        with self._lock:
            for name, wanted in self._wanted.items():
                line = settled(wanted, self._now.get(name), self._models)
                if line is not None and line != self._now.get(name):
                    self._now[name] = line
                    changed = True
        if changed:
            self._changed()

    def told(self) -> dict[str, Any]:
        """For the heartbeat: per endpoint the revision wanted and in effect, and the versions that serve."""
        found = {}
        for name, wanted in list(self._wanted.items()):
            line = self._now.get(name)
            found[name] = {
                "wanted": wanted.revision,
                "revision": line.revision if line else None,
                "champion": str(line.champion) if line and line.champion else None,
                "candidate": str(line.candidate) if line and line.candidate else None,
                "share": line.share if line else 0.0,
                "enabled": line.enabled if line else wanted.enabled,
                "ready": [str(version) for version in wanted.versions if self._models.is_loaded(version)],
            }
        return found

    def problems(self) -> list[dict[str, Any]]:
        """What speaks against versions that are wanted."""
        found = []
        for name, wanted in list(self._wanted.items()):
            for version in wanted.versions:
                said = self._models.problem(version)
                if said:
                    kind = "refused" if self._models.is_refused(version) else "not_compared"
                    found.append({"kind": kind, "endpoint": name, "version": str(version), "message": said})
        return found


class Poller:
    """Looks at the table every ``EVERY`` seconds, in a thread of its own."""

    def __init__(
        self,
        reading: Reading,
        routes: Routes,
        folder: Path,
        clock: Callable[[], datetime],
        *,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reading, self._routes, self._folder, self._clock, self._seconds = reading, routes, folder, clock, seconds
        self._marks: dict[str, Mark] = {}
        self._unreadable: dict[str, Mark] = {}
        self._stuck: dict[str, Mark] = {}
        self._tokens_at = -TOKENS_EVERY
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.away_since: float | None = None

    def begin(self) -> None:
        """The first look; where the database is away, the last good copy of the disk."""
        self.look()
        if self.away_since is not None and not self._routes.names():
            kept: RouteTable = table.kept(self._folder)
            log.warning("The database is away: %d routes from the last good copy serve.", len(kept.lines))
            self._routes.is_informed = bool(kept.lines)
            self._routes.tokens = {name: line.tokens for name, line in kept.lines.items()}
            self._routes.want(kept.lines)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._keep_looking, name="routes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def look(self) -> bool:
        """One look; whether the database answered. What changed is wanted from then on."""
        try:
            changed, marks = self._changed()
            # First of all: a line counts as known only once it is wanted, or a roll-back could be lost.
            if changed:
                self._routes.want(changed)
                self._marks.update(marks)
                self._keep(changed, renewed=False)
            tokens = self._new_tokens()
        except TableAway as problem:
            if self.away_since is None:
                self.away_since = self._seconds()
                log.error("The database is away, the routes of before go on serving: %s", problem)
            return False
        if self.away_since is not None:
            log.warning("The database is back.")
            self.away_since = None
        self._routes.is_informed = True
        if tokens is not None:
            self._routes.tokens = tokens
            self._keep({}, renewed=True)
        return True

    def _changed(self) -> tuple[dict[str, TableLine], dict[str, Mark]]:
        """The lines that are others than before, and the marks by which they are known from then on."""
        changed: dict[str, TableLine] = {}
        marks: dict[str, Mark] = {}
        for name, mark in self._reading.marks().items():
            if self._marks.get(name) == mark or self._unreadable.get(name) == mark:
                continue
            try:
                changed[name] = self._reading.line(name)
            except LineUnreadable as problem:
                log.error("The route of %s can not be read, what served goes on: %s", name, problem)
                self._unreadable[name] = mark
                continue
            except OSError as problem:  # of one endpoint's storage: tried again, and nobody else waits for it
                if self._stuck.get(name) != mark:
                    log.error("The models of %s can not be reached, what served goes on: %s", name, problem)
                self._stuck[name] = mark
                continue
            marks[name] = mark
        return changed, marks

    def _new_tokens(self) -> Mapping[str, Mapping[str, float | None]] | None:
        """The tokens, when they are due and others than before."""
        if self._seconds() - self._tokens_at < TOKENS_EVERY:
            return None
        tokens = self._reading.tokens()
        self._tokens_at = self._seconds()
        return tokens if tokens != self._routes.tokens else None

    def _keep(self, changed: Mapping[str, TableLine], *, renewed: bool) -> None:
        """Write the last good copies of what changed."""
        names = self._routes.names() if renewed else changed
        for name in names:
            line = self._routes.wanted(name)
            if line is not None:
                try:
                    table.keep(replace(line, tokens=self._routes.tokens.get(name, {})), self._folder, at=self._clock())
                except OSError as problem:
                    log.error("The last good copy of %s can not be written: %s", name, problem)

    def _keep_looking(self) -> None:
        while not self._over.wait(EVERY):
            try:
                self.look()
            except Exception:  # the outermost loop of its thread: without it no roll-back would be seen
                log.exception("The route table could not be followed")
