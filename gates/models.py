"""The gates' nouns: what "good" means for a model, the evidence, and who was let through with which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import OuterRef, Q, Subquery

from audit.models import Stateful
from features.models import Dataset
from registry.models import Duty, ModelVersion, RegisteredModel


class Verdict(models.TextChoices):
    """No data is inconclusive, could-not-measure is error; only ``passed`` opens a gate."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class PolicyQuerySet(models.QuerySet["Policy"]):
    def in_force(self) -> PolicyQuerySet:
        """Of each model the confirmed policy with the highest number."""
        confirmed = PolicyDecision.objects.filter(
            outcome=PolicyOutcome.CONFIRMED, policy__registered_model=OuterRef("registered_model")
        )
        return self.filter(pk=Subquery(confirmed.order_by("-policy__number").values("policy")[:1]))

    def waiting(self) -> PolicyQuerySet:
        """Proposed and not decided."""
        return self.filter(decision__isnull=True)


class Policy(models.Model):
    """What a model's versions must prove: an immutable, numbered document.

    Proposed by the data science owner; in force from the moment that a second person, of another duty, confirms it
    (``PolicyDecision``). Of the confirmed ones the highest number is in force.
    """

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="policies")
    number = models.PositiveIntegerField()
    document = models.JSONField(help_text="Validated by gates.policy.PolicyDocument.")
    content_hash = models.CharField(max_length=64)
    note = models.TextField(blank=True, help_text="Why it changed.")
    loosened = models.JSONField(
        default=list, blank=True, help_text="What it asks less of than the policy before: check, setting, from, to."
    )
    loosened_after = models.ForeignKey(
        "GateRun",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The failed run that came before a loosening; it stays marked as such for ever.",
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField()

    objects: ClassVar[Any] = PolicyQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["registered_model", "number"], name="policy_number_once_per_model"),
        ]
        verbose_name_plural = "policies"
        ordering: ClassVar = ["registered_model__name", "-number"]

    def __str__(self) -> str:
        return f"{self.registered_model.name} policy {self.number}"


class PolicyOutcome(models.TextChoices):
    CONFIRMED = "confirmed", "Confirmed: in force"
    DECLINED = "declined", "Declined by another owner"
    WITHDRAWN = "withdrawn", "Withdrawn by who proposed it, or their group"


class PolicyDecision(models.Model):
    """What became of a proposed policy. Written once; the second person of the two that a policy takes."""

    policy = models.OneToOneField(Policy, on_delete=models.PROTECT, related_name="decision")
    outcome = models.CharField(max_length=12, choices=PolicyOutcome.choices)
    duty = models.CharField(max_length=20, choices=Duty.choices, help_text="The duty that the person decided by.")
    reason = models.TextField()
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(outcome__in=PolicyOutcome.values), name="policy_decision_outcome_known"),
            models.CheckConstraint(condition=Q(duty__in=Duty.values), name="policy_decision_duty_known"),
            models.CheckConstraint(
                condition=Q(outcome=PolicyOutcome.WITHDRAWN) | ~Q(duty=Duty.DATA_SCIENCE),
                name="policy_decided_by_another_duty",
            ),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.policy}: {self.outcome}"


class EvidenceKind(models.TextChoices):
    LINT = "lint"
    UNIT = "unit"
    INTEGRATION = "integration"
    COVERAGE = "coverage"
    MEASUREMENT = "measurement"


class Evidence(models.Model):
    """A report that a pipeline submitted, bound to the exact code it is about; a measurement to the version. Written
    once."""

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="evidence")
    code_digest = models.CharField(max_length=64, db_index=True, help_text="SHA-256 over the code folder it is about.")
    commit = models.CharField(max_length=64, blank=True)
    kind = models.CharField(max_length=20, choices=EvidenceKind.choices)
    verdict = models.CharField(max_length=12, choices=Verdict.choices)
    summary = models.CharField(max_length=300)
    payload = models.JSONField(default=dict)
    version = models.ForeignKey(
        ModelVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="measurements",
        help_text="Of a measurement: the version it was made of.",
    )
    name = models.CharField(max_length=100, blank=True, help_text="Of a measurement: what was measured.")
    submitted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    submitted_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=EvidenceKind.values), name="evidence_kind_known"),
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="evidence_verdict_known"),
        ]
        verbose_name_plural = "evidence"
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name} of {self.version}"
        return f"{self.kind} of {self.code_digest[:12]}: {self.verdict}"


class GateRunState(models.TextChoices):
    OPEN = "open"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


ENDED = frozenset({GateRunState.PASSED, GateRunState.FAILED, GateRunState.INCONCLUSIVE, GateRunState.ERROR})


class GateRun(Stateful):
    """One judgement of one version under one policy; its inputs are frozen with it."""

    STATES = GateRunState
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        # failed without running: the deadline passed and a report that did come was red
        GateRunState.OPEN: frozenset(
            {GateRunState.RUNNING, GateRunState.FAILED, GateRunState.INCONCLUSIVE, GateRunState.ERROR}
        ),
        GateRunState.RUNNING: ENDED,
    }
    NOUN = "gate_run"

    registered_model = models.ForeignKey(RegisteredModel, on_delete=models.PROTECT, related_name="gate_runs")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="gate_runs")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="gate_runs")
    number = models.PositiveIntegerField(help_text="Counts the runs of this version.")
    champion = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    holdout = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    seed = models.PositiveIntegerField(default=0)
    required_checks = models.PositiveSmallIntegerField(help_text="Blocking checks of the policy; all must pass.")
    opened_at = models.DateTimeField()
    deadline = models.DateTimeField(help_text="Evidence that has not come by then makes the run inconclusive.")
    wall_seconds = models.FloatField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["version", "number"], name="gate_run_number_once_per_version"),
            models.UniqueConstraint(
                fields=["version"],
                condition=Q(state__in=[GateRunState.OPEN, GateRunState.RUNNING]),
                name="one_open_gate_run_per_version",
            ),
            models.CheckConstraint(condition=Q(state__in=GateRunState.values), name="gate_run_state_known"),
            models.CheckConstraint(condition=Q(required_checks__gt=0), name="gate_run_requires_something"),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.version} gates #{self.number}"


class Preparation(models.Model):
    """What a run is measured on, fixed before its first check and never changed: with it a run can be repeated.

    ``inputs`` names everything by digest: artifact and served form of candidate and champion, training dataset,
    holdout, policy, seed, code, library versions. ``scores_digest`` is the SHA-256 of labels and both scores; the
    scores themselves lie beside the datasets (``gates.frozen_scores``). ``curves`` are what the report draws.
    """

    gate_run = models.OneToOneField(GateRun, on_delete=models.PROTECT, related_name="preparation")
    inputs = models.JSONField()
    inputs_hash = models.CharField(max_length=64)
    served_digest = models.CharField(
        max_length=64, help_text="SHA-256 of the form in which the version was measured, and is served from then on."
    )
    scores_digest = models.CharField(max_length=64, blank=True, help_text="Empty where nothing could be scored.")
    missing = models.JSONField(default=dict, blank=True, help_text="What could not be had, and why.")
    curves = models.JSONField(default=dict, blank=True)
    prepared_at = models.DateTimeField()
    wall_seconds = models.FloatField()

    def __str__(self) -> str:
        return f"{self.gate_run}, prepared"


class CheckResult(models.Model):
    """One check's verdict with its numbers. Written once."""

    gate_run = models.ForeignKey(GateRun, on_delete=models.PROTECT, related_name="results")
    check_id = models.CharField(max_length=60)
    kind = models.CharField(max_length=30)
    blocking = models.BooleanField(help_text="Report-only checks never stop a version; the policy says which is which.")
    verdict = models.CharField(max_length=12, choices=Verdict.choices)
    message = models.TextField(help_text="The verdict in a sentence with its numbers.")
    value = models.FloatField(null=True, blank=True)
    low = models.FloatField(null=True, blank=True)
    high = models.FloatField(null=True, blank=True)
    n = models.PositiveIntegerField(null=True, blank=True)
    threshold = models.CharField(max_length=120, blank=True, help_text="The rule it was judged by, for a person.")
    detail = models.JSONField(default=dict, blank=True)
    measured = models.JSONField(
        default=dict, blank=True, help_text="The numbers that were judged: judging them again gives the same verdict."
    )
    wall_seconds = models.FloatField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["gate_run", "check_id"], name="check_result_once_per_run"),
            models.CheckConstraint(condition=Q(verdict__in=Verdict.values), name="check_result_verdict_known"),
        ]
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.check_id}: {self.verdict}"
