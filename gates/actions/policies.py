"""The verbs of a policy: propose it, and let a second person confirm or decline it, or withdraw it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from django.contrib.auth.models import AbstractBaseUser, User
from django.db import transaction

from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.trail import Actor, Service, person_id, record
from gates.actions.runs import document_of, in_force, open_run
from gates.models import ENDED, GateRun, GateRunState, Policy, PolicyDecision, PolicyOutcome
from gates.policy import PolicyDocument, PolicyError, parse, templates
from gates.policy.difference import Change, compare, loosened
from gates.policy.text import dump
from registry.duties import has_duty, require
from registry.models import Duty, RegisteredModel

GATES = Service("gates")
SECOND = (Duty.PRODUCT, Duty.PLATFORM)
"""The duties of which the second person has one: of a group that is not the model's data science group as well."""
LONGEST_NOTE = 2000
Standing = Literal["in force", "waiting", "outdated", "replaced", "declined", "withdrawn"]


def propose_policy(
    registered_model: RegisteredModel,
    *,
    document: Mapping[str, Any] | None = None,
    template: str = "",
    overrides: Mapping[str, Any] | None = None,
    note: str,
    actor: Actor,
    now: datetime,
) -> Policy:
    """Propose a policy: a whole ``document``, or a tier's ``template`` with ``overrides`` (``gates.policy.templates``).

    It is in force when a second person confirms it. What it asks less of than the policy in force is kept with it, and
    after which run that did not pass, for ever. The content of the policy in force, or of the one that waits, returns
    that one. Raises InvalidInput by path, Conflict while another proposal waits.
    """
    require(actor, registered_model, Duty.DATA_SCIENCE)
    if not isinstance(actor, AbstractBaseUser):
        raise NotPermitted("What is good enough is proposed by a person, and confirmed by a second one.")
    if len(note) > LONGEST_NOTE:
        raise InvalidInput({"note": f"At most {LONGEST_NOTE:,} characters."})
    with transaction.atomic():
        # locked, so that two people proposing at once get two numbers; and read anew, for its tier
        locked = RegisteredModel.objects.select_for_update().get(pk=registered_model.pk)
        chosen = _chosen(locked, document, template, overrides)
        before = in_force(locked)
        waiting = locked.policies.waiting().order_by("-number").first()
        for same in (waiting, before):
            if same is not None and same.content_hash == chosen.content_hash():
                return same
        if waiting is not None and (before is None or waiting.number > before.number):
            raise Conflict(f"{waiting} waits for a second person; it has to be confirmed, declined or withdrawn first.")
        newest = locked.policies.order_by("-number").first()
        looser = [change.as_dict() for change in loosened(changes_since(before, chosen))] if before else []
        policy = Policy.objects.create(
            registered_model=locked,
            number=newest.number + 1 if newest else 1,
            document=chosen.model_dump(mode="json"),
            content_hash=chosen.content_hash(),
            note=note,
            loosened=looser,
            loosened_after=_run_not_passed(locked, before) if looser else None,
            created_by_id=person_id(actor),
            created_at=now,
        )
        record("policy.proposed", policy, actor=actor, reason=note, data=_facts(policy))
        return policy


def confirm_policy(policy: Policy, *, reason: str, actor: User, now: datetime) -> PolicyDecision:
    """Put a proposed policy in force, as the second person: not who proposed it, with the product or platform duty, of
    another group than the model's data science group.

    Passed runs of rollouts that have not started are void from now on; runs that still wait for evidence end, and their
    versions are judged under the new policy. Raises NotPermitted, and Conflict when it was decided already, a newer
    policy is in force, or the model's stakes have risen above it.
    """
    with transaction.atomic():
        duty = _second_person(policy, actor)
        decision = _decide(policy, PolicyOutcome.CONFIRMED, duty, reason=reason, actor=actor, now=now)
        data = {**_facts(policy), "proposed_by": str(policy.created_by)}
        record("policy.confirmed", policy, actor=actor, reason=reason, data=data)
        _judge_waiting_anew(policy, now=now)
        return decision


def decline_policy(policy: Policy, *, reason: str, actor: User, now: datetime) -> PolicyDecision:
    """Refuse a proposed policy, as the second person. It can be proposed again, changed or not."""
    with transaction.atomic():
        duty = _second_person(policy, actor)
        decision = _decide(policy, PolicyOutcome.DECLINED, duty, reason=reason, actor=actor, now=now)
        record("policy.declined", policy, actor=actor, reason=reason, data={"number": policy.number})
        return decision


def withdraw_policy(policy: Policy, *, reason: str, actor: User, now: datetime) -> PolicyDecision:
    """Take a proposal back, as a data science owner."""
    require(actor, policy.registered_model, Duty.DATA_SCIENCE)
    if not isinstance(actor, AbstractBaseUser):
        raise NotPermitted("A policy is proposed, decided on and withdrawn by people.")
    with transaction.atomic():
        decision = _decide(policy, PolicyOutcome.WITHDRAWN, Duty.DATA_SCIENCE, reason=reason, actor=actor, now=now)
        record("policy.withdrawn", policy, actor=actor, reason=reason, data={"number": policy.number})
        return decision


# ---------------------------------------------------------------------- questions


def may_second(policy: Policy, user: AbstractBaseUser) -> bool:
    """Whether somebody may be the second person of this policy."""
    return (
        policy.created_by_id is not None
        and user.pk != policy.created_by_id
        and _second_duty(policy.registered_model, user) is not None
    )


def standing_of(policy: Policy, *, in_force: int | None) -> Standing:
    """Where a policy is, given the number of the one in force. ``outdated``: never decided, and overtaken."""
    decision: PolicyDecision | None = getattr(policy, "decision", None)
    if decision is None:
        return "outdated" if in_force is not None and in_force > policy.number else "waiting"
    if decision.outcome == PolicyOutcome.CONFIRMED:
        return "in force" if in_force == policy.number else "replaced"
    return "declined" if decision.outcome == PolicyOutcome.DECLINED else "withdrawn"


def changes_since(before: Policy | None, after: PolicyDocument) -> tuple[Change, ...]:
    """What a document asks otherwise than a stored policy.

    One that an older Gatehouse wrote may be unreadable today. What it asked can not be compared then, which counts as a
    loosening: nothing shows that it is none.
    """
    if before is None:
        return compare(None, after)
    try:
        return compare(parse(before.document), after)
    except PolicyError:
        unreadable = f"{before}, in a form that is no longer read"
        return (Change("", "document", unreadable, "this document", "looser"), *compare(None, after))


def policy_text(policy: Policy) -> str:
    """A stored policy as YAML; above it, as remarks, who decided what, and what it loosened. Raises Conflict."""
    return dump(document_of(policy), model=policy.registered_model.name, comments=_remarks(policy))


# ---------------------------------------------------------------------- parts


def _remarks(policy: Policy) -> list[str]:
    newest = in_force(policy.registered_model)
    standing = standing_of(policy, in_force=newest.number if newest else None)
    told = [
        f"Policy {policy.number} of {policy.registered_model.name}: {standing}. SHA-256 {policy.content_hash}",
        f"Proposed by {policy.created_by or 'nobody'} on {policy.created_at:%Y-%m-%d}: {policy.note}",
    ]
    decision: PolicyDecision | None = getattr(policy, "decision", None)
    if decision is not None:
        by = f"{decision.decided_by} ({decision.get_duty_display()})"
        told.append(f"{decision.outcome.capitalize()} by {by} on {decision.decided_at:%Y-%m-%d}: {decision.reason}")
    if policy.loosened:
        after = policy.loosened_after
        told.append(f"Loosened after {after} ({after.state}):" if after else "Loosened:")
        told += [f"  {Change(**change)}" for change in policy.loosened]
    return told


def _facts(policy: Policy) -> dict[str, Any]:
    after = policy.loosened_after
    return {
        "number": policy.number,
        "template": policy.document["template"],
        "content_hash": policy.content_hash,
        "loosened": policy.loosened,
        "loosened_after": {"gate_run": after.pk, "was": str(after), "state": after.state} if after else None,
    }


def _run_not_passed(registered_model: RegisteredModel, before: Policy | None) -> GateRun | None:
    """The newest ended run under the policy in force, unless it passed.

    A policy under which nothing was judged yet does not wipe the slate: then the newest ended run of the model counts.
    Runs that a new policy ended while they waited were never judged.
    """
    judged = GateRun.objects.filter(registered_model=registered_model, state__in=ENDED).order_by("-pk")
    judged = judged.exclude(state=GateRunState.INCONCLUSIVE, results__isnull=True)
    newest = judged.filter(policy=before).first() or judged.first()
    return None if newest is None or newest.state == GateRunState.PASSED else newest


def _second_person(policy: Policy, actor: User) -> Duty:
    """The duty by which someone may decide on a proposal. Raises NotPermitted."""
    of = policy.registered_model
    if not isinstance(actor, AbstractBaseUser):
        raise NotPermitted("A policy is proposed and decided on by people.")
    if policy.created_by_id is None or actor.pk == policy.created_by_id:
        raise NotPermitted(f"{policy} takes a second person: who proposed it can not decide on it.")
    duty = _second_duty(of, actor)
    if duty is not None:
        return duty
    could = " or ".join(f"{each.label} ({of.owner(each)})" for each in _second_duties(of))
    nobody = f"nobody, for {of.data_science} has all its duties; hand product or platform to another group"
    raise NotPermitted(f"{actor.get_username()} may not decide on {policy}. Who may: {could or nobody}.")


def _second_duties(registered_model: RegisteredModel) -> list[Duty]:
    """The deciding duties that another group has than the one that proposes."""
    return [duty for duty in SECOND if registered_model.owner(duty) != registered_model.data_science]


def _second_duty(registered_model: RegisteredModel, user: AbstractBaseUser) -> Duty | None:
    return next((duty for duty in _second_duties(registered_model) if has_duty(user, registered_model, duty)), None)


def _decide(
    policy: Policy, outcome: PolicyOutcome, duty: Duty, *, reason: str, actor: User, now: datetime
) -> PolicyDecision:
    locked = RegisteredModel.objects.select_for_update().get(pk=policy.registered_model_id)
    decided = PolicyDecision.objects.filter(policy=policy).first()
    if decided is not None:
        raise Conflict(f"{policy} was {decided.outcome} already.")
    if outcome == PolicyOutcome.CONFIRMED:
        _require_timely(policy, locked)
    return PolicyDecision.objects.create(
        policy=policy, outcome=outcome, duty=duty, reason=reason, decided_by=actor, decided_at=now
    )


def _require_timely(policy: Policy, registered_model: RegisteredModel) -> None:
    """Raise Conflict when a proposal does not fit any more: something newer is in force, or the stakes have risen."""
    newest = in_force(registered_model)
    if newest is not None and newest.number > policy.number:
        raise Conflict(f"{newest} is in force, which is newer.")
    try:
        templates.require_tier(parse(policy.document), tier=registered_model.tier, task=registered_model.task)
    except PolicyError as problem:
        raise Conflict(f"{policy} does not fit the model any more, propose another: {problem}") from problem


def _chosen(
    registered_model: RegisteredModel,
    document: Mapping[str, Any] | None,
    template: str,
    overrides: Mapping[str, Any] | None,
) -> PolicyDocument:
    if (document is None) == (not template):
        raise InvalidInput({"template": "Give either a whole document or the name of a template with overrides."})
    if document is not None and overrides:
        raise InvalidInput({"overrides": "Overrides belong to a template; change the document itself."})
    tier, task = registered_model.tier, registered_model.task
    try:
        if document is not None:
            chosen = parse(document)
        else:
            chosen = templates.from_template(template, task=task, overrides=overrides)
        templates.require_tier(chosen, tier=tier, task=task)
    except PolicyError as problem:
        raise InvalidInput(problem.errors) from problem
    return chosen


def _judge_waiting_anew(policy: Policy, *, now: datetime) -> None:
    """Runs that wait for evidence under an older policy could only pass in vain.

    By Gatehouse itself, as a consequence: the second person need not have the duty to open a run. The runs are locked,
    so that one that begins at this moment either began before, and is judged anew when it is concluded, or not at all.
    """
    waiting = GateRun.objects.select_for_update(of=("self",)).filter(state=GateRunState.OPEN)
    of_model = waiting.filter(registered_model=policy.registered_model).exclude(policy=policy)
    for run in of_model.select_related("version__registered_model").order_by("pk"):
        run.move(GateRunState.INCONCLUSIVE, actor=GATES, reason=f"{policy} is in force now; judged again under it.")
        open_run(run.version, actor=GATES, reason=f"{policy} is in force now.", now=now)
