"""The verbs of the gates: adopt a policy, submit evidence, open a run, begin it, conclude it, run again.

Passing is nobody's decision: ``conclude`` writes what was measured, and the database refuses a pass without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from audit.errors import Conflict, InvalidInput, TransitionError
from audit.trail import Actor, record
from features.models import Dataset
from gates import evidence as reports
from gates import judge, templates
from gates.models import ENDED, CheckResult, Evidence, EvidenceKind, GateRun, GateRunState, Policy
from gates.policy import CiEvidenceCheck, PolicyDocument, PolicyError, parse
from jobs.run import enqueue
from registry.duties import require
from registry.facts import version_facts
from registry.models import Duty, ModelVersion, RegisteredModel

EVALUATE = "gates.evaluate"


def adopt_policy(
    registered_model: RegisteredModel,
    *,
    document: Mapping[str, Any] | None = None,
    template: str = "",
    overrides: Mapping[str, Any] | None = None,
    note: str,
    actor: Actor,
    now: datetime,
) -> Policy:
    """Put a policy in force: a whole ``document``, or a tier's ``template`` with ``overrides`` (``gates.templates``).

    The same content again returns the policy in force. A new policy voids passed runs for rollouts that have not
    started; runs that still wait for evidence end, and their versions are judged under the new one. Raises InvalidInput
    by path.
    """
    require(actor, registered_model, Duty.DATA_SCIENCE)
    chosen = _chosen(registered_model, document, template, overrides)
    with transaction.atomic():
        # locked, so that two people adopting at once get two numbers
        RegisteredModel.objects.select_for_update().get(pk=registered_model.pk)
        before = in_force(registered_model)
        if before is not None and before.content_hash == chosen.content_hash():
            return before
        policy = Policy.objects.create(
            registered_model=registered_model,
            number=before.number + 1 if before else 1,
            document=chosen.model_dump(mode="json"),
            content_hash=chosen.content_hash(),
            note=note,
            created_by_id=_person(actor),
            created_at=now,
        )
        data = {"number": policy.number, "template": chosen.template, "content_hash": policy.content_hash}
        record("policy.adopted", policy, actor=actor, reason=note, data=data)
        _judge_waiting_anew(policy, actor=actor, now=now)
        return policy


def in_force(registered_model: RegisteredModel) -> Policy | None:
    """The model's policy with the highest number."""
    return Policy.objects.filter(registered_model=registered_model).order_by("-number").first()


def submit_evidence(
    *,
    registered_model: RegisteredModel,
    kind: str,
    code_digest: str,
    commit: str = "",
    payload: Any,
    actor: Actor,
    now: datetime,
) -> Evidence:
    """Record a report about exactly the code ``code_digest``; the verdict is computed from it (``gates.evidence``)."""
    require(actor, registered_model, Duty.DATA_SCIENCE, Duty.PLATFORM)
    if kind not in EvidenceKind.values:
        raise InvalidInput({"kind": f"There is no evidence {kind!r}; there are {', '.join(EvidenceKind.values)}."})
    if len(code_digest) != 64 or set(code_digest) - set("0123456789abcdef"):
        raise InvalidInput({"code_digest": "A SHA-256 in lower-case hexadecimal, over the code folder, is needed."})
    if len(commit) > 64:
        raise InvalidInput({"commit": "A commit has at most 64 characters."})
    try:
        report = reports.read(kind, payload)
    except reports.UnreadableEvidence as problem:
        raise InvalidInput({"payload": str(problem)}) from problem
    with transaction.atomic():
        evidence = Evidence.objects.create(
            registered_model=registered_model,
            kind=kind,
            code_digest=code_digest,
            commit=commit,
            verdict=report.verdict,
            summary=report.summary,
            payload=report.payload,
            submitted_by_id=_person(actor),
            submitted_at=now,
        )
        data = {"kind": kind, "verdict": report.verdict, "code_digest": code_digest}
        record("evidence.submitted", evidence, actor=actor, reason=report.summary, data=data)
        return evidence


def open_run(version: ModelVersion, *, actor: Actor, reason: str, now: datetime) -> GateRun:
    """Start judging a version under the policy in force; the run waits until all evidence of its code is there."""
    require(actor, version.registered_model, Duty.DATA_SCIENCE)
    with transaction.atomic():
        RegisteredModel.objects.select_for_update().get(pk=version.registered_model_id)
        policy = in_force(version.registered_model)
        if policy is None:
            raise Conflict(
                f"{version.registered_model} has no policy yet; adopt one to say what its versions must prove."
            )
        if version.gate_runs.exclude(state__in=ENDED).exists():
            raise Conflict(f"{version} is being judged already.")
        document = parse(policy.document)
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
    """Judge a version once more, unless it has already passed under the policy in force."""
    require(actor, version.registered_model, Duty.DATA_SCIENCE)
    last = version.gate_runs.select_related("policy").order_by("-number").first()
    if last is not None and last.state == GateRunState.PASSED and last.policy == in_force(version.registered_model):
        raise Conflict(f"{version} has passed under the policy in force; there is nothing to prove again.")
    return open_run(version, actor=actor, reason=reason, now=now)


def missing_evidence(gate_run: GateRun) -> tuple[str, ...]:
    """Kinds of evidence that a run still waits for. A version that names no code waits for nothing: none can come."""
    required = parse(gate_run.policy.document).required_evidence
    code_digest = gate_run.version.code_digest
    if not code_digest or not required:
        return ()
    there = set(evidence_about(gate_run.version).values_list("kind", flat=True))
    return tuple(kind for kind in required if kind not in there)


def evidence_about(version: ModelVersion) -> Any:
    """Evidence about exactly the code that made a version, oldest first."""
    about = Evidence.objects.filter(registered_model_id=version.registered_model_id, code_digest=version.code_digest)
    return about.order_by("id")


def begin_if_complete(gate_run: GateRun, *, actor: Actor, now: datetime) -> bool:
    """Begin a waiting run when nothing it waits for is missing; whether it began."""
    if missing_evidence(gate_run):
        return False
    begin(gate_run, actor=actor, reason="All evidence is there.", now=now)
    return True


def begin(gate_run: GateRun, *, actor: Actor, reason: str, now: datetime) -> None:
    """Freeze what the version is judged against, and ask for the measuring."""
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
        enqueue(EVALUATE, key=job_key(gate_run), payload={"gate_run": gate_run.pk})


def job_key(gate_run: GateRun) -> str:
    """The key of the job that measures a run: there is one."""
    return f"{EVALUATE}:{gate_run.pk}"


def conclude(
    gate_run: GateRun,
    judgements: Sequence[judge.Judgement],
    *,
    holdout: Dataset | None = None,
    wall_seconds: float | None = None,
    actor: Actor,
    now: datetime,
) -> None:
    """Write every check's result and end the run by what they come to, in one transaction.

    A run whose policy was replaced meanwhile passes nothing: it ends inconclusive and the version is judged anew.
    """
    with transaction.atomic():
        stored = GateRun.objects.select_for_update().get(pk=gate_run.pk)
        if stored.state != gate_run.state:
            raise TransitionError(f"{gate_run} is {stored.state} already; it is concluded once.")
        results = [CheckResult(gate_run=gate_run, **asdict(judgement)) for judgement in judgements]
        CheckResult.objects.bulk_create(results)
        end = judge.conclude(judgements, required=gate_run.required_checks)
        policy = in_force(gate_run.registered_model)
        replaced = policy is not None and policy.pk != gate_run.policy_id
        if replaced and end.verdict == "passed":
            end = judge.Conclusion(
                "inconclusive", f"{policy} was adopted while this run went on; judged again under it."
            )
        verdicts = {judgement.check_id: judgement.verdict for judgement in judgements}
        gate_run.move(
            end.verdict,
            actor=actor,
            reason=end.message,
            data={**gate_facts(gate_run), "verdicts": verdicts, "judged": version_facts(gate_run.version)},
            holdout=holdout,
            wall_seconds=wall_seconds,
        )
        if replaced:
            open_run(gate_run.version, actor=actor, reason=f"{policy} was adopted.", now=now)


def conclude_without_evidence(gate_run: GateRun, *, actor: Actor, now: datetime) -> None:
    """End a run whose deadline has passed by what evidence there is; nothing else is measured."""
    document = parse(gate_run.policy.document)
    checks = [check for check in document.checks if isinstance(check, CiEvidenceCheck)]
    conclude(gate_run, [judge_evidence(gate_run, check, now=now) for check in checks], actor=actor, now=now)


def judge_evidence(gate_run: GateRun, check: CiEvidenceCheck, *, now: datetime) -> judge.Judgement:
    """The newest report of each kind about the version's exact code, judged."""
    newest = {
        evidence.kind: judge.CiReport(
            evidence.kind,
            evidence.verdict,
            evidence.summary,
            evidence.submitted_at,
            tests=evidence.payload.get("tests"),
            evidence=evidence.pk,
        )
        for evidence in evidence_about(gate_run.version)
    }
    code_digest = gate_run.version.code_digest
    return judge.ci_evidence(check, newest, code_digest=code_digest, deadline=gate_run.deadline, now=now)


def give_up(gate_run: GateRun, *, actor: Actor, reason: str, now: datetime) -> None:
    """End a run that could not be measured."""
    data = {**gate_facts(gate_run), "judged": version_facts(gate_run.version)}
    gate_run.move(GateRunState.ERROR, actor=actor, reason=reason, data=data)


def gate_facts(gate_run: GateRun) -> dict[str, Any]:
    """What events say of a gate run: which it is, under which policy, and what each of its checks came to."""
    results = gate_run.results.values_list("check_id", "verdict")
    return {
        "gate_run": gate_run.pk,
        "number": gate_run.number,
        "policy": gate_run.policy.number,
        "policy_hash": gate_run.policy.content_hash,
        "verdicts": dict(results.order_by("id")),
    }


# ---------------------------------------------------------------------- parts


def _person(actor: Actor) -> int | None:
    """The id of a human actor; None for Gatehouse itself."""
    return actor.pk if isinstance(actor, AbstractBaseUser) else None


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


def _judge_waiting_anew(policy: Policy, *, actor: Actor, now: datetime) -> None:
    """Runs that wait for evidence under an older policy could only pass in vain."""
    waiting = GateRun.objects.filter(registered_model=policy.registered_model, state=GateRunState.OPEN)
    for run in waiting.exclude(policy=policy).select_related("version__registered_model"):
        run.move(GateRunState.INCONCLUSIVE, actor=actor, reason=f"{policy} was adopted; judged again under it.")
        open_run(run.version, actor=actor, reason=f"{policy} was adopted.", now=now)
