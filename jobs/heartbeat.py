"""Signs of life: a question that goes through the broker and a worker, and comes back as a row.

The watchdog rings (``send``), a worker of its cluster answers (``beat``). The bell's row disappears when the cluster's
monitor acknowledges it; only then was the whole way open (``is_answered``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Max
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from jobs.broker import own_queue
from jobs.models import LEASE, Heartbeat, Job, JobState
from jobs.run import ring_due

KEEP = timedelta(days=1)


def send(worker: str) -> datetime:
    """Ask the cluster of ``worker`` for a sign of life; the moment of asking, which the answer repeats."""
    sent_at = timezone.now()
    async_task("jobs.heartbeat.beat", worker, sent_at.isoformat(), cluster=own_queue(worker), task_name="heartbeat")
    return sent_at


def beat(worker: str, sent_at: str) -> None:
    """The answer, given in a worker. It also rings for lost work: an expired lease waits seconds, not for a tick."""
    values = {"beat_at": timezone.now(), "sent_at": datetime.fromisoformat(sent_at)}
    if not Heartbeat.objects.filter(name=worker).update(**values):
        Heartbeat.objects.get_or_create(name=worker, defaults=values)
    ring_due()


def is_waiting(worker: str) -> bool:
    """Whether a question to this cluster is still in the queue (not fetched, or not acknowledged)."""
    return bool(OrmQ.objects.filter(key=own_queue(worker)).exists())


def is_answered(worker: str, sent_at: datetime) -> bool:
    """Whether the question of ``sent_at`` was answered by a worker and acknowledged by the monitor."""
    return Heartbeat.objects.filter(name=worker, sent_at=sent_at).exists() and not is_waiting(worker)


def last_sign_of_life() -> datetime | None:
    """When any worker was last known to live: an answer, or a lease taken or renewed. None: never."""
    beat_at: datetime | None = Heartbeat.objects.aggregate(last=Max("beat_at"))["last"]
    running = Job.objects.filter(state=JobState.RUNNING).aggregate(last=Max("lease_until"))["last"]
    signs = [beat_at, running - LEASE if running else None]
    return max((sign for sign in signs if sign is not None), default=None)


def prune() -> None:
    """Forget workers that have long gone, and the questions they left behind."""
    long_ago = timezone.now() - KEEP
    Heartbeat.objects.filter(beat_at__lt=long_ago).delete()
    OrmQ.objects.filter(key__startswith=own_queue(""), lock__lt=long_ago).delete()
