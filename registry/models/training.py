"""How models are trained, and each execution of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.models import Stateful
from features.models import SLUG, Dataset, FeatureService
from registry.models.registered import RegisteredModel


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
