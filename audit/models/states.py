"""The shared base of state machines: one guarded door for changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models, transaction

from audit.errors import TransitionError
from audit.models.events import Event

if TYPE_CHECKING:
    from audit.trail import Actor


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
        also: Callable[[], Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> Event:
        """Change the state by compare-and-swap, save ``fields`` with it and record the event, in one transaction.

        ``also`` writes what goes with the new state, after this row and before the event, which tells what it returns.
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
                details = {"from": before["state"], "to": to, **(data or {}), **(also() if also else {})}
                return record(event or f"{self.NOUN}.{to}", self, actor=actor, reason=reason, cause=cause, data=details)
        except BaseException:
            self._set(before)  # what was rolled back in the database must not stay in the object
            raise

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)
