"""The verbs of a gate run: open it, begin it, fix its inputs, write its results, conclude it, run again.

Passing is nobody's decision: ``conclude`` reads what was measured, and the database refuses a pass without it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from audit.errors import Conflict, TransitionError
from audit.trail import Actor, record
from gates import judge, reported
from gates.actions.evidence import missing_evidence
from gates.models import ENDED, CheckResult, GateRun, GateRunState, Policy, Preparation
from gates.policy import PolicyDocument, PolicyError, parse
from gates.preparation import Prepared
from jobs.run import enqueue
from registry.conversion import served_form
from registry.duties import require
from registry.facts import version_facts
from registry.models import Duty, ModelVersion, RegisteredModel

log = logging.getLogger(__name__)

PREPARE = "gates.prepare"
CHECK = "gates.check"


def in_force(registered_model: RegisteredModel) -> Policy | None:
    """The model's confirmed policy with the highest number."""
    policy: Policy | None = Policy.objects.in_force().filter(registered_model=registered_model).first()
    return policy


def document_of(policy: Policy) -> PolicyDocument:
    """What a stored policy asks. Raises Conflict where an older Gatehouse wrote it in a form that is no longer read."""
    try:
        return parse(policy.document)
    except PolicyError as problem:
        raise Conflict(f"{policy} has a form that is no longer read: {problem}") from problem


def open_run(version: ModelVersion, *, actor: Actor, reason: str, now: datetime) -> GateRun:
    """Start judging a version under the policy in force; the run waits until all evidence of its code is there.

    Raises Conflict when there is no policy, none that can be read, or a run of the version has not ended.
    """
    require(actor, version.registered_model, Duty.DATA_SCIENCE)
    with transaction.atomic():
        RegisteredModel.objects.select_for_update().get(pk=version.registered_model_id)
        policy = in_force(version.registered_model)
        if policy is None:
            raise Conflict(f"{version.registered_model} has no policy in force yet: propose one and have it confirmed.")
        if version.gate_runs.exclude(state__in=ENDED).exists():
            raise Conflict(f"{version} is being judged already.")
        document = document_of(policy)
        run = GateRun.objects.create(
            registered_model=version.registered_model,
            version=version,
            policy=policy,
            number=version.gate_runs.count() + 1,
            required_checks=len(document.blocking),
            state=GateRunState.OPEN,
            state_reason=reason,
            state_since=now,
            opened_at=now,
            deadline=now + timedelta(hours=document.evidence_wait_hours),
        )
        record("gate_run.opened", run, actor=actor, reason=reason, data={"policy": policy.number, "number": run.number})
        begin_if_complete(run, actor=actor, now=now)
        return run


def rerun(version: ModelVersion, *, actor: Actor, reason: str, now: datetime) -> GateRun:
    """Judge a version once more; the earlier runs stay. Refused after a pass under the policy in force, unless that was
    won against a champion that another version has replaced since.

    A pass is the pass of its frozen inputs: judged again on those it passes again (``gates.reproduction``), and what
    newer data say of it is found by shadow, canary and monitors, which can stop it at any time.
    """
    require(actor, version.registered_model, Duty.DATA_SCIENCE)
    policy = in_force(version.registered_model)
    passes = version.gate_runs.filter(state=GateRunState.PASSED, policy=policy).select_related("policy")
    passed = passes.order_by("-number").first()
    if policy is not None and passed is not None and _new_champion(passed) is None:
        raise Conflict(f"{version} has passed under the policy in force; there is nothing to prove again.")
    return open_run(version, actor=actor, reason=reason, now=now)


def begin_if_complete(gate_run: GateRun, *, actor: Actor, now: datetime) -> bool:
    """Begin a waiting run when nothing it waits for is missing; whether it began."""
    if missing_evidence(gate_run):
        return False
    begin(gate_run, actor=actor, reason="All evidence is there.", now=now)
    return True


def begin(gate_run: GateRun, *, actor: Actor, reason: str, now: datetime) -> None:
    """Freeze what the version is judged against, and ask for the preparation."""
    require(actor, gate_run.registered_model, Duty.DATA_SCIENCE)
    with transaction.atomic():
        champion = gate_run.registered_model.champion()
        # a version is never compared with itself
        rival = champion if champion is not None and champion.pk != gate_run.version_id else None
        gate_run.move(
            GateRunState.RUNNING,
            actor=actor,
            reason=reason,
            champion=rival,
            seed=gate_run.pk % 2**31,
            data={"champion": str(rival) if rival else None},
        )
        enqueue(PREPARE, key=job_key(gate_run), payload={"gate_run": gate_run.pk})


def job_key(gate_run: GateRun) -> str:
    """The key of the job that prepares a run: there is one."""
    return f"{PREPARE}:{gate_run.pk}"


def check_key(gate_run: GateRun, check_id: str) -> str:
    """The key of the job that does one check of a run: there is one."""
    return f"{CHECK}:{gate_run.pk}:{check_id}"


def record_preparation(gate_run: GateRun, prepared: Prepared, *, actor: Actor, now: datetime) -> Preparation:
    """Fix what a running run is measured on, for ever. Raises TransitionError when the run has ended meanwhile."""
    with transaction.atomic():
        _still(gate_run)
        preparation = Preparation.objects.create(
            gate_run=gate_run,
            inputs=prepared.inputs,
            inputs_hash=prepared.inputs_hash,
            served_digest=prepared.served_digest,
            scores_digest=prepared.scores_digest,
            missing=dict(prepared.missing),
            curves=prepared.curves,
            prepared_at=now,
            wall_seconds=prepared.wall_seconds,
        )
        GateRun.objects.filter(pk=gate_run.pk).update(holdout=prepared.holdout)
        gate_run.holdout = prepared.holdout
        data = {
            "inputs_hash": prepared.inputs_hash,
            "scores_digest": prepared.scores_digest,
            "holdout": prepared.holdout.digest if prepared.holdout else None,
            "served": prepared.served_digest,
            "missing": dict(prepared.missing),
        }
        reason = "; ".join(f"{name}: {why}" for name, why in prepared.missing.items() if name in ("holdout", "labels"))
        record("gate_run.prepared", gate_run, actor=actor, reason=reason or _rows_of(prepared), data=data)
        return preparation


def record_result(
    gate_run: GateRun, judgement: judge.Judgement, *, measured: Mapping[str, Any], wall_seconds: float
) -> bool:
    """Write down what one check of a running run came to; whether it was written: not when the run has ended, or the
    check has its result already.

    The run's row is locked to the end of the caller's transaction, so that of two checks that finish at once the second
    sees that nothing is left.
    """
    with transaction.atomic():
        stored = GateRun.objects.select_for_update().get(pk=gate_run.pk)
        if stored.state != GateRunState.RUNNING or stored.results.filter(check_id=judgement.check_id).exists():
            return False
        CheckResult.objects.create(
            gate_run=gate_run, **asdict(judgement), measured=dict(measured), wall_seconds=wall_seconds
        )
        return True


def conclude(
    gate_run: GateRun,
    judgements: Sequence[judge.Judgement] = (),
    *,
    wall_seconds: float | None = None,
    actor: Actor,
    now: datetime,
) -> None:
    """Write the results that are not there yet (``judgements``) and end the run by what all come to.

    A run whose policy was replaced meanwhile, that had to win against a champion who was, or whose version is served in
    another form than the measured one, passes nothing: it ends inconclusive and the version is judged anew.
    """
    with transaction.atomic():
        _still(gate_run)
        CheckResult.objects.bulk_create(CheckResult(gate_run=gate_run, **asdict(each)) for each in judgements)
        found = _judgements(gate_run)
        end = judge.conclude(found, required=gate_run.required_checks)
        changed = _changed_meanwhile(gate_run)
        if end.verdict == "passed" and not changed:
            rival = _new_champion(gate_run)
            changed = f"{rival} became champion while this run went on" if rival else ""
        if changed and end.verdict == "passed":
            end = judge.Conclusion("inconclusive", f"{changed}; judged again.")
        gate_run.move(
            end.verdict,
            actor=actor,
            reason=end.message,
            data={**gate_facts(gate_run), "judged": version_facts(gate_run.version)},
            wall_seconds=wall_seconds,
        )
        if changed:
            _judge_anew(gate_run.version, actor=actor, reason=f"{changed}.", now=now)


def conclude_without_evidence(gate_run: GateRun, *, actor: Actor, now: datetime) -> None:
    """End a run whose deadline has passed by what evidence there is; nothing else is measured.

    Evidence that is only reported can not stop a version: where nothing else is missing, the run begins without it.
    """
    found = reported.evidence_judgements(gate_run, now)
    if all(judgement.verdict == "passed" for judgement, _ in found if judgement.blocking):
        begin(gate_run, actor=actor, reason="The deadline passed; what has not come is only reported.", now=now)
        return
    with transaction.atomic():
        _still(gate_run)
        CheckResult.objects.bulk_create(
            CheckResult(gate_run=gate_run, **asdict(judgement), measured=measured) for judgement, measured in found
        )
        conclude(gate_run, actor=actor, now=now)


def give_up(gate_run: GateRun, *, actor: Actor, reason: str, now: datetime) -> None:
    """End a run that could not be measured."""
    data = {**gate_facts(gate_run), "judged": version_facts(gate_run.version)}
    gate_run.move(GateRunState.ERROR, actor=actor, reason=reason, data=data)


def gate_facts(gate_run: GateRun) -> dict[str, Any]:
    """What events say of a gate run: which it is, under which policy, and what each of its checks came to."""
    return {
        "gate_run": gate_run.pk,
        "number": gate_run.number,
        "policy": gate_run.policy.number,
        "policy_hash": gate_run.policy.content_hash,
        "verdicts": {each.check_id: each.verdict for each in _judgements(gate_run)},
    }


# ---------------------------------------------------------------------- parts


def _still(gate_run: GateRun) -> None:
    """Lock the run. Raises TransitionError when its state is no longer the one it was read with."""
    stored = GateRun.objects.select_for_update().get(pk=gate_run.pk)
    if stored.state != gate_run.state:
        raise TransitionError(f"{gate_run} is {stored.state} already; it is concluded once.")


def _judgements(gate_run: GateRun) -> list[judge.Judgement]:
    """What the checks of a run came to so far, in the policy's order."""
    order = {check["id"]: place for place, check in enumerate(_asked(gate_run.policy))}
    names = [each.name for each in fields(judge.Judgement)]
    found = [judge.Judgement(**row) for row in gate_run.results.order_by("id").values(*names)]
    return sorted(found, key=lambda each: order.get(each.check_id, len(order)))


def _asked(policy: Policy) -> Sequence[Mapping[str, Any]]:
    """The checks of a policy as they are stored, also where the document is one that can not be parsed any more."""
    document = policy.document
    checks = document.get("checks") if isinstance(document, dict) else None
    return [each for each in checks if isinstance(each, dict) and "id" in each] if isinstance(checks, list) else []


def _judge_anew(version: ModelVersion, *, actor: Actor, reason: str, now: datetime) -> None:
    """Open the next run. Where the policy in force can not be read, that is no reason not to end this one."""
    try:
        with transaction.atomic():
            open_run(version, actor=actor, reason=reason, now=now)
    except Conflict as refusal:
        log.warning("%s is not judged anew: %s", version, refusal)


def _new_champion(gate_run: GateRun) -> ModelVersion | None:
    """Who is champion now instead of the one that the run had to win against; None where it is the same, the version
    itself, or where the policy blocks nobody for being worse than the champion."""
    compares = any(
        check.get("kind") == "versus_champion" and check.get("blocking") is not False
        for check in _asked(gate_run.policy)
    )
    champion = gate_run.registered_model.champion() if compares else None
    return None if champion is None or champion.pk in (gate_run.version_id, gate_run.champion_id) else champion


def _changed_meanwhile(gate_run: GateRun) -> str:
    """Why a run may not pass although its checks did; empty when nothing changed under it."""
    policy = in_force(gate_run.registered_model)
    if policy is not None and policy.pk != gate_run.policy_id:
        return f"{policy} took force while this run went on"
    preparation = Preparation.objects.filter(gate_run=gate_run).first()
    # locked, as registry.actions.record_conversion does: a form is settled either before this pass or never
    version = (
        ModelVersion.objects.select_for_update(of=("self",)).select_related("conversion").get(pk=gate_run.version_id)
    )
    if preparation is not None and served_form(version).digest != preparation.served_digest:
        return "Another form of the version is served now than the one that was measured"
    return ""


def _rows_of(prepared: Prepared) -> str:
    return f"{prepared.holdout.rows:,} labelled rows are kept." if prepared.holdout else ""
