"""When silence counts as death."""

import pytest

from jobs.models import JobState
from jobs.watchdog import Limits, Pulse, Watchdog
from tests.jobs.works import ago, job

LIMITS = Limits(every=5, silence=20, tick=180, grace=50)


def pulse(*, answered_at: float | None = None) -> Pulse:
    """Of a cluster that was started at second 0."""
    made = Pulse(LIMITS, born=0)
    if answered_at is not None:
        made.alive(answered_at)
    return made


@pytest.mark.parametrize(("at", "stale"), [(29, False), (30, False), (30.1, True)])
def test_pulse__of_a_cluster_that_fell_silent__is_stale_after_the_limit(at: float, stale: bool) -> None:
    assert bool(pulse(answered_at=10).complaint(at, tick_late=0)) is stale


@pytest.mark.parametrize(("at", "stale"), [(30, False), (60, False), (61, True)])
def test_pulse__of_a_cluster_that_still_starts__has_three_times_as_long(at: float, stale: bool) -> None:
    assert bool(pulse().complaint(at, tick_late=0)) is stale


def test_pulse__while_the_database_is_away__is_unknown_not_stale() -> None:
    beating = pulse(answered_at=10)
    beating.unknown(100)

    assert beating.complaint(115, tick_late=0) == ""
    assert beating.complaint(121, tick_late=0) == "no sign of life for 21 s"


def test_pulse__of_a_cluster_that_beats_but_does_not_tick__is_stale() -> None:
    beating = pulse(answered_at=300)

    assert beating.complaint(301, tick_late=100) == ""
    assert "no tick for 181 s" in beating.complaint(301, tick_late=181)


def test_pulse__of_a_young_cluster__is_not_blamed_for_ticks_before_its_time() -> None:
    assert pulse(answered_at=100).complaint(101, tick_late=86400) == ""
    assert pulse(answered_at=180).complaint(181, tick_late=86400) != ""


@pytest.mark.django_db
def test_watchdog__while_every_worker_holds_a_lease__takes_silence_for_work() -> None:
    dog = Watchdog(limits=LIMITS, workers=2)
    held = {"state": JobState.RUNNING, "claim": f"{dog.worker}/1/x"}

    job("a", **held, lease_until=ago(-20))
    assert not dog._is_saturated()
    job("b", **held, lease_until=ago(-20))
    assert dog._is_saturated()


@pytest.mark.django_db
def test_watchdog__leases_of_other_workers_or_run_out__do_not_excuse_silence() -> None:
    dog = Watchdog(limits=LIMITS, workers=2)
    job("a", state=JobState.RUNNING, claim=f"{dog.worker}/1/x", lease_until=ago(-20))
    job("b", state=JobState.RUNNING, claim="elsewhere-1/1/x", lease_until=ago(-20))
    job("c", state=JobState.RUNNING, claim=f"{dog.worker}/2/x", lease_until=ago(1))

    assert not dog._is_saturated()


def test_watchdog__two_on_one_host__are_told_apart() -> None:
    names = {Watchdog(limits=LIMITS, workers=2).worker for _ in range(2)}

    assert len(names) == 2
    assert all(len(name) <= 40 for name in names)
