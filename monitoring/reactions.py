"""What monitoring does when something below it has ended: each takes one event, moves state, touches no engine."""

from __future__ import annotations

from audit import clock
from audit.models import Event
from audit.trail import Service
from gates.models import GateRun
from monitoring.actions import rollouts, upkeep
from monitoring.actions.retraining import proceed
from monitoring.models import Retraining
from registry.models import TrainingRun
from rollout.models import Endpoint, Rollout

MONITORING = Service("monitoring")


def on_training_failed(event: Event) -> None:
    """Tell data science, and let the retraining try its next window."""
    run = TrainingRun.objects.select_related("registered_model", "pipeline").get(pk=event.subject_id)
    upkeep.report_failed_training(run, actor=MONITORING, now=clock.now())
    _proceed(run, event)


def on_gates_ended(event: Event) -> None:
    """A candidate was judged: the retraining it belongs to takes its next step."""
    gate_run = GateRun.objects.select_related("version__training_run").get(pk=event.subject_id)
    if gate_run.version.training_run is not None:
        _proceed(gate_run.version.training_run, event)


def on_rollout_ended(event: Event) -> None:
    """Open or close incidents by how it ended, then let the retraining it belongs to go on."""
    rollout = Rollout.objects.select_related("registered_model", "version__training_run").get(pk=event.subject_id)
    rollouts.note_ended(rollout, actor=MONITORING, now=clock.now())
    if event.name == "rollout.rolled_back":
        rollouts.note_rolled_back(rollout, actor=MONITORING, now=clock.now())
    if event.name == "rollout.promoted":
        rollouts.note_promoted(rollout, actor=MONITORING, now=clock.now())
    if rollout.version.training_run is not None:
        _proceed(rollout.version.training_run, event)


def on_rollout_held(event: Event) -> None:
    """A rollout found too little evidence within its horizon: somebody should know."""
    rollout = Rollout.objects.select_related("registered_model", "version", "endpoint").get(pk=event.subject_id)
    if rollout.is_active:
        rollouts.note_held(rollout, reason=event.reason, actor=MONITORING, now=clock.now())


def on_traffic_adrift(event: Event) -> None:
    """Who splits an endpoint's traffic has not followed its route for long: the platform group should know."""
    endpoint = Endpoint.objects.select_related("registered_model__platform").get(pk=event.subject_id)
    rollouts.note_adrift(endpoint, reason=event.reason, data=event.data, actor=MONITORING, now=clock.now())


def on_traffic_restored(event: Event) -> None:
    """It follows again."""
    endpoint = Endpoint.objects.get(pk=event.subject_id)
    rollouts.note_following(endpoint, reason=event.reason, actor=MONITORING, now=clock.now())


def _proceed(run: TrainingRun, event: Event) -> None:
    retraining = Retraining.objects.filter(candidates__training_run=run).first()
    if retraining is not None:
        proceed(retraining, actor=MONITORING, now=clock.now())
