"""Kinds of work that tests ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django_q.models import OrmQ

from jobs import run
from jobs.models import Due, Job, JobState
from jobs.run import Work, enqueue


@contextmanager
def handled(kind: str, work: Callable[[Work], object], *, computes: bool = False) -> Iterator[None]:
    """Work of ``kind`` is done by this function inside the block."""
    run.handler(kind, computes=computes)(work)
    try:
        yield
    finally:
        del run._HANDLERS[kind]


def job(key: str = "k", kind: str = "test.kind", **fields: Any) -> Job:
    """A job that was asked for; ``fields`` then changes its row."""
    made = enqueue(kind, key=key)
    if fields:
        Job.objects.filter(pk=made.pk).update(**fields)
        made.refresh_from_db()
    return made


def ago(seconds: float) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)


def abandoned(key: str = "k", **fields: Any) -> Job:
    """A job whose worker was killed: running under a lease that has run out."""
    values: dict[str, Any] = {"state": JobState.RUNNING, "claim": "gone/1/x", "attempts": 1}
    values |= {"lease_until": ago(1), "rung_at": ago(40)}
    return job(key, **(values | fields))


def leave_mark(work: Work) -> None:
    """A handler with one effect in the database, so that doing it twice shows."""
    Due.objects.create(name=work.job.key, next_at=timezone.now())


def marks() -> list[str]:
    return sorted(Due.objects.values_list("name", flat=True))


def bells() -> int:
    return int(OrmQ.objects.count())


def silence() -> None:
    """Lose all bells."""
    OrmQ.objects.all().delete()
