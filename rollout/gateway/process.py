"""One gateway process, put together: spool, models, routes, core, heartbeat; and who may ask it what."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from django.conf import settings
from knox.crypto import hash_token

from audit import clock
from rollout import ingest
from rollout.gateway.asked import Answered, Asked, Described, NotAllowed
from rollout.gateway.core import Gateway
from rollout.gateway.heartbeat import Heartbeat
from rollout.gateway.lines import Lines
from rollout.gateway.models import Models
from rollout.gateway.poller import Poller, Reading, Routes
from rollout.gateway.store import OnlineFeatures
from rollout.spool import Spool

NEEDS_TOKEN = "token"


def software() -> str:
    """Of the gateway's software."""
    try:
        return version("gatehouse")
    except PackageNotFoundError:  # it runs from its checkout
        return "0.1.0"


class Process:
    """Everything of one process. ``start`` begins to serve; ``stop`` seals the spool and says good-bye."""

    def __init__(self, *, reading: Reading | None = None, now: Callable[[], datetime] = clock.now) -> None:
        root = Path(settings.DATA_ROOT)
        self.spool = Spool(ingest.spool_folder(), budget_bytes=settings.GATEHOUSE_SPOOL_BYTES)
        self.models = Models(
            root / "kits", hosts=settings.GATEHOUSE_EXTERNAL_HOSTS, changed=lambda: self.routes.settle()
        )
        self.routes = Routes(self.models, changed=lambda: self.heartbeat.ring())
        self.gateway = Gateway(
            self.routes, self.models, self.spool, now, features=OnlineFeatures(), opened=lambda: self.heartbeat.ring()
        )
        self.poller = Poller(reading or Lines(), self.routes, root / "routes", now)
        self.heartbeat = Heartbeat(self.gateway, self.routes, self.poller, self.spool, now)
        self.needs_token = settings.GATEHOUSE_GATEWAY_AUTH == NEEDS_TOKEN
        self._is_over = False

    def start(self) -> None:
        self.poller.begin()
        self.models.start()
        self.poller.start()
        self.heartbeat.start()

    def stop(self) -> None:
        """Again changes nothing."""
        if self._is_over:
            return
        self._is_over = True
        self.poller.stop()
        self.models.stop()
        self.heartbeat.stop()
        self.gateway.close()
        self.spool.close()

    def house(self, authorization: str) -> Caller:
        """Who answers this caller (``protocols.House``)."""
        return Caller(self, authorization)


class Caller:
    """The gateway as one caller may see it: by the token that came with the request."""

    version = software()

    def __init__(self, process: Process, authorization: str) -> None:
        self._process, self._authorization = process, authorization
        self._digest: str | None = None

    def names(self) -> Sequence[str]:
        return [name for name in self._process.routes.names() if self._may(name)]

    def is_ready(self) -> bool:
        return self._process.routes.is_ready()

    def describe(self, endpoint: str) -> Described:
        """Raises UnknownEndpoint, NotAllowed."""
        self._check(endpoint)
        return self._process.gateway.describe(endpoint)

    def answer(self, endpoint: str, asked: Asked) -> Answered:
        """Raises Refusal."""
        self._check(endpoint)
        return self._process.gateway.answer(endpoint, asked)

    # ------------------------------------------------------------------ tokens

    def _check(self, endpoint: str) -> None:
        """Raises NotAllowed. Who has no token learns nothing, not even whether there is such an endpoint."""
        if self._may(endpoint):
            return
        tokens = self._process.routes.tokens
        if not any(self._token() in each for each in tokens.values()):
            raise NotAllowed("Authorization: Bearer <API token with the scope 'serve'> is needed.")
        raise NotAllowed(f"This token's owner has no duty for {endpoint[:100]}, or there is none.", known=True)

    def _may(self, endpoint: str) -> bool:
        if not self._process.needs_token:
            return True
        tokens = self._process.routes.tokens.get(endpoint, {})
        digest = self._token()
        if digest not in tokens:
            return False
        expires = tokens[digest]
        return expires is None or time.time() < expires

    def _token(self) -> str:
        """The digest of the caller's token; empty without one."""
        if self._digest is None:
            scheme, _, token = self._authorization.partition(" ")
            is_one = scheme.lower() == "bearer" and token.isascii() and 0 < len(token) <= 200
            self._digest = hash_token(token) if is_one else ""
        return self._digest
