"""What is due when: the table behind the one ``tick`` (event time).

Everything here recomputes from stored state, so a slot that was missed or a task that was lost costs one period, never
correctness. django-q2 knows a single schedule row, ``mlops.schedules.tick`` each minute.
"""

from __future__ import annotations

from datetime import timedelta

from audit import clock
from jobs import tick as ticking
from jobs.tick import Schedule

SCHEDULES: tuple[Schedule, ...] = (
    Schedule("materialize", "features.materialize_due", every=timedelta(minutes=15)),
    Schedule("describe", "features.describe_due", every=timedelta(days=1)),
    Schedule("training-safety", "registry.reconcile", every=timedelta(minutes=10)),
    Schedule("lineage-safety", "registry.fold_lineage", every=timedelta(minutes=10)),
    Schedule("retention", "registry.remove_files", every=timedelta(days=1)),
    Schedule("gates-safety", "gates.reconcile", every=timedelta(minutes=10)),
    Schedule("rollouts", "rollout.reconcile", every=timedelta(minutes=10)),
    Schedule("traffic", "rollout.traffic", every=timedelta(minutes=1)),
    Schedule("prediction-log", "rollout.ingest", every=timedelta(minutes=1)),
    Schedule("decisions", "rollout.carry_out_due", every=timedelta(minutes=1)),
    Schedule("watch", "monitoring.watch", every=timedelta(hours=6)),
    Schedule("serving", "monitoring.serving", every=timedelta(minutes=15)),
    Schedule("gateways", "monitoring.gateways", every=timedelta(minutes=1)),
    Schedule("log-kept", "monitoring.prediction_log", every=timedelta(minutes=5)),
    Schedule("freshness", "monitoring.freshness", every=timedelta(hours=1)),
    Schedule("consistency", "monitoring.consistency", every=timedelta(hours=1)),
    Schedule("answers", "audit.forget_answers", every=timedelta(hours=1)),
    Schedule("seal", "audit.seal", every=timedelta(hours=1)),
    Schedule("verify-log", "audit.verify", every=timedelta(days=1)),
    Schedule("dead-jobs", "monitoring.dead_jobs", every=timedelta(minutes=5)),
    Schedule("loop-safety", "monitoring.reconcile", every=timedelta(minutes=10)),
)


def tick() -> None:
    """What the queue calls each minute: enqueue what is due, ring again for what was lost, forget what is long done."""
    ticking.tick(now=clock.now(), schedules=SCHEDULES)
    ticking.prune()
