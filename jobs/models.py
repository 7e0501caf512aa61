"""The record of background work: what was asked, who works on it, how often it was tried, how it ended.

django-q2 is only the doorbell (docs/operations.md): a lost or repeated bell costs a minute, never correctness,
because work is claimed here by a conditional UPDATE with a lease and attempts are counted *before* the work.
Times in this module are wall-clock times of the machine, never the event time that a replay may set.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

LEASE = timedelta(seconds=settings.GATEHOUSE_LEASE_SECONDS)
"""How long a claim holds without renewal. A killed worker's job is free again after this."""
BACKOFF = timedelta(seconds=5)
MAX_BACKOFF = timedelta(minutes=10)


class JobState(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"


class JobQuerySet(models.QuerySet["Job"]):
    def claimable(self, wall: datetime) -> JobQuerySet:
        """Jobs a worker may take at ``wall``: due and queued, or running under an expired lease."""
        due = Q(state=JobState.QUEUED, not_before__lte=wall)
        abandoned = Q(state=JobState.RUNNING, lease_until__lt=wall)
        return self.filter(due | abandoned)

    def unfinished(self) -> JobQuerySet:
        return self.filter(state__in=[JobState.QUEUED, JobState.RUNNING])

    def held_by(self, worker: str) -> JobQuerySet:
        """Jobs that processes of this worker have claimed and not ended."""
        return self.filter(state=JobState.RUNNING, claim__startswith=f"{worker}/")


class Job(models.Model):
    """One piece of work, asked for once (``key`` is unique), finished at most once."""

    kind = models.CharField(max_length=100, help_text="Which handler does the work.")
    key = models.CharField(max_length=200, unique=True, help_text="Asking twice under one key asks once.")
    payload = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Counted before the work starts.")
    max_attempts = models.PositiveSmallIntegerField(default=4)
    not_before = models.DateTimeField(default=timezone.now, help_text="Wall clock; moved forward after a failure.")
    rung_at = models.DateTimeField(null=True, blank=True, help_text="When the queue was last told of this job.")
    lease_until = models.DateTimeField(null=True, blank=True)
    claim = models.CharField(max_length=64, blank=True, help_text="Who holds the lease: worker/process/random.")
    error = models.TextField(blank=True)
    result = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = JobQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=JobState.values), name="job_state_known"),
        ]
        indexes: ClassVar = [models.Index(fields=["state", "not_before"], name="job_state_not_before")]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} #{self.pk} ({self.state})"

    def take(self, *, claim: str, wall: datetime) -> bool:
        """Claim the job for ``claim``; False when somebody else has it, it is finished or not yet due."""
        taken = (
            Job.objects.claimable(wall)
            .filter(pk=self.pk, attempts__lt=F("max_attempts"))
            .update(
                state=JobState.RUNNING,
                claim=claim,
                attempts=F("attempts") + 1,
                lease_until=wall + LEASE,
                started_at=wall,
            )
        )
        if taken:
            self.refresh_from_db()
        return bool(taken)

    def renew(self, *, claim: str, wall: datetime) -> bool:
        """Hold the lease for another period; False when it was lost."""
        mine = Job.objects.filter(pk=self.pk, state=JobState.RUNNING, claim=claim)
        return bool(mine.update(lease_until=wall + LEASE))

    def finish(self, *, claim: str, wall: datetime, result: Any = None) -> bool:
        """Mark the work done, inside the transaction that did it; False when the lease was lost to another worker."""
        mine = Job.objects.filter(pk=self.pk, state=JobState.RUNNING, claim=claim)
        return bool(mine.update(state=JobState.DONE, lease_until=None, finished_at=wall, result=result, error=""))

    def put_back(self, *, claim: str, wall: datetime, error: str) -> None:
        """After a failure: queue again with exponential back-off, or give up when the attempts are used."""
        mine = Job.objects.filter(pk=self.pk, state=JobState.RUNNING, claim=claim)
        if self.attempts >= self.max_attempts:
            mine.update(state=JobState.DEAD, lease_until=None, finished_at=wall, error=error)
            return
        pause = min(BACKOFF * 2 ** min(self.attempts - 1, 16), MAX_BACKOFF)  # 2**16 is far beyond the limit
        mine.update(state=JobState.QUEUED, lease_until=None, not_before=wall + pause, rung_at=None, error=error)


class Due(models.Model):
    """When a scheduled kind of work is due next (in event time: a replay drives it)."""

    name = models.CharField(max_length=100, unique=True)
    next_at = models.DateTimeField()
    last_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "due work"
        verbose_name_plural = "due work"
        ordering: ClassVar = ["next_at"]

    def __str__(self) -> str:
        return f"{self.name} at {self.next_at:%Y-%m-%d %H:%M}"


class Heartbeat(models.Model):
    """The last sign of life that passed through the broker and a worker."""

    name = models.CharField(max_length=40, unique=True)
    beat_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return f"{self.name}: {self.beat_at:%Y-%m-%d %H:%M:%S}"
