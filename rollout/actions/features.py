"""End the feature services that no model lives on any more."""

from __future__ import annotations

from datetime import datetime

from audit.trail import Actor
from features.models import FeatureService
from registry import actions as registry
from rollout.models import ACTIVE, Fallback, Rollout, RolloutState


def retire_feature_service(service: FeatureService, *, actor: Actor, reason: str, now: datetime) -> FeatureService:
    """Raises Conflict while a champion, an open training run, an open rollout or a named fallback takes the service."""
    return registry.retire_feature_service(service, actor=actor, reason=reason, now=now, rollouts=_users)


def _users(service: FeatureService) -> list[str]:
    named = Fallback.objects.filter(version__service=service, retired_at=None).select_related("endpoint")
    return [*_open_rollouts(service), *(f"{fallback} (fallback)" for fallback in named)]


def _open_rollouts(service: FeatureService) -> list[str]:
    """What waits or runs with a version that takes the service, in words."""
    rows = Rollout.objects.filter(version__service=service, state__in=(RolloutState.PENDING, *ACTIVE))
    return [f"{rollout} ({rollout.state})" for rollout in rows.select_related("version__registered_model", "endpoint")]
