"""Where a version stands at the gates, and why, in words: for the API and the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from audit.errors import Conflict
from gates.actions import check_key, document_of, in_force, job_key, missing_evidence
from gates.models import ENDED, GateRun, GateRunState, Policy
from jobs.models import Job, JobState
from registry.models import ModelVersion

UNJUDGED = "unjudged"
VOID = "void"


@dataclass(frozen=True)
class Standing:
    """``state`` is the gate run's, or ``unjudged``, or ``void``: passed, but under a policy that is no longer in force.

    ``may_enter_rollout`` is what the database will say too.
    """

    state: str
    message: str
    gate_run: GateRun | None = None
    missing_evidence: tuple[str, ...] = ()

    @property
    def may_enter_rollout(self) -> bool:
        return self.state == GateRunState.PASSED

    def as_dict(self) -> dict[str, Any]:
        run = self.gate_run
        return {
            "state": self.state,
            "message": self.message,
            "may_enter_rollout": self.may_enter_rollout,
            "gate_run": run.pk if run else None,
            "policy": run.policy.number if run else None,
            "missing_evidence": list(self.missing_evidence),
        }


def standing(version: ModelVersion) -> Standing:
    """The standing by the version's newest gate run; a pass under the policy in force is not undone by a later run."""
    policy = in_force(version.registered_model)
    runs = version.gate_runs.select_related("policy", "version").order_by("-number")
    newest = runs.first()
    if newest is None:
        if policy is None:
            return Standing(
                UNJUDGED, f"{version.registered_model} has no policy in force: propose one to have its versions judged."
            )
        return Standing(UNJUDGED, _why_unjudged(policy))
    passed = runs.filter(state=GateRunState.PASSED, policy=policy).first()
    if passed is not None:
        return Standing(GateRunState.PASSED, passed.state_reason, passed)
    if newest.state == GateRunState.PASSED:
        return Standing(
            VOID, f"It passed under {newest.policy}; {policy} is in force now. Run the gates again.", newest
        )
    if newest.state == GateRunState.OPEN:
        missing = missing_evidence(newest)
        until = f"until {newest.deadline:%Y-%m-%d %H:%M} UTC"
        return Standing(newest.state, f"Waits {until} for evidence: {', '.join(missing) or 'none'}.", newest, missing)
    if newest.state == GateRunState.RUNNING:
        done = f"{newest.results.count()} of {len(newest.policy.document['checks'])} checks are done"
        since = f"{newest.state_since:%Y-%m-%d %H:%M} UTC"
        return Standing(newest.state, f"Is being measured since {since}: {done}.", newest)
    return Standing(newest.state, newest.state_reason, newest)


def _why_unjudged(policy: Policy) -> str:
    try:
        document_of(policy)
    except Conflict as unreadable:
        return f"It can not be judged: {unreadable}. Propose another policy."
    return "It has not been judged yet."


# ---------------------------------------------------------------------- how far a run is

PREPARATION = "preparation"


@dataclass(frozen=True)
class Progress:
    """How many of a run's checks have their result, and what goes on. ``waiting_for``: of an open run the evidence that
    has not come, of a running one the checks whose turn has not come. ``running``: the checks (or the ``preparation``)
    that a worker has in its hands."""

    done: int
    all: int
    waiting_for: tuple[str, ...] = ()
    running: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        waiting, running = list(self.waiting_for), list(self.running)
        return {"done": self.done, "all": self.all, "waiting_for": waiting, "running": running}


def progress(run: GateRun) -> Progress:
    """How far a run is, from its results and its jobs."""
    checks = [str(check["id"]) for check in run.policy.document["checks"]]
    done = set(run.results.values_list("check_id", flat=True))
    if run.state in ENDED:
        return Progress(len(done), len(checks))
    if run.state == GateRunState.OPEN:
        return Progress(0, len(checks), missing_evidence(run))
    names = {job_key(run): PREPARATION} | {check_key(run, each): each for each in checks}
    busy = jobs_of(run).filter(state=JobState.RUNNING).values_list("key", flat=True)
    running = {names[key] for key in busy if key in names} - done
    waiting = tuple(each for each in checks if each not in done | running)
    return Progress(len(done), len(checks), waiting, tuple(each for each in names.values() if each in running))


def jobs_of(run: GateRun) -> QuerySet[Job]:
    """The jobs of a run that are still remembered: its preparation's, its checks'."""
    jobs: QuerySet[Job] = Job.objects.filter(Q(key=job_key(run)) | Q(key__startswith=check_key(run, "")))
    return jobs
