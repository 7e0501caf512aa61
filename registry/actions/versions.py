"""Register a version with everything it was made from, and crown the one that was promoted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max

from audit.errors import Conflict, InvalidInput
from audit.models import Event
from audit.trail import Actor, record
from features.models import Dataset, FeatureService
from registry import artifacts, measured, signature
from registry.actions.rows import person, validate
from registry.actions.services import hold_service
from registry.artifacts import StoredArtifact
from registry.duties import require
from registry.facts import version_facts
from registry.intake import Received, Source, receive
from registry.manifest import Entry
from registry.models import (
    Alias,
    ArtifactFile,
    Blob,
    Duty,
    FileRole,
    LoadClass,
    ModelVersion,
    RegisteredModel,
    TrainingRun,
)

MAX_LOCK = 500_000


def register_version(
    *,
    registered_model: RegisteredModel,
    artifact: Source | Received,
    artifact_name: str = "",
    files: Sequence[tuple[str, Source]] = (),
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
    environment_lock: str = "",
    seed: int | None = None,
    signature: Mapping[str, Any] | None = None,
    note: str = "",
    claims: Mapping[str, Any] | None = None,
    registered_with: str = "",
    actor: Actor,
    now: datetime,
) -> ModelVersion:
    """Register a version with its lineage. The same content again is the same version, and no second event.

    ``artifact`` is the model's file, or all files as they were received already. What is not given stays empty and is
    shown as unverified. The content is the files and what they were made from;
    metrics, importance, note and claims are what was said of it first. ``files`` are path and content of what lies
    beside the model; ``claims`` what the registrant says of itself (user, host, run): kept, not believed. Who it is we
    know from ``actor``, and by which credential from ``registered_with``.
    """
    require(actor, registered_model, Duty.DATA_SCIENCE)
    version = ModelVersion(
        registered_model=registered_model,
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
        environment_lock=environment_lock,
        seed=seed,
        signature=dict(signature or {}),
        note=note,
        claims=dict(claims or {}),
        registered_with=registered_with,
        registered_by_id=person(actor),
        registered_at=now,
    )
    _refuse_contradictions(version)
    if not isinstance(artifact, Received):
        artifact = receive(
            registered_model=registered_model, artifact=artifact, artifact_name=artifact_name, files=files
        )
    return register(received=artifact, actor=actor, version=version)


def _refuse_contradictions(version: ModelVersion) -> None:
    """A lineage whose parts do not belong together is worse than none."""
    wrong: dict[str, str] = {}
    run, dataset, service = version.training_run, version.dataset, version.service
    if run is not None and run.registered_model_id != version.registered_model_id:
        wrong["training_run"] = f"It trained {run.registered_model}, not {version.registered_model}."
    if dataset is not None and service is not None and dataset.service_id != service.pk:
        wrong["dataset"] = f"It was made from {dataset.service}, not from {service}."
    try:
        signature.check(version.signature)
    except signature.SignatureError as error:
        wrong["signature"] = str(error)
    try:
        measured.check(version.metrics)
    except measured.MeasureError as error:
        wrong.update({f"metrics.{name}": text for name, text in error.errors.items()})
    if len(version.environment_lock) > MAX_LOCK:
        wrong["environment_lock"] = f"At most {MAX_LOCK} characters."
    if wrong:
        raise InvalidInput(wrong)


def register(*, received: Received, version: ModelVersion, actor: Actor) -> ModelVersion:
    """Insert the version under the next number with its files, or answer the one that is there already.

    ``received`` was taken in before this transaction.
    """
    version.artifact_name = received.name
    version.artifact_digest, version.artifact_bytes = received.model.digest, received.model.bytes
    version.manifest_digest = received.manifest_digest
    version.load_class = received.load_class
    version.content_digest = content_digest(version, others=received.others)
    with transaction.atomic():
        # Whoever registers for this model next waits here, so that numbers have no gaps and no doubles.
        locked = RegisteredModel.objects.select_for_update(no_key=True).get(pk=version.registered_model_id)
        versions = ModelVersion.objects.filter(registered_model=version.registered_model_id)
        existing = versions.filter(content_digest=version.content_digest).first()
        if existing is not None:
            return existing
        if version.training_run is not None and versions.filter(training_run=version.training_run).exists():
            raise Conflict(f"{version.training_run} has registered its version already; a run makes one.")
        artifacts.refuse_over_quota(locked, (StoredArtifact(e.digest, e.bytes) for e in received.entries))
        if version.service is not None:
            hold_service(version.service)
        version.number = (versions.aggregate(highest=Max("number"))["highest"] or 0) + 1
        validate(version)
        version.save(force_insert=True)
        _list_files(version, received)
        is_quarantined = version.load_class == LoadClass.QUARANTINED
        data = {
            "artifact": version.artifact_digest,
            "manifest": version.manifest_digest,
            "files": len(received.entries),
            "load_class": version.load_class,
            "load_class_because": received.reason,
            "quarantined_because": received.reason if is_quarantined else "",
            "found": dict(received.facts),
            "registered_with": version.registered_with,
        }
        made_by = Event.objects.about(version.training_run).last() if version.training_run else None
        record("model_version.registered", version, actor=actor, reason=version.note, cause=made_by, data=data)
    return version


def _list_files(version: ModelVersion, received: Received) -> None:
    """Write the manifest. The blobs are locked: what removes unused bytes waits, or was faster."""
    digests = {entry.digest for entry in received.entries}
    locked = Blob.objects.select_for_update(no_key=True).filter(pk__in=digests).order_by("pk")
    if any(blob.removed_at is not None for blob in locked):
        raise Conflict("The same bytes were removed at this moment by another version's retention: register again.")
    ArtifactFile.objects.bulk_create(
        ArtifactFile(
            version=version,
            path=entry.path,
            role=FileRole.OTHER if place else FileRole.MODEL,
            blob_id=entry.digest,
        )
        for place, entry in enumerate(received.entries)
    )


def content_digest(version: ModelVersion, *, others: Sequence[Entry] = ()) -> str:
    """SHA-256 over the files and what they were made from, as canonical JSON.

    Not over the model's file name: a pipeline may write the same model under any. ``others`` are the files beside it;
    without them and without a lock the digest is the one that versions had before there were any.
    """
    content: dict[str, Any] = {
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
    if others:
        content["files"] = sorted([entry.path, entry.digest] for entry in others)
    if version.environment_lock:
        content["environment_lock"] = hashlib.sha256(version.environment_lock.encode()).hexdigest()
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
        data = {"from": before.number if before else None, "to": version.number, **version_facts(version)}
        record("alias.champion_moved", version, actor=actor, reason=reason, data=data)
    return alias
