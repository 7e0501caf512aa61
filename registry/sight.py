"""Which feature services somebody may see: those of their groups, and those that a model they may see consumes."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from features.models import FeatureService
from registry.models import AUDITORS, RegisteredModel


def visible_services(user: User) -> QuerySet[FeatureService]:
    """Auditors and administrators see all."""
    rows = FeatureService.objects.all()
    if user.is_superuser or user.groups.filter(name=AUDITORS).exists():
        return rows
    models = RegisteredModel.objects.visible_to(user)
    consumed = Q(pipelines__registered_model__in=models) | Q(versions__registered_model__in=models)
    return rows.filter(Q(owner__in=user.groups.all()) | consumed).distinct()
