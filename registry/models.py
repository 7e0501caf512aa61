"""The registry's nouns: registered models with their owners, how they are trained, versions with their lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, Group
from django.db import models
from django.db.models import Q

from audit.models import Stateful
from features.models import SLUG, Dataset, FeatureService


class Tier(models.TextChoices):
    EXPERIMENTAL = "experimental"
    STANDARD = "standard"
    HIGH_STAKES = "high-stakes"


class Task(models.TextChoices):
    BINARY_CLASSIFICATION = "binary_classification"
    REGRESSION = "regression"


class Duty(models.TextChoices):
    """The three duties; each registered model names the group that has it."""

    DATA_SCIENCE = "data_science", "Data science: model quality"
    PLATFORM = "platform", "Platform: infrastructure reliability"
    PRODUCT = "product", "Product: which model is used and when"


class RegisteredModelQuerySet(models.QuerySet["RegisteredModel"]):
    def visible_to(self, user: AbstractBaseUser) -> RegisteredModelQuerySet:
        """Models a user may look at: those their groups own; all for superusers and auditors."""
        if getattr(user, "is_superuser", False) or _is_auditor(user):
            return self
        mine = user.groups.all()  # type: ignore[attr-defined]  # AbstractBaseUser lacks PermissionsMixin's field
        owned = Q(data_science__in=mine) | Q(platform__in=mine) | Q(product__in=mine)
        return self.filter(owned).distinct()


class RegisteredModel(models.Model):
    """A question that is answered by a model, with the tier of its stakes and three owners."""

    name = models.CharField(max_length=60, unique=True, validators=[SLUG])
    title = models.CharField(max_length=120)
    description = models.TextField(blank=True, help_text="The question it answers, for whom, and when.")
    task = models.CharField(max_length=30, choices=Task.choices, default=Task.BINARY_CLASSIFICATION)
    tier = models.CharField(max_length=20, choices=Tier.choices, default=Tier.STANDARD)
    data_science = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+", help_text="Owns model quality.")
    platform = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+", help_text="Owns infrastructure.")
    product = models.ForeignKey(
        Group, on_delete=models.PROTECT, related_name="+", help_text="Owns which model is used."
    )
    automation = models.BooleanField(default=True, editable=False, help_text="Off: nothing retrains by itself.")
    created_at = models.DateTimeField()

    objects: ClassVar[Any] = RegisteredModelQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(tier__in=Tier.values), name="registered_model_tier_known"),
            models.CheckConstraint(condition=Q(task__in=Task.values), name="registered_model_task_known"),
        ]
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def registered_model(self) -> RegisteredModel:
        """Itself: so that events about a model and about its parts are found alike."""
        return self

    def owner(self, duty: str) -> Group:
        """The group that has ``duty`` for this model."""
        return {
            Duty.DATA_SCIENCE: self.data_science,
            Duty.PLATFORM: self.platform,
            Duty.PRODUCT: self.product,
        }[Duty(duty)]

    def champion(self) -> ModelVersion | None:
        alias = self.aliases.filter(name=Alias.CHAMPION).select_related("version").first()
        return alias.version if alias else None


class TrainingPipeline(models.Model):
    """How a model is (re)trained: an entry point, what it consumes, and the windows it may choose among."""

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="pipelines")
    name = models.CharField(max_length=60, validators=[SLUG])
    entry_point = models.CharField(max_length=200, help_text="Python module run in a child process.")
    code_path = models.CharField(
        max_length=300, help_text="Folder of the model's code; its digest binds the CI evidence."
    )
    service = models.ForeignKey(FeatureService, on_delete=models.PROTECT, related_name="pipelines")
    entity_frame = models.CharField(max_length=60, help_text="Data source with one row per request and its keys.")
    outcomes = models.CharField(max_length=60, help_text="Data source with the labels as they arrived.")
    label = models.CharField(max_length=60)
    parameters = models.JSONField(default=dict, blank=True)
    windows = models.JSONField(
        default=list, help_text='Training windows, e.g. [{"name": "expanding"}, {"name": "last-month", "days": 28}].'
    )
    holdout_days = models.PositiveSmallIntegerField(
        default=14, help_text="Labelled days kept for the gates, never trained on."
    )
    time_limit = models.DurationField(help_text="The child process is ended after this.")
    memory_limit = models.BigIntegerField(default=8 * 2**30, help_text="Bytes of address space of the child process.")
    automatic = models.BooleanField(default=True, help_text="May be started by confirmed drift.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["registered_model", "name"], name="pipeline_name_once_per_model"),
        ]
        ordering: ClassVar = ["registered_model__name", "name"]

    def __str__(self) -> str:
        return f"{self.registered_model.name}/{self.name}"


class RunState(models.TextChoices):
    REQUESTED = "requested"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrainingRun(Stateful):
    """One execution of a pipeline: what started it, on which data, with which code, and what came out."""

    STATES = RunState
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        RunState.REQUESTED: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED}),
        RunState.RUNNING: frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}),
    }
    NOUN = "training_run"

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="training_runs")
    pipeline = models.ForeignKey(TrainingPipeline, on_delete=models.PROTECT, related_name="runs")
    trigger = models.CharField(max_length=30, help_text="Who or what asked: person, drift, decay, schedule.")
    window = models.JSONField(default=dict, help_text="The training window that was used.")
    parameters = models.JSONField(default=dict)
    seed = models.PositiveIntegerField(default=0)
    held = models.BooleanField(
        default=False, help_text="Its version waits after the gates until a retraining has compared its candidates."
    )
    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.PROTECT, related_name="training_runs")
    commit = models.CharField(max_length=64, blank=True, help_text="Commit of the code (claimed by git).")
    dirty = models.BooleanField(default=False, help_text="The working tree had uncommitted changes.")
    code_digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 over the code folder's files.")
    environment = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    log = models.TextField(blank=True)
    requested_at = models.DateTimeField()
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    wall_seconds = models.FloatField(null=True, blank=True, help_text="Real duration of the child process.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=RunState.values), name="training_run_state_known"),
            models.UniqueConstraint(
                fields=["registered_model"],
                condition=Q(state__in=[RunState.REQUESTED, RunState.RUNNING]),
                name="one_open_training_run_per_model",
            ),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.pipeline} run {self.pk}"


class LoadClass(models.TextChoices):
    """How a version's artifact may be loaded for scoring (registry research, section 4.4)."""

    SKOPS = "skops"
    ONNX = "onnx"
    EXTERNAL = "external"
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
    seed = models.PositiveIntegerField(null=True, blank=True)
    note = models.TextField(blank=True, help_text="What is new in this version, in the registrant's words.")
    registered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
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
        return self.load_class in {LoadClass.SKOPS, LoadClass.ONNX}


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


AUDITORS = "auditors"
"""Members of this group may read everything and change nothing."""


def _is_auditor(user: AbstractBaseUser) -> bool:
    return bool(user.groups.filter(name=AUDITORS).exists())  # type: ignore[attr-defined]  # see visible_to
