"""The replay's and the tests' worker: the same rows, the same function, no waiting."""

import pytest

from jobs import heartbeat
from jobs.drain import drain
from jobs.models import Heartbeat
from jobs.run import Work, enqueue
from tests.jobs.works import bells, handled, job, leave_mark, marks

pytestmark = pytest.mark.django_db


def test_drain__answers_in_the_order_of_asking_and_what_the_work_asks_for() -> None:
    order: list[str] = []

    def work(each: Work) -> None:
        order.append(each.job.key)
        if each.job.key == "a":
            enqueue("test.kind", key="asked by a")

    job("a"), job("b")
    with handled("test.kind", work):
        assert drain() == 3

    assert order == ["a", "b", "asked by a"]
    assert bells() == 0


def test_drain__of_nothing__answers_nothing() -> None:
    assert drain() == 0


def test_drain__of_work_that_asks_for_itself_for_ever__is_stopped() -> None:
    def again(work: Work) -> None:
        enqueue("test.kind", key=work.job.key + "x")

    job("x")
    with handled("test.kind", again), pytest.raises(RuntimeError, match="for ever"):
        drain(limit=20)


def test_drain__of_a_watchdogs_question__throws_it_away() -> None:
    heartbeat.send("host-1")
    job()

    with handled("test.kind", leave_mark):
        drain()

    assert marks() == ["k"]
    assert not Heartbeat.objects.exists()
