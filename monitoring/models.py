"""Monitoring's nouns: what is watched, what moved, who has to act, what was retrained, and what needs a rethink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from audit.models import Stateful
from gates.models import Verdict
from registry.models import Duty, ModelVersion, RegisteredModel, TrainingRun


class Monitor(models.Model):
    """What is watched for a model, and how strictly (monitoring.settings.MonitorSettings)."""

    registered_model = models.OneToOneField(RegisteredModel, on_delete=models.PROTECT, related_name="monitor")
    settings = models.JSONField(default=dict, blank=True, help_text="Windows, tolerances, persistence, brakes.")
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["registered_model__name"]

    def __str__(self) -> str:
        return f"Monitor of {self.registered_model}"


class DriftKind(models.TextChoices):
    DRIFT = "drift", "Drift of inputs and predictions"
    PERFORMANCE = "performance", "Performance on matured outcomes"


class DriftRun(models.Model):
    """One window judged for one served version. Written once. ``failed`` means: it moved, or performance decayed."""

    monitor = models.ForeignKey(Monitor, on_delete=models.PROTECT, related_name="runs")
    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="drift_runs")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="drift_runs")
    kind = models.CharField(max_length=12, choices=DriftKind.choices)
    window_from = models.DateTimeField()
    window_to = models.DateTimeField()
    verdict = models.CharField(max_length=12, choices=Verdict.choices)
    confirmed = models.BooleanField(default=False, help_text="Seen persistently enough to act on.")
    summary = models.TextField()
    rows = models.PositiveIntegerField(default=0)
    scores = models.JSONField(default=dict, blank=True, help_text="Per feature: effect, bound, tolerance, importance.")
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["monitor", "version", "kind", "window_to"], name="drift_run_once_per_window"
            ),
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="drift_run_verdict_known"),
        ]
        ordering: ClassVar = ["-window_to", "kind"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.version} to {self.window_to:%Y-%m-%d}"


class IncidentKind(models.TextChoices):
    DRIFT = "drift", "Confirmed drift"
    DECAY = "decay", "Performance decay"
    DATA = "data", "Data incident"
    FRESHNESS = "freshness", "A source or feature is stale"
    CONSISTENCY = "consistency", "Served values differ from training"
    ROLLED_BACK = "rolled_back", "A rollout was rolled back"
    TRAINING_FAILED = "training_failed", "A training run failed"
    DEAD_JOB = "dead_job", "Background work gave up"
    SERVING = "serving", "The served version does not answer"
    STUCK = "stuck", "A rollout holds without enough evidence"
    PREDICTION_LOG = "prediction_log", "The prediction log loses rows, or may"


class IncidentState(models.TextChoices):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Incident(Stateful):
    """Something that needs somebody: routed to the group whose duty it is, one per cause."""

    STATES = IncidentState
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        IncidentState.OPEN: frozenset({IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED}),
        IncidentState.ACKNOWLEDGED: frozenset({IncidentState.RESOLVED, IncidentState.OPEN}),
        IncidentState.RESOLVED: frozenset({IncidentState.OPEN}),
    }
    NOUN = "incident"

    registered_model = models.ForeignKey(
        RegisteredModel, null=True, blank=True, on_delete=models.PROTECT, related_name="incidents"
    )
    version = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="incidents")
    kind = models.CharField(max_length=20, choices=IncidentKind.choices)
    duty = models.CharField(max_length=20, choices=Duty.choices)
    owner = models.ForeignKey(Group, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    severity = models.CharField(max_length=10, choices=[("low", "low"), ("medium", "medium"), ("high", "high")])
    cause_key = models.CharField(max_length=200, help_text="Incidents of one cause are one incident.")
    title = models.CharField(max_length=200)
    detail = models.TextField(blank=True, help_text="What happened, and what to do next.")
    evidence = models.JSONField(default=dict, blank=True)
    occurrences = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cause_key"], condition=~Q(state=IncidentState.RESOLVED), name="one_open_incident_per_cause"
            ),
            models.CheckConstraint(condition=Q(state__in=IncidentState.values), name="incident_state_known"),
            models.CheckConstraint(condition=Q(duty__in=Duty.values), name="incident_duty_known"),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return self.title


class RetrainingState(models.TextChoices):
    TRAINING = "training"
    JUDGING = "judging"
    ROLLING_OUT = "rolling_out", "rolling out"
    PROMOTED = "promoted"
    REFUSED = "refused"
    FAILED = "failed"


RETRAINING_OPEN = (RetrainingState.TRAINING, RetrainingState.JUDGING, RetrainingState.ROLLING_OUT)


class Retraining(Stateful):
    """One closed loop: from the trigger over its candidates to the outcome."""

    STATES = RetrainingState
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        RetrainingState.TRAINING: frozenset({RetrainingState.JUDGING, RetrainingState.FAILED}),
        RetrainingState.JUDGING: frozenset(
            {RetrainingState.TRAINING, RetrainingState.ROLLING_OUT, RetrainingState.REFUSED, RetrainingState.FAILED}
        ),
        RetrainingState.ROLLING_OUT: frozenset(
            {RetrainingState.PROMOTED, RetrainingState.REFUSED, RetrainingState.ROLLING_OUT, RetrainingState.FAILED}
        ),
    }
    NOUN = "retraining"

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="retrainings")
    incident = models.ForeignKey(Incident, null=True, blank=True, on_delete=models.PROTECT, related_name="retrainings")
    cause_kind = models.CharField(max_length=20)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    started_wall = models.DateTimeField(auto_now_add=True)
    ended_wall = models.DateTimeField(null=True, blank=True)
    champion_before = models.ForeignKey(ModelVersion, null=True, on_delete=models.PROTECT, related_name="+")
    improved = models.BooleanField(null=True, help_text="Its promoted version proved better than the one before.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["registered_model"],
                condition=Q(state__in=RETRAINING_OPEN),
                name="one_open_retraining_per_model",
            ),
            models.CheckConstraint(condition=Q(state__in=RetrainingState.values), name="retraining_state_known"),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"Retraining {self.pk} of {self.registered_model}"


class Candidate(models.Model):
    """One declared window tried by a retraining, and how far it came."""

    retraining = models.ForeignKey(Retraining, on_delete=models.PROTECT, related_name="candidates")
    position = models.PositiveSmallIntegerField()
    window = models.JSONField()
    training_run = models.OneToOneField(TrainingRun, null=True, on_delete=models.PROTECT, related_name="candidate")
    outcome = models.CharField(max_length=200, blank=True, help_text="How it ended, in words; empty while it runs.")
    passed_gates = models.BooleanField(null=True)
    gain = models.FloatField(null=True, help_text="Measured gain over the champion on the same rows, where judged.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["retraining", "position"], name="candidate_once_per_position"),
        ]
        ordering: ClassVar = ["position"]

    def __str__(self) -> str:
        return f"{self.retraining} candidate {self.position}"


class RethinkState(models.TextChoices):
    PROPOSED = "proposed"
    APPROVED = "approved"
    DECLINED = "declined"
    CLOSED = "closed"


class Rethink(Stateful):
    """The premise looks wrong: a human re-decides the approach. While it is proposed the model's automation is off."""

    STATES = RethinkState
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        RethinkState.PROPOSED: frozenset({RethinkState.APPROVED, RethinkState.DECLINED}),
        RethinkState.APPROVED: frozenset({RethinkState.CLOSED}),
        RethinkState.DECLINED: frozenset({RethinkState.CLOSED}),
    }
    NOUN = "rethink"

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="rethinks")
    question = models.TextField(help_text="What has to be decided, in one sentence.")
    evidence = models.JSONField(help_text="What changed, what was tried, what it cost; frozen when proposed.")
    evidence_digest = models.CharField(max_length=64)
    proposed_at = models.DateTimeField()
    due_at = models.DateTimeField(help_text="By when somebody should have decided.")
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    approach = models.TextField(blank=True, help_text="What will be done differently, written by the decider.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["registered_model"], condition=Q(state=RethinkState.PROPOSED), name="one_open_rethink_per_model"
            ),
            models.CheckConstraint(condition=Q(state__in=RethinkState.values), name="rethink_state_known"),
            models.CheckConstraint(
                condition=Q(state=RethinkState.PROPOSED) | Q(decided_by__isnull=False),
                name="rethink_decided_by_somebody",
            ),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"Rethink {self.pk} of {self.registered_model}"
