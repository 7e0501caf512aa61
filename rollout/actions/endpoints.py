"""What the product owner decides: which decision points exist, which model serves them, and the kill switch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError as FieldError
from django.db import transaction

from audit.errors import AlreadyExists, InvalidInput
from audit.trail import Actor, record
from registry.duties import require
from registry.models import Duty, RegisteredModel
from rollout.actions.choices import Choice, carry_out, check, check_plan
from rollout.actions.persons import product_owner, said
from rollout.actions.routes import lock_endpoint, route_facts
from rollout.actions.traffic import check_traffic
from rollout.models import Decision, DecisionKind, Endpoint, Fallback, Route


def create_endpoint(
    *,
    name: str,
    title: str,
    registered_model: RegisteredModel,
    entity_column: str,
    outcome_window: timedelta,
    actor: Actor,
    now: datetime,
    threshold: float = 0.5,
    fallback: float | None = None,
    plan: Mapping[str, Any] | None = None,
    description: str = "",
    durable: bool = False,
    traffic: Mapping[str, Any] | None = None,
) -> Endpoint:
    """Open a decision point for a model. Its champion serves there at once; without one, the first promoted version.

    ``plan`` overrides single values of the tier's plan (``rollout.plan``); ``durable`` and ``traffic`` are explained at
    the model (who splits the traffic is the platform group's to say). Raises InvalidInput naming the field.
    """
    require(actor, registered_model, Duty.PRODUCT)
    check_plan(registered_model, plan or {})
    if traffic:
        require(actor, registered_model, Duty.PLATFORM)
        check_traffic(traffic, endpoint=name)
    if outcome_window <= timedelta(0):
        raise InvalidInput({"outcome_window": "must be longer than nothing: how late can an outcome arrive?"})
    with transaction.atomic():
        if Endpoint.objects.filter(name=name).exists():
            raise AlreadyExists(f"There is an endpoint {name} already.")
        endpoint = Endpoint(
            name=name,
            title=title,
            description=description,
            registered_model=registered_model,
            entity_column=entity_column,
            threshold=threshold,
            outcome_window=outcome_window,
            fallback=fallback,
            plan=dict(plan or {}),
            durable=durable,
            traffic=dict(traffic or {}),
            created_at=now,
        )
        _check_fields(endpoint)
        endpoint.save(force_insert=True)
        Route.objects.create(endpoint=endpoint, champion=registered_model.champion(), changed_at=now)
        data = {"title": title, "registered_model": registered_model.name, "route": route_facts(endpoint)}
        record("endpoint.created", endpoint, actor=actor, reason=description, data=data)
    return endpoint


def describe(endpoint: Endpoint, *, title: str, description: str, reason: str, actor: Actor, now: datetime) -> None:
    """Change what is said of an endpoint, not what it does."""
    require(actor, endpoint.registered_model, Duty.PRODUCT)
    if not title.strip():
        raise InvalidInput({"title": "Say what the decision point is called."})
    before = {"title": endpoint.title, "description": endpoint.description}
    with transaction.atomic():
        Endpoint.objects.filter(pk=endpoint.pk).update(title=title, description=description)
        endpoint.title, endpoint.description = title, description
        data = {"before": before, "after": {"title": title, "description": description}}
        record("endpoint.described", endpoint, actor=actor, reason=reason, data=data)


def decide(
    endpoint: Endpoint,
    *,
    kind: str,
    registered_model: RegisteredModel,
    note: str,
    actor: Actor,
    now: datetime,
    takes_effect_at: datetime | None = None,
    fallback: Fallback | None = None,
) -> Decision:
    """Record the product owner's choice and carry it out, at once or at ``takes_effect_at`` (``carry_out_due``).

    Only a person of the product group can make it, with a note that says why. What each kind does: ``choices.Choice``.
    Raises InvalidInput naming the field, and Conflict when it is so already.
    """
    person = product_owner(actor, registered_model, endpoint.registered_model)
    said(note, field="note")
    if kind not in DecisionKind.values:
        raise InvalidInput({"kind": f"must be one of {', '.join(DecisionKind.values)}"})
    if takes_effect_at is not None and takes_effect_at <= now:
        raise InvalidInput({"takes_effect_at": f"This has passed; it is {now:%Y-%m-%d %H:%M} UTC. Empty: at once."})
    choice = Choice(DecisionKind(kind), registered_model, note, fallback)
    with transaction.atomic():
        locked = lock_endpoint(endpoint)
        product_owner(actor, locked.registered_model)
        if takes_effect_at is None:
            carry_out(locked, choice, actor=actor, now=now)
        else:
            check(locked, choice)
        decision = Decision.objects.create(
            endpoint=locked,
            kind=kind,
            registered_model=registered_model,
            note=note,
            decided_by=person,
            decided_at=now,
            takes_effect_at=takes_effect_at,
            fallback=fallback,
        )
        facts = {**choice.facts(), "decision": decision.pk, **_effect(locked, takes_effect_at)}
        record("endpoint.decided", locked, actor=actor, reason=note, data=facts)
    endpoint.refresh_from_db()
    return decision


def _effect(endpoint: Endpoint, takes_effect_at: datetime | None) -> dict[str, Any]:
    """The route as it is now, or when it may change."""
    if takes_effect_at is not None:
        return {"takes_effect_at": takes_effect_at.isoformat()}
    return {"route": route_facts(endpoint)}


def _check_fields(endpoint: Endpoint) -> None:
    try:
        endpoint.clean_fields()
    except FieldError as problem:
        raise InvalidInput(problem.message_dict) from problem
