"""The trail in the admin: every event, read-only, with the chain of causes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator

from audit.desk import Desk, Lines, Link, display, signed_in
from audit.models import Event
from mlops.sight import causes, effects, visible_events
from monitoring.evidence import readable
from registry.models import RegisteredModel


class ConcernFilter(admin.SimpleListFilter):
    """By the model an event concerns; only the models that the user may see are named."""

    title, parameter_name = "model", "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = RegisteredModel.objects.visible_to(signed_in(request)).values_list("name", flat=True)
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(registered_model=self.value()) if self.value() else queryset


class NounFilter(admin.SimpleListFilter):
    """By the first half of an event's name: what kind of thing it happened to."""

    title, parameter_name = "what", "noun"
    NOUNS = (
        "alias", "business_metric", "data_source", "dataset", "decay", "drift", "endpoint", "entity", "evidence",
        "fallback", "feature_view_version", "gate_run", "incident", "job", "model_version", "monitor", "policy",
        "registered_model", "rethink", "retraining", "rollout", "token", "training_pipeline", "training_run", "user",
    )  # fmt: skip

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(noun, noun.replace("_", " ")) for noun in self.NOUNS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(name__startswith=f"{self.value()}.") if self.value() else queryset


class AuthorFilter(admin.SimpleListFilter):
    """By who acted: a person or Gatehouse itself."""

    title, parameter_name = "who", "who"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("person", "a person"), ("itself", "Gatehouse by itself")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(actor__isnull=self.value() == "itself") if self.value() else queryset


@admin.register(Event)
class EventDesk(Desk):
    portal = "portal:event"
    events_title = "The chain of causes, from the first to this one, and what followed"
    list_display = ("at", "name", "subject_label", "registered_model", "who", "said", "because")
    list_display_links = ("at", "name")
    list_select_related = ("actor", "cause")
    list_filter = (ConcernFilter, NounFilter, AuthorFilter)
    search_fields = ("name", "subject_label", "reason", "service")
    date_hierarchy = "at"
    show_full_result_count = False
    fields = ("name", "subject_label", "registered_model", "who", "reason", "at", "recorded_at")

    def visible(self, rows: QuerySet[Any], user: User) -> QuerySet[Any]:
        return visible_events(user, rows)

    @display(description="who")
    def who(self, event: Event) -> str:
        return f"{event.author} (by itself)" if event.is_automatic else event.author

    @display(description="why")
    def said(self, event: Event) -> str:
        return Truncator(event.reason).chars(110)

    @display(description="because of")
    def because(self, event: Event) -> str:
        return event.cause.name if event.cause else "—"

    def links(self, subject: Event, user: User) -> Iterable[Link]:
        row = subject_of(subject)
        return [
            Link("About", [row] if row is not None else []),
            Link("Because of", [subject.cause] if subject.cause else []),
            Link("What followed", list(subject.effects.order_by("id"))),
        ]

    def lines(self, subject: Event) -> Iterable[Lines]:
        return [Lines("Data", readable(subject.data))] if subject.data else []

    def events(self, subject: Event, user: User) -> list[Event]:
        return [*causes(subject, user), *effects(subject, user)]


def subject_of(event: Event) -> Model | None:
    """The row an event is about; None when it is gone or its kind is."""
    try:
        kind = apps.get_model(event.subject_type)
        row: Model | None = kind._default_manager.filter(pk=event.subject_id).first()
    except (LookupError, ValueError):
        return None
    return row
