"""Feature services that models take up, and their end."""

from __future__ import annotations

from datetime import datetime

from audit.errors import Conflict
from audit.trail import Actor
from features.actions import Users, retire_service
from features.models import FeatureService
from registry.models import Alias, RunState, TrainingRun

OPEN_RUN = (RunState.REQUESTED, RunState.RUNNING)


def retire_feature_service(
    service: FeatureService, *, actor: Actor, reason: str, now: datetime, rollouts: Users
) -> FeatureService:
    """End a feature service that no model lives on: pipelines of it train no more.

    Raises Conflict while a champion or an open training run takes it, or one of the ``rollouts``: those that are open
    are known above the registry (``rollout.actions.retire_feature_service``).
    """

    def users(locked: FeatureService) -> list[str]:
        champions = Alias.objects.filter(name=Alias.CHAMPION, version__service=locked).select_related(
            "version__registered_model"
        )
        runs = TrainingRun.objects.filter(pipeline__service=locked, state__in=OPEN_RUN)
        return [
            *(f"{alias.version} (champion)" for alias in champions),
            *(f"{run} ({run.state})" for run in runs.select_related("pipeline__registered_model")),
            *rollouts(locked),
        ]

    return retire_service(service, actor=actor, reason=reason, now=now, users=users)


def hold_service(service: FeatureService) -> None:
    """Lock a service that something is about to take up. Raises Conflict when it was retired.

    Whoever takes it up and whoever retires it wait for each other here.
    """
    stored = FeatureService.objects.select_for_update().get(pk=service.pk)
    if stored.retired_at is not None:
        raise Conflict(f"{stored} was retired on {stored.retired_at:%Y-%m-%d}; no model can take it up.")
