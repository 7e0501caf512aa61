"""Asked once, counted before the work, finished at most once, never lost."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ

from jobs import run
from jobs.drain import drain
from jobs.models import BACKOFF, LEASE, MAX_BACKOFF, Due, Job, JobState
from jobs.run import Work, enqueue, redeliver, ring, ring_due
from tests.jobs.works import abandoned, ago, bells, handled, job, leave_mark, marks, silence

pytestmark = pytest.mark.django_db


def fail(work: Work) -> None:
    leave_mark(work)
    raise ValueError("no such luck")


# --- Asking ---------------------------------------------------------------------------------------------------------


def test_enqueue__twice_under_one_key__asks_once() -> None:
    first = enqueue("test.kind", key="k", payload={"n": 1})
    second = enqueue("test.kind", key="k", payload={"n": 2})

    assert first == second
    assert Job.objects.get().payload == {"n": 1}
    assert bells() == 1


def test_enqueue__in_a_transaction_that_rolls_back__asks_nothing() -> None:
    with transaction.atomic():
        enqueue("test.kind", key="k")
        transaction.set_rollback(True)

    assert not Job.objects.exists()
    assert bells() == 0


def test_enqueue__for_later__rings_only_when_it_is_due() -> None:
    later = enqueue("test.kind", key="k", delay=timedelta(minutes=5))

    assert (bells(), ring_due(), bells()) == (0, 0, 0)
    Job.objects.filter(pk=later.pk).update(not_before=ago(1))
    assert (ring_due(), bells()) == (1, 1)


# --- Doing ----------------------------------------------------------------------------------------------------------


def test_run__of_plain_work__does_it_and_ends_it() -> None:
    asked = job()
    with handled("test.kind", leave_mark):
        run.run(asked.pk)

    asked.refresh_from_db()
    assert marks() == ["k"]
    assert (asked.state, asked.attempts, asked.lease_until, asked.error) == (JobState.DONE, 1, None, "")
    assert asked.finished_at is not None


def test_run__of_one_job_twice__does_it_once() -> None:
    asked = job()
    with handled("test.kind", leave_mark):
        run.run(asked.pk)
        run.run(asked.pk)

    assert marks() == ["k"]
    assert Job.objects.get().attempts == 1


def test_run__of_a_job_that_is_gone__is_quiet() -> None:
    run.run(12345)


def test_run__counts_the_attempt_before_the_work() -> None:
    seen: list[tuple[str, int]] = []

    def look(work: Work) -> None:
        saved = Job.objects.get()
        seen.append((saved.state, saved.attempts))

    with handled("test.kind", look):
        run.run(job().pk)

    assert seen == [(JobState.RUNNING, 1)]


def test_run__of_work_that_fails__undoes_it_keeps_the_trace_and_backs_off() -> None:
    asked, before = job(), timezone.now()
    with handled("test.kind", fail):
        run.run(asked.pk)
        run.run(asked.pk)  # not yet due: nobody may take it

    asked.refresh_from_db()
    assert marks() == []
    assert (asked.state, asked.attempts) == (JobState.QUEUED, 1)
    assert asked.not_before >= before + BACKOFF
    assert "ValueError: no such luck" in asked.error


def test_run__of_work_that_keeps_failing__waits_twice_as_long_each_time_then_gives_up() -> None:
    asked = job(max_attempts=3)
    pauses = []
    with handled("test.kind", fail):
        for _ in range(5):
            Job.objects.update(not_before=ago(1))
            run.run(asked.pk)
            asked.refresh_from_db()
            pauses.append(round((asked.not_before - timezone.now()).total_seconds()))

    assert pauses[:2] == [BACKOFF.total_seconds(), 2 * BACKOFF.total_seconds()]
    assert (asked.state, asked.attempts) == (JobState.DEAD, 3)
    assert asked.finished_at is not None


def test_put_back__after_many_attempts__waits_no_longer_than_the_limit() -> None:
    asked = job(state=JobState.RUNNING, claim="c", attempts=60, max_attempts=100)

    wall = timezone.now()
    asked.put_back(claim="c", wall=wall, error="x")

    assert Job.objects.get().not_before == wall + MAX_BACKOFF


def test_run__of_a_kind_that_nobody_knows__says_which_are_known() -> None:
    run.run(job(kind="test.unheard").pk)

    error = Job.objects.get().error
    assert "No handler for 'test.unheard'; known: " in error
    assert ", audit.react, " in error


def test_redeliver__of_a_dead_job__gives_it_fresh_attempts_and_rings() -> None:
    asked = job(state=JobState.DEAD, attempts=4, error="old", finished_at=ago(5))
    silence()

    assert redeliver(asked)
    with handled("test.kind", leave_mark):
        drain()

    assert marks() == ["k"]
    assert Job.objects.get().state == JobState.DONE


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.DONE])
def test_redeliver__of_a_job_that_is_not_dead__changes_nothing(state: str) -> None:
    asked = job(state=state, attempts=2)

    assert not redeliver(asked)
    assert (Job.objects.get().state, Job.objects.get().attempts) == (state, 2)


# --- Computing, then writing ------------------------------------------------------------------------------------------


def test_run__of_computing_work__ends_with_its_writes_and_result() -> None:
    def compute(work: Work) -> None:
        with work.finishing(result={"n": 3}):
            leave_mark(work)

    with handled("test.kind", compute, computes=True):
        run.run(job().pk, renew=False)

    assert (Job.objects.get().state, Job.objects.get().result, marks()) == (JobState.DONE, {"n": 3}, ["k"])


def test_run__of_computing_work_that_never_finishes__is_a_failure() -> None:
    with handled("test.kind", lambda work: None, computes=True):
        run.run(job().pk, renew=False)

    assert "returned without `with work.finishing()`" in Job.objects.get().error


def test_finishing__after_another_worker_took_over__undoes_the_writes_and_leaves_the_job() -> None:
    def overslept(work: Work) -> None:
        Job.objects.filter(pk=work.job.pk).update(lease_until=ago(1))
        assert Job.objects.get(pk=work.job.pk).take(claim="the other", wall=timezone.now())
        with work.finishing():
            leave_mark(work)

    with handled("test.kind", overslept, computes=True):
        run.run(job().pk, renew=False)

    taken = Job.objects.get()
    assert marks() == []
    assert (taken.state, taken.claim, taken.attempts, taken.error) == (JobState.RUNNING, "the other", 2, "")


def test_finishing__after_another_worker_finished__undoes_the_writes() -> None:
    def too_late(work: Work) -> None:
        Job.objects.filter(pk=work.job.pk).update(state=JobState.DONE, claim="the other")
        with work.finishing():
            leave_mark(work)

    with handled("test.kind", too_late, computes=True):
        run.run(job().pk, renew=False)

    assert marks() == []


def test_put_back__by_a_worker_that_lost_the_job__changes_nothing() -> None:
    asked = job(state=JobState.RUNNING, claim="the other", attempts=2)

    asked.put_back(claim="mine", wall=timezone.now(), error="late news")

    assert (Job.objects.get().state, Job.objects.get().error) == (JobState.RUNNING, "")


# --- Leases -----------------------------------------------------------------------------------------------------------


def test_take__while_the_lease_holds__is_refused() -> None:
    asked, wall = job(), timezone.now()

    assert asked.take(claim="one", wall=wall)
    assert not asked.take(claim="two", wall=wall + LEASE - timedelta(seconds=1))
    assert Job.objects.get().claim == "one"


def test_take__when_the_lease_has_run_out__takes_over() -> None:
    asked, wall = job(), timezone.now()
    asked.take(claim="one", wall=wall)

    assert asked.take(claim="two", wall=wall + LEASE + timedelta(seconds=1))
    assert (asked.claim, asked.attempts) == ("two", 2)


def test_renew__holds_the_lease_for_its_owner_only() -> None:
    asked, wall = job(), timezone.now()
    asked.take(claim="one", wall=wall)

    assert not asked.renew(claim="two", wall=wall)
    assert asked.renew(claim="one", wall=wall + LEASE)
    assert not asked.take(claim="two", wall=wall + LEASE + timedelta(seconds=1))


def test_take__with_all_attempts_used__is_refused() -> None:
    assert not abandoned(attempts=4).take(claim="two", wall=timezone.now())


def test_claim__tells_worker_and_process(settings: Any) -> None:
    settings.GATEHOUSE_WORKER_ID = "host-1a2b"
    asked = job()
    with handled("test.kind", leave_mark):
        run.run(asked.pk)

    assert Job.objects.get().claim.startswith("host-1a2b/")
    assert not Job.objects.held_by("host-1a2b").exists()
    abandoned("other", claim="host-1a2b/77/x")
    assert Job.objects.held_by("host-1a2b").count() == 1
    assert not Job.objects.held_by("host-1a2").exists()


# --- Ringing again ----------------------------------------------------------------------------------------------------


def test_ring_due__nothing_lost__rings_for_nobody() -> None:
    job("just asked")
    job("running", state=JobState.RUNNING, lease_until=ago(-20))
    job("ended", state=JobState.DONE)
    job("given up", state=JobState.DEAD)
    silence()

    assert (ring_due(), bells()) == (0, 0)


def test_ring_due__a_bell_lost_a_minute_ago__rings_again_once() -> None:
    job(rung_at=ago(61))
    silence()

    assert (ring_due(), ring_due(), bells()) == (1, 0, 1)


def test_ring_due__a_job_never_rung_for__rings() -> None:
    job(rung_at=None)
    silence()

    assert ring_due() == 1


def test_ring_due__a_worker_that_vanished__rings_as_soon_as_its_lease_has_run_out() -> None:
    abandoned()
    silence()

    assert (ring_due(), ring_due(), bells()) == (1, 0, 1)


def test_ring_due__a_worker_that_vanished_on_its_last_attempt__buries_the_job() -> None:
    abandoned(attempts=4)
    silence()

    assert (ring_due(), bells()) == (0, 0)
    assert (Job.objects.get().state, Job.objects.get().error) == (
        JobState.DEAD,
        "The worker vanished on the last attempt.",
    )


def test_ring_due__a_long_queue_that_still_waits_for_its_turn__is_not_rung_for_again() -> None:
    for number in range(3):
        job(str(number), rung_at=ago(3600))
    OrmQ.objects.update(lock=ago(3600))

    assert (ring_due(), bells()) == (0, 3)


def test_ring_due__a_bell_fetched_by_a_cluster_that_died__is_replaced_though_others_wait() -> None:
    job("fetched", rung_at=ago(3600))
    OrmQ.objects.update(lock=ago(-9000))
    job("waiting", rung_at=ago(600))
    OrmQ.objects.filter(lock__lt=timezone.now()).update(lock=ago(600))

    assert (ring_due(), bells()) == (1, 3)


def test_ring__of_a_job_that_another_ticker_rang_for_meanwhile__is_silent() -> None:
    asked = job()
    stale = Job.objects.get()
    silence()

    assert ring(asked) is False or bells() == 1  # asked was read before its first bell
    silence()
    assert ring(stale)
    assert not ring(stale)
    assert bells() == 1


def test_bury__of_a_job_whose_lease_was_renewed_meanwhile__leaves_it() -> None:
    vanished = abandoned(attempts=4)
    Job.objects.update(lease_until=ago(-30))

    run.bury(vanished)

    assert Job.objects.get().state == JobState.RUNNING


def test_killed_worker__the_work_is_done_once_by_the_next() -> None:
    abandoned()
    silence()

    with handled("test.kind", leave_mark):
        ring_due()
        drain()

    assert marks() == ["k"]
    assert (Job.objects.get().state, Job.objects.get().attempts) == (JobState.DONE, 2)
    assert Due.objects.count() == 1
