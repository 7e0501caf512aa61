"""How a candidate earns its traffic, and every look at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import Q

from audit.models import Stateful
from gates.models import GateRun, Verdict
from registry.models import ModelVersion, RegisteredModel
from rollout.models.endpoints import Endpoint


class RolloutState(models.TextChoices):
    PENDING = "pending"
    SHADOW = "shadow"
    CANARY = "canary"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"


ACTIVE = (RolloutState.SHADOW, RolloutState.CANARY, RolloutState.PAUSED)


class Rollout(Stateful):
    """A candidate's way to an endpoint: waiting, shadow, canary step by step, and how it ended."""

    STATES = RolloutState
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        RolloutState.PENDING: frozenset({RolloutState.SHADOW, RolloutState.PROMOTED, RolloutState.ABORTED}),
        RolloutState.SHADOW: frozenset(
            {RolloutState.CANARY, RolloutState.PAUSED, RolloutState.ROLLED_BACK, RolloutState.ABORTED}
        ),
        RolloutState.CANARY: frozenset(
            {
                RolloutState.CANARY,
                RolloutState.PROMOTED,
                RolloutState.PAUSED,
                RolloutState.ROLLED_BACK,
                RolloutState.ABORTED,
            }
        ),
        RolloutState.PAUSED: frozenset({RolloutState.SHADOW, RolloutState.CANARY, RolloutState.ABORTED}),
    }
    NOUN = "rollout"

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="rollouts")
    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="rollouts")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="rollouts")
    gate_run = models.ForeignKey(GateRun, on_delete=models.PROTECT, related_name="rollouts")
    incumbent = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    plan = models.JSONField(help_text="The plan in force when it started (rollout.plan.RolloutPlan).")
    salt = models.CharField(max_length=40)
    step = models.PositiveSmallIntegerField(default=0, help_text="Canary step, counted from 1; 0 before the canary.")
    step_since = models.DateTimeField(null=True, blank=True)
    paused_in = models.CharField(max_length=16, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True, help_text="Since when, while it is paused.")
    paused_by_product = models.BooleanField(
        default=False, help_text="On: it goes on by itself when the product owner lets rollouts go on here."
    )
    pauses = models.JSONField(
        default=list, blank=True, help_text="Pauses that ended, each [since, until]: time that did not count."
    )
    created_at = models.DateTimeField()
    shadow_since = models.DateTimeField(null=True, blank=True)
    canary_since = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint"], condition=Q(state__in=ACTIVE), name="one_active_rollout_per_endpoint"
            ),
            models.UniqueConstraint(fields=["endpoint", "gate_run"], name="one_rollout_per_gate_run_and_endpoint"),
            models.CheckConstraint(condition=Q(state__in=RolloutState.values), name="rollout_state_known"),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.version} on {self.endpoint}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def is_held(self) -> bool:
        """The last look at this stage found the horizon passed and nothing decided: a person may decide."""
        last = self.analyses.order_by("-number").first()
        return last is not None and last.conclusion == "hold" and last.stage == self.state


class AnalysisRun(models.Model):
    """One look at a rollout: every metric measured, one conclusion. Written once, so that a page can show the curve."""

    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, related_name="analyses")
    number = models.PositiveIntegerField()
    stage = models.CharField(max_length=10)
    step = models.PositiveSmallIntegerField(default=0)
    at = models.DateTimeField(help_text="Event time of the look.")
    conclusion = models.CharField(max_length=12, help_text="wait, advance, promote, roll_back or hold.")
    summary = models.TextField(help_text="Why, in one sentence with numbers.")
    candidate_rows = models.PositiveIntegerField(default=0)
    incumbent_rows = models.PositiveIntegerField(default=0)
    detail = models.JSONField(default=dict, blank=True, help_text="Segments of disagreement, coverage, examples.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rollout", "number"], name="analysis_number_once_per_rollout"),
        ]
        ordering: ClassVar = ["rollout_id", "number"]

    def __str__(self) -> str:
        return f"{self.rollout} look {self.number}"


class Measurement(models.Model):
    """One metric of one look: difference, interval, limit, evidence for harm and for its absence. Written once."""

    analysis = models.ForeignKey(AnalysisRun, on_delete=models.PROTECT, related_name="measurements")
    metric = models.CharField(max_length=40)
    verdict = models.CharField(max_length=12, choices=Verdict.choices)
    message = models.TextField()
    value = models.FloatField(null=True, blank=True)
    low = models.FloatField(null=True, blank=True)
    high = models.FloatField(null=True, blank=True)
    limit = models.FloatField(null=True, blank=True, help_text="The tolerated size: beyond it must be excluded.")
    harm_from = models.FloatField(null=True, blank=True, help_text="Harm proven beyond this size rolls back.")
    guards = models.BooleanField(default=True, help_text="Off: only reported.")
    n = models.PositiveIntegerField(default=0)
    harm = models.FloatField(null=True, blank=True, help_text="Log e-value that harm beyond the limit is real.")
    no_harm = models.FloatField(null=True, blank=True, help_text="Log e-value that harm beyond the limit is excluded.")
    needed = models.FloatField(null=True, blank=True, help_text="Log e-value at which either is proven.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["analysis", "metric"], name="measurement_once_per_look"),
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="measurement_verdict_known"),
        ]
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.metric}: {self.verdict}"
