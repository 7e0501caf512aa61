"""Background work of the registry: training runs, and looking after those whose worker was lost."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from django.conf import settings

from audit import clock
from audit.errors import Conflict, GatehouseError, Unavailable
from audit.trail import Service
from features.actions import snapshot
from features.models import Dataset
from features.offline import load, training_frame
from jobs.models import Job, JobState
from jobs.run import Work, handler
from registry import artifacts, frames, windows
from registry.actions import Outcome, begin_training, complete_training, fail_training, remove_files
from registry.actions.openlineage import fold_waiting
from registry.code import CodeState, code_state
from registry.conversion import settle
from registry.intake import receive
from registry.models import ModelVersion, RegisteredModel, RunState, TrainingRun
from registry.reactions import ask_for_training, job_key
from registry.training import MODEL, Delivery, Order, TrainingFailed, delivered
from registry.windows import WindowError

REGISTRY = Service("registry")


@handler("registry.train", computes=True)
def train(work: Work) -> None:
    """Carry out a training run: dataset, entry point in the sandbox, version. A repeated attempt starts over.

    Everything is computed as of the moment of the request, so a second attempt sees what the first one saw.
    """
    related = ("registered_model", "pipeline__registered_model", "pipeline__service")
    run = TrainingRun.objects.select_related(*related).get(pk=work.payload["run"])
    if run.state == RunState.REQUESTED:
        begin_training(run, actor=REGISTRY, now=clock.now())
    if run.state != RunState.RUNNING:
        with work.finishing():
            return
    outcome = Outcome()
    try:
        outcome.code = _code_of(run)
        outcome.dataset = build_dataset(run, now=clock.now())
        with delivered(_order(run, outcome.dataset)) as delivery:
            _succeed(work, run, outcome, delivery)
    except TrainingFailed as failure:
        outcome.log, outcome.seconds = failure.log, failure.seconds
        _fail(work, run, outcome, str(failure))
    except Unavailable as outage:
        if work.job.attempts < work.job.max_attempts:
            raise  # the job is tried again later
        _fail(work, run, outcome, str(outage))
    except (GatehouseError, WindowError) as refusal:
        if work.finished or not _is_running(run):
            raise
        _fail(work, run, outcome, str(refusal))


def _succeed(work: Work, run: TrainingRun, outcome: Outcome, delivery: Delivery) -> None:
    outcome.log, outcome.seconds = delivery.log, delivery.seconds
    received = receive(registered_model=run.registered_model, artifact=delivery.model, artifact_name=MODEL)
    with work.finishing({"run": run.pk}):
        now = clock.now()
        complete_training(run, delivery=delivery, received=received, outcome=outcome, actor=REGISTRY, now=now)


def _fail(work: Work, run: TrainingRun, outcome: Outcome, reason: str) -> None:
    with work.finishing({"run": run.pk, "failed": reason}):
        fail_training(run, reason=reason, outcome=outcome, actor=REGISTRY, now=clock.now())


def _is_running(run: TrainingRun) -> bool:
    return TrainingRun.objects.filter(pk=run.pk, state=RunState.RUNNING).exists()


def build_dataset(run: TrainingRun, *, now: datetime) -> Dataset:
    """The labelled requests of the run's window with their features as they would have been served, stored for ever."""
    pipeline = run.pipeline
    start, end = windows.training_period(
        run.window, now=run.requested_at, holdout_days=pipeline.holdout_days, first=frames.BEGINNING
    )
    frame = frames.labelled_frame(pipeline, start=start, end=end, as_of=run.requested_at)
    if not len(frame):
        raise TrainingFailed(f"There are no labelled rows from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}.")
    timestamp = frames.timestamp_column(pipeline)
    table = training_frame(pipeline.service, frame, timestamp=timestamp, as_of=run.requested_at)
    return snapshot(
        service=pipeline.service,
        table=table,
        label=pipeline.label,
        timestamp=timestamp,
        purpose="training",
        as_of=run.requested_at,
        actor=REGISTRY,
        now=now,
    )


def _order(run: TrainingRun, dataset: Dataset) -> Order:
    given = {
        "features": list(dataset.service.vector),
        "label": dataset.label,
        "timestamp": dataset.timestamp,
        "seed": run.seed,
    }
    return Order(
        entry_point=run.pipeline.entry_point,
        table=load(dataset),
        params={**run.parameters, **given},
        time_limit=run.pipeline.time_limit,
        memory_limit=run.pipeline.memory_limit,
        hidden=[Path(settings.DATA_ROOT)],
    )


def _code_of(run: TrainingRun) -> CodeState:
    try:
        return code_state(Path(settings.BASE_DIR, run.pipeline.code_path))
    except NotADirectoryError as error:
        raise TrainingFailed(str(error)) from error


@handler("registry.convert", computes=True)
def convert(work: Work) -> None:
    """Settle in which form a new version is served. Gates that were faster have done it already."""
    related = ("registered_model", "dataset__service", "service", "conversion")
    version = ModelVersion.objects.select_related(*related).get(pk=work.payload["version"])
    conversion = settle(version, now=clock.now())
    with work.finishing({"outcome": conversion.outcome if conversion else None}):
        return


@handler("registry.remove_files", computes=True)
def remove_past_retention(work: Work) -> None:
    """Give up the files of versions that are past their model's retention and that nothing refers to, one by one.

    What must stay is left alone; a hold or a rollout that comes meanwhile is seen under the version's lock.
    """
    now, removed = clock.now(), 0
    for registered_model in RegisteredModel.objects.filter(retention_days__isnull=False):
        for version in artifacts.past_retention(registered_model, now=now):
            with suppress(Conflict):  # something refers to it
                removed += remove_files(version, actor=REGISTRY, now=now) is not None
    unused = artifacts.forget_unused(now=now)
    swept = artifacts.sweep(now=now)
    with work.finishing({"removed": removed, "unused": unused, "swept": swept}):
        return


@handler("registry.reconcile")
def reconcile(work: Work) -> None:
    """No training run waits for ever: ask for work that was never asked for, and end runs whose job was given up."""
    for run in TrainingRun.objects.filter(state__in=[RunState.REQUESTED, RunState.RUNNING]).select_related("pipeline"):
        job = Job.objects.filter(key=job_key(run.pk)).first()
        if job is None:
            ask_for_training(run.pk)
        elif job.state == JobState.DEAD:
            last = job.error.strip().splitlines()[-1:] or ["no reason was recorded"]
            reason = f"Its job was given up after {job.attempts} attempts: {last[0]}"
            fail_training(run, reason=reason, outcome=Outcome(log=job.error), actor=REGISTRY, now=clock.now())


@handler("registry.fold_lineage", computes=True)
def fold_lineage(work: Work) -> None:
    """Fold the OpenLineage events that wait into the graph of external nodes; done again it changes nothing."""
    folded = fold_waiting(now=clock.now())
    with work.finishing({"folded": folded}):
        return
