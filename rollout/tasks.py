"""Background work of rollouts: start who waits, look at what is due, and keep the log tidy."""

from __future__ import annotations

from datetime import datetime, timedelta

from audit import clock
from audit.errors import TransitionError
from jobs.models import Job
from jobs.run import Work, enqueue, handler
from registry.models import ModelVersion
from rollout import actions, business, ingest, looks, prediction_log, traffic
from rollout.broken import broken
from rollout.gateway import kits
from rollout.models import Decision, Endpoint, GatewayProcess, Rollout, RolloutState
from rollout.reactions import KIT, ROLLOUTS, ROUTE, let_go_on

LOOK = "rollout.look"
RECONCILED_EVERY = timedelta(minutes=10)
COMPACT = "rollout.compact"
DECISIONS = "rollout.carry_out_due"
REMEMBERED = timedelta(days=30)
"""Gateway processes that were not seen for so long are forgotten."""
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
    if Decision.objects.filter(takes_effect_at__lte=now, outcome=None).exists():
        enqueue(DECISIONS, key=f"{DECISIONS}:{now.isoformat()}")
    for endpoint in Endpoint.objects.select_related("registered_model").order_by("pk"):
        let_go_on(endpoint)
        enqueue(COMPACT, key=f"{COMPACT}:{endpoint.pk}:{now.date()}", payload={"endpoint": endpoint.pk})
    for rollout in Rollout.objects.filter(state__in=[RolloutState.SHADOW, RolloutState.CANARY]):
        ask_for_look(rollout, now=now)
    roll_back_broken(now=now)
    GatewayProcess.objects.filter(seen_at__lt=now - REMEMBERED).delete()


def roll_back_broken(*, now: datetime) -> list[Rollout]:
    """Take back every canary that a gateway has stopped asking; those that were."""
    done = []
    for each in broken(now=now):
        try:
            actions.roll_back(each.rollout, actor=ROLLOUTS, reason=each.reason, now=now)
        except TransitionError:  # somebody was faster
            continue
        done.append(each.rollout)
    return done


@handler(KIT, computes=True)
def make_kit(work: Work) -> None:
    """The warm-up kit of a version that was proposed, before a gateway may route to it."""
    version = ModelVersion.objects.select_related("registered_model", "service").get(pk=work.payload["version"])
    path = kits.make(version)
    with work.finishing(result=path.name):
        pass


@handler(DECISIONS, computes=True)
def carry_out_due(work: Work) -> None:
    """What product owners decided for now, earlier: each in a transaction of its own."""
    outcomes = actions.carry_out_due(now=clock.now())
    with work.finishing(result=[str(outcome) for outcome in outcomes]):
        pass


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
        _look_again_soon(rollout, now=now)


def _look_again_soon(rollout: Rollout, *, now: datetime) -> None:
    """Where the plan wants to look more often than ``reconcile`` comes by, each look asks for the next one."""
    rollout.refresh_from_db(fields=["state"])
    pause = looks.look_every(rollout)
    if rollout.state in (RolloutState.SHADOW, RolloutState.CANARY) and pause < RECONCILED_EVERY:
        key = f"{LOOK}:{rollout.pk}:{(now + pause).isoformat()}"
        enqueue(LOOK, key=key, payload={"rollout": rollout.pk}, delay=pause)


@handler("rollout.ingest", computes=True)
def take_in_the_spool(work: Work) -> None:
    """Everything that this host's gateways have spooled goes into the log."""
    now = clock.now()
    taken_in = ingest.ingest(now=now)
    together = ingest.tidy(now=now)
    with work.finishing(result={**taken_in.as_dict(), "files_put_together": together}):
        pass


@handler(COMPACT, computes=True)
def compact(work: Work) -> None:
    """Put the files of past days into one each."""
    endpoint = Endpoint.objects.get(pk=work.payload["endpoint"])
    replaced = prediction_log.compact(endpoint.name, now=clock.now(), settled=ingest.settled)
    replaced += business.compact(endpoint.name, now=clock.now())
    with work.finishing(result=replaced):
        pass


@handler("rollout.traffic")
def watch_traffic(work: Work) -> None:
    """Each minute: tell whoever else splits an endpoint's traffic what it should do; watch our own gateway."""
    now = clock.now()
    for endpoint in Endpoint.objects.select_related("registered_model").order_by("pk"):
        if traffic.is_elsewhere(endpoint):
            enqueue(ROUTE, key=f"{ROUTE}:{endpoint.pk}:{now.isoformat()}", payload={"endpoint": endpoint.pk})
        else:
            traffic.reconcile(endpoint, now=now)


@handler(ROUTE, computes=True)
def route_traffic(work: Work) -> None:
    """Tell one endpoint's backend what its route says, then read what it served into the log."""
    now = clock.now()
    endpoint = Endpoint.objects.select_related("registered_model").get(pk=work.payload["endpoint"])
    plan = traffic.reconcile(endpoint, now=now)
    taken_in = traffic.take_in(endpoint, now=now)
    with work.finishing(result={**taken_in.as_dict(), "problem": plan.problem if plan else ""}):
        pass
