"""The log up to a position: what was known then, whatever has happened since.

A report is a pure function of that position. It takes rows that never change, and only where an event at or before the
position tells of them; what can change is read from those events' data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db.models import Model

from audit.errors import NotFound
from audit.models import Event, Link

ABOUT_PEOPLE = "user.changed"


def evidence(*events: Event | None) -> list[str]:
    """How fields name the events that prove them."""
    return [f"event:{event.pk}" for event in events if event is not None]


def sha256(*digests: str | None) -> list[str]:
    """How fields name the digests that prove them."""
    return [f"sha256:{digest}" for digest in digests if digest]


class Log:
    """The events about one registered model up to ``position``; about other things when asked for.

    ``cited`` collects the ids of every event that was shown, for the proof.
    """

    def __init__(self, position: int, *, registered_model: str) -> None:
        last = Link.objects.select_related("event").filter(position=position).first()
        if last is None:
            raise NotFound(f"The log has no position {position}.")
        self.position = position
        self.at: datetime = last.event.at
        self.registered_model = registered_model
        self.events = self._read(registered_model=registered_model) if registered_model else []
        self._about: dict[tuple[str, str], list[Event]] = defaultdict(list)
        for event in self.events:
            self._about[event.subject_type, event.subject_id].append(event)
        self._shared: dict[tuple[str, str], list[Event]] = {}

    def _read(self, **which: Any) -> list[Event]:
        rows = Event.objects.filter(link__position__lte=self.position, **which)
        return list(rows.select_related("actor", "link").order_by("link__position"))

    def about(self, row: Model | None) -> list[Event]:
        """Events about a row of this registered model, oldest first."""
        return self._about[row._meta.label_lower, str(row.pk)] if row is not None else []

    def about_shared(self, row: Model) -> list[Event]:
        """Events about a row that belongs to no registered model, such as a dataset."""
        key = (row._meta.label_lower, str(row.pk))
        if key not in self._shared:
            self._shared[key] = self._read(subject_type=key[0], subject_id=key[1])
        return self._shared[key]

    def include(self, row: Model) -> None:
        """Read the events about a row that may belong to no registered model, so that ``about`` finds them."""
        self._about[row._meta.label_lower, str(row.pk)] = self.about_shared(row)

    def about_many(self, rows: Sequence[Model], **which: Any) -> list[Event]:
        """Events about any of these rows of one kind."""
        if not rows:
            return []
        ids = [str(row.pk) for row in rows]
        return self._read(subject_type=rows[0]._meta.label_lower, subject_id__in=ids, **which)

    def named(self, *names: str) -> list[Event]:
        """Events of the model with one of these names, oldest first."""
        return [event for event in self.events if event.name in names]

    def of_kind(self, subject_type: str) -> list[Event]:
        """Events of the model about this kind of thing, oldest first."""
        return [event for event in self.events if event.subject_type == subject_type]

    def state(self, row: Model | None, *, initial: str) -> str:
        """The state a row was in: what the last event that moved it said."""
        moves = [event for event in self.about(row) if "to" in event.data]
        return str(moves[-1].data["to"]) if moves else initial

    def knows(self, row: Model | None) -> bool:
        """Whether an event had told of the row by then."""
        return bool(self.about(row))

    def author(self, event: Event | None) -> str:
        """Who did it: the account's name as it was then, or the part of Gatehouse."""
        if event is None:
            return ""
        if event.actor is None:
            return f"Gatehouse ({event.service})"
        return self._names_then.get(str(event.actor_id), event.actor.get_username())

    @cached_property
    def _names_then(self) -> dict[str, str]:
        """Accounts that were renamed since, with the name they had."""
        later = Event.objects.filter(name=ABOUT_PEOPLE, link__position__gt=self.position).order_by("-link__position")
        renamed = ((event.subject_id, event.data.get("before", {}).get("username")) for event in later)
        return {user: name for user, name in renamed if name}


def first(events: Iterable[Event], *names: str) -> Event | None:
    """The first of the events, or the first with one of these names."""
    return next((event for event in events if not names or event.name in names), None)


def last(events: Sequence[Event], *names: str) -> Event | None:
    """The last of the events, or the last with one of these names."""
    return first(reversed(events), *names)
