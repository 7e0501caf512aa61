"""One tick, over our own table of what is due."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from jobs import heartbeat
from jobs.broker import own_queue
from jobs.models import Due, Heartbeat, Job, JobState
from jobs.tick import KEEP_DONE, Schedule, prune, tick
from tests.builders import NOON
from tests.jobs.works import ago, job

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
HOURLY = Schedule("watch", "test.watch", every=HOUR)
DAILY = Schedule("compact", "test.compact", every=timedelta(days=1))


def asked() -> list[str]:
    return list(Job.objects.order_by("id").values_list("kind", flat=True))


def test_tick__the_first__asks_for_everything_once() -> None:
    tick(now=NOON, schedules=[HOURLY, DAILY])
    tick(now=NOON, schedules=[HOURLY, DAILY])

    assert asked() == ["test.watch", "test.compact"]


def test_tick__between_two_slots__asks_for_nothing() -> None:
    tick(now=NOON, schedules=[HOURLY])
    tick(now=NOON + HOUR - timedelta(seconds=1), schedules=[HOURLY])

    assert Job.objects.count() == 1
    tick(now=NOON + HOUR, schedules=[HOURLY])
    assert Job.objects.count() == 2


def test_tick__after_a_long_silence__asks_once_and_keeps_to_its_slots() -> None:
    tick(now=NOON, schedules=[HOURLY])
    tick(now=NOON + 5.5 * HOUR, schedules=[HOURLY])

    assert Job.objects.count() == 2
    assert Due.objects.get().next_at == NOON + 6 * HOUR
    assert Due.objects.get().last_at == NOON + 5.5 * HOUR


def test_tick__by_several_tickers_that_read_the_same_table__asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tick(now=NOON, schedules=[HOURLY])
    stale = list(Due.objects.all())

    for moment in (0, 1, 2):  # three hosts whose clocks differ by a second, each with the table as it was
        from jobs import tick as module

        module._enqueue_slot(HOURLY, stale[0], NOON + HOUR + timedelta(seconds=moment))

    assert Job.objects.count() == 2
    assert Due.objects.get().next_at == NOON + 2 * HOUR


def test_tick__rings_for_lost_work() -> None:
    job(rung_at=ago(120))
    OrmQ.objects.all().delete()

    tick(now=NOON, schedules=[])

    assert OrmQ.objects.count() == 1


def test_prune__forgets_only_what_ended_well_long_ago() -> None:
    old = timezone.now() - KEEP_DONE - HOUR
    job("old", state=JobState.DONE, finished_at=old)
    job("young", state=JobState.DONE, finished_at=ago(5))
    job("dead", state=JobState.DEAD, finished_at=old)
    job("waiting")

    assert prune() == 1
    assert sorted(Job.objects.values_list("key", flat=True)) == ["dead", "waiting", "young"]


def test_prune__forgets_workers_that_have_gone_and_the_questions_to_them() -> None:
    Heartbeat.objects.create(name="gone", beat_at=ago(2 * 86400))
    Heartbeat.objects.create(name="here", beat_at=ago(5))
    heartbeat.send("gone")
    heartbeat.send("here")
    OrmQ.objects.filter(key=own_queue("gone")).update(lock=ago(2 * 86400))
    job("work")
    OrmQ.objects.exclude(key__contains="@").update(lock=ago(2 * 86400))

    prune()

    assert Heartbeat.objects.get().name == "here"
    assert sorted(OrmQ.objects.values_list("key", flat=True)) == ["gatehouse", own_queue("here")]
