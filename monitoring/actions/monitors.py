"""Monitors: how a model is watched, and what was found in each window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from audit.models import Event
from audit.trail import Actor, record
from monitoring import judge
from monitoring.config import MonitorSettings, parse
from monitoring.judge import Benchmark, DriftJudgement, FeatureJudged, PerformanceJudgement, PerformanceMeasured
from monitoring.models import DriftKind, DriftRun, Monitor
from monitoring.windows import Window
from registry import duties
from registry.models import Duty, ModelVersion, RegisteredModel


def configure(
    *, registered_model: RegisteredModel, settings: Mapping[str, Any], actor: Actor, reason: str, now: datetime
) -> Monitor:
    """Watch a model with these settings (MonitorSettings; what is left out keeps its default)."""
    duties.require(actor, registered_model, Duty.DATA_SCIENCE)
    document = parse(settings).model_dump(mode="json", exclude_unset=True)
    with transaction.atomic():
        monitor, created = Monitor.objects.select_for_update().get_or_create(
            registered_model=registered_model, defaults={"settings": document, "created_at": now}
        )
        before = {} if created else monitor.settings
        if created or before != document:
            Monitor.objects.filter(pk=monitor.pk).update(settings=document)
            monitor.settings = document
            changes = {"before": before, "after": document}
            record("monitor.configured", monitor, actor=actor, reason=reason, data=changes)
        return monitor


def record_drift(
    monitor: Monitor,
    version: ModelVersion,
    window: Window,
    judgement: DriftJudgement,
    *,
    rows: int,
    answered: int,
    references: Mapping[str, str],
    settings: MonitorSettings,
    actor: Actor,
    now: datetime,
) -> tuple[DriftRun, Event | None]:
    """Write the window down with its event: ``drift.confirmed`` for drift that persisted, else ``window.judged``.

    Only the confirming event is returned: it causes what follows.
    """
    earlier = _earlier(monitor, version, DriftKind.DRIFT, settings.persistence_of - 1)
    confirmed = judge.persistent(judgement.moved, [frozenset(run.scores.get("moved", ())) for run in earlier], settings)
    scores = {
        "references": dict(references),
        "answered": answered,
        "alpha": judgement.alpha,
        "moved": sorted(judgement.moved),
        "noted": sorted(judgement.noted),
        "confirmed": sorted(confirmed),
        "is_broken": judgement.is_broken,
        "problems": list(judgement.problems),
        "features": {each.measured.name: _feature_scores(each) for each in judgement.features},
    }
    run = _write(
        monitor,
        version,
        DriftKind.DRIFT,
        window,
        judgement.verdict,
        judgement.summary,
        bool(confirmed),
        rows,
        scores,
        now,
    )
    if not confirmed or judgement.is_broken:
        _record_window(run, window, actor=actor)
        return run, None
    data = {"window": str(window), "features": sorted(confirmed), "drift_run": run.pk}
    return run, record("drift.confirmed", monitor, actor=actor, reason=judgement.summary, data=data)


def record_performance(
    monitor: Monitor,
    version: ModelVersion,
    window: Window,
    judgement: PerformanceJudgement,
    *,
    measured: PerformanceMeasured,
    benchmark: Benchmark | None,
    settings: MonitorSettings,
    actor: Actor,
    now: datetime,
) -> tuple[DriftRun, Event | None]:
    """Write the window down with its event: ``decay.confirmed`` when it persisted or is gross, else ``window.judged``.

    Only the confirming event is returned: it causes what follows.
    """
    earlier = _earlier(monitor, version, DriftKind.PERFORMANCE, settings.persistence_of - 1)
    confirmed = judge.decay_confirmed(judgement, [run.verdict for run in earlier], settings)
    intervals = {"roc_auc": measured.auc, "brier": measured.brier, "calibration_gap": measured.calibration_gap}
    scores = {
        **{name: interval.as_dict() if interval else None for name, interval in intervals.items()},
        "matured": measured.matured,
        "labelled": measured.labelled,
        "coverage": measured.coverage,
        "benchmark": {"value": benchmark.value, "source": benchmark.source} if benchmark else None,
        "loss": judgement.loss,
        "is_gross": judgement.is_gross,
    }
    run = _write(
        monitor,
        version,
        DriftKind.PERFORMANCE,
        window,
        judgement.verdict,
        judgement.summary,
        confirmed,
        measured.labelled,
        scores,
        now,
    )
    if not confirmed:
        _record_window(run, window, actor=actor)
        return run, None
    data = {"window": str(window), "loss": judgement.loss, "drift_run": run.pk}
    return run, record("decay.confirmed", monitor, actor=actor, reason=judgement.summary, data=data)


def _record_window(run: DriftRun, window: Window, *, actor: Actor) -> None:
    """A window that confirmed nothing: the log tells of it all the same, so that a report can show it as of then."""
    data = {"kind": run.kind, "window": str(window), "verdict": run.verdict, "drift_run": run.pk}
    record("window.judged", run, actor=actor, reason=run.summary, data=data)


def recent_verdicts(monitor: Monitor, version: ModelVersion, kind: str, count: int) -> list[str]:
    """Verdicts of the newest windows of a version, newest first."""
    return [run.verdict for run in _earlier(monitor, version, kind, count)]


def _earlier(monitor: Monitor, version: ModelVersion, kind: str, count: int) -> Sequence[DriftRun]:
    runs = DriftRun.objects.filter(monitor=monitor, version=version, kind=kind)
    return list(runs.order_by("-window_to")[: max(0, count)])


def _write(
    monitor: Monitor,
    version: ModelVersion,
    kind: str,
    window: Window,
    verdict: str,
    summary: str,
    confirmed: bool,
    rows: int,
    scores: Mapping[str, Any],
    now: datetime,
) -> DriftRun:
    return DriftRun.objects.create(
        monitor=monitor,
        registered_model=monitor.registered_model,
        version=version,
        kind=kind,
        window_from=window.start,
        window_to=window.end,
        verdict=verdict,
        confirmed=confirmed,
        summary=summary,
        rows=rows,
        scores=dict(scores),
        at=now,
    )


def _feature_scores(each: FeatureJudged) -> dict[str, Any]:
    effect = each.measured.effect
    return {
        "n": each.measured.n,
        "effect": effect.debiased if effect else None,
        "raw_effect": effect.distance if effect else None,
        "p_value": each.p_value,
        "tolerance": each.tolerance,
        "calibrated": each.measured.calibrated,
        "psi": each.measured.psi,
        "null_share": each.measured.null_share,
        "normal_nulls": each.measured.normal_nulls,
        "unseen_share": each.measured.unseen_share,
        "out_of_range_share": each.measured.out_of_range_share,
        "importance": each.importance,
        "flagged": each.flagged,
        "matters": each.matters,
        "problems": list(each.problems),
    }
