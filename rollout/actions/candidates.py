"""A candidate's way: proposed, shadow, canary step by step, and how it ended.

Each verb locks the rollout's row and refuses when it is no longer as the caller read it (state or step): of two people,
or a person and the machine, one wins and the other is told.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from audit.errors import Conflict, GateNotPassed, InvalidInput, TransitionError
from audit.models import Event
from audit.trail import Actor, Service, record
from gates.actions import gate_facts, in_force, open_run
from gates.models import GateRun, GateRunState, Policy
from registry.actions import crown, hold_service
from registry.duties import require
from registry.facts import version_facts
from registry.models import Duty, ModelVersion, RegisteredModel
from rollout import standstill
from rollout.actions.routes import NO_CANDIDATE, lock_endpoint, reroute, route_facts, take_off
from rollout.assignment import salt_for
from rollout.models import ACTIVE, Endpoint, Rollout, RolloutState, Route
from rollout.plan import RolloutPlan
from rollout.standstill import plan_of

log = logging.getLogger(__name__)

ROLLOUTS = Service("rollouts")
TOLD = ("endpoint__registered_model", "version__registered_model", "registered_model", "gate_run__policy", "incumbent")
"""What the verbs and their events read of a rollout."""
HELD, WAITS = "rollout.held", "rollout.waits"


def propose(version: ModelVersion, *, gate_run: GateRun, actor: Actor, reason: str, now: datetime) -> list[Rollout]:
    """Put a version that passed its gates before each endpoint of its model; the rollouts that wait there now.

    Idempotent per gate run. Endpoints that this version serves already are left out. Where the plan's queue says
    ``newest``, versions of the model that are no newer and still wait there are aborted: this one takes their place.
    Raises GateNotPassed when the gate run is not a pass of this version under the policy in force (the database would
    refuse the row as well).
    """
    require(actor, version.registered_model, Duty.DATA_SCIENCE, Duty.PRODUCT)
    _check_gates(version, gate_run)
    if not version.is_scorable:
        raise Conflict(f"{version} can not be scored here: its artifact is {version.load_class}.")
    with transaction.atomic():
        if version.service is not None:
            hold_service(version.service)
        of_model = Endpoint.objects.filter(registered_model=version.registered_model).exclude(route__champion=version)
        locked = of_model.select_for_update(no_key=True, of=("self",))
        endpoints = list(locked.select_related("registered_model").order_by("pk"))
        return [_propose_at(endpoint, version, gate_run, actor, reason, now) for endpoint in endpoints]


def _propose_at(
    endpoint: Endpoint, version: ModelVersion, gate_run: GateRun, actor: Actor, reason: str, now: datetime
) -> Rollout:
    rollout, created = Rollout.objects.get_or_create(
        endpoint=endpoint,
        gate_run=gate_run,
        defaults={
            "registered_model": version.registered_model,
            "version": version,
            "state": RolloutState.PENDING,
            "state_reason": reason,
            "state_since": now,
            "plan": plan_of(endpoint).model_dump(mode="json"),
            "salt": salt_for(endpoint.name, version=str(version), gate_run=gate_run.number),
            "created_at": now,
        },
    )
    if created:
        record("rollout.proposed", rollout, actor=actor, reason=reason, data=_facts(rollout, None))
        if plan_of(endpoint).queue == "newest":
            _supersede(rollout, now=now)
    return rollout


def _supersede(newer: Rollout, *, now: datetime) -> None:
    """End what waits at the endpoint for a version of the model that is no newer. By Gatehouse itself."""
    waiting = Rollout.objects.filter(
        endpoint=newer.endpoint,
        registered_model=newer.registered_model,
        state=RolloutState.PENDING,
        version__number__lte=newer.version.number,
    ).exclude(pk=newer.pk)
    for older in waiting.select_related("endpoint", "version__registered_model", "gate_run__policy").order_by("pk"):
        reason = f"{newer.version} passed its gates while {older.version} still waited, and takes its place."
        try:
            with transaction.atomic():
                data = {"superseded_by": newer.pk}
                _end(older, RolloutState.ABORTED, actor=ROLLOUTS, reason=reason, now=now, data=data)
        except TransitionError:
            continue  # it waits no longer


def start(rollout: Rollout, *, actor: Actor, reason: str, now: datetime) -> None:
    """Let a waiting candidate begin: in shadow, or, where nothing serves the endpoint yet, as its first champion.

    Raises GateNotPassed when a newer policy is in force, Conflict when another rollout is active on the endpoint, or
    when there is something to wait for (``standstill.waits_for``).
    """
    require(actor, rollout.registered_model, Duty.DATA_SCIENCE, Duty.PLATFORM, Duty.PRODUCT)
    _check_gates(rollout.version, rollout.gate_run)
    with transaction.atomic():
        _check_may_go_on(rollout, now)
        lock(rollout)
        route = Route.objects.select_for_update().get(endpoint=rollout.endpoint)
        if route.champion_id is None:
            _check_nothing_active(rollout)
            why = f"Nothing serves {rollout.endpoint} yet, so there is nothing to compare with: passed gates suffice."
            _promote(rollout, actor=actor, reason=f"{why} {reason}".strip(), now=now, data={"first": True})
        else:
            _start_shadow(rollout, route, actor, reason, now)


def _start_shadow(rollout: Rollout, route: Route, actor: Actor, reason: str, now: datetime) -> None:
    plan = plan_of(rollout.endpoint).model_dump(mode="json")
    fields: dict[str, Any] = {"incumbent": route.champion, "plan": plan, "shadow_since": now, "step_since": now}
    try:
        with transaction.atomic():
            rollout.move(
                RolloutState.SHADOW,
                actor=actor,
                reason=reason,
                data=_facts(rollout, route.champion),
                also=lambda: _send_traffic(rollout, now=now),
                **fields,
            )
    except IntegrityError as problem:
        rollout.refresh_from_db()
        _check_nothing_active(rollout)
        raise Conflict(f"{rollout} was refused by the database: {problem}") from problem


def advance(rollout: Rollout, *, actor: Actor, reason: str, now: datetime) -> None:
    """From the shadow to the first canary step, or to the next one.

    Nothing enters the canary on a pass of a policy that was replaced: such a rollout is aborted instead, and the
    version judged again. A canary that has begun goes on. Raises Conflict when there is something to wait for.
    """
    _check_may_decide(rollout, actor)
    with transaction.atomic():
        _check_may_go_on(rollout, now)
        lock(rollout)
        if rollout.state == RolloutState.SHADOW and (policy := _replaced(rollout)):
            _judge_again(rollout, policy, instead_of="advance", asked_by=actor, now=now)
            return
        step, plan = rollout.step + 1, RolloutPlan.model_validate(rollout.plan)
        if step > len(plan.canary.steps):
            raise TransitionError(f"{rollout} is at its last step: it can only be promoted.")
        share = plan.step(step).share
        fields: dict[str, Any] = {"step": step, "step_since": now, "canary_since": rollout.canary_since or now}
        facts = {**_facts(rollout, rollout.incumbent), "step": step, "share": share}
        rollout.move(
            RolloutState.CANARY,
            actor=actor,
            reason=reason,
            data=facts,
            also=lambda: _send_traffic(rollout, now=now),
            **fields,
        )


def promote(rollout: Rollout, *, actor: Actor, reason: str, now: datetime) -> None:
    """The candidate becomes the endpoint's and the model's champion. Raises Conflict when it has to wait."""
    _check_may_decide(rollout, actor)
    with transaction.atomic():
        _check_may_go_on(rollout, now)
        lock(rollout)
        if not RolloutPlan.model_validate(rollout.plan).is_last(rollout.step):
            raise TransitionError(f"{rollout} has not reached its last canary step: it can not be promoted.")
        _promote(rollout, actor=actor, reason=reason, now=now, data={})


def _promote(rollout: Rollout, *, actor: Actor, reason: str, now: datetime, data: dict[str, Any]) -> None:
    facts = {**_facts(rollout, rollout.incumbent), **data}
    rollout.move(
        RolloutState.PROMOTED,
        actor=actor,
        reason=reason,
        data=facts,
        also=lambda: reroute(rollout.endpoint, now=now, champion=rollout.version, **NO_CANDIDATE),
        ended_at=now,
    )
    crown(rollout.version, actor=actor, reason=reason, now=now)


def roll_back(
    rollout: Rollout, *, actor: Actor, reason: str, now: datetime, data: dict[str, Any] | None = None
) -> None:
    """Take the candidate off the traffic because it is worse; the champion answers everybody again."""
    require(actor, rollout.registered_model, Duty.DATA_SCIENCE, Duty.PLATFORM)
    _end(rollout, RolloutState.ROLLED_BACK, actor=actor, reason=reason, now=now, data=data)


def abort(rollout: Rollout, *, actor: Actor, reason: str, now: datetime) -> None:
    """End a rollout at any stage because somebody decided so; the champion answers everybody again."""
    require(actor, rollout.registered_model, Duty.DATA_SCIENCE, Duty.PLATFORM)
    _end(rollout, RolloutState.ABORTED, actor=actor, reason=_said(reason), now=now)


def end_all(endpoint: Endpoint, *, actor: Actor, reason: str, now: datetime) -> None:
    """Abort everything that waits or runs on an endpoint (part of a product decision that checked its own duty)."""
    open_ones = Rollout.objects.filter(endpoint=endpoint, state__in=[RolloutState.PENDING, *ACTIVE])
    for rollout in open_ones.select_related(*TOLD):
        _end(rollout, RolloutState.ABORTED, actor=actor, reason=reason, now=now)


def _end(
    rollout: Rollout, to: str, *, actor: Actor, reason: str, now: datetime, data: dict[str, Any] | None = None
) -> None:
    """The route first: one row, under the rollout's lock and after nothing else; what has to be told comes after."""
    with transaction.atomic():
        lock(rollout)
        had_traffic = rollout.is_active
        if had_traffic:
            take_off(rollout.endpoint, now=now)
        facts = {**_facts(rollout, rollout.incumbent), "stage": rollout.state, "step": rollout.step, **(data or {})}
        rollout.move(
            to,
            actor=actor,
            reason=reason,
            data=facts,
            also=(lambda: {"route": route_facts(rollout.endpoint)}) if had_traffic else None,
            ended_at=now,
        )


def pause(rollout: Rollout, *, actor: Actor, reason: str, now: datetime) -> None:
    """Take the candidate off the traffic for a while; nothing is judged meanwhile, and the time does not count."""
    require(actor, rollout.registered_model, Duty.DATA_SCIENCE, Duty.PLATFORM)
    _pause(rollout, actor=actor, reason=_said(reason), now=now, by_product=False)


def pause_all(endpoint: Endpoint, *, actor: Actor, reason: str, now: datetime) -> None:
    """Pause what runs on an endpoint (part of a product decision that checked its own duty)."""
    running = Rollout.objects.filter(endpoint=endpoint, state__in=[RolloutState.SHADOW, RolloutState.CANARY])
    for rollout in running.select_related(*TOLD):
        _pause(rollout, actor=actor, reason=reason, now=now, by_product=True)


def _pause(rollout: Rollout, *, actor: Actor, reason: str, now: datetime, by_product: bool) -> None:
    with transaction.atomic():
        lock(rollout)
        rollout.move(
            RolloutState.PAUSED,
            actor=actor,
            reason=reason,
            data=_facts(rollout, rollout.incumbent),
            also=lambda: reroute(rollout.endpoint, now=now, **NO_CANDIDATE),
            paused_in=rollout.state,
            paused_at=now,
            paused_by_product=by_product,
        )


def resume(rollout: Rollout, *, actor: Actor, reason: str, now: datetime) -> None:
    """Go on where it was paused, with the same share for the same entities; the pause does not count.

    Where another policy took force meanwhile it is aborted instead, and the version judged again. Raises Conflict when
    there is something to wait for.
    """
    require(actor, rollout.registered_model, Duty.DATA_SCIENCE, Duty.PLATFORM)
    _resume(rollout, actor=actor, reason=_said(reason), now=now)


def resume_all(endpoint: Endpoint, *, actor: Actor, reason: str, now: datetime) -> None:
    """Let go on what the product owner paused at an endpoint; not what somebody else had paused before.

    Quietly nothing while there is something else to wait for: it is tried again (``rollout.reactions.go_on``).
    """
    if standstill.waits_for(endpoint, now=now):
        return
    paused = Rollout.objects.filter(endpoint=endpoint, state=RolloutState.PAUSED, paused_by_product=True)
    for rollout in paused.select_related(*TOLD):
        _resume(rollout, actor=actor, reason=reason, now=now)


def _resume(rollout: Rollout, *, actor: Actor, reason: str, now: datetime) -> None:
    with transaction.atomic():
        _check_may_go_on(rollout, now)
        lock(rollout)
        if rollout.state != RolloutState.PAUSED:
            raise TransitionError(f"{rollout} is {rollout.state}, not paused.")
        if policy := _replaced(rollout):
            _judge_again(rollout, policy, instead_of="resume", asked_by=actor, now=now)
            return
        since = rollout.paused_at or rollout.state_since or now
        rollout.move(
            rollout.paused_in,
            actor=actor,
            reason=reason,
            event="rollout.resumed",
            data=_facts(rollout, rollout.incumbent),
            also=lambda: _send_traffic(rollout, now=now),
            paused_in="",
            paused_at=None,
            paused_by_product=False,
            pauses=[*rollout.pauses, [since.isoformat(), now.isoformat()]],
        )


def hold(rollout: Rollout, *, actor: Actor, reason: str, now: datetime) -> Event | None:
    """Say, once per stage, that the horizon has passed undecided; the state stays and a person decides."""
    said = Event.objects.about(rollout).filter(name=HELD, data__stage=rollout.state)
    if said.exists():
        return None
    data = {**_facts(rollout, rollout.incumbent), "stage": rollout.state, "step": rollout.step}
    return record(HELD, rollout, actor=actor, reason=reason, data=data)


def wait_for(rollout: Rollout, what: str, *, actor: Actor, reason: str) -> Event | None:
    """Say, once for each thing it waits for at this step, that the next step is earned but has to wait."""
    place = {"stage": rollout.state, "step": rollout.step, "waits_for": what}
    asked = {f"data__{name}": value for name, value in place.items()}
    if Event.objects.about(rollout).filter(name=WAITS, **asked).exists():
        return None
    return record(WAITS, rollout, actor=actor, reason=reason, data={**_facts(rollout, rollout.incumbent), **place})


def _send_traffic(rollout: Rollout, *, now: datetime) -> dict[str, Any]:
    """Route as the rollout's state and step say; the facts of the new route."""
    canary = rollout.state == RolloutState.CANARY
    return reroute(
        rollout.endpoint,
        now=now,
        candidate=rollout.version,
        rollout=rollout,
        stage=rollout.state,
        share=RolloutPlan.model_validate(rollout.plan).step(rollout.step).share if canary else 0.0,
        step=rollout.step if canary else 0,
        salt=rollout.salt,
    )


def lock(rollout: Rollout) -> None:
    """Nobody else changes this rollout until the transaction ends; refuse when somebody has since it was read."""
    now = Rollout.objects.select_for_update().only("state", "step").get(pk=rollout.pk)
    if (now.state, now.step) != (rollout.state, rollout.step):
        raise TransitionError(
            f"{rollout} is {now.state} (step {now.step}), no longer {rollout.state} (step {rollout.step}): "
            "somebody was faster."
        )


def overtaken(rollout: Rollout) -> TransitionError:
    """What somebody is told who looked at a rollout at the same time as another."""
    return TransitionError(f"{rollout} was looked at by somebody else meanwhile.")


def _check_gates(version: ModelVersion, gate_run: GateRun) -> None:
    if gate_run.version_id != version.pk or gate_run.state != GateRunState.PASSED:
        raise GateNotPassed(
            f"{gate_run} is {gate_run.state}: only a version that passed every gate may enter a rollout."
        )
    policy = in_force(version.registered_model)
    if policy is None or gate_run.policy_id != policy.pk:
        raise GateNotPassed(f"{gate_run} was judged by {gate_run.policy}; {policy} is in force: run the gates again.")


def _replaced(rollout: Rollout) -> Policy | None:
    """The policy in force when it is another one than the rollout's version passed under, else None.

    The model is locked, so that no policy takes force between this look and the step that it allows.
    """
    locked = RegisteredModel.objects.select_for_update().get(pk=rollout.registered_model_id)
    policy = in_force(locked)
    return None if policy is None or policy.pk == rollout.gate_run.policy_id else policy


def _judge_again(rollout: Rollout, policy: Policy, *, instead_of: str, asked_by: Actor, now: datetime) -> None:
    """End a rollout whose pass is void, and have its version judged under the policy in force, if it never was.

    By Gatehouse itself, as a consequence, whoever asked for the step. When the version passes it is proposed anew
    (``rollout.reactions``); when it was judged under that policy already, what came of it stands.
    """
    version, was = rollout.version, rollout.gate_run.policy
    reason = (
        f"{policy} is in force now; {version} passed under {was}, which lets nothing into shadow or canary any more."
    )
    judged = version.gate_runs.filter(policy=policy).order_by("-number").first()
    reason += f" {judged} is {judged.state}." if judged else " It is judged again."
    said = asked_by.name if isinstance(asked_by, Service) else asked_by.get_username()
    data = {"instead_of": instead_of, "asked_by": said, "policy": policy.number}
    _end(rollout, RolloutState.ABORTED, actor=ROLLOUTS, reason=reason, now=now, data=data)
    if judged is not None:
        return
    try:
        with transaction.atomic():
            open_run(version, actor=ROLLOUTS, reason=f"{policy} took force during its rollout.", now=now)
    except Conflict as refusal:  # a run of another policy goes on, and is judged anew itself when it ends
        log.warning("%s is not judged again now: %s", version, refusal)


def _check_nothing_active(rollout: Rollout) -> None:
    other = Rollout.objects.filter(endpoint=rollout.endpoint, state__in=ACTIVE).exclude(pk=rollout.pk).first()
    if other is not None:
        raise Conflict(f"{other} is {other.state}: one candidate at a time per endpoint.")


def _check_may_go_on(rollout: Rollout, now: datetime) -> None:
    """Nobody pauses, freezes or stops the endpoint until the transaction ends; refuse when somebody has."""
    what = standstill.waits_for(lock_endpoint(rollout.endpoint), now=now)
    if what:
        raise Conflict(f"{rollout} waits for {what}.")


def _check_may_decide(rollout: Rollout, actor: Actor) -> None:
    """The rules take the steps; the product owner may, when they are undecided beyond the horizon."""
    if isinstance(actor, Service):
        return
    require(actor, rollout.registered_model, Duty.PRODUCT)
    if not rollout.is_held:
        raise Conflict(f"{rollout} is not held: its plan decides the next step. It can be paused or aborted.")


def _said(reason: str) -> str:
    if not reason.strip():
        raise InvalidInput({"reason": "Say why: this is the record of the decision."})
    return reason


def _facts(rollout: Rollout, incumbent: ModelVersion | None) -> dict[str, Any]:
    """What an event about a rollout always says: for which bytes, and on which evidence they were let in.

    ``looks`` counts those written by then: a report up to this event shows so many.
    """
    return {
        **version_facts(rollout.version),
        "looks": rollout.analyses.count(),
        "endpoint": rollout.endpoint.name,
        "incumbent": incumbent.number if incumbent else None,
        "gates": gate_facts(rollout.gate_run),
    }
