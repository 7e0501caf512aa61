"""Ask for work and do it: ``enqueue`` beside the change that needs it, ``run`` when the bell rings.

A handler is a function registered under a kind. Two forms:

* ``@handler("kind")``: ``fn(work)`` runs inside one transaction together with the end of the job: it acts once.
* ``@handler("kind", computes=True)``: ``fn(work)`` computes outside a transaction, then writes inside
  ``with work.finishing(): …``; the lease is renewed meanwhile, and a worker that lost it can not write.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import F, Q
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.tasks import async_task

from jobs.models import LEASE, Job, JobState

log = logging.getLogger(__name__)

RING_AGAIN = timedelta(seconds=60)


class LeaseLost(RuntimeError):
    """Another worker took the job over while this one computed; its result is thrown away."""


class UnknownKind(RuntimeError):
    """No handler is registered for a job's kind."""


@dataclass
class Work:
    """What a handler gets: the job's payload and the door through which its result enters the database."""

    job: Job
    claim: str
    finished: bool = field(default=False, init=False)

    @property
    def payload(self) -> dict[str, Any]:
        return dict(self.job.payload)

    @contextmanager
    def finishing(self, result: Any = None) -> Iterator[None]:
        """One transaction for the writes of the work and the end of the job.

        Raises LeaseLost (and rolls back) when the job was taken over or finished by another worker.
        """
        with transaction.atomic():
            yield
            if not self.job.finish(claim=self.claim, wall=timezone.now(), result=result):
                raise LeaseLost(f"{self.job} was taken over by another worker")
        self.finished = True


Handler = Callable[[Work], Any]


@dataclass(frozen=True)
class _Registered:
    function: Handler
    computes: bool


_HANDLERS: dict[str, _Registered] = {}


def handler(kind: str, *, computes: bool = False) -> Callable[[Handler], Handler]:
    """Register the function that does the work of ``kind`` (module docstring)."""

    def register(function: Handler) -> Handler:
        _HANDLERS[kind] = _Registered(function, computes)
        return function

    return register


def enqueue(
    kind: str, *, key: str, payload: dict[str, Any] | None = None, max_attempts: int = 4, delay: timedelta | None = None
) -> Job:
    """Ask for work once per ``key``, in the caller's transaction; the bell commits or rolls back with it."""
    with transaction.atomic():
        due = timezone.now() + (delay or timedelta(0))
        job, created = Job.objects.get_or_create(
            key=key, defaults={"kind": kind, "payload": payload or {}, "max_attempts": max_attempts, "not_before": due}
        )
        if created and delay is None:
            ring(job)
        return job


def ring(job: Job) -> bool:
    """Tell the queue that ``job`` waits; False when somebody else has rung for it since it was read."""
    with transaction.atomic():
        mine = Job.objects.filter(pk=job.pk, rung_at=job.rung_at).update(rung_at=timezone.now())
        if mine:
            async_task("jobs.run.run", job.pk, task_name=f"{job.kind}-{job.pk}"[:100])
    return bool(mine)


def ring_due() -> int:
    """Ring again for every job that waits unheard or whose worker vanished; the count of bells rung."""
    wall = timezone.now()
    unheard = Q(rung_at=None) | Q(rung_at__lt=_heard_until(wall))
    vanished = Q(state=JobState.RUNNING, rung_at__lt=F("lease_until"))
    rung = 0
    for job in Job.objects.claimable(wall).filter(unheard | vanished).order_by("id")[:500]:
        if job.attempts >= job.max_attempts:
            bury(job)
        else:
            rung += ring(job)
    return rung


def _heard_until(wall: datetime) -> datetime:
    """A bell rung before this moment was heard by somebody or lost; a younger one may still wait for its turn.

    Bells are answered in order, so none that is younger than the oldest waiting one is lost: without this a long queue
    would be rung for again and again by everyone who waits in it.
    """
    waiting = OrmQ.objects.filter(key=Conf.CLUSTER_NAME, lock__lte=wall).order_by("id").first()
    patient = wall - RING_AGAIN
    # A bell's lock is set just after the job's rung_at, hence the second.
    return patient if waiting is None else min(patient, waiting.lock - timedelta(seconds=1))


def bury(job: Job) -> None:
    """End a job whose worker vanished on its last attempt (a killed process reports nothing itself)."""
    wall = timezone.now()
    abandoned = Job.objects.filter(pk=job.pk, claim=job.claim, state=JobState.RUNNING, lease_until__lt=wall)
    error = "The worker vanished on the last attempt."
    abandoned.update(state=JobState.DEAD, finished_at=wall, lease_until=None, error=error)


def redeliver(job: Job) -> bool:
    """Give a dead job a fresh set of attempts (an operator's decision; the caller records the event).

    False when the job is not dead (any more).
    """
    with transaction.atomic():
        dead = Job.objects.filter(pk=job.pk, state=JobState.DEAD)
        if not dead.update(state=JobState.QUEUED, attempts=0, not_before=timezone.now(), finished_at=None):
            return False
        job.refresh_from_db()
        return ring(job)


def run(job_id: int, *, renew: bool = True) -> None:
    """Do the work of a job if it is free; return quietly if it is not (so that the queue forgets the bell)."""
    job = Job.objects.filter(pk=job_id).first()
    claim = _new_claim()
    if job is None or not job.take(claim=claim, wall=timezone.now()):
        return
    work = Work(job, claim)
    try:
        _do(work, renew=renew)
    except LeaseLost as lost:
        log.warning("%s", lost)
    except Exception as problem:  # the outermost loop of background work: every failure is recorded on the job
        log.exception("%s failed (attempt %s of %s)", job, job.attempts, job.max_attempts)
        trace = "".join(traceback.format_exception(problem))[-8000:]
        job.put_back(claim=claim, wall=timezone.now(), error=trace)


def _new_claim() -> str:
    """A token that tells an operator which worker and process holds a job."""
    worker = str(settings.GATEHOUSE_WORKER_ID) or socket.gethostname()[:24]
    return f"{worker}/{os.getpid()}/{uuid.uuid4().hex[:12]}"


def _do(work: Work, *, renew: bool) -> None:
    registered = _HANDLERS.get(work.job.kind)
    if registered is None:
        raise UnknownKind(f"No handler for {work.job.kind!r}; known: {', '.join(sorted(_HANDLERS))}")
    if not registered.computes:
        with work.finishing():
            registered.function(work)
        return
    with _renewing(work) if renew else _nothing():
        registered.function(work)
    if not work.finished:
        raise RuntimeError(f"The handler of {work.job.kind!r} returned without `with work.finishing()`.")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _renewing(work: Work) -> Iterator[None]:
    """Renew the lease from a thread, so that it expires only when this process is gone."""
    stop = threading.Event()
    thread = threading.Thread(target=_renew_until, args=(stop, work), name=f"lease-{work.job.pk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _renew_until(stop: threading.Event, work: Work) -> None:
    """Runs in a thread, on a database connection of its own."""
    try:
        while not stop.wait(LEASE.total_seconds() / 3):
            try:
                if not work.job.renew(claim=work.claim, wall=timezone.now()):
                    return
            except Error as problem:  # a database that restarts, or SQLite locked by a long write: try again
                log.warning("The lease of %s was not renewed: %s", work.job, problem)
                connection.close()
    finally:
        connection.close()
