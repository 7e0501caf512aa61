"""How the gateways fare, by what they told of themselves: hosts that fell silent, versions that they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollout.models import GatewayProcess

SILENT_AFTER = timedelta(seconds=60)
"""A gateway tells of itself every few seconds."""
RETIRED_AFTER = timedelta(days=1)
"""A host that was silent for so long is taken as retired."""
AGAINST_A_VERSION = ("refused", "breaker_open")
"""Kinds of problems that keep a version from answering."""


@dataclass(frozen=True)
class Refused:
    """A version that gateways do not ask, and why; ``endpoint`` by name."""

    endpoint: str
    version: str
    kind: str
    message: str

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.endpoint}:{self.version}"


@dataclass(frozen=True)
class Gateways:
    """``silent``: hosts whose gateways said no good-bye, and when they were last seen. ``speaking``: hosts with one
    that was seen lately; without any, nothing is known of ``refused``."""

    silent: Mapping[str, datetime]
    refused: tuple[Refused, ...]
    speaking: frozenset[str]


def gateways(*, now: datetime) -> Gateways:
    """What was told until ``now``."""
    known = list(GatewayProcess.objects.filter(ended_at=None, seen_at__gt=now - RETIRED_AFTER))
    alive = [each for each in known if each.seen_at > now - SILENT_AFTER]
    speaking = {_host(each) for each in alive}
    silent: dict[str, datetime] = {}
    for each in known:
        if _host(each) not in speaking:
            silent[_host(each)] = max(each.seen_at, silent.get(_host(each), each.seen_at))
    refused = {found.key: found for each in alive for found in _refused(each)}
    return Gateways(silent, tuple(refused.values()), frozenset(speaking))


def _host(process: GatewayProcess) -> str:
    return process.name.split(":", 1)[0]


def _refused(process: GatewayProcess) -> list[Refused]:
    against = [each for each in process.problems if each.get("kind") in AGAINST_A_VERSION]
    return [
        Refused(each.get("endpoint", ""), str(each.get("version", "")), each["kind"], each.get("message", ""))
        for each in against
    ]
