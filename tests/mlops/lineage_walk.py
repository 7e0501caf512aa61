"""A random walk over everything that may change who serves: promotions, canaries, pauses, decisions, kill switches.

``walk`` acts through the verbs and writes down, after each step, what the routes say.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from audit import clock
from audit.errors import GatehouseError
from gates import actions as gates
from gates.judge import Judgement
from gates.models import GateRun
from registry.models import ModelVersion, RegisteredModel
from rollout import actions
from rollout.models import Endpoint, Rollout, Route
from tests.builders import NOON, ROBOT, alice, paula, pete, policy_in_force

WINDOW = timedelta(hours=2)
PLAN = {"canary": {"steps": [{"share": 0.1, "min_hours": 1}, {"share": 0.5, "min_hours": 1}]}}
State = dict[str, tuple[Any, ...]]
"""By endpoint: model, champion, candidate, stage, share, whether it is on, and what answers while it is not."""


def a_version(model: RegisteredModel, **fields: Any) -> ModelVersion:
    number = model.versions.count() + 1
    digest = f"{model.pk:08x}{number:056x}"
    values = {"artifact_name": "model.skops", "artifact_bytes": 1, "load_class": "skops", "registered_at": NOON}
    values |= {"artifact_digest": digest, "content_digest": digest, "manifest_digest": digest[::-1]}
    return ModelVersion.objects.create(registered_model=model, number=number, **values | fields)


def a_policy(model: RegisteredModel) -> None:
    document = {"checks": [{"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.55}]}
    policy_in_force(model, document, now=clock.now())


def passed(version: ModelVersion) -> GateRun:
    """A gate run that passed, through the verbs."""
    run = gates.open_run(version, actor=ROBOT, reason="It was registered.", now=clock.now())
    judged: Any = "passed"
    judgement = Judgement("auc-floor", "metric", True, judged, "AUC 0.76 reaches 0.55", value=0.76, n=900)
    gates.conclude(run, [judgement], actor=ROBOT, now=clock.now())
    return run


def an_endpoint(name: str, model: RegisteredModel) -> Endpoint:
    return actions.create_endpoint(
        name=name,
        title=name.title(),
        registered_model=model,
        entity_column="tailnum",
        outcome_window=WINDOW,
        fallback=0.2,
        plan=PLAN,
        actor=paula(),
        now=clock.now(),
    )


def routes() -> State:
    """What the rows say now."""
    rows = Route.objects.select_related(
        "endpoint__registered_model", "champion", "candidate", "fallback__version__registered_model"
    )
    return {
        route.endpoint.name: (
            route.endpoint.registered_model.name,
            str(route.champion) if route.champion else None,
            str(route.candidate) if route.candidate else None,
            route.stage,
            route.share,
            route.endpoint.enabled,
            None if route.endpoint.enabled else instead(route),
        )
        for route in rows
    }


def instead(route: Route) -> tuple[Any, ...]:
    """Name, score and version of what answers while the kill switch is pulled."""
    named = route.fallback
    if named is None:
        return "", route.endpoint.fallback, None
    return named.name, named.score, str(named.version) if named.version else None


@dataclass
class Walk:
    """``seen`` are the moments after each step with what the routes said."""

    models: list[RegisteredModel]
    dice: random.Random
    now: datetime = NOON
    endpoints: list[Endpoint] = field(default_factory=list)
    seen: list[tuple[datetime, State]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def step(self) -> None:
        self.now += timedelta(minutes=self.dice.randrange(1, 300))
        verbs = (self._open, self._propose, self._start, self._advance, self._advance, self._finish, self._end,
                 self._pause, self._resume, self._switch, self._switch_later, self._serve, self._name,
                 self._hold_all)  # fmt: skip
        verb = self.dice.choice(verbs)
        with clock.at(self.now):
            actions.carry_out_due(now=self.now)
            try:
                verb()
                self.done.append(verb.__name__)
            except GatehouseError:
                pass  # refused: nothing may have changed
        self.seen.append((self.now, routes()))

    def _open(self) -> None:
        if len(self.endpoints) < 4:
            name = f"point-{len(self.endpoints)}"
            self.endpoints.append(an_endpoint(name, self.dice.choice(self.models)))

    def _propose(self) -> None:
        version = a_version(self.dice.choice(self.models))
        actions.propose(version, gate_run=passed(version), actor=ROBOT, reason="It passed.", now=self.now)

    def _start(self) -> None:
        for rollout in self._some("pending"):
            actions.start(rollout, actor=pete(), reason="Its turn.", now=self.now)

    def _advance(self) -> None:
        for rollout in self._some("shadow", "canary"):
            actions.advance(rollout, actor=ROBOT, reason="No harm.", now=self.now)

    def _finish(self) -> None:
        for rollout in self._some("canary"):
            actions.promote(rollout, actor=ROBOT, reason="Better.", now=self.now)

    def _end(self) -> None:
        for rollout in self._some("pending", "shadow", "canary", "paused"):
            end = self.dice.choice((actions.abort, actions.roll_back))
            end(rollout, actor=alice(), reason="Worse.", now=self.now)

    def _pause(self) -> None:
        for rollout in self._some("shadow", "canary"):
            actions.pause(rollout, actor=alice(), reason="Look first.", now=self.now)

    def _resume(self) -> None:
        for rollout in self._some("paused"):
            actions.resume(rollout, actor=alice(), reason="Looked.", now=self.now)

    def _switch(self) -> None:
        for endpoint in self._point():
            kind = "stop" if endpoint.enabled else "resume"
            self._decide(endpoint, kind, endpoint.registered_model)

    def _switch_later(self) -> None:
        """Decided now for some hours later; what is due meanwhile is carried out by the next step."""
        for endpoint in self._point():
            kind = "stop" if endpoint.enabled else "resume"
            due = self.now + timedelta(minutes=self.dice.randrange(1, 600))
            self._decide(endpoint, kind, endpoint.registered_model, takes_effect_at=due)

    def _hold_all(self) -> None:
        for endpoint in self._point():
            self._decide(endpoint, "continue" if endpoint.rollouts_paused else "pause", endpoint.registered_model)

    def _name(self) -> None:
        for endpoint in self._point():
            promoted = ModelVersion.objects.filter(rollouts__state="promoted").order_by("pk")
            version = self.dice.choice([None, *promoted])
            answer: dict[str, Any] = {"version": version} if version else {"score": self.dice.random()}
            name = f"fallback-{endpoint.fallbacks.count()}"
            actions.add_fallback(endpoint, name=name, note="For the day.", actor=paula(), now=self.now, **answer)

    def _serve(self) -> None:
        for endpoint in self._point():
            self._decide(endpoint, "serve", self.dice.choice(self.models))

    def _decide(self, endpoint: Endpoint, kind: str, model: RegisteredModel, **more: Any) -> None:
        if kind == "stop":
            more["fallback"] = self.dice.choice([None, *endpoint.fallbacks.order_by("pk")])
        values: dict[str, Any] = {"registered_model": model, "note": "So be it.", "actor": paula()}
        actions.decide(endpoint, kind=kind, now=self.now, **values, **more)

    def _some(self, *states: str) -> list[Rollout]:
        found = list(Rollout.objects.filter(state__in=states).order_by("pk"))
        return [self.dice.choice(found)] if found else []

    def _point(self) -> list[Endpoint]:
        found = list(Endpoint.objects.select_related("registered_model").order_by("pk"))
        return [self.dice.choice(found)] if found else []
