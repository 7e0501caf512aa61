"""Candidates that gateways have stopped asking because they kept failing: taken back without waiting for statistics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollout.models import GatewayProcess, Rollout, RolloutState

RECENT = timedelta(seconds=60)
"""What a gateway told longer ago is no reason to act."""


@dataclass(frozen=True)
class Broken:
    """A rollout whose candidate a gateway has given up asking, and what it said."""

    rollout: Rollout
    gateway: str
    failures: int
    problem: str

    @property
    def reason(self) -> str:
        return (
            f"It failed {self.failures} requests in a row at the gateway {self.gateway}, which has stopped asking it "
            f"(circuit breaker). Last error: {self.problem or 'none was said'}"
        )


def broken(*, now: datetime) -> list[Broken]:
    """Canaries with an open breaker at some gateway that was seen lately; each once."""
    canaries = {
        rollout.pk: rollout
        for rollout in Rollout.objects.filter(state=RolloutState.CANARY).select_related(
            "endpoint", "registered_model", "version__registered_model", "incumbent", "gate_run__policy"
        )
    }
    found: dict[int, Broken] = {}
    if not canaries:
        return []
    for process in GatewayProcess.objects.filter(seen_at__gt=now - RECENT):
        for told in process.routes.values():
            for breaker in told.get("broken", ()):
                rollout = canaries.get(breaker["rollout"])
                if rollout is not None:
                    found.setdefault(rollout.pk, Broken(rollout, process.name, breaker["failures"], breaker["problem"]))
    return list(found.values())
