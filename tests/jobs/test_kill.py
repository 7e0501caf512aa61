"""kill -9 of any process of the queue, in the middle of work: the work is finished once, without a hand."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from audit.models import Event
from jobs.models import Job, JobState
from jobs.run import enqueue
from tests.jobs.cluster import PROMISE, SHORT_LIMITS, RunningWorker, is_alive, running_worker, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

VICTIMS: dict[str, Callable[[RunningWorker, Job], int]] = {
    "busy worker": lambda worker, job: worker.busy(job),
    "idle worker": lambda worker, job: worker.idle(job),
    "sentinel": lambda worker, job: worker.sentinel(),
    "main process": lambda worker, job: worker.main(),
}


def ask(folder: Path, kind: str = "probe.computing") -> Job:
    folder.mkdir()
    return enqueue(kind, key=folder.name, payload={"folder": str(folder)})


def begun(folder: Path, attempt: int) -> None:
    wait_for((folder / f"started-{attempt}").exists, f"attempt {attempt} has begun")


def let_go(folder: Path) -> None:
    (folder / "go").touch()


def ended(job: Job, *, since: float) -> Job:
    wait_for(lambda: Job.objects.filter(pk=job.pk, state=JobState.DONE).exists(), f"{job} is done")
    print(f"{job.key}: done {monotonic() - since:.1f} s after the kill")
    job.refresh_from_db()
    return job


def effects(job: Job) -> int:
    return int(Event.objects.filter(name="probe.worked", subject_id=str(job.pk)).count())


@pytest.mark.parametrize("victim", VICTIMS.values(), ids=VICTIMS.keys())
def test_kill__in_the_middle_of_work__it_is_finished_once_and_the_next_work_too(
    tmp_path: Path, victim: Callable[[RunningWorker, Job], int]
) -> None:
    with running_worker(tmp_path) as worker:
        job = ask(tmp_path / "first")
        begun(tmp_path / "first", attempt=1)

        killed_at = monotonic()
        worker.kill(victim(worker, job))
        later = ask(tmp_path / "second")
        begun(tmp_path / "first", attempt=2)
        let_go(tmp_path / "first")
        let_go(tmp_path / "second")
        ended(job, since=killed_at)
        ended(later, since=killed_at)

        assert monotonic() - killed_at < PROMISE
        assert (effects(job), job.result) == (1, {"attempt": job.attempts})
        assert effects(later) == 1
        assert worker.watchdog.poll() is None


def test_kill__of_a_worker_inside_its_transaction__leaves_nothing_of_the_first_attempt(tmp_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        job = ask(tmp_path / "work", kind="probe.plain")
        begun(tmp_path / "work", attempt=1)

        killed_at = monotonic()
        worker.kill(worker.busy(job))
        begun(tmp_path / "work", attempt=2)
        let_go(tmp_path / "work")

        assert (ended(job, since=killed_at).attempts, effects(job)) == (2, 1)
        assert Event.objects.get(name="probe.worked").data == {"attempt": 2}


def test_kill__of_pusher_and_monitor__loses_and_repeats_nothing(tmp_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        job = ask(tmp_path / "first")
        begun(tmp_path / "first", attempt=1)

        killed_at = monotonic()
        for pid in wait_for(worker.auxiliaries, "pusher and monitor run"):
            worker.kill(pid)
        later = ask(tmp_path / "second")
        let_go(tmp_path / "first")
        let_go(tmp_path / "second")
        ended(job, since=killed_at)
        ended(later, since=killed_at)

        assert (effects(job), effects(later)) == (1, 1)


def test_kill__of_the_watchdog__ends_its_cluster_and_the_next_worker_finishes(tmp_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        job = ask(tmp_path / "work")
        begun(tmp_path / "work", attempt=1)
        below = worker.pids()
        assert len(below) >= 6  # main, sentinel, two workers, pusher, monitor

        killed_at = monotonic()
        worker.watchdog.kill()
        worker.watchdog.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in below), "no orphan is left", within=10)

    with running_worker(tmp_path):
        begun(tmp_path / "work", attempt=2)
        let_go(tmp_path / "work")
        assert (ended(job, since=killed_at).attempts, effects(job)) == (2, 1)


def test_silence__of_workers_that_are_all_busy__is_not_taken_for_death(tmp_path: Path) -> None:
    limit = float(SHORT_LIMITS["GATEHOUSE_HEARTBEAT_LIMIT"])
    with running_worker(tmp_path) as worker:
        jobs = [ask(tmp_path / name) for name in ("first", "second")]
        begun(tmp_path / "first", attempt=1)
        begun(tmp_path / "second", attempt=1)
        main, busy_since = worker.main(), monotonic()

        wait_for(lambda: monotonic() > busy_since + 1.5 * limit, "nobody could answer for longer than the limit")
        let_go(tmp_path / "first")
        let_go(tmp_path / "second")

        assert [ended(job, since=busy_since).attempts for job in jobs] == [1, 1]
        assert worker.main() == main


def test_stop__in_the_middle_of_work__finishes_it_first_and_leaves_no_process(tmp_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        job = ask(tmp_path / "work")
        begun(tmp_path / "work", attempt=1)
        below = worker.pids()

        worker.watchdog.terminate()
        wait_for(lambda: "stopping" in worker.log.read_text(), "the watchdog has heard", within=10)
        let_go(tmp_path / "work")

        assert worker.watchdog.wait(timeout=30) == 0
        assert not any(is_alive(pid) for pid in below)
        job.refresh_from_db()
        assert (job.state, job.attempts, effects(job)) == (JobState.DONE, 1, 1)
