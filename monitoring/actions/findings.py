"""What follows from a judged window, in this order: broken data, unimportant drift, confirmed drift or decay."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from audit.errors import Conflict
from audit.models import Event
from audit.trail import Actor, because_of
from monitoring import judge
from monitoring.actions import approach, monitors
from monitoring.actions.incidents import raise_incident, resolve_cause
from monitoring.actions.retraining import held_back, settings_of, start_retraining
from monitoring.config import MonitorSettings
from monitoring.models import DriftKind, DriftRun, Incident, IncidentKind, IncidentState, Retraining
from registry.models import Duty, RegisteredModel


def cause(kind: str, registered_model: RegisteredModel) -> str:
    """The key under which incidents of a model's windows are one: the kind and the model."""
    return f"{kind}:{registered_model.name}"


def act_on_drift(run: DriftRun, event: Event | None, *, settings: MonitorSettings, actor: Actor, now: datetime) -> None:
    """Broken data blocks retraining and goes to platform; confirmed drift goes to data science and retrains."""
    registered_model = run.registered_model
    if run.scores["is_broken"]:
        _raise_data_incident(run, actor=actor, now=now)
        return
    if run.verdict != judge.INCONCLUSIVE:
        reason = f"The window {run.window_from:%Y-%m-%d} to {run.window_to:%Y-%m-%d} arrived whole."
        resolve_cause(cause(IncidentKind.DATA, registered_model), actor=actor, reason=reason, now=now)
    if event is not None:
        with because_of(event):
            incident = _raise_drift_incident(run, actor=actor, now=now)
            try_retraining(incident, settings=settings, actor=actor, now=now)
    else:
        _resolve_when_quiet(run, IncidentKind.DRIFT, settings, actor=actor, now=now)


def act_on_performance(
    run: DriftRun, event: Event | None, *, settings: MonitorSettings, actor: Actor, now: datetime
) -> None:
    """Confirmed decay goes to data science; it retrains, or asks for a rethink if that has just been tried."""
    if event is None:
        _resolve_when_quiet(run, IncidentKind.DECAY, settings, actor=actor, now=now)
        return
    with because_of(event):
        incident = _raise_decay_incident(run, actor=actor, now=now)
        if approach.question_relapse(incident, run.version, actor=actor, now=now) is None:
            try_retraining(incident, settings=settings, actor=actor, now=now)


def try_retraining(incident: Incident, *, settings: MonitorSettings, actor: Actor, now: datetime) -> Retraining | None:
    """Start the retraining that an incident calls for; None when a brake holds (the reconciliation tries again)."""
    registered_model = incident.registered_model
    if registered_model is None or incident.kind not in settings.retrain_on:
        return None
    if held_back(registered_model, now=now):
        return None
    try:
        with transaction.atomic(), because_of(Event.objects.about(incident).last()):
            return start_retraining(
                registered_model=registered_model, incident=incident, cause_kind=incident.kind, actor=actor, now=now
            )
    except Conflict:
        return None  # somebody started a training between our look and our write


def retry_waiting(*, actor: Actor, now: datetime) -> list[Retraining]:
    """Try again for every unresolved drift or decay incident: a brake may have been released meanwhile."""
    waiting = Incident.objects.filter(
        kind__in=(IncidentKind.DECAY, IncidentKind.DRIFT), registered_model__isnull=False
    ).exclude(state=IncidentState.RESOLVED)
    started = []
    for incident in waiting.select_related("registered_model").order_by("kind", "id"):
        settings = settings_of(incident.registered_model)  # type: ignore[arg-type]  # filtered above
        if retraining := try_retraining(incident, settings=settings, actor=actor, now=now):
            started.append(retraining)
    return started


def _raise_data_incident(run: DriftRun, *, actor: Actor, now: datetime) -> Incident:
    registered_model = run.registered_model
    problems = run.scores["problems"]
    return raise_incident(
        kind=IncidentKind.DATA,
        duty=Duty.PLATFORM,
        registered_model=registered_model,
        version=run.version,
        cause_key=cause(IncidentKind.DATA, registered_model),
        title=f"Broken input data of {registered_model}",
        detail=(
            f"{'; '.join(problems)}. Find the source that feeds these features and mend it. Until a window arrives "
            "whole, nothing retrains: a model must not learn a fault."
        ),
        evidence={"drift_run": run.pk, "problems": problems},
        severity="high",
        actor=actor,
        now=now,
    )


def _raise_drift_incident(run: DriftRun, *, actor: Actor, now: datetime) -> Incident:
    registered_model = run.registered_model
    names = run.scores["confirmed"]
    features = {name: run.scores["features"][name] for name in names}
    return raise_incident(
        kind=IncidentKind.DRIFT,
        duty=Duty.DATA_SCIENCE,
        registered_model=registered_model,
        version=run.version,
        cause_key=cause(IncidentKind.DRIFT, registered_model),
        title=f"Drift of {registered_model}: {', '.join(names[:3])}" + (" and others" if len(names) > 3 else ""),
        detail=(
            f"{run.summary} Look whether the world changed or a source did. A retraining starts by itself when nothing "
            "holds it back; the incident closes when a new version serves or the windows are quiet again."
        ),
        evidence={"drift_run": run.pk, "features": features},
        severity="medium",
        actor=actor,
        now=now,
    )


def _raise_decay_incident(run: DriftRun, *, actor: Actor, now: datetime) -> Incident:
    registered_model = run.registered_model
    return raise_incident(
        kind=IncidentKind.DECAY,
        duty=Duty.DATA_SCIENCE,
        registered_model=registered_model,
        version=run.version,
        cause_key=cause(IncidentKind.DECAY, registered_model),
        title=f"{run.version} answers worse than its gates measured",
        detail=(
            f"{run.summary} A retraining starts by itself when nothing holds it back; the product group "
            f"({registered_model.product}) decides whether the model is used meanwhile."
        ),
        evidence={
            "drift_run": run.pk,
            **{name: run.scores[name] for name in ("roc_auc", "brier", "benchmark", "loss")},
        },
        severity="high",
        actor=actor,
        now=now,
    )


def _resolve_when_quiet(
    run: DriftRun, kind: IncidentKind, settings: MonitorSettings, *, actor: Actor, now: datetime
) -> None:
    watched = DriftKind.DRIFT if kind == IncidentKind.DRIFT else DriftKind.PERFORMANCE
    verdicts = monitors.recent_verdicts(run.monitor, run.version, watched, settings.quiet_windows)
    if judge.is_quiet(verdicts, settings):
        reason = f"{settings.quiet_windows} quiet windows in a row."
        resolve_cause(cause(kind, run.registered_model), actor=actor, reason=reason, now=now)
