"""Training runs through the real queue and the real sandbox."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from audit import clock
from audit.models import Event
from engines.scoring import Scorer
from features.models import Dataset
from jobs.drain import drain
from jobs.models import Job, JobState
from jobs.run import enqueue, run
from registry import actions
from registry.artifacts import local_path, verify
from registry.code import code_digest
from registry.frames import BEGINNING, labelled_frame
from registry.models import ModelVersion, RunState, TrainingRun
from tests.builders import NOON, alice
from tests.registry import world

pytestmark = pytest.mark.django_db


def trained(behaviour: str = "", **changes: Any) -> TrainingRun:
    """A requested run of a pipeline with these changes, after the queue has been worked off."""
    run = world.requested(
        world.pipeline(parameters={"behaviour": behaviour, **changes.pop("parameters", {})}, **changes)
    )
    with clock.at(NOON):
        drain()
    run.refresh_from_db()
    return run


def test_train__pipeline_that_works__registers_a_version_with_its_whole_lineage() -> None:
    run = trained()
    assert (run.state, run.state_reason[:10]) == (RunState.SUCCEEDED, "Trained in")
    version = run.version
    assert (version.number, version.load_class, version.dataset) == (1, "skops", run.dataset)
    assert version.service == run.pipeline.service
    assert version.input_columns == ("amount", "shop_facts__size")
    assert version.importance == {"amount": 0.5, "shop_facts__size": 0.5}
    assert version.code_digest == code_digest(settings.BASE_DIR / "tests" / "registry")
    assert (run.wall_seconds or 0) > 0
    assert version.dataset is not None
    assert version.metrics["accuracy"]["dataset"] == version.dataset.digest
    assert version.metrics["rows"] == run.metrics["rows"]
    assert version.registered_with == f"training run {run.pk}"
    assert "scikit-learn==" in version.environment_lock
    assert verify(version) == []
    assert "trained on" in run.log


def test_train__dataset__ends_before_the_holdout_and_is_stored() -> None:
    run = trained()
    assert run.dataset is not None
    assert run.dataset.time_to is not None
    assert run.dataset.time_to < NOON - timedelta(days=14)
    assert run.dataset.rows == run.metrics["rows"] == (world.DAYS - 14) * world.PER_DAY


def test_train__version__can_be_scored() -> None:
    run = trained()
    version = run.version
    rows = labelled_frame(run.pipeline, start=BEGINNING, end=NOON, as_of=NOON).select(["amount"])
    table = rows.append_column("shop_facts__size", [[2.0] * len(rows)])
    with Scorer(local_path(version), load_class=version.load_class, columns=version.input_columns) as scorer:
        scored = scorer.predict(table)
    assert not scored.errors
    assert ((scored.scores > 0) & (scored.scores < 1)).all()


def test_train__child__knows_no_secret_and_sees_an_empty_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_SECRET_KEY", "secret")
    run = trained(parameters={"look_at": settings.DATA_ROOT})
    variables = set(run.environment["variables"])
    assert variables <= {
        *("PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "LANG", "LC_CTYPE", "TZ", "HOME"),
        *(
            "TMPDIR",
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "LOKY_MAX_CPU_COUNT",
            "KMP_INIT_AT_FORK",
            "OMP_WAIT_POLICY",
            "ORT_DISABLE_TELEMETRY",
        ),
        *("KMP_DUPLICATE_LIB_OK",),
    }
    assert run.environment["data_root"] == [] or "no namespaces" in run.log


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("refuse", "exit code 2. Its last line: all labels are the same"),
        ("hoard", "MemoryError"),
        ("other order", "in this order"),
    ],
)
def test_train__child_that_does_not_deliver__fails_readably_and_leaves_the_model(behaviour: str, reason: str) -> None:
    run = trained(behaviour)
    assert run.state == RunState.FAILED
    assert reason in run.state_reason
    assert not ModelVersion.objects.exists()
    assert Job.objects.get(kind="registry.train").state == JobState.DONE
    assert Event.objects.get(name="training_run.failed").reason == run.state_reason


def test_train__child_that_takes_too_long__is_ended() -> None:
    run = trained("sleep", time_limit=timedelta(seconds=1))
    assert run.state == RunState.FAILED
    assert "time limit of 0:00:01" in run.state_reason
    assert (run.wall_seconds or 60) < 30


def test_train__no_labelled_rows__fails_saying_so() -> None:
    run = world.requested(window={"name": "old", "start": "1999-01-01", "end": "1999-02-01"})
    with clock.at(NOON):
        drain()
    run.refresh_from_db()
    assert "no labelled rows from 1999-01-01" in run.state_reason


def test_train__window_inside_the_holdout__fails_saying_so() -> None:
    run = world.requested(window={"name": "greedy", "start": "2013-01-01", "end": "2013-03-31"})
    with clock.at(NOON):
        drain()
    run.refresh_from_db()
    assert "kept for the gates" in run.state_reason


def test_train__worker_killed_in_the_middle__second_attempt_starts_over_and_nothing_is_twice() -> None:
    training = world.requested()
    with clock.at(NOON):
        job = enqueue("registry.train", key=f"train:{training.pk}", payload={"run": training.pk})
        assert job.take(claim="killed", wall=timezone.now())
        Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        actions.begin_training(training, actor=alice(), now=NOON)
        run(job.pk, renew=False)
        drain()
    training.refresh_from_db()
    assert training.state == RunState.SUCCEEDED
    counts = [
        ModelVersion.objects.count(),
        Dataset.objects.count(),
        Event.objects.filter(name="training_run.running").count(),
    ]
    assert counts == [1, 1, 1]


def test_train__cancelled_before_the_worker_came__does_nothing() -> None:
    training = world.requested()
    actions.cancel_training(training, actor=alice(), reason="typo", now=NOON)
    drain()
    assert not Dataset.objects.exists()
    assert Job.objects.get(kind="registry.train").state == JobState.DONE


def test_train__unreadable_source__is_tried_again_and_then_fails_with_the_reason() -> None:
    training = world.requested()
    Path(settings.DATA_ROOT, "sources", "requests.parquet").unlink()
    drain()
    job = Job.objects.get(kind="registry.train")
    assert job.state == JobState.QUEUED
    Job.objects.filter(pk=job.pk).update(attempts=job.max_attempts - 1, not_before=timezone.now())
    run(job.pk, renew=False)
    training.refresh_from_db()
    assert training.state == RunState.FAILED
    assert "requests" in training.state_reason


# ---------------------------------------------------------------------- reconcile


def reconciled() -> None:
    run(enqueue("registry.reconcile", key="reconcile").pk, renew=False)


def test_reconcile__run_whose_job_is_dead__fails_with_the_jobs_error() -> None:
    training = world.requested()
    actions.begin_training(training, actor=alice(), now=NOON)
    job = enqueue("registry.train", key=f"train:{training.pk}", payload={"run": training.pk})
    Job.objects.filter(pk=job.pk).update(state=JobState.DEAD, attempts=4, error="Traceback\nValueError: no disk")
    reconciled()
    training.refresh_from_db()
    assert training.state == RunState.FAILED
    assert training.state_reason == "Its job was given up after 4 attempts: ValueError: no disk"


def test_reconcile__run_that_never_got_a_job__gets_one() -> None:
    training = world.requested()
    reconciled()
    assert Job.objects.filter(key=f"train:{training.pk}").exists()


def test_reconcile__run_under_way__is_left_alone() -> None:
    training = world.requested()
    enqueue("registry.train", key=f"train:{training.pk}", payload={"run": training.pk})
    reconciled()
    training.refresh_from_db()
    assert training.state == RunState.REQUESTED
