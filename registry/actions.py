"""The registry's verbs: found a model, say how it is trained, train it, register what came out, move its champion."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Max

from audit.errors import AlreadyExists, Conflict, InvalidInput
from audit.models import Event
from audit.trail import Actor, record
from engines import skops_types
from features.actions import Users, retire_service
from features.models import Dataset, FeatureService
from registry import artifacts, signature, windows
from registry.code import CodeState
from registry.duties import require, require_founder
from registry.models import (
    Alias,
    Duty,
    LoadClass,
    ModelVersion,
    RegisteredModel,
    RunState,
    Task,
    TrainingPipeline,
    TrainingRun,
)
from registry.training import MODEL, Delivery

ENTRY_POINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
MEMORY_LIMIT = 8 * 2**30
OPEN_RUN = (RunState.REQUESTED, RunState.RUNNING)
SEEDS = 2**31
"""Seeds are below this: what a PositiveIntegerField and numpy take alike."""


# ---------------------------------------------------------------------- models and pipelines


def create_model(
    *,
    name: str,
    title: str,
    description: str,
    tier: str,
    data_science: Group,
    platform: Group,
    product: Group,
    task: str = Task.BINARY_CLASSIFICATION,
    actor: Actor,
    now: datetime,
) -> RegisteredModel:
    """Found a registered model with its tier and its three owners."""
    require_founder(actor, data_science.name)
    registered_model = RegisteredModel(
        name=name,
        title=title,
        description=description,
        task=task,
        tier=tier,
        data_science=data_science,
        platform=platform,
        product=product,
        created_at=now,
    )
    if RegisteredModel.objects.filter(name=name).exists():
        raise AlreadyExists(f"The registered model {name!r} exists already.")
    _validate(registered_model)
    with transaction.atomic():
        _save_new(registered_model, taken=f"The registered model {name!r} exists already.")
        owners = {duty.value: registered_model.owner(duty).name for duty in Duty}
        record("registered_model.created", registered_model, actor=actor, data={"tier": tier, **owners})
    return registered_model


def change_model(
    registered_model: RegisteredModel,
    *,
    title: str,
    description: str,
    tier: str,
    data_science: Group,
    platform: Group,
    product: Group,
    reason: str,
    actor: Actor,
    now: datetime,
) -> None:
    """Change what is said of a model, its tier or its owners. Nothing changed: nothing recorded.

    Words: any owner. A duty is handed on by the group that has it. The tier is the product owner's: the policy is data
    science's, so that lighter gates for a model take both.
    """
    owners = {"data_science": data_science, "platform": platform, "product": product}
    wanted: dict[str, Any] = {"title": title, "description": description, "tier": tier, **owners}
    changed = [name for name, value in wanted.items() if getattr(registered_model, name) != value]
    require(actor, registered_model, *Duty)
    for name in changed:
        if name in owners:
            require(actor, registered_model, Duty(name))
    if "tier" in changed:
        require(actor, registered_model, Duty.PRODUCT)
    if not changed:
        return
    before = {name: str(getattr(registered_model, name)) for name in changed}
    for name in changed:
        setattr(registered_model, name, wanted[name])
    _validate(registered_model)
    with transaction.atomic():
        registered_model.save(update_fields=changed)
        data = {"before": before, "after": {name: str(wanted[name]) for name in changed}}
        record("registered_model.changed", registered_model, actor=actor, reason=reason, data=data)


def define_pipeline(
    *,
    registered_model: RegisteredModel,
    name: str,
    entry_point: str,
    code_path: str,
    service: FeatureService,
    entity_frame: str,
    outcomes: str,
    label: str,
    parameters: Mapping[str, Any],
    windows: Sequence[Mapping[str, Any]],
    holdout_days: int,
    time_limit: timedelta,
    automatic: bool,
    memory_limit: int = MEMORY_LIMIT,
    actor: Actor,
    now: datetime,
) -> TrainingPipeline:
    """Say how a model is trained. ``code_path`` is a folder below the project's own; ``entry_point`` a module.

    ``windows`` are the training windows that a retraining may choose among.
    """
    require(actor, registered_model, Duty.DATA_SCIENCE)
    pipeline = TrainingPipeline(
        registered_model=registered_model,
        name=name,
        entry_point=entry_point,
        code_path=code_path,
        service=service,
        entity_frame=entity_frame,
        outcomes=outcomes,
        label=label,
        parameters=dict(parameters),
        windows=[dict(window) for window in windows],
        holdout_days=holdout_days,
        time_limit=time_limit,
        memory_limit=memory_limit,
        automatic=automatic,
    )
    taken = f"{registered_model} has a pipeline {name!r} already."
    if registered_model.pipelines.filter(name=name).exists():
        raise AlreadyExists(taken)
    _validate(pipeline, also=_wrong_with(pipeline))
    with transaction.atomic():
        hold_service(service)
        _save_new(pipeline, taken=taken)
        data = {"pipeline": name, "entry_point": entry_point, "service": str(service), "windows": pipeline.windows}
        record("training_pipeline.defined", pipeline, actor=actor, data=data)
    return pipeline


def _wrong_with(pipeline: TrainingPipeline) -> dict[str, str]:
    """What no field says about itself."""
    wrong = {}
    if not ENTRY_POINT.fullmatch(pipeline.entry_point):
        wrong["entry_point"] = "The name of a Python module, such as flights.train."
    folder = Path(settings.BASE_DIR, pipeline.code_path)
    if not (folder.is_dir() and folder.resolve().is_relative_to(Path(settings.BASE_DIR).resolve())):
        wrong["code_path"] = "A folder of the project that exists, relative to its root."
    if pipeline.time_limit <= timedelta(0):
        wrong["time_limit"] = "More than nothing."
    if not pipeline.windows:
        wrong["windows"] = 'At least one, such as {"name": "expanding"}.'
    for window in pipeline.windows:
        wrong.update(_wrong_with_window("windows", window))
    return wrong


def _wrong_with_window(field: str, window: Mapping[str, Any]) -> dict[str, str]:
    try:
        windows.check(window)
    except windows.WindowError as error:
        return {field: str(error)}
    return {}


# ---------------------------------------------------------------------- training runs


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
    wrong = _wrong_with_window("window", window)
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
        requested_by_id=_person(actor),
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
    run: TrainingRun, *, delivery: Delivery, outcome: Outcome, actor: Actor, now: datetime
) -> ModelVersion:
    """End a run well and register the version it made, in one transaction.

    Raises InvalidInput when the model does not take what its feature service gives.
    """
    pipeline = run.pipeline
    try:
        signature.check(delivery.signature, columns=pipeline.service.vector)
    except signature.SignatureError as error:
        raise InvalidInput({"signature": str(error)}) from error
    measured: dict[str, Any] = {"metrics": delivery.metrics, "environment": delivery.environment}
    with transaction.atomic():
        run.move(
            RunState.SUCCEEDED,
            actor=actor,
            reason=f"Trained in {delivery.seconds:.1f} s.",
            **outcome.fields(),
            **measured,
        )
        return _register(
            artifact=delivery.model,
            actor=actor,
            version=ModelVersion(
                registered_model=run.registered_model,
                artifact_name=MODEL,
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
                registered_at=now,
                **measured,
            ),
        )


def _why(run: TrainingRun) -> str:
    """The words with which the run was asked for: what is new in its version."""
    asked = Event.objects.about(run).filter(name="training_run.requested").first()
    return str(asked.reason) if asked else ""


# ---------------------------------------------------------------------- versions


def register_version(
    *,
    registered_model: RegisteredModel,
    artifact: Path,
    artifact_name: str,
    service: FeatureService | None = None,
    dataset: Dataset | None = None,
    training_run: TrainingRun | None = None,
    label: str = "",
    parameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    importance: Mapping[str, float] | None = None,
    commit: str = "",
    dirty: bool = False,
    code_digest: str = "",
    environment: Mapping[str, Any] | None = None,
    seed: int | None = None,
    signature: Mapping[str, Any] | None = None,
    note: str = "",
    actor: Actor,
    now: datetime,
) -> ModelVersion:
    """Register a version with its lineage. The same content again is the same version, and no second event.

    What is not given stays empty and is shown as unverified. The content is the artifact and what it was made from;
    metrics, importance and note are what was said of it first.
    """
    require(actor, registered_model, Duty.DATA_SCIENCE)
    version = ModelVersion(
        registered_model=registered_model,
        artifact_name=Path(artifact_name).name[:200],
        service=service,
        dataset=dataset,
        training_run=training_run,
        label=label,
        parameters=dict(parameters or {}),
        metrics=dict(metrics or {}),
        importance=dict(importance or {}),
        commit=commit,
        dirty=dirty,
        code_digest=code_digest,
        environment=dict(environment or {}),
        seed=seed,
        signature=dict(signature or {}),
        note=note,
        registered_by_id=_person(actor),
        registered_at=now,
    )
    _refuse_contradictions(version)
    with artifact.open("rb") as file:
        return _register(artifact=file, actor=actor, version=version)


def _refuse_contradictions(version: ModelVersion) -> None:
    """A lineage whose parts do not belong together is worse than none."""
    wrong = {}
    run, dataset, service = version.training_run, version.dataset, version.service
    if run is not None and run.registered_model_id != version.registered_model_id:
        wrong["training_run"] = f"It trained {run.registered_model}, not {version.registered_model}."
    if dataset is not None and service is not None and dataset.service_id != service.pk:
        wrong["dataset"] = f"It was made from {dataset.service}, not from {service}."
    try:
        signature.check(version.signature)
    except signature.SignatureError as error:
        wrong["signature"] = str(error)
    if wrong:
        raise InvalidInput(wrong)


def _register(*, artifact: BinaryIO, version: ModelVersion, actor: Actor) -> ModelVersion:
    """Store the artifact and insert the version under the next number, or answer the one that is there already."""
    stored = artifacts.store(artifact)
    quarantined = _why_quarantined(artifact)
    version.artifact_digest, version.artifact_bytes = stored.digest, stored.bytes
    version.load_class = LoadClass.QUARANTINED if quarantined else LoadClass.SKOPS
    version.content_digest = content_digest(version)
    with transaction.atomic():
        # Whoever registers for this model next waits here, so that numbers have no gaps and no doubles.
        RegisteredModel.objects.select_for_update().get(pk=version.registered_model_id)
        versions = ModelVersion.objects.filter(registered_model=version.registered_model_id)
        existing = versions.filter(content_digest=version.content_digest).first()
        if existing is not None:
            return existing
        if version.training_run is not None and versions.filter(training_run=version.training_run).exists():
            raise Conflict(f"{version.training_run} has registered its version already; a run makes one.")
        if version.service is not None:
            hold_service(version.service)
        version.number = (versions.aggregate(highest=Max("number"))["highest"] or 0) + 1
        _validate(version)
        version.save(force_insert=True)
        data = {"artifact": stored.digest, "load_class": version.load_class, "quarantined_because": quarantined}
        made_by = Event.objects.about(version.training_run).last() if version.training_run else None
        record("model_version.registered", version, actor=actor, reason=version.note, cause=made_by, data=data)
    return version


def _why_quarantined(artifact: BinaryIO) -> str:
    """Why a file may be kept but not loaded; empty when it may. Nothing in it is built to find out."""
    artifact.seek(0)
    try:
        skops_types.check(artifact)
    except skops_types.Unscorable as refusal:
        return str(refusal)
    return ""


def content_digest(version: ModelVersion) -> str:
    """SHA-256 over the artifact and what it was made from, as canonical JSON."""
    content = {
        "artifact": version.artifact_digest,
        "service": version.service.content_hash if version.service else None,
        "dataset": version.dataset.digest if version.dataset else None,
        "training_run": version.training_run_id,
        "label": version.label,
        "parameters": version.parameters,
        "commit": version.commit,
        "dirty": version.dirty,
        "code_digest": version.code_digest,
        "environment": version.environment,
        "seed": version.seed,
        "signature": version.signature,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def crown(version: ModelVersion, *, actor: Actor, reason: str, now: datetime) -> Alias:
    """Make a version its model's champion. Only a rollout that promotes calls this."""
    registered_model = version.registered_model
    require(actor, registered_model, *Duty)
    with transaction.atomic():
        RegisteredModel.objects.select_for_update().get(pk=registered_model.pk)
        before = registered_model.champion()
        alias, _ = Alias.objects.update_or_create(
            registered_model=registered_model, name=Alias.CHAMPION, defaults={"version": version, "since": now}
        )
        data = {"from": before.number if before else None, "to": version.number}
        record("alias.champion_moved", version, actor=actor, reason=reason, data=data)
    return alias


# ---------------------------------------------------------------------- feature services that models take


def retire_feature_service(
    service: FeatureService, *, actor: Actor, reason: str, now: datetime, rollouts: Users
) -> FeatureService:
    """End a feature service that no model lives on: pipelines of it train no more.

    Raises Conflict while a champion or an open training run takes it, or one of the ``rollouts``: those that are open
    are known above the registry (``rollout.actions.retire_feature_service``).
    """

    def users(locked: FeatureService) -> list[str]:
        champions = Alias.objects.filter(name=Alias.CHAMPION, version__service=locked).select_related(
            "version__registered_model"
        )
        runs = TrainingRun.objects.filter(pipeline__service=locked, state__in=OPEN_RUN)
        return [
            *(f"{alias.version} (champion)" for alias in champions),
            *(f"{run} ({run.state})" for run in runs.select_related("pipeline__registered_model")),
            *rollouts(locked),
        ]

    return retire_service(service, actor=actor, reason=reason, now=now, users=users)


def hold_service(service: FeatureService) -> None:
    """Lock a service that something is about to take up. Raises Conflict when it was retired.

    Whoever takes it up and whoever retires it wait for each other here.
    """
    stored = FeatureService.objects.select_for_update().get(pk=service.pk)
    if stored.retired_at is not None:
        raise Conflict(f"{stored} was retired on {stored.retired_at:%Y-%m-%d}; no model can take it up.")


# ---------------------------------------------------------------------- parts of the verbs


def _person(actor: Actor) -> Any:
    return actor.pk if isinstance(actor, AbstractBaseUser) else None


def _validate(row: RegisteredModel | TrainingPipeline | ModelVersion, *, also: Mapping[str, str] | None = None) -> None:
    """Raise InvalidInput with what is wrong with each field."""
    wrong: dict[str, Any] = dict(also or {})
    try:
        row.clean_fields()
    except ValidationError as error:
        wrong = {**error.message_dict, **wrong}
    if wrong:
        raise InvalidInput(wrong)


def _save_new(row: RegisteredModel | TrainingPipeline, *, taken: str) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as refusal:
        raise AlreadyExists(taken) from refusal
