"""What the verbs have in common: refuse a row field by field, insert it once, say which person acted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from audit.errors import AlreadyExists, InvalidInput
from audit.trail import Actor
from registry.models import ModelVersion, RegisteredModel, TrainingPipeline


def person(actor: Actor) -> Any:
    return actor.pk if isinstance(actor, AbstractBaseUser) else None


def validate(row: RegisteredModel | TrainingPipeline | ModelVersion, *, also: Mapping[str, str] | None = None) -> None:
    """Raise InvalidInput with what is wrong with each field."""
    wrong: dict[str, Any] = dict(also or {})
    try:
        row.clean_fields()
    except ValidationError as error:
        wrong = {**error.message_dict, **wrong}
    if wrong:
        raise InvalidInput(wrong)


def save_new(row: RegisteredModel | TrainingPipeline, *, taken: str) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as refusal:
        raise AlreadyExists(taken) from refusal
