"""A real ``manage.py worker`` on the test database, its processes by role, and the means to kill them.

    with running_worker(tmp_path) as worker:
        job = enqueue(...)
        worker.kill(worker.busy(job))
        wait_for(lambda: is_done(job), "the job is done")

Waiting is for conditions, never for a time. Linux only: processes are read from /proc.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from jobs import process
from jobs.models import Job, JobState

PROMISE = 120.0
"""Seconds within which killed work is finished without a hand."""
SHORT_LIMITS = {
    "GATEHOUSE_LEASE_SECONDS": "4",
    "GATEHOUSE_HEARTBEAT_EVERY": "1",
    "GATEHOUSE_HEARTBEAT_LIMIT": "10",
    "GATEHOUSE_STOP_GRACE": "20",
}

Found = TypeVar("Found")


def wait_for(condition: Callable[[], Found | None], what: str, *, within: float = PROMISE) -> Found:
    """The first true answer of ``condition``; fails with ``what`` after ``within`` seconds."""
    deadline = monotonic() + within
    while monotonic() < deadline:
        if answer := condition():
            return answer
        sleep(0.1)
    raise AssertionError(f"not within {within:.0f} s: {what}")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    name: str


def processes() -> dict[int, Process]:
    """All living processes of this machine by pid; zombies are dead."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        state, parent = text[text.rindex(")") + 2 :].split()[:2]
        if state not in "ZX":
            pid = int(path.parent.name)
            found[pid] = Process(pid, int(parent), name)
    return found


def is_alive(pid: int) -> bool:
    return pid in processes()


def below(pid: int) -> set[int]:
    """Children of a process, their children, and so on."""
    everyone, found = processes(), {pid}
    while more := {each.pid for each in everyone.values() if each.parent in found} - found:
        found |= more
    return found - {pid}


@dataclass
class RunningWorker:
    """A watchdog and the cluster below it. Roles are read anew each time: processes are replaced."""

    watchdog: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> set[int]:
        """All processes below the watchdog."""
        return below(self.watchdog.pid)

    def main(self) -> int:
        return self._one(process.MAIN)

    def sentinel(self) -> int:
        return self._one(process.SENTINEL)

    def workers(self) -> set[int]:
        return self._named(process.WORKER)

    def auxiliaries(self) -> set[int]:
        """Pusher and monitor: what carries bells in and acknowledgements out."""
        return self._named(process.AUXILIARY)

    def busy(self, job: Job) -> int:
        """The worker process that holds this job."""
        claim: str = wait_for(
            lambda: Job.objects.filter(pk=job.pk, state=JobState.RUNNING).values_list("claim", flat=True).first(),
            f"{job} is taken by a worker",
        )
        return int(claim.split("/")[1])

    def idle(self, job: Job) -> int:
        """A worker process that does not hold this job (and, when it is the only one, waits for work)."""
        busy = self.busy(job)
        return wait_for(lambda: next(iter(self.workers() - {busy}), None), "there is an idle worker")

    def kill(self, pid: int) -> None:
        """What the out-of-memory killer does."""
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid), f"process {pid} is dead", within=10)

    def stop(self) -> int:
        """Ask the watchdog to end; its exit code."""
        self.watchdog.terminate()
        return self.watchdog.wait(timeout=60)

    def _one(self, name: str) -> int:
        return wait_for(lambda: next(iter(self._named(name)), None), f"{name} runs", within=60)

    def _named(self, name: str) -> set[int]:
        everyone = processes()
        return {pid for pid in self.pids() if pid in everyone and everyone[pid].name == name}


@contextmanager
def running_worker(
    folder: Path,
    *,
    environment: Mapping[str, str] = SHORT_LIMITS,
    settings_module: str = "tests.jobs.settings",
    database_url: str = "",
) -> Iterator[RunningWorker]:
    """A worker on the test database (or another), with its own folder for data and for its log."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "worker.log"
    with log.open("ab") as output:
        watchdog = subprocess.Popen(
            [sys.executable, "manage.py", "worker"],
            cwd=settings.BASE_DIR,
            env=worker_environment(folder, settings_module, database_url or tests_database_url()) | dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    worker = RunningWorker(watchdog, log)
    try:
        yield worker
    except BaseException:
        print(log.read_text(errors="replace")[-8000:])
        raise
    finally:
        _end(worker)


def worker_environment(folder: Path, settings_module: str, database_url: str) -> dict[str, str]:
    """The same secret key as here: it signs what is in the queue."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": settings_module,
        "GATEHOUSE_DATA": str(folder),
        "GATEHOUSE_DATABASE_URL": database_url,
        "GATEHOUSE_SECRET_KEY": settings.SECRET_KEY,
        "GATEHOUSE_WORKERS": "2",
    }


def tests_database_url() -> str:
    """Where the tests' own connection leads, as a URL."""
    where: dict[str, Any] = connection.settings_dict
    if str(where["HOST"]).startswith("/"):
        return f"postgres://{where['USER']}@/{quote(where['HOST'])}/{where['NAME']}"
    password = quote(where["PASSWORD"], safe="")
    return f"postgres://{where['USER']}:{password}@{where['HOST']}:{where['PORT'] or 5432}/{where['NAME']}"


def _end(worker: RunningWorker) -> None:
    """Nothing of the worker may touch the database that the test framework empties next."""
    if worker.watchdog.poll() is None:
        below = worker.pids()
        worker.watchdog.kill()
        worker.watchdog.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in below), "the worker's processes are gone", within=20)
