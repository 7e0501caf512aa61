"""Several workers, tickers and askers at once. Threads and row locks: PostgreSQL only."""

import threading
from datetime import datetime, timedelta
from functools import partial

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from jobs import run
from jobs.broker import Bells
from jobs.models import Due, Job, JobState
from jobs.run import Work, enqueue, ring_due
from jobs.tick import Schedule, tick
from tests.builders import NOON
from tests.jobs.works import abandoned, bells, handled, job, leave_mark, marks, silence
from tests.races import THREADS, race

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def test_enqueue__eight_at_once_under_one_key__ask_once_and_ring_once() -> None:
    outcomes = race(lambda n: enqueue("test.kind", key="k", payload={"n": n}))

    assert {getattr(each, "pk", each) for each in outcomes} == {Job.objects.get().pk}
    assert bells() == 1


def test_run__eight_workers_with_one_bell__do_the_work_once() -> None:
    asked = job()

    with handled("test.kind", leave_mark):
        race(lambda n: run.run(asked.pk))

    assert marks() == ["k"]
    assert (Job.objects.get().state, Job.objects.get().attempts) == (JobState.DONE, 1)


def test_take__of_an_abandoned_job_by_eight__one_gets_it() -> None:
    left = abandoned()
    copies = [Job.objects.get(pk=left.pk) for _ in range(THREADS)]

    outcomes = race(lambda n: copies[n].take(claim=f"thread {n}", wall=timezone.now()))

    assert sorted(outcomes, key=bool) == [False] * (THREADS - 1) + [True]
    assert Job.objects.get().attempts == 2


def test_dequeue__by_eight_clusters__each_bell_goes_to_one() -> None:
    for number in range(4):
        job(str(number))

    outcomes = race(lambda n: Bells(list_key="gatehouse").dequeue())

    fetched = [number for outcome in outcomes for number, _ in outcome or []]
    assert len(fetched) == len(set(fetched))
    assert len(fetched) >= 1


def test_ring_due__by_eight_tickers__rings_each_job_once() -> None:
    for number in range(5):
        abandoned(str(number))
    silence()

    outcomes = race(lambda n: ring_due())

    assert sum(outcome for outcome in outcomes if isinstance(outcome, int)) == 5
    assert OrmQ.objects.count() == 5


def tick_late(seconds: int, *, slot: datetime, schedules: list[Schedule]) -> None:
    tick(now=slot + timedelta(seconds=seconds), schedules=schedules)


def test_tick__by_eight_tickers_from_the_first_on__asks_once_per_slot() -> None:
    hourly = [Schedule(name, f"test.{name}", every=timedelta(hours=1)) for name in ("watch", "compact", "look")]

    for slot in range(3):
        assert race(partial(tick_late, slot=NOON + slot * timedelta(hours=1), schedules=hourly)) == [None] * THREADS

    assert Due.objects.count() == 3
    assert Job.objects.count() == 9


def test_lease__of_long_work__is_renewed_so_that_nobody_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    short = timedelta(seconds=0.6)
    monkeypatch.setattr("jobs.models.LEASE", short)
    monkeypatch.setattr("jobs.run.LEASE", short)
    asked, thieves = job(), []

    def long_work(work: Work) -> None:
        for _ in range(8):
            threading.Event().wait(0.25)
            thieves.append(Job.objects.get(pk=work.job.pk).take(claim="thief", wall=timezone.now()))
        with work.finishing():
            leave_mark(work)

    with handled("test.kind", long_work, computes=True):
        run.run(asked.pk)

    assert thieves == [False] * 8
    assert (Job.objects.get().state, Job.objects.get().attempts, marks()) == (JobState.DONE, 1, ["k"])
