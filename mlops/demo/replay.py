"""The replay: a year of traffic in event time, through the same tick, jobs, gateway and log as in production.

The clock of this process is set to each step; the queue is worked off in this process instead of by a worker, so that
nobody waits for polling. Work that computes still runs in its own child processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from audit import clock
from audit.errors import Conflict
from jobs.drain import drain
from jobs.tick import Schedule, tick
from mlops.demo.advice import Advice
from mlops.schedules import SCHEDULES
from rollout import gateway, prediction_log

STEP = timedelta(hours=4)
"""One step of the replay: the cadence of the fast feature views, so that each is materialized on time."""
QUIET = timedelta(hours=12)
"""A step without requests (the small hours) is passed over, but never for longer than this."""

COARSER = {
    "materialize": STEP,
    "describe": timedelta(days=7),
    "rollouts": timedelta(hours=12),
    "watch": timedelta(days=1),
    "serving": timedelta(hours=12),
    "freshness": timedelta(hours=12),
    "consistency": timedelta(days=7),
}
REPLAY_SCHEDULES: tuple[Schedule, ...] = tuple(
    replace(schedule, every=COARSER.get(schedule.name, timedelta(days=1))) for schedule in SCHEDULES
)
"""The same work as in production, less often: a step is hours long, so nothing is gained by asking every minute."""


@dataclass(frozen=True)
class Scene:
    """Something a person does at a moment of the story; it is tried again at the next step when it must wait."""

    at: datetime
    title: str
    act: Callable[[datetime], None]


@dataclass(frozen=True)
class Traffic:
    """Requests sorted by ``at`` and outcomes sorted by ``arrived_at``."""

    requests: pa.Table
    outcomes: pa.Table

    def asked(self, start: datetime, end: datetime) -> pa.Table:
        return _between(self.requests, "at", start, end)

    def arrived(self, start: datetime, end: datetime) -> pa.Table:
        return _between(self.outcomes, "arrived_at", start, end)


def _between(table: pa.Table, column: str, start: datetime, end: datetime) -> pa.Table:
    """Rows with start <= column < end of a table that is sorted by it."""
    times = table[column]
    first = pc.sum(pc.less(times, pa.scalar(start, times.type))).as_py() or 0
    last = pc.sum(pc.less(times, pa.scalar(end, times.type))).as_py() or 0
    return table.slice(first, last - first)


def replay(
    *, endpoint: str, traffic: Traffic, start: datetime, end: datetime, scenes: Sequence[Scene]
) -> Iterator[datetime]:
    """Live through [start, end) step by step; yields the moment after each step. The clock is left at ``end``."""
    waiting = sorted(scenes, key=lambda scene: scene.at)
    advice = Advice(endpoint)
    now, lived = start, start - QUIET
    while now < end:
        requests = traffic.asked(now, now + STEP)
        if requests.num_rows or now - lived >= QUIET:
            clock.set_to(now)
            _learn_outcomes(endpoint, traffic, advice, since=lived, until=now)
            waiting = [scene for scene in waiting if not _played(scene, now)]
            tick(now=now, schedules=REPLAY_SCHEDULES)
            drain()
            _serve(endpoint, requests, advice, now)
            lived = now
        now += STEP
        yield now
    clock.set_to(end)


def _played(scene: Scene, now: datetime) -> bool:
    if scene.at > now:
        return False
    try:
        scene.act(now)
    except Conflict:
        return False  # something else is under way (one open training run per model): try again at the next step
    drain()
    return True


def _learn_outcomes(endpoint: str, traffic: Traffic, advice: Advice, *, since: datetime, until: datetime) -> None:
    """Outcomes that arrived since the last step, and what the answers were worth by them."""
    outcomes = traffic.arrived(since, until)
    if outcomes.num_rows:
        prediction_log.append_outcomes(endpoint, outcomes)
        advice.weigh(outcomes)


def _serve(endpoint: str, requests: pa.Table, advice: Advice, now: datetime) -> None:
    """Requests of the step that begins at ``now`` are answered."""
    if requests.num_rows:
        advice.give(requests, gateway.serve(endpoint, requests, now=now, refresh=True).table)
