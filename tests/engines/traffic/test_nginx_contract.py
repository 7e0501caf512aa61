"""nginx keeps the contract of traffic backends: a real one, split and reloaded."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from engines.traffic.document import NginxTraffic
from engines.traffic.nginx import NginxBackend
from engines.traffic.port import Split
from tests.engines.traffic.contract import *  # noqa: F403  # the suite
from tests.nginx_server import RunningNginx, wait_for_lines


@dataclass
class BehindNginx:
    backend: NginxBackend
    endpoint: str = "delay-warning"
    champion: str = "delay-v3"
    candidate: str = "delay-v4"
    fence: int = 0
    step: int = 0
    asked: int = 0
    client: http.client.HTTPConnection | None = field(default=None, repr=False)

    def wants(self, share: float) -> tuple[Split, int]:
        return self._next(share, self.candidate, "5a17")

    def another_rollout(self, share: float) -> tuple[Split, int]:
        return self._next(share, "delay-v5", "0ther")

    def _next(self, share: float, candidate: str, salt: str) -> tuple[Split, int]:
        self.fence, self.step = self.fence + 1, self.step + 1
        return Split(self.champion, candidate, share, salt, self.step), self.fence

    def ask(self, entities: Sequence[str]) -> Mapping[str, str]:
        return {entity: self.post("/", {"X-Entity": entity})[1] for entity in entities}

    def post(self, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        """Over one kept connection, as clients do; opened anew where nginx closed it."""
        for _ in range(2):
            if self.client is None:
                host, port = self.backend.document.listen.rsplit(":", 1)
                self.client = http.client.HTTPConnection(host, int(port), timeout=20)
            try:
                self.client.request("POST", path, body=b"{}", headers=dict(headers))
                answer = self.client.getresponse()
                self.asked += 1
                return answer.status, answer.read().decode()
            except (http.client.HTTPException, ConnectionError):
                self.client.close()
                self.client = None
        raise ConnectionError("nginx does not answer")

    def rows(self, since: str) -> tuple[Sequence[Mapping[str, Any]], str]:
        if self.asked:
            wait_for_lines(self.backend.logs / f"{self.endpoint}.log", self.asked)
        read = self.backend.read(self.endpoint, since)
        assert not read.unreadable
        return read.rows, read.place


@pytest.fixture
def served(nginx: RunningNginx) -> Iterator[BehindNginx]:
    document = NginxTraffic(backend="nginx", listen=nginx.front, upstreams=nginx.versions)
    behind = BehindNginx(NginxBackend(document, nginx.folder, nginx.logs, nginx.command))
    yield behind
    if behind.client is not None:
        behind.client.close()
