"""What the endpoint pages say: who answers in one sentence, and what a gateway told of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mlops.rollout_words import percent
from rollout.models import Endpoint, GatewayProcess, Route

SILENT_AFTER = timedelta(seconds=30)
"""A gateway tells of itself every five seconds or so."""


@dataclass(frozen=True)
class Standing:
    """An endpoint's state in one word and its tone (as badges have them)."""

    word: str
    tone: str


def standing(endpoint: Endpoint, *, is_frozen: bool) -> Standing:
    if not endpoint.enabled:
        return Standing("kill switch pulled", "bad")
    if endpoint.route.champion is None:
        return Standing("nobody serves yet", "warn")
    if endpoint.rollouts_paused:
        return Standing("rollouts paused", "warn")
    if is_frozen:
        return Standing("frozen", "warn")
    return Standing("serving", "good")


def sentence(endpoint: Endpoint) -> str:
    """Who answers the requests of this moment."""
    route: Route = endpoint.route
    if not endpoint.enabled:
        return f"The kill switch is pulled: {_fallback(endpoint)} answers everybody."
    if route.champion is None:
        return f"No version of {endpoint.registered_model.name} serves yet: {_fallback(endpoint)} answers everybody."
    champion = f"v{route.champion.number} of {route.champion.registered_model.name}"
    if route.candidate is None:
        return f"{champion} answers everybody."
    if route.stage == "canary":
        return (
            f"{champion} answers {percent(1 - route.share)}, the candidate v{route.candidate.number} "
            f"{percent(route.share)} (canary step {route.step})."
        )
    return f"{champion} answers everybody; the candidate v{route.candidate.number} scores the same traffic unseen."


def _fallback(endpoint: Endpoint) -> str:
    named = endpoint.route.fallback if not endpoint.enabled else None
    if named is not None and named.version is not None:
        return f"the fallback {named.name} (v{named.version.number})"
    if named is not None:
        return f"the fallback {named.name} (score {named.score:g})"
    if endpoint.fallback is None:
        return "no fallback is set, so an error"
    return f"the fixed score {endpoint.fallback:g}"


# ---------------------------------------------------------------------- gateways


@dataclass(frozen=True)
class Told:
    """What a gateway process says of one endpoint (``rollout.gateway.heartbeat``)."""

    revision: int | None
    is_current: bool
    ready: str
    breakers: str
    problems: tuple[str, ...]


def told(process: GatewayProcess, endpoint: str, revision: int) -> Told | None:
    """Of the entry that a process has for an endpoint whose route has this revision; None when it has none."""
    route = process.routes.get(endpoint)
    if not isinstance(route, Mapping):
        return None
    seen = route.get("revision")
    known = seen if isinstance(seen, int) else None
    ready = route.get("ready")
    breakers = route.get("breakers")
    return Told(
        known,
        known is not None and known >= revision,
        ", ".join(str(each) for each in ready) if isinstance(ready, list) else "",
        "; ".join(f"{name}: {state}" for name, state in breakers.items()) if isinstance(breakers, Mapping) else "",
        tuple(_problems(process.problems, endpoint)),
    )


def _problems(found: Any, endpoint: str) -> Iterator[str]:
    """What is wrong with the whole process, or with this endpoint there."""
    for each in found if isinstance(found, list) else []:
        if isinstance(each, Mapping) and each.get("endpoint", endpoint) == endpoint:
            yield str(each.get("message", each.get("kind", "")))


def health(process: GatewayProcess, *, now: datetime) -> tuple[str, str]:
    """The tone and the word for whether it lives."""
    if process.ended_at is not None:
        return "", "ended"
    if now - process.seen_at > SILENT_AFTER:
        return "bad", "silent"
    return ("warn", "with problems") if process.problems else ("good", "alive")
