"""Who may act in the feature store, and what every verb checks before it writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models

from audit.errors import InvalidInput, NotPermitted
from audit.trail import Actor, Service

_AUTOMATIC = ("id", "state", "number", "content_hash", "created_at", "profile")


def require_member(actor: Actor, owner: Group) -> None:
    """Members of the owner group may act, and Gatehouse itself."""
    if isinstance(actor, Service) or actor.groups.filter(pk=owner.pk).exists():  # type: ignore[attr-defined]  # User
        return
    raise NotPermitted(f"Only members of the group {owner.name} can do this.")


def validate(row: models.Model, *, exclude: Iterable[str] = (), also: Mapping[str, str]) -> None:
    """Raise InvalidInput with what the model's fields and ``also`` (field to fault, '' for none) say is wrong."""
    errors: dict[str, list[str]] = {field: [fault] for field, fault in also.items() if fault}
    # only what this verb filled in: the rest of a row under construction is not the caller's fault
    unfilled = {field.name for field in row._meta.fields if field.is_relation and getattr(row, field.attname) is None}
    try:
        row.clean_fields(exclude={*exclude, *unfilled, *_AUTOMATIC})
    except ValidationError as error:
        for field, texts in error.message_dict.items():
            errors.setdefault(field, []).extend(texts)
    if errors:
        raise InvalidInput(errors)


def refuse(errors: Mapping[str, str]) -> None:
    """Raise InvalidInput with the faults (field to fault, '' for none) if there are any."""
    wrong = {field: fault for field, fault in errors.items() if fault}
    if wrong:
        raise InvalidInput(wrong)


def repeated(names: Sequence[str]) -> str:
    """Which names are there twice, as a sentence; '' for none."""
    twice = sorted({name for name in names if names.count(name) > 1})
    return f"Named twice: {', '.join(twice)}." if twice else ""
