"""What a gateway process tells of itself: a row every few seconds, best effort; serving waits for none of it."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, connection

from rollout.gateway.breaker import Breaker
from rollout.gateway.core import Gateway
from rollout.gateway.poller import Poller, Routes
from rollout.gateway.table import TableVersion
from rollout.models import GatewayProcess
from rollout.spool import Spool

log = logging.getLogger(__name__)

EVERY = 5.0
MOST_PROBLEMS = 50


def process_name(started_at: datetime) -> str:
    """host:pid:start"""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{started_at:%Y%m%dT%H%M%S.%f}"


@dataclass
class Heartbeat:
    """Writes the ``GatewayProcess`` of this process from a thread of its own."""

    gateway: Gateway
    routes: Routes
    poller: Poller
    spool: Spool
    clock: Callable[[], datetime]

    def __post_init__(self) -> None:
        self._started_at = self.clock()
        self.name = process_name(self._started_at)
        self._ring = threading.Event()
        self._is_over = False
        self._thread: threading.Thread | None = None

    def ring(self) -> None:
        """Tell at once: a breaker opened."""
        self._ring.set()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._keep_telling, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say good-bye."""
        self._is_over = True
        self._ring.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def tell(self, *, ended: bool = False) -> bool:
        """Write the row; False when the database does not answer."""
        now = self.clock()
        told = {
            "seen_at": now,
            "ended_at": now if ended else None,
            "routes": self._routes_told(),
            "problems": self.problems()[:MOST_PROBLEMS],
            "spool_bytes": self.spool.used_bytes,
            "dropped_rows": self.gateway.dropped,
        }
        try:
            GatewayProcess.objects.update_or_create(
                name=self.name, defaults=told, create_defaults={"started_at": self._started_at, **told}
            )
        except (DatabaseError, InterfaceError) as problem:
            log.warning("The heartbeat could not be written: %s", problem)
            connection.close()
            return False
        return True

    def problems(self) -> list[dict[str, Any]]:
        """What is wrong here: kind, endpoint, version, message."""
        found = self.routes.problems()
        if self.poller.away_since is not None:
            seconds = time.monotonic() - self.poller.away_since
            found.append({"kind": "database_away", "message": f"No answer for {seconds:.0f} s."})
        if self.gateway.is_crowded:
            used = f"{self.spool.pressure:.0%}"
            found.append({"kind": "spool_crowded", "message": f"The spool is {used} full: no canary gets traffic."})
        if self.gateway.dropped:
            found.append({"kind": "dropped_rows", "message": f"{self.gateway.dropped} rows were not logged."})
        if self.gateway.unconfirmed:
            said = f"The disk did not confirm {self.gateway.unconfirmed} rows of durable endpoints."
            found.append({"kind": "not_durable", "message": said})
        return found + self._open_breakers()

    def _open_breakers(self) -> list[dict[str, Any]]:
        found = []
        for endpoint, version, breaker in self._breakers():
            if breaker.is_open:
                said = f"It failed {breaker.failures} requests in a row. {breaker.problem}"
                told = {"kind": "breaker_open", "endpoint": endpoint, "version": str(version)}
                found.append({**told, "message": said})
        return found

    def _breakers(self) -> Iterator[tuple[str, TableVersion, Breaker]]:
        """By endpoint and version, of versions that are still on their route."""
        for (endpoint, pk), breaker in list(self.gateway.breakers.items()):
            line = self.routes.line(endpoint)
            for version in line.versions if line else ():
                if version.pk == pk:
                    yield endpoint, version, breaker
                    break

    def _routes_told(self) -> dict[str, Any]:
        told = self.routes.told()
        for endpoint, version, breaker in self._breakers():
            mine = told[endpoint]
            state = "open" if breaker.is_open else "closed"
            mine.setdefault("breakers", {})[str(version)] = f"{state}, {breaker.failures} failures in a row"
            if breaker.is_open:
                mine.setdefault("broken", []).append({"version_id": version.pk, **breaker.as_dict()})
        return told

    def _keep_telling(self) -> None:
        while not self._is_over:
            self._ring.clear()
            try:
                self.tell()
            except Exception:  # the outermost loop of its thread
                log.exception("The heartbeat failed")
            self._ring.wait(EVERY)
        self.tell(ended=True)
        connection.close()
