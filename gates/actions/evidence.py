"""The verb of evidence, and what is known about a version."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from audit.errors import InvalidInput
from audit.trail import Actor, person_id, record
from gates import evidence as reports
from gates import reported
from gates.models import Evidence, EvidenceKind, GateRun
from gates.policy import parse
from registry.duties import require
from registry.models import Duty, ModelVersion, RegisteredModel


def submit_evidence(
    *,
    registered_model: RegisteredModel,
    kind: str,
    code_digest: str = "",
    commit: str = "",
    version: ModelVersion | None = None,
    name: str = "",
    payload: Any,
    actor: Actor,
    now: datetime,
) -> Evidence:
    """Record a report about exactly the code ``code_digest``; the verdict is computed from it (``gates.evidence``).

    A measurement is about a ``version`` instead, and has no verdict of its own: the policy judges it. ``name``: what
    was measured, where the payload does not say it as ``metric``. Raises InvalidInput by field.
    """
    require(actor, registered_model, Duty.DATA_SCIENCE, Duty.PLATFORM)
    if kind not in EvidenceKind.values:
        raise InvalidInput({"kind": f"There is no evidence {kind!r}; there are {', '.join(EvidenceKind.values)}."})
    if kind == EvidenceKind.MEASUREMENT:
        payload = _named(payload, name)
        _check_version(registered_model, version, code_digest, commit)
    else:
        _check_code(kind, version, name, code_digest, commit)
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
            version=version,
            name=report.payload["metric"] if kind == EvidenceKind.MEASUREMENT else "",
            verdict=report.verdict,
            summary=report.summary,
            payload=report.payload,
            submitted_by_id=person_id(actor),
            submitted_at=now,
        )
        record("evidence.submitted", evidence, actor=actor, reason=report.summary, data=_facts(evidence))
        return evidence


def _check_code(kind: str, version: ModelVersion | None, name: str, code_digest: str, commit: str) -> None:
    if version is not None:
        raise InvalidInput({"version": f"A {kind} report is about code, not about a version: give its code_digest."})
    if name:
        raise InvalidInput({"name": f"Only a measurement has a name; {kind} has none."})
    if len(code_digest) != 64 or set(code_digest) - set("0123456789abcdef"):
        raise InvalidInput({"code_digest": "A SHA-256 in lower-case hexadecimal, over the code folder, is needed."})
    if len(commit) > 64:
        raise InvalidInput({"commit": "A commit has at most 64 characters."})


def _check_version(
    registered_model: RegisteredModel, version: ModelVersion | None, code_digest: str, commit: str
) -> None:
    if version is None:
        raise InvalidInput({"version": "A measurement is about one version: give its number as version."})
    if version.registered_model_id != registered_model.pk:
        raise InvalidInput({"version": f"{version} is no version of {registered_model}."})
    for field, given in (("code_digest", code_digest), ("commit", commit)):
        if given:
            raise InvalidInput({field: f"A measurement is about its version ({version}), which names its own code."})


def _named(payload: Any, name: str) -> Any:
    """The measurement with its name in it, wherever it was given; two that differ are refused."""
    if not name or not isinstance(payload, dict):
        return payload
    if payload.get("metric", name) != name:
        raise InvalidInput({"name": f"The report is of {payload['metric']!r}, not of {name!r}."})
    return {**payload, "metric": name}


def _facts(evidence: Evidence) -> dict[str, Any]:
    about: dict[str, Any] = {"code_digest": evidence.code_digest}
    if evidence.version is not None:
        about = {"version": evidence.version.number, "name": evidence.name}
    return {"kind": evidence.kind, "verdict": evidence.verdict, **about}


def missing_evidence(gate_run: GateRun) -> tuple[str, ...]:
    """What a run still waits for: kinds of reports, and measurements as "measurement: NAME"."""
    return reported.missing(gate_run.version, parse(gate_run.policy.document))


def evidence_about(version: ModelVersion) -> QuerySet[Evidence]:
    """Reports about exactly the code that made a version, and measurements of itself, oldest first."""
    about = Q(kind=EvidenceKind.MEASUREMENT, version=version)
    if version.code_digest:
        of_code = Q(registered_model_id=version.registered_model_id, code_digest=version.code_digest)
        about |= of_code & ~Q(kind=EvidenceKind.MEASUREMENT)
    return Evidence.objects.filter(about).order_by("id")
