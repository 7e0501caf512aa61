"""Register a version with everything it was made from, and crown the one that was promoted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.db import transaction
from django.db.models import Max

from audit.errors import Conflict, InvalidInput
from audit.models import Event
from audit.trail import Actor, record
from engines import skops_types
from features.models import Dataset, FeatureService
from registry import artifacts, signature
from registry.actions.rows import person, validate
from registry.actions.services import hold_service
from registry.duties import require
from registry.models import Alias, Duty, LoadClass, ModelVersion, RegisteredModel, TrainingRun


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
        registered_by_id=person(actor),
        registered_at=now,
    )
    _refuse_contradictions(version)
    with artifact.open("rb") as file:
        return register(artifact=file, actor=actor, version=version)


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


def register(*, artifact: BinaryIO, version: ModelVersion, actor: Actor) -> ModelVersion:
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
        validate(version)
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
