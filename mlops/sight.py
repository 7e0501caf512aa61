"""Which events somebody may look at, their chain of causes as far as that goes, and the page of an event's subject."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.urls import reverse

from audit.models import Event
from registry.models import AUDITORS, RegisteredModel

LONGEST_CHAIN = 50
SHARED = ("features.",)
"""Kinds of subjects that belong to no model and to everybody who works here: the feature store's nouns."""

PAGES = {
    "gates.gaterun": "portal:gate-run",
    "rollout.rollout": "portal:rollout",
    "monitoring.incident": "portal:incident",
    "monitoring.rethink": "portal:rethink",
}
VERSION = re.compile(r"(?P<name>[a-z0-9_-]+) v(?P<number>\d+)")
NUMBERED = {
    "features.featureviewversion": "portal:feature-view-version",
    "features.featureservice": "portal:feature-service",
}
NAMED = {
    "features.featureview": "portal:feature-view",
    "features.datasource": "portal:data-source",
    "rollout.endpoint": "portal:endpoint",
}
POLICY = re.compile(r"(?P<name>[a-z0-9_-]+) policy (?P<number>\d+)")
PINNED = re.compile(r"(?P<name>[a-z0-9_-]+)@(?P<number>\d+)")


def visible_events(user: User, among: QuerySet[Any] | None = None) -> QuerySet[Any]:
    """Events of the models the user may see, of the shared feature store, and of their own account.

    What belongs to no model otherwise (incidents over several models, background work) may name any: it is shown to
    those who act on it, the platform groups, and to auditors and administrators.
    """
    rows = Event.objects.all() if among is None else among
    groups = list(user.groups.all())
    if user.is_superuser or any(group.name == AUDITORS for group in groups):
        return rows
    names = RegisteredModel.objects.visible_to(user).values("name")
    seen = Q(registered_model__in=names) | Q(actor=user)
    for prefix in SHARED:
        seen |= Q(registered_model="", subject_type__startswith=prefix)
    if RegisteredModel.objects.filter(platform__in=groups).exists():
        seen |= Q(registered_model="") & ~Q(subject_type__startswith="auth.")
    return rows.filter(seen)


def causes(event: Event, user: User) -> list[Event]:
    """From the first cause that the user may see down to the event itself; at most fifty steps."""
    visible = visible_events(user).select_related("actor", "cause").prefetch_related("effects")
    chain = [event]
    while chain[0].cause_id is not None and len(chain) < LONGEST_CHAIN:
        before = visible.filter(pk=chain[0].cause_id).first()
        if before is None:
            break
        chain.insert(0, before)
    return chain


def effects(event: Event, user: User) -> QuerySet[Any]:
    """What followed from an event, as far as the user may see it, oldest first."""
    followed = visible_events(user, event.effects.all())
    return followed.select_related("actor", "cause").prefetch_related("effects").order_by("id")


def subject_url(event: Event) -> str | None:
    """Where the thing an event is about can be looked at; None when the portal has no page for its kind."""
    if event.subject_type in PAGES:
        return reverse(PAGES[event.subject_type], args=[event.subject_id])
    if event.subject_type == "registry.registeredmodel":
        return reverse("portal:model", args=[event.registered_model])
    if event.subject_type == "registry.modelversion" and (label := VERSION.fullmatch(event.subject_label)):
        return reverse("portal:version", args=[label["name"], label["number"]])
    if event.subject_type == "gates.policy" and (label := POLICY.fullmatch(event.subject_label)):
        return reverse("portal:policy", args=[label["name"], label["number"]])
    if event.subject_type in NAMED:
        return reverse(NAMED[event.subject_type], args=[event.subject_label])
    if event.subject_type in NUMBERED and (label := PINNED.fullmatch(event.subject_label)):
        return reverse(NUMBERED[event.subject_type], args=[label["name"], label["number"]])
    return None
