"""When the approach itself is in question: gather what was tried and what it cost, and propose a rethink."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from audit.trail import Actor
from monitoring import decide
from monitoring.actions.rethinks import UNSETTLED, propose_rethink
from monitoring.config import MonitorSettings, parse
from monitoring.models import (
    Candidate,
    DriftKind,
    DriftRun,
    Incident,
    IncidentKind,
    Monitor,
    Rethink,
    RethinkState,
    Retraining,
    RetrainingState,
)
from registry.models import ModelVersion, RegisteredModel

SHOWN = 10
"""A rethink shows so many of the newest retrainings."""


def question_refusals(retraining: Retraining, *, actor: Actor, now: datetime) -> Rethink | None:
    """Ask for a rethink when retrainings were refused too often in a row since the last settled one."""
    registered_model = retraining.registered_model
    settings = _settings(registered_model)
    history = decide.History(refused_in_a_row=_refused_in_a_row(registered_model))
    return _ask(history, registered_model, retraining.incident, settings, actor=actor, now=now)


def question_relapse(incident: Incident, version: ModelVersion, *, actor: Actor, now: datetime) -> Rethink | None:
    """Ask when a version decays so soon after a retraining brought it."""
    promoted = Retraining.objects.filter(
        registered_model=version.registered_model,
        state=RetrainingState.PROMOTED,
        candidates__training_run__version=version,
    ).first()
    settings = _settings(version.registered_model)
    history = decide.History(promoted_at=promoted.ended_at if promoted else None, decayed_at=now)
    return _ask(history, version.registered_model, incident, settings, actor=actor, now=now)


def question_repair(
    retraining: Retraining, *, best_gain: float | None, settings: MonitorSettings, actor: Actor, now: datetime
) -> Rethink | None:
    """Ask when the best candidate wins back too little of what decay cost. It is rolled out all the same."""
    if retraining.cause_kind != IncidentKind.DECAY:
        return None
    history = decide.History(loss=_loss(retraining), best_gain=best_gain)
    return _ask(history, retraining.registered_model, retraining.incident, settings, actor=actor, now=now)


def _ask(
    history: decide.History,
    registered_model: RegisteredModel,
    incident: Incident | None,
    settings: MonitorSettings,
    *,
    actor: Actor,
    now: datetime,
) -> Rethink | None:
    question = decide.rethink_question(history, settings)
    if not question or Rethink.objects.filter(registered_model=registered_model, state__in=UNSETTLED).exists():
        return None
    with transaction.atomic():
        return propose_rethink(
            registered_model=registered_model,
            question=question,
            evidence=evidence(registered_model, incident),
            due_in=timedelta(days=settings.rethink_due_days),
            actor=actor,
            now=now,
        )


def _settings(registered_model: RegisteredModel) -> MonitorSettings:
    monitor = Monitor.objects.filter(registered_model=registered_model).first()
    return parse(monitor.settings if monitor else {})


def _since_settled(registered_model: RegisteredModel) -> list[Retraining]:
    """Ended retrainings since the last rethink was declined or closed, newest first."""
    retrainings = Retraining.objects.filter(registered_model=registered_model, ended_at__isnull=False)
    settled = Rethink.objects.filter(
        registered_model=registered_model, state__in=(RethinkState.DECLINED, RethinkState.CLOSED)
    )
    last = settled.order_by("-state_since").first()
    if last is not None:
        retrainings = retrainings.filter(ended_at__gt=last.state_since)
    return list(retrainings.order_by("-id"))


def _refused_in_a_row(registered_model: RegisteredModel) -> int:
    """Refused ones before the last promoted one. A failed one could not be judged and does not count."""
    count = 0
    for retraining in _since_settled(registered_model):
        if retraining.state == RetrainingState.PROMOTED:
            return count
        count += retraining.state == RetrainingState.REFUSED
    return count


def _loss(retraining: Retraining) -> float | None:
    """The AUC that the champion had lost in the newest confirmed window before the retraining; None: not measured."""
    run = (
        DriftRun.objects.filter(
            registered_model=retraining.registered_model,
            version=retraining.champion_before,
            kind=DriftKind.PERFORMANCE,
            confirmed=True,
        )
        .order_by("-window_to")
        .first()
    )
    return run.scores.get("loss") if run else None


def evidence(registered_model: RegisteredModel, incident: Incident | None) -> dict[str, Any]:
    """What changed, what was tried with numbers, what it cost: as plain JSON, to be frozen in a rethink."""
    retrainings = Retraining.objects.filter(registered_model=registered_model).order_by("-id")[:SHOWN]
    tried = [_tried(each) for each in retrainings]
    candidates = [candidate for each in tried for candidate in each["candidates"]]
    seconds = [each["wall_seconds"] for each in candidates if each["wall_seconds"] is not None]
    return {
        "what_changed": _changed(registered_model, incident),
        "what_was_tried": tried,
        "what_it_cost": {
            "retrainings": len(tried),
            "training_runs": len(candidates),
            "training_wall_seconds": round(sum(seconds), 1),
        },
    }


def _changed(registered_model: RegisteredModel, incident: Incident | None) -> dict[str, Any]:
    windows = DriftRun.objects.filter(registered_model=registered_model).select_related("version")[: 2 * SHOWN]
    return {
        "incident": incident and {"id": incident.pk, "title": incident.title, "evidence": incident.evidence},
        "windows": [
            {
                "kind": run.kind,
                "version": str(run.version),
                "to": run.window_to.isoformat(),
                "verdict": run.verdict,
                "confirmed": run.confirmed,
                "summary": run.summary,
            }
            for run in windows
        ],
    }


def _tried(retraining: Retraining) -> dict[str, Any]:
    return {
        "retraining": retraining.pk,
        "cause": retraining.cause_kind,
        "started_at": retraining.started_at.isoformat(),
        "state": retraining.state,
        "reason": retraining.state_reason,
        "candidates": [_candidate(each) for each in retraining.candidates.select_related("training_run")],
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    run = candidate.training_run
    return {
        "window": candidate.window,
        "passed_gates": candidate.passed_gates,
        "gain": candidate.gain,
        "outcome": candidate.outcome,
        "wall_seconds": run.wall_seconds if run else None,
    }
