"""Named fallbacks: what may answer everybody while the kill switch is pulled."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError as FieldError
from django.db import transaction

from audit.errors import AlreadyExists, Conflict, InvalidInput
from audit.trail import Actor, record
from registry.actions import hold_service
from registry.facts import version_facts
from registry.models import ModelVersion, Task
from rollout.actions.persons import product_owner, said
from rollout.actions.routes import lock_endpoint
from rollout.models import Decision, Endpoint, Fallback, Rollout, RolloutState, Route


def add_fallback(
    endpoint: Endpoint,
    *,
    name: str,
    note: str,
    actor: Actor,
    now: datetime,
    score: float | None = None,
    version: ModelVersion | None = None,
) -> Fallback:
    """Name a fixed score, or a version that was promoted for the endpoint's model, as a fallback.

    Raises InvalidInput naming the field, AlreadyExists when the endpoint has one of this name.
    """
    product_owner(actor, endpoint.registered_model)
    said(note, field="note")
    if (score is None) == (version is None):
        raise InvalidInput({"score": "A fallback is either a fixed score or an earlier version."})
    with transaction.atomic():
        locked = lock_endpoint(endpoint)
        product_owner(actor, locked.registered_model)
        _check_score(locked, score)
        if version is not None:
            _check_version(locked, version, field="version")
            if version.service is not None:
                hold_service(version.service)
        if locked.fallbacks.filter(name=name, retired_at=None).exists():
            raise AlreadyExists(f"{endpoint} has a fallback {name} already.")
        fallback = Fallback(endpoint=locked, name=name, score=score, version=version, note=note, created_at=now)
        try:
            fallback.clean_fields()
        except FieldError as problem:
            raise InvalidInput(problem.message_dict) from problem
        fallback.save(force_insert=True)
        record("fallback.added", fallback, actor=actor, reason=note, data=fallback_facts(fallback))
    return fallback


def retire_fallback(fallback: Fallback, *, reason: str, actor: Actor, now: datetime) -> Fallback:
    """No kill switch can name it any more. Raises Conflict while it answers, or a decision waits that names it."""
    product_owner(actor, fallback.endpoint.registered_model)
    said(reason, field="reason")
    with transaction.atomic():
        locked = lock_endpoint(fallback.endpoint)
        product_owner(actor, locked.registered_model)
        if Route.objects.filter(endpoint=locked, fallback=fallback).exists():
            raise Conflict(f"{fallback} answers now: release the kill switch or pull it to another fallback first.")
        if Decision.objects.filter(fallback=fallback, takes_effect_at__isnull=False, outcome=None).exists():
            raise Conflict(f"A decision that waits names {fallback}: withdraw it first.")
        if not Fallback.objects.filter(pk=fallback.pk, retired_at=None).update(retired_at=now):
            raise Conflict(f"{fallback} is retired already.")
        fallback.retired_at = now
        record("fallback.retired", fallback, actor=actor, reason=reason, data=fallback_facts(fallback))
    return fallback


def check_fallback(endpoint: Endpoint, fallback: Fallback) -> None:
    """Raises InvalidInput unless it may answer at this endpoint now."""
    if fallback.endpoint_id != endpoint.pk:
        raise InvalidInput({"fallback": f"{fallback} is not of {endpoint}."})
    if Fallback.objects.filter(pk=fallback.pk, retired_at=None).first() is None:
        raise InvalidInput({"fallback": f"{fallback} is retired."})
    if fallback.version is not None:
        _check_version(endpoint, fallback.version, field="fallback")


def fallback_facts(fallback: Fallback) -> dict[str, Any]:
    """What an event says of a fallback: its name, and the score or the bytes that answer."""
    return {
        "name": fallback.name,
        "score": fallback.score,
        "version": version_facts(fallback.version) if fallback.version is not None else None,
    }


def _check_score(endpoint: Endpoint, score: float | None) -> None:
    if score is None:
        return
    if not math.isfinite(score):
        raise InvalidInput({"score": "A finite number is needed."})
    if endpoint.registered_model.task == Task.BINARY_CLASSIFICATION and not 0.0 <= score <= 1.0:
        raise InvalidInput({"score": "The model answers with a probability: 0 to 1."})


def _check_version(endpoint: Endpoint, version: ModelVersion, *, field: str) -> None:
    promoted = Rollout.objects.filter(
        version=version, registered_model=endpoint.registered_model, state=RolloutState.PROMOTED
    )
    if not promoted.exists():
        raise InvalidInput({field: f"{version} was never promoted for {endpoint.registered_model}."})
    if not version.is_scorable:
        raise InvalidInput({field: f"{version} can not be scored here: its artifact is {version.load_class}."})
