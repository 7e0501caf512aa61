"""The files of versions: stored once by digest, kept as long as anything refers to them; and what became of them."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from registry.models.versions import ModelVersion


class Blob(models.Model):
    """Bytes in the artifact storage, under their SHA-256. The row stays when the bytes were removed."""

    digest = models.CharField(max_length=64, primary_key=True)
    bytes = models.BigIntegerField()
    stored_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_because = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.digest[:12]


class FileRole(models.TextChoices):
    MODEL = "model", "The model itself"
    OTHER = "other", "Beside it: documentation, a lock file, a sample"


class ArtifactFile(models.Model):
    """One file of a version's manifest. Written once, with the version."""

    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="files")
    path = models.CharField(max_length=200, help_text="Relative, with '/'; metadata only, never opened.")
    role = models.CharField(max_length=10, choices=FileRole.choices)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="files")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["version", "path"], name="artifact_file_path_once_per_version"),
            models.UniqueConstraint(fields=["version"], condition=Q(role="model"), name="one_model_file_per_version"),
            models.CheckConstraint(condition=Q(role__in=FileRole.values), name="artifact_file_role_known"),
        ]
        ordering: ClassVar = ["version_id", "path"]

    def __str__(self) -> str:
        return f"{self.version}: {self.path}"


class LegalHold(models.Model):
    """Nothing of this version may be removed until the hold is released."""

    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="holds")
    reason = models.TextField()
    placed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    placed_at = models.DateTimeField()
    released_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    released_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["version"], condition=Q(released_at__isnull=True), name="one_standing_hold_per_version"
            ),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"Hold on {self.version}"


class ConversionOutcome(models.TextChoices):
    USED = "used", "Within tolerance: served as ONNX"
    DIFFERS = "differs", "Over tolerance: not used"
    UNSUPPORTED = "unsupported", "Can not be converted"
    FAILED = "failed", "The conversion failed"


class Conversion(models.Model):
    """A version's artifact as ONNX, and how far its answers are from the original's on real rows. Written once."""

    version = models.OneToOneField(ModelVersion, on_delete=models.PROTECT, related_name="conversion")
    outcome = models.CharField(max_length=12, choices=ConversionOutcome.choices)
    reason = models.TextField(help_text="The outcome in a sentence with its numbers.")
    blob = models.ForeignKey(Blob, null=True, blank=True, on_delete=models.PROTECT, related_name="conversions")
    rows = models.PositiveIntegerField(default=0, help_text="Real rows that both forms were asked.")
    max_difference = models.FloatField(null=True, blank=True, help_text="Largest absolute difference of two scores.")
    tolerance = models.FloatField()
    detail = models.JSONField(default=dict, blank=True, help_text="Versions of the libraries, the worst rows.")
    converted_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(outcome__in=ConversionOutcome.values), name="conversion_outcome_known"),
            models.CheckConstraint(
                condition=~Q(outcome="used") | Q(blob__isnull=False, max_difference__isnull=False, rows__gt=0),
                name="conversion_used_only_when_measured",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} as ONNX: {self.outcome}"


class ModelCard(models.Model):
    """What only people know of a model (purpose, limits, oversight): numbered, immutable; the highest is in force."""

    registered_model = models.ForeignKey("registry.RegisteredModel", on_delete=models.PROTECT, related_name="cards")
    number = models.PositiveIntegerField()
    content = models.JSONField(help_text="Validated by registry.card.")
    content_hash = models.CharField(max_length=64)
    written_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    written_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["registered_model", "number"], name="card_number_once_per_model"),
        ]
        ordering: ClassVar = ["registered_model__name", "-number"]

    def __str__(self) -> str:
        return f"{self.registered_model} card {self.number}"
