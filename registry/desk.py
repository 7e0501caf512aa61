"""Desks of what belongs to a registered model: staff see the rows of the models their groups own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.desk import Desk, signed_in
from registry.duties import has_duty
from registry.models import Duty, RegisteredModel


class ModelFilter(admin.SimpleListFilter):
    """By registered model; only the models that the user may see are named."""

    title, parameter_name = "model", "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = RegisteredModel.objects.visible_to(signed_in(request)).values_list("name", flat=True)
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(registered_model__name=self.value()) if self.value() else queryset


class ModelDesk(Desk):
    """``within`` is the lookup from a row to its registered model."""

    within: ClassVar[str] = "registered_model"

    def visible(self, rows: QuerySet[Any], user: User) -> QuerySet[Any]:
        return rows.filter(**{f"{self.within}__in": RegisteredModel.objects.visible_to(user)})


def offered_to(*duties: Duty, states: tuple[str, ...] = ()) -> Callable[[Any, User], bool]:
    """Offer a decision to who has one of the duties for the row's model, while the row is in one of ``states``."""

    def offered(row: Any, user: User) -> bool:
        in_state = not states or row.state in states
        return in_state and has_duty(user, row.registered_model, *duties)

    return offered
