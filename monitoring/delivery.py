"""The numbers of the delivery report: how long a version took to production, how much of it needed a human, what broke.

Lead times are event time (a replay is measured like life); for retrainings the wall-clock time is given as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median

from django.db.models import Count, Q

from audit.models import Event
from monitoring.models import Incident, IncidentState, Retraining, RetrainingState
from registry.models import RegisteredModel
from rollout.models import Rollout, RolloutState

LIFECYCLE_STEPS = (
    "training_run.requested",
    "training_run.succeeded",
    "training_run.failed",
    "gate_run.passed",
    "gate_run.failed",
    "gate_run.inconclusive",
    "gate_run.error",
    "rollout.shadow",
    "rollout.canary",
    "rollout.promoted",
    "rollout.rolled_back",
    "incident.opened",
    "incident.resolved",
)
"""What counts as a step of a model's life: training, gates, shadow, each canary step, promotion, roll-back, and
incidents opened and closed. A step is automatic when its event has no human actor."""


class Path(StrEnum):
    """What brought a version about."""

    PERSON = "asked for by a person"
    RETRAINING = "automatic retraining"


@dataclass(frozen=True)
class LeadTime:
    """One version's way to champion. ``started``: training requested, or registered where it was trained elsewhere."""

    version: str
    path: Path
    started: datetime
    promoted: datetime
    wall: timedelta | None

    @property
    def event_time(self) -> timedelta:
        return self.promoted - self.started


@dataclass(frozen=True)
class Steps:
    """How often one lifecycle step happened, and how often without a human."""

    name: str
    total: int
    automatic: int


@dataclass(frozen=True)
class IncidentCount:
    """Incidents of one kind with one duty; ``to_resolve`` is the median event time from opening to resolution."""

    duty: str
    kind: str
    total: int
    open: int
    to_resolve: timedelta | None


@dataclass(frozen=True)
class DeliveryReport:
    """All of it, for a period of event time."""

    lead_times: tuple[LeadTime, ...]
    steps: tuple[Steps, ...]
    incidents: tuple[IncidentCount, ...]
    retrainings: tuple[tuple[str, int], ...]

    @property
    def automatic_share(self) -> float | None:
        """Share of lifecycle steps that needed no human; None when nothing happened."""
        total = sum(each.total for each in self.steps)
        return sum(each.automatic for each in self.steps) / total if total else None

    def median_lead(self, path: Path) -> timedelta | None:
        """Median event time to promotion on one path; None when no version went it."""
        return middle(each.event_time for each in self.lead_times if each.path == path)


def middle(durations: Iterable[timedelta]) -> timedelta | None:
    """The median duration; None of none."""
    seconds = [each.total_seconds() for each in durations]
    return timedelta(seconds=median(seconds)) if seconds else None


def report(*, since: datetime, until: datetime, models: Sequence[int] | None = None) -> DeliveryReport:
    """The delivery report of ``since`` <= event time < ``until``; ``models``: ids of registered models (None: all)."""
    return DeliveryReport(
        lead_times=tuple(lead_times(since=since, until=until, models=models)),
        steps=tuple(lifecycle_steps(since=since, until=until, models=models)),
        incidents=tuple(incidents(since=since, until=until, models=models)),
        retrainings=tuple(_retrainings(since, until, models)),
    )


def lead_times(*, since: datetime, until: datetime, models: Sequence[int] | None = None) -> list[LeadTime]:
    """Each version that became champion in the period, oldest first; a version promoted twice counts once."""
    promoted = Rollout.objects.filter(state=RolloutState.PROMOTED, ended_at__gte=since, ended_at__lt=until)
    if models is not None:
        promoted = promoted.filter(registered_model__in=models)
    found: dict[int, LeadTime] = {}
    walls = _walls(promoted.values_list("version__training_run", flat=True))
    for rollout in promoted.select_related("version__registered_model", "version__training_run").order_by("ended_at"):
        version, run = rollout.version, rollout.version.training_run
        wall = walls.get(run.pk) if run else None
        if version.pk not in found and rollout.ended_at is not None:
            found[version.pk] = LeadTime(
                version=str(version),
                path=Path.RETRAINING if run and run.pk in walls else Path.PERSON,
                started=run.requested_at if run else version.registered_at,
                promoted=rollout.ended_at,
                wall=wall,
            )
    return list(found.values())


def _walls(training_runs: Iterable[int | None]) -> dict[int, timedelta | None]:
    """Wall time of the retraining behind each training run that was a candidate of one."""
    ids = [each for each in training_runs if each is not None]
    rows = Retraining.objects.filter(candidates__training_run__in=ids).values_list(
        "candidates__training_run", "started_wall", "ended_wall"
    )
    return {run: ended - started if ended else None for run, started, ended in rows}


def lifecycle_steps(*, since: datetime, until: datetime, models: Sequence[int] | None = None) -> list[Steps]:
    """Counts per step of ``LIFECYCLE_STEPS`` that happened, in that order."""
    events = Event.objects.filter(name__in=LIFECYCLE_STEPS, at__gte=since, at__lt=until)
    if models is not None:
        events = events.filter(registered_model__in=_names(models))
    counted = events.order_by().values("name")
    rows = counted.annotate(total=Count("id"), automatic=Count("id", filter=Q(actor__isnull=True)))
    by_name = {row["name"]: Steps(row["name"], row["total"], row["automatic"]) for row in rows}
    return [by_name[name] for name in LIFECYCLE_STEPS if name in by_name]


def _names(models: Sequence[int]) -> list[str]:
    return list(RegisteredModel.objects.filter(pk__in=models).values_list("name", flat=True))


def incidents(*, since: datetime, until: datetime, models: Sequence[int] | None = None) -> list[IncidentCount]:
    """Incidents opened in the period, by duty and kind."""
    opened = Incident.objects.filter(opened_at__gte=since, opened_at__lt=until)
    if models is not None:
        opened = opened.filter(registered_model__in=models)
    groups: dict[tuple[str, str], list[Incident]] = {}
    for incident in opened.order_by("duty", "kind", "id").only("duty", "kind", "state", "opened_at", "resolved_at"):
        groups.setdefault((incident.duty, incident.kind), []).append(incident)
    return [
        IncidentCount(
            duty=duty,
            kind=kind,
            total=len(rows),
            open=sum(row.state != IncidentState.RESOLVED for row in rows),
            to_resolve=middle(row.resolved_at - row.opened_at for row in rows if row.resolved_at is not None),
        )
        for (duty, kind), rows in groups.items()
    ]


def _retrainings(since: datetime, until: datetime, models: Sequence[int] | None) -> list[tuple[str, int]]:
    """How the retrainings that started in the period stand: (state, count), in the order of their life."""
    started = Retraining.objects.filter(started_at__gte=since, started_at__lt=until)
    if models is not None:
        started = started.filter(registered_model__in=models)
    counts = Counter(started.order_by().values_list("state", flat=True))
    return [(state, counts[state]) for state in RetrainingState.values if counts[state]]
