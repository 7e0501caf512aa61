"""What the replay came to: versions and where each ended, lead times, automation, incidents by owner."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from monitoring import delivery
from monitoring.models import Incident, IncidentState, Rethink, Retraining
from registry.models import Duty, ModelVersion, RegisteredModel
from rollout.models import Rollout

WIDTH = 112


def lines(registered_model: RegisteredModel, *, since: datetime, until: datetime) -> Iterator[str]:
    """The summary as it is printed."""
    yield from _versions(registered_model)
    yield from _retrainings(registered_model)
    report = delivery.report(since=since, until=until, models=[registered_model.pk])
    yield from _delivery(report)
    yield from _incidents(registered_model)
    yield from _rethinks(registered_model)


def title(text: str) -> Iterator[str]:
    yield ""
    yield f"── {text} {'─' * (WIDTH - len(text) - 4)}"


def _versions(registered_model: RegisteredModel) -> Iterator[str]:
    yield from title("Versions, and where each ended and why")
    champion = registered_model.champion()
    for version in registered_model.versions.order_by("number"):
        crown = "  ← champion" if version == champion else ""
        yield f"v{version.number:<3} {_what(version)}{crown}"
        yield f"     {_ending(version)}"


def _what(version: ModelVersion) -> str:
    run = version.training_run
    if run is None:
        return version.note
    algorithm = run.parameters.get("algorithm", run.pipeline.name)
    return f"{run.pipeline.name} ({algorithm}, {run.window.get('name', '')}), asked for by {run.trigger}"


def _ending(version: ModelVersion) -> str:
    rollout = Rollout.objects.filter(version=version).order_by("-id").first()
    if rollout is not None:
        return f"{rollout.state.replace('_', ' ')}: {rollout.state_reason}"
    run = version.gate_runs.order_by("-number").first()
    return f"gates {run.state}: {run.state_reason}" if run else "never judged"


def _retrainings(registered_model: RegisteredModel) -> Iterator[str]:
    yield from title("Retrainings that started by themselves")
    for retraining in Retraining.objects.filter(registered_model=registered_model).order_by("id"):
        days = (retraining.ended_at - retraining.started_at).days if retraining.ended_at else None
        took = f"{days} days" if days is not None else "under way"
        wall = _wall(retraining)
        yield (
            f"{retraining.started_at:%Y-%m-%d} because of {retraining.cause_kind}: "
            f"{retraining.state} ({took} of event time{wall})"
        )
        for candidate in retraining.candidates.all():
            yield f"     {candidate.window.get('name', '?')}: {candidate.outcome or 'under way'}"


def _wall(retraining: Retraining) -> str:
    if retraining.ended_wall is None:
        return ""
    return f", {(retraining.ended_wall - retraining.started_wall).total_seconds():.0f} s of wall time"


def _delivery(report: delivery.DeliveryReport) -> Iterator[str]:
    yield from title("Delivery")
    for lead in report.lead_times:
        yield f"{lead.version}: {_days(lead.event_time)} from request to champion ({lead.path})"
    for path in delivery.Path:
        median = report.median_lead(path)
        if median is not None:
            yield f"median, {path}: {_days(median)}"
    share = report.automatic_share
    steps = sum(step.total for step in report.steps)
    if share is not None:
        yield f"lifecycle steps without a human: {share:.0%} of {steps}"


def _days(span: timedelta) -> str:
    return f"{span.total_seconds() / 86400:.1f} days"


def _incidents(registered_model: RegisteredModel) -> Iterator[str]:
    yield from title("Incidents by owner")
    for duty in Duty:
        rows = Incident.objects.filter(duty=duty).order_by("opened_at")
        still = sum(row.state != IncidentState.RESOLVED for row in rows)
        yield f"{duty.label}: {len(rows)}, {still} open"
        for row in rows:
            yield f"     {row.opened_at:%Y-%m-%d} {row.state:<12} {row.title}"


def _rethinks(registered_model: RegisteredModel) -> Iterator[str]:
    yield from title("Rethinks")
    for rethink in Rethink.objects.filter(registered_model=registered_model).order_by("id"):
        yield f"{rethink.proposed_at:%Y-%m-%d} {rethink.state}: {rethink.question}"
