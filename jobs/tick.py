"""The one schedule: each tick turns due work into jobs and rings again for what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from jobs import heartbeat
from jobs.models import Due, Job, JobState
from jobs.run import enqueue, ring_due

KEEP_DONE = timedelta(days=7)


@dataclass(frozen=True)
class Schedule:
    """Work of ``kind`` that is due every ``every`` (event time)."""

    name: str
    kind: str
    every: timedelta


def tick(*, now: datetime, schedules: Sequence[Schedule]) -> None:
    """Enqueue what is due at ``now``, exactly once per slot however many tickers there are; ring lost bells."""
    dues = {due.name: due for due in Due.objects.all()}
    for schedule in schedules:
        due = dues.get(schedule.name) or Due.objects.get_or_create(name=schedule.name, defaults={"next_at": now})[0]
        if due.next_at <= now:
            _enqueue_slot(schedule, due, now)
    ring_due()


def _enqueue_slot(schedule: Schedule, due: Due, now: datetime) -> None:
    """Missed slots are not replayed one by one: the work recomputes from stored state, so once is enough."""
    missed = (now - due.next_at) // schedule.every
    following = due.next_at + (missed + 1) * schedule.every
    with transaction.atomic():
        mine = Due.objects.filter(pk=due.pk, next_at=due.next_at).update(next_at=following, last_at=now)
        if mine:
            slot = f"{schedule.name}@{due.next_at.isoformat()}"
            enqueue(schedule.kind, key=slot, payload={"schedule": schedule.name})


def prune() -> int:
    """Forget workers long gone, and jobs that ended well long ago: events and domain rows are the record.

    The count of jobs deleted.
    """
    heartbeat.prune()
    old = Job.objects.filter(state=JobState.DONE, finished_at__lt=timezone.now() - KEEP_DONE)
    return int(old.delete()[0])
