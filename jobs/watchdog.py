"""Keep one queue cluster alive: start it, ask it for signs of life, kill and restart it when it is silent.

django-q2's cluster can stop for good without ending (a killed idle worker leaves the queue's lock taken) and can end
without stopping (its sentinel dies, the rest works on). So the watchdog trusts neither exit codes nor processes, only
an answer that went through the broker, a worker and the monitor. Before a restart it kills the whole process group,
withdraws its own questions and frees the leases that the dead processes held.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, sleep

from django.conf import settings
from django.db import Error, close_old_connections, connection
from django.utils import timezone

from jobs import heartbeat, schedule
from jobs.broker import hand_back
from jobs.models import Job

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5
START_FACTOR = 3
"""A starting cluster loads the whole project: its first answer may take this many times the limit."""
MAX_PAUSE = 30.0


@dataclass(frozen=True)
class Limits:
    """Seconds: between two questions, until silence counts as death, until a tick is lost, for a graceful stop."""

    every: float
    silence: float
    tick: float
    grace: float

    @classmethod
    def from_settings(cls) -> Limits:
        return cls(
            every=settings.GATEHOUSE_HEARTBEAT_EVERY,
            silence=settings.GATEHOUSE_HEARTBEAT_LIMIT,
            tick=settings.GATEHOUSE_TICK_LIMIT,
            grace=settings.GATEHOUSE_STOP_GRACE,
        )


@dataclass
class Pulse:
    """What is known about one cluster's life. Times are monotonic seconds."""

    limits: Limits
    born: float
    felt: float = field(init=False)
    """When life was last certain, or could not be asked for."""
    answered: bool = field(default=False, init=False)
    """Whether this cluster ever answered."""

    def __post_init__(self) -> None:
        self.felt = self.born

    def alive(self, at: float) -> None:
        self.felt = at
        self.answered = True

    def unknown(self, at: float) -> None:
        """The database did not answer: a restart of the cluster would not help, so the silence starts anew."""
        self.felt = at

    def complaint(self, at: float, *, tick_late: float) -> str:
        """Why the cluster has to be restarted; empty when it has not. ``tick_late`` in seconds."""
        patience = self.limits.silence * (1 if self.answered else START_FACTOR)
        if at - self.felt > patience:
            return f"no sign of life for {at - self.felt:.0f} s"
        if min(tick_late, at - self.born) > self.limits.tick:
            return f"no tick for {tick_late:.0f} s: the sentinel does not schedule"
        return ""


class Cluster:
    """A running queue cluster: a process group of its own, led by ``jobs.cluster``."""

    def __init__(self, worker: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobs.cluster", str(os.getpid())],
            cwd=settings.BASE_DIR,
            env={**os.environ, "GATEHOUSE_WORKER_ID": worker},
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether the main process has ended. It is not reaped yet, so that its process group keeps its number."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def ask_to_end(self) -> None:
        """Signals the main process alone: the sentinel must stop the others in order."""
        self._process.terminate()

    def kill(self) -> int:
        """Kill the whole process group; the main process's exit code."""
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()


class Watchdog:
    """Runs in the foreground until SIGTERM or SIGINT; a second signal cuts the graceful stop short."""

    def __init__(self, *, limits: Limits, workers: int) -> None:
        self.limits = limits
        self.workers = workers
        self.worker = f"{socket.gethostname()[:24]}-{uuid.uuid4().hex[:8]}"
        self._signals = 0
        self._sent_at: datetime | None = None
        self._sent = 0.0
        self._tick_late = 0.0

    def run(self) -> None:
        """Keep a cluster running; returns after a graceful stop."""
        pause = 0.0
        with self._listening():
            while not self._signals:
                cluster = Cluster(self.worker)
                log.info("worker %s: the queue starts as process %s", self.worker, cluster.pid)
                pulse = Pulse(self.limits, born=monotonic())
                try:
                    complaint = self._watch(cluster, pulse)
                    if self._signals:
                        self._stop(cluster)
                finally:
                    code = cluster.kill()
                self._clean_up()
                if complaint:
                    pause = 0.0 if pulse.answered else min(2 * pause + 1, MAX_PAUSE)
                    log.error("worker %s: %s (exit code %s); restart in %.0f s", self.worker, complaint, code, pause)
                    self._rest(pause)
        log.info("worker %s: stopped", self.worker)

    def _watch(self, cluster: Cluster, pulse: Pulse) -> str:
        """Returns what is wrong as soon as something is; empty when asked to stop."""
        self._sent_at, self._tick_late = None, 0.0
        while not self._signals:
            if cluster.has_ended():
                return "the queue's main process ended"
            try:
                self._feel(pulse)
            except Error as problem:
                log.error("worker %s: the database does not answer: %s", self.worker, problem)
                connection.close()
                pulse.unknown(monotonic())
            if complaint := pulse.complaint(monotonic(), tick_late=self._tick_late):
                return complaint
            sleep(LOOK_EVERY)
        return ""

    def _feel(self, pulse: Pulse) -> None:
        """Look for an answer; ask again when it is time and the last question is no longer in the queue."""
        close_old_connections()
        waiting = heartbeat.is_waiting(self.worker)
        answered = self._sent_at is not None and heartbeat.is_answered(self.worker, self._sent_at)
        if answered or self._is_saturated():
            pulse.alive(monotonic())
        if self._sent_at is None or (not waiting and monotonic() - self._sent >= self.limits.every):
            schedule.install()
            self._tick_late = schedule.lateness().total_seconds()
            self._sent_at, self._sent = heartbeat.send(self.worker), monotonic()

    def _is_saturated(self) -> bool:
        """All workers hold a lease that they renew: they are busy, not dead, though they can not answer."""
        held = Job.objects.held_by(self.worker).filter(lease_until__gt=timezone.now())
        return bool(held.count() >= self.workers)

    def _clean_up(self) -> None:
        """After the group's death: what it had claimed or fetched is free now, not when leases run out."""
        try:
            hand_back(self.worker)
            Job.objects.held_by(self.worker).update(lease_until=timezone.now())
        except Error as problem:
            log.error("worker %s: leases will end by themselves: %s", self.worker, problem)
            connection.close()

    def _stop(self, cluster: Cluster) -> None:
        log.info("worker %s: stopping; work in progress gets %.0f s", self.worker, self.limits.grace)
        cluster.ask_to_end()
        deadline = monotonic() + self.limits.grace
        while not cluster.has_ended() and monotonic() < deadline and self._signals < 2:
            sleep(0.1)

    def _rest(self, seconds: float) -> None:
        deadline = monotonic() + seconds
        while not self._signals and monotonic() < deadline:
            sleep(0.1)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Count signals and do nothing else: a handler that touches locks is how queues hang on stop."""
        handlers = {number: signal.signal(number, self._count) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _count(self, number: int, frame: object) -> None:
        self._signals += 1
