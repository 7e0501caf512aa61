"""What waits for a person: decisions and incidents of their duty, for the portal's home and the admin's first page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from gates.models import Policy, PolicyDecision, PolicyOutcome
from jobs.models import Job, JobState
from monitoring.actions.rethinks import DECIDERS
from monitoring.actions.upkeep import may_redeliver
from monitoring.models import Incident, IncidentState, Rethink, RethinkState
from monitoring.sight import visible_incidents
from registry.models import AUDITORS, Duty
from rollout.models import ACTIVE, AnalysisRun, Rollout


@dataclass(frozen=True)
class Waiting:
    """``rethinks``, proposed ``policies``, ``held`` rollouts, ``incidents`` and ``dead_jobs`` are this person's to act
    on; the ``other`` incidents they may see, but somebody else has them."""

    rethinks: list[Rethink]
    policies: list[Policy]
    held: list[Rollout]
    incidents: list[Incident]
    other: list[Incident]
    dead_jobs: int

    def __bool__(self) -> bool:
        return bool(self.rethinks or self.policies or self.held or self.incidents or self.dead_jobs)


def waiting_for(user: User) -> Waiting:
    """What waits for this person, in a fixed number of queries."""
    groups = list(user.groups.all())
    if any(group.name == AUDITORS for group in groups):
        groups = []
    own = {duty: Q(**{f"registered_model__{duty.value}__in": groups}) for duty in Duty}
    deciding = Q(pk=None)
    for duty in DECIDERS:
        deciding |= own[duty]
    rethinks = Rethink.objects.filter(deciding, state=RethinkState.PROPOSED).select_related("registered_model")
    held = _held(Rollout.objects.filter(own[Duty.PRODUCT], state__in=ACTIVE))
    open_ones = visible_incidents(user).exclude(state=IncidentState.RESOLVED)
    seen = list(open_ones.select_related("registered_model", "owner").order_by("-opened_at"))
    on_duty = bool(groups) and may_redeliver(user)
    mine = {group.pk for group in groups}
    is_mine = {row.pk: row.owner_id in mine or (row.owner_id is None and on_duty) for row in seen}
    return Waiting(
        rethinks=list(rethinks.order_by("due_at").distinct()),
        policies=list(_proposed(user, own[Duty.PRODUCT] | own[Duty.PLATFORM])),
        held=list(held.select_related("version__registered_model", "endpoint")),
        incidents=[row for row in seen if is_mine[row.pk]],
        other=[row for row in seen if not is_mine[row.pk]],
        dead_jobs=Job.objects.filter(state=JobState.DEAD).count() if on_duty else 0,
    )


def _proposed(user: User, second: Q) -> QuerySet[Any]:
    """Proposals that wait for this user as the second person; not those that a newer policy has overtaken."""
    confirmed = PolicyDecision.objects.filter(
        outcome=PolicyOutcome.CONFIRMED,
        policy__registered_model=OuterRef("registered_model"),
        policy__number__gt=OuterRef("number"),
    )
    waiting = Policy.objects.waiting().filter(second, ~Exists(confirmed), created_by__isnull=False)
    proposed: QuerySet[Any] = waiting.exclude(created_by=user).select_related("registered_model", "created_by")
    return proposed


def _held(active: QuerySet[Rollout]) -> QuerySet[Any]:
    """Those whose last look held at the present stage: ``Rollout.is_held`` in one query."""
    last = AnalysisRun.objects.filter(rollout=OuterRef("pk")).order_by("-number")
    told = {"conclusion": Subquery(last.values("conclusion")[:1]), "looked_in": Subquery(last.values("stage")[:1])}
    looked_at: QuerySet[Any] = active.annotate(**told)
    return looked_at.filter(conclusion="hold", looked_in=F("state")).distinct()
