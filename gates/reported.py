"""What pipelines have told of a version: reports about its code, measurements of itself. As plain JSON, up to a moment.

The checks of evidence are judged from this alone, by a run that is measured and by one whose deadline passed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from gates import judge
from gates.frozen import Json
from gates.judge import Judgement
from gates.models import Evidence, EvidenceKind, GateRun
from gates.policy import CiEvidenceCheck, CustomCheck, PolicyDocument, parse
from registry.models import ModelVersion


def about_code(version: ModelVersion) -> QuerySet[Evidence]:
    """Reports of CI about exactly the code that made a version, oldest first. None where it names no code."""
    about = Evidence.objects.exclude(kind=EvidenceKind.MEASUREMENT).order_by("id")
    if not version.code_digest:
        return about.none()
    return about.filter(registered_model_id=version.registered_model_id, code_digest=version.code_digest)


def about_version(version: ModelVersion) -> QuerySet[Evidence]:
    """Measurements of exactly this version, oldest first."""
    return Evidence.objects.filter(kind=EvidenceKind.MEASUREMENT, version=version).order_by("id")


def ci(run: GateRun, until: datetime) -> Json:
    """The newest report of each kind that had come by ``until``: of any commit, and of the version's own.

    All kinds, so that another rule can be tried on them.
    """
    version = run.version
    reports: dict[str, dict[str, Json]] = {"any": {}, "exact": {}}
    for each in about_code(version).filter(submitted_at__lte=until):
        told = _report(each)
        reports["any"][each.kind] = told
        if version.commit and each.commit == version.commit:
            reports["exact"][each.kind] = told
    return {
        "code_digest": version.code_digest,
        "commit": version.commit,
        "dirty": version.dirty,
        "reports": reports,
        "began": until.isoformat(),
        "deadline": run.deadline.isoformat(),
    }


def _report(evidence: Evidence) -> Json:
    return {
        "evidence": evidence.pk,
        "verdict": evidence.verdict,
        "summary": evidence.summary,
        "commit": evidence.commit,
        "submitted_at": evidence.submitted_at.isoformat(),
        "tests": evidence.payload.get("tests"),
        "share": evidence.payload.get("share"),
    }


def measurements(run: GateRun, until: datetime) -> Json:
    """The newest measurement under each name that had come by ``until``."""
    newest: dict[str, Json] = {}
    for each in about_version(run.version).filter(submitted_at__lte=until):
        numbers = {part: each.payload.get(part) for part in ("value", "n", "low", "high", "confidence")}
        newest[each.name] = {"evidence": each.pk, "submitted_at": each.submitted_at.isoformat(), **numbers}
    return {
        "version": str(run.version),
        "measurements": newest,
        "began": until.isoformat(),
        "deadline": run.deadline.isoformat(),
    }


def missing(version: ModelVersion, document: PolicyDocument) -> tuple[str, ...]:
    """What a policy asks to be told of a version and nobody has: kinds of reports, and "measurement: NAME".

    What can never come is not waited for: reports about a version that names no code, or, where the commit must be
    exact, one that names no commit or was made from a dirty tree.
    """
    of_code = list(about_code(version).values_list("kind", "commit")) if version.code_digest else []
    measured = set(about_version(version).values_list("name", flat=True)) if document.required_measurements else set()
    lacking: list[str] = []
    for check in document.checks:
        if isinstance(check, CiEvidenceCheck) and _can_come(check, version):
            exact = check.commit == "exact"
            there = {kind for kind, commit in of_code if not exact or commit == version.commit}
            lacking += [kind for kind in check.require if kind not in there]
    lacking += [f"measurement: {name}" for name in document.required_measurements if name not in measured]
    return tuple(dict.fromkeys(lacking))


def _can_come(check: CiEvidenceCheck, version: ModelVersion) -> bool:
    has_commit = bool(version.commit) and not version.dirty
    return bool(version.code_digest) and (check.commit == "any" or has_commit)


def evidence_judgements(run: GateRun, now: datetime) -> list[tuple[Judgement, Json]]:
    """Every check that looks at evidence alone, judged by what had come by ``now``, with what was judged."""
    judged: list[tuple[Judgement, Any]] = []
    for check in parse(run.policy.document).checks:
        if isinstance(check, CiEvidenceCheck):
            told = ci(run, now)
            judged.append((judge.ci_evidence.judge(check, told), told))
        elif isinstance(check, CustomCheck):
            told = measurements(run, now)
            judged.append((judge.custom.judge(check, told), told))
    return judged
