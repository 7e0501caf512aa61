"""Model versions with everything they were made from, and the aliases that point to them."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from features.models import Dataset, FeatureService
from registry.models.registered import RegisteredModel
from registry.models.training import TrainingRun


class LoadClass(models.TextChoices):
    """How a version's artifact may be loaded for scoring (registry research, section 4.4)."""

    SKOPS = "skops"
    ONNX = "onnx"
    BOOSTER = "booster", "Booster text (XGBoost JSON, LightGBM)"
    EXTERNAL = "external", "External: an Open Inference Protocol endpoint"
    QUARANTINED = "quarantined", "Quarantined: documented, never scored"


class ModelVersion(models.Model):
    """One immutable version with everything it was made from. What is missing stays empty and is shown as unverified.

    Its stage (gates, shadow, canary, champion) is derived from its gate run, rollout and alias, never stored here.
    """

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    artifact_digest = models.CharField(max_length=64, help_text="SHA-256 of the artifact's bytes.")
    artifact_name = models.CharField(max_length=200, help_text="File name as uploaded; metadata only.")
    artifact_bytes = models.BigIntegerField()
    manifest_digest = models.CharField(
        max_length=64, blank=True, help_text="SHA-256 over path, digest and size of every file."
    )
    load_class = models.CharField(max_length=20, choices=LoadClass.choices)
    signature = models.JSONField(default=dict, blank=True, help_text="Input columns in order, output meaning.")
    service = models.ForeignKey(
        FeatureService, null=True, blank=True, on_delete=models.PROTECT, related_name="versions"
    )
    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.PROTECT, related_name="versions")
    training_run = models.OneToOneField(
        TrainingRun, null=True, blank=True, on_delete=models.PROTECT, related_name="version"
    )
    label = models.CharField(max_length=60, blank=True)
    parameters = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True, help_text="Measured at training time, with intervals.")
    importance = models.JSONField(default=dict, blank=True, help_text="Share of importance per feature, summing to 1.")
    commit = models.CharField(max_length=64, blank=True)
    dirty = models.BooleanField(default=False)
    code_digest = models.CharField(max_length=64, blank=True)
    environment = models.JSONField(default=dict, blank=True)
    environment_lock = models.TextField(
        blank=True, help_text="Every package with its version, as a lock file has them."
    )
    seed = models.PositiveIntegerField(null=True, blank=True)
    note = models.TextField(blank=True, help_text="What is new in this version, in the registrant's words.")
    registered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    registered_with = models.CharField(
        max_length=60, blank=True, help_text="The credential: the first characters of an API token, or the part of us."
    )
    claims = models.JSONField(
        default=dict, blank=True, help_text="What the registrant said of itself (user, host, run): kept, not believed."
    )
    registered_at = models.DateTimeField()
    content_digest = models.CharField(
        max_length=64, help_text="SHA-256 over artifact and lineage: same content, same version."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["registered_model", "number"], name="version_number_once_per_model"),
            models.UniqueConstraint(
                fields=["registered_model", "content_digest"], name="version_content_once_per_model"
            ),
            models.CheckConstraint(condition=Q(load_class__in=LoadClass.values), name="version_load_class_known"),
        ]
        ordering: ClassVar = ["registered_model__name", "-number"]

    def __str__(self) -> str:
        return f"{self.registered_model.name} v{self.number}"

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The model's input columns in order, as its signature has them."""
        return tuple(each["name"] for each in self.signature.get("inputs", ()))

    @property
    def is_scorable(self) -> bool:
        return self.load_class != LoadClass.QUARANTINED


class Alias(models.Model):
    """A name that points to one version of a model. Moved only by a promotion, always with its event."""

    CHAMPION: ClassVar[str] = "champion"
    CHALLENGER: ClassVar[str] = "challenger"

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="aliases")
    name = models.CharField(max_length=20, choices=[("champion", "champion"), ("challenger", "challenger")])
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="aliases")
    since = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["registered_model", "name"], name="alias_once_per_model"),
        ]
        verbose_name_plural = "aliases"

    def __str__(self) -> str:
        return f"{self.name} of {self.version}"
