"""How fast the log is searched for changes, and how fast events are recorded into its chain.

    make bench BENCH=verify_audit                        # on SQLite; ARGS='--events 500000' for a longer log
    python tests/postgres_cluster.py -- python -m benchmarks.verify_audit --configured   # on that PostgreSQL

The log is filled with events as the loop leaves them (a few hundred bytes of data each), in transactions of a
thousand; the append rate is that of single events, each in a transaction of its own as in production. What is verified
is everything: each event's digest, each link, and two signed checkpoints with their Merkle roots.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter

from benchmarks import portal
from benchmarks.figures import Rate, report

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GOAL = 100_000
TIMES = 3
APPENDED = 2_000
BATCH = 1_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--configured", action="store_true", help="on the database of GATEHOUSE_DATABASE_URL")
    options = parser.parse_args(arguments)
    with portal.empty(os.environ["GATEHOUSE_DATABASE_URL"] if options.configured else None) as variables:
        os.environ.clear()
        os.environ.update(variables)
        portal.set_up()
        _fill(options.events)
        appended = _append_rate()
        verified = max(_verify_rate() for _ in range(TIMES))
    print(f"recorded {appended:,.0f} events/s, each in a transaction of its own")
    return report(Rate("verify_audit", verified, "events/s", at_least=GOAL))


def _event(number: int) -> dict[str, object]:
    digest = f"{number:064x}"
    return {
        "name": "rollout.canary",
        "subject_type": "rollout.rollout",
        "subject_id": str(number),
        "subject_label": f"late-arrival v{number}",
        "registered_model": "late-arrival",
        "service": "rollout",
        "reason": "No harm in shadow: loss +0.004 [-0.010, +0.018] after 10,000 requests.",
        "data": {"from": "shadow", "to": "canary", "step": 1, "share": 0.01, "artifact": digest, "version": "v7"},
        "at": NOW,
    }


def _fill(events: int) -> None:
    from audit import checkpoints
    from audit.models import Event

    for first in range(0, events, BATCH):
        Event.objects.bulk_create([Event(**_event(number)) for number in range(first, min(first + BATCH, events))])
        if first == events // BATCH // 2 * BATCH:
            checkpoints.make(now=NOW)
    checkpoints.make(now=NOW)


def _append_rate() -> float:
    from django.contrib.auth.models import Group

    from audit.trail import Service, record

    subject, robot = Group(pk=1, name="delay-science"), Service("benchmark")
    began = perf_counter()
    for number in range(APPENDED):
        record("rollout.looked", subject, actor=robot, reason="Nothing proven yet.", data={"look": number})
    return APPENDED / (perf_counter() - began)


def _verify_rate() -> float:
    from audit import verification

    began = perf_counter()
    found = verification.of_the_log()
    seconds = perf_counter() - began
    assert found.is_intact, found.problems[:3]
    assert found.checked_checkpoints == 2
    return found.events / seconds


if __name__ == "__main__":
    sys.exit(main())
