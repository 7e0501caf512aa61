"""Background work of rollouts: start who waits, look at what is due, and keep the log tidy."""

from __future__ import annotations

from datetime import datetime

from audit import clock
from audit.errors import TransitionError
from jobs.models import Job
from jobs.run import Work, enqueue, handler
from rollout import actions, looks, prediction_log
from rollout.models import Endpoint, Rollout, RolloutState
from rollout.reactions import ROLLOUTS, start_waiting

LOOK = "rollout.look"
COMPACT = "rollout.compact"
READ_WITH = (
    "endpoint",
    "registered_model",
    "gate_run__policy",
    "version__service",
    "version__registered_model",
    "incumbent__service",
    "incumbent__registered_model",
)


@handler("rollout.reconcile")
def reconcile(work: Work) -> None:
    """Recompute from stored state what is to be done: lost starts, looks that are due, yesterday's files."""
    now = clock.now()
    for endpoint in Endpoint.objects.all():
        start_waiting(endpoint)
        enqueue(COMPACT, key=f"{COMPACT}:{endpoint.pk}:{now.date()}", payload={"endpoint": endpoint.pk})
    for rollout in Rollout.objects.filter(state__in=[RolloutState.SHADOW, RolloutState.CANARY]):
        ask_for_look(rollout, now=now)


def ask_for_look(rollout: Rollout, *, now: datetime) -> Job | None:
    """Enqueue a look if one is due and none is under way."""
    prefix = f"{LOOK}:{rollout.pk}:"
    if not looks.is_due(rollout, now=now) or Job.objects.unfinished().filter(key__startswith=prefix).exists():
        return None
    return enqueue(LOOK, key=f"{prefix}{now.isoformat()}", payload={"rollout": rollout.pk})


@handler(LOOK, computes=True)
def look(work: Work) -> None:
    """Take one look and do what it concludes. Quietly nothing when the rollout has moved on meanwhile."""
    now = clock.now()
    rollout = Rollout.objects.select_related(*READ_WITH).get(pk=work.payload["rollout"])
    if not looks.is_due(rollout, now=now):
        with work.finishing(result="not due"):
            return
    taken = looks.take(rollout, now=now)
    with work.finishing(result=taken.conclusion.kind):
        try:
            actions.record_look(rollout, taken, actor=ROLLOUTS, now=now)
        except TransitionError:
            return


@handler(COMPACT, computes=True)
def compact(work: Work) -> None:
    """Put the files of past days into one each."""
    endpoint = Endpoint.objects.get(pk=work.payload["endpoint"])
    replaced = prediction_log.compact(endpoint.name, now=clock.now())
    with work.finishing(result=replaced):
        pass
