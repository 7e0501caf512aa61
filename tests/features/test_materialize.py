"""When a materialization runs, what it writes, and that it can be asked again at any time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from audit import clock
from audit.errors import Conflict, Unavailable
from features import actions, online
from features.materialize import due_slots, materialize, served_versions, write
from features.models import FeatureService, Materialization, OnlineValue
from jobs.drain import drain
from jobs.models import Job, JobState
from jobs.run import enqueue
from tests.builders import NOON, ROBOT
from tests.features.store import HOUR, applied, asked, at, published, reading, service, source, write_source

pytestmark = pytest.mark.django_db


def temp(pinned: FeatureService, moment: datetime) -> Any:
    return online.read(pinned, asked(None), now=moment).column("weather__temp")[0].as_py()


def test_materialize__with_a_cadence__holds_what_was_known_at_the_slot_not_at_now() -> None:
    version = published(source([reading(1, temp=1.0), reading(2.5, temp=2.0)]), cadence=2 * HOUR)
    run = materialize(version, now=at(3))
    assert run is not None
    assert (run.up_to, run.after, run.rows, run.newest) == (at(2), None, 1, at(1))
    assert temp(service(), at(3)) == 1.0


def test_materialize__slot_done_already__does_nothing() -> None:
    version = published(source([reading(1)]), cadence=2 * HOUR)
    materialize(version, now=at(2))
    assert materialize(version, now=at(3.9)) is None
    assert materialize(version, now=at(4)) is not None


def test_materialize__without_cadence__runs_at_each_call_but_never_backwards() -> None:
    version = published(source([reading(1)]))
    assert materialize(version, now=at(2)) is not None
    assert materialize(version, now=at(2) + timedelta(seconds=1)) is not None
    assert materialize(version, now=at(1)) is None


def test_materialize__again__takes_only_what_became_known_since() -> None:
    late = reading(1, temp=2.0, arrived=at(5), origin="JFK")
    version = published(source([reading(1), late]), cadence=HOUR)
    first, second = materialize(version, now=at(4)), materialize(version, now=at(6))
    assert first is not None
    assert second is not None
    assert (first.rows, second.rows) == (1, 1)
    assert (second.after, second.newest) == (at(4), at(1))


def test_materialize__late_row_older_than_what_is_served__changes_nothing() -> None:
    version = published(source([reading(2, temp=2.0), reading(1, temp=1.0, arrived=at(5))]))
    materialize(version, now=at(3))
    run = materialize(version, now=at(6))
    assert run is not None
    assert (run.rows, run.newest) == (0, at(2))
    assert temp(service(), at(6)) == 2.0


def test_materialize__nothing_has_arrived__is_recorded_as_an_empty_run() -> None:
    run = materialize(published(source([reading(5)])), now=at(1))
    assert run is not None
    assert (run.rows, run.newest) == (0, None)


def test_materialize__draft__is_refused() -> None:
    with pytest.raises(Conflict, match="draft"):
        materialize(applied(source()), now=at(1))


def test_materialize__source_gone_bad__is_unavailable_and_leaves_no_run(data_root: Any) -> None:
    version = published(source([reading(1)]))
    (data_root / "sources" / "readings.parquet").unlink()
    with pytest.raises(Unavailable):
        materialize(version, now=at(2))
    assert not Materialization.objects.exists()


def test_served_versions__drafts_and_the_unpinned_deprecated__are_left_out() -> None:
    origin = source()
    pinned = published(origin)
    service("weather.temp", "weather.tag")
    second = published(origin, ttl=HOUR)
    third = published(origin, ttl=2 * HOUR)
    applied(origin, ttl=3 * HOUR)
    for version in (pinned, second):
        actions.deprecate(version, actor=ROBOT, reason="Replaced.", now=NOON)
    assert list(served_versions()) == [pinned, third]


# ---------------------------------------------------------------------- the task


def run_task(moment: datetime) -> Job:
    with clock.at(moment):
        job = enqueue("features.materialize_due", key=f"test@{moment.isoformat()}")
        drain()
    job.refresh_from_db()
    return job


def test_materialize_due__several_views__does_those_whose_slot_is_due() -> None:
    origin = source([reading(1)])
    published(origin, cadence=HOUR)
    published(origin, name="slow", cadence=24 * HOUR)
    assert run_task(at(1)).result == {"written": {"slow@1": 0, "weather@1": 1}}
    assert run_task(at(2)).result == {"written": {"weather@1": 0}}


def test_materialize_due__one_view_can_not_be_computed__the_others_are_and_the_job_says_why(data_root: Any) -> None:
    good, bad = source([reading(1)]), source([reading(1)], name="others")
    published(good)
    published(bad, name="broken")
    (data_root / "sources" / "others.parquet").unlink()
    job = run_task(at(2))
    assert job.state == JobState.QUEUED  # put back
    assert "broken@1" in job.error
    assert OnlineValue.objects.get().view_version.view.name == "weather"


def test_materialize_due__after_half_of_the_work_was_done__does_the_rest() -> None:
    origin = source([reading(1)])
    first = published(origin, cadence=HOUR)
    published(origin, name="second", cadence=HOUR)
    materialize(first, now=at(2))
    assert run_task(at(2)).result == {"written": {"second@1": 1}}


def test_materialize_due__queries__grow_with_neither_views_nor_sources(django_assert_max_num_queries: Any) -> None:
    for number in range(4):
        published(source([reading(1)], name=f"source{number}"), name=f"view{number}", cadence=HOUR)
    # versions, sources, last runs; then once for all: savepoints, locks, last runs, a write per view, runs
    with django_assert_max_num_queries(3 + 8 + 4):
        assert len(write([slot.compute() for slot in due_slots(now=at(2))])) == 4


def test_materialize__rewritten_file__reads_the_new_rows() -> None:
    version = published(source([reading(1, temp=1.0)]))
    materialize(version, now=at(2))
    write_source("readings", [reading(1, temp=1.0), reading(3, temp=3.0)])
    materialize(version, now=at(4))
    assert temp(service(), at(4)) == 3.0
