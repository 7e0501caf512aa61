"""What the feature store's desks show and decide that needs to know the models: who uses it, who would have to move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from django.contrib import admin
from django.contrib.auth.models import User

from audit.desk import Decision, Lines
from features.admin import FeatureServiceDesk, FeatureViewVersionDesk
from features.models import FeatureService, FeatureViewVersion
from mlops.usage import Mover, Use, uses_now, would_have_to_move
from rollout.actions import retire_feature_service


def _who_would_move(version: FeatureViewVersion, user: User) -> Iterable[Lines]:
    """The services that pin a version with their live models and the groups that act."""
    rows = [(str(mover.service), _said(mover)) for mover in would_have_to_move(version, uses_now(user))]
    return [Lines("Who would have to move", rows, note="They are served as before until they have moved.")]


def _said(mover: Mover) -> str:
    used = ", ".join(map(_use, mover.uses)) or "no live model"
    return f"{used}\n{', '.join(mover.groups)}"


def _use(use: Use) -> str:
    return f"{use.label} ({use.role})"


def _who_takes_it(service: FeatureService, user: User) -> Iterable[Lines]:
    rows = [(use.label, use.role) for use in uses_now(user).get(service.pk, ())]
    return [Lines("Models that take it now", rows, note="It is refused while there are any.")]


class ViewVersionDesk(FeatureViewVersionDesk):
    decisions = tuple(
        replace(each, reads=_who_would_move) if each.name == "deprecate" else each
        for each in FeatureViewVersionDesk.decisions
    )


class ServiceDesk(FeatureServiceDesk):
    decisions = (
        *FeatureServiceDesk.decisions,
        Decision(
            name="retire",
            label="Retire",
            consequence=(
                "No model may take the service up any more, no pipeline of it trains, and nothing is kept fresh for it."
            ),
            carry_out=retire_feature_service,
            offered=lambda service, user: (
                service.retired_at is None and user.groups.filter(pk=service.owner_id).exists()
            ),
            variant="danger",
            icon="delete_forever",
            reads=_who_takes_it,
        ),
    )


for model, desk in ((FeatureViewVersion, ViewVersionDesk), (FeatureService, ServiceDesk)):
    admin.site.unregister(model)
    admin.site.register(model, desk)
