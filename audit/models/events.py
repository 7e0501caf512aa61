"""The trail: who did what to which thing, when, why, and because of what."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit import canonical


class SealField(models.CharField):  # type: ignore[type-arg]  # generic for mypy alone
    """The digest of the row's content, computed when the row is inserted, also by ``bulk_create``.

    It stands below all other fields, so that what they set by themselves on insert is there to be sealed.
    """

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        if add:
            canonical.require_keepable(model_instance.data)
            setattr(model_instance, self.attname, model_instance.content_digest())
        return super().pre_save(model_instance, add)

    def deconstruct(self) -> Any:
        """In the database it is a text like any other: migrations need not know more."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs


class EventQuerySet(models.QuerySet["Event"]):
    def about(self, subject: models.Model) -> EventQuerySet:
        """Events whose subject is this row, oldest first."""
        return self.filter(subject_type=subject._meta.label_lower, subject_id=str(subject.pk)).order_by("id")


class Event(models.Model):
    """One thing that happened. Written once: the database refuses to change or delete it (``audit.guards``)."""

    name = models.CharField(max_length=80, help_text="What happened, such as rollout.promoted.")
    subject_type = models.CharField(max_length=80, help_text="Kind of thing it happened to.")
    subject_id = models.CharField(max_length=40)
    subject_label = models.CharField(max_length=200, help_text="The thing's name when it happened.")
    registered_model = models.CharField(max_length=100, blank=True, help_text="Name of the model this concerns.")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    service = models.CharField(max_length=60, blank=True, help_text="The part of Gatehouse that acted by itself.")
    reason = models.TextField(blank=True)
    data = models.JSONField(default=dict, blank=True)
    cause = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="effects")
    at = models.DateTimeField(help_text="When it happened (event time).")
    recorded_at = models.DateTimeField(auto_now_add=True, help_text="Wall clock of the machine that wrote it.")
    digest = SealField(
        max_length=64, blank=True, editable=False, help_text="SHA-256 of everything above (audit.chain)."
    )

    objects: ClassVar[Any] = EventQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(actor__isnull=False, service="") | (Q(actor__isnull=True) & ~Q(service="")),
                name="event_has_one_author",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["subject_type", "subject_id"], name="event_subject"),
            models.Index(fields=["name", "at"], name="event_name_at"),
            models.Index(fields=["registered_model", "at"], name="event_model_at"),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} · {self.subject_label}"

    @property
    def author(self) -> str:
        """Who did it, for a person to read."""
        return self.actor.get_username() if self.actor else self.service

    @property
    def is_automatic(self) -> bool:
        return self.actor_id is None

    def content_digest(self) -> str:
        """SHA-256 over everything but the id, which the link to it seals. Raises ValueError for what JSON has not."""
        return sha256(self.sealed_content()).hexdigest()

    def sealed_content(self) -> bytes:
        """What the digest is over, as a report shows it (``audit.canonical``). Raises ValueError like the digest."""
        values = [
            self.name,
            self.subject_type,
            self.subject_id,
            self.subject_label,
            self.registered_model,
            self.actor_id,
            self.service,
            self.reason,
            self.cause_id,
            canonical.moment(self.at),
            canonical.moment(self.recorded_at),
        ]
        return canonical.content(values, canonical.as_text(self.data))
