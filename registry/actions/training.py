"""The way of a training run: asked for, begun, ended well with a version, or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from audit.errors import Conflict, InvalidInput
from audit.models import Event
from audit.trail import Actor, record
from features.models import Dataset
from registry import measured, signature
from registry.actions.pipelines import wrong_with_window
from registry.actions.rows import person
from registry.actions.services import OPEN_RUN, hold_service
from registry.actions.versions import register
from registry.code import CodeState
from registry.duties import require
from registry.intake import Received
from registry.models import Duty, ModelVersion, RunState, TrainingPipeline, TrainingRun
from registry.training import Delivery

SEEDS = 2**31
"""Seeds are below this: what a PositiveIntegerField and numpy take alike."""


def request_training(
    pipeline: TrainingPipeline,
    *,
    window: Mapping[str, Any],
    trigger: str,
    held: bool = False,
    parameters: Mapping[str, Any] | None,
    actor: Actor,
    reason: str,
    now: datetime,
) -> TrainingRun:
    """Ask for a training. One may be open per model: Conflict, with the open one named, else.

    ``parameters`` are laid over the pipeline's; a ``seed`` among them is the run's. The version of a ``held`` run waits
    after its gates for the retraining that asked.
    """
    require(actor, pipeline.registered_model, Duty.DATA_SCIENCE)
    merged = {**pipeline.parameters, **(parameters or {})}
    seed = merged.pop("seed", 0)
    wrong = wrong_with_window("window", window)
    if not (type(seed) is int and 0 <= seed < SEEDS):
        wrong["parameters"] = f"The seed must be a whole number from 0 to {SEEDS - 1}."
    if wrong:
        raise InvalidInput(wrong)
    run = TrainingRun(
        registered_model=pipeline.registered_model,
        pipeline=pipeline,
        state=RunState.REQUESTED,
        state_reason=reason,
        state_since=now,
        trigger=trigger,
        window=dict(window),
        parameters=merged,
        seed=seed,
        held=held,
        requested_at=now,
        requested_by_id=person(actor),
    )
    with transaction.atomic():
        hold_service(pipeline.service)
        _insert_only_open_run(run)
        data = {"pipeline": str(pipeline), "trigger": trigger, "window": run.window, "held": held}
        record("training_run.requested", run, actor=actor, reason=reason, data=data)
    return run


def _insert_only_open_run(run: TrainingRun) -> None:
    """The database decides who is first; we only put its refusal into words."""
    try:
        with transaction.atomic():
            run.save(force_insert=True)
    except IntegrityError as refusal:
        open_run = TrainingRun.objects.filter(registered_model=run.registered_model, state__in=OPEN_RUN).first()
        if open_run is None:
            raise
        raise Conflict(
            f"{open_run} of {run.registered_model} is {open_run.state}; one training may be open per model."
        ) from refusal


def begin_training(run: TrainingRun, *, actor: Actor, now: datetime) -> Event:
    """A worker has the run in its hands."""
    return run.move(RunState.RUNNING, actor=actor, reason="A worker took it.")


def cancel_training(run: TrainingRun, *, actor: Actor, reason: str, now: datetime) -> Event:
    """Give a run up. What a running child still produces is thrown away."""
    require(actor, run.registered_model, Duty.DATA_SCIENCE, Duty.PLATFORM)
    return run.move(RunState.CANCELLED, actor=actor, reason=reason)


@dataclass
class Outcome:
    """What is known of a run when it ends, well or not."""

    dataset: Dataset | None = None
    code: CodeState | None = None
    log: str = ""
    seconds: float | None = None

    def fields(self) -> dict[str, Any]:
        """As columns of the run."""
        code = self.code or CodeState("", False, "")
        return {
            "dataset": self.dataset,
            "commit": code.commit,
            "dirty": code.dirty,
            "code_digest": code.code_digest,
            "log": self.log,
            "wall_seconds": self.seconds,
        }


def fail_training(run: TrainingRun, *, reason: str, outcome: Outcome, actor: Actor, now: datetime) -> Event:
    """End a run that delivered nothing; the model stays as it is."""
    return run.move(RunState.FAILED, actor=actor, reason=reason, **outcome.fields())


def complete_training(
    run: TrainingRun, *, delivery: Delivery, received: Received, outcome: Outcome, actor: Actor, now: datetime
) -> ModelVersion:
    """End a run well and register the version it made, in one transaction. ``received`` is the delivery's model.

    Raises InvalidInput when the model does not take what its feature service gives, or its metrics can not be true.
    """
    pipeline = run.pipeline
    _refuse_contradictions(delivery, pipeline)
    dataset = outcome.dataset
    metrics = measured.on_dataset(delivery.metrics, dataset.digest) if dataset else delivery.metrics
    found: dict[str, Any] = {"metrics": metrics, "environment": delivery.environment}
    with transaction.atomic():
        run.move(
            RunState.SUCCEEDED,
            actor=actor,
            reason=f"Trained in {delivery.seconds:.1f} s.",
            **outcome.fields(),
            **found,
        )
        return register(
            received=received,
            actor=actor,
            version=ModelVersion(
                registered_model=run.registered_model,
                signature=delivery.signature,
                service=pipeline.service,
                dataset=run.dataset,
                training_run=run,
                label=pipeline.label,
                parameters=run.parameters,
                importance=delivery.importance,
                commit=run.commit,
                dirty=run.dirty,
                code_digest=run.code_digest,
                seed=run.seed,
                note=_why(run),
                environment_lock=delivery.environment_lock,
                registered_with=f"training run {run.pk}",
                registered_at=now,
                **found,
            ),
        )


def _refuse_contradictions(delivery: Delivery, pipeline: TrainingPipeline) -> None:
    try:
        signature.check(delivery.signature, columns=pipeline.service.vector)
        measured.check(delivery.metrics)
    except signature.SignatureError as error:
        raise InvalidInput({"signature": str(error)}) from error
    except measured.MeasureError as error:
        raise InvalidInput({"metrics": str(error)}) from error


def _why(run: TrainingRun) -> str:
    """The words with which the run was asked for: what is new in its version."""
    asked = Event.objects.about(run).filter(name="training_run.requested").first()
    return str(asked.reason) if asked else ""
