"""A question through the broker, answered by a worker of the cluster that was asked."""

from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from jobs import heartbeat
from jobs.broker import Bells, hand_back, own_queue
from jobs.models import LEASE, Heartbeat, JobState
from tests.jobs.works import abandoned, ago, bells, job, silence

pytestmark = pytest.mark.django_db


def fetch(worker: str, settings: Any) -> list[tuple[int, Any]]:
    """All that this worker's cluster would fetch, in order."""
    settings.GATEHOUSE_WORKER_ID = worker
    broker, fetched = Bells(list_key="gatehouse"), []
    while OrmQ.objects.filter(key__in=["gatehouse", own_queue(worker)], lock__lt=timezone.now()).exists():
        fetched += [(number, SignedPackage.loads(task)) for number, task in broker.dequeue() or []]
    return fetched


def test_question__is_answered_when_a_worker_beat_and_the_monitor_acknowledged(settings: Any) -> None:
    sent_at = heartbeat.send("host-1")
    assert heartbeat.is_waiting("host-1")

    [(number, task)] = fetch("host-1", settings)
    assert not heartbeat.is_answered("host-1", sent_at)
    assert task["func"] == "jobs.heartbeat.beat"
    heartbeat.beat(*task["args"])
    assert not heartbeat.is_answered("host-1", sent_at)  # a monitor that hangs acknowledges nothing

    Bells(list_key="gatehouse").acknowledge(number)
    assert heartbeat.is_answered("host-1", sent_at)


def test_question__thrown_away_by_the_queue__is_not_answered() -> None:
    sent_at = heartbeat.send("host-1")
    silence()  # what the pusher does with a bell it can not read

    assert not heartbeat.is_waiting("host-1")
    assert not heartbeat.is_answered("host-1", sent_at)


def test_question__to_one_cluster__is_not_heard_by_another(settings: Any) -> None:
    heartbeat.send("host-1")
    job()

    assert [task["func"] for _, task in fetch("host-2", settings)] == ["jobs.run.run"]
    assert heartbeat.is_waiting("host-1")


def test_dequeue__work_in_order_and_the_watchdogs_question_first(settings: Any) -> None:
    numbers = [job(str(number)).pk for number in range(3)]
    heartbeat.send("host-1")

    fetched = fetch("host-1", settings)

    assert [task["func"] for _, task in fetched] == ["jobs.heartbeat.beat"] + ["jobs.run.run"] * 3
    assert [task["args"] for _, task in fetched[1:]] == [(number,) for number in numbers]


def test_dequeue__a_bell_that_another_cluster_locked_first__is_left_to_it() -> None:
    job()
    bell = OrmQ.objects.get()
    OrmQ.objects.update(lock=ago(-60))

    assert not Bells(list_key="gatehouse")._lock(bell)


def test_dequeue__of_an_empty_queue__is_none() -> None:
    assert Bells(list_key="gatehouse").dequeue() is None


def test_beat__rings_for_the_jobs_of_a_killed_worker() -> None:
    abandoned()
    silence()

    heartbeat.beat("host-1", timezone.now().isoformat())

    assert bells() == 1


def test_beat__again_and_again__is_one_row() -> None:
    for _ in range(3):
        heartbeat.beat("host-1", timezone.now().isoformat())

    assert Heartbeat.objects.count() == 1


def test_hand_back__withdraws_the_questions_to_that_cluster_only() -> None:
    heartbeat.send("host-1"), heartbeat.send("host-2")
    job()

    hand_back("host-1")

    assert sorted(OrmQ.objects.values_list("key", flat=True)) == ["gatehouse", own_queue("host-2")]


def test_hand_back__what_the_dead_cluster_had_fetched_is_heard_by_the_next(settings: Any) -> None:
    asked = job()
    assert len(fetch("host-1", settings)) == 1
    assert fetch("host-2", settings) == []

    hand_back("host-1")

    assert [task["args"] for _, task in fetch("host-2", settings)] == [(asked.pk,)]


def test_last_sign_of_life__is_the_younger_of_answer_and_lease() -> None:
    assert heartbeat.last_sign_of_life() is None

    Heartbeat.objects.create(name="host-1", beat_at=ago(100))
    assert heartbeat.last_sign_of_life() == Heartbeat.objects.get().beat_at

    renewed = ago(50)
    job(state=JobState.RUNNING, lease_until=renewed + LEASE)
    assert heartbeat.last_sign_of_life() == renewed
