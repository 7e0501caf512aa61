"""What follows for rollouts when something happens: propose a version that passed, start the one that waits."""

from __future__ import annotations

from audit import clock
from audit.errors import Conflict, GateNotPassed
from audit.models import Event
from audit.trail import Service
from gates.models import GateRun
from jobs.run import enqueue
from rollout import actions, standstill, traffic
from rollout.models import ACTIVE, Endpoint, Rollout, RolloutState

ROLLOUTS = Service("rollouts")
KIT = "rollout.kit"
ROUTE = "rollout.route_traffic"


def propose_rollouts(event: Event) -> None:
    """A version passed its gates: put it before its model's endpoints.

    Not when a retraining holds it back to compare it with its other candidates (it proposes the best one itself; what
    it proposed once is proposed again here), and not what can not be scored here. A pass that a newer policy has voided
    meanwhile proposes nothing.
    """
    gate_run = GateRun.objects.select_related("version__training_run", "version__registered_model").get(
        pk=event.subject_id
    )
    version = gate_run.version
    held = version.training_run is not None and version.training_run.held and not version.rollouts.exists()
    if held or not version.is_scorable:
        return
    reason = f"{gate_run.version} passed its gates."
    try:
        actions.propose(gate_run.version, gate_run=gate_run, actor=ROLLOUTS, reason=reason, now=clock.now())
    except GateNotPassed:
        return


def make_kit(event: Event) -> None:
    """A rollout was proposed: have the rows ready that a gateway replays before it routes to the version."""
    version = Rollout.objects.get(pk=event.subject_id).version_id
    enqueue(KIT, key=f"{KIT}:{version}:{event.pk}", payload={"version": version})


def go_on(event: Event) -> None:
    """A decision about an endpoint, or the end of a freeze: what waited for it goes on."""
    endpoint = Endpoint.objects.select_related("registered_model").get(pk=event.subject_id)
    let_go_on(endpoint)


def let_go_on(endpoint: Endpoint) -> None:
    """Resume what the product owner's pause had paused, when nothing is left to wait for; else start who waits."""
    now = clock.now()
    if standstill.waits_for(endpoint, now=now):
        return
    reason = f"There is nothing to wait for at {endpoint} any more."
    try:
        actions.resume_all(endpoint, actor=ROLLOUTS, reason=reason, now=now)
    except Conflict:  # frozen, paused or stopped meanwhile, or somebody else was faster
        return
    start_waiting(endpoint)


def send_traffic(event: Event) -> None:
    """The route has changed: whoever else splits the endpoint's traffic is told at once, not at the next tick."""
    if event.subject_type == Endpoint._meta.label_lower:
        endpoint = Endpoint.objects.get(pk=event.subject_id)
    else:
        endpoint = Rollout.objects.select_related("endpoint").get(pk=event.subject_id).endpoint
    if traffic.is_elsewhere(endpoint):
        enqueue(ROUTE, key=f"{ROUTE}:{endpoint.pk}:event-{event.pk}", payload={"endpoint": endpoint.pk})


def start_next(event: Event) -> None:
    """A rollout was proposed, or one ended: let the next one on that endpoint begin."""
    rollout = Rollout.objects.select_related("endpoint__registered_model").get(pk=event.subject_id)
    start_waiting(rollout.endpoint)


def start_waiting(endpoint: Endpoint) -> None:
    """Start the endpoint's longest waiting rollout, if none is active and there is nothing to wait for.

    One whose gates a newer policy has voided is aborted; the next one gets its turn.
    """
    if endpoint.rollouts.filter(state__in=ACTIVE).exists() or standstill.waits_for(endpoint, now=clock.now()):
        return
    related = ("version__registered_model", "gate_run__policy", "registered_model", "endpoint__registered_model")
    for rollout in endpoint.rollouts.filter(state=RolloutState.PENDING).select_related(*related).order_by("id"):
        now = clock.now()
        if rollout.endpoint.route.champion_id == rollout.version_id:
            reason = f"{rollout.version} serves {endpoint} already."
            actions.abort(rollout, actor=ROLLOUTS, reason=reason, now=now)
            continue
        try:
            actions.start(rollout, actor=ROLLOUTS, reason=rollout.state_reason, now=now)
        except GateNotPassed as refusal:
            actions.abort(rollout, actor=ROLLOUTS, reason=str(refusal), now=now)
            continue
        except Conflict:  # another was faster, or the endpoint was frozen, paused or stopped meanwhile
            return
        return
