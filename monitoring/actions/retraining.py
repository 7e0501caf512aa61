"""The closed loop: confirmed drift or decay asks for candidates, the gates judge them, the best one is rolled out.

A retraining trains each window that the model's automatic pipeline declares, one after the other, waits for each
candidate's gates, and rolls out the passing one with the largest gain. ``proceed`` looks at what has happened and takes
the next step; reactions and the reconciliation both call it, so a lost event costs time, never a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit.errors import Conflict
from audit.models import Event
from audit.trail import Actor, because_of, record
from gates.models import ENDED, GateRun, GateRunState
from monitoring import benchmark, decide
from monitoring.actions import approach
from monitoring.actions.rethinks import UNSETTLED
from monitoring.config import MonitorSettings, parse
from monitoring.models import (
    RETRAINING_OPEN,
    Candidate,
    Incident,
    IncidentKind,
    IncidentState,
    Monitor,
    Rethink,
    Retraining,
    RetrainingState,
)
from registry import duties
from registry.actions import request_training
from registry.models import Duty, ModelVersion, RegisteredModel, RunState, TrainingPipeline, TrainingRun
from rollout.actions import propose
from rollout.models import ACTIVE, Rollout, RolloutState

UNDER_WAY = (RolloutState.PENDING, *ACTIVE)


def settings_of(registered_model: RegisteredModel) -> MonitorSettings:
    """The model's monitor settings; the defaults when it has no monitor yet."""
    monitor = Monitor.objects.filter(registered_model=registered_model).first()
    return parse(monitor.settings if monitor else {})


def automatic_pipeline(registered_model: RegisteredModel) -> TrainingPipeline | None:
    """The pipeline that may train by itself: the champion's own if it may, else the first that may."""
    able = registered_model.pipelines.filter(automatic=True, service__retired_at=None)
    champion = registered_model.champion()
    run = champion.training_run if champion else None
    return (able.filter(pk=run.pipeline_id).first() if run else None) or able.order_by("id").first()


def held_back(registered_model: RegisteredModel, *, now: datetime) -> str:
    """Why no retraining may start now, in words; empty when one may."""
    return decide.brake(_circumstances(registered_model, now), settings_of(registered_model), now=now)


def _circumstances(registered_model: RegisteredModel, now: datetime) -> decide.Circumstances:
    pipeline = automatic_pipeline(registered_model)
    of_model = {"registered_model": registered_model}
    rethink = Rethink.objects.filter(**of_model, state__in=UNSETTLED).first()
    broken = Incident.objects.filter(**of_model, kind=IncidentKind.DATA).exclude(state=IncidentState.RESOLVED).first()
    retraining = Retraining.objects.filter(**of_model, state__in=RETRAINING_OPEN).first()
    training = TrainingRun.objects.filter(**of_model, state__in=(RunState.REQUESTED, RunState.RUNNING)).first()
    rollout = Rollout.objects.filter(**of_model, state__in=UNDER_WAY).first()
    ended = Retraining.objects.filter(**of_model, ended_at__isnull=False).order_by("-ended_at").first()
    asked = Candidate.objects.filter(
        retraining__registered_model=registered_model, training_run__requested_at__gt=now - decide.MONTH
    )
    return decide.Circumstances(
        automation=registered_model.automation,
        windows=len(pipeline.windows) if pipeline else None,
        open_rethink=f"rethink {rethink.pk}" if rethink else "",
        data_incident=str(broken) if broken else "",
        open_retraining=f"retraining {retraining.pk}" if retraining else "",
        open_training=f"training run {training.pk}" if training else "",
        active_rollout=f"the rollout of {rollout}" if rollout else "",
        last_ended=ended.ended_at if ended else None,
        asked=asked.count(),
    )


def start_retraining(
    *, registered_model: RegisteredModel, incident: Incident | None, cause_kind: str, actor: Actor, now: datetime
) -> Retraining:
    """Open the loop and ask for its first candidate. Raises Conflict with the reason while a brake holds it back."""
    duties.require(actor, registered_model, Duty.DATA_SCIENCE)
    if why_not := held_back(registered_model, now=now):
        raise Conflict(f"No retraining of {registered_model} now: {why_not}.")
    pipeline = automatic_pipeline(registered_model)
    if pipeline is None:
        raise Conflict(f"{registered_model} has no pipeline that may train by itself.")
    reason = str(incident) if incident else cause_kind
    try:
        with transaction.atomic():
            retraining = Retraining.objects.create(
                registered_model=registered_model,
                incident=incident,
                cause_kind=cause_kind,
                state=RetrainingState.TRAINING,
                state_reason=reason,
                state_since=now,
                started_at=now,
                champion_before=registered_model.champion(),
            )
            data = {"incident": incident.pk if incident else None, "windows": pipeline.windows}
            event = record("retraining.started", retraining, actor=actor, reason=reason, data=data)
            with because_of(event):
                _train(retraining, pipeline, 1, actor=actor, now=now)
            return retraining
    except IntegrityError as problem:
        raise Conflict(f"A retraining of {registered_model} was started meanwhile.") from problem


def _train(retraining: Retraining, pipeline: TrainingPipeline, position: int, *, actor: Actor, now: datetime) -> None:
    """Ask for the candidate of one declared window. Raises Conflict while another training of the model is open."""
    window = pipeline.windows[position - 1]
    run = request_training(
        pipeline,
        window=window,
        trigger=retraining.cause_kind,
        held=True,
        parameters=None,
        actor=actor,
        reason=f"{retraining}, window {window.get('name', position)}",
        now=now,
    )
    Candidate.objects.create(retraining=retraining, position=position, window=window, training_run=run)


def proceed(retraining: Retraining, *, actor: Actor, now: datetime) -> None:
    """Take the next step of a retraining, if what it waits for has happened."""
    with transaction.atomic():
        locked = Retraining.objects.select_for_update().get(pk=retraining.pk)
        if locked.state in (RetrainingState.TRAINING, RetrainingState.JUDGING):
            _proceed_judging(locked, actor=actor, now=now)
        elif locked.state == RetrainingState.ROLLING_OUT:
            _proceed_rolling_out(locked, actor=actor, now=now)


@dataclass(frozen=True)
class _Finding:
    """How a candidate came out of training and gates. ``passed`` is None when it could not be judged."""

    outcome: str
    passed: bool | None
    gain: float | None = None


def _proceed_judging(retraining: Retraining, *, actor: Actor, now: datetime) -> None:
    newest = retraining.candidates.select_related("training_run").order_by("-position").first()
    if newest is None or newest.training_run is None:
        return
    judged = Event.objects.about(retraining).last()
    if not newest.outcome:
        finding = _finding(newest.training_run)
        if finding is None:
            return
        judged = _write_down(retraining, newest, finding, actor=actor)
    pipeline = newest.training_run.pipeline
    with because_of(judged):
        if newest.position >= len(pipeline.windows):
            _choose(retraining, actor=actor, now=now)
        else:
            _train_next(retraining, pipeline, newest.position + 1, actor=actor, now=now)


def _train_next(
    retraining: Retraining, pipeline: TrainingPipeline, position: int, *, actor: Actor, now: datetime
) -> None:
    reason = f"candidate {position} of {len(pipeline.windows)}"
    try:
        with transaction.atomic():
            event = retraining.move(RetrainingState.TRAINING, actor=actor, reason=reason)
            with because_of(event):
                _train(retraining, pipeline, position, actor=actor, now=now)
    except Conflict:
        retraining.refresh_from_db()  # a person's training run is open; the reconciliation comes back


def _finding(run: TrainingRun) -> _Finding | None:
    """What became of a candidate so far; None while it trains or its gates are open."""
    if run.state in (RunState.FAILED, RunState.CANCELLED):
        return _Finding(f"training {run.state}: {run.state_reason}", None)
    version = ModelVersion.objects.filter(training_run=run).first()
    if version is None and run.state == RunState.SUCCEEDED:
        return _Finding("training brought a version that exists already", False)
    gate_run = newest_gate_run(version) if version else None
    if gate_run is None or gate_run.state not in ENDED:
        return None
    gain = benchmark.gain(gate_run)
    value = gain.value if gain else None
    if gate_run.state == GateRunState.PASSED:
        return _Finding(
            f"{version} passed its gates" + (f", gain {value:+.4f}" if value is not None else ""), True, value
        )
    if gate_run.state == GateRunState.ERROR:
        return _Finding(f"{version}: gates could not judge: {gate_run.state_reason}", None, value)
    why = "; ".join(benchmark.failures(gate_run)) or gate_run.state_reason
    return _Finding(f"{version} {gate_run.state}: {why}", False, value)


def newest_gate_run(version: ModelVersion) -> GateRun | None:
    """The gate run that counts: the version's last."""
    return version.gate_runs.order_by("-number").first()


def _write_down(retraining: Retraining, candidate: Candidate, finding: _Finding, *, actor: Actor) -> Event:
    candidate.outcome = finding.outcome[:200]
    candidate.passed_gates = finding.passed
    candidate.gain = finding.gain
    candidate.save(update_fields=["outcome", "passed_gates", "gain"])
    data = {"candidate": candidate.position, "passed": finding.passed, "gain": finding.gain}
    return retraining.move(RetrainingState.JUDGING, actor=actor, reason=finding.outcome, data=data)


def _choose(retraining: Retraining, *, actor: Actor, now: datetime) -> None:
    """Send the best candidate that has not been rolled out yet on its way, or end the retraining."""
    candidates = {each.position: each for each in retraining.candidates.select_related("training_run__version")}
    judged = [
        decide.Judged(position, bool(each.passed_gates), each.gain)
        for position, each in candidates.items()
        if not _was_rolled_out(each)
    ]
    settings = settings_of(retraining.registered_model)
    chosen = decide.best(judged, settings)
    if chosen is None:
        _end_without_version(retraining, list(candidates.values()), actor=actor, now=now)
        return
    version = candidates[chosen.position].training_run.version  # type: ignore[union-attr]  # a passing one was trained
    if _roll_out(retraining, version, chosen, actor=actor, now=now):
        approach.question_repair(retraining, best_gain=_auc_gain(version), settings=settings, actor=actor, now=now)


def _was_rolled_out(candidate: Candidate) -> bool:
    run = candidate.training_run
    return run is not None and Rollout.objects.filter(version__training_run=run).exists()


def _auc_gain(version: ModelVersion) -> float | None:
    run = newest_gate_run(version)
    gain = benchmark.gain(run) if run else None
    return gain.value if gain and gain.metric == benchmark.AUC else None


def _roll_out(
    retraining: Retraining, version: ModelVersion, chosen: decide.Judged, *, actor: Actor, now: datetime
) -> bool:
    """Propose the version on every endpoint of its model; False when none takes it (the retraining has failed then)."""
    gain = f"gain {chosen.gain:+.4f} over the champion" if chosen.gain is not None else "not compared with a champion"
    reason = f"candidate {chosen.position} of {retraining}: {gain}"
    gate_run = newest_gate_run(version)
    try:
        with transaction.atomic():
            rollouts = propose(version, gate_run=gate_run, actor=actor, reason=reason, now=now) if gate_run else []
    except Conflict as refused:
        _end(retraining, RetrainingState.FAILED, f"{version} was refused a rollout: {refused}", actor=actor, now=now)
        return False
    if not rollouts:
        _end(retraining, RetrainingState.FAILED, f"no endpoint takes {version}", actor=actor, now=now)
        return False
    data = {"version": version.pk, "candidate": chosen.position, "gain": chosen.gain}
    retraining.move(RetrainingState.ROLLING_OUT, actor=actor, reason=reason, data=data)
    return True


def _proceed_rolling_out(retraining: Retraining, *, actor: Actor, now: datetime) -> None:
    runs = retraining.candidates.values("training_run")
    rollouts = list(Rollout.objects.filter(version__training_run__in=runs).select_related("version").order_by("id"))
    if any(each.state in UNDER_WAY for each in rollouts):
        return
    promoted = [each for each in rollouts if each.state == RolloutState.PROMOTED]
    if not promoted:
        _mark_lost(retraining, rollouts)
        _choose(retraining, actor=actor, now=now)
        return
    version = promoted[-1].version
    run = newest_gate_run(version)
    gain = benchmark.gain(run) if run else None
    _end(
        retraining,
        RetrainingState.PROMOTED,
        f"{version} serves",
        actor=actor,
        now=now,
        improved=gain.is_proven if gain else None,
    )


def _mark_lost(retraining: Retraining, rollouts: list[Rollout]) -> None:
    """Say on the candidates whose rollout ended badly how it ended."""
    for rollout in rollouts:
        state = rollout.state.replace("_", " ")
        outcome = f"{rollout.version} {state}: {rollout.state_reason}"[:200]
        retraining.candidates.filter(training_run__version=rollout.version).update(outcome=outcome)


def _end_without_version(retraining: Retraining, candidates: list[Candidate], *, actor: Actor, now: datetime) -> None:
    """Refused when at least one candidate was judged; failed (which says nothing about the approach) when none was."""
    tried = "; ".join(f"{each.position}: {each.outcome}" for each in candidates)
    if all(each.passed_gates is None for each in candidates):
        _end(retraining, RetrainingState.FAILED, f"No candidate could be judged. {tried}", actor=actor, now=now)
        return
    _end(
        retraining, RetrainingState.REFUSED, f"No candidate is better than the champion. {tried}", actor=actor, now=now
    )
    approach.question_refusals(retraining, actor=actor, now=now)


def _end(retraining: Retraining, state: str, reason: str, *, actor: Actor, now: datetime, **fields: Any) -> None:
    data: Mapping[str, Any] = {"candidates": retraining.candidates.count()}
    ends = {"ended_at": now, "ended_wall": timezone.now(), **fields}
    retraining.move(state, actor=actor, reason=reason, data=data, **ends)
