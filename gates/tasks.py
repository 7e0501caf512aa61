"""The gates' background work: prepare a run, do its checks, and see to it that none is left waiting or lost.

A run is prepared by one job; each of its checks is a job of its own, so that the workers share them, a crash costs the
checks that were under way and no other, and every result is there as soon as it is found. The checks that must be
alone (latency) wait until all others have their results, and go one after the other. The job that writes the last
result concludes the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial
from typing import TypeVar

from django.db.models import Max
from django.utils import timezone

from audit import clock
from audit.errors import Unavailable
from audit.trail import Service
from gates.actions import (
    CHECK,
    PREPARE,
    begin_if_complete,
    check_key,
    conclude,
    conclude_without_evidence,
    give_up,
    job_key,
    open_run,
    record_preparation,
    record_result,
)
from gates.apart import apart, see_to
from gates.evaluation import Evaluated, evaluate
from gates.judge import could_not
from gates.kinds import KINDS
from gates.models import GateRun, GateRunState, Policy, Preparation
from gates.policy import AnyCheck, PolicyDocument, parse
from gates.preparation import frozen_of, prepare
from gates.standing import jobs_of
from jobs.models import Job, JobState
from jobs.run import Work, enqueue, handler
from registry.models import ModelVersion

GATES = Service("gates")
_OF_A_VERSION = ("registered_model", "service", "dataset__service", "conversion")

T = TypeVar("T")


@handler(PREPARE, computes=True)
def prepare_run(work: Work) -> None:
    """Fix what a running run is measured on, and ask for its checks; a run that ended or has it is left alone."""
    run = _run_of(work)
    if run.state != GateRunState.RUNNING or Preparation.objects.filter(gate_run=run).exists():
        with work.finishing():
            return
    now = clock.now()
    prepared = _unless_given_up(work, lambda: prepare(run, now))
    with work.finishing():
        if isinstance(prepared, Unavailable):
            give_up(run, actor=GATES, reason=f"It could not be measured: {prepared}", now=now)
            return
        record_preparation(run, prepared, actor=GATES, now=now)
        _ask_for_checks(run, parse(run.policy.document))


@handler(CHECK, computes=True)
def do_check(work: Work) -> None:
    """Do one check of a prepared run, write what it came to, and conclude the run when it was the last."""
    run = _run_of(work)
    document = parse(run.policy.document)
    check = next(each for each in document.checks if each.id == work.payload["check"])
    if run.state != GateRunState.RUNNING or run.results.filter(check_id=check.id).exists():
        with work.finishing():
            return
    found = _unless_given_up(work, lambda: evaluate(check, run, frozen_of(run)))
    if isinstance(found, Unavailable):
        found = Evaluated(could_not(check, f"It could not be measured: {found}"), {}, 0.0)
    with work.finishing({"verdict": found.judgement.verdict}):
        written = record_result(run, found.judgement, measured=found.measured, wall_seconds=found.wall_seconds)
        if written and not _ask_for_checks(run, document):
            conclude(run, wall_seconds=_seconds_since_begun(run), actor=GATES, now=clock.now())


def _run_of(work: Work) -> GateRun:
    versions = [f"{side}__{each}" for side in ("version", "champion") for each in _OF_A_VERSION]
    related = ("policy", "registered_model", "holdout", "preparation", *versions)
    run: GateRun = GateRun.objects.select_related(*related).get(pk=work.payload["gate_run"])
    return run


def _unless_given_up(work: Work, compute: Callable[[], T]) -> T | Unavailable:
    """What was computed. An engine that does not answer is asked again by the job's next attempt; the last one gives
    the outage itself."""
    try:
        return compute()
    except Unavailable as outage:
        if work.job.attempts < work.job.max_attempts:
            raise
        return outage


def _ask_for_checks(run: GateRun, document: PolicyDocument) -> bool:
    """Ask for what can be done of a prepared run now; False when nothing is left to do."""
    done = set(run.results.values_list("check_id", flat=True))
    for check in ready(document, done):
        enqueue(CHECK, key=check_key(run, check.id), payload={"gate_run": run.pk, "check": check.id})
    return len(done) < len(document.checks)


def ready(document: PolicyDocument, done: Collection[str]) -> list[AnyCheck]:
    """The checks whose turn it is: all that may run beside others, then one after the other those that may not."""
    left = [check for check in document.checks if check.id not in done]
    beside_others = [check for check in left if not KINDS[check.kind].is_alone]
    return beside_others or left[:1]


def _seconds_since_begun(run: GateRun) -> float | None:
    """By the clock on the wall, from the start of the preparation: with several workers less than the sum of its parts.
    None when the job is forgotten already."""
    job = Job.objects.filter(key=job_key(run)).first()
    return (timezone.now() - job.started_at).total_seconds() if job and job.started_at else None


# ---------------------------------------------------------------------- the safety net


@handler("gates.reconcile")
def reconcile(work: Work) -> None:
    """Recompute from stored state what the gates have to do: of each run apart, so that none holds up another."""
    now = clock.now()
    _open_forgotten(now)
    _end_or_begin_waiting(now)
    _recover_running(now)


def _open_forgotten(now: datetime) -> None:
    """The newest version of a model that was registered before there was a policy, or whose reaction got lost."""
    with_policy = Policy.objects.in_force().values("registered_model")
    newest = ModelVersion.objects.filter(registered_model__in=with_policy).values("registered_model")
    ids = [row["newest"] for row in newest.annotate(newest=Max("pk")).values("newest")]
    for version in ModelVersion.objects.filter(pk__in=ids, gate_runs__isnull=True).select_related("registered_model"):
        with apart(version):  # ``gates.standing`` tells whose policy can not be read
            open_run(version, actor=GATES, reason=f"{version} had not been judged.", now=now)


def _end_or_begin_waiting(now: datetime) -> None:
    waiting = GateRun.objects.filter(state=GateRunState.OPEN)
    for run in waiting.select_related("version", "policy", "registered_model"):
        see_to(run, partial(_end_or_begin, run, now), now=now)


def _end_or_begin(run: GateRun, now: datetime) -> None:
    if not begin_if_complete(run, actor=GATES, now=now) and run.deadline <= now:
        conclude_without_evidence(run, actor=GATES, now=now)


def _recover_running(now: datetime) -> None:
    related = ("version__registered_model", "registered_model", "policy")
    for run in GateRun.objects.filter(state=GateRunState.RUNNING).select_related(*related):
        see_to(run, partial(_recover, run, now), now=now)


def _recover(run: GateRun, now: datetime) -> None:
    """Where a job is gone it is asked for again. A preparation that gave up ends the run; a check that did is an error
    of that check alone."""
    dead = {job.key: _last_words(job) for job in jobs_of(run).filter(state=JobState.DEAD)}
    if not Preparation.objects.filter(gate_run=run).exists():
        if job_key(run) in dead:
            give_up(run, actor=GATES, reason=f"It could not be measured: {dead[job_key(run)]}", now=now)
        else:
            enqueue(PREPARE, key=job_key(run), payload={"gate_run": run.pk})
        return
    document = parse(run.policy.document)
    for check in document.checks:
        said = dead.get(check_key(run, check.id))
        if said is not None:
            lost = could_not(check, f"It could not be measured: {said}")
            record_result(run, lost, measured={}, wall_seconds=0.0)  # unless it has its result
    if not _ask_for_checks(run, document):
        conclude(run, wall_seconds=_seconds_since_begun(run), actor=GATES, now=now)


def _last_words(job: Job) -> str:
    """The last line of what a job died of."""
    said = job.error.strip().splitlines()[-1:] or ["no reason was left"]
    return said[0]
