"""Carry out what a product owner chose for an endpoint, at once or when its time has come.

The endpoint is locked by the caller, and whoever decides was asked for the duty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from audit.errors import Conflict, InvalidInput
from audit.trail import Actor
from registry.models import RegisteredModel
from rollout.actions.candidates import end_all, pause_all, resume_all
from rollout.actions.fallbacks import check_fallback, fallback_facts
from rollout.actions.routes import reroute
from rollout.models import DecisionKind, Endpoint, Fallback, Route
from rollout.plan import plan_for


@dataclass(frozen=True)
class Choice:
    """``serve``: this model's champion answers, and candidates of another model end. ``stop``: the kill switch, the
    named fallback (None: the endpoint's fixed score) answers everybody. ``resume``: released. ``pause``: no candidate
    gets traffic here. ``continue``: they go on where they were.
    """

    kind: DecisionKind
    registered_model: RegisteredModel
    note: str
    fallback: Fallback | None = None

    def facts(self) -> dict[str, Any]:
        told = fallback_facts(self.fallback) if self.fallback is not None else None
        return {"kind": str(self.kind), "registered_model": self.registered_model.name, "fallback": told}


def check(endpoint: Endpoint, choice: Choice) -> None:
    """Raises InvalidInput naming the field when the choice can not be made for this endpoint, now or later."""
    if choice.fallback is not None:
        if choice.kind != DecisionKind.STOP:
            raise InvalidInput({"fallback": "Only the kill switch names one."})
        check_fallback(endpoint, choice.fallback)
    if choice.kind == DecisionKind.SERVE:
        check_plan(choice.registered_model, endpoint.plan)
    elif choice.registered_model.pk != endpoint.registered_model_id:
        raise InvalidInput({"registered_model": f"{endpoint} is given to {endpoint.registered_model}; decide serve."})


def carry_out(endpoint: Endpoint, choice: Choice, *, actor: Actor, now: datetime) -> None:
    """Raises Conflict when it is so already, or something stands against it."""
    check(endpoint, choice)
    _CARRY_OUT[choice.kind](endpoint, choice, actor, now)


def check_plan(registered_model: RegisteredModel, overrides: Mapping[str, Any]) -> None:
    """Raises InvalidInput when an endpoint's overrides make no plan with the tier of this model."""
    try:
        plan_for(registered_model.tier, overrides)
    except ValidationError as problem:
        texts = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in problem.errors()]
        raise InvalidInput({"plan": texts}) from problem


def _serve(endpoint: Endpoint, choice: Choice, actor: Actor, now: datetime) -> None:
    chosen = choice.registered_model
    if endpoint.registered_model_id != chosen.pk:
        answering = Route.objects.filter(endpoint=endpoint, fallback__version__isnull=False).first()
        if answering is not None:
            raise Conflict(
                f"{endpoint} is stopped and {answering.fallback} answers, a version of {endpoint.registered_model}: "
                "release the kill switch, or pull it to another fallback first."
            )
        end_all(endpoint, actor=actor, reason=f"Another model serves {endpoint} now: {choice.note}", now=now)
        Endpoint.objects.filter(pk=endpoint.pk).update(registered_model=chosen)
        endpoint.registered_model = chosen
    reroute(endpoint, now=now, champion=chosen.champion())


def _stop(endpoint: Endpoint, choice: Choice, actor: Actor, now: datetime) -> None:
    """Pulled again, to another fallback, it changes what answers."""
    if not endpoint.enabled and Route.objects.filter(endpoint=endpoint, fallback=choice.fallback).exists():
        raise Conflict(f"{endpoint} is stopped already.")
    Endpoint.objects.filter(pk=endpoint.pk).update(enabled=False)
    endpoint.enabled = False
    reroute(endpoint, now=now, fallback=choice.fallback)


def _resume(endpoint: Endpoint, choice: Choice, actor: Actor, now: datetime) -> None:
    if not Endpoint.objects.filter(pk=endpoint.pk, enabled=False).update(enabled=True):
        raise Conflict(f"{endpoint} is running already.")
    endpoint.enabled = True
    reroute(endpoint, now=now, fallback=None)


def _pause(endpoint: Endpoint, choice: Choice, actor: Actor, now: datetime) -> None:
    if not Endpoint.objects.filter(pk=endpoint.pk, rollouts_paused=False).update(rollouts_paused=True):
        raise Conflict(f"Rollouts at {endpoint} are paused already.")
    endpoint.rollouts_paused = True
    pause_all(endpoint, actor=actor, reason=f"Rollouts at {endpoint} are paused: {choice.note}", now=now)


def _continue(endpoint: Endpoint, choice: Choice, actor: Actor, now: datetime) -> None:
    if not Endpoint.objects.filter(pk=endpoint.pk, rollouts_paused=True).update(rollouts_paused=False):
        raise Conflict(f"Rollouts at {endpoint} are not paused.")
    endpoint.rollouts_paused = False
    resume_all(endpoint, actor=actor, reason=f"Rollouts at {endpoint} go on: {choice.note}", now=now)


_CARRY_OUT: Mapping[DecisionKind, Callable[[Endpoint, Choice, Actor, datetime], None]] = {
    DecisionKind.SERVE: _serve,
    DecisionKind.STOP: _stop,
    DecisionKind.RESUME: _resume,
    DecisionKind.PAUSE: _pause,
    DecisionKind.CONTINUE: _continue,
}
