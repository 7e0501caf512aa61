"""What the gates do by themselves when something happened (``mlops.reactions`` says which event calls what)."""

from __future__ import annotations

from functools import partial

from audit.models import Event
from audit.trail import Service
from gates.actions import begin_if_complete, in_force, open_run
from gates.apart import apart, see_to
from gates.models import Evidence, GateRun, GateRunState
from registry.models import ModelVersion

GATES = Service("gates")


def open_gate_run(event: Event) -> None:
    """A version was registered: judge it. Without a policy it can not be (``gates.standing`` says so)."""
    version = ModelVersion.objects.select_related("registered_model").get(pk=event.subject_id)
    if version.gate_runs.exists() or in_force(version.registered_model) is None:
        return
    with apart(version):  # ``gates.standing`` tells whose policy can not be read
        open_run(version, actor=GATES, reason=f"{version} was registered.", now=event.at)


def begin_waiting_runs(event: Event) -> None:
    """Evidence came in, about code or about one version: begin the runs that waited for nothing else."""
    evidence = Evidence.objects.get(pk=event.subject_id)
    about = {"version": evidence.version_id} if evidence.version_id else {"version__code_digest": evidence.code_digest}
    waiting = GateRun.objects.filter(state=GateRunState.OPEN, registered_model=evidence.registered_model_id, **about)
    for run in waiting.select_related("version", "policy", "registered_model"):
        see_to(run, partial(begin_if_complete, run, actor=GATES, now=event.at), now=event.at)
