"""kill -9 in the middle of a training run, a gate run, a rollout's look and a materialization: finished once, in time.

A real ``manage.py worker`` does the real work under the project's own settings (``tests/jobs/test_kill.py`` kills more
kinds of processes in more situations, with a probe for work). Seven of the sixteen pairs of work and victim run by
default, so that each work and each victim is among them; ``GATEHOUSE_TEST_ALL_KILLS=1`` runs all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa
import pytest
from django.conf import settings
from django.db import connection, models
from django.db.models import Count

from audit import clock
from audit.models import Event
from engines import scoring
from features import online
from features.materialize import due_slots
from features.models import Dataset, FeatureViewVersion, Materialization
from gates.models import CheckResult, GateRun
from jobs.models import Job, JobState
from jobs.run import enqueue
from registry import artifacts
from registry.models import Alias, ModelVersion, TrainingRun
from rollout import actions, scorers
from rollout.models import AnalysisRun, Measurement, Rollout, RolloutState, Route
from tests.builders import NOON, ROBOT
from tests.features import store
from tests.gates import rows
from tests.gates import world as gates_world
from tests.jobs.cluster import PROMISE, SHORT_LIMITS, RunningWorker, below, is_alive, running_worker, wait_for
from tests.registry import world as registry_world
from tests.rollout import life

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

Middle = AbstractContextManager[Job]

VICTIMS: dict[str, Callable[[RunningWorker, Job], int]] = {
    "busy worker": lambda worker, job: worker.busy(job),
    "idle worker": lambda worker, job: worker.idle(job),
    "sentinel": lambda worker, job: worker.sentinel(),
    "main process": lambda worker, job: worker.main(),
}


@dataclass(frozen=True)
class RealWork:
    """A kind of background work.

    ``prepare`` builds its world and answers what time it is there; ``middle`` is entered when a worker is in the middle
    of it, and answers its job; ``check`` asserts that it was done, and done once.
    """

    prepare: Callable[[], datetime]
    middle: Callable[[RunningWorker], Middle]
    check: Callable[[], None]


def taken(kind: str) -> Job:
    """The one job of this kind, once a worker has it in its hands."""
    running = Job.objects.filter(kind=kind, state=JobState.RUNNING)
    return wait_for(running.first, f"a worker has taken {kind}", within=60)


def history(subject: models.Model) -> list[str]:
    return list(Event.objects.about(subject).values_list("name", flat=True))


# ---------------------------------------------------------------------- a training run


def prepare_training() -> datetime:
    pipeline = registry_world.pipeline(parameters={"behaviour": "sleep", "seconds": 3})
    registry_world.requested(pipeline)
    return NOON


@contextmanager
def training(worker: RunningWorker) -> Iterator[Job]:
    """The entry point runs."""
    job = taken("registry.train")
    busy = worker.busy(job)
    wait_for(lambda: any("toy_training" in command_of(pid) for pid in below(busy)), "the entry point runs", within=60)
    yield job


def command_of(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def check_training() -> None:
    run, version, dataset = TrainingRun.objects.get(), ModelVersion.objects.get(), Dataset.objects.get()
    assert history(run) == ["training_run.requested", "training_run.running", "training_run.succeeded"]
    assert (version.training_run, version.dataset, dataset.purpose) == (run, dataset, "training")
    # its conversion is the next job, and may be under way or done already
    assert history(version) in (["model_version.registered"], ["model_version.registered", "model_version.converted"])
    stored = {path for path in Path(settings.DATA_ROOT, "artifacts").rglob("*") if path.is_file()}
    assert artifacts.local_path(version) in stored  # which verifies its digest
    assert len(stored) <= 2


# ---------------------------------------------------------------------- a gate run

CHECKS: tuple[dict[str, Any], ...] = (
    {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.6, "use": "lower_bound"},
    {"id": "fairness", "kind": "fairness", "by": "origin", "at_most": 0.3, "use": "lower_bound"},
    {"id": "latency", "kind": "latency", "p95_ms": 2000, "calls": 2000, "budget_seconds": 2},
    {"id": "data-quality", "kind": "data_quality"},
    {"id": "training-data", "kind": "training_data"},
    rows.CI,
)


def prepare_gates() -> datetime:
    """A version whose gates wait for nothing but a worker, and an endpoint that waits for the version."""
    with clock.at(gates_world.NOW):
        pipeline = gates_world.build()
        rows.policy(*CHECKS, threshold=0.25)
        rows.evidence("lint", "[]", now=gates_world.NOW)
        rows.evidence("unit", now=gates_world.NOW)
        actions.create_endpoint(
            name="delay-warning",
            title="Delay warning",
            registered_model=pipeline.registered_model,
            entity_column="request_id",
            outcome_window=timedelta(hours=4),
            actor=ROBOT,
            now=gates_world.NOW,
        )
        gates_world.version(pipeline)
    return gates_world.NOW


@contextmanager
def judging(worker: RunningWorker) -> Iterator[Job]:
    """The last check, which is timed alone, is under way in a scorer's process; all others have their results."""
    others = len(CHECKS) - 1
    wait_for(lambda: CheckResult.objects.count() == others, "the other checks have their results", within=60)
    job = taken("gates.check")
    busy = worker.busy(job)
    wait_for(lambda: any("scoring_child" in command_of(pid) for pid in below(busy)), "a scorer runs", within=60)
    assert CheckResult.objects.count() == others
    yield job


def check_gates() -> None:
    """What was measured was not measured again; and what follows from a pass happened once: it is promoted."""
    run, version = GateRun.objects.get(), ModelVersion.objects.get()
    steps = ["gate_run.opened", "gate_run.running", "gate_run.prepared", "gate_run.passed"]
    assert history(run) == steps, run.state_reason
    assert set(run.results.values_list("check_id", flat=True)) == {check["id"] for check in CHECKS}
    repeated = Job.objects.filter(kind__in=["gates.prepare", "gates.check"], attempts__gt=1)
    assert {job.payload.get("check") for job in repeated} <= {"latency"}
    assert Dataset.objects.filter(purpose="holdout").get() == run.holdout
    assert history(Rollout.objects.get()) == ["rollout.proposed", "rollout.promoted"]
    assert Alias.objects.get().version == Route.objects.get().champion == version


# ---------------------------------------------------------------------- a rollout's step

LOOK_EVERY = timedelta(hours=13)
PLAN: dict[str, Any] = {
    **life.PLAN,
    "look_every_hours": LOOK_EVERY / timedelta(hours=1),
    "shadow": {**life.PLAN["shadow"], "timed_rows": 0},  # so that no noise of this machine decides
}


def prepare_look() -> datetime:
    """A candidate whose first look is due and will send it from the shadow to the canary."""
    story = life.begin(plan=PLAN)
    story.candidate()
    while story.now + timedelta(hours=2) < NOON + LOOK_EVERY:
        story.hour()
    return NOON + LOOK_EVERY


@contextmanager
def stepping(worker: RunningWorker) -> Iterator[Job]:
    """The look is taken, and the worker's transaction waits for the row of the rollout, which is locked here."""
    with held("rollout_rollout WHERE state = 'shadow'") as mine:
        enqueue("rollout.reconcile", key="a look is due")
        job = taken("rollout.look")
        wait_for(lambda: somebody_waits_for(mine), "the look is to be written down", within=60)
        yield job


@contextmanager
def held(rows: str) -> Iterator[int]:
    """The process number of a connection that keeps a lock on these rows."""
    holder = connection.copy()
    holder.set_autocommit(False)
    try:
        with holder.cursor() as cursor:
            cursor.execute(f"SELECT pg_backend_pid() FROM {rows} FOR UPDATE")
            (mine,) = cursor.fetchone()
        yield mine
    finally:
        holder.close()


def somebody_waits_for(backend: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))", [backend])
        return bool(cursor.fetchone()[0])


def check_look() -> None:
    look, rollout, route = AnalysisRun.objects.get(), Rollout.objects.latest("id"), Route.objects.get()
    assert (look.rollout, look.number, look.conclusion) == (rollout, 1, "advance"), look.summary
    assert Measurement.objects.filter(analysis=look).exists()
    assert history(rollout) == ["rollout.proposed", "rollout.shadow", "rollout.canary"]
    assert (rollout.state, rollout.step, route.step, route.share) == (RolloutState.CANARY, 1, 1, 0.1)


# ---------------------------------------------------------------------- a materialization


def prepare_materialization() -> datetime:
    """Two views, of which one has values that a killed run wrote to the store without putting itself on record."""
    origin = store.source([store.reading(hour, temp=float(hour), origin=f"A{hour}") for hour in range(3)])
    first, second = (store.published(origin, name=name) for name in ("weather", "wind"))
    online.keep([slot.compute().records for slot in due_slots(now=store.at(1))][:1])
    assert [first.view.name, second.view.name] == ["weather", "wind"]
    return store.at(4)


@contextmanager
def materializing(worker: RunningWorker) -> Iterator[Job]:
    """Everything is computed, and the worker's transaction waits for a version, which is locked here."""
    second = FeatureViewVersion.objects.get(view__name="wind").pk
    with held(f"features_featureviewversion WHERE id = {second}") as mine:
        enqueue("features.materialize_due", key="values are due")
        job = taken("features.materialize_due")
        wait_for(lambda: somebody_waits_for(mine), "the values are to be written", within=60)
        yield job


def check_materialization() -> None:
    runs = {str(run.view_version): run.rows for run in Materialization.objects.all()}
    assert runs == {"weather@1": 3, "wind@1": 3}
    keys = pa.table({"origin": ["A0", "A1", "A2"], "carrier": ["UA"] * 3})
    served = online.read(store.service("weather.temp", "wind.temp"), keys, now=store.at(4))
    assert served.to_pydict() == {"weather__temp": [0.0, 1.0, 2.0], "wind__temp": [0.0, 1.0, 2.0]}


# ---------------------------------------------------------------------- the kills

WORKS = {
    "training run": RealWork(prepare_training, training, check_training),
    "gate run": RealWork(prepare_gates, judging, check_gates),
    "rollout step": RealWork(prepare_look, stepping, check_look),
    "materialization": RealWork(prepare_materialization, materializing, check_materialization),
}
FIRST = [
    ("training run", "busy worker"),
    ("gate run", "busy worker"),
    ("rollout step", "busy worker"),
    ("training run", "main process"),
    ("gate run", "sentinel"),
    ("rollout step", "idle worker"),
    ("materialization", "busy worker"),
]
CHOSEN = list(product(WORKS, VICTIMS)) if os.environ.get("GATEHOUSE_TEST_ALL_KILLS") else FIRST


@pytest.fixture(autouse=True)
def _nothing_warm() -> Iterator[None]:
    """The worlds are built in this process: no test finds another's scorers in it."""
    yield
    scorers.close_all()
    scoring.shut_down()


@pytest.mark.parametrize(("kind", "victim"), CHOSEN, ids=lambda name: name.replace(" ", "-"))
def test_kill__in_the_middle_of_real_work__it_is_finished_once(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, victim: str
) -> None:
    work = WORKS[kind]
    environment = {
        **SHORT_LIMITS,
        **clock.starting_at(work.prepare()),
        "TMPDIR": str(tmp_path_factory.mktemp("desk")),
    }
    with running_worker(tmp_path, environment=environment, settings_module="mlops.settings") as worker:
        with work.middle(worker) as job:
            busy = worker.busy(job)
            children = below(busy)
            killed_at = monotonic()
            worker.kill(VICTIMS[victim](worker, job))
            assert Job.objects.get(pk=job.pk).state == JobState.RUNNING
        enqueue("rollout.reconcile", key="the next work")

        wait_for(lambda: Job.objects.filter(pk=job.pk, state=JobState.DONE).exists(), f"{job} is done")
        job.refresh_from_db()
        interrupted = not is_alive(busy)
        wait_for(lambda: not Job.objects.unfinished().exists(), "what follows and the next work are done, too")
        seconds = monotonic() - killed_at
        print(f"{kind}, {victim}: all done {seconds:.1f} s after the kill, {job.attempts} attempts")

        assert seconds < PROMISE
        assert interrupted or victim == "idle worker"
        assert (job.attempts > 1) == interrupted
        assert not (interrupted and any(is_alive(pid) for pid in children)), "the first attempt left an orphan"
        assert worker.watchdog.poll() is None
    work.check()
    assert not Job.objects.filter(state=JobState.DEAD).exists()
    assert repeated_events() == []


def repeated_events() -> list[Any]:
    """What happened more than once to one thing; nothing in these stories may."""
    counted = Event.objects.order_by().values_list("name", "subject_type", "subject_id").annotate(times=Count("id"))
    return list(counted.filter(times__gt=1))
