"""Decisions that were made for later: carried out when due, refused when they can not be any more, or withdrawn."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from audit.errors import Conflict, GatehouseError
from audit.models import Event
from audit.trail import Actor, record
from rollout.actions.candidates import ROLLOUTS
from rollout.actions.choices import Choice, carry_out
from rollout.actions.persons import product_owner, said
from rollout.actions.routes import lock_endpoint, route_facts
from rollout.models import Decision, DecisionKind, DecisionOutcome, Endpoint, Outcome

DECIDED = "endpoint.decided"


def carry_out_due(*, now: datetime) -> list[DecisionOutcome]:
    """What became of each decision whose time has come, the earliest first; each in a transaction of its own.

    Checked again as if it were decided now: its person still has the duty and what it names is still there. Otherwise
    it is refused, which says why. Gatehouse acts, for the person who decided.
    """
    due = Decision.objects.filter(takes_effect_at__lte=now, outcome=None).order_by("takes_effect_at", "pk")
    outcomes = [_carry_out(pk, now) for pk in list(due.values_list("pk", flat=True))]
    return [outcome for outcome in outcomes if outcome is not None]


def withdraw(decision: Decision, *, reason: str, actor: Actor, now: datetime) -> DecisionOutcome:
    """Take a decision back before it takes effect. Raises Conflict when it has, or was withdrawn already."""
    person = product_owner(actor, decision.endpoint.registered_model)
    said(reason, field="reason")
    with transaction.atomic():
        endpoint = lock_endpoint(decision.endpoint)
        product_owner(actor, endpoint.registered_model)
        if decision.takes_effect_at is None:
            raise Conflict(f"{decision} was carried out at once: decide otherwise.")
        earlier = DecisionOutcome.objects.filter(decision=decision).first()
        if earlier is not None:
            raise Conflict(
                f"{decision} was {earlier.get_outcome_display().lower()} at {earlier.at:%Y-%m-%d %H:%M} UTC."
            )
        outcome = DecisionOutcome.objects.create(
            decision=decision, outcome=Outcome.WITHDRAWN, note=reason, decided_by=person, at=now
        )
        _tell("endpoint.decision_withdrawn", endpoint, decision, actor, reason)
    return outcome


def _carry_out(pk: int, now: datetime) -> DecisionOutcome | None:
    """None when it was withdrawn or carried out by another worker meanwhile."""
    related = ("registered_model__product", "decided_by", "fallback__version", "endpoint")
    with transaction.atomic():
        decision = Decision.objects.select_related(*related).get(pk=pk)
        endpoint = lock_endpoint(decision.endpoint)
        if DecisionOutcome.objects.filter(decision=decision).exists():
            return None
        problem = _attempt(endpoint, decision, now)
        kind = Outcome.REFUSED if problem else Outcome.CARRIED_OUT
        outcome = DecisionOutcome.objects.create(decision=decision, outcome=kind, note=problem, at=now)
        if problem:
            _tell("endpoint.decision_refused", lock_endpoint(endpoint), decision, ROLLOUTS, problem)
        else:
            route = {"route": route_facts(endpoint)}
            _tell("endpoint.decision_carried_out", endpoint, decision, ROLLOUTS, decision.note, **route)
    return outcome


def _attempt(endpoint: Endpoint, decision: Decision, now: datetime) -> str:
    """Do it, or leave everything as it was and say why not."""
    choice = Choice(DecisionKind(decision.kind), decision.registered_model, decision.note, decision.fallback)
    try:
        with transaction.atomic():
            product_owner(decision.decided_by, endpoint.registered_model, choice.registered_model)
            carry_out(endpoint, choice, actor=ROLLOUTS, now=now)
    except (GatehouseError, IntegrityError) as refusal:
        return str(refusal)
    return ""


def _tell(name: str, endpoint: Endpoint, decision: Decision, actor: Actor, reason: str, **more: Any) -> Event:
    made = Event.objects.about(endpoint).filter(name=DECIDED, data__decision=decision.pk).last()
    due = decision.takes_effect_at.isoformat() if decision.takes_effect_at is not None else None
    facts = {
        "decision": decision.pk,
        "kind": decision.kind,
        "registered_model": decision.registered_model.name,
        "decided_by": decision.decided_by.get_username(),
        "decided_at": decision.decided_at.isoformat(),
        "takes_effect_at": due,
        "note": decision.note,
    }
    return record(name, endpoint, actor=actor, reason=reason, cause=made, data={**facts, **more})
