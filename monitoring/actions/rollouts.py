"""What monitoring makes of a rollout's end: incidents opened and closed, and the retraining it belonged to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from audit.trail import Actor
from monitoring.actions.findings import cause
from monitoring.actions.incidents import raise_incident, resolve, resolve_cause
from monitoring.models import Incident, IncidentKind, IncidentState
from registry.models import Duty, Tier
from rollout.models import Endpoint, Rollout

ENDED_BY_A_NEW_CHAMPION = (IncidentKind.DRIFT, IncidentKind.DECAY)


def note_rolled_back(rollout: Rollout, *, actor: Actor, now: datetime) -> Incident:
    """The canary or shadow turned out worse: data science finds out why, product is told that the champion stays."""
    registered_model = rollout.registered_model
    return raise_incident(
        kind=IncidentKind.ROLLED_BACK,
        duty=Duty.DATA_SCIENCE,
        registered_model=registered_model,
        version=rollout.version,
        cause_key=f"{IncidentKind.ROLLED_BACK}:{rollout.pk}",
        title=f"{rollout.version} was rolled back from {rollout.endpoint}",
        detail=(
            f"{rollout.state_reason} For the product group ({registered_model.product}): "
            f"{rollout.incumbent or 'the fallback'} answers everybody again. Data science: find out why the gates let "
            "it through; the looks of the rollout show where it differed."
        ),
        evidence={"rollout": rollout.pk, "step": rollout.step, "reason": rollout.state_reason},
        severity="high" if registered_model.tier == Tier.HIGH_STAKES else "medium",
        actor=actor,
        now=now,
    )


def note_held(rollout: Rollout, *, reason: str, actor: Actor, now: datetime) -> Incident:
    """A rollout has waited beyond its horizon without enough evidence either way."""
    return raise_incident(
        kind=IncidentKind.STUCK,
        duty=Duty.DATA_SCIENCE,
        registered_model=rollout.registered_model,
        version=rollout.version,
        cause_key=_stuck(rollout),
        title=f"{rollout} holds without enough evidence",
        detail=f"{reason} Wait for more traffic, or end it; the product group may let it go on.",
        evidence={"rollout": rollout.pk, "state": rollout.state, "step": rollout.step},
        severity="low",
        actor=actor,
        now=now,
    )


def note_ended(rollout: Rollout, *, actor: Actor, now: datetime) -> None:
    """However it ended, it is not stuck any more."""
    resolve_cause(_stuck(rollout), actor=actor, reason=f"The rollout is {in_words(rollout)}.", now=now)


def note_promoted(rollout: Rollout, *, actor: Actor, now: datetime) -> None:
    """A new champion serves: what was wrong with the old one, or with earlier candidates, is over."""
    registered_model = rollout.registered_model
    reason = f"{rollout.version} serves now."
    for kind in ENDED_BY_A_NEW_CHAMPION:
        resolve_cause(cause(kind, registered_model), actor=actor, reason=reason, now=now)
    earlier = Incident.objects.filter(registered_model=registered_model, kind=IncidentKind.ROLLED_BACK)
    for incident in earlier.exclude(state=IncidentState.RESOLVED):
        resolve(incident, actor=actor, reason=reason, now=now)


def note_adrift(endpoint: Endpoint, *, reason: str, data: Mapping[str, Any], actor: Actor, now: datetime) -> Incident:
    """Who splits the endpoint's traffic does not do what its route says, and that for minutes."""
    return raise_incident(
        kind=IncidentKind.SERVING,
        duty=Duty.PLATFORM,
        registered_model=endpoint.registered_model,
        version=None,
        cause_key=_traffic(endpoint),
        title=f"The traffic of {endpoint} is not split as its route says",
        detail=(
            f"{reason} Gatehouse tries again each minute. Until it follows, no rollback reaches the traffic: look at "
            "the plan on the endpoint's page, and take the candidate off by hand if there is one."
        ),
        evidence={"endpoint": endpoint.name, **data},
        severity="high",
        actor=actor,
        now=now,
    )


def note_following(endpoint: Endpoint, *, reason: str, actor: Actor, now: datetime) -> None:
    """Who splits the endpoint's traffic follows its route again."""
    resolve_cause(_traffic(endpoint), actor=actor, reason=reason, now=now)


def in_words(rollout: Rollout) -> str:
    """Its state as a person says it."""
    return rollout.state.replace("_", " ")


def _stuck(rollout: Rollout) -> str:
    return f"{IncidentKind.STUCK}:{rollout.pk}"


def _traffic(endpoint: Endpoint) -> str:
    return f"{IncidentKind.SERVING}:traffic:{endpoint.pk}"
