"""What the product owner decides: which decision points exist, which model serves them, and the kill switch."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError as FieldError
from django.db import transaction
from pydantic import ValidationError

from audit.errors import AlreadyExists, Conflict, InvalidInput, NotPermitted
from audit.trail import Actor, record
from registry.duties import require
from registry.models import Duty, RegisteredModel
from rollout.actions.candidates import end_all
from rollout.actions.routes import reroute, route_facts
from rollout.models import Decision, DecisionKind, Endpoint, Route
from rollout.plan import plan_for


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
) -> Endpoint:
    """Open a decision point for a model. Its champion serves there at once; without one, the first promoted version.

    ``plan`` overrides single values of the tier's plan (``rollout.plan``). Raises InvalidInput naming the field.
    """
    require(actor, registered_model, Duty.PRODUCT)
    _check_plan(registered_model, plan or {})
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
    endpoint: Endpoint, *, kind: str, registered_model: RegisteredModel, note: str, actor: Actor, now: datetime
) -> Decision:
    """Record the product owner's choice and carry it out; only a person can make it, with a note that says why.

    ``serve``: this model's champion answers from now on, and candidates of another model end. ``stop``: the kill
    switch, everybody gets the fallback. ``resume``: released.
    """
    if not isinstance(actor, User):
        raise NotPermitted("Which model serves an endpoint, and its kill switch, are a person's decision.")
    require(actor, registered_model, Duty.PRODUCT)
    require(actor, endpoint.registered_model, Duty.PRODUCT)
    if not note.strip():
        raise InvalidInput({"note": "Say why: this is the record of the decision."})
    carry_out = {DecisionKind.SERVE: _serve, DecisionKind.STOP: _stop, DecisionKind.RESUME: _resume}
    if kind not in carry_out:
        raise InvalidInput({"kind": f"must be one of {', '.join(DecisionKind.values)}"})
    with transaction.atomic():
        locked = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        carry_out[DecisionKind(kind)](locked, registered_model, note, actor, now)
        decision = Decision.objects.create(
            endpoint=locked, kind=kind, registered_model=registered_model, note=note, decided_by=actor, decided_at=now
        )
        route = route_facts(locked)
        details = {"kind": str(kind), "registered_model": registered_model.name, "route": route}
        record("endpoint.decided", locked, actor=actor, reason=note, data=details)
    endpoint.refresh_from_db()
    return decision


def _serve(endpoint: Endpoint, registered_model: RegisteredModel, note: str, actor: Actor, now: datetime) -> None:
    if endpoint.registered_model_id != registered_model.pk:
        _check_plan(registered_model, endpoint.plan)
        end_all(endpoint, actor=actor, reason=f"Another model serves {endpoint} now: {note}", now=now)
        Endpoint.objects.filter(pk=endpoint.pk).update(registered_model=registered_model)
        endpoint.registered_model = registered_model
    reroute(endpoint, now=now, champion=registered_model.champion())


def _stop(endpoint: Endpoint, registered_model: RegisteredModel, note: str, actor: Actor, now: datetime) -> None:
    _switch(endpoint, enabled=False, now=now)


def _resume(endpoint: Endpoint, registered_model: RegisteredModel, note: str, actor: Actor, now: datetime) -> None:
    _switch(endpoint, enabled=True, now=now)


def _switch(endpoint: Endpoint, *, enabled: bool, now: datetime) -> None:
    if not Endpoint.objects.filter(pk=endpoint.pk, enabled=not enabled).update(enabled=enabled):
        raise Conflict(f"{endpoint} is {'running' if enabled else 'stopped'} already.")
    reroute(endpoint, now=now)


def _check_fields(endpoint: Endpoint) -> None:
    try:
        endpoint.clean_fields()
    except FieldError as problem:
        raise InvalidInput(problem.message_dict) from problem


def _check_plan(registered_model: RegisteredModel, overrides: Mapping[str, Any]) -> None:
    try:
        plan_for(registered_model.tier, overrides)
    except ValidationError as problem:
        texts = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in problem.errors()]
        raise InvalidInput({"plan": texts}) from problem
