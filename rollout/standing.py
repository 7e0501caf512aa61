"""Where a version is on its way to production, and why: gates, rollouts and alias read together, for API and SDK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gates import standing as at_gates
from gates.models import ENDED, GateRunState
from registry.models import Alias, ModelVersion
from rollout.models import ACTIVE, Rollout, RolloutState

CHAMPION = "champion"
REPLACED = "replaced"
READY = "ready"
REFUSED = "refused"
JUDGED = "judged"
UNJUDGED = at_gates.UNJUDGED
STAGES = (
    CHAMPION,
    RolloutState.SHADOW.value,
    RolloutState.CANARY.value,
    RolloutState.PAUSED.value,
    RolloutState.PENDING.value,
    RolloutState.ROLLED_BACK.value,
    RolloutState.ABORTED.value,
    REPLACED,
    READY,
    REFUSED,
    JUDGED,
    UNJUDGED,
)
"""``judged``: the gates wait for evidence or measure. ``refused``: they ended without a pass, or the pass is void.
``ready``: passed, no rollout yet. ``replaced``: it was champion. The others are a rollout's."""


@dataclass(frozen=True)
class Standing:
    """``why`` is one sentence for a person; ``gates`` and ``rollouts`` have the facts behind it."""

    version: ModelVersion
    stage: str
    why: str
    since: datetime | None
    gates: at_gates.Standing
    rollouts: tuple[Rollout, ...]

    @property
    def gates_ended(self) -> bool:
        """Nothing more will come from the gates by themselves."""
        return self.gates.state in ENDED or self.gates.state == at_gates.VOID

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.version.registered_model.name,
            "version": self.version.number,
            "stage": self.stage,
            "why": self.why,
            "since": self.since,
            "is_champion": self.stage == CHAMPION,
            "gates_ended": self.gates_ended,
            "gates": self.gates.as_dict(),
            "rollouts": [
                {
                    "id": rollout.pk,
                    "endpoint": rollout.endpoint.name,
                    "state": rollout.state,
                    "reason": rollout.state_reason,
                    "since": rollout.state_since,
                    "step": rollout.step,
                }
                for rollout in self.rollouts
            ],
        }


def standing(version: ModelVersion) -> Standing:
    """Read from the stored state, in a fixed number of queries."""
    gates = at_gates.standing(version)
    rollouts = tuple(version.rollouts.select_related("endpoint").order_by("-id"))
    alias = Alias.objects.filter(version=version, name=Alias.CHAMPION).first()
    if alias is not None:
        promoted = next((rollout for rollout in rollouts if rollout.state == RolloutState.PROMOTED), None)
        why = promoted.state_reason if promoted else "It is the model's champion."
        return Standing(version, CHAMPION, why, alias.since, gates, rollouts)
    leading = _leading(rollouts)
    if leading is not None:
        was_champion = leading.state == RolloutState.PROMOTED
        stage = REPLACED if was_champion else leading.state
        why = "It was champion; another version has taken its place." if was_champion else leading.state_reason
        return Standing(version, stage, why, None if was_champion else leading.state_since, gates, rollouts)
    since = gates.gate_run.state_since if gates.gate_run else None
    return Standing(version, _stage_at_gates(gates), gates.message, since, gates, rollouts)


def _leading(rollouts: Sequence[Rollout]) -> Rollout | None:
    """The rollout that says most: one with traffic, else one that waits, else the newest."""
    for states in (ACTIVE, (RolloutState.PENDING,)):
        for rollout in rollouts:
            if rollout.state in states:
                return rollout
    return rollouts[0] if rollouts else None


def _stage_at_gates(gates: at_gates.Standing) -> str:
    if gates.state == at_gates.UNJUDGED:
        return UNJUDGED
    if gates.state in (GateRunState.OPEN, GateRunState.RUNNING):
        return JUDGED
    return READY if gates.may_enter_rollout else REFUSED
