"""Which incidents somebody may look at."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from monitoring.models import Incident
from registry.models import AUDITORS, RegisteredModel


def visible_incidents(user: User, among: QuerySet[Any] | None = None) -> QuerySet[Any]:
    """Those of the models the user may see. Those of no single model (a source, background work) name several teams'
    models: they are shown to their owner group, without one to every platform group, and to auditors."""
    rows = Incident.objects.all() if among is None else among
    groups = list(user.groups.all())
    if user.is_superuser or any(group.name == AUDITORS for group in groups):
        return rows
    on_duty = RegisteredModel.objects.filter(platform__in=groups).exists()
    own = Q(registered_model=None, owner__in=groups)
    orphaned = Q(registered_model=None, owner=None) if on_duty else Q(pk=None)
    return rows.filter(Q(registered_model__in=RegisteredModel.objects.visible_to(user)) | own | orphaned)
