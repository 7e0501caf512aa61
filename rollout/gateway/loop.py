"""What goes on beside the serving: take the spool in, make missing kits, take back what keeps failing, ring due looks.

All of it is done by the worker's jobs as well; here it is done within seconds. Nothing here is on a request's path.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import DatabaseError, InterfaceError, connection

from rollout import ingest
from rollout.gateway import kits
from rollout.models import Rollout, RolloutState
from rollout.tasks import ask_for_look, roll_back_broken

log = logging.getLogger(__name__)

EVERY = 0.5


@dataclass
class Chore:
    """Something done every so many seconds; what goes wrong with it is told once until it goes well again."""

    every: float
    work: Callable[[datetime], object]
    due_at: float = field(default=0.0)
    is_failing: bool = False

    def turn(self, seconds: float, now: datetime) -> None:
        if seconds < self.due_at:
            return
        self.due_at = seconds + self.every
        try:
            self.work(now)
        except Exception as problem:  # noqa: BLE001  # the outermost loop: nothing that goes wrong here may end the serving
            if not self.is_failing:
                log.error("%s failed, and will be tried again: %s", self.work.__name__, problem)
            self.is_failing = True
            if isinstance(problem, DatabaseError | InterfaceError):
                connection.close()
            return
        self.is_failing = False


def take_in(now: datetime) -> None:
    """What gateways have spooled."""
    ingest.ingest(now=now)


def make_kits(now: datetime) -> None:
    """Warm-up kits that versions on routes lack."""
    kits.make_missing()


def take_back(now: datetime) -> None:
    """Canaries that gateways have stopped asking."""
    roll_back_broken(now=now)


def ring_looks(now: datetime) -> None:
    """Ask the worker for the looks that are due."""
    for rollout in Rollout.objects.filter(state__in=[RolloutState.SHADOW, RolloutState.CANARY]):
        ask_for_look(rollout, now=now)


class Loop:
    """The chores, each at its own pace."""

    def __init__(self, clock: Callable[[], datetime], *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._seconds = clock, seconds
        self._chores = [Chore(1.0, take_in), Chore(1.0, take_back), Chore(2.0, make_kits), Chore(5.0, ring_looks)]

    def turn(self) -> None:
        """Do what is due."""
        for chore in self._chores:
            chore.turn(self._seconds(), self._clock())
