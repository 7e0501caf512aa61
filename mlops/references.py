"""Why the files of a version must stay, as far as only apps above the registry know (``GATEHOUSE_ARTIFACT_USERS``)."""

from __future__ import annotations

from django.db.models import Q

from audit.models import Report
from gates.models import GateRun, GateRunState
from monitoring.models import RETRAINING_OPEN, Incident, Retraining
from registry.models import ModelVersion
from rollout.models import Rollout, Route

SHOWN = 3


def users(version: ModelVersion) -> list[str]:
    """A rollout that is or was, a route, an open gate run, an open retraining, a report on one of its incidents.

    Rollouts count for ever: what was served must be there to be replayed.
    """
    rollouts = Rollout.objects.filter(Q(version=version) | Q(incumbent=version)).select_related("endpoint", "version")
    routes = Route.objects.filter(Q(champion=version) | Q(candidate=version)).select_related("endpoint")
    judged = GateRun.objects.filter(
        Q(version=version) | Q(champion=version), state__in=[GateRunState.OPEN, GateRunState.RUNNING]
    )
    retrainings = Retraining.objects.filter(
        Q(champion_before=version) | Q(candidates__training_run__version=version), state__in=RETRAINING_OPEN
    ).distinct()
    incidents = [str(pk) for pk in Incident.objects.filter(version=version).values_list("pk", flat=True)]
    reports = Report.objects.filter(subject_type=Incident._meta.label_lower, subject_id__in=incidents)
    return [
        *(f"{route.endpoint} routes to it" for route in routes[:SHOWN]),
        *(f"{rollout} ({rollout.state})" for rollout in rollouts[:SHOWN]),
        *(f"{run} is {run.state}" for run in judged[:SHOWN]),
        *(f"{retraining} is {retraining.state}" for retraining in retrainings[:SHOWN]),
        *(f"{report} was issued" for report in reports[:SHOWN]),
    ]
