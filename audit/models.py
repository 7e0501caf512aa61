"""The trail: who did what to which thing, when, why, and because of what; and the shared base of state machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q

from audit.errors import TransitionError

if TYPE_CHECKING:
    from audit.trail import Actor


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


class Stateful(models.Model):
    """Base of everything with a state: one guarded door for changes, ``move``.

    Subclasses define ``STATES`` (a TextChoices class), ``TRANSITIONS`` (state → states that may follow) and ``NOUN``
    (the first half of their events' names).
    """

    STATES: ClassVar[type[models.TextChoices]]
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]]
    NOUN: ClassVar[str]

    state = models.CharField(max_length=16, editable=False)
    state_reason = models.TextField(blank=True, editable=False, help_text="Why it is in this state.")
    state_since = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Event time of the last change."
    )

    class Meta:
        abstract = True

    def may_become(self, to: str) -> bool:
        return to in self.TRANSITIONS.get(self.state, frozenset())

    def move(
        self,
        to: str,
        *,
        actor: Actor,
        reason: str,
        cause: Event | None = None,
        event: str = "",
        data: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Event:
        """Change the state by compare-and-swap, save ``fields`` with it and record the event, in one transaction.

        The event is called ``<NOUN>.<to>`` unless ``event`` names it otherwise. Raises TransitionError when the table
        does not allow the step or when the row's state is no longer the one this object was read with.
        """
        from audit import clock
        from audit.trail import record

        if not self.may_become(to):
            allowed = ", ".join(sorted(self.TRANSITIONS.get(self.state, ()))) or "nothing, it has ended"
            raise TransitionError(f"{self._meta.verbose_name} {self} is {self.state}; it can become: {allowed}.")
        now = clock.now()
        values: dict[str, Any] = {"state": to, "state_reason": reason, "state_since": now, **fields}
        before = {name: getattr(self, name) for name in values}
        try:
            with transaction.atomic():
                rows = type(self)._default_manager.filter(pk=self.pk, state=self.state)
                if not rows.update(**values):
                    kind = self._meta.verbose_name
                    raise TransitionError(f"{kind} {self} is no longer {self.state}: somebody was faster.")
                self._set(values)
                details = {"from": before["state"], "to": to, **(data or {})}
                return record(event or f"{self.NOUN}.{to}", self, actor=actor, reason=reason, cause=cause, data=details)
        except BaseException:
            self._set(before)  # what was rolled back in the database must not stay in the object
            raise

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)
