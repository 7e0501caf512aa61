"""The background work of monitoring: watch what is live, look after what carries it, and pick up lost steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from audit import clock
from audit.trail import Service
from features.consistency import keep
from features.freshness import stale_sources, stale_views
from jobs.run import Work, enqueue, handler
from monitoring import benchmark, gateways, judge, live, measure, served, spools
from monitoring.actions import consistency, findings, monitors, upkeep
from monitoring.actions import gateways as gateway_actions
from monitoring.actions import spools as spool_actions
from monitoring.actions.retraining import proceed
from monitoring.models import RETRAINING_OPEN, Monitor, Retraining
from monitoring.serving import serving_of
from monitoring.windows import Window
from registry.models import Alias
from rollout.models import Endpoint

WATCH = Service("monitoring")


@handler("monitoring.watch")
def watch(work: Work) -> None:
    """Ask for a judgement of each live model with a closed window. Every champion is watched, if only loosely."""
    now = clock.now()
    for alias in Alias.objects.filter(name=Alias.CHAMPION, registered_model__monitor__isnull=True):
        monitors.configure(
            registered_model=alias.registered_model,
            settings={},
            actor=WATCH,
            reason="It is live and nobody had said how to watch it.",
            now=now,
        )
    for reign in live.reigns(list(Monitor.objects.all())):
        if due := live.due(reign, now=now):
            key = f"monitoring.judge:{reign.monitor.pk}:{reign.version.pk}:{due}"
            enqueue("monitoring.judge", key=key, payload={"monitor": reign.monitor.pk})


@dataclass(frozen=True)
class _Drift:
    window: Window
    measured: measure.DriftMeasured


@dataclass(frozen=True)
class _Performance:
    window: Window
    measured: judge.PerformanceMeasured


@handler("monitoring.judge", computes=True)
def judge_closed_windows(work: Work) -> None:
    """Measure every closed window of one champion, then write the judgements down and act on them, at once."""
    now = clock.now()
    reigns = live.reigns(list(Monitor.objects.select_related("registered_model").filter(pk=work.payload["monitor"])))
    due = live.due(reigns[0], now=now) if reigns else live.Due((), ())
    drift = _measure_drift(reigns[0], due.drift) if reigns else []
    performance = [
        _Performance(each, measure.performance(reigns[0].version, each, reigns[0].settings, as_of=now))
        for each in due.performance
    ]
    with work.finishing({"drift": len(drift), "performance": len(performance)}):
        for window in drift:
            _record_drift(reigns[0], window, now)
        for outcome in performance:
            _record_performance(reigns[0], outcome, now)


def _measure_drift(reign: live.Reign, windows: Sequence[Window]) -> list[_Drift]:
    """Oldest first; the first one with enough answers is the reference of the answers in those that follow."""
    first = live.first_served(reign)
    found = []
    for window in windows:
        measured = measure.drift(reign.version, window, reign.settings, first_served=first)
        found.append(_Drift(window, measured))
        if first is None and measured.answered >= reign.settings.minimum_rows:
            first = window
    return found


def _record_drift(reign: live.Reign, window: _Drift, now: datetime) -> None:
    measured = window.measured
    judgement = judge.judge_drift(
        measured.features, rows=measured.rows, importance=reign.version.importance, settings=reign.settings
    )
    run, event = monitors.record_drift(
        reign.monitor,
        reign.version,
        window.window,
        judgement,
        rows=measured.rows,
        answered=measured.answered,
        references=measured.references,
        settings=reign.settings,
        actor=WATCH,
        now=now,
    )
    findings.act_on_drift(run, event, settings=reign.settings, actor=WATCH, now=now)


def _record_performance(reign: live.Reign, window: _Performance, now: datetime) -> None:
    compared_with = benchmark.of_version(reign.version)
    judgement = judge.judge_performance(window.measured, compared_with, reign.settings)
    run, event = monitors.record_performance(
        reign.monitor,
        reign.version,
        window.window,
        judgement,
        measured=window.measured,
        benchmark=compared_with,
        settings=reign.settings,
        actor=WATCH,
        now=now,
    )
    findings.act_on_performance(run, event, settings=reign.settings, actor=WATCH, now=now)


@handler("monitoring.freshness", computes=True)
def freshness(work: Work) -> None:
    """Open an incident for each source and view that breaks its promise, close those of what keeps it again."""
    now = clock.now()
    sources, views = stale_sources(now=now), stale_views(now=now)
    with work.finishing({"stale": [*(each.source.name for each in sources), *(str(each.version) for each in views)]}):
        upkeep.report_stale_sources(sources, actor=WATCH, now=now)
        upkeep.report_stale_views(views, actor=WATCH, now=now)


@handler("monitoring.consistency", computes=True)
def audit_consistency(work: Work) -> None:
    """Recompute a sample of what was served since the last audit; a view above its limit is an incident."""
    now = clock.now()
    audit = served.audit(now=now)
    served.forget_read(now=now)
    cells = sum(counts.cells for each in audit.compared for counts in each.features.values())
    with work.finishing({"cells": cells, "problems": list(audit.problems)}):
        checks = keep(audit.compared, now=now, since=audit.since)
        consistency.report_consistency(checks, actor=WATCH, now=now)


@handler("monitoring.serving", computes=True)
def serving(work: Work) -> None:
    """A champion that fails on live requests is an incident at once: the fallback hides it from everybody else."""
    now = clock.now()
    found = [serving_of(endpoint, now=now) for endpoint in Endpoint.objects.select_related("registered_model")]
    with work.finishing({each.endpoint.name: each.failed for each in found if each.failed}):
        upkeep.report_serving(found, actor=WATCH, now=now)


@handler("monitoring.prediction_log")
def prediction_log_kept(work: Work) -> None:
    """Rows that the log lost, and disks that fill up, are the platform group's to mend."""
    now = clock.now()
    spool_actions.report_spools(spools.spools(now=now), actor=WATCH, now=now)


@handler("monitoring.gateways")
def gateways_seen(work: Work) -> None:
    """Gateways that fell silent, and versions that they refuse to serve, are the platform group's to mend."""
    now = clock.now()
    gateway_actions.report_gateways(gateways.gateways(now=now), actor=WATCH, now=now)


@handler("monitoring.dead_jobs")
def dead_jobs(work: Work) -> None:
    """Background work that gave up is somebody's to mend."""
    upkeep.report_dead_jobs(actor=WATCH, now=clock.now())


@handler("monitoring.reconcile")
def reconcile(work: Work) -> None:
    """Recompute from stored state what should go on: lost steps of retrainings, and those that waited for a brake."""
    now = clock.now()
    for retraining in Retraining.objects.filter(state__in=RETRAINING_OPEN).order_by("id"):
        proceed(retraining, actor=WATCH, now=now)
    findings.retry_waiting(actor=WATCH, now=now)
    upkeep.close_mended_trainings(actor=WATCH, now=now)
