"""What other tools told us about where data comes from (OpenLineage): their words, and the graph folded from them."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from features.models import DataSource


class LineageEvent(models.Model):
    """One OpenLineage event as it was sent. The body is never changed; folding it says when and with what problem."""

    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the canonical JSON.")
    body = models.JSONField()
    kind = models.CharField(max_length=12, help_text="run, job or dataset.")
    event_type = models.CharField(max_length=12, blank=True, help_text="START, RUNNING, COMPLETE, ABORT, FAIL, OTHER.")
    event_time = models.DateTimeField()
    producer = models.CharField(max_length=300, blank=True)
    received_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    received_at = models.DateTimeField()
    folded_at = models.DateTimeField(null=True, blank=True)
    problem = models.TextField(blank=True, help_text="Why it could not be folded; empty: it was, or it waits.")

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(folded_at__isnull=True), name="lineage_event_waiting"),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.event_type} {self.digest[:12]}".replace("  ", " ")


class ExternalKind(models.TextChoices):
    DATASET = "dataset"
    JOB = "job"


class ExternalNode(models.Model):
    """A dataset or job of another tool. A dataset may be one of our data sources: there the graphs join."""

    kind = models.CharField(max_length=10, choices=ExternalKind.choices)
    namespace = models.CharField(max_length=300)
    name = models.CharField(max_length=500)
    facts = models.JSONField(default=dict, blank=True, help_text="Newest facets: schema, owners, code, columns.")
    source = models.ForeignKey(
        DataSource, null=True, blank=True, on_delete=models.PROTECT, related_name="external_nodes"
    )
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "namespace", "name"], name="external_node_once"),
            models.CheckConstraint(condition=Q(kind__in=ExternalKind.values), name="external_node_kind_known"),
        ]
        ordering: ClassVar = ["kind", "namespace", "name"]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ExternalEdge(models.Model):
    """Data flowed from one node to the other, in at least one run."""

    upstream = models.ForeignKey(ExternalNode, on_delete=models.PROTECT, related_name="out_edges")
    downstream = models.ForeignKey(ExternalNode, on_delete=models.PROTECT, related_name="in_edges")
    run_id = models.CharField(max_length=40, blank=True, help_text="The newest run that showed it.")
    columns = models.JSONField(default=dict, blank=True, help_text="Output column to input columns, where told.")
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["upstream", "downstream"], name="external_edge_once"),
        ]

    def __str__(self) -> str:
        return f"{self.upstream} -> {self.downstream}"
