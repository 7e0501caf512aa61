"""Several workers at one gate run: each check is done once, and the run is concluded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from audit import clock
from audit.models import Event
from gates import actions
from gates.models import GateRun
from jobs.drain import drain
from jobs.models import Job, JobState
from jobs.run import run as work_off
from tests.builders import NOON, ROBOT
from tests.gates import rows
from tests.jobs.cluster import SHORT_LIMITS, running_worker, wait_for
from tests.races import race

CHECKS: tuple[dict[str, Any], ...] = tuple(
    {**rows.CI, "id": f"ci-{number}", "require": ["lint"]} for number in range(8)
)


def opened(*checks: dict[str, Any]) -> GateRun:
    """A run that waits for nothing but its preparation."""
    rows.policy(*checks)
    rows.evidence("lint", "[]")
    return actions.open_run(rows.version(), actor=ROBOT, reason="For a test.", now=NOON)


def concluded_once(run: GateRun) -> None:
    run.refresh_from_db()
    assert run.state == "passed", run.state_reason
    assert run.results.count() == len(run.policy.document["checks"])
    assert Event.objects.filter(name="gate_run.passed").count() == 1
    assert not Job.objects.filter(kind=actions.CHECK).exclude(state=JobState.DONE, attempts=1).exists()


@pytest.mark.django_db
def test_run__prepared__asks_for_each_check_as_a_job_of_its_own() -> None:
    run = opened(*CHECKS)
    with clock.at(NOON):
        drain()

    assert Job.objects.filter(kind=actions.CHECK).count() == len(CHECKS)
    concluded_once(run)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_checks__that_finish_at_once__conclude_the_run_once() -> None:
    with clock.at(NOON):
        run = opened(*CHECKS)
        work_off(Job.objects.get(key=actions.job_key(run)).pk, renew=False)
        jobs = list(Job.objects.filter(kind=actions.CHECK).values_list("pk", flat=True))

        race(lambda number: work_off(jobs[number], renew=False), threads=len(jobs))

    assert len(jobs) == len(CHECKS)
    concluded_once(run)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_one_check__taken_by_all__is_done_by_one() -> None:
    with clock.at(NOON):
        run = opened(CHECKS[0])
        work_off(Job.objects.get(key=actions.job_key(run)).pk, renew=False)
        job = Job.objects.get(kind=actions.CHECK)

        race(lambda number: work_off(job.pk, renew=False))

    concluded_once(run)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_workers__two_of_them__have_two_checks_of_a_run_in_hand_at_once(tmp_path: Path) -> None:
    """Both have measured and wait for the row of the run, which is locked here; then they finish at once."""
    run = opened(*CHECKS[:2])
    environment = {**SHORT_LIMITS, **clock.starting_at(NOON)}
    with running_worker(tmp_path, environment=environment, settings_module="mlops.settings"):
        wait_for(lambda: hasattr(GateRun.objects.get(pk=run.pk), "preparation"), "the run is prepared", within=60)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM gates_gaterun WHERE id = %s FOR UPDATE", [run.pk])
            claims = wait_for(two_claims, "two checks are in hand", within=60)
        wait_for(lambda: GateRun.objects.exclude(state="running").exists(), "the run has ended", within=60)
        wait_for(lambda: not Job.objects.unfinished().exists(), "what follows is done, too")

    assert len({claim.split("/")[1] for claim in claims}) == 2, "one process had both"
    concluded_once(run)


def two_claims() -> list[str] | None:
    held = list(Job.objects.filter(kind=actions.CHECK, state=JobState.RUNNING).values_list("claim", flat=True))
    return held if len(held) == 2 else None
