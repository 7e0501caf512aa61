"""The gates' background work: measure a run, and see to it that none is left waiting or lost."""

from __future__ import annotations

import time
from datetime import datetime

from django.db.models import Max

from audit import clock
from audit.errors import Unavailable
from audit.trail import Service
from gates.actions import EVALUATE, begin_if_complete, conclude, conclude_without_evidence, give_up, job_key, open_run
from gates.evaluation import evaluate
from gates.models import GateRun, GateRunState, Policy
from gates.policy import PolicyError
from jobs.models import Job, JobState
from jobs.run import Work, enqueue, handler
from registry.models import ModelVersion

GATES = Service("gates")


@handler(EVALUATE, computes=True)
def evaluate_run(work: Work) -> None:
    """Measure and judge one running gate run; a run that ended meanwhile is left alone."""
    began = time.monotonic()
    related = ("policy", "version__registered_model", "version__service", "version__dataset", "champion__service")
    run = GateRun.objects.select_related(*related, "champion__dataset").get(pk=work.payload["gate_run"])
    if run.state != GateRunState.RUNNING:
        with work.finishing():
            return
    now = clock.now()
    try:
        evaluation = evaluate(run, now=now)
    except Unavailable as outage:
        if work.job.attempts < work.job.max_attempts:
            raise  # the job is tried again later
        with work.finishing():
            give_up(run, actor=GATES, reason=f"It could not be measured: {outage}", now=now)
        return
    with work.finishing():
        conclude(
            run,
            evaluation.judgements,
            holdout=evaluation.holdout,
            wall_seconds=time.monotonic() - began,
            actor=GATES,
            now=now,
        )


@handler("gates.reconcile")
def reconcile(work: Work) -> None:
    """Recompute from stored state what the gates have to do."""
    now = clock.now()
    _open_forgotten(now)
    _end_or_begin_waiting(now)
    _recover_running(now)


def _open_forgotten(now: datetime) -> None:
    """The newest version of a model that was registered before there was a policy, or whose reaction got lost."""
    with_policy = Policy.objects.values("registered_model")
    newest = ModelVersion.objects.filter(registered_model__in=with_policy).values("registered_model")
    ids = [row["newest"] for row in newest.annotate(newest=Max("pk")).values("newest")]
    for version in ModelVersion.objects.filter(pk__in=ids, gate_runs__isnull=True).select_related("registered_model"):
        open_run(version, actor=GATES, reason=f"{version} had not been judged.", now=now)


def _end_or_begin_waiting(now: datetime) -> None:
    waiting = GateRun.objects.filter(state=GateRunState.OPEN)
    for run in waiting.select_related("version", "policy", "registered_model"):
        try:
            if not begin_if_complete(run, actor=GATES, now=now) and run.deadline <= now:
                conclude_without_evidence(run, actor=GATES, now=now)
        except PolicyError as problem:  # of an older release: it must not hold up all other runs
            give_up(run, actor=GATES, reason=f"{run.policy} can not be read any more: {problem}", now=now)


def _recover_running(now: datetime) -> None:
    """A run whose job gave up ends as an error; one whose job is gone gets it again."""
    running = list(GateRun.objects.filter(state=GateRunState.RUNNING).select_related("version__registered_model"))
    jobs = Job.objects.in_bulk([job_key(run) for run in running], field_name="key")
    for run in running:
        job = jobs.get(job_key(run))
        if job is None:
            enqueue(EVALUATE, key=job_key(run), payload={"gate_run": run.pk})
        elif job.state == JobState.DEAD:
            said = job.error.strip().splitlines()[-1:] or ["no reason was left"]
            give_up(run, actor=GATES, reason=f"It could not be measured: {said[0]}", now=now)
