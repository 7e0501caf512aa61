"""Write down what became of a version's conversion to ONNX: once, with its event."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from audit.errors import Conflict
from audit.trail import Actor, record
from registry import artifacts
from registry.artifacts import StoredArtifact
from registry.models import Blob, Conversion, ConversionOutcome, ModelVersion

FORM_PINNED = "a version that has passed its gates is served in the form in which they measured it"
"""What the database says to a conversion that comes too late (``gates.guards``)."""


class FormPinned(Conflict):
    """The version has passed its gates in another form, and keeps it."""


@dataclass(frozen=True)
class Tried:
    """How a conversion went. ``content`` is the ONNX form when it is to be used; ``reason`` says it in a sentence."""

    outcome: ConversionOutcome
    reason: str
    tolerance: float
    content: bytes = b""
    rows: int = 0
    max_difference: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


def record_conversion(version: ModelVersion, tried: Tried, *, actor: Actor, now: datetime) -> Conversion:
    """The version's conversion. Of several that are tried at once the first to be written counts, and is answered.

    Raises FormPinned when the version has passed its gates in the form in which it was registered.
    """
    stored = artifacts.store(io.BytesIO(tried.content)) if tried.outcome == ConversionOutcome.USED else None
    conversion = Conversion(
        version_id=version.pk,  # the object would take it for its own, written or not
        outcome=tried.outcome,
        reason=tried.reason,
        blob_id=stored.digest if stored else None,
        rows=tried.rows,
        max_difference=tried.max_difference,
        tolerance=tried.tolerance,
        detail=dict(tried.detail),
        converted_at=now,
    )
    with transaction.atomic():
        # locked, as a pass of its gates does: the form is settled either before that or never
        ModelVersion.objects.select_for_update().get(pk=version.pk)
        try:
            with transaction.atomic():
                conversion.save(force_insert=True)
        except IntegrityError as refusal:
            earlier = Conversion.objects.filter(version=version).first()
            if earlier is not None:
                return earlier
            if FORM_PINNED in str(refusal):
                raise FormPinned(f"{version} has passed its gates as it was registered, and stays so.") from refusal
            raise
        if stored is not None and _is_removed(stored):  # by a retention that nothing stopped before the row above
            artifacts.store(io.BytesIO(tried.content))
        data = {
            "outcome": tried.outcome.value,
            "onnx": conversion.blob_id,
            "original": version.artifact_digest,
            "rows": tried.rows,
            "max_difference": tried.max_difference,
            "tolerance": tried.tolerance,
        }
        record("model_version.converted", version, actor=actor, reason=tried.reason, data=data)
    return conversion


def _is_removed(stored: StoredArtifact) -> bool:
    """Whether bytes are marked as removed; their row is locked, so that nobody does it from now on."""
    return Blob.objects.select_for_update().filter(pk=stored.digest, removed_at__isnull=False).exists()
