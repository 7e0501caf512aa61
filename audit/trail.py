"""Write the trail: ``record`` inserts the event and the jobs of its reactions in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction
from django.utils.module_loading import import_string

from audit import clock
from audit.models import Event
from jobs.run import enqueue


@dataclass(frozen=True)
class Service:
    """A part of Gatehouse that acts by itself (no human in the loop)."""

    name: str

    def __str__(self) -> str:
        return self.name


Actor = AbstractBaseUser | Service
Reaction = Callable[[Event], None]
Reactions = Mapping[str, Sequence[str]]


def person_id(actor: Actor) -> int | None:
    """The id of a human actor; None for Gatehouse itself."""
    return actor.pk if isinstance(actor, AbstractBaseUser) else None


_cause: ContextVar[Event | None] = ContextVar("cause", default=None)


@contextmanager
def because_of(event: Event | None) -> Iterator[None]:
    """Events recorded inside the block have ``event`` as their cause unless they name another."""
    token = _cause.set(event)
    try:
        yield
    finally:
        _cause.reset(token)


def record(
    name: str,
    subject: models.Model,
    *,
    actor: Actor,
    reason: str = "",
    cause: Event | None = None,
    data: Mapping[str, Any] | None = None,
) -> Event:
    """Write one event about ``subject`` and ask for its reactions, all in the caller's transaction.

    ``cause`` is, in this order: the one given, the event being handled (``because_of``), the subject's last event.
    """
    with transaction.atomic():
        event = Event.objects.create(
            name=name,
            subject_type=subject._meta.label_lower,
            subject_id=str(subject.pk),
            subject_label=str(subject)[:200],
            registered_model=_model_name(subject),
            actor_id=actor.pk if isinstance(actor, AbstractBaseUser) else None,
            service=actor.name if isinstance(actor, Service) else "",
            reason=reason,
            data=dict(data or {}),
            cause=cause or _cause.get() or Event.objects.about(subject).last(),
            at=clock.now(),
        )
        for verb in _reactions().get(name, ()):
            enqueue("audit.react", key=f"reaction:{event.pk}:{verb}", payload={"event": event.pk, "verb": verb})
        return event


def react(event: Event, verb: str) -> None:
    """Carry out one reaction (called by the job that ``record`` asked for)."""
    reaction: Reaction = import_string(verb)
    with because_of(event):
        reaction(event)


def _reactions() -> Reactions:
    reactions: Reactions = import_string(settings.GATEHOUSE_REACTIONS)
    return reactions


def _model_name(subject: models.Model) -> str:
    """The registered model an event concerns: the subject says it by ``registered_model`` (or is it)."""
    owner = getattr(subject, "registered_model", None)
    return str(getattr(owner, "name", "")) if owner is not None else ""
