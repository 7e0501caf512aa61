"""What runs: gateways and their spools, and what other traffic backends were told. Operations, not governance."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from rollout.models.endpoints import Endpoint


class SpoolSegment(models.Model):
    """The manifest of the prediction log's ingestion: how far each segment of a gateway's spool is in the day files."""

    name = models.CharField(max_length=160, unique=True)
    folder = models.CharField(max_length=500)
    ingested_bytes = models.PositiveBigIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    torn_bytes = models.PositiveBigIntegerField(
        default=0, help_text="Of a record that its process did not live to finish."
    )
    damaged_bytes = models.PositiveBigIntegerField(
        default=0, help_text="Records that can not be read; their segment stays beside the others as .damaged."
    )
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True, help_text="Wholly ingested; the file may go.")

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.name


class GatewayProcess(models.Model):
    """A gateway's process as it told of itself last: which routes it serves, what it could not do."""

    name = models.CharField(max_length=160, unique=True, help_text="host:pid:start")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    routes = models.JSONField(default=dict, blank=True, help_text="Per endpoint: revision, versions ready, breakers.")
    problems = models.JSONField(default=list, blank=True)
    spool_bytes = models.PositiveBigIntegerField(default=0)
    dropped_rows = models.PositiveBigIntegerField(
        default=0, help_text="Answered, but not logged: the disk budget was used up."
    )

    class Meta:
        ordering: ClassVar = ["-seen_at"]

    def __str__(self) -> str:
        return self.name


class TrafficPlan(models.Model):
    """What a traffic backend was told to do for an endpoint: stored before it applies, the difference in words."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="traffic_plans")
    backend = models.CharField(max_length=20)
    fence = models.PositiveBigIntegerField(help_text="The route's revision: an older plan is refused.")
    wanted = models.JSONField()
    difference = models.TextField()
    planned_at = models.DateTimeField()
    applied_at = models.DateTimeField(null=True, blank=True)
    receipt = models.JSONField(default=dict, blank=True)
    problem = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "backend", "fence"], name="one_traffic_plan_per_fence"),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.endpoint} on {self.backend}, fence {self.fence}"
