"""Decision points, what the product owner decides about them, and who serves them now."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from features.models import SLUG
from registry.models import ModelVersion, RegisteredModel


class Endpoint(models.Model):
    """A product decision point, such as "delay warning in the booking app"."""

    name = models.CharField(max_length=60, unique=True, validators=[SLUG])
    title = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="endpoints")
    entity_column = models.CharField(max_length=60, help_text="Request column that identifies who sticks to an arm.")
    threshold = models.FloatField(default=0.5, help_text="At or above this score the product acts.")
    outcome_window = models.DurationField(
        help_text="An outcome is read only when this long after the prediction has passed."
    )
    fallback = models.FloatField(null=True, blank=True, help_text="Score served when no version can answer.")
    plan = models.JSONField(
        default=dict, blank=True, help_text="Rollout plan (rollout.plan.RolloutPlan); empty: the tier's."
    )
    enabled = models.BooleanField(default=True, editable=False, help_text="Off: the kill switch was pulled.")
    rollouts_paused = models.BooleanField(
        default=False, editable=False, help_text="On: the product owner lets no candidate near this endpoint."
    )
    durable = models.BooleanField(
        default=False, help_text="Answer only when the prediction is on the disk, not just in the page cache."
    )
    traffic = models.JSONField(
        default=dict, blank=True, help_text="Who splits its traffic (engines.traffic); empty: our own gateway."
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Fallback(models.Model):
    """A named answer for when the kill switch is pulled: a fixed score, or an earlier champion."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="fallbacks")
    name = models.CharField(max_length=60, validators=[SLUG])
    score = models.FloatField(null=True, blank=True)
    version = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    note = models.TextField()
    created_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint", "name"], condition=Q(retired_at=None), name="fallback_named_once_per_endpoint"
            ),
            models.CheckConstraint(
                condition=Q(score=None, version__isnull=False) | Q(score__isnull=False, version=None),
                name="fallback_is_a_score_or_a_version",
            ),
        ]
        ordering: ClassVar = ["endpoint_id", "name"]

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.name}"

    @property
    def registered_model(self) -> RegisteredModel:
        """Of the endpoint, so that its events are found with the model's."""
        return self.endpoint.registered_model

    @property
    def answer(self) -> str:
        """What it answers, in words."""
        return f"{self.version} answers" if self.version is not None else f"everybody gets {self.score:g}"


class FreezeWindow(models.Model):
    """A time in which no candidate of an endpoint starts, gets more traffic or is promoted; it may always roll back."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="freezes")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    note = models.TextField()
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True, blank=True, help_text="Ended early, by a decision of its own.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="freeze_ends_after_it_starts"),
        ]
        ordering: ClassVar = ["endpoint_id", "starts_at"]

    def __str__(self) -> str:
        return f"{self.endpoint} frozen {self.starts_at:%Y-%m-%d %H:%M} to {self.ends_at:%Y-%m-%d %H:%M}"

    @property
    def ended_at(self) -> datetime:
        """When it ends or ended; before it starts, when it was lifted before."""
        return min(self.ends_at, self.lifted_at) if self.lifted_at is not None else self.ends_at


class MeasuredPer(models.TextChoices):
    PREDICTION = "prediction", "Each prediction"
    ENTITY = "entity", "Each entity, from its first request in the canary on"


class Better(models.TextChoices):
    HIGHER = "higher", "More is better"
    LOWER = "lower", "Less is better"


class Missing(models.TextChoices):
    UNKNOWN = "unknown", "Not known: left out"
    ZERO = "zero", "Zero: it did not happen"


class BusinessMetric(models.Model):
    """What the product wants of an endpoint, beside the model's own metrics: revenue, conversions, complaints.

    Read only when its window has closed. ``tolerated_harm`` and ``harm_from`` are in its unit, per prediction or
    entity: a candidate is rolled back when it is proven worse by more than ``harm_from``, and goes on when worse by
    ``tolerated_harm`` is excluded.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="business_metrics")
    name = models.CharField(max_length=40, validators=[SLUG])
    title = models.CharField(max_length=120)
    unit = models.CharField(max_length=30, blank=True)
    per = models.CharField(max_length=12, choices=MeasuredPer.choices)
    better = models.CharField(max_length=8, choices=Better.choices)
    window = models.DurationField(help_text="How long after the prediction (or the entity's first) it is counted.")
    missing = models.CharField(max_length=8, choices=Missing.choices)
    is_heavy_tailed = models.BooleanField(
        default=False, help_text="Compared on log(1 + value): a raw mean would follow a few."
    )
    harm_from = models.FloatField(default=0.0)
    tolerated_harm = models.FloatField()
    guards = models.BooleanField(default=True, help_text="Off: only reported.")
    created_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint", "name"], condition=Q(retired_at=None), name="business_metric_named_once"
            ),
            models.CheckConstraint(
                condition=Q(harm_from__gte=0.0, tolerated_harm__gt=0.0, tolerated_harm__gte=F("harm_from")),
                name="business_metric_tolerates_something",
            ),
            models.CheckConstraint(condition=Q(per__in=MeasuredPer.values), name="business_metric_per_known"),
            models.CheckConstraint(condition=Q(better__in=Better.values), name="business_metric_better_known"),
            models.CheckConstraint(condition=Q(missing__in=Missing.values), name="business_metric_missing_known"),
        ]
        ordering: ClassVar = ["endpoint_id", "name"]

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.name}"

    @property
    def registered_model(self) -> RegisteredModel:
        """Whose events its own are."""
        return self.endpoint.registered_model


class Route(models.Model):
    """The one small row that the gateway polls: who serves an endpoint now. ``revision`` grows with each change."""

    endpoint = models.OneToOneField(Endpoint, on_delete=models.PROTECT, related_name="route")
    revision = models.PositiveIntegerField(default=0)
    champion = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    candidate = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    rollout = models.ForeignKey("Rollout", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    stage = models.CharField(max_length=10, blank=True, help_text="shadow, canary or empty.")
    share = models.FloatField(default=0.0, help_text="Share of entities that the candidate answers.")
    step = models.PositiveSmallIntegerField(default=0)
    salt = models.CharField(max_length=40, blank=True)
    fallback = models.ForeignKey(
        Fallback,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="What answers while the kill switch is pulled; none: the endpoint's fixed score.",
    )
    changed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(share__gte=0.0, share__lte=1.0), name="route_share_is_a_share"),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint} r{self.revision}"


class DecisionKind(models.TextChoices):
    SERVE = "serve", "Serve this model here"
    STOP = "stop", "Kill switch: serve the fallback"
    RESUME = "resume", "Release the kill switch"
    PAUSE = "pause", "Pause rollouts: no candidate gets traffic here"
    CONTINUE = "continue", "Let rollouts go on"


class Decision(models.Model):
    """The product owner's recorded choice for an endpoint, for now or for a moment to come. Written once.

    One with ``takes_effect_at`` waits until a ``DecisionOutcome`` says what became of it.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="decisions")
    kind = models.CharField(max_length=10, choices=DecisionKind.choices)
    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="+")
    note = models.TextField()
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField()
    takes_effect_at = models.DateTimeField(null=True, blank=True, help_text="Empty: at once.")
    fallback = models.ForeignKey(
        Fallback, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="Of a kill switch."
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=DecisionKind.values), name="decision_kind_known"),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.get_kind_display()}"

    @property
    def is_waiting(self) -> bool:
        """It was made for later, and nothing has become of it yet."""
        return self.takes_effect_at is not None and not hasattr(self, "outcome")


class Outcome(models.TextChoices):
    CARRIED_OUT = "carried_out"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused", "Could not be carried out"


class DecisionOutcome(models.Model):
    """What became of a decision that was made for later. Written once."""

    decision = models.OneToOneField(Decision, on_delete=models.PROTECT, related_name="outcome")
    outcome = models.CharField(max_length=12, choices=Outcome.choices)
    note = models.TextField(blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(outcome__in=Outcome.values), name="decision_outcome_known"),
        ]

    def __str__(self) -> str:
        return f"{self.decision}: {self.outcome}"
