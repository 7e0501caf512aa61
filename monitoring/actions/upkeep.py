"""Incidents about what carries the models: stale sources, background work that gave up, trainings that failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.trail import Actor, Service, record
from features.freshness import StaleSource, StaleView
from features.models import DataSource, FeatureViewVersion
from jobs import run as jobs_run
from jobs.models import Job, JobState
from monitoring import exposure
from monitoring.actions.incidents import raise_incident, resolve, resolve_cause
from monitoring.models import Candidate, Incident, IncidentKind, IncidentState
from monitoring.serving import Serving
from registry.models import AUDITORS, Duty, RegisteredModel, RunState, TrainingRun

LISTED = 20
LOG_TAIL = 2000


def report_stale_sources(stale: Sequence[StaleSource], *, actor: Actor, now: datetime) -> None:
    """One incident per stale source, naming the live models it feeds; those of sources that are fresh again close."""
    for each in stale:
        _raise_stale_source(each, actor=actor, now=now)
    stale_keys = {_freshness_cause(each.source) for each in stale}
    for incident in _unresolved(IncidentKind.FRESHNESS):
        if incident.cause_key not in stale_keys and not incident.cause_key.startswith(_VIEW):
            resolve(incident, actor=actor, reason="The source is fresh again.", now=now)


def report_stale_views(stale: Sequence[StaleView], *, actor: Actor, now: datetime) -> None:
    """One incident per stale view version, naming the live models it hurts; it closes when the view is fresh again.

    It closes too when the version is no longer served, or nothing is promised any more.
    """
    for each in stale:
        _raise_stale_view(each, actor=actor, now=now)
    stale_keys = {_view_cause(each.version) for each in stale}
    for incident in _unresolved(IncidentKind.FRESHNESS):
        if incident.cause_key not in stale_keys and incident.cause_key.startswith(_VIEW):
            reason = "It keeps its promise again, or is no longer served."
            resolve(incident, actor=actor, reason=reason, now=now)


_VIEW = f"{IncidentKind.FRESHNESS}:view:"
"""A source's name holds no colon, so no source's cause begins like this."""


def _freshness_cause(source: DataSource) -> str:
    return f"{IncidentKind.FRESHNESS}:{source.name}"


def _view_cause(version: FeatureViewVersion) -> str:
    return f"{_VIEW}{version}"


def _raise_stale_source(stale: StaleSource, *, actor: Actor, now: datetime) -> Incident:
    source = stale.source
    hurt = exposure.fed_by(source)
    feeds = f"It feeds the live models {', '.join(map(str, hurt))}." if hurt else "It feeds no live model."
    return raise_incident(
        kind=IncidentKind.FRESHNESS,
        duty=Duty.PLATFORM,
        registered_model=exposure.only_model(hurt),
        version=None,
        cause_key=_freshness_cause(source),
        title=f"Source {source.name} is stale",
        detail=f"{stale.problem} {feeds} Ask who delivers it; features older than their TTL are served as null.",
        evidence={
            "source": source.name,
            "newest": stale.newest.isoformat() if stale.newest else None,
            "promise_hours": stale.promise.total_seconds() / 3600,
            "age_hours": stale.age.total_seconds() / 3600 if stale.age is not None else None,
            "live_models": exposure.names(hurt),
            "hurts": [str(each) for each in hurt],
        },
        severity=exposure.severity(hurt),
        actor=actor,
        now=now,
        owner=source.owner,
    )


def _raise_stale_view(stale: StaleView, *, actor: Actor, now: datetime) -> Incident:
    version = stale.version
    hurt = exposure.consumers([version])
    sources = sorted(source.name for source in version.sources.all())
    return raise_incident(
        kind=IncidentKind.FRESHNESS,
        duty=Duty.PLATFORM,
        registered_model=exposure.only_model(hurt),
        version=None,
        cause_key=_view_cause(version),
        title=f"Feature view {version} is stale",
        detail=(
            f"{stale.problem} {exposure.in_words(hurt)} Look whether its sources ({', '.join(sources)}) still deliver, "
            "and whether its materialization runs."
        ),
        evidence={
            "view": str(version),
            "sources": sources,
            "newest": stale.newest.isoformat() if stale.newest else None,
            "promise_hours": stale.promise.total_seconds() / 3600,
            "age_hours": stale.age.total_seconds() / 3600,
            "live_models": exposure.names(hurt),
            "hurts": [str(each) for each in hurt],
        },
        severity=exposure.severity(hurt),
        actor=actor,
        now=now,
        owner=exposure.platform_group(hurt),
    )


def report_serving(found: Sequence[Serving], *, actor: Actor, now: datetime) -> None:
    """One incident per endpoint whose champion fails too often on real requests; it closes when it answers again.

    Endpoints with too little traffic to say keep what they have: no data neither opens nor closes.
    """
    for each in found:
        cause = f"{IncidentKind.SERVING}:{each.endpoint.name}"
        if each.is_failing:
            of = each.endpoint.registered_model
            raise_incident(
                kind=IncidentKind.SERVING,
                duty=Duty.PLATFORM,
                registered_model=of,
                version=of.champion(),
                cause_key=cause,
                title=f"{each.endpoint.title}: the champion fails",
                detail=f"{each.failed} of {each.asked} requests got no answer from the champion since "
                f"{each.since:%Y-%m-%d %H:%M}. They got the fallback. First error: {each.first_error}",
                evidence={"asked": each.asked, "failed": each.failed, "first_error": each.first_error},
                severity="high",
                actor=actor,
                now=now,
            )
        elif each.is_answering:
            resolve_cause(cause, actor=actor, reason=f"{each.asked} requests, {each.failed} failed.", now=now)


def report_dead_jobs(*, actor: Actor, now: datetime) -> None:
    """One incident per kind of background work that gave up; it closes when none of that kind is dead any more."""
    dead: dict[str, list[Job]] = {}
    for job in Job.objects.filter(state=JobState.DEAD).order_by("-id"):
        dead.setdefault(job.kind, []).append(job)
    for kind, jobs in dead.items():
        _raise_dead(kind, jobs, actor=actor, now=now)
    keys = {f"{IncidentKind.DEAD_JOB}:{kind}" for kind in dead}
    for incident in _unresolved(IncidentKind.DEAD_JOB):
        if incident.cause_key not in keys:
            resolve(incident, actor=actor, reason="No such job is dead any more.", now=now)


def redeliver(job: Job, *, reason: str, actor: Actor, now: datetime) -> None:
    """Give a job that gave up a fresh set of attempts; somebody with the platform duty of any model may.

    Raises Conflict when it is not dead (any more).
    """
    if not (isinstance(actor, Service) or may_redeliver(actor)):
        raise NotPermitted("Background work is redelivered by a group with the platform duty.")
    if not reason.strip():
        raise InvalidInput({"reason": "Say what was mended."})
    with transaction.atomic():
        if not jobs_run.redeliver(job):
            raise Conflict(f"{job} is not dead (any more): there is nothing to redeliver.")
        record("job.redelivered", job, actor=actor, reason=reason, data={"kind": job.kind, "error": job.error[:500]})


def may_redeliver(user: Any) -> bool:
    """Whether ``user`` has the platform duty of some model, and is not an auditor."""
    groups = user.groups.all()
    on_duty = RegisteredModel.objects.filter(platform__in=groups).exists()
    return bool(on_duty and not groups.filter(name=AUDITORS).exists())


def _raise_dead(kind: str, jobs: Sequence[Job], *, actor: Actor, now: datetime) -> Incident:
    last = (jobs[0].error.strip().splitlines() or ["no error was recorded"])[-1]
    return raise_incident(
        kind=IncidentKind.DEAD_JOB,
        duty=Duty.PLATFORM,
        registered_model=None,
        version=None,
        cause_key=f"{IncidentKind.DEAD_JOB}:{kind}",
        title=f"{len(jobs)} job{'s' if len(jobs) > 1 else ''} of {kind} gave up",
        detail=f"The last one after {jobs[0].attempts} attempts: {last}. Mend the cause, then redeliver them.",
        evidence={"jobs": [job.pk for job in jobs[:LISTED]], "count": len(jobs), "error": jobs[0].error[-LOG_TAIL:]},
        severity="high",
        actor=actor,
        now=now,
        owner=exposure.platform_group(),
    )


def report_failed_training(run: TrainingRun, *, actor: Actor, now: datetime) -> Incident:
    """A training run failed: data science looks into its log."""
    return raise_incident(
        kind=IncidentKind.TRAINING_FAILED,
        duty=Duty.DATA_SCIENCE,
        registered_model=run.registered_model,
        version=None,
        cause_key=_training_cause(run),
        title=f"Training of {run.pipeline} failed",
        detail=f"{run.state_reason} Read the log, mend the pipeline or its data, and train again.",
        evidence={
            "training_run": run.pk,
            "window": run.window,
            "automatic": Candidate.objects.filter(training_run=run).exists(),
            "log": run.log[-LOG_TAIL:],
        },
        severity="medium",
        actor=actor,
        now=now,
    )


def _training_cause(run: TrainingRun) -> str:
    return f"{IncidentKind.TRAINING_FAILED}:{run.pipeline}"


def close_mended_trainings(*, actor: Actor, now: datetime) -> None:
    """Resolve incidents of failed trainings whose pipeline has succeeded since."""
    for incident in _unresolved(IncidentKind.TRAINING_FAILED):
        failed = TrainingRun.objects.filter(pk=incident.evidence.get("training_run")).first()
        if failed is None:
            continue
        later = TrainingRun.objects.filter(pipeline=failed.pipeline, pk__gt=failed.pk, state=RunState.SUCCEEDED).first()
        if later is not None:
            resolve(incident, actor=actor, reason=f"{later} succeeded.", now=now)


def resolve_causes(cause_keys: Iterable[str], *, actor: Actor, reason: str, now: datetime) -> None:
    """Resolve the unresolved incident of each of these causes."""
    for key in cause_keys:
        resolve_cause(key, actor=actor, reason=reason, now=now)


def _unresolved(kind: IncidentKind) -> list[Incident]:
    return list(Incident.objects.filter(kind=kind).exclude(state=IncidentState.RESOLVED).order_by("id"))
