"""Where a version stands at the gates, and why, in words: for the API and the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gates.actions import in_force, missing_evidence
from gates.models import GateRun, GateRunState
from registry.models import ModelVersion

UNJUDGED = "unjudged"
VOID = "void"


@dataclass(frozen=True)
class Standing:
    """``state`` is the gate run's, or ``unjudged``, or ``void``: passed, but under a policy that is no longer in force.

    ``may_enter_rollout`` is what the database will say too.
    """

    state: str
    message: str
    gate_run: GateRun | None = None
    missing_evidence: tuple[str, ...] = ()

    @property
    def may_enter_rollout(self) -> bool:
        return self.state == GateRunState.PASSED

    def as_dict(self) -> dict[str, Any]:
        run = self.gate_run
        return {
            "state": self.state,
            "message": self.message,
            "may_enter_rollout": self.may_enter_rollout,
            "gate_run": run.pk if run else None,
            "policy": run.policy.number if run else None,
            "missing_evidence": list(self.missing_evidence),
        }


def standing(version: ModelVersion) -> Standing:
    """The standing by the version's newest gate run; a pass under the policy in force is not undone by a later run."""
    policy = in_force(version.registered_model)
    runs = version.gate_runs.select_related("policy", "version").order_by("-number")
    newest = runs.first()
    if newest is None:
        if policy is None:
            return Standing(
                UNJUDGED, f"{version.registered_model} has no policy: adopt one to have its versions judged."
            )
        return Standing(UNJUDGED, "It has not been judged yet.")
    passed = runs.filter(state=GateRunState.PASSED, policy=policy).first()
    if passed is not None:
        return Standing(GateRunState.PASSED, passed.state_reason, passed)
    if newest.state == GateRunState.PASSED:
        return Standing(
            VOID, f"It passed under {newest.policy}; {policy} is in force now. Run the gates again.", newest
        )
    if newest.state == GateRunState.OPEN:
        missing = missing_evidence(newest)
        until = f"until {newest.deadline:%Y-%m-%d %H:%M} UTC"
        return Standing(newest.state, f"Waits {until} for evidence: {', '.join(missing) or 'none'}.", newest, missing)
    if newest.state == GateRunState.RUNNING:
        return Standing(newest.state, f"Is being measured since {newest.state_since:%Y-%m-%d %H:%M} UTC.", newest)
    return Standing(newest.state, newest.state_reason, newest)
